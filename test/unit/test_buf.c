/* Appends, the cap, the error that stays, and JSON strings that jansson reads back. */
#include "torture.h"

#include <jansson.h>

#include "weir/base/buf.h"
#include "weir/base/rnd.h"

static void test_append(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	assert_null(b.ptr);
	buf_add(&b, "ab\0c", 4);
	buf_add_str(&b, STR("-str"));
	buf_add_cstr(&b, "-cstr");
	buf_add_char(&b, '!');
	buf_add(&b, NULL, 0);
	buf_add_int(&b, INT64_MIN);
	buf_add_int(&b, 0);
	buf_add_int(&b, INT64_MAX);
	assert_int_equal(buf_addf(&b, " %s=%d", "x", 5), ERR_OK);
	assert_true(str_eq(buf_str(&b), STR("ab\0c-str-cstr!-9223372036854775808"
	                                    "09223372036854775807 x=5")));
	assert_int_equal(b.ptr[b.len], 0);
	buf_consume(&b, 5);
	assert_true(str_starts(buf_str(&b), STR("str-")));
	buf_consume(&b, 5000);
	assert_int_equal(b.len, 0);
	assert_string_equal(b.ptr, "");
	buf_done(&b);
	buf_consume(&b, 1);
	assert_null(b.ptr);
}

static void test_empty_append_terminates(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 0);
	assert_int_equal(buf_add(&b, "", 0), ERR_OK);
	assert_string_equal(b.ptr, "");
	assert_int_equal(buf_add_char(&b, 'x'), ERR_TOOBIG);
	assert_string_equal(b.ptr, "");
	buf_done(&b);
}

static void test_cap_is_exact(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 100);
	for (int i = 0; i < 100; i++)
		assert_int_equal(buf_add_char(&b, 'x'), ERR_OK);
	assert_true(b.space <= 101);
	assert_int_equal(buf_add_char(&b, 'y'), ERR_TOOBIG);
	assert_int_equal(b.len, 100);
	assert_int_equal(b.ptr[100], 0);
	/* The error stays until the reset, even for what would fit. */
	buf_consume(&b, 50);
	assert_int_equal(buf_add_char(&b, 'y'), ERR_TOOBIG);
	assert_null(buf_take(&b, NULL));
	buf_reset(&b);
	assert_int_equal(b.err, ERR_OK);
	assert_int_equal(buf_add_char(&b, 'y'), ERR_OK);
	assert_string_equal(b.ptr, "y");
	assert_int_equal(buf_add(&b, b.ptr, SIZE_MAX), ERR_TOOBIG);
	buf_done(&b);
	buf_init(&b, SIZE_MAX);
	assert_int_equal(buf_reserve(&b, SIZE_MAX - 1), ERR_NOMEM);
	buf_done(&b);
}

static void test_format_at_the_edge(void **state)
{
	char text[200];
	struct buf b;

	(void)state;
	memset(text, 'z', sizeof(text));
	for (int n = 0; n < 199; n++) {
		buf_init(&b, 150);
		assert_int_equal(buf_addf(&b, "%.*s", n, text), n <= 150 ? ERR_OK : ERR_TOOBIG);
		assert_int_equal(b.len, n <= 150 ? n : 0);
		assert_int_equal(strlen(b.ptr), b.len);
		buf_done(&b);
	}
}

static void test_take(void **state)
{
	struct buf b;
	size_t len = 99;
	char *p;

	(void)state;
	buf_init(&b, 10);
	p = buf_take(&b, &len);
	assert_string_equal(p, "");
	assert_int_equal(len, 0);
	mem_free(p);
	buf_add_cstr(&b, "abc");
	p = buf_take(&b, &len);
	assert_string_equal(p, "abc");
	assert_int_equal(len, 3);
	assert_null(b.ptr);
	assert_int_equal(b.len, 0);
	mem_free(p);
	assert_int_equal(buf_add_cstr(&b, "0123456789"), ERR_OK);
	assert_int_equal(buf_add_cstr(&b, "0"), ERR_TOOBIG);
	buf_done(&b);
}

