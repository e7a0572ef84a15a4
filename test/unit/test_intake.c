/* From a request to events: what becomes id and type, what is cut into items, and that every text
 * that is kept is clean whatever came. */
#include "intake_rig.h"

#include "weir/receive/sanitise.h"

#define OPEN "\"auth\":\"none\",\"recipe\":"

/* ---- id and type ---- */

static void test_identity(void **state)
{
	static const struct {
		const char *recipe, *body, *id, *type;
	} cases[] = {
	    {"{\"id\":\"json:id\",\"type\":\"json:type\"}", "{\"id\":\"e1\",\"type\":\"a.b\"}",
	     "e1", "a.b"},
	    {"{\"id\":\"json:id\",\"type\":\"json:type\"}", "{\"id\":12,\"type\":true}", "12",
	     "true"},
	    {"{\"id\":\"json:id\"}", "{\"id\":null}", "", "unknown"},
	    {"{\"id\":\"json:id\"}", "{\"id\":\"\"}", "", "unknown"},
	    {"{\"id\":\"json:id\"}", "{\"id\":[1]}", "", "unknown"},
	    {"{\"id\":\"json:id\"}", "no json", "", "unknown"},
	    {"{\"id\":\"json:id\"}", "", "", "unknown"},
	    {"{\"id\":\"json:id\"}", "{\"id\":\"a\\u0000b\\n\"}", "a%00b%0A", "unknown"},
	    {"{\"id\":\"json:id\"}", "{\"id\":\"\\u00e4\\ud800\"}", "\xc3\xa4\xef\xbf\xbd",
	     "unknown"},
	    {"{\"id\":[\"json:x\",\"header:x-id\"],\"type\":[\"json:event.type\",\"json:type\"]}",
	     "{\"type\":\"outer\",\"event\":{\"type\":\"inner\"}}", "h-1", "inner"},
	    {"{\"type\":[\"json:event.type\",\"json:type\"]}", "{\"type\":\"outer\",\"event\":{}}",
	     "", "outer"},
	    {"{\"id\":\"form:i d\",\"type\":\"query:t\"}", "a=1&i+d=%41%20b&c", "A b", "q+"},
	    {"{\"id\":\"form:a\"}", "a=1&a=2", "", "unknown"},
	    {"{\"id\":\"header:x-latin\"}", "", "\xc3\xa4\xc3\xb6", "unknown"},
	    {"{\"id\":\"header:x-utf8\"}", "", "\xc3\xa4", "unknown"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct intake_result r;
		struct tools *set;
		struct made m;
		char members[300];

		snprintf(members, sizeof(members), OPEN "%s", cases[i].recipe);
		set = one_tool(members);
		made_init(&m, cases[i].body);
		m.req.query = STR("t=q%2B");
		made_header(&m, "X-Id", "h-1");
		made_header(&m, "X-Latin", "\xe4\xf6");
		made_header(&m, "X-Utf8", "\xc3\xa4");
		run(set, &m, &r);
		assert_int_equal(r.status, 200);
		assert_int_equal(r.n, 1);
		expect(r.events[0].id, cases[i].id);
		expect(r.events[0].type, cases[i].type);
		assert_ptr_equal(r.events[0].body.ptr, m.req.body.ptr);
		assert_int_equal(r.events[0].body.len, m.req.body.len);
		assert_int_equal(r.events[0].envelope.len, 0);
		expect(r.events[0].tool, "t");
		tools_unref(set);
	}
}

static void test_hostile_bodies(void **state)
{
	static char deep[200000];
	const char *const bodies[] = {"{\"id\":\"e\",\"x\":\"\\u0000\"}",
	                              "{\"id\":\"e\",\"x\":\"\\ud800\"}",
	                              "{\"id\":\"e\",\"x\":1e400}"};
	struct tools *set = one_tool(OPEN "{\"id\":\"json:id\"}");
	struct intake_result r;
	struct made m;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		made_init(&m, bodies[i]);
		run(set, &m, &r);
		assert_int_equal(r.n, 1);
		expect(r.events[0].id, "e");
	}
	memset(deep, '[', 100000);
	memset(deep + 100000, ']', 100000);
	made_init(&m, "");
	m.req.body = str_n(deep, sizeof(deep));
	run(set, &m, &r);
	assert_int_equal(r.status, 200);
	expect(r.events[0].id, "");
	assert_int_equal(r.events[0].body.len, sizeof(deep));
	tools_unref(set);
}

