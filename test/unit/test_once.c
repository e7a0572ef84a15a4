/* Tokens in memory: whose they are, for how long, and how many. With Redis: test_certified.py. */
#include "torture.h"

#include "weir/base/clock.h"
#include "weir/receive/once.h"

static usec_t now = 1000 * USEC_PER_SEC;

static usec_t mono(void)
{
	return now;
}

static void never(void *arg, enum err e)
{
	(void)arg;
	(void)e;
	fail_msg("nobody had to wait");
}

static struct once_key key(const char *token, const char *body)
{
	struct once_key k;

	assert_int_equal(once_key_make(STR("t"), str_of(token), str_of(body), &k), ERR_OK);
	return k;
}

static enum err claim(struct once *s, const char *token, const char *body)
{
	struct once_key k = key(token, body);

	return once_claim(s, &k, 60 * USEC_PER_SEC, never, NULL);
}

static void settle(struct once *s, const char *token, const char *body, bool accepted)
{
	struct once_key k = key(token, body);

	once_settle(s, &k, accepted);
}

static int setup(void **state)
{
	clock_set_source(mono, NULL);
	return once_new(&(struct once_options){.redis = NULL}, (struct once **)state) == ERR_OK
	           ? 0
	           : -1;
}

static int teardown(void **state)
{
	clock_set_source(NULL, NULL);
	once_free(*state);
	return 0;
}

static void test_claims(void **state)
{
	struct once *s = *state;

	assert_int_equal(claim(s, "a", "1"), ERR_OK);
	assert_int_equal(claim(s, "a", "2"), ERR_CONFLICT);
	assert_int_equal(claim(s, "b", "2"), ERR_OK);
	assert_int_equal(claim(s, "a", "1"), ERR_OK);
	settle(s, "a", "1", false); /* the other one still has it */
	assert_int_equal(claim(s, "a", "2"), ERR_CONFLICT);
	settle(s, "a", "1", false);
	assert_int_equal(claim(s, "a", "2"), ERR_OK);
	settle(s, "a", "2", true);
	settle(s, "b", "2", true);
	assert_int_equal(claim(s, "a", "1"), ERR_CONFLICT);
	assert_int_equal(claim(s, "a", "2"), ERR_OK);
	settle(s, "a", "2", false); /* a retry that failed takes nothing away */
	assert_int_equal(claim(s, "a", "1"), ERR_CONFLICT);
	assert_int_equal(once_count(s), 2);
}

static void test_expiry(void **state)
{
	struct once *s = *state;

	assert_int_equal(claim(s, "a", "1"), ERR_OK);
	settle(s, "a", "1", true);
	now += 60 * USEC_PER_SEC - 1;
	assert_int_equal(claim(s, "a", "2"), ERR_CONFLICT);
	now++;
	assert_int_equal(claim(s, "a", "2"), ERR_OK);
	now += 120 * USEC_PER_SEC; /* what waits for its end is kept */
	assert_int_equal(claim(s, "a", "1"), ERR_CONFLICT);
	settle(s, "a", "2", true);
}

static void test_bound(void **state)
{
	struct once *s = *state;

	for (int i = 0; i < ONCE_MAX + 10; i++) {
		char token[20];

		snprintf(token, sizeof(token), "%d", i);
		assert_int_equal(claim(s, token, "1"), ERR_OK);
		settle(s, token, "1", true);
	}
	assert_true(once_count(s) <= ONCE_MAX);
	assert_int_equal(claim(s, "100", "2"), ERR_CONFLICT);
	assert_int_equal(claim(s, "0", "2"), ERR_OK);
	settle(s, "0", "2", false);
}

static void scenario_claims(void)
{
	struct once_key k;
	struct once *s;

	if (once_new(&(struct once_options){.prefix = "p:"}, &s) != ERR_OK)
		return;
	if (once_key_make(STR("t"), STR("a"), STR("b"), &k) == ERR_OK &&
	    once_claim(s, &k, USEC_PER_SEC, never, NULL) == ERR_OK)
		once_settle(s, &k, true);
	once_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_claims, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_expiry, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_bound, setup, teardown),
	};
	const struct torture torture[] = {TORTURE(scenario_claims)};

	return TESTS_OR_TORTURE(tests, torture);
}
