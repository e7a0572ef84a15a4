/* The seeded sequence repeats, the real one does not, and no range is skewed. */
#include "torture.h"

#include "weir/base/rnd.h"

static void test_seed_repeats(void **state)
{
	uint64_t first[8], again[8];

	(void)state;
	rnd_seed(7);
	for (int i = 0; i < 8; i++)
		first[i] = rnd_u64();
	rnd_seed(7);
	rnd_bytes(again, sizeof(again));
	assert_memory_equal(first, again, sizeof(first));
	rnd_seed(8);
	assert_int_not_equal(rnd_u64(), first[0]);
	rnd_seed(0);
	assert_int_not_equal(rnd_u64(), first[0]);
	assert_int_not_equal(rnd_u64(), rnd_u64());
}

static void test_more_than_the_pool(void **state)
{
	static unsigned char big[10001], zero[64];

	(void)state;
	rnd_bytes(big, 10000);
	assert_int_equal(big[10000], 0);
	for (size_t i = 0; i + sizeof(zero) <= 10000; i += sizeof(zero))
		assert_memory_not_equal(big + i, zero, sizeof(zero));
	rnd_bytes(big, 0);
}

static void test_below_is_even(void **state)
{
	int hits[6] = {0};
	int high = 0;

	(void)state;
	rnd_seed(99);
	assert_int_equal(rnd_below(1), 0);
	for (int i = 0; i < 60000; i++)
		hits[rnd_below(6)]++;
	for (int i = 0; i < 6; i++)
		assert_in_range(hits[i], 9500, 10500);
	/* With plain modulo, two thirds would fall into the lower half here. */
	for (int i = 0; i < 10000; i++)
		high += rnd_below(UINT64_MAX / 3 * 2) > UINT64_MAX / 3;
	assert_in_range(high, 4700, 5300);
	rnd_seed(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_seed_repeats),
	    cmocka_unit_test(test_more_than_the_pool),
	    cmocka_unit_test(test_below_is_even),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
