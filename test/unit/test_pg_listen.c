/* A pool that listens: notifications are told once for many, and a new session is told as well, for
 * what came while there was none was missed. */
#include "pg_rig.h"

static size_t told;

static void on_notify(void *arg)
{
	(void)arg;
	told++;
}

static int listen_setup(void **state)
{
	static struct rig r;
	struct pg_options o = pg_server_options(&server);

	if (!server.pid)
		return 0;
	o.size = 1;
	o.listen = "test_channel";
	told = 0;
	rig_init(&r, &o);
	pg_pool_on_notify(r.pool, on_notify, &r);
	*state = &r;
	return 0;
}

static size_t expected;

static bool is_told(struct rig *r)
{
	(void)r;
	return told >= expected;
}

static void await_told(struct rig *r, size_t n)
{
	expected = n;
	assert_true(turn_until(r, is_told, LONG_MSEC));
	assert_int_equal(told, n);
}

static void test_notifications(void **state)
{
	struct rig *r = rig_of(state);
	struct answer a;

	NEED_SERVER();
	await_told(r, 1); /* the session itself */
	assert_true(pg_server_sql(&server, "NOTIFY test_channel"));
	await_told(r, 2);
	assert_true(pg_server_sql(&server, "NOTIFY test_channel; NOTIFY test_channel, 'x'"));
	await_told(r, 3);
	assert_true(pg_server_sql(&server, "NOTIFY other_channel"));
	/* Its own as well, and beside answers. */
	run_sql(r, "SELECT pg_notify('test_channel', '')", &a);
	assert_int_equal(a.err, ERR_OK);
	await_told(r, 4);
	assert_int_equal(number(r, "SELECT 7"), 7);
	assert_int_equal(told, 4);
}

static void test_new_session(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	await_told(r, 1);
	assert_true(pg_server_sql(&server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
	                                   "WHERE application_name = 'weir-test'"));
	await_told(r, 2);
	assert_true(pg_server_sql(&server, "NOTIFY test_channel"));
	await_told(r, 3);
}

static void test_none(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	told = 0;
	pg_pool_on_notify(r->pool, NULL, NULL);
	assert_true(pg_server_sql(&server, "NOTIFY test_channel"));
	assert_int_equal(number(r, "SELECT 1"), 1);
	assert_int_equal(told, 0);
}

#define LISTEN_TEST(f) cmocka_unit_test_setup_teardown(f, listen_setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {LISTEN_TEST(test_notifications),
	                                   LISTEN_TEST(test_new_session), TEST(test_none)};

	if (log_set_levels("error", NULL) != ERR_OK)
		return 2;
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
