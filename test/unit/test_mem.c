/* The count follows every way a block can come, change and go; the chosen allocation fails, once.
 */
#include "torture.h"

#include "weir/base/mem.h"

static void test_count_follows_blocks(void **state)
{
	size_t before = mem_used();
	char *p = mem_alloc(1000);

	(void)state;
	assert_non_null(p);
	assert_true(mem_used() >= before + 1000);
	p = mem_realloc(p, 100000);
	assert_non_null(p);
	assert_true(mem_used() >= before + 100000);
	assert_true(mem_used() < before + 200000);
	assert_true(mem_peak() >= before + 100000);
	p = mem_realloc(p, 10);
	assert_non_null(p);
	assert_true(mem_used() < before + 100000);
	mem_free(p);
	assert_int_equal(mem_used(), before);
	mem_free(NULL);
	mem_wipe_free(NULL, 0);
	assert_int_equal(mem_used(), before);
}

static void test_zeroed_and_copied(void **state)
{
	size_t before = mem_used();
	unsigned char *z = mem_zalloc(64), *a = mem_array(8, 8), *d = mem_dup("ab\0c", 4);
	char *s = mem_strdup("hello"), *empty = mem_dup(NULL, 0);

	(void)state;
	for (int i = 0; i < 64; i++)
		assert_int_equal(z[i] | a[i], 0);
	assert_memory_equal(d, "ab\0c\0", 5);
	assert_string_equal(s, "hello");
	assert_string_equal(empty, "");
	mem_free(z);
	mem_free(a);
	mem_free(d);
	mem_wipe_free(s, 5);
	mem_free(empty);
	assert_int_equal(mem_used(), before);
}

static void test_size_zero_is_a_pointer(void **state)
{
	void *a = mem_alloc(0), *b = mem_alloc(0), *c = mem_array(0, 8), *d = mem_zalloc(0);
	void *e = mem_realloc(NULL, 0);

	(void)state;
	assert_true(a && b && c && d && e && a != b);
	a = mem_realloc(a, 0);
	assert_non_null(a);
	mem_free(a);
	mem_free(b);
	mem_free(c);
	mem_free(d);
	mem_free(e);
}

static void test_array_refuses_overflow(void **state)
{
	uint64_t before = mem_failures();
	size_t used = mem_used();

	(void)state;
	assert_null(mem_array(SIZE_MAX / 2, 3));
	assert_null(mem_dup("", SIZE_MAX));
	assert_int_equal(mem_used(), used);
	assert_true(mem_failures() > before);
}

static void test_nth_fails_once(void **state)
{
	uint64_t before = mem_failures();
	char *p = mem_alloc(8);
	void *q;

	(void)state;
	memcpy(p, "1234567", 8);
	mem_fail_nth(2);
	q = mem_alloc(8);
	assert_non_null(q);
	assert_null(mem_realloc(p, 4096));
	assert_string_equal(p, "1234567");
	p = mem_realloc(p, 4096);
	assert_non_null(p);
	assert_int_equal(mem_fail_count(), 3);
	assert_int_equal(mem_failures(), before + 1);
	mem_fail_nth(1);
	assert_null(mem_zalloc(1));
	mem_fail_nth(1);
	assert_null(mem_array(1, 1));
	mem_fail_nth(1);
	assert_null(mem_strdup("x"));
	mem_fail_nth(0);
	mem_free(p);
	mem_free(q);
}

static void test_the_bound_counts_what_libraries_hold(void **state)
{
	size_t used = mem_used(), mib = 1024 * 1024;

	(void)state;
	assert_true(mem_fits(SIZE_MAX, 1)); /* no bound */
	mem_set_limit(16 * mib);
	assert_true(mem_fits(4 * mib - used, 2));
	assert_false(mem_fits(4 * mib - used + 1, 2));
	mem_note_foreign((ptrdiff_t)(3 * mib));
	assert_true(mem_fits(mib - used, 2));
	assert_false(mem_fits(mib - used + 1, 2));
	assert_true(mem_fits(13 * mib - used, 8));
	mem_note_foreign((ptrdiff_t)(2 * mib));
	assert_false(mem_fits(0, 2));
	assert_false(mem_fits(SIZE_MAX, 8));
	mem_note_foreign(-(ptrdiff_t)(5 * mib));
	assert_true(mem_fits(0, 2));
	mem_trim();
	mem_set_limit(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_count_follows_blocks),
	    cmocka_unit_test(test_zeroed_and_copied),
	    cmocka_unit_test(test_size_zero_is_a_pointer),
	    cmocka_unit_test(test_array_refuses_overflow),
	    cmocka_unit_test(test_nth_fails_once),
	    cmocka_unit_test(test_the_bound_counts_what_libraries_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
