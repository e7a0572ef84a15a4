/* Migrations: the file format, and the runner on a private server: up, down, status, twice, at
 * once, against a newer schema, with a broken file. */
#include "pg_rig.h"

#include "weir/app/migrate.h"
#include "weir/io/pg_admin.h"

static void parse_fails(const char *text, const char *why)
{
	struct migrate_file f;
	struct err_info info = {0};

	assert_int_equal(migrate_parse(text, &f, &info), ERR_INVAL);
	if (!strstr(info.text, why))
		fail_msg("%s: said \"%s\"", text, info.text);
}

static void assert_sql(const struct migrate_part *p, size_t line, const char *sql)
{
	assert_true(p->present);
	assert_int_equal(p->line, line);
	assert_true(str_eq(p->sql, str_of(sql)));
}

static void test_parse(void **state)
{
	struct migrate_file f;

	(void)state;
	assert_int_equal(
	    migrate_parse("-- a comment\n\n-- migrate:up\nA;\nB;\n-- migrate:down\nC;\n", &f, NULL),
	    ERR_OK);
	assert_sql(&f.up, 4, "A;\nB;");
	assert_sql(&f.down, 7, "C;\n");
	assert_true(f.up.transaction);
	assert_int_equal(migrate_parse("--migrate:up  transaction:false \r\nA;\r\n"
	                               "--  migrate:down transaction:true",
	                               &f, NULL),
	                 ERR_OK);
	assert_sql(&f.up, 2, "A;\r");
	assert_false(f.up.transaction);
	assert_sql(&f.down, 4, "");
	assert_true(f.down.transaction);
	assert_int_equal(migrate_parse("-- migrate:up", &f, NULL), ERR_OK);
	assert_sql(&f.up, 2, "");
	assert_false(f.down.present);
	/* Not markers: within a line, or another word. */
	assert_int_equal(
	    migrate_parse("-- migrate:up\nA; -- migrate:down\n-- migrated:down\n", &f, NULL),
	    ERR_OK);
	assert_false(f.down.present);
	parse_fails("", "no line");
	parse_fails("A;\n-- migrate:up\n", "line 1: SQL before");
	parse_fails("-- migrate:down\n", "before migrate:up");
	parse_fails("-- migrate:up\n-- migrate:up\n", "line 2: a second");
	parse_fails("-- migrate:up transaction:maybe\n", "unknown option transaction:maybe");
	parse_fails("-- migrate:sideways\n", "neither");
}

static const struct migration two[] = {
    {"0001", "one", "-- migrate:up\nCREATE TABLE m1 (i int);\n-- migrate:down\nDROP TABLE m1;\n"},
    {"0002", "two",
     "-- migrate:up transaction:false\nCREATE INDEX CONCURRENTLY m1_i ON m1 (i);\n"
     "-- migrate:down\nDROP INDEX m1_i;\n"},
    {NULL, NULL, NULL}};
static const struct migration three[] = {
    {"0001", "one", "-- migrate:up\n"},
    {"0002", "two", "-- migrate:up\n"},
    {"0003", "three",
     "-- migrate:up\nCREATE TABLE m3 (i int);\n\nSELECT 'ä', nothing FROM m3;\n"
     "-- migrate:down\nDROP TABLE m3;\n"},
    {NULL, NULL, NULL}};

static void test_judge(void **state)
{
	(void)state;
	assert_int_equal(migrate_judge(two, STR("")), MIGRATE_OLDER);
	assert_int_equal(migrate_judge(two, STR_NONE), MIGRATE_OLDER);
	assert_int_equal(migrate_judge(two, STR("0001")), MIGRATE_OLDER);
	assert_int_equal(migrate_judge(two, STR("0001,0002")), MIGRATE_CURRENT);
	assert_int_equal(migrate_judge(two, STR("0001,0002,0003")), MIGRATE_NEWER);
	assert_int_equal(migrate_judge(two, STR("0001,0003")), MIGRATE_NEWER);
	assert_string_equal(migrate_state_name(MIGRATE_NEWER), "newer");
}

