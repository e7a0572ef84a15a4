/* Retention on a real Postgres. */
#include "pipeline_rig.h"

#include "weir/schedule/retention.h"

struct care {
	struct retention *r;
	int done, ok;
	struct metric *expired, *dropped, *pruned;
};

static struct care care;

static const struct stack_options impatient = {.connections = 2,
                                               .workers = 4,
                                               .batch_size = 100,
                                               .quick_retries = 3,
                                               .query_timeout = 1000 * MSEC};

static void on_done(void *arg, bool ok)
{
	(void)arg;
	care.done++;
	care.ok += ok;
}

static enum err care_new(struct rig *r, int keep_days)
{
	struct retention_options o = {
	    .loop = r->loop, .pool = r->s.pool, .metrics = r->metrics, .keep_days = keep_days};
	const struct metric_spec expired = {.type = METRIC_GAUGE,
	                                    .name = "webhook_expired_partitions"};
	const struct metric_spec dropped = {.type = METRIC_COUNTER,
	                                    .name = "webhook_partitions_dropped_total"};
	const struct metric_spec pruned = {.type = METRIC_COUNTER,
	                                   .name = "webhook_pruned_rows_total"};
	enum err e;

	memset(&care, 0, sizeof(care));
	e = retention_new(&o, &care.r);
	if (e != ERR_OK)
		return e;
	care.expired = metric_single(r->metrics, &expired);
	care.dropped = metric_single(r->metrics, &dropped);
	care.pruned = metric_single(r->metrics, &pruned);
	return ERR_OK;
}

static int setup_care(void **state)
{
	struct rig *r;
	int failed = setup_with(state, &impatient);

	if (failed || !*state)
		return failed;
	r = *state;
	sql(r, "UPDATE weir.maintenance_lease SET valid_until = '-infinity'");
	return care_new(r, 30) != ERR_OK;
}

static void care_free(struct rig *r)
{
	pg_pool_free(r->s.pool);
	r->s.pool = NULL;
	retention_free(care.r);
}

static int teardown_care(void **state)
{
	struct rig *r = *state;

	if (r)
		care_free(r);
	return teardown(state);
}

#define CARE_TEST(f) cmocka_unit_test_setup_teardown(f, setup_care, teardown_care)

static bool ran(struct rig *r)
{
	return care.done >= (int)r->want;
}

static void run(struct rig *r)
{
	r->want = (size_t)care.done + 1;
	retention_run(care.r, on_done, NULL);
	assert_true(turn_until(r, ran, LONG_MSEC));
}

/* A partition of the day that is `age` days ago. */
static void add_day(struct rig *r, int age)
{
	char text[512];

	snprintf(text, sizeof(text),
	         "DO $$ DECLARE d date := (now() AT TIME ZONE 'UTC')::date - %d; BEGIN"
	         " EXECUTE format('CREATE TABLE weir.events_%%s PARTITION OF weir.events FOR VALUES"
	         " FROM (%%L) TO (%%L)', to_char(d, 'YYYYMMDD'), d || ' 00:00:00+00',"
	         " (d + 1) || ' 00:00:00+00'); END $$",
	         age);
	sql(r, text);
}

/* The name of that partition in `name`. */
static const char *day_name(struct rig *r, int age)
{
	static char name[64];
	char text[256];
	PGresult *res;

	snprintf(text, sizeof(text),
	         "SELECT 'events_' || to_char((now() AT TIME ZONE 'UTC')::date - %d, 'YYYYMMDD')",
	         age);
	res = query(r, text);
	snprintf(name, sizeof(name), "%s", PQgetvalue(res, 0, 0));
	PQclear(res);
	return name;
}

/* `text` with the partition's name in place of its '@'. */
static void sql_of_day(struct rig *r, const char *text, int age)
{
	const char *at = strchr(text, '@');
	char whole[512];

	snprintf(whole, sizeof(whole), "%.*s%s%s", (int)(at - text), text, day_name(r, age),
	         at + 1);
	sql(r, whole);
}

