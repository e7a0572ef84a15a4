/* Growth, cap, jitter's range, and settings that make no sense. */
#include "torture.h"

#include <math.h>

#include "weir/base/backoff.h"
#include "weir/base/rnd.h"

static void test_growth_and_cap(void **state)
{
	struct backoff b = {100 * USEC_PER_MSEC, 3 * USEC_PER_SEC, 2, 0};

	(void)state;
	assert_int_equal(backoff_delay(&b, 0), 100000);
	assert_int_equal(backoff_delay(&b, 1), 200000);
	assert_int_equal(backoff_delay(&b, 4), 1600000);
	assert_int_equal(backoff_delay(&b, 5), 3000000);
	assert_int_equal(backoff_delay(&b, 5000), 3000000);
	assert_int_equal(backoff_delay(&b, UINT32_MAX), 3000000);
	b.initial = 10 * USEC_PER_SEC;
	assert_int_equal(backoff_delay(&b, 0), 3000000);
}

static void test_jitter_range(void **state)
{
	struct backoff b = {1000, 100000, 2, 0.25};
	usec_t least = INT64_MAX, most = 0, d;

	(void)state;
	rnd_seed(5);
	for (int i = 0; i < 5000; i++) {
		d = backoff_delay(&b, 1);
		least = d < least ? d : least;
		most = d > most ? d : most;
	}
	assert_in_range(least, 1500, 1510);
	assert_in_range(most, 1990, 2000);
	b.jitter = 1;
	for (int i = 0; i < 5000; i++)
		assert_in_range(backoff_delay(&b, 30), 0, 100000);
	rnd_seed(0);
}

static void test_senseless_settings(void **state)
{
	struct backoff none = {0, 0, 0, 0}, negative = {-5, 10, 2, 1},
	               shrinking = {50, 100, 0.1, 0};
	struct backoff endless = {1, INT64_MAX, INFINITY, 7}, nan = {50, 100, NAN, NAN};

	(void)state;
	assert_int_equal(backoff_delay(&none, 3), 0);
	assert_int_equal(backoff_delay(&negative, 3), 0);
	assert_int_equal(backoff_delay(&shrinking, 3), 50);
	assert_int_equal(backoff_delay(&nan, 3), 50);
	for (unsigned i = 0; i < 100; i++)
		assert_true(backoff_delay(&endless, i) >= 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_growth_and_cap),
	    cmocka_unit_test(test_jitter_range),
	    cmocka_unit_test(test_senseless_settings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
