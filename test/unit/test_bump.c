/* Blocks hold what is written to them, chunks come back, and one block that stays is not the memory
 * of all that came with it. */
#include "torture.h"

#include "weir/base/bump.h"
#include "weir/base/mem.h"

#define MIB    ((size_t)1024 * 1024)
#define BLOCKS 5000

static void fill(unsigned char *p, size_t n, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)(n + i);
}

static bool holds(const unsigned char *p, size_t n, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != (unsigned char)(n + i))
			return false;
	return true;
}

static size_t size_of(size_t n)
{
	return n % 50 == 0 ? 20000 : n * 37 % 3000;
}

/* In windows of 300 that are freed front to back, from the middle, or back to front. */
static void test_blocks_keep_what_is_written(void **state)
{
	size_t before = mem_used();
	unsigned char *p[300];

	(void)state;
	for (size_t round = 0; round < 40; round++) {
		for (size_t i = 0; i < 300; i++) {
			p[i] = bump_alloc(size_of(round + i));
			assert_non_null(p[i]);
			assert_int_equal((uintptr_t)p[i] % 16, 0);
			fill(p[i], i, size_of(round + i));
		}
		for (size_t i = 0; i < 300; i++) {
			size_t at = round % 3 == 0 ? i : round % 3 == 1 ? (i + 150) % 300 : 299 - i;

			assert_true(holds(p[at], at, size_of(round + at)));
			bump_free(p[at]);
		}
	}
	bump_free(NULL);
	assert_int_equal(mem_used(), before);
}

/* As in a flood: a thousand live at a time, and many times that pass through. */
static void test_chunks_are_used_again(void **state)
{
	size_t before = mem_used(), most = 0;
	void *p[1000] = {NULL};

	(void)state;
	for (size_t i = 0; i < 100 * 1000; i++) {
		bump_free(p[i % 1000]);
		p[i % 1000] = bump_alloc(1500);
		assert_non_null(p[i % 1000]);
		most = mem_used() > most ? mem_used() : most;
	}
	assert_true(most - before < 2 * MIB);
	for (size_t i = 0; i < 1000; i++)
		bump_free(p[i]);
	assert_int_equal(mem_used(), before);
}

/* One of forty stays: their chunks are not kept for them alone. */
static void test_those_that_stay(void **state)
{
	static void *stay[BLOCKS];
	size_t before = mem_used();
	void *p[40];

	(void)state;
	for (size_t i = 0; i < BLOCKS; i++) {
		for (size_t k = 0; k < 40; k++) {
			p[k] = bump_alloc(1500);
			assert_non_null(p[k]);
		}
		stay[i] = p[0];
		for (size_t k = 1; k < 40; k++)
			bump_free(p[k]);
	}
	/* They are 7.3 MiB. */
	assert_true(mem_used() - before < 3 * 8 * MIB);
	for (size_t i = 0; i < BLOCKS; i++)
		bump_free(stay[i]);
	assert_int_equal(mem_used(), before);
}

static void test_too_large(void **state)
{
	(void)state;
	assert_null(bump_alloc(SIZE_MAX));
	assert_null(bump_alloc(SIZE_MAX - 16));
	assert_null(bump_alloc(PTRDIFF_MAX));
}

static void scenario_some(void)
{
	void *p[100];

	for (size_t i = 0; i < 100; i++)
		p[i] = bump_alloc(size_of(i));
	for (size_t i = 0; i < 100; i++)
		bump_free(p[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_blocks_keep_what_is_written),
	    cmocka_unit_test(test_chunks_are_used_again),
	    cmocka_unit_test(test_those_that_stay),
	    cmocka_unit_test(test_too_large),
	};
	const struct torture torture[] = {TORTURE(scenario_some)};

	return TESTS_OR_TORTURE(tests, torture);
}
