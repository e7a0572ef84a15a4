/* The Postgres pool against a private server: transactions, errors, bounds, and that every
 * completion comes exactly once. */
#include "pg_rig.h"
#include "weir/io/resolver.h"

static void test_rows(void **state)
{
	struct rig *r = rig_of(state);
	struct answer a;

	NEED_SERVER();
	assert_int_equal(number(r, "SELECT 7::int8"), 7);
	assert_int_equal(number(r, "SELECT (-7)::int4"), -7);
	assert_int_equal(number(r, "SELECT NULL::int8"), 0);
	run_sql(r, "SELECT 'text' FROM generate_series(1, 3)", &a);
	assert_int_equal(a.rows, 3);
	assert_string_equal(a.text, "text");
	run_sql(r, "CREATE TABLE rows (i int)", &a);
	assert_int_equal(a.err, ERR_OK);
	run_sql(r, "INSERT INTO rows SELECT generate_series(1, 5)", &a);
	assert_int_equal(a.affected, 5);
	assert_int_equal(a.rows, 0);
	run_sql(r, "", &a);
	assert_int_equal(a.err, ERR_OK);
	assert_true(r->changes > 0);
}

static void test_session(void **state)
{
	struct rig *r = rig_of(state);
	struct answer a;

	NEED_SERVER();
	assert_true(pg_server_sql(&server, "ALTER ROLE weir SET synchronous_commit = off;"
	                                   "ALTER ROLE weir SET timezone = 'Asia/Tokyo'"));
	rig_done(r);
	struct pg_options o = pg_server_options(&server);
	rig_init(r, &o);
	run_sql(r, "SELECT current_setting('synchronous_commit')", &a);
	assert_string_equal(a.text, "on");
	run_sql(r, "SELECT current_setting('timezone')", &a);
	assert_string_equal(a.text, "UTC");
	run_sql(r, "SELECT current_setting('statement_timeout')", &a);
	assert_string_equal(a.text, "28500ms");
	run_sql(r, "SELECT current_setting('application_name')", &a);
	assert_string_equal(a.text, "weir-test");
	assert_true(pg_server_sql(&server, "ALTER ROLE weir RESET ALL"));
}

/* All calls of a submit are one transaction. */
static void test_atomic(void **state)
{
	static const struct pg_stmt good[] = {
	    {.name = "atomic_1", .sql = "INSERT INTO atomic VALUES (1)"},
	    {.name = "atomic_2", .sql = "INSERT INTO atomic VALUES (2)"},
	    {.name = "atomic_3", .sql = "SELECT count(*), txid_current_if_assigned() FROM atomic"}};
	static const struct pg_stmt bad[] = {
	    {.name = "atomic_4", .sql = "INSERT INTO atomic VALUES (3)"},
	    {.name = "atomic_5", .sql = "INSERT INTO atomic VALUES (1)"},
	    {.name = "atomic_6", .sql = "INSERT INTO atomic VALUES (4)"}};
	struct rig *r = rig_of(state);
	struct answer a;
	struct pg_call calls[3];

	NEED_SERVER();
	run_sql(r, "CREATE TABLE atomic (i int CONSTRAINT only_once PRIMARY KEY)", &a);
	for (int round = 0; round < 3; round++) {
		a = (struct answer){.rig = r};
		assert_int_equal(submit_sql(&a, calls, good, 3, 0), ERR_OK);
		await(&a, 1, LONG_MSEC);
		assert_int_equal(a.err, ERR_OK);
		assert_int_equal(a.count, 3);
		assert_int_equal(a.number, 2);

		a = (struct answer){.rig = r};
		assert_int_equal(submit_sql(&a, calls, bad, 3, 0), ERR_OK);
		await(&a, 1, LONG_MSEC);
		assert_int_equal(a.err, ERR_DATA);
		assert_string_equal(a.sqlstate, "23505");
		assert_string_equal(a.constraint, "only_once");
		assert_int_equal(a.call, 1);
		assert_int_equal(a.count, 0);
		assert_int_equal(number(r, "SELECT count(*) FROM atomic"), 2);
		run_sql(r, "DELETE FROM atomic", &a);
	}
}