static const char count_old[] =
    "SELECT count(*) FROM pg_class WHERE relnamespace = 'weir'::regnamespace AND relkind = 'r'"
    " AND relname ~ '^events_\\d{8}$'"
    " AND relname < 'events_' || to_char((now() AT TIME ZONE 'UTC')::date, 'YYYYMMDD')";

static void test_drops_what_is_past(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	add_day(r, 29);
	add_day(r, 30); /* it ended 29 days and some hours ago */
	add_day(r, 31);
	add_day(r, 32);
	add_day(r, 400);
	run(r);
	assert_int_equal(care.ok, 1);
	assert_int_equal(metric_get(care.dropped), 3);
	assert_int_equal(metric_get(care.expired), 0);
	assert_int_equal(number(r, count_old), 2);
	run(r); /* nothing is left to do */
	assert_int_equal(metric_get(care.dropped), 3);
	sql_of_day(r, "DROP TABLE weir.@", 29);
	sql_of_day(r, "DROP TABLE weir.@", 30);
}

/* What an earlier run left half-way is ended; what somebody detached to keep it stays. */
static void test_takes_up_what_was_left(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	add_day(r, 40);
	add_day(r, 41);
	add_day(r, 42);
	add_day(r, 43);
	sql_of_day(r, "ALTER TABLE weir.events DETACH PARTITION weir.@", 40); /* somebody's */
	sql_of_day(r, "ALTER TABLE weir.events DETACH PARTITION weir.@", 41);
	sql_of_day(r, "COMMENT ON TABLE weir.@ IS 'weir: past RETENTION_DAYS, to be dropped'", 41);
	sql_of_day(r,
	           "UPDATE pg_inherits SET inhdetachpending = true WHERE inhrelid = "
	           "'weir.@'::regclass",
	           42);
	run(r);
	assert_int_equal(care.ok, 1);
	assert_int_equal(metric_get(care.dropped), 3);
	assert_int_equal(number(r, count_old), 1);
	sql_of_day(r, "DROP TABLE weir.@", 40);
}

static void test_one_that_cannot_go_keeps_no_other(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	for (int age = 50; age < 53; age++)
		add_day(r, age);
	sql_of_day(r, "CREATE VIEW public.reader AS SELECT uid FROM weir.@", 51);
	run(r);
	assert_int_equal(care.ok, 0);
	assert_int_equal(metric_get(care.dropped), 2);
	assert_int_equal(metric_get(care.expired), 1);
	sql(r, "DROP VIEW public.reader");
	run(r);
	assert_int_equal(care.ok, 1);
	assert_int_equal(metric_get(care.dropped), 3);
	assert_int_equal(metric_get(care.expired), 0);
}

static bool ten_settled(struct rig *r)
{
	return r->source.settled == 10;
}

/* A long look at the events makes the DETACH wait until it is given up half-way; readers and
 * writers go on meanwhile, and a later run ends it. */
static void test_in_use(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	add_day(r, 60);
	sql(r, "BEGIN; SELECT count(*) FROM weir.events");
	run(r);
	assert_int_equal(care.ok, 1);
	assert_int_equal(metric_get(care.dropped), 0);
	assert_int_equal(metric_get(care.expired), 1);
	assert_int_equal(number(r, "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"), 1);
	put_numbered(r, "meanwhile", 10);
	assert_true(turn_until(r, ten_settled, LONG_MSEC));
	sql(r, "COMMIT");
	run(r);
	assert_int_equal(care.ok, 2);
	assert_int_equal(metric_get(care.dropped), 1);
	assert_int_equal(number(r, count_old), 0);
}

/* One clock that has jumped ahead drops nothing. */
static void test_clocks_must_agree(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	add_day(r, 70);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.expired_partitions(30, now())"), 1);
	assert_int_equal(
	    number(r, "SELECT count(*) FROM weir.expired_partitions(30, now() - interval '60 d')"),
	    0);
	assert_int_equal(
	    number(r, "SELECT count(*) FROM weir.expired_partitions(30, now() + interval '900 d')"),
	    1);
	run(r);
	assert_int_equal(number(r, count_old), 0);
}

