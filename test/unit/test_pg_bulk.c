/* Transactions that are sent behind each other on one connection: each has its own outcome, unless
 * the connection is lost. */
#include "pg_rig.h"

static const struct pg_stmt sleep_stmt = {.name = "bulk_sleep",
                                          .sql = "SELECT 1::int8 FROM pg_sleep(0.3)"};
static const struct pg_stmt two_stmt = {.name = "bulk_two", .sql = "SELECT 2::int8"};
static const struct pg_stmt fail_stmt = {.name = "bulk_fail",
                                         .sql = "SELECT 1 / (SELECT 0 FROM pg_sleep(0.3))"};
static const struct pg_call sleep_call = {&sleep_stmt, NULL}, two_call = {&two_stmt, NULL},
                            fail_call = {&fail_stmt, NULL};

static void submit_bulk(struct answer *a, const struct pg_call *call, usec_t timeout)
{
	assert_int_equal(pg_submit_bulk(a->rig->pool, call, 1, timeout, NULL, on_answer, a),
	                 ERR_OK);
}

static size_t waiting(struct rig *r)
{
	struct pg_pool_stats st;

	turn_until(r, never, 50);
	pg_pool_stats(r->pool, &st);
	return st.waiting;
}

/* A pool of one connection that has prepared what the tests run. */
static void restart_with_one(struct rig *r)
{
	struct pg_options o = pg_server_options(&server);
	const struct pg_call *calls[] = {&sleep_call, &two_call, &fail_call};
	struct answer a;

	rig_done(r);
	o.size = 1;
	rig_init(r, &o);
	for (size_t i = 0; i < 3; i++) {
		a = (struct answer){.rig = r};
		submit_bulk(&a, calls[i], 0);
		await(&a, 1, LONG_MSEC);
	}
}

static void test_follows(void **state)
{
	struct rig *r = rig_of(state);
	struct answer a[3] = {{.rig = r}, {.rig = r}, {.rig = r}};

	NEED_SERVER();
	restart_with_one(r);
	submit_bulk(&a[0], &sleep_call, 0);
	submit_bulk(&a[1], &two_call, 0);
	assert_int_equal(waiting(r), 0);
	submit_bulk(&a[2], &sleep_call, 0);
	assert_int_equal(waiting(r), 1); /* one behind, no more */
	assert_false(a[0].fired || a[1].fired);
	await(a, 3, LONG_MSEC);
	assert_int_equal(a[0].number, 1);
	assert_int_equal(a[1].number, 2);
	assert_int_equal(a[2].number, 1);
	assert_int_equal(waiting(r), 0);
	assert_int_equal(pg_pool_idle(r->pool), 1);
}

/* Neither does an ordinary one follow, nor is one followed. */
static void test_ordinary_ones_wait(void **state)
{
	struct rig *r = rig_of(state);
	struct answer a[2] = {{.rig = r}, {.rig = r}};

	NEED_SERVER();
	restart_with_one(r);
	submit_bulk(&a[0], &sleep_call, 0);
	assert_int_equal(pg_submit(r->pool, &two_call, 1, 0, on_answer, &a[1]), ERR_OK);
	assert_int_equal(waiting(r), 1);
	await(a, 2, LONG_MSEC);
	a[0] = a[1] = (struct answer){.rig = r};
	assert_int_equal(pg_submit(r->pool, &sleep_call, 1, 0, on_answer, &a[0]), ERR_OK);
	submit_bulk(&a[1], &two_call, 0);
	assert_int_equal(waiting(r), 1);
	await(a, 2, LONG_MSEC);
}

/* What it prepares may fail, and then the next one's statement would be missing. */
static void test_not_behind_a_parse(void **state)
{
	static const struct pg_stmt fresh = {.name = "bulk_fresh",
	                                     .sql = "SELECT 3::int8 FROM pg_sleep(0.3)"};
	static const struct pg_call call = {&fresh, NULL};
	struct rig *r = rig_of(state);
	struct answer a[2] = {{.rig = r}, {.rig = r}};

	NEED_SERVER();
	restart_with_one(r);
	submit_bulk(&a[0], &call, 0);
	submit_bulk(&a[1], &call, 0);
	assert_int_equal(waiting(r), 1);
	await(a, 2, LONG_MSEC);
	assert_int_equal(a[0].number + a[1].number, 6);
}

/* Two on one connection, the second behind the first. */
static void submit_two(struct rig *r, struct answer a[2], const struct pg_call *first,
                       const struct pg_call *second, usec_t timeout)
{
	a[0] = a[1] = (struct answer){.rig = r};
	restart_with_one(r);
	submit_bulk(&a[0], first, timeout);
	submit_bulk(&a[1], second, 0);
	assert_int_equal(waiting(r), 0);
}

static void assert_both(struct answer a[2], enum err want)
{
	await(a, 2, LONG_MSEC);
	assert_int_equal(a[0].err, want);
	assert_int_equal(a[1].err, want);
}

static void test_first_fails(void **state)
{
	struct rig *r = rig_of(state);
	struct answer a[2];

	NEED_SERVER();
	submit_two(r, a, &fail_call, &two_call, 0);
	await(a, 2, LONG_MSEC);
	assert_int_equal(a[0].err, ERR_DATA);
	assert_string_equal(a[0].sqlstate, "22012");
	assert_int_equal(a[1].err, ERR_OK);
	assert_int_equal(a[1].number, 2);
}

static void test_both_are_lost(void **state)
{
	struct rig *r = rig_of(state);
	struct answer a[2];

	NEED_SERVER();
	submit_two(r, a, &sleep_call, &two_call, 0);
	assert_true(pg_server_sql(&server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
	                                   " WHERE query LIKE '%sleep(0.3)%'"
	                                   " AND pid <> pg_backend_pid()"));
	assert_both(a, ERR_CLOSED);
	assert_int_equal(number(r, "SELECT 4::int8"), 4);
}

static void test_deadline(void **state)
{
	struct rig *r = rig_of(state);
	struct answer a[2];

	NEED_SERVER();
	submit_two(r, a, &sleep_call, &sleep_call, 100 * MSEC);
	assert_both(a, ERR_TIMEOUT);
	assert_int_equal(number(r, "SELECT 5::int8"), 5);
}

static void test_freed_meanwhile(void **state)
{
	struct rig *r = rig_of(state);
	struct answer a[2];

	NEED_SERVER();
	submit_two(r, a, &sleep_call, &two_call, 0);
	pg_pool_stop(r->pool);
	assert_both(a, ERR_CANCELLED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_follows),
	    TEST(test_ordinary_ones_wait),
	    TEST(test_not_behind_a_parse),
	    TEST(test_first_fails),
	    TEST(test_both_are_lost),
	    TEST(test_deadline),
	    TEST(test_freed_meanwhile),
	};

	if (!quiet_log())
		return 2;
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