static void json_is(struct str in, const char *expected)
{
	struct buf b;

	buf_init(&b, 4096);
	assert_int_equal(buf_add_json(&b, in), ERR_OK);
	assert_string_equal(b.ptr, expected);
	buf_done(&b);
}

static void test_json_strings(void **state)
{
	(void)state;
	json_is(STR_NONE, "\"\"");
	json_is(STR("plain text of some length / with slash"),
	        "\"plain text of some length / with slash\"");
	json_is(STR("a\"b\\c\x7f"), "\"a\\\"b\\\\c\x7f\"");
	json_is(STR("\b\f\n\r\t\x01\x1f"), "\"\\b\\f\\n\\r\\t\\u0001\\u001f\"");
	json_is(str_n("a\0b", 3), "\"a\\u0000b\"");
	json_is(STR("gr\xc3\xbc\xc3\x9f \xf0\x9f\x8c\x8a"),
	        "\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x8c\x8a\"");
	/* Latin-1, and one stray byte makes the whole string so. */
	json_is(STR("gr\xfc\xdf"), "\"gr\xc3\xbc\xc3\x9f\"");
	json_is(STR("\xc3\xbc\xff"), "\"\xc3\x83\xc2\xbc\xc3\xbf\"");
	json_is(STR("\x80\xbf"), "\"\xc2\x80\xc2\xbf\"");
}

/* Every byte at every offset of the eight-byte stride, then random strings. */
static void test_json_against_jansson(void **state)
{
	char in[64];
	struct buf b;
	json_t *read;

	(void)state;
	rnd_seed(3);
	buf_init(&b, 4096);
	for (int i = 0; i < 256 * 20 + 5000; i++) {
		size_t len = rnd_below(sizeof(in)) + 1;

		for (size_t k = 0; k < len; k++)
			in[k] = (char)(i < 256 * 20 ? 'a' + k % 26 : rnd_below(128));
		if (i < 256 * 20)
			in[(size_t)i / 256 % len] = (char)i;
		buf_reset(&b);
		assert_int_equal(buf_add_json(&b, str_n(in, len)), ERR_OK);
		assert_true(str_is_utf8(buf_str(&b)));
		read = json_loadb(b.ptr, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		assert_non_null(read);
		if (str_is_utf8(str_n(in, len))) {
			assert_int_equal(json_string_length(read), len);
			assert_memory_equal(json_string_value(read), in, len);
		}
		json_decref(read);
	}
	buf_done(&b);
	rnd_seed(0);
}

static void test_json_over_the_cap(void **state)
{
	struct buf b;

	(void)state;
	for (size_t cap = 0; cap < 12; cap++) {
		buf_init(&b, cap);
		assert_int_equal(buf_add_json(&b, STR("\n\n\n")), cap < 8 ? ERR_TOOBIG : ERR_OK);
		assert_true(b.len <= cap);
		buf_done(&b);
		buf_init(&b, cap);
		assert_int_equal(buf_add_json(&b, STR("abcd")), cap < 6 ? ERR_TOOBIG : ERR_OK);
		buf_done(&b);
	}
}

static void scenario_append(void)
{
	struct buf b;
	char *taken;

	buf_init(&b, 100000);
	for (int i = 0; i < 200; i++)
		buf_addf(&b, "%d,", i);
	buf_add_json(&b, STR("some \"text\" \xff\n and more of it"));
	assert_true(b.err == ERR_OK || b.err == ERR_NOMEM);
	buf_reset(&b);
	buf_add_cstr(&b, "again");
	taken = buf_take(&b, NULL);
	mem_free(taken);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_append),
	    cmocka_unit_test(test_empty_append_terminates),
	    cmocka_unit_test(test_cap_is_exact),
	    cmocka_unit_test(test_format_at_the_edge),
	    cmocka_unit_test(test_take),
	    cmocka_unit_test(test_json_strings),
	    cmocka_unit_test(test_json_against_jansson),
	    cmocka_unit_test(test_json_over_the_cap),
	};
	const struct torture torture[] = {TORTURE(scenario_append)};

	return TESTS_OR_TORTURE(tests, torture);
}
