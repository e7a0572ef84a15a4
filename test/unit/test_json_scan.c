/* The scanner: what it accepts, what it picks, where it stops. jansson is the oracle in
 * fuzz_json_scan; here stand the cases with a meaning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "weir/base/json_scan.h"
#include "weir/base/mem.h"

static enum err scan(struct str text)
{
	/* An exact copy on the heap, so that ASan sees a read behind the end. */
	char *copy = mem_alloc(text.len ? text.len : 1);
	enum err e;

	assert_non_null(copy);
	if (text.len)
		memcpy(copy, text.ptr, text.len);
	e = json_scan(str_n(copy, text.len), NULL, NULL, NULL);
	mem_free(copy);
	return e;
}

static void test_valid(void **state)
{
	static const char *const good[] = {
	    "null",
	    "true",
	    "false",
	    "0",
	    "-0",
	    "-0.0e-10",
	    "1e400",
	    "123456789012345678901234567890",
	    "\"\"",
	    "\"a\\u0000b\"",
	    "\"\\ud800\"",
	    "[]",
	    "{}",
	    "[ ]",
	    "{ }",
	    " [1 , 2] \r\n\t",
	    "{\"a\":1,\"a\":2}",
	    "{\"\":0}",
	    "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"",
	    "[[[[]]],{\"a\":[{}]}]",
	    "\"0123456789abcdef0123456789abcdef\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
	    "\"\x7f\"",
	    "1.5E+3"};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (scan(str_of(good[i])) != ERR_OK)
			fail_msg("refused: %s", good[i]);
}

static void test_invalid(void **state)
{
	static const char *const bad[] = {"",
	                                  " ",
	                                  "nul",
	                                  "nulll",
	                                  "True",
	                                  "01",
	                                  "-",
	                                  "+1",
	                                  "1.",
	                                  ".5",
	                                  "1e",
	                                  "1e+",
	                                  "0x10",
	                                  "NaN",
	                                  "\"",
	                                  "\"a",
	                                  "\"\\x\"",
	                                  "\"\\u12g4\"",
	                                  "\"\\u123",
	                                  "\"\t\"",
	                                  "\"\n\"",
	                                  "'a'",
	                                  "[",
	                                  "]",
	                                  "[1,]",
	                                  "[,1]",
	                                  "[1 2]",
	                                  "{",
	                                  "}",
	                                  "{\"a\"}",
	                                  "{\"a\":}",
	                                  "{\"a\":1,}",
	                                  "{a:1}",
	                                  "{1:1}",
	                                  "{,}",
	                                  "[}",
	                                  "{]",
	                                  "[1]]",
	                                  "1 2",
	                                  "\xef\xbb\xbf{}",
	                                  "\"\x80\"",
	                                  "\"\xc0\xaf\"",
	                                  "\"\xed\xa0\x80\"",
	                                  "\"\xf4\x90\x80\x80\"",
	                                  "\"\xe2\x82\"",
	                                  "\"\xc3\"",
	                                  "[1]\x0c",
	                                  "/**/1",
	                                  "\"\\",
	                                  "\"0123456789abcde\x01\""};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (scan(str_of(bad[i])) != ERR_INVAL)
			fail_msg("accepted: %s", bad[i]);
	assert_int_equal(scan(STR("\"a\0b\"")), ERR_INVAL);
	assert_int_equal(scan(STR("1\0")), ERR_INVAL);
	assert_int_equal(json_scan(STR_NONE, NULL, NULL, NULL), ERR_INVAL);
}

static void test_depth(void **state)
{
	static char deep[200001];
	size_t offset = 0;

	(void)state;
	for (size_t n = JSON_SCAN_DEPTH - 1; n <= JSON_SCAN_DEPTH + 1; n++) {
		memset(deep, '[', n);
		memset(deep + n, ']', n);
		assert_int_equal(json_scan(str_n(deep, 2 * n), NULL, NULL, &offset),
		                 n <= JSON_SCAN_DEPTH ? ERR_OK : ERR_TOOBIG);
	}
	assert_int_equal(offset, JSON_SCAN_DEPTH);
	memset(deep, '[', 100000);
	memset(deep + 100000, ']', 100000);
	assert_int_equal(json_scan(str_n(deep, 200000), NULL, NULL, NULL), ERR_TOOBIG);
}

static void test_offset(void **state)
{
	size_t at = 99;

	(void)state;
	assert_int_equal(json_scan(STR("{\"a\": tru}"), NULL, NULL, &at), ERR_INVAL);
	assert_int_equal(at, 6);
	assert_int_equal(json_scan(STR("[1,2"), NULL, NULL, &at), ERR_INVAL);
	assert_int_equal(at, 4);
}