struct tally {
	size_t steps[4];
	char last[64];
};

static void on_step(void *arg, const struct migration *m, enum migrate_step step, usec_t took)
{
	struct tally *t = arg;

	(void)took;
	t->steps[step]++;
	snprintf(t->last, sizeof(t->last), "%s", m->version);
}

static struct pg_admin *open_admin(void)
{
	struct pg_options o = pg_server_options(&server);
	struct pg_admin *a;
	struct err_info info;

	if (pg_admin_open(&o, &a, &info) != ERR_OK)
		fail_msg("%s", info.text);
	return a;
}

static void assert_value(struct pg_admin *a, const char *sql, const char *want)
{
	struct buf b;

	buf_init(&b, 4096);
	assert_int_equal(pg_admin_value(a, sql, &b, NULL), ERR_OK);
	assert_string_equal(b.ptr ? b.ptr : "", want);
	buf_done(&b);
}

static enum migrate_state check(struct pg_admin *a, const struct migration *set)
{
	enum migrate_state s;

	assert_int_equal(migrate_check(a, set, &s, NULL), ERR_OK);
	return s;
}

static void test_runner(void **state)
{
	struct tally t = {0};
	struct err_info info;
	struct pg_admin *a;

	(void)state;
	NEED_SERVER();
	a = open_admin();
	assert_int_equal(check(a, two), MIGRATE_OLDER);
	assert_int_equal(migrate_status(a, two, on_step, &t, &info), ERR_OK);
	assert_int_equal(t.steps[MIGRATE_PENDING], 2);
	assert_value(a, "SELECT to_regclass('weir.schema_migrations')",
	             ""); /* status changes nothing */
	assert_int_equal(migrate_up(a, two, on_step, &t, &info), ERR_OK);
	assert_int_equal(t.steps[MIGRATE_APPLIED], 2);
	assert_int_equal(check(a, two), MIGRATE_CURRENT);
	assert_int_equal(migrate_up(a, two, on_step, &t, &info), ERR_OK);
	assert_int_equal(t.steps[MIGRATE_APPLIED], 2);

	/* A broken one leaves nothing behind and says where. */
	assert_int_equal(migrate_up(a, three, on_step, &t, &info), ERR_BUG);
	assert_true(strstr(info.text, "migration 0003_three: line 4: column \"nothing\""));
	assert_true(strstr(info.text, "42703"));
	assert_value(a, "SELECT to_regclass('m3')", "");
	assert_int_equal(check(a, three), MIGRATE_OLDER);

	assert_int_equal(migrate_down(a, two, NULL, on_step, &t, &info), ERR_OK);
	assert_string_equal(t.last, "0002");
	assert_value(a, "SELECT string_agg(version, ',') FROM weir.schema_migrations", "0001");
	assert_int_equal(migrate_up(a, two, on_step, &t, &info), ERR_OK);
	assert_int_equal(migrate_down(a, two, "0009", on_step, &t, &info), ERR_INVAL);
	assert_int_equal(migrate_down(a, two, "0", on_step, &t, &info), ERR_OK);
	assert_int_equal(t.steps[MIGRATE_REVERTED], 3);
	assert_int_equal(migrate_down(a, two, NULL, on_step, &t, &info), ERR_OK);
	assert_int_equal(t.steps[MIGRATE_REVERTED], 3);
	assert_value(a, "SELECT to_regclass('m1')", "");
	assert_int_equal(migrate_down(a, three, NULL, on_step, &t, &info), ERR_OK);
	pg_admin_close(a);
}

