/* Row 19 of the fault matrix: gzip data that are a bomb, nested, truncated, or followed by more. */
#include "torture.h"

#include "gzip_make.h"

#include "weir/base/gzip.h"

#define MAX ((uint64_t)8 << 20)

static struct buf out;

static int setup(void **state)
{
	(void)state;
	buf_init(&out, MAX + (128 << 10));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	buf_done(&out);
	return 0;
}

static enum gzip_verdict run(struct str in, uint64_t max)
{
	/* A block of its own, so that reading past it shows. */
	char *copy = malloc(in.len ? in.len : 1);
	enum gzip_verdict v;

	assert_non_null(copy);
	if (in.len)
		memcpy(copy, in.ptr, in.len);
	v = gzip_decode(str_n(copy, in.len), max, &out);
	free(copy);
	return v;
}

static void test_whole(void **state)
{
	struct str plain = STR("{\"id\":\"e-1\",\"type\":\"gate.opened\"}");
	struct str z = gzip_make(plain, 1), empty = gzip_make(STR(""), 1),
	           many = gzip_make(plain, 3000);

	(void)state;
	assert_int_equal(run(z, MAX), GZIP_OK);
	assert_true(str_eq(buf_str(&out), plain));
	assert_int_equal(run(empty, MAX), GZIP_OK);
	assert_int_equal(out.len, 0);
	assert_int_equal(run(many, MAX), GZIP_OK);
	assert_int_equal(out.len, 3000 * plain.len);
	/* To the byte. */
	assert_int_equal(run(many, 3000 * plain.len), GZIP_OK);
	assert_int_equal(run(many, 3000 * plain.len - 1), GZIP_TOO_LARGE);
	free((char *)(uintptr_t)z.ptr);
	free((char *)(uintptr_t)empty.ptr);
	free((char *)(uintptr_t)many.ptr);
}

static void test_row19_truncated(void **state)
{
	struct str z = gzip_make(STR("some text, some text, some more text"), 20);

	(void)state;
	for (size_t n = 0; n < z.len; n++)
		if (run(str_n(z.ptr, n), MAX) != GZIP_TRUNCATED)
			fail_msg("cut at %zu", n);
	free((char *)(uintptr_t)z.ptr);
}

static void test_row19_trailing(void **state)
{
	struct str z = gzip_make(STR("text"), 1);
	char *two = malloc(2 * z.len);

	(void)state;
	assert_non_null(two);
	memcpy(two, z.ptr, z.len);
	two[z.len] = '\0';
	assert_int_equal(run(str_n(two, z.len + 1), MAX), GZIP_TRAILING);
	memcpy(two + z.len, z.ptr, z.len); /* a second member is no less */
	assert_int_equal(run(str_n(two, 2 * z.len), MAX), GZIP_TRAILING);
	free(two);
	free((char *)(uintptr_t)z.ptr);
}

static void test_row19_nested(void **state)
{
	struct str inner = gzip_make(STR("text"), 1), outer = gzip_make(inner, 1);

	(void)state;
	assert_int_equal(run(outer, MAX), GZIP_NESTED);
	free((char *)(uintptr_t)inner.ptr);
	free((char *)(uintptr_t)outer.ptr);
}

static void test_row19_bomb(void **state)
{
	static char zeros[1 << 20];
	struct str z = gzip_make(str_n(zeros, sizeof(zeros)), 64), one;
	size_t before = mem_used();

	(void)state;
	assert_true(z.len < 128 * 1024);
	assert_int_equal(run(z, MAX), GZIP_RATIO);
	/* It was given up where it was seen to be one. */
	assert_true(out.len < 16 * GZIP_RATIO_FLOOR);
	assert_true(mem_used() - before < 2 * MAX);
	free((char *)(uintptr_t)z.ptr);
	/* Small ones may be as regular as they like. */
	one = gzip_make(str_n(zeros, sizeof(zeros)), 1);
	assert_int_equal(run(one, MAX), GZIP_OK);
	free((char *)(uintptr_t)one.ptr);
}

/* Bits that mean nothing to us may be as they like; the content may not. */
static void test_row19_damaged(void **state)
{
	struct str plain = STR("{\"a\":1234567890}"), z = gzip_make(plain, 1);
	char *bad = malloc(z.len);

	(void)state;
	assert_non_null(bad);
	for (size_t bit = 0; bit < 8 * z.len; bit++) {
		memcpy(bad, z.ptr, z.len);
		bad[bit / 8] = (char)(bad[bit / 8] ^ 1 << bit % 8);
		if (run(str_n(bad, z.len), MAX) == GZIP_OK && !str_eq(buf_str(&out), plain))
			fail_msg("bit %zu", bit);
	}
	memcpy(bad, z.ptr, z.len);
	bad[z.len - 8] ^= 1; /* the check sum */
	assert_int_equal(run(str_n(bad, z.len), MAX), GZIP_MALFORMED);
	assert_int_equal(run(STR("plain text"), MAX), GZIP_MALFORMED);
	assert_int_equal(run(STR("\x78\x9c\x03\x00\x00\x00\x00\x01"), MAX), GZIP_MALFORMED);
	free(bad);
	free((char *)(uintptr_t)z.ptr);
}

static void scenario_decode(void)
{
	struct str z = gzip_make(STR("0123456789abcdef"), 20000);
	struct buf b;

	buf_init(&b, MAX);
	switch (gzip_decode(z, MAX / 2, &b)) {
	case GZIP_OK:
		assert_int_equal(b.len, 16 * 20000);
		break;
	case GZIP_NOMEM:
		break;
	case GZIP_MALFORMED:
	case GZIP_TRUNCATED:
	case GZIP_TRAILING:
	case GZIP_NESTED:
	case GZIP_TOO_LARGE:
	case GZIP_RATIO:
	case GZIP_MORE:
		fail();
	}
	buf_done(&b);
	free((char *)(uintptr_t)z.ptr);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_whole),        TEST(test_row19_truncated), TEST(test_row19_trailing),
	    TEST(test_row19_nested), TEST(test_row19_bomb),      TEST(test_row19_damaged),
	};
	const struct torture torture[] = {TORTURE(scenario_decode)};

	return TESTS_OR_TORTURE(tests, torture);
}
