/* Sources can be replaced; dates agree with the C library's over the whole range. */
#include "torture.h"

#include <time.h>

#include "weir/base/clock.h"
#include "weir/base/rnd.h"

static usec_t fixed_mono(void)
{
	return 17;
}

static usec_t fixed_wall(void)
{
	return -5;
}

static void test_sources(void **state)
{
	usec_t mono = clock_mono();

	(void)state;
	assert_true(clock_mono() >= mono);
	assert_true(clock_wall() / USEC_PER_SEC - (usec_t)time(NULL) <= 1);
	assert_true(clock_wall() > 1700000000 * USEC_PER_SEC);
	clock_set_source(fixed_mono, fixed_wall);
	assert_int_equal(clock_mono(), 17);
	assert_int_equal(clock_wall(), -5);
	clock_set_source(NULL, NULL);
	assert_true(clock_mono() >= mono);
}

static void check(usec_t wall, const char *expected)
{
	char text[CLOCK_RFC3339_LEN];

	clock_rfc3339(wall, text);
	assert_string_equal(text, expected);
}

static void test_known_dates(void **state)
{
	(void)state;
	check(0, "1970-01-01T00:00:00.000Z");
	check(-1, "1969-12-31T23:59:59.999Z");
	check(1769854830123999, "2026-01-31T10:20:30.123Z");
	check(951782400 * USEC_PER_SEC, "2000-02-29T00:00:00.000Z");
	check(4107542400 * USEC_PER_SEC, "2100-03-01T00:00:00.000Z");
	check(INT64_MAX, "9999-12-31T23:59:59.999Z");
	check(INT64_MIN, "0000-01-01T00:00:00.000Z");
}

static void test_agrees_with_libc(void **state)
{
	char text[CLOCK_RFC3339_LEN], expected[64];
	struct tm tm;
	time_t t;

	(void)state;
	rnd_seed(4);
	for (int i = 0; i < 20000; i++) {
		t = (time_t)rnd_below(253402300800u + 62135596800u) - 62135596800;
		assert_non_null(gmtime_r(&t, &tm));
		strftime(expected, sizeof(expected), "-%m-%dT%H:%M:%S.000Z", &tm);
		clock_rfc3339((usec_t)t * USEC_PER_SEC, text);
		assert_int_equal(strtol(text, NULL, 10), tm.tm_year + 1900);
		assert_string_equal(text + 4, expected);
	}
	rnd_seed(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sources),
	    cmocka_unit_test(test_known_dates),
	    cmocka_unit_test(test_agrees_with_libc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