/* A version that comes later than a higher one (two branches that met) is applied all the same. */
static void test_lower_comes_later(void **state)
{
	static const struct migration first[] = {{"0001", "a", "-- migrate:up\nSELECT 1;\n"},
	                                         {"0003", "c", "-- migrate:up\nSELECT 3;\n"},
	                                         {NULL, NULL, NULL}};
	static const struct migration then[] = {
	    {"0001", "a", "-- migrate:up\n-- migrate:down\n"},
	    {"0002", "b",
	     "-- migrate:up\nCREATE TABLE m2 (i int);\n-- migrate:down\nDROP TABLE m2;\n"},
	    {"0003", "c", "-- migrate:up\n-- migrate:down\n"},
	    {NULL, NULL, NULL}};
	struct tally t = {0};
	struct err_info info;
	struct pg_admin *a;

	(void)state;
	NEED_SERVER();
	a = open_admin();
	assert_int_equal(migrate_up(a, first, on_step, &t, &info), ERR_OK);
	assert_int_equal(check(a, then), MIGRATE_OLDER);
	assert_int_equal(migrate_up(a, then, on_step, &t, &info), ERR_OK);
	assert_int_equal(t.steps[MIGRATE_APPLIED], 3);
	assert_string_equal(t.last, "0002");
	assert_int_equal(check(a, then), MIGRATE_CURRENT);
	assert_value(a, "SELECT to_regclass('m2')", "m2");
	assert_int_equal(migrate_down(a, then, "0", on_step, &t, &info), ERR_OK);
	pg_admin_close(a);
}

static void test_newer(void **state)
{
	struct tally t = {0};
	struct err_info info;
	struct pg_admin *a;

	(void)state;
	NEED_SERVER();
	a = open_admin();
	assert_int_equal(migrate_up(a, two, on_step, &t, &info), ERR_OK);
	assert_true(pg_server_sql(&server, "INSERT INTO weir.schema_migrations VALUES ('0007')"));
	assert_int_equal(check(a, two), MIGRATE_NEWER);
	assert_int_equal(migrate_up(a, two, on_step, &t, &info), ERR_CONFLICT);
	assert_true(strstr(info.text, "0007"));
	assert_int_equal(migrate_down(a, two, NULL, on_step, &t, &info), ERR_CONFLICT);
	assert_int_equal(migrate_status(a, two, on_step, &t, &info), ERR_OK);
	assert_int_equal(t.steps[MIGRATE_UNKNOWN], 1);
	assert_string_equal(t.last, "0007");
	assert_true(pg_server_sql(&server, "DROP TABLE weir.schema_migrations, m1"));
	pg_admin_close(a);
}

/* Returns how many migrations the child applied. */
static int migrate_in_child(const struct migration *set)
{
	struct pg_options o = pg_server_options(&server);
	struct tally t = {0};
	struct err_info info = {0};
	struct pg_admin *a;

	if (pg_admin_open(&o, &a, &info) == ERR_OK &&
	    migrate_up(a, set, on_step, &t, &info) == ERR_OK)
		return (int)t.steps[MIGRATE_APPLIED];
	fprintf(stderr, "%s\n", info.text);
	return 100;
}

static void migrate_at_once(const struct migration *set)
{
	enum { CHILDREN = 6 };
	pid_t pids[CHILDREN];
	int status, applied = 0;
	struct pg_admin *a;

	for (int i = 0; i < CHILDREN; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(migrate_in_child(set));
	}
	for (int i = 0; i < CHILDREN; i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFEXITED(status));
		applied += WEXITSTATUS(status);
	}
	for (const struct migration *m = set; m->version; m++)
		applied--;
	assert_int_equal(applied, 0);
	a = open_admin();
	assert_int_equal(check(a, set), MIGRATE_CURRENT);
	pg_admin_close(a);
}

/* Several at once: each migration is applied by one of them, the others find it done. */
static void test_concurrent(void **state)
{
	(void)state;
	NEED_SERVER();
	migrate_at_once(two);
	assert_true(pg_server_sql(&server, "DROP TABLE weir.schema_migrations, m1"));
	migrate_at_once(migrations);
}

