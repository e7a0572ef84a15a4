/* The bucket with a clock of its own. */
#include "torture.h"

#include "weir/base/token_bucket.h"

#define START (1000 * USEC_PER_SEC)

static size_t take_all(struct token_bucket *b, const struct token_rate *r, usec_t now, usec_t *wait)
{
	size_t n = 0;

	while (token_bucket_take(b, r, now, wait))
		n++;
	return n;
}

static void test_burst_then_rate(void **state)
{
	const struct token_rate r = {10, 5};
	struct token_bucket b = {0};
	usec_t wait = 0;

	(void)state;
	assert_int_equal(take_all(&b, &r, START, &wait), 5);
	assert_int_equal(wait, 100 * USEC_PER_MSEC);
	assert_int_equal(take_all(&b, &r, START + 50 * USEC_PER_MSEC, &wait), 0);
	assert_int_equal(wait, 50 * USEC_PER_MSEC);
	assert_int_equal(take_all(&b, &r, START + 100 * USEC_PER_MSEC, &wait), 1);
	assert_int_equal(take_all(&b, &r, START + 400 * USEC_PER_MSEC, &wait), 3);
	/* An hour of rest does not add up. */
	assert_int_equal(take_all(&b, &r, START + 3600 * USEC_PER_SEC, &wait), 5);
}

static void test_slow_rate(void **state)
{
	const struct token_rate r = {1.0 / 60, 1};
	struct token_bucket b = {0};
	usec_t wait = 0;

	(void)state;
	assert_int_equal(take_all(&b, &r, START, &wait), 1);
	assert_in_range(wait, 60 * USEC_PER_SEC, 60 * USEC_PER_SEC + 1);
	/* What it says to wait is enough. */
	assert_int_equal(take_all(&b, &r, START + wait, &wait), 1);
}

static void test_long_run(void **state)
{
	const struct token_rate r = {100, 100};
	struct token_bucket b = {0};
	usec_t wait;
	size_t n = 0;

	(void)state;
	for (usec_t t = 0; t <= 10 * USEC_PER_SEC; t += 777)
		n += token_bucket_take(&b, &r, START + t, &wait);
	assert_in_range(n, 1098, 1101);
}

static void test_give_and_change(void **state)
{
	const struct token_rate r = {1, 2}, less = {1, 1};
	struct token_bucket b = {0};
	usec_t wait;

	(void)state;
	assert_int_equal(take_all(&b, &r, START, &wait), 2);
	token_bucket_give(&b);
	assert_int_equal(take_all(&b, &r, START, &wait), 1);
	for (int i = 0; i < 5; i++)
		token_bucket_give(&b);
	assert_int_equal(take_all(&b, &less, START, &wait), 1);
	/* A clock that stands or steps back gives nothing. */
	assert_int_equal(take_all(&b, &r, START - USEC_PER_SEC, &wait), 0);
	assert_int_equal(take_all(&b, &r, START, &wait), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_burst_then_rate), cmocka_unit_test(test_slow_rate),
	    cmocka_unit_test(test_long_run), cmocka_unit_test(test_give_and_change)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
