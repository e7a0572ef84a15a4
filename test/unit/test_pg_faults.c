/* The Postgres pool when things go wrong: deadlines, lost, frozen, restarted and read-only servers.
 */
#include "pg_rig.h"

/* Statements that the server is busy with, this one among them. */
static int64_t active(struct rig *r)
{
	return number(r, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'");
}

static void test_deadline(void **state)
{
	struct rig *r = rig_of(state);
	struct answer a;
	usec_t begun;

	NEED_SERVER();
	assert_int_equal(number(r, "SELECT 1::int8"), 1);
	begun = clock_mono();
	run_sql_for(r, "SELECT pg_sleep(20)", &a, 200 * MSEC, 5000);
	assert_int_equal(a.err, ERR_TIMEOUT);
	assert_in_range(clock_mono() - begun, 190 * MSEC, 4000 * MSEC);
	/* The other connection was free, so the cancel goes through, and both are usable. */
	for (int i = 0; i < 100 && active(r) != 1; i++)
		turn_until(r, never, 50);
	assert_int_equal(active(r), 1);
	struct pg_pool_stats st;
	pg_pool_stats(r->pool, &st);
	turn_until(r, never, 100);
	pg_pool_stats(r->pool, &st);
	assert_int_equal(st.open, 2);
	assert_int_equal(st.busy, 0);
	assert_int_equal(st.reconnects, 0);
}

/* The server's own limit comes first where the pool has one connection. */
static void test_statement_timeout(void **state)
{
	struct rig *r = rig_of(state);
	struct pg_options o = pg_server_options(&server);
	struct answer a;

	NEED_SERVER();
	rig_done(r);
	o.size = 1;
	o.query_timeout = 4000 * MSEC; /* a twentieth of it lies between the two */
	rig_init(r, &o);
	assert_int_equal(number(r, "SELECT 1::int8"), 1);
	run_sql_for(r, "SELECT pg_sleep(20)", &a, 0, 20000);
	assert_int_equal(a.err, ERR_TIMEOUT);
	assert_string_equal(a.sqlstate, "57014");
	assert_int_equal(number(r, "SELECT 2::int8"), 2);
}

static void test_terminated(void **state)
{
	static const struct pg_stmt s = {.sql = "SELECT pg_sleep(20)"};
	struct rig *r = rig_of(state);
	struct answer a = {.rig = r}, b;
	struct pg_call call;
	struct pg_pool_stats st;

	NEED_SERVER();
	assert_true(turn_until(r, is_up, 20000));
	assert_int_equal(submit_sql(&a, &call, &s, 1, 0), ERR_OK);
	do { /* it may not have arrived yet */
		run_sql(r,
		        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
		        " query LIKE '%sleep(20)' AND pid <> pg_backend_pid()",
		        &b);
	} while (b.rows == 0 && !a.fired);
	assert_int_equal(b.rows, 1);
	await(&a, 1, LONG_MSEC);
	assert_int_equal(a.err, ERR_CLOSED);
	assert_string_equal(a.sqlstate, "57P01");
	assert_int_equal(number(r, "SELECT 2::int8"), 2);
	/* It tells on itself. */
	run_sql(r, "SELECT pg_terminate_backend(pg_backend_pid())", &a);
	assert_int_equal(a.err, ERR_CLOSED);
	assert_int_equal(number(r, "SELECT 3::int8"), 3);
	pg_pool_stats(r->pool, &st);
	assert_true(strstr(st.last_error, "terminat"));
}

static void test_restart(void **state)
{
	struct rig *r = rig_of(state);
	struct pg_pool_stats st;
	struct answer a;

	NEED_SERVER();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(number(r, "SELECT 1::int8"), 1);
		pg_server_down(&server, i ? SIGQUIT : SIGINT);
		assert_true(turn_until(r, is_down, 5000));
		assert_int_equal(pg_pool_idle(r->pool), 0);
		run_sql_for(r, "SELECT 1", &a, 300 * MSEC, 5000);
		assert_int_equal(a.err, ERR_UNAVAILABLE);
		assert_true(strstr(a.message, "onnect"));
		assert_true(pg_server_up(&server));
		assert_int_equal(number(r, "SELECT 2::int8"), 2);
	}
	pg_pool_stats(r->pool, &st);
	assert_true(st.reconnects >= 2);
}

static void test_frozen(void **state)
{
	struct rig *r = rig_of(state);
	struct answer a;
	usec_t begun;
	char cmd[128];

	NEED_SERVER();
	assert_int_equal(number(r, "SELECT 1::int8"), 1);
	/* The whole family: postmaster and backends. */
	snprintf(cmd, sizeof(cmd), "kill -STOP %d $(ps -o pid= --ppid %d)", server.pid, server.pid);
	assert_int_equal(system(cmd), 0);
	begun = clock_mono();
	run_sql_for(r, "SELECT 1", &a, 300 * MSEC, 5000);
	assert_int_equal(a.err, ERR_TIMEOUT);
	assert_true(clock_mono() - begun < 4000 * MSEC);
	assert_true(turn_until(r, is_down, 8000)); /* dropped behind the grace */
	snprintf(cmd, sizeof(cmd), "kill -CONT %d $(ps -o pid= --ppid %d)", server.pid, server.pid);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(number(r, "SELECT 2::int8"), 2);
}

static void test_read_only(void **state)
{
	struct rig *r = rig_of(state);
	struct answer a;

	NEED_SERVER();
	run_sql(r, "CREATE TABLE readonly (i int)", &a);
	assert_true(pg_server_sql(&server, "ALTER SYSTEM SET default_transaction_read_only = on"));
	assert_true(pg_server_sql(&server, "SELECT pg_reload_conf()"));
	for (int i = 0; i < 100 && a.err == ERR_OK; i++) {
		run_sql_for(r, "INSERT INTO readonly VALUES (1)", &a, 1000 * MSEC, 5000);
		turn_until(r, never, 20);
	}
	assert_int_equal(a.err, ERR_AGAIN);
	assert_string_equal(a.sqlstate, "25006");
	assert_true(turn_until(r, is_down, 5000));
	assert_true(pg_server_sql(&server, "ALTER SYSTEM RESET default_transaction_read_only"));
	assert_true(pg_server_sql(&server, "SELECT pg_reload_conf()"));
	run_sql(r, "INSERT INTO readonly VALUES (1)", &a);
	assert_int_equal(a.err, ERR_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_deadline),   TEST(test_statement_timeout),
	    TEST(test_terminated), TEST(test_restart),
	    TEST(test_frozen),     TEST(test_read_only),
	};

	if (!quiet_log())
		return 2;
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