/* The real ones go all the way back and up again. */
static void test_real(void **state)
{
	struct tally t = {0};
	struct err_info info = {0};
	struct pg_admin *a;

	(void)state;
	NEED_SERVER();
	a = open_admin();
	assert_int_equal(migrate_up(a, migrations, on_step, &t, &info), ERR_OK);
	if (migrate_down(a, migrations, "0", on_step, &t, &info) != ERR_OK)
		fail_msg("%s", info.text);
	assert_value(a,
	             "SELECT count(*) FROM pg_class WHERE relnamespace = 'weir'::regnamespace"
	             " AND relname NOT LIKE 'schema_migrations%'",
	             "0");
	assert_value(a, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'weir'::regnamespace",
	             "0");
	assert_int_equal(migrate_up(a, migrations, on_step, &t, &info), ERR_OK);
	pg_admin_close(a);
}

static void test_body_json(void **state)
{
	static const struct {
		const char *body, *want;
	} rows[] = {
	    {"convert_to('{\"a\":\"ä\"}', 'UTF8')", "{\"a\": \"ä\"}"},
	    {"'\"\\\\u0000\"'", ""},
	    {"'\"\\\\ud800\"'", ""},
	    {"'1e400000'", ""},
	    {"convert_to(repeat('[', 100000), 'UTF8')", ""},
	    {"convert_to(repeat('[', 100000) || repeat(']', 100000), 'UTF8')", ""},
	    {"'\\xff'", ""},
	    {"'\\x00'", ""},
	    {"''", ""},
	    {"NULL", ""},
	};
	struct pg_admin *a;

	(void)state;
	NEED_SERVER();
	a = open_admin();
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char sql[256];

		snprintf(sql, sizeof(sql), "SELECT weir.body_json(%s)", rows[i].body);
		assert_value(a, sql, rows[i].want);
	}
	assert_int_equal(
	    pg_admin_exec(a,
	                  "CREATE INDEX ON weir.events ((weir.body_json(body) ->> 'action'));"
	                  "INSERT INTO weir.events (uid, tool, event_type, received_at, body)"
	                  " VALUES (gen_random_uuid(), 't', 't', now(), '\\xff')",
	                  NULL),
	    ERR_OK);
	pg_admin_close(a);
}

static void test_partitions(void **state)
{
	struct pg_admin *a;

	(void)state;
	NEED_SERVER();
	a = open_admin();
	assert_int_equal(pg_admin_exec(a, "SET timezone = 'Pacific/Kiritimati'", NULL), ERR_OK);
	assert_value(a, "SELECT weir.ensure_event_partitions(7)", "0");
	assert_value(a, "SELECT weir.ensure_event_partitions(9)", "2");
	assert_value(a, "SELECT weir.ensure_event_partitions(-5)", "0");
	assert_int_equal(pg_admin_exec(a, "SET timezone = 'UTC'", NULL), ERR_OK);
	assert_value(
	    a,
	    "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname ="
	    " 'events_' || to_char(now() + interval '9 days', 'YYYYMMDD')"
	    " AND pg_get_expr(relpartbound, oid) = format("
	    "'FOR VALUES FROM (''%s 00:00:00+00'') TO (''%s 00:00:00+00'')',"
	    " (now() + interval '9 days')::date, (now() + interval '10 days')::date) IS NOT TRUE",
	    "");
	/* A day without partition is an infrastructure error, not the data's. */
	struct err_info info;
	assert_int_equal(
	    pg_admin_exec(a,
	                  "INSERT INTO weir.events (uid, tool, event_type, received_at, body,"
	                  " stored_at) VALUES (gen_random_uuid(), 't', 't', now(), '',"
	                  " now() + interval '30 days')",
	                  &info),
	    ERR_NOTABLE);
	assert_int_equal(
	    pg_admin_exec(a,
	                  "INSERT INTO weir.events (uid, tool, event_type, received_at, body,"
	                  " outcome) VALUES (gen_random_uuid(), 't', 't', now(), '', 'x')",
	                  &info),
	    ERR_DATA);
	pg_admin_close(a);
}

