/* What people write into settings: everything meant is taken, everything else refused. */
#include "torture.h"

#include <locale.h>

#include "weir/base/str.h"

static void test_compare_and_cut(void **state)
{
	struct str rest = STR("a,,b,");

	(void)state;
	assert_true(str_ieq(STR("X-Hub-SIGNATURE"), STR("x-hub-signature")));
	assert_false(str_ieq(STR("a"), STR("ab")));
	assert_false(str_ieq(STR("["), STR("{"))); /* differ by the case bit only */
	assert_true(str_ieq(STR_NONE, STR("")));
	assert_true(str_eq(STR_NONE, STR("")));
	assert_true(str_starts(STR("sha256=ab"), STR("sha256=")));
	assert_true(str_starts(STR("ab"), STR_NONE));
	assert_false(str_starts(STR("sha"), STR("sha256=")));
	assert_true(str_eq(str_trim(STR(" \t a b\t ")), STR("a b")));
	assert_int_equal(str_trim(STR(" \t ")).len, 0);
	assert_int_equal(str_trim(STR_NONE).len, 0);
	assert_true(str_eq(str_split(&rest, ','), STR("a")));
	assert_true(str_eq(str_split(&rest, ','), STR("")));
	assert_true(str_eq(str_split(&rest, ','), STR("b")));
	assert_non_null(rest.ptr);
	assert_true(str_eq(str_split(&rest, ','), STR("")));
	assert_null(rest.ptr);
	assert_int_equal(str_split(&rest, ',').len, 0);
}

static void int_is(const char *text, int64_t expected)
{
	int64_t v = ~expected;

	assert_int_equal(str_to_int(str_of(text), INT64_MIN, INT64_MAX, &v), ERR_OK);
	assert_true(v == expected);
}

static void test_int(void **state)
{
	static const char *const bad[] = {
	    "",
	    "-",
	    "+1",
	    " 1",
	    "1 ",
	    "1x",
	    "0x10",
	    "1.0",
	    "--1",
	    "9223372036854775808",
	    "-9223372036854775809",
	    "18446744073709551616",
	    "99999999999999999999999",
	};
	int64_t v = 42;

	(void)state;
	int_is("0", 0);
	int_is("-0", 0);
	int_is("007", 7);
	int_is("9223372036854775807", INT64_MAX);
	int_is("-9223372036854775808", INT64_MIN);
	for (size_t i = 0; i < TORTURE_LEN(bad); i++)
		assert_int_equal(str_to_int(str_of(bad[i]), INT64_MIN, INT64_MAX, &v), ERR_INVAL);
	assert_int_equal(str_to_int(str_n("1\0", 2), 0, 9, &v), ERR_INVAL);
	assert_int_equal(str_to_int(STR("10"), 0, 9, &v), ERR_INVAL);
	assert_int_equal(str_to_int(STR("-1"), 0, 9, &v), ERR_INVAL);
	assert_int_equal(v, 42);
	assert_int_equal(str_to_int(str_n("123", 1), 0, 9, &v), ERR_OK);
	assert_int_equal(v, 1);
}

static void test_bool(void **state)
{
	static const char *const yes[] = {"true", "1", "yes", "on", "True", "ON"};
	static const char *const no[] = {"false", "0", "no", "off", "FALSE"};
	static const char *const bad[] = {"", "2", "y", "truee", "tru", " on"};
	bool b;

	(void)state;
	for (size_t i = 0; i < TORTURE_LEN(yes); i++) {
		b = false;
		assert_int_equal(str_to_bool(str_of(yes[i]), &b), ERR_OK);
		assert_true(b);
	}
	for (size_t i = 0; i < TORTURE_LEN(no); i++) {
		b = true;
		assert_int_equal(str_to_bool(str_of(no[i]), &b), ERR_OK);
		assert_false(b);
	}
	for (size_t i = 0; i < TORTURE_LEN(bad); i++)
		assert_int_equal(str_to_bool(str_of(bad[i]), &b), ERR_INVAL);
}

static void double_is(const char *text, double expected)
{
	double v = -77;

	assert_int_equal(str_to_double(str_of(text), &v), ERR_OK);
	assert_true(v == expected);
}

static void test_double(void **state)
{
	static const char *const bad[] = {
	    "",      ".",      "-",   "1e", "1e+", "e5",    "0x1p3", "inf",      "nan",
	    "1e400", "-1e400", "1,5", " 1", "1 ",  "1.5.2", "1_0",   "infinity",
	};
	char huge[200];
	double v = 3;

	(void)state;
	double_is("0", 0);
	double_is("-1.5", -1.5);
	double_is("+2.25e2", 225);
	double_is(".5", 0.5);
	double_is("5.", 5);
	double_is("1e-400", 0);
	for (size_t i = 0; i < TORTURE_LEN(bad); i++)
		assert_int_equal(str_to_double(str_of(bad[i]), &v), ERR_INVAL);
	memset(huge, '1', sizeof(huge));
	assert_int_equal(str_to_double(str_n(huge, sizeof(huge)), &v), ERR_INVAL);
	assert_true(v == 3);
	if (setlocale(LC_NUMERIC, "de_DE.UTF-8"))
		double_is("1.5", 1.5);
	setlocale(LC_NUMERIC, "C");
}