#define MAX_PICKS 8

static struct json_paths *compile(const char *const *names, size_t n)
{
	struct str paths[MAX_PICKS];
	struct json_paths *p = NULL;

	for (size_t i = 0; i < n; i++)
		paths[i] = str_of(names[i]);
	assert_int_equal(json_paths_new(paths, n, &p), ERR_OK);
	return p;
}

/* The raw text of one path in one text; NULL when absent. Static memory. */
static const char *pick(const char *path, const char *text, enum json_kind *ret_kind)
{
	static char out[256];
	struct json_paths *p = compile(&path, 1);
	struct json_pick picked;

	assert_int_equal(json_scan(str_of(text), p, &picked, NULL), ERR_OK);
	json_paths_free(p);
	*ret_kind = picked.kind;
	if (picked.kind == JSON_KIND_ABSENT)
		return NULL;
	assert_true(picked.raw.len < sizeof(out));
	memcpy(out, picked.raw.ptr, picked.raw.len);
	out[picked.raw.len] = '\0';
	return out;
}

static void test_picks(void **state)
{
	static const struct {
		const char *path, *text;
		enum json_kind kind;
		const char *raw;
	} cases[] = {
	    {"id", "{\"id\":\"e1\"}", JSON_KIND_STRING, "\"e1\""},
	    {"id", " { \"x\" : 1 , \"id\" : 12.5e3 } ", JSON_KIND_NUMBER, "12.5e3"},
	    {"a.b.c", "{\"a\":{\"b\":{\"c\":true}}}", JSON_KIND_BOOL, "true"},
	    {"a.b", "{\"a\":{\"b\":{\"c\":[1, 2]}}}", JSON_KIND_OBJECT, "{\"c\":[1, 2]}"},
	    {"a", "{\"a\":[ ]}", JSON_KIND_ARRAY, "[ ]"},
	    {"a", "{\"a\":null}", JSON_KIND_NULL, "null"},
	    {"a.b", "{\"a\":[{\"b\":1}]}", JSON_KIND_ABSENT, NULL},
	    {"0.b", "[{\"b\":7},{\"b\":8}]", JSON_KIND_NUMBER, "7"},
	    {"1.b", "[{\"b\":7},{\"b\":8}]", JSON_KIND_NUMBER, "8"},
	    {"2.b", "[{\"b\":7},{\"b\":8}]", JSON_KIND_ABSENT, NULL},
	    {"a.1.0", "{\"a\":[0,[5,6]]}", JSON_KIND_NUMBER, "5"},
	    {"id", "{\"id\":1,\"id\":2}", JSON_KIND_NUMBER, "2"},
	    {"a.b", "{\"a\":{\"b\":1},\"a\":{}}", JSON_KIND_ABSENT, NULL},
	    {"a.b", "{\"a\":{\"b\":1},\"a\":3}", JSON_KIND_ABSENT, NULL},
	    {"id", "{\"\\u0069d\":4}", JSON_KIND_NUMBER, "4"},
	    {"id", "{\"i\":4,\"idx\":5,\"xid\":6}", JSON_KIND_ABSENT, NULL},
	    {"\xc3\xa4", "{\"\\u00e4\":4}", JSON_KIND_NUMBER, "4"},
	    {"\xf0\x9f\x98\x80", "{\"\\ud83d\\ude00\":4}", JSON_KIND_NUMBER, "4"},
	    {"id", "[{\"id\":1}]", JSON_KIND_ABSENT, NULL},
	    {"id", "3", JSON_KIND_ABSENT, NULL},
	    {"id", "{\"a\":{\"id\":1}}", JSON_KIND_ABSENT, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum json_kind kind;
		const char *raw = pick(cases[i].path, cases[i].text, &kind);

		if (kind != cases[i].kind || (raw && strcmp(raw, cases[i].raw) != 0))
			fail_msg("case %zu: %s in %s gave %s", i, cases[i].path, cases[i].text,
			         raw ? raw : "nothing");
	}
}

static void test_many_paths(void **state)
{
	static const char *const names[] = {"a", "a.b", "a.b.c", "x", "a.d", "e.0", "e"};
	struct json_paths *p = compile(names, 7);
	struct json_pick k[7];

	(void)state;
	assert_int_equal(json_scan(STR("{\"e\":[9],\"a\":{\"d\":1,\"b\":{\"c\":2}}}"), p, k, NULL),
	                 ERR_OK);
	assert_int_equal(k[0].kind, JSON_KIND_OBJECT);
	assert_true(str_eq(k[0].raw, STR("{\"d\":1,\"b\":{\"c\":2}}")));
	assert_true(str_eq(k[1].raw, STR("{\"c\":2}")));
	assert_true(str_eq(k[2].raw, STR("2")));
	assert_int_equal(k[3].kind, JSON_KIND_ABSENT);
	assert_true(str_eq(k[4].raw, STR("1")));
	assert_true(str_eq(k[5].raw, STR("9")));
	assert_true(str_eq(k[6].raw, STR("[9]")));
	json_paths_free(p);
}

static void test_bad_paths(void **state)
{
	static const char *const bad[] = {
	    "", ".", "a.", ".a", "a..b", "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17"};
	struct str many[33];
	struct json_paths *p = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct str path = str_of(bad[i]);

		assert_int_equal(json_paths_new(&path, 1, &p), ERR_INVAL);
	}
	for (size_t i = 0; i < 33; i++)
		many[i] = STR("a");
	assert_int_equal(json_paths_new(many, 33, &p), ERR_TOOBIG);
	assert_int_equal(json_paths_new(many, 32, &p), ERR_OK);
	json_paths_free(p);
}

