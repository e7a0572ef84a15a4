/* How signatures and times are read out of headers. */
#include "recipe_util.h"

static void test_times(void **state)
{
	static const struct {
		enum recipe_unit unit;
		const char *text;
		usec_t want; /* -1: refused */
	} cases[] = {
	    {RECIPE_SECONDS, "0", 0},
	    {RECIPE_SECONDS, "1700000000", 1700000000 * USEC_PER_SEC},
	    {RECIPE_SECONDS, "1700000000.25", 1700000000 * USEC_PER_SEC + 250000},
	    {RECIPE_MSECONDS, "1700000000123", 1700000000123 * USEC_PER_MSEC},
	    {RECIPE_SECONDS, "", -1},
	    {RECIPE_SECONDS, "-1", -1},
	    {RECIPE_SECONDS, "+1", -1},
	    {RECIPE_SECONDS, " 1", -1},
	    {RECIPE_SECONDS, "1.", -1},
	    {RECIPE_SECONDS, "1e9", -1},
	    {RECIPE_SECONDS, "99999999999999999999", -1},
	    {RECIPE_ISO, "2023-11-14T22:13:20Z", 1700000000 * USEC_PER_SEC},
	    {RECIPE_ISO, "2023-11-14T22:13:20.5Z", 1700000000 * USEC_PER_SEC + 500000},
	    {RECIPE_ISO, "2023-11-14T22:13:20.123456789Z", 1700000000 * USEC_PER_SEC + 123456},
	    {RECIPE_ISO, "2023-11-15T00:13:20+02:00", 1700000000 * USEC_PER_SEC},
	    {RECIPE_ISO, "2023-11-14 20:43:20-0130", 1700000000 * USEC_PER_SEC},
	    {RECIPE_ISO, "2024-02-29T00:00:00Z", 1709164800 * USEC_PER_SEC},
	    {RECIPE_ISO, "1970-01-01T00:00:00z", 0},
	    {RECIPE_ISO, "2023-11-14T22:13:20", -1},
	    {RECIPE_ISO, "2023-13-14T22:13:20Z", -1},
	    {RECIPE_ISO, "2023-11-14T24:13:20Z", -1},
	    {RECIPE_ISO, "2023-11-14T22:13:20Zx", -1},
	    {RECIPE_ISO, "23-11-14T22:13:20Z", -1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		usec_t got = -1;
		enum err e = recipe_parse_ts(cases[i].unit, str_of(cases[i].text), &got);

		if ((e == ERR_OK) != (cases[i].want >= 0) || got != cases[i].want)
			fail_msg("%s gave %lld", cases[i].text, (long long)got);
	}
}

/* All signatures of a header, with a bar behind each. */
static const char *all(const struct recipe *r, const char *header)
{
	static char out[256];
	struct str rest = recipe_signatures(r, str_of(header)), text;
	enum digest_algo hash;

	out[0] = '\0';
	while (recipe_next_signature(r, &rest, &text, &hash)) {
		strncat(out, text.ptr, text.len);
		strcat(out, "|");
	}
	return out;
}

static void test_signatures(void **state)
{
	struct recipe plain = {.parse = RECIPE_PLAIN, .prefix = STR("v0=")};
	struct recipe kv = {.parse = RECIPE_KV, .sep = ',', .prefix = STR("v1")};
	struct recipe list = {.parse = RECIPE_LIST, .sep = ' ', .prefix = STR("v1,")};
	struct recipe first = {.parse = RECIPE_FIRST_IS_TS, .sep = ','};
	struct recipe method = {.parse = RECIPE_METHOD, .hashes = 1u << DIGEST_SHA1};

	(void)state;
	assert_string_equal(all(&plain, "v0=ab"), "ab|");
	assert_string_equal(all(&plain, "v1=ab"), "");
	assert_string_equal(all(&plain, "v0="), "|");
	assert_string_equal(all(&kv, "t=1,v1=a, v1 = b ,v0=c,v1"), "a|b|");
	assert_string_equal(all(&kv, ",,=,v1=="), "=|");
	assert_string_equal(all(&list, "v1,a v1a,b  v1,c"), "a|c|");
	assert_string_equal(all(&first, "1,a,b"), "a|b|");
	assert_string_equal(all(&first, "1"), "");
	assert_string_equal(all(&first, "1,"), "");
	assert_string_equal(all(&method, "SHA1=ab=c"), "ab=c|");
	assert_string_equal(all(&method, "sha256=ab"), "");
	assert_string_equal(all(&method, "sha1"), "");
}

static void test_keys(void **state)
{
	struct recipe kv = {.parse = RECIPE_KV, .sep = ','};
	struct recipe first = {.parse = RECIPE_FIRST_IS_TS, .sep = ';'};
	struct str v = STR("untouched");

	(void)state;
	assert_true(recipe_sig_key(&kv, STR("a=1, t = 5 ,b=2"), STR("t"), &v));
	assert_true(str_eq(v, STR("5")));
	assert_true(recipe_sig_key(&kv, STR("t="), STR("t"), &v));
	assert_int_equal(v.len, 0);
	assert_false(recipe_sig_key(&kv, STR("t"), STR("t"), &v));
	assert_false(recipe_sig_key(&kv, STR("t=1,t=1"), STR("t"), &v));
	assert_false(recipe_sig_key(&kv, STR(""), STR("t"), &v));
	assert_true(recipe_sig_key(&first, STR("7;x"), STR("ts"), &v));
	assert_true(str_eq(v, STR("7")));
	assert_false(recipe_sig_key(&first, STR("7"), STR("ts"), &v));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_times),
	    cmocka_unit_test(test_signatures),
	    cmocka_unit_test(test_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