static void usec_is(const char *text, usec_t expected)
{
	usec_t v = -1;

	assert_int_equal(str_to_usec(str_of(text), USEC_PER_SEC, &v), ERR_OK);
	assert_true(v == expected);
}

static void test_usec(void **state)
{
	static const char *const bad[] = {
	    "",           "s",
	    "-1s",        "1.5s",
	    "1 s",        "1sec",
	    "1w",         "9223372036854775808us",
	    "106751992d", "9223372036854776",
	    "1s1",
	};
	usec_t v = 8;

	(void)state;
	usec_is("250us", 250);
	usec_is("500ms", 500000);
	usec_is("30s", 30000000);
	usec_is("5m", 300 * USEC_PER_SEC);
	usec_is("24h", 86400 * USEC_PER_SEC);
	usec_is("7d", 7 * 86400 * USEC_PER_SEC);
	usec_is("3", 3000000);
	usec_is("0", 0);
	usec_is("9223372036854775807us", INT64_MAX);
	for (size_t i = 0; i < TORTURE_LEN(bad); i++)
		assert_int_equal(str_to_usec(str_of(bad[i]), USEC_PER_SEC, &v), ERR_INVAL);
	assert_int_equal(str_to_usec(STR("3"), 0, &v), ERR_INVAL);
	assert_int_equal(v, 8);
	assert_int_equal(str_to_usec(STR("3s"), 0, &v), ERR_OK);
	assert_int_equal(v, 3000000);
}

static void size_is(const char *text, uint64_t expected)
{
	uint64_t v = ~expected;

	assert_int_equal(str_to_size(str_of(text), &v), ERR_OK);
	assert_true(v == expected);
}

static void test_size(void **state)
{
	static const char *const bad[] = {
	    "", "k", "-1", "1KB", "1.5M", "1 M", "18446744073709551616", "17179869184G", "1PiB",
	};
	uint64_t v = 9;

	(void)state;
	size_is("0", 0);
	size_is("512", 512);
	size_is("64KiB", 65536);
	size_is("64k", 65536);
	size_is("26M", 26u << 20);
	size_is("26MiB", 26u << 20);
	size_is("2GiB", 2ull << 30);
	size_is("2g", 2ull << 30);
	size_is("1T", 1ull << 40);
	size_is("18446744073709551615", UINT64_MAX);
	for (size_t i = 0; i < TORTURE_LEN(bad); i++)
		assert_int_equal(str_to_size(str_of(bad[i]), &v), ERR_INVAL);
	assert_int_equal(v, 9);
}

static bool utf8_by_value(const unsigned char *p, size_t len)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t i = 0, n;
	uint32_t v;

	while (i < len) {
		n = p[i] < 0x80             ? 1
		    : (p[i] & 0xe0) == 0xc0 ? 2
		    : (p[i] & 0xf0) == 0xe0 ? 3
		    : (p[i] & 0xf8) == 0xf0 ? 4
		                            : 0;
		if (n == 0 || i + n > len)
			return false;
		v = n == 1 ? p[i] : p[i] & (0x7fu >> n);
		for (size_t k = 1; k < n; k++) {
			if ((p[i + k] & 0xc0) != 0x80)
				return false;
			v = v << 6 | (p[i + k] & 0x3f);
		}
		if (v < least[n] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
			return false;
		i += n;
	}
	return true;
}

/* Every first pair of bytes with tails from the edges, at each offset to the eight-byte stride. */
static void test_utf8_exhaustively(void **state)
{
	static const unsigned char tails[] = {0x7f, 0x80, 0xbf, 0xc0};
	unsigned char text[16];
	size_t len;

	(void)state;
	for (unsigned n = 0; n < 65536 * 16; n++) {
		size_t lead = n % 9;

		memset(text, 'a', sizeof(text));
		text[lead] = (unsigned char)(n >> 12);
		text[lead + 1] = (unsigned char)(n >> 4);
		text[lead + 2] = tails[n & 3];
		text[lead + 3] = tails[n >> 2 & 3];
		for (len = lead + 1; len <= lead + 4; len++) {
			bool utf8 = utf8_by_value(text, len), nul = memchr(text, 0, len);

			if (str_is_utf8(str_n(text, len)) != utf8 ||
			    str_is_text(str_n(text, len)) != (utf8 && !nul))
				fail_msg("%02x %02x %02x %02x", text[lead], text[lead + 1],
				         text[lead + 2], text[lead + 3]);
		}
	}
	assert_true(str_is_utf8(STR_NONE) && str_is_text(STR_NONE));
	assert_true(str_is_utf8(STR("na\xc3\xafve \xf0\x9f\x8c\x8a and more text")));
	assert_false(str_is_utf8(STR("plain for long, then \xff")));
}