static void test_text(void **state)
{
	static const struct {
		struct str raw, text;
	} cases[] = {
	    {{"\"\"", 2}, {"", 0}},
	    {{"\"plain\"", 7}, {"plain", 5}},
	    {{"\"a\\n\\t\\\"\\\\\\/\\b\\f\\r\"", 19}, {"a\n\t\"\\/\b\f\r", 9}},
	    {{"\"\\u0041\\u00e4\\u20ac\"", 20}, {"A\xc3\xa4\xe2\x82\xac", 6}},
	    {{"\"\\ud83d\\ude00!\"", 15}, {"\xf0\x9f\x98\x80!", 5}},
	    {{"\"\\ud83d\"", 8}, {"\xef\xbf\xbd", 3}},
	    {{"\"\\ud83dx\"", 9}, {"\xef\xbf\xbdx", 4}},
	    {{"\"\\udc00\\ud83d\"", 14}, {"\xef\xbf\xbd\xef\xbf\xbd", 6}},
	    {{"\"\\ud83d\\u0041\"", 14},
	     {"\xef\xbf\xbd"
	      "A",
	      4}},
	    {{"\"a\\u0000b\"", 10}, {"a\0b", 3}},
	};
	struct json_pick other = {JSON_KIND_NUMBER, STR("-1.50")};
	struct buf out;

	(void)state;
	buf_init(&out, 1024);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct json_pick k = {JSON_KIND_STRING, cases[i].raw};

		buf_reset(&out);
		assert_int_equal(scan(cases[i].raw), ERR_OK);
		assert_int_equal(json_text(&k, &out), ERR_OK);
		if (!str_eq(buf_str(&out), cases[i].text))
			fail_msg("case %zu", i);
	}
	buf_reset(&out);
	assert_int_equal(json_text(&other, &out), ERR_OK);
	assert_true(str_eq(buf_str(&out), STR("-1.50")));
	other = (struct json_pick){JSON_KIND_NULL, STR("null")};
	assert_int_equal(json_text(&other, &out), ERR_INVAL);
	buf_done(&out);
}

struct seen {
	size_t n;
	char text[256];
};

static enum err collect(void *arg, struct str element)
{
	struct seen *s = arg;

	strncat(s->text, element.ptr, element.len);
	strcat(s->text, "|");
	return ++s->n == 4 ? ERR_FULL : ERR_OK;
}

static void test_each(void **state)
{
	struct seen s = {0};

	(void)state;
	assert_int_equal(json_each(STR("[ 1 , {\"a\": [2]},\"x]\" ]"), collect, &s), ERR_OK);
	assert_string_equal(s.text, "1|{\"a\": [2]}|\"x]\"|");
	s = (struct seen){0};
	assert_int_equal(json_each(STR(" [ ]"), collect, &s), ERR_OK);
	assert_int_equal(s.n, 0);
	assert_int_equal(json_each(STR("[1,2,3,4,5]"), collect, &s), ERR_FULL);
	s = (struct seen){0};
	assert_int_equal(json_each(STR("{\"a\":1}"), collect, &s), ERR_INVAL);
	assert_int_equal(json_each(STR("[1,"), collect, &s), ERR_INVAL);
	assert_int_equal(json_each(STR("[1 2]"), collect, &s), ERR_INVAL);
	assert_int_equal(json_each(STR(""), collect, &s), ERR_INVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_valid),     cmocka_unit_test(test_invalid),
	    cmocka_unit_test(test_depth),     cmocka_unit_test(test_offset),
	    cmocka_unit_test(test_picks),     cmocka_unit_test(test_many_paths),
	    cmocka_unit_test(test_bad_paths), cmocka_unit_test(test_text),
	    cmocka_unit_test(test_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
