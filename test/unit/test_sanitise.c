/* Headers are kept as JSON, and most of them take a short way there: whatever byte stands wherever,
 * both ways say the same. Secrets are told by names of all cases. */
#include "torture.h"

#include "weir/io/http_server.h"
#include "weir/model/event.h"
#include "weir/model/recipe.h"
#include "weir/receive/sanitise.h"

static const struct recipe no_recipe;
static struct buf json = {.cap = 64 * 1024}, type = {.cap = 64 * 1024};

/* Valid until it is called again. */
static struct str kept(const struct http_header *headers, size_t n)
{
	struct kept_headers k;

	assert_int_equal(sanitise_headers(headers, n, &no_recipe, &json, &type, &k), ERR_OK);
	return k.json;
}

/* By the long way. */
static void add_text(struct buf *out, struct str raw)
{
	struct buf clean;
	struct str s;

	buf_init(&clean, 64 * 1024);
	assert_int_equal(sanitise_text(raw, &clean, &s), ERR_OK);
	buf_add_json(out, s);
	buf_done(&clean);
}

static void is_kept(struct str name, struct str value)
{
	struct http_header h[] = {{name, value}, {STR("Host"), STR("a")}, {name, value}};
	struct buf want;

	buf_init(&want, 64 * 1024);
	for (size_t i = 0; i < 3; i++) {
		buf_add_cstr(&want, i ? ",[" : "[[");
		add_text(&want, h[i].name);
		buf_add_char(&want, ',');
		add_text(&want, h[i].value);
		buf_add_char(&want, ']');
	}
	buf_add_char(&want, ']');
	assert_int_equal(want.err, ERR_OK);
	assert_true(str_eq(kept(h, 3), buf_str(&want)));
	buf_done(&want);
}

static void test_each_byte_everywhere(void **state)
{
	char text[20];

	(void)state;
	for (size_t at = 0; at < sizeof(text); at++) {
		for (int c = 0; c < 256; c++) {
			memset(text, 'x', sizeof(text));
			text[at] = (char)c;
			is_kept(STR("X-Header"), str_n(text, sizeof(text)));
			is_kept(str_n(text, sizeof(text)), STR("value"));
		}
	}
}

static void test_lengths(void **state)
{
	char text[EVENT_TEXT_MAX + 2];

	(void)state;
	memset(text, 'x', sizeof(text));
	is_kept(STR("X"), STR(""));
	is_kept(STR("X"), STR_NONE);
	for (size_t len = 1; len < 40; len++)
		is_kept(str_n(text, len), str_n(text, 40 - len));
	for (size_t len = EVENT_TEXT_MAX - 1; len <= sizeof(text); len++) {
		is_kept(str_n(text, len), STR("value"));
		is_kept(STR("X"), str_n(text, len));
	}
	text[EVENT_TEXT_MAX - 1] = '"';
	is_kept(STR("X"), str_n(text, EVENT_TEXT_MAX));
}

static void value_is_kept(const char *name, bool expected)
{
	struct http_header h = {str_of(name), STR("seen")};
	bool seen = strstr(kept(&h, 1).ptr, "seen");

	if (seen != expected)
		fail_msg("%s is %s", name, seen ? "kept" : "hidden");
}

static void test_secrets(void **state)
{
	static const char *const hidden[] = {"Authorization",   "PROXY-AUTHORIZATION",
	                                     "cookie",          "X-Gitlab-Token",
	                                     "x-token",         "token",
	                                     "X-Client-SECRET", "Api-Key",
	                                     "X-APIKEY",        "X-Goog-Channel-Token"};
	static const char *const shown[] = {"Host",         "Content",
	                                    "X-Tokens",     "X-Event-Id",
	                                    "X-Api-Key-Id", "I-Twilio-Idempotency-Token",
	                                    "ken",          "authorization2"};

	(void)state;
	for (size_t i = 0; i < sizeof(hidden) / sizeof(*hidden); i++)
		value_is_kept(hidden[i], false);
	for (size_t i = 0; i < sizeof(shown) / sizeof(*shown); i++)
		value_is_kept(shown[i], true);
}

/* To the byte. */
static void test_bounded(void **state)
{
	static const char whole[] = "[[\"X-One\",\"value\"],[\"X-Two\",\"value\"]]";
	struct http_header h[] = {{STR("X-One"), STR("value")}, {STR("X-Two"), STR("value")}};
	struct kept_headers k;

	(void)state;
	for (size_t cap = 0; cap <= sizeof(whole) - 1; cap++) {
		struct buf small;
		enum err e;

		buf_init(&small, cap);
		e = sanitise_headers(h, 2, &no_recipe, &small, &type, &k);
		assert_int_equal(e, cap < sizeof(whole) - 1 ? ERR_TOOBIG : ERR_OK);
		if (e == ERR_OK)
			assert_true(str_eq(k.json, STR(whole)));
		buf_done(&small);
	}
}

static void scenario_headers(void)
{
	struct http_header h[] = {{STR("X-One"), STR("value")},
	                          {STR("X-Two"), STR("\"\x01")},
	                          {STR("Content-Type"), STR("text/\x02")}};
	struct kept_headers k;

	(void)!sanitise_headers(h, 3, &no_recipe, &json, &type, &k);
	buf_done(&json);
	buf_done(&type);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_each_byte_everywhere),
	    cmocka_unit_test(test_lengths),
	    cmocka_unit_test(test_secrets),
	    cmocka_unit_test(test_bounded),
	};
	const struct torture torture[] = {TORTURE(scenario_headers)};
	int failed = TESTS_OR_TORTURE(tests, torture);

	buf_done(&json);
	buf_done(&type);
	return failed;
}