static void test_one_weir_does_it(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	add_day(r, 80);
	sql(r, "SELECT weir.hold_maintenance('another', 60)");
	run(r);
	assert_int_equal(care.ok, 1);
	assert_int_equal(number(r, count_old), 1);
	/* A lease that ran out, and one from before the clock was set back. */
	sql(r, "UPDATE weir.maintenance_lease SET valid_until = now() - interval '1 s'");
	run(r);
	assert_int_equal(number(r, count_old), 0);
	add_day(r, 80);
	sql(r, "UPDATE weir.maintenance_lease SET holder = 'another',"
	       " valid_until = now() + interval '1 year'");
	run(r);
	assert_int_equal(number(r, count_old), 0);
}

static void add_dead(struct rig *r, const char *state, int days, int n)
{
	char text[512];

	snprintf(
	    text, sizeof(text),
	    "INSERT INTO weir.dead_letters (uid, tool, event_type, stage, error_class, body, state,"
	    " last_at) SELECT gen_random_uuid(), 't', 'y', 'store', 'data', '', '%s',"
	    " now() - interval '%d days' FROM generate_series(1, %d)",
	    state, days, n);
	sql(r, text);
}

static void test_prunes_settled_dead_letters(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	add_dead(r, "open", 900, 3);
	add_dead(r, "retrying", 900, 3);
	add_dead(r, "resolved", 31, 700);
	add_dead(r, "dropped", 31, 600);
	add_dead(r, "resolved", 29, 5);
	add_dead(r, "dropped", 29, 5);
	run(r);
	assert_int_equal(care.ok, 1);
	assert_int_equal(metric_get(care.pruned), 1300);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.dead_letters"), 16);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.dead_letters WHERE state = 'open'"),
	                 3);
}

static void test_for_ever(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	retention_free(care.r);
	assert_int_equal(care_new(r, 0), ERR_OK);
	add_day(r, 90);
	add_dead(r, "resolved", 900, 1);
	run(r);
	assert_int_equal(care.ok, 1);
	assert_int_equal(number(r, count_old), 1);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.dead_letters"), 1);
	assert_int_equal(number(r,
	                        "SELECT expired FROM weir.next_expired_partition('me', 0, now(), "
	                        "'')"),
	                 0);
	sql_of_day(r, "DROP TABLE weir.@", 90);
}

static void test_cut_short(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	for (int age = 100; age < 110; age++)
		add_day(r, age);
	assert_true(turn_until(r, is_up, LONG_MSEC));
	r->want = 1;
	retention_run(care.r, on_done, NULL);
	(void)turn_until(r, never, 150);
	assert_int_equal(care.done, 0);
	retention_cut_short(care.r);
	assert_true(turn_until(r, ran, LONG_MSEC));
	assert_true(number(r, count_old) > 0);
	run(r);
	assert_int_equal(number(r, count_old), 0);
}

static void scenario_retention(void)
{
	static struct rig r;

	if (!server.pid || rig_new(&r, &plain) != ERR_OK)
		return;
	if (care_new(&r, 30) == ERR_OK) {
		r.want = 1;
		retention_run(care.r, on_done, NULL);
		(void)turn_until(&r, ran, 300);
		care_free(&r);
	}
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CARE_TEST(test_drops_what_is_past),
	    CARE_TEST(test_takes_up_what_was_left),
	    CARE_TEST(test_one_that_cannot_go_keeps_no_other),
	    CARE_TEST(test_in_use),
	    CARE_TEST(test_clocks_must_agree),
	    CARE_TEST(test_one_weir_does_it),
	    CARE_TEST(test_prunes_settled_dead_letters),
	    CARE_TEST(test_for_ever),
	    CARE_TEST(test_cut_short),
	};
	const struct torture torture[] = {TORTURE(scenario_retention)};

	if (!quiet_log("error"))
		return 2;
	return TESTS_OR_TORTURE_BETWEEN(tests, torture, start_server, stop_server);
}
