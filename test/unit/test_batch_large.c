/* Batches that take several statements: one transaction all the same, and each event's own fate. */
#include "pipeline_rig.h"

enum { EACH = 400 };

static const struct stack_options wide = {
    .connections = 1, .workers = 1, .batch_size = 2000, .quick_retries = 3};

static int setup_wide(void **state)
{
	return setup_with(state, &wide);
}

#define LARGE_TEST(f) cmocka_unit_test_setup_teardown(f, setup_wide, teardown_poison)

static void put_one(struct rig *r, const char *prefix, size_t i, const char *body)
{
	char id[64];

	snprintf(id, sizeof(id), "%s_%zu", prefix, i);
	put(r, (struct sample){.id = id, .body = str_of(body)});
}

static void test_one_transaction(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	put_numbered(r, "e", 1700);
	assert_true(await_settled(r, 1700));
	assert_int_equal(r->source.count[EVENT_STORED], 1700);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 1700);
	assert_int_equal(number(r, "SELECT count(DISTINCT event_id) FROM weir.events"), 1700);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.event_keys"), 1700);
	assert_int_equal(number(r, "SELECT count(DISTINCT xmin::text) FROM weir.events"), 1);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events e JOIN weir.event_keys k"
	                           " USING (uid)"),
	                 1700);
}

/* Of each four: known, known with another body, new, and new again. Keys lie in an order of their
 * own, so a fate that is taken from the wrong row shows. */
static void test_each_its_fate(void **state)
{
	struct rig *r = rig_of(state);
	static const enum event_fate want[4] = {EVENT_DUPLICATE, EVENT_DEAD, EVENT_STORED,
	                                        EVENT_DUPLICATE};

	NEED_SERVER();
	for (size_t i = 0; i < EACH; i++)
		put_one(r, "old", i, i % 2 ? "odd" : "even");
	assert_true(await_settled(r, EACH));
	for (size_t i = 0; i < EACH; i++) {
		put_one(r, "old", i, i % 2 ? "odd" : "even");
		put_one(r, "old", i, i % 2 ? "even" : "odd");
		put_one(r, "new", i, i % 2 ? "odd" : "even");
		put_one(r, "new", i, i % 2 ? "odd" : "even");
	}
	assert_true(await_settled(r, 5 * EACH));
	for (size_t i = 0; i < 4 * EACH; i++)
		assert_int_equal(r->source.fates[EACH + i], want[i % 4]);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 2 * EACH);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.dead_letters"), EACH);
}

/* Whichever statement it is in. */
static void test_one_that_is_refused(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	poison(r, "sick", "22023");
	put_numbered(r, "first", 1000);
	put_numbered(r, "sick", 1);
	put_numbered(r, "last", 400);
	assert_true(await_settled(r, 1401));
	assert_int_equal(r->source.count[EVENT_STORED], 1400);
	assert_int_equal(r->source.fates[1000], EVENT_DEAD);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 1400);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    LARGE_TEST(test_one_transaction),
	    LARGE_TEST(test_each_its_fate),
	    LARGE_TEST(test_one_that_is_refused),
	};

	if (!quiet_log("error"))
		return 2;
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