static void test_long_ids(void **state)
{
	static char body[2 * 1024 * 1024];
	struct tools *set = one_tool(OPEN "{\"id\":\"json:id\"}");
	struct intake_result r;
	struct made m;
	char first[EVENT_TEXT_MAX];

	(void)state;
	for (size_t len = EVENT_TEXT_MAX - 1; len <= EVENT_TEXT_MAX + 1; len++) {
		int n = snprintf(body, sizeof(body), "{\"id\":\"%0*d\"}", (int)len, 0);

		made_init(&m, "");
		m.req.body = str_n(body, (size_t)n);
		run(set, &m, &r);
		assert_true(r.events[0].id.len <= EVENT_TEXT_MAX);
		assert_int_equal(r.events[0].id.len == len, len <= EVENT_TEXT_MAX);
	}
	/* A megabyte of two-byte characters: cut between characters, distinct by the hash. */
	strcpy(body, "{\"id\":\"x");
	for (size_t i = 8; i < 1 << 20; i += 2)
		memcpy(body + i, "\xc3\xa4", 2);
	strcpy(body + (1 << 20), "\"}");
	m.req.body = str_of(body);
	run(set, &m, &r);
	assert_int_equal(r.status, 200);
	assert_true(r.events[0].id.len <= EVENT_TEXT_MAX);
	assert_true(r.events[0].id.len > EVENT_TEXT_MAX - 4);
	assert_true(str_is_utf8(r.events[0].id));
	assert_non_null(memmem(r.events[0].id.ptr, r.events[0].id.len, "\xe2\x80\xa6sha256:", 10));
	memcpy(first, r.events[0].id.ptr, r.events[0].id.len);
	body[(1 << 20) - 1] ^= 2;
	run(set, &m, &r);
	assert_memory_not_equal(first, r.events[0].id.ptr, r.events[0].id.len);
	tools_unref(set);
}

static void test_require_id(void **state)
{
	struct tools *set = one_tool(OPEN "{\"id\":\"json:id\"},\"require_id\":true");
	struct intake_result r;
	struct made m;

	(void)state;
	made_init(&m, "{}");
	run(set, &m, &r);
	assert_int_equal(r.status, 400);
	assert_string_equal(r.reason, "id_missing");
	m.req.body = STR("no");
	run(set, &m, &r);
	assert_int_equal(r.status, 400);
	assert_string_equal(r.reason, "body_not_json");
	m.req.body = STR("{\"id\":1}");
	run(set, &m, &r);
	assert_int_equal(r.status, 200);
	tools_unref(set);
	set = one_tool(OPEN "{\"split\":\"[]\",\"id\":\"json:id\"},\"require_id\":true");
	m.req.body = STR("[{\"id\":1},{}]");
	run(set, &m, &r);
	assert_int_equal(r.status, 400);
	assert_string_equal(r.reason, "id_missing");
	assert_int_equal(r.n, 0);
	tools_unref(set);
}