static void test_generations(void **state)
{
	static const char insert[] =
	    "INSERT INTO weir.event_keys (key, uid, body_hash, slot) SELECT k, gen_random_uuid(), "
	    "0, g.slot"
	    " FROM (VALUES ('00000000-0000-0000-0000-00000000000%d'::uuid)) v(k), "
	    "weir.event_key_generation g"
	    " WHERE NOT EXISTS (SELECT FROM weir.event_keys o WHERE o.key = k) ON CONFLICT DO "
	    "NOTHING";
	static const char next[] =
	    "UPDATE weir.event_key_generation SET started_at = now() - interval '4 days'";
	struct pg_admin *a;
	char sql[512];

	(void)state;
	NEED_SERVER();
	a = open_admin();
	/* Statistics of a young table would make the planner read all keys for every look-up. */
	assert_value(a,
	             "SELECT count(*) FROM pg_class WHERE relname ~ '^event_keys_.$'"
	             " AND reloptions @> ARRAY['autovacuum_enabled=false']",
	             "2");
	assert_value(a, "SELECT weir.ensure_key_generation(3)", "0"); /* young */
	for (int i = 1; i <= 3; i++) {
		snprintf(sql, sizeof(sql), insert, i);
		assert_int_equal(pg_admin_exec(a, sql, NULL), ERR_OK);
		assert_int_equal(pg_admin_exec(a, next, NULL), ERR_OK);
		snprintf(sql, sizeof(sql), "%d", i);
		assert_value(a, "SELECT weir.ensure_key_generation(3)", sql);
		/* The first of two is still known, the one before it is gone. */
		assert_value(a, "SELECT string_agg(right(key::text, 1), '') FROM weir.event_keys",
		             i == 1   ? "1"
		             : i == 2 ? "2"
		                      : "3");
	}
	pg_admin_close(a);
}

static void test_epoch(void **state)
{
	struct pg_admin *a;
	struct buf b;

	(void)state;
	NEED_SERVER();
	a = open_admin();
	buf_init(&b, 64);
	assert_int_equal(pg_admin_value(a, "SELECT weir.epoch()", &b, NULL), ERR_OK);
	assert_int_equal(b.len, 32);
	assert_value(a, "SELECT weir.epoch()", b.ptr);
	assert_int_equal(pg_admin_exec(a, "UPDATE weir.instance SET id = gen_random_uuid()", NULL),
	                 ERR_OK);
	assert_int_equal(pg_admin_value1(a, "SELECT (weir.epoch() <> $1)::text", b.ptr, &b, NULL),
	                 ERR_OK);
	assert_string_equal(b.ptr, "true");
	buf_done(&b);
	pg_admin_close(a);
}

static void test_unreachable(void **state)
{
	struct pg_options o = {.url = "postgres://weir:hunter2@127.0.0.1:1/x"};
	struct err_info info = {0};
	struct pg_admin *a;

	(void)state;
	assert_int_equal(pg_admin_open(&o, &a, &info), ERR_UNAVAILABLE);
	assert_true(strstr(info.text, "refused"));
	o.url = "postgres://weir:hunter2@[::1/x";
	assert_int_equal(pg_admin_open(&o, &a, &info), ERR_INVAL);
	assert_null(strstr(info.text, "hunter2"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_parse),      cmocka_unit_test(test_judge),
	    cmocka_unit_test(test_runner),     cmocka_unit_test(test_lower_comes_later),
	    cmocka_unit_test(test_newer),      cmocka_unit_test(test_concurrent),
	    cmocka_unit_test(test_real),       cmocka_unit_test(test_body_json),
	    cmocka_unit_test(test_partitions), cmocka_unit_test(test_generations),
	    cmocka_unit_test(test_epoch),      cmocka_unit_test(test_unreachable),
	};

	if (!quiet_log())
		return 2;
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