/* An error that only the commit finds. */
static void test_commit_fails(void **state)
{
	static const struct pg_stmt s[] = {
	    {.name = "late_1", .sql = "INSERT INTO late VALUES (1)"},
	    {.name = "late_2", .sql = "INSERT INTO late VALUES (1)"}};
	struct rig *r = rig_of(state);
	struct answer a;
	struct pg_call calls[2];

	NEED_SERVER();
	run_sql(r, "CREATE TABLE late (i int UNIQUE DEFERRABLE INITIALLY DEFERRED)", &a);
	a = (struct answer){.rig = r};
	assert_int_equal(submit_sql(&a, calls, s, 2, 0), ERR_OK);
	await(&a, 1, LONG_MSEC);
	assert_int_equal(a.err, ERR_DATA);
	assert_string_equal(a.sqlstate, "23505");
	assert_int_equal(a.call, 2);
	assert_int_equal(number(r, "SELECT count(*) FROM late"), 0);
}

/* A Parse that fails is not remembered; a plan that went out of date spoils only its session. */
static void test_prepare(void **state)
{
	static const struct pg_stmt s[] = {{.name = "prep_1", .sql = "SELECT 1"},
	                                   {.name = "prep_2", .sql = "SELECT * FROM prep"},
	                                   {.name = "prep_3", .sql = "SELECT 3"}};
	struct rig *r = rig_of(state);
	struct answer a;
	struct pg_call calls[3];

	NEED_SERVER();
	for (int i = 0; i < 2; i++) {
		a = (struct answer){.rig = r};
		assert_int_equal(submit_sql(&a, calls, s, 3, 0), ERR_OK);
		await(&a, 1, LONG_MSEC);
		assert_int_equal(a.err, ERR_NOTABLE);
		assert_string_equal(a.sqlstate, "42P01");
		assert_int_equal(a.call, 1);
	}
	run_sql(r, "CREATE TABLE prep (i int8)", &a);
	run_sql(r, "INSERT INTO prep VALUES (5)", &a);
	a = (struct answer){.rig = r};
	assert_int_equal(submit_sql(&a, calls, s, 3, 0), ERR_OK);
	await(&a, 1, LONG_MSEC);
	assert_int_equal(a.err, ERR_OK);
	assert_int_equal(number(r, "SELECT count(*) FROM pg_prepared_statements"), 3);
	run_sql(r, "ALTER TABLE prep ADD COLUMN j int8", &a);
	a = (struct answer){.rig = r};
	assert_int_equal(submit_sql(&a, calls, s + 1, 1, 0), ERR_OK);
	await(&a, 1, LONG_MSEC);
	assert_int_equal(a.err, ERR_UNAVAILABLE);
	assert_string_equal(a.sqlstate, "0A000");
	a = (struct answer){.rig = r};
	assert_int_equal(submit_sql(&a, calls, s + 1, 1, 0), ERR_OK);
	await(&a, 1, LONG_MSEC);
	assert_int_equal(a.err, ERR_OK);
	assert_int_equal(a.number, 5);
	run_sql(r, "DEALLOCATE ALL", &a);
	a = (struct answer){.rig = r};
	assert_int_equal(submit_sql(&a, calls, s + 1, 1, 0), ERR_OK);
	await(&a, 1, LONG_MSEC);
	assert_int_equal(a.err, ERR_UNAVAILABLE);
	assert_string_equal(a.sqlstate, "26000");
	a = (struct answer){.rig = r};
	assert_int_equal(submit_sql(&a, calls, s + 1, 1, 0), ERR_OK);
	await(&a, 1, LONG_MSEC);
	assert_int_equal(a.err, ERR_OK);
}

/* Far more than socket buffers hold, in both directions: neither side may wait for the other. */
static void test_large(void **state)
{
	enum { COUNT = 64, SIZE = 1 << 20 };
	static const struct pg_stmt echo = {
	    .name = "echo", .sql = "SELECT $1::bytea", .param_count = 1, .types = {PG_BYTEA}};
	static struct pg_call calls[COUNT];
	struct rig *r = rig_of(state);
	struct answer a = {.rig = r};
	struct pg_param p;
	char *big;

	NEED_SERVER();
	big = mem_alloc(SIZE);
	assert_non_null(big);
	memset(big, 'x', SIZE);
	p = (struct pg_param){big, SIZE};
	for (size_t i = 0; i < COUNT; i++)
		calls[i] = (struct pg_call){&echo, &p};
	assert_true(turn_until(r, is_up, LONG_MSEC));
	assert_int_equal(pg_submit(r->pool, calls, COUNT, 0, on_answer, &a), ERR_OK);
	memset(&p, 0xff, sizeof(p)); /* an idle connection has copied it already */
	await(&a, 1, 30000);
	assert_int_equal(a.err, ERR_OK);
	assert_int_equal(a.count, COUNT);
	assert_int_equal(a.rows, 1);
	mem_free(big);
}