/* One byte that is none of a plain text's, at each place of texts of each length. */
static void test_text_at_each_place(void **state)
{
	static const char odd[] = {0, 1, 0x7f, (char)0x80, (char)0xff};
	char text[40];

	(void)state;
	for (size_t len = 1; len <= sizeof(text); len++) {
		for (size_t i = 0; i < len * sizeof(odd); i++) {
			char c = odd[i % sizeof(odd)];

			memset(text, 'a', len);
			text[i / sizeof(odd)] = c;
			assert_int_equal(str_is_text(str_n(text, len)), c == 1 || c == 0x7f);
		}
	}
}

static void test_take_number(void **state)
{
	struct str s = STR("18446744073709551615-00000000000000000000000012x");
	uint64_t n;

	(void)state;
	assert_int_equal(str_take_number(&s, &n), ERR_OK);
	assert_true(n == UINT64_MAX && s.ptr[0] == '-');
	assert_int_equal(str_take_number(&s, &n), ERR_INVAL);
	s = str_n(s.ptr + 1, s.len - 1);
	assert_int_equal(str_take_number(&s, &n), ERR_OK);
	assert_true(n == 12 && str_eq(s, STR("x")));
	s = STR("18446744073709551616");
	assert_int_equal(str_take_number(&s, &n), ERR_INVAL);
	s = STR("99999999999999999999");
	assert_int_equal(str_take_number(&s, &n), ERR_INVAL);
	s = STR("9999999999999999999");
	assert_int_equal(str_take_number(&s, &n), ERR_OK);
	assert_true(n == UINT64_C(9999999999999999999) && s.len == 0);
	s = STR_NONE;
	assert_int_equal(str_take_number(&s, &n), ERR_INVAL);
}

/* Eight digits are read at once: no other byte passes at any place of them. */
static void number_up_to_each_byte(char *text, size_t len)
{
	for (size_t at = 0; at < len; at++)
		for (int c = 0; c < 256; c++) {
			char was = text[at];
			struct str s = str_n(text, len);
			uint64_t want = 0, got = 0;
			size_t digits = c >= '0' && c <= '9' ? s.len : at;

			text[at] = (char)c;
			for (size_t i = 0; i < digits; i++)
				want = want * 10 + (uint64_t)(text[i] - '0');
			assert_int_equal(str_take_number(&s, &got), digits ? ERR_OK : ERR_INVAL);
			assert_true(got == want);
			assert_int_equal(s.len, len - digits);
			text[at] = was;
		}
}

static void test_number_up_to_each_byte(void **state)
{
	char text[] = "1234567890123456789";

	(void)state;
	for (size_t len = 1; len < sizeof(text); len++)
		number_up_to_each_byte(text, len);
}

static void test_names(void **state)
{
	static const char *const good[] = {"a", "_", "A1_b", "db.table", "a.b.c"};
	static const char *const bad[] = {"",     "1a", "a-b",      "a b", ".a", "a.",
	                                  "a..b", "a`", "\xc3\xa9", "a.1", "a;b"};
	char much[129];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		assert_true(str_is_name(str_of(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(str_is_name(str_of(bad[i])));
	memset(much, 'a', sizeof(much));
	assert_true(str_is_name(str_n(much, 128)));
	assert_false(str_is_name(str_n(much, 129)));
}

/* Each byte at each place of texts of all lengths up to three words. */
static void test_json_plain(void **state)
{
	char text[24];

	(void)state;
	assert_true(str_is_json_plain(STR_NONE));
	for (size_t len = 1; len <= sizeof(text); len++) {
		for (size_t at = 0; at < len; at++) {
			for (int c = 0; c < 256; c++) {
				bool want = c >= 0x20 && c < 0x7f && c != '"' && c != '\\';

				memset(text, 'x', sizeof(text));
				text[at] = (char)c;
				assert_int_equal(str_is_json_plain(str_n(text, len)), want);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_take_number),
	    cmocka_unit_test(test_number_up_to_each_byte),
	    cmocka_unit_test(test_text_at_each_place),
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_compare_and_cut),
	    cmocka_unit_test(test_int),
	    cmocka_unit_test(test_bool),
	    cmocka_unit_test(test_double),
	    cmocka_unit_test(test_usec),
	    cmocka_unit_test(test_size),
	    cmocka_unit_test(test_utf8_exhaustively),
	    cmocka_unit_test(test_json_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
