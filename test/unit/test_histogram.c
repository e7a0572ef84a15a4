/* Quantiles against a sorted array; the buckets' edges; the error that the header promises. */
#include "torture.h"

#include "weir/base/histogram.h"
#include "weir/base/rnd.h"

static struct histogram h;

static int setup(void **state)
{
	(void)state;
	memset(&h, 0, sizeof(h));
	return 0;
}

static void test_empty(void **state)
{
	(void)state;
	assert_int_equal(histogram_quantile(&h, 0.5), 0);
	assert_true(histogram_mean(&h) == 0);
}

static void test_one_value(void **state)
{
	(void)state;
	histogram_add(&h, 12345);
	assert_int_equal(histogram_quantile(&h, 0), 12345);
	assert_int_equal(histogram_quantile(&h, 0.5), 12345);
	assert_int_equal(histogram_quantile(&h, 1), 12345);
	assert_true(histogram_mean(&h) == 12345);
}

static void test_small_values_are_exact(void **state)
{
	(void)state;
	for (int i = 1; i <= 100; i++)
		histogram_add(&h, i);
	assert_int_equal(histogram_quantile(&h, 0.01), 1);
	assert_int_equal(histogram_quantile(&h, 0.5), 50);
	assert_int_equal(histogram_quantile(&h, 0.501), 51);
	assert_int_equal(histogram_quantile(&h, 1), 100);
}

static void test_out_of_range(void **state)
{
	(void)state;
	histogram_add(&h, -7);
	assert_int_equal(histogram_quantile(&h, 1), 0);
	histogram_add(&h, INT64_MAX);
	assert_int_equal(h.max, HISTOGRAM_MAX);
	assert_int_equal(histogram_quantile(&h, 1), HISTOGRAM_MAX);
}

/* Each power of two and its neighbours: never below the value, at most 1/64 above. */
static void test_error_is_bounded(void **state)
{
	(void)state;
	for (int bit = 0; bit < 40; bit++) {
		for (int64_t d = -1; d <= 1; d++) {
			int64_t v = ((int64_t)1 << bit) + d, q;

			memset(&h, 0, sizeof(h));
			histogram_add(&h, v);
			histogram_add(&h, HISTOGRAM_MAX);
			q = histogram_quantile(&h, 0.5);
			assert_true(q >= v && q <= v + v / 64);
		}
	}
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static void test_against_sorting(void **state)
{
	static int64_t values[20000];
	const size_t n = sizeof(values) / sizeof(values[0]);
	const double shares[] = {0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1};

	(void)state;
	rnd_seed(1);
	for (size_t i = 0; i < n; i++) {
		values[i] = (int64_t)(rnd_u64() >> (24 + rnd_below(39)));
		histogram_add(&h, values[i]);
	}
	rnd_seed(0);
	qsort(values, n, sizeof(values[0]), compare);
	for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
		size_t at = (size_t)(shares[i] * (double)n + 0.9999);
		int64_t want = values[at ? at - 1 : 0], got = histogram_quantile(&h, shares[i]);

		assert_true(got >= want && got <= want + want / 64);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_empty, setup),
	    cmocka_unit_test_setup(test_one_value, setup),
	    cmocka_unit_test_setup(test_small_values_are_exact, setup),
	    cmocka_unit_test_setup(test_out_of_range, setup),
	    cmocka_unit_test_setup(test_error_is_bounded, setup),
	    cmocka_unit_test_setup(test_against_sorting, setup),
	};

	if (getenv("WEIR_TORTURE"))
		return 0; /* allocates nothing */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