static void test_array(void **state)
{
	static const struct pg_stmt s = {
	    .name = "arrays",
	    .sql = "SELECT string_agg(coalesce(t, 'NULL') || '/' || coalesce(encode(b, 'hex'), "
	           "'NULL'), ',')"
	           " || ' ' || array_length($1, 1) FROM unnest($1, $2) u(t, b)",
	    .param_count = 2,
	    .types = {PG_TEXT_ARRAY, PG_BYTEA_ARRAY}};
	static const struct pg_stmt none = {.name = "no_array",
	                                    .sql = "SELECT cardinality($1)::int8",
	                                    .param_count = 1,
	                                    .types = {PG_INT8_ARRAY}};
	struct rig *r = rig_of(state);
	struct answer a = {.rig = r};
	struct buf t, b;
	struct pg_param p[2];
	struct pg_call call = {&s, p};

	NEED_SERVER();
	buf_init(&t, 4096);
	buf_init(&b, 4096);
	for (int round = 0; round < 2; round++) { /* buffers are used again */
		pg_array_begin(&t, PG_TEXT);
		pg_array_add(&t, "a,b", 3);
		pg_array_add(&t, NULL, 0);
		pg_array_add(&t, "", 0);
		pg_array_end(&t, 3);
		pg_array_begin(&b, PG_BYTEA);
		pg_array_add(&b, "\0\xff", 2);
		pg_array_add(&b, "z", 1);
		pg_array_add(&b, NULL, 0);
		pg_array_end(&b, 3);
		assert_int_equal(t.err, ERR_OK);
		p[0] = (struct pg_param){t.ptr, t.len};
		p[1] = (struct pg_param){b.ptr, b.len};
		a = (struct answer){.rig = r};
		assert_int_equal(pg_submit(r->pool, &call, 1, 0, on_answer, &a), ERR_OK);
		await(&a, 1, LONG_MSEC);
		assert_string_equal(a.text, "a,b/00ff,NULL/7a,/NULL 3");
	}
	pg_array_begin(&t, PG_INT8);
	pg_array_end(&t, 0);
	p[0] = (struct pg_param){t.ptr, t.len};
	call.stmt = &none;
	a = (struct answer){.rig = r};
	assert_int_equal(pg_submit(r->pool, &call, 1, 0, on_answer, &a), ERR_OK);
	await(&a, 1, LONG_MSEC);
	assert_int_equal(a.err, ERR_OK);
	assert_int_equal(a.number, 0);
	buf_done(&t);
	buf_init(&t, 22); /* a full buffer keeps its error and nothing breaks */
	pg_array_begin(&t, PG_TEXT);
	pg_array_add(&t, "abcdef", 6);
	pg_array_add(&t, NULL, 0);
	pg_array_end(&t, 2);
	assert_int_equal(t.err, ERR_TOOBIG);
	buf_done(&t);
	buf_done(&b);
}

/* Beside others in a select list, one of NULLs alone is sent as none at all and comes out the same.
 */
