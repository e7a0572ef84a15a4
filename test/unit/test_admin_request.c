/* What the admin API reads of requests, apart from HTTP. */
#include "torture.h"

#include <stdio.h>

#include "weir/app/admin_request.h"

static void page_is(const char *query, int64_t limit, const char *cursor)
{
	struct err_info info = {0};
	struct admin_page p;

	if (admin_read_page(str_of(query), &p, &info) != ERR_OK)
		fail_msg("%s: %s", query, info.text);
	assert_int_equal(p.limit, limit);
	assert_string_equal(p.cursor, cursor);
}

static void page_fails(const char *query, const char *why)
{
	struct admin_page p = {.limit = 7};
	struct err_info info = {0};

	if (admin_read_page(str_of(query), &p, &info) != ERR_INVAL || !strstr(info.text, why))
		fail_msg("%s: \"%s\"", query, info.text);
	assert_int_equal(p.limit, 7);
}

static void test_page(void **state)
{
	char query[100] = "cursor=";

	(void)state;
	page_is("", ADMIN_PAGE, "");
	page_is("limit=7", 7, "");
	page_is("limit=1000&cursor=a.b-c", 1000, "a.b-c");
	page_is("cursor=&x=1&limit=%31%32", 12, "");
	page_is("cursor=a%2Eb&%zz=1&&=&y", ADMIN_PAGE, "a.b");
	memset(query + 7, 'a', TOOL_ID_MAX);
	page_is(query, ADMIN_PAGE, query + 7);
	strcat(query, "a");
	page_fails(query, "cursor: ");
	page_fails("cursor=A", "cursor: ");
	page_fails("cursor=%00", "cursor: ");
	page_fails("cursor=%", "cursor: ");
	page_fails("cursor=a&cursor=b", "cursor: ");
	page_fails("limit=0", "from 1 to 1000");
	page_fails("limit=1001", "from 1 to 1000");
	page_fails("limit", "limit: ");
	page_fails("limit=5&limit=5", "limit: ");
}

static void scenario_page(void)
{
	struct admin_page p = {.limit = 0};

	if (admin_read_page(STR("limit=7&cursor=a"), &p, NULL) == ERR_OK)
		assert_int_equal(p.limit, 7);
}

static void condition_is(const char *match, const char *none, int64_t want)
{
	int64_t got = -7;

	if (!admin_read_condition(str_of(match), match != NULL, str_of(none), none != NULL, &got))
		fail_msg("%s %s", match ? match : "-", none ? none : "-");
	assert_int_equal(got, want);
}

static void test_condition(void **state)
{
	static const char *const bad[] = {
	    "7",           "\"7",     "7\"",    "\"7x",
	    "\"12",        "x12\"",   "\"\"",   "\"0\"",
	    "\"+7\"",      "*",       "\"-1\"", "\"07\"",
	    "\" 7\"",      "W/\"7\"", "",       "\"9223372036854775808\"",
	    "\"7\",\"8\"", "\""};
	char etag[ADMIN_ETAG_MAX];
	int64_t got = -7;

	(void)state;
	condition_is(NULL, NULL, ADMIN_ANY);
	condition_is(NULL, "*", ADMIN_ABSENT);
	condition_is("\"7\"", NULL, 7);
	admin_format_etag(INT64_MAX, etag);
	condition_is(etag, NULL, INT64_MAX);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (admin_read_condition(str_of(bad[i]), 1, STR_NONE, 0, &got))
			fail_msg("%s was taken as %lld", bad[i], (long long)got);
	assert_false(admin_read_condition(STR_NONE, 0, STR("\"7\""), 1, &got));
	assert_false(admin_read_condition(STR_NONE, 0, STR("*"), 2, &got));
	assert_false(admin_read_condition(STR("\"7\""), 2, STR_NONE, 0, &got));
	assert_false(admin_read_condition(STR("\"7\""), 1, STR("*"), 1, &got));
	assert_int_equal(got, -7);
}

static void test_bearer(void **state)
{
	static const struct {
		const char *value, *token;
	} cases[] = {{"Bearer abc", "abc"}, {"bEARER   a b ", "a b"}, {"Bearer", NULL},
	             {"Bearer ", NULL},     {"Basic abc", NULL},      {"", NULL},
	             {"Bearerabc", NULL},   {" Bearer abc", NULL},    {"Bearer\tabc", NULL}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct str got = admin_read_bearer(str_of(cases[i].value));

		if (!str_eq(got, str_of(cases[i].token)) || !got.ptr != !cases[i].token)
			fail_msg("%s", cases[i].value);
	}
}

static void test_type_and_path(void **state)
{
	struct str name = STR_NONE;

	(void)state;
	assert_true(admin_is_json(STR("Application/JSON ; charset=utf-8")));
	assert_false(admin_is_json(STR("application/json5")));
	assert_false(admin_is_json(STR("")));
	assert_true(admin_path_fits(STR("/a"), STR("/a"), &name) && name.len == 0);
	assert_false(admin_path_fits(STR("/ab"), STR("/a"), &name));
	assert_false(admin_path_fits(STR("/a/"), STR("/a"), &name));
	assert_true(admin_path_fits(STR("/a/b"), STR("/a/"), &name) && str_eq(name, STR("b")));
	assert_false(admin_path_fits(STR("/a/"), STR("/a/"), &name));
	assert_false(admin_path_fits(STR("/a/b/"), STR("/a/"), &name));
	assert_false(admin_path_fits(STR(""), STR("/a/"), &name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_page),
	    cmocka_unit_test(test_condition),
	    cmocka_unit_test(test_bearer),
	    cmocka_unit_test(test_type_and_path),
	};
	const struct torture torture[] = {TORTURE(scenario_page)};

	return TESTS_OR_TORTURE(tests, torture);
}