/* What its tool asks for goes with each event. */
static void test_dedup_goes_with_the_event(void **state)
{
	static const struct {
		const char *members, *body;
		size_t n;
		usec_t window;
	} cases[] = {
	    {OPEN "{\"id\":\"json:id\"}", "{}", 1, EVENT_DEDUP_WINDOW},
	    {"\"dedup\":\"none\"," OPEN "{\"id\":\"json:id\"}", "{}", 1, EVENT_DEDUP_NONE},
	    {"\"dedup_window\":90," OPEN "{\"id\":\"json:id\"}", "{}", 1, 90 * USEC_PER_SEC},
	    {"\"dedup\":\"none\"," OPEN "{\"split\":\"[]\"}", "[{},{}]", 2, EVENT_DEDUP_NONE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tools *set = one_tool(cases[i].members);
		struct intake_result r;
		struct made m;

		made_init(&m, cases[i].body);
		run(set, &m, &r);
		assert_int_equal(r.n, cases[i].n);
		for (size_t k = 0; k < r.n; k++)
			assert_int_equal(r.events[k].dedup_window, cases[i].window);
		tools_unref(set);
	}
}

static void test_refusals(void **state)
{
	struct tools *set = one_tool("\"preset\":\"github\",\"secrets\":[\"s\"]");
	struct intake_result r;
	struct made m;

	(void)state;
	made_init(&m, "{}");
	run(set, &m, &r);
	assert_int_equal(r.status, 401);
	assert_string_equal(r.reason, "signature_missing");
	made_header(&m, "X-GitHub-Delivery", "1");
	made_header(&m, "X-GitHub-Delivery", "2");
	run(set, &m, &r);
	assert_int_equal(r.status, 400);
	assert_string_equal(r.reason, "header_doubled");
	tools_unref(set);
}

/* ---- headers ---- */

static void test_headers(void **state)
{
	static const char tp[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
	struct tools *set = one_tool("\"secrets\":[\"tok\"],\"recipe\":{\"scheme\":\"token\","
	                             "\"sig\":\"header:x-gitlab-token\"}");
	struct intake_result r;
	struct made m;

	(void)state;
	made_init(&m, "{}");
	made_header(&m, "Content-Type", "application/json");
	made_header(&m, "X-Gitlab-Token", "tok");
	made_header(&m, "AUTHORIZATION", "Basic x");
	made_header(&m, "cookie", "a=b");
	made_header(&m, "Proxy-Authorization", "y");
	made_header(&m, "X-Api-Key", "k");
	made_header(&m, "I-Twilio-Idempotency-Token", "t");
	made_header(&m, "X-Hook-Secret", "k");
	made_header(&m, "X-Tokens", "k");
	made_header(&m, "X-Quote", "a\"\\\xe4\t");
	made_header(&m, "traceparent", tp);
	run(set, &m, &r);
	assert_int_equal(r.status, 200);
	expect(r.events[0].headers,
	       "[[\"Content-Type\",\"application/json\"],[\"X-Gitlab-Token\",null],"
	       "[\"AUTHORIZATION\",null],[\"cookie\",null],[\"Proxy-Authorization\",null],"
	       "[\"X-Api-Key\",null],[\"I-Twilio-Idempotency-Token\",\"t\"],[\"X-Hook-Secret\","
	       "null],[\"X-Tokens\",\"k\"],"
	       "[\"X-Quote\",\"a\\\"\\\\\xc3\xa4%09\"],"
	       "[\"traceparent\",\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"]]");
	expect(r.events[0].content_type, "application/json");
	expect(r.events[0].traceparent, tp);
	m.req.header_count = 2;
	run(set, &m, &r);
	expect(r.events[0].traceparent, "");
	tools_unref(set);
}

static void test_long_header(void **state)
{
	static char value[5000];
	struct tools *set = one_tool(OPEN "{}");
	struct intake_result r;
	struct made m;

	(void)state;
	memset(value, 'v', sizeof(value) - 1);
	made_init(&m, "");
	made_header(&m, "X-Long", value);
	run(set, &m, &r);
	assert_int_equal(r.events[0].headers.len, EVENT_TEXT_MAX + 15);
	tools_unref(set);
}

static void test_traceparents(void **state)
{
	static const char *const bad[] = {
	    "",
	    "00",
	    "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
	    "00-00000000000000000000000000000000-b7ad6b7169203331-01",
	    "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
	    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
	    "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
	    "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"};
	struct tools *set = one_tool(OPEN "{}");
	struct intake_result r;
	struct made m;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		made_init(&m, "");
		made_header(&m, "Traceparent", bad[i]);
		run(set, &m, &r);
		expect(r.events[0].traceparent, "");
	}
	made_init(&m, "");
	made_header(&m, "Traceparent", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x");
	run(set, &m, &r);
	expect(r.events[0].traceparent, "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
	made_header(&m, "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
	run(set, &m, &r);
	expect(r.events[0].traceparent, "");
	tools_unref(set);
}

static void test_every_byte_is_clean(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 1 << 16);
	for (unsigned a = 0; a < 256; a++) {
		for (unsigned b = 0; b < 256; b++) {
			const char raw[3] = {(char)a, (char)b, 'x'};
			struct str clean;

			buf_reset(&out);
			assert_int_equal(sanitise_text(str_n(raw, 3), &out, &clean), ERR_OK);
			assert_true(str_is_utf8(clean));
			assert_null(memchr(clean.ptr, 0, clean.len));
			assert_true(clean.len >= 3 && clean.ptr[clean.len - 1] == 'x');
		}
	}
	buf_done(&out);
}

/* ---- split ---- */

static void test_split_root(void **state)
{
	struct tools *set = one_tool(
	    OPEN "{\"split\":\"[]\",\"id\":\"json:id\",\"type\":[\"json:t\",\"header:x-t\"]}");
	struct intake_result r;
	struct made m;

	(void)state;
	made_init(&m, " [ {\"id\":\"\\u0041\", \"t\":\"x\"} ,{\"id\":2}, 3 ]\n");
	made_header(&m, "X-T", "from header");
	run(set, &m, &r);
	assert_int_equal(r.status, 200);
	assert_int_equal(r.n, 3);
	expect(r.events[0].body, "{\"id\":\"\\u0041\", \"t\":\"x\"}");
	expect(r.events[0].id, "A");
	expect(r.events[0].type, "x");
	expect(r.events[0].envelope, " []\n");
	expect(r.events[1].body, "{\"id\":2}");
	expect(r.events[1].id, "2");
	expect(r.events[1].type, "from header");
	expect(r.events[2].body, "3");
	expect(r.events[2].id, "");
	assert_memory_not_equal(r.events[0].uid.bytes, r.events[1].uid.bytes, 16);
	assert_ptr_equal(r.events[0].headers.ptr, r.events[2].headers.ptr);
	m.req.body = STR("[]");
	run(set, &m, &r);
	assert_int_equal(r.status, 200);
	assert_int_equal(r.n, 0);
	tools_unref(set);
}

static void test_split_nested(void **state)
{
	struct tools *set = one_tool(
	    OPEN
	    "{\"split\":\"entry[].changes[]\",\"id\":\"json:value.id\",\"type\":\"json:field\"}");
	struct intake_result r;
	struct made m;

	(void)state;
	made_init(&m, "{\"object\":\"page\",\"entry\":[{\"id\":\"p1\",\"changes\":["
	              "{\"field\":\"feed\",\"value\":{\"id\":1}},{\"field\":\"like\"}],\"time\":5},"
	              "{\"changes\":[]},{\"id\":\"p2\",\"changes\":[{\"value\":{\"id\":3}}]}]}");
	run(set, &m, &r);
	assert_int_equal(r.status, 200);
	assert_int_equal(r.n, 3);
	expect(r.events[0].envelope,
	       "{\"object\":\"page\",\"entry\":[{\"id\":\"p1\",\"changes\":[],\"time\":5}]}");
	assert_ptr_equal(r.events[0].envelope.ptr, r.events[1].envelope.ptr);
	expect(r.events[0].id, "1");
	expect(r.events[1].type, "like");
	expect(r.events[2].envelope,
	       "{\"object\":\"page\",\"entry\":[{\"id\":\"p2\",\"changes\":[]}]}");
	expect(r.events[2].body, "{\"value\":{\"id\":3}}");
	tools_unref(set);
}

static void test_split_refusals(void **state)
{
	static const char *const bad[] = {"",
	                                  "no",
	                                  "{}",
	                                  "{\"entry\":{}}",
	                                  "{\"entry\":[{}]}",
	                                  "{\"entry\":[1]}",
	                                  "[]",
	                                  "{\"entry\":[{\"changes\":[1]},{}]}",
	                                  "{\"entry\":[{\"changes\":[1]}]"};
	static char many[40000];
	struct tools *set = one_tool(OPEN "{\"split\":\"entry[].changes[]\"}");
	struct intake_result r;
	struct made m;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		made_init(&m, bad[i]);
		run(set, &m, &r);
		assert_int_equal(r.status, 400);
		assert_string_equal(r.reason, "array_missing");
	}
	tools_unref(set);
	set = one_tool(OPEN "{\"split\":\"[]\"}");
	made_init(&m, "{\"entry\":[]}");
	run(set, &m, &r);
	assert_int_equal(r.status, 400);
	/* 10,000 items are taken, one more is not. */
	memset(many, 0, sizeof(many));
	many[0] = '[';
	for (size_t i = 0; i < 10001; i++)
		memcpy(many + 1 + 2 * i, "1,", 2);
	many[2 * 10000] = ']';
	m.req.body = str_n(many, 2 * 10000 + 1);
	run(set, &m, &r);
	assert_int_equal(r.status, 200);
	assert_int_equal(r.n, 10000);
	many[2 * 10000] = ',';
	many[2 * 10001] = ']';
	m.req.body = str_n(many, 2 * 10001 + 1);
	run(set, &m, &r);
	assert_int_equal(r.status, 413);
	tools_unref(set);
}

/* Few bytes outside the array times many items: the product is bounded. */
static void test_split_amplification(void **state)
{
	static char body[400000];
	struct tools *set = one_tool(OPEN "{\"split\":\"a[]\"}");
	struct intake_result r;
	struct made m;
	size_t n = 0;

	(void)state;
	n += (size_t)sprintf(body, "{\"pad\":\"%0100000d\",\"a\":[", 0);
	for (size_t i = 0; i < 20; i++)
		n += (size_t)sprintf(body + n, "%zu,", i);
	strcpy(body + n - 1, "]}");
	made_init(&m, body);
	run(set, &m, &r);
	assert_int_equal(r.status, 413);
	tools_unref(set);
}

/* ---- memory ---- */

static void scenario(const char *members, const char *body)
{
	struct tools *set;
	struct intake_result r;
	struct intake *k;
	struct made m;
	char text[500];

	snprintf(text, sizeof(text), "{\"tools\":[{\"id\":\"t\",%s}]}", members);
	if (tools_parse(str_of(text), "f", &set, NULL) != ERR_OK)
		return;
	if (intake_new(1 << 20, &k) == ERR_OK) {
		made_init(&m, body);
		made_header(&m, "X-Any", "v\xe4\n");
		intake_run(k, tools_at(set, 0), HTTP_POST, &m.req, NOW, &r);
		assert_true(r.status == 200 || r.status == 503);
		intake_run(k, tools_at(set, 0), HTTP_POST, &m.req, NOW, &r);
		assert_true(r.status == 200 || r.status == 503);
		intake_free(k);
	}
	tools_unref(set);
}

static void scenario_one(void)
{
	scenario(OPEN "{\"id\":\"json:id\",\"type\":\"header:x-any\"}", "{\"id\":\"\\u0001\"}");
}

static void scenario_split(void)
{
	scenario(OPEN "{\"split\":\"a[]\",\"id\":\"json:id\"}",
	         "{\"a\":[{\"id\":\"\\u00e4\"},{\"id\":2},3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8]}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_identity),
	    cmocka_unit_test(test_hostile_bodies),
	    cmocka_unit_test(test_long_ids),
	    cmocka_unit_test(test_require_id),
	    cmocka_unit_test(test_dedup_goes_with_the_event),
	    cmocka_unit_test(test_refusals),
	    cmocka_unit_test(test_headers),
	    cmocka_unit_test(test_long_header),
	    cmocka_unit_test(test_traceparents),
	    cmocka_unit_test(test_every_byte_is_clean),
	    cmocka_unit_test(test_split_root),
	    cmocka_unit_test(test_split_nested),
	    cmocka_unit_test(test_split_refusals),
	    cmocka_unit_test(test_split_amplification),
	};
	const struct torture torture[] = {TORTURE(scenario_one), TORTURE(scenario_split)};

	if (getenv("WEIR_TORTURE"))
		return torture_all(torture, 2);
	return cmocka_run_group_tests(tests, setup, teardown);
}