static void test_padded_arrays(void **state)
{
	static const struct pg_stmt s = {
	    .name = "padded",
	    .sql = "SELECT string_agg(coalesce(a, 'NULL') || '/' || coalesce(b, 'NULL') || '/' ||"
	           " coalesce(c, 'NULL'), ',') || ' ' || cardinality($3) || ' ' || cardinality($2)"
	           " FROM (SELECT unnest($1) AS a, unnest($2) AS b, unnest($3) AS c) u",
	    .param_count = 3,
	    .types = {PG_TEXT_ARRAY, PG_TEXT_ARRAY, PG_TEXT_ARRAY}};
	static const char *const values[3][3] = {
	    {"x", "y", "z"}, {NULL, "", NULL}, {NULL, NULL, NULL}};
	struct rig *r = rig_of(state);
	struct answer a = {.rig = r};
	struct buf b[3];
	struct pg_param p[3];
	struct pg_call call = {&s, p};

	NEED_SERVER();
	for (size_t i = 0; i < 3; i++) {
		buf_init(&b[i], 4096);
		pg_array_begin(&b[i], PG_TEXT);
		for (size_t k = 0; k < 3; k++)
			pg_array_add(&b[i], values[i][k], values[i][k] ? strlen(values[i][k]) : 0);
		pg_array_end_padded(&b[i], 3);
		p[i] = (struct pg_param){b[i].ptr, b[i].len};
	}
	assert_int_equal(pg_submit(r->pool, &call, 1, 0, on_answer, &a), ERR_OK);
	await(&a, 1, LONG_MSEC);
	assert_string_equal(a.text, "x/NULL/NULL,y//NULL,z/NULL/NULL 0 3");
	for (size_t i = 0; i < 3; i++)
		buf_done(&b[i]);
}

static struct answer many[10000];

static void test_bounded(void **state)
{
	static const struct pg_stmt s = {.name = "many", .sql = "SELECT 1::int8"};
	static struct pg_call call;
	struct rig *r = rig_of(state);
	size_t taken = 0, full = 0;

	NEED_SERVER();
	for (size_t i = 0; i < 10000; i++) {
		enum err err;

		many[taken] = (struct answer){.rig = r};
		err = submit_sql(&many[taken], &call, &s, 1, 0);
		if (err == ERR_OK)
			taken++;
		else
			full += err == ERR_FULL;
	}
	assert_int_equal(taken, 1024);
	assert_int_equal(taken + full, 10000);
	await(many, taken, LONG_MSEC);
	for (size_t i = 0; i < taken; i++)
		assert_int_equal(many[i].err, ERR_OK);
	assert_int_equal(pg_pool_idle(r->pool), 2);
}

static void test_stop(void **state)
{
	static const struct pg_stmt s = {.sql = "SELECT pg_sleep(20)"};
	static struct pg_call call;
	struct rig *r = rig_of(state);

	NEED_SERVER();
	assert_true(turn_until(r, is_up, LONG_MSEC));
	for (size_t i = 0; i < 50; i++) {
		many[i] = (struct answer){.rig = r};
		assert_int_equal(submit_sql(&many[i], &call, &s, 1, 0), ERR_OK);
	}
	turn_until(r, never, 100);
	pg_pool_stop(r->pool);
	pg_pool_stop(r->pool);
	for (size_t i = 0; i < 50; i++)
		assert_int_equal(many[i].fired, 0);
	await(many, 50, 1000);
	for (size_t i = 0; i < 50; i++)
		assert_int_equal(many[i].err, ERR_CANCELLED);
	assert_int_equal(submit_sql(&many[0], &call, &s, 1, 0), ERR_CANCELLED);
	pg_pool_start(r->pool);
	assert_int_equal(number(r, "SELECT 4::int8"), 4);
}

static void on_answer_free(void *arg, enum err err, const struct pg_outcome *o)
{
	struct answer *a = arg;

	on_answer(a, err, o);
	pg_pool_free(a->rig->pool);
	a->rig->pool = NULL;
}

/* A pool may be freed in a completion; what was pending ends there. */
static void test_free_inside(void **state)
{
	static const struct pg_stmt s = {.sql = "SELECT 1"};
	struct rig *r = rig_of(state);
	struct pg_call call = {&s, NULL};

	NEED_SERVER();
	assert_true(turn_until(r, is_up, LONG_MSEC));
	for (size_t i = 0; i < 10; i++) {
		many[i] = (struct answer){.rig = r};
		assert_int_equal(
		    pg_submit(r->pool, &call, 1, 0, i ? on_answer : on_answer_free, &many[i]),
		    ERR_OK);
	}
	await(many, 10, LONG_MSEC);
	assert_int_equal(many[0].err, ERR_OK);
	assert_int_equal(many[9].err, ERR_CANCELLED);
}

static void test_hosts(void **state)
{
	struct rig r;
	char url[256];
	struct pg_options o = {.url = url, .size = 1};
	struct resolver *res;
	struct pg_pool *p;

	NEED_SERVER();
	(void)state;
	/* The first does not listen; the second is the server. */
	snprintf(url, sizeof(url), "postgres://weir@/postgres?host=127.0.0.1,%s&port=1,5432",
	         server.dir);
	rig_init(&r, &o);
	assert_int_equal(number(&r, "SELECT 1::int8"), 1);
	rig_done(&r);
	/* Names are resolved without libpq. */
	snprintf(url, sizeof(url), "postgres://weir@/postgres?host=localhost,%s&port=1,5432",
	         server.dir);
	assert_int_equal(loop_new(&r.loop), ERR_OK);
	assert_int_equal(resolver_new(r.loop, &res), ERR_OK);
	assert_int_equal(turn_init(&r.turn, &r, r.loop), ERR_OK);
	assert_int_equal(pg_pool_new(r.loop, res, &o, &r.pool), ERR_OK);
	pg_pool_start(r.pool);
	assert_int_equal(number(&r, "SELECT 1::int8"), 1);
	pg_pool_free(r.pool);
	resolver_free(res);
	turn_done(&r.turn);
	loop_free(r.loop);

	assert_int_equal(loop_new(&r.loop), ERR_OK);
	snprintf(url, sizeof(url), "postgres://a@b@c:x/");
	assert_int_equal(pg_pool_new(r.loop, NULL, &o, &p), ERR_INVAL);
	snprintf(url, sizeof(url), "postgres://weir@db.example/postgres");
	assert_int_equal(pg_pool_new(r.loop, NULL, &o, &p), ERR_INVAL); /* a name, no resolver */
	snprintf(url, sizeof(url), "postgres://weir@127.0.0.1,::1,127.0.0.2/?port=1,2");
	assert_int_equal(pg_pool_new(r.loop, NULL, &o, &p), ERR_INVAL);
	loop_free(r.loop);
}

static void test_bad_calls(void **state)
{
	static const struct pg_stmt s = {.sql = "SELECT $1", .param_count = 1, .types = {PG_BYTEA}};
	struct rig *r = rig_of(state);
	struct pg_param p = {"x", (size_t)2 << 30};
	struct pg_call call = {&s, &p};

	NEED_SERVER();
	assert_int_equal(pg_submit(r->pool, &call, 0, 0, on_answer, NULL), ERR_INVAL);
	assert_int_equal(pg_submit(r->pool, &call, 1, 0, on_answer, NULL), ERR_TOOBIG);
}

static void test_sqlstates(void **state)
{
	static const struct {
		const char *sqlstate, *constraint;
		enum err err;
	} rows[] = {
	    {"22P02", "", ERR_DATA},        {"23505", "k", ERR_DATA},
	    {"23514", "c", ERR_DATA},       {"23514", "", ERR_NOTABLE},
	    {"54000", "", ERR_DATA},        {"42P01", "", ERR_NOTABLE},
	    {"3F000", "", ERR_NOTABLE},     {"42501", "", ERR_DENIED},
	    {"28P01", "", ERR_DENIED},      {"42601", "", ERR_BUG},
	    {"57014", "", ERR_TIMEOUT},     {"57P01", "", ERR_UNAVAILABLE},
	    {"08006", "", ERR_UNAVAILABLE}, {"53100", "", ERR_FULL},
	    {"25006", "", ERR_AGAIN},       {"40P01", "", ERR_AGAIN},
	    {"55P03", "", ERR_AGAIN},       {"40001", "", ERR_AGAIN},
	    {"53300", "", ERR_FULL},        {"53200", "", ERR_UNAVAILABLE},
	    {"XX000", "", ERR_UNAVAILABLE}, {"", "", ERR_UNAVAILABLE},
	    {"23514", NULL, ERR_NOTABLE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_int_equal(pg_err_of_sqlstate(rows[i].sqlstate, rows[i].constraint),
		                 rows[i].err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_rows),         TEST(test_session),       TEST(test_atomic),
	    TEST(test_commit_fails), TEST(test_prepare),       TEST(test_large),
	    TEST(test_array),        TEST(test_padded_arrays), TEST(test_bounded),
	    TEST(test_stop),         TEST(test_free_inside),   TEST(test_hosts),
	    TEST(test_bad_calls),    TEST(test_sqlstates),
	};

	if (!quiet_log())
		return 2;
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
