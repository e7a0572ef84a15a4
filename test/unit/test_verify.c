/* Verification against the providers' own vectors, against what recipe_sign makes, and against
 * every way in which a signature can be wrong. */
#include "verify_rig.h"

/* ---- vectors ---- */

static void test_github_vector(void **state)
{
	struct tools *set = one_tool("\"preset\":\"github\",\"secrets\":[\"other\","
	                             "\"It's a Secret to Everybody\"]");
	struct made m;

	(void)state;
	made_init(&m, "Hello, World!");
	made_header(&m, "X-Hub-Signature-256",
	            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
	expect(set, &m, VERIFY_OK);
	m.headers[0].value =
	    STR("sha256=757107EA0EB2509FC211221CCE984B8A37570B6D7586C22C46F4379C8B043E17");
	expect(set, &m, VERIFY_OK);
	m.req.body = STR("Hello, World?");
	expect(set, &m, VERIFY_WRONG);
	tools_unref(set);
}

static void test_svix_vector(void **state)
{
	static const char *const presets[][2] = {{"svix", "svix"},
	                                         {"standard-webhooks", "webhook"}};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		char members[200], names[3][40];
		struct tools *set;
		struct made m;

		snprintf(members, sizeof(members),
		         "\"preset\":\"%s\",\"secrets\":[\"whsec_plJ3nmyCDGBKInavdOK15jsl\"]",
		         presets[i][0]);
		snprintf(names[0], sizeof(names[0]), "%s-id", presets[i][1]);
		snprintf(names[1], sizeof(names[1]), "%s-timestamp", presets[i][1]);
		snprintf(names[2], sizeof(names[2]), "%s-signature", presets[i][1]);
		set = one_tool(members);
		made_init(&m, "{\"event_type\":\"ping\",\"data\":{\"success\":true}}");
		made_header(&m, names[0], "msg_loFOjxBNrRLzqYUf");
		made_header(&m, names[1], "1731705121");
		made_header(&m, names[2], "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
		expect(set, &m, VERIFY_OK);
		m.headers[2].value = STR("v1a,xxxx v1,AAAAW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0= "
		                         "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
		expect(set, &m, VERIFY_OK);
		m.headers[2].value = STR("v1a,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
		expect(set, &m, VERIFY_ENCODING);
		m.headers[0].value = STR("msg_loFOjxBNrRLzqYUg");
		m.headers[2].value = STR("v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
		expect(set, &m, VERIFY_WRONG);
		tools_unref(set);
	}
}

static void test_stripe_vector(void **state)
{
	struct tools *set = one_tool("\"preset\":\"stripe\",\"secrets\":[\"whsec_test\"]");
	struct made m;

	(void)state;
	made_init(&m, "{}");
	m.req.now = 1700000000 * USEC_PER_SEC;
	made_header(&m, "Stripe-Signature",
	            "t=1700000000,"
	            "v1=35495024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91,v0=00");
	expect(set, &m, VERIFY_OK);
	m.req.now += 300 * USEC_PER_SEC;
	expect(set, &m, VERIFY_OK);
	m.req.now += 1;
	expect(set, &m, VERIFY_STALE);
	assert_true(result.age > 300 * USEC_PER_SEC);
	m.req.now = (1700000000 - 300) * USEC_PER_SEC;
	expect(set, &m, VERIFY_OK);
	m.req.now -= 1;
	expect(set, &m, VERIFY_FUTURE);
	assert_true(result.age < -300 * USEC_PER_SEC);
	/* Also a wrong one says stale: the timestamp is judged first. */
	m.req.body = STR("[]");
	expect(set, &m, VERIFY_FUTURE);
	tools_unref(set);
}

static void test_slack_vector(void **state)
{
	static const char body[] =
	    "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id="
	    "G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%"
	    "2Fwebhook-"
	    "collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%"
	    "2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121."
	    "803a0bc887a14d10d2c447fce8b6703c";
	struct tools *set =
	    one_tool("\"preset\":\"slack\",\"secrets\":[\"8f742231b10e8888abcd99yyyzzz85a5\"]");
	struct made m;

	(void)state;
	made_init(&m, body);
	m.req.now = 1531420618 * USEC_PER_SEC;
	made_header(&m, "X-Slack-Request-Timestamp", "1531420618");
	made_header(&m, "X-Slack-Signature",
	            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503");
	expect(set, &m, VERIFY_OK);
	m.headers[0].value = STR("1531420617");
	expect(set, &m, VERIFY_WRONG);
	m.headers[0].value = STR("1531420618x");
	expect(set, &m, VERIFY_TS_MALFORMED);
	m.headers[0].name = STR("X-Other");
	expect(set, &m, VERIFY_TS_MISSING);
	tools_unref(set);
}

static void test_hubspot_vector(void **state)
{
	struct tools *set = one_tool(
	    "\"secrets\":[\"s\"],\"url\":\"https://e.x/h?a=1\",\"recipe\":{"
	    "\"sig\":\"header:x-hubspot-signature-v3\",\"enc\":\"base64\","
	    "\"signed\":\"{method}{url}{body}{ts}\",\"ts\":\"header:x-hubspot-request-timestamp "
	    "ms\","
	    "\"split\":\"[]\",\"id\":\"json:eventId\",\"type\":\"json:subscriptionType\"}");
	struct made m;

	(void)state;
	made_init(&m, "[]");
	m.req.now = 1700000000 * USEC_PER_SEC;
	made_header(&m, "X-HubSpot-Request-Timestamp", "1700000000000");
	made_header(&m, "X-HubSpot-Signature-v3", "6VFHkz1AaYpn4rnVlGsbqIhRTuVwYTxQrSxS1J0419w=");
	expect(set, &m, VERIFY_OK);
	m.req.method = STR("PUT");
	expect(set, &m, VERIFY_WRONG);
	tools_unref(set);
}

/* ---- round trips ---- */

static const struct {
	const char *preset, *secret;
	const char *sig; /* the header that holds the signature */
	bool timed;
} presets[] = {
    {"github", "hush", "x-hub-signature-256", false},
    {"gitlab", "hush", "x-gitlab-token", false},
    {"gitlab-signing", "hush", "webhook-signature", true},
    {"bitbucket", "hush", "x-hub-signature", false},
    {"jira", "hush", "x-hub-signature", false},
    {"stripe", "whsec_hush", "stripe-signature", true},
    {"slack", "hush", "x-slack-signature", true},
    {"shopify", "hush", "x-shopify-hmac-sha256", false},
    {"standard-webhooks", "whsec_MDEyMzQ1Njc4OWFiY2RlZg==", "webhook-signature", true},
    {"svix", "whsec_MDEyMzQ1Njc4OWFiY2RlZg==", "svix-signature", true},
    {"linear", "hush", "linear-signature", true},
    {"sentry", "hush", "sentry-hook-signature", false},
};
#define PRESETS (sizeof(presets) / sizeof(presets[0]))

static struct tools *preset_tool(size_t i)
{
	char members[200];

	snprintf(members, sizeof(members), "\"preset\":\"%s\",\"secrets\":[\"%s\"]",
	         presets[i].preset, presets[i].secret);
	return one_tool(members);
}

static void sign(const struct tools *set, struct sign_options o, struct signed_request *s)
{
	struct err_info info = {0};

	if (o.now == 0)
		o.now = NOW;
	if (recipe_sign(tools_at(set, 0), &o, s, &info) != ERR_OK)
		fail_msg("%s", info.text);
}

static void test_round_trips(void **state)
{
	(void)state;
	for (size_t i = 0; i < PRESETS; i++) {
		struct tools *set = preset_tool(i);
		struct signed_request s;
		struct http_header *h;
		struct made m;

		sign(set, (struct sign_options){.id = STR("e-1")}, &s);
		made_of_signed(&m, &s);
		print_message("%s\n", presets[i].preset);
		expect(set, &m, VERIFY_OK);
		h = made_find(&m, presets[i].sig);
		assert_non_null(h);
		m.req.now = NOW + 20 * 60 * USEC_PER_SEC;
		expect(set, &m, presets[i].timed ? VERIFY_STALE : VERIFY_OK);
		m.req.now = NOW - 20 * 60 * USEC_PER_SEC;
		expect(set, &m, presets[i].timed ? VERIFY_FUTURE : VERIFY_OK);
		m.req.now = NOW;
		h->name = STR("X-Else");
		expect(set, &m, VERIFY_MISSING);
		signed_request_done(&s);
		tools_unref(set);
	}
}

static void test_tampered(void **state)
{
	(void)state;
	for (size_t i = 0; i < PRESETS; i++) {
		struct tools *set = preset_tool(i);
		bool token = tools_at(set, 0)->recipe->scheme == RECIPE_TOKEN;
		struct signed_request s;
		struct made m;

		sign(set, (struct sign_options){.bad = true}, &s);
		made_of_signed(&m, &s);
		expect(set, &m, VERIFY_WRONG);
		signed_request_done(&s);
		sign(set, (struct sign_options){.now = NOW}, &s);
		s.body.ptr[s.body.len - 2] ^= 4;
		made_of_signed(&m, &s);
		if (!token)
			expect(set, &m,
			       tools_at(set, 0)->recipe->auth_json ? VERIFY_NOT_JSON
			                                           : VERIFY_WRONG);
		signed_request_done(&s);
		tools_unref(set);
	}
}

static void test_malformed_signatures(void **state)
{
	static char big[VERIFY_SIGNATURE_MAX + 2];

	(void)state;
	memset(big, 'a', sizeof(big) - 1);
	for (size_t i = 0; i < PRESETS; i++) {
		struct tools *set = preset_tool(i);
		bool token = tools_at(set, 0)->recipe->scheme == RECIPE_TOKEN;
		struct signed_request s;
		struct http_header *h;
		struct made m;
		struct str value;

		sign(set, (struct sign_options){.now = NOW}, &s);
		made_of_signed(&m, &s);
		h = made_find(&m, presets[i].sig);
		value = h->value;
		h->value = str_n(big, VERIFY_SIGNATURE_MAX + 1);
		expect(set, &m, VERIFY_OVERSIZED);
		h->value = STR("!!!");
		expect(set, &m, token ? VERIFY_WRONG : VERIFY_ENCODING);
		h->value = STR("");
		expect(set, &m, token ? VERIFY_WRONG : VERIFY_ENCODING);
		h->value = str_n(value.ptr, value.len - 1);
		expect(set, &m, token ? VERIFY_WRONG : VERIFY_ENCODING);
		h->value = value;
		m.headers[m.req.header_count++] = *h;
		expect(set, &m, VERIFY_DOUBLED);
		signed_request_done(&s);
		tools_unref(set);
	}
}

static void test_wrong_key(void **state)
{
	(void)state;
	for (size_t i = 0; i < PRESETS; i++) {
		struct tools *set = preset_tool(i), *other;
		char members[200];
		struct signed_request s;
		struct made m;

		snprintf(members, sizeof(members), "\"preset\":\"%s\",\"secrets\":[\"%s\",\"%s\"]",
		         presets[i].preset, "whsec_AAAA", "whsec_BBBB");
		other = one_tool(members);
		sign(set, (struct sign_options){.now = NOW}, &s);
		made_of_signed(&m, &s);
		expect(other, &m, VERIFY_WRONG);
		signed_request_done(&s);
		tools_unref(other);
		tools_unref(set);
	}
}

/* ---- recipes written out ---- */

struct trip {
	const char *members;
	const char *body;
};

static void test_own_recipes(void **state)
{
	static const struct trip trips[] = {
	    {"\"secrets\":[\"k\"],\"recipe\":{\"sig\":\"header:x-sig\",\"hash\":\"sha512\","
	     "\"enc\":\"base64url\"}",
	     "x"},
	    {"\"secrets\":[\"6b\"],\"recipe\":{\"sig\":\"header:x-sig\",\"hash\":\"sha1\","
	     "\"keys\":\"hex\",\"parse\":\"plain:sha1=\"}",
	     "x"},
	    {"\"secrets\":[{\"value\":\"aw==\",\"form\":\"base64\"}],\"recipe\":{"
	     "\"sig\":\"header:x-sig\",\"parse\":\"first-is-ts()\",\"signed\":\"{ts}.{body}\","
	     "\"ts\":\"sig:ts s\"}",
	     ""},
	    {"\"secrets\":[\"k\"],\"recipe\":{\"sig\":\"header:x-sig\",\"parse\":\"kv(;,h1)\","
	     "\"signed\":\"{ts}:{body}\",\"ts\":\"sig:ts s\"}",
	     "{}"},
	    {"\"secrets\":[\"k\"],\"recipe\":{\"sig\":\"header:x-sig\",\"ts\":\"header:x-time "
	     "iso\","
	     "\"signed\":\"{ts}|{method}|{path}|{{x}|{header:x-nonce}|{body}\"}",
	     "{}"},
	    {"\"secrets\":[\"k\"],\"url\":\"https://a.example/hook\",\"recipe\":{"
	     "\"sig\":\"header:x-sig\",\"signed\":\"{url}{json:a.b}\"}",
	     "{\"a\":{\"b\":\"\\u00e4\"}}"},
	    {"\"secrets\":[\"k\"],\"recipe\":{"
	     "\"sig\":\"header:x-sig\",\"signed\":\"{path}{form:x}\"}",
	     "y=2&x=1%202&"},
	    {"\"secrets\":[\"u:p:w\"],\"recipe\":{\"scheme\":\"basic\"}", "{}"},
	    {"\"secrets\":[\"tok\"],\"recipe\":{\"scheme\":\"token\",\"sig\":\"header:"
	     "authorization\","
	     "\"parse\":\"plain:Bearer \"}",
	     "{}"},
	    {"\"secrets\":[\"tok\"],\"recipe\":{\"scheme\":\"token\",\"sig\":\"query:code\"}",
	     "{}"},
	    {"\"auth\":\"none\"", "anything"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(trips) / sizeof(trips[0]); i++) {
		struct tools *set = one_tool(trips[i].members);
		struct sign_options o = {.body = str_of(trips[i].body)};
		struct signed_request s;
		struct made m;

		sign(set, o, &s);
		made_of_signed(&m, &s);
		print_message("%s\n", trips[i].members);
		expect(set, &m, VERIFY_OK);
		signed_request_done(&s);
		if (tools_at(set, 0)->recipe->scheme != RECIPE_NONE) {
			o.bad = true;
			sign(set, o, &s);
			made_of_signed(&m, &s);
			expect(set, &m, VERIFY_WRONG);
			signed_request_done(&s);
		}
		tools_unref(set);
	}
}

static void test_signed_part_missing(void **state)
{
	struct tools *set = one_tool("\"secrets\":[\"k\"],\"recipe\":{\"sig\":\"header:x-sig\","
	                             "\"signed\":\"{header:x-nonce}{query:q}{body}\"}");
	struct made m;

	(void)state;
	made_init(&m, "{}");
	made_header(&m, "x-sig",
	            "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
	expect(set, &m, VERIFY_PART_MISSING);
	made_header(&m, "x-nonce", "1");
	expect(set, &m, VERIFY_PART_MISSING);
	m.req.query = STR("a=1&q=2");
	expect(set, &m, VERIFY_WRONG);
	m.req.query = STR("q=1&q=2");
	expect(set, &m, VERIFY_MALFORMED);
	m.req.query = STR("q=%2");
	expect(set, &m, VERIFY_MALFORMED);
	tools_unref(set);
}

/* A rotation by several headers, and by groups in one. */
static void test_rotation(void **state)
{
	struct tools *set =
	    one_tool("\"preset\":\"github\",\"secrets\":[\"It's a Secret to Everybody\"],"
	             "\"recipe\":{\"sig\":[\"header:x-sig-{1..3}\",\"json:none\"]}");
	struct made m;

	(void)state;
	made_init(&m, "Hello, World!");
	expect(set, &m, VERIFY_NOT_JSON);
	tools_unref(set);
	set = one_tool("\"preset\":\"github\",\"secrets\":[\"It's a Secret to Everybody\"],"
	               "\"recipe\":{\"sig\":\"header:x-sig-{1..3}\"}");
	expect(set, &m, VERIFY_MISSING);
	made_header(&m, "X-Sig-2", "sha256=00");
	expect(set, &m, VERIFY_ENCODING);
	made_header(&m, "X-Sig-3",
	            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
	expect(set, &m, VERIFY_OK);
	tools_unref(set);
}

static void test_groups(void **state)
{
	struct tools *set =
	    one_tool("\"secrets\":[\"whsec_test\"],\"recipe\":{\"sig\":\"header:x-sig\","
	             "\"parse\":\"kv(,v1, )\",\"signed\":\"{sig:t}.{body}\",\"ts\":\"sig:t s\"}");
	struct made m;

	(void)state;
	made_init(&m, "{}");
	m.req.now = 1700000000 * USEC_PER_SEC;
	made_header(
	    &m, "x-sig",
	    "t=1600000000,v1=00004024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91 "
	    "t=1700000000,v1=35495024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91");
	expect(set, &m, VERIFY_OK);
	m.headers[0].value =
	    STR("t=1600000000,v1=35495024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91");
	expect(set, &m, VERIFY_STALE);
	/* Which of two times was signed is anybody's guess. */
	m.headers[0].value =
	    STR("t=1700000000,t=1700000000,"
	        "v1=35495024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91");
	expect(set, &m, VERIFY_TS_MISSING);
	m.headers[0].value = STR("v1=aa v1=aa v1=aa v1=aa v1=aa v1=aa v1=aa v1=aa v1=aa v1=aa "
	                         "v1=aa v1=aa v1=aa v1=aa v1=aa v1=aa v1=aa v1=aa");
	expect(set, &m, VERIFY_ENCODING);
	tools_unref(set);
}

static void test_method_is_listed(void **state)
{
	struct tools *set = one_tool("\"preset\":\"jira\",\"secrets\":"
	                             "[\"It's a Secret to Everybody\"]");
	struct made m;

	(void)state;
	made_init(&m, "Hello, World!");
	made_header(&m, "X-Hub-Signature",
	            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
	expect(set, &m, VERIFY_OK);
	m.headers[0].value = STR("md5=757107ea0eb2509fc211221cce984b8a");
	expect(set, &m, VERIFY_ENCODING);
	m.headers[0].value = STR("sha1=757107ea0eb2509fc211221cce984b8a37570b6d");
	expect(set, &m, VERIFY_WRONG);
	m.headers[0].value = STR("757107ea0eb2509fc211221cce984b8a37570b6d");
	expect(set, &m, VERIFY_ENCODING);
	tools_unref(set);
}

static void test_basic(void **state)
{
	struct tools *set = one_tool("\"secrets\":[\"u:p\"],\"recipe\":{\"scheme\":\"basic\"}");
	struct made m;

	(void)state;
	made_init(&m, "");
	expect(set, &m, VERIFY_MISSING);
	made_header(&m, "Authorization", "bAsIc dTpw");
	expect(set, &m, VERIFY_OK);
	m.headers[0].value = STR("Basic dTpx");
	expect(set, &m, VERIFY_WRONG);
	m.headers[0].value = STR("Bearer dTpw");
	expect(set, &m, VERIFY_ENCODING);
	m.headers[0].value = STR("Basic");
	expect(set, &m, VERIFY_ENCODING);
	m.headers[0].value = STR("Basic d");
	expect(set, &m, VERIFY_ENCODING);
	tools_unref(set);
}

/* ---- memory ---- */

static void scenario(const char *members)
{
	char text[600];
	struct tools *set;
	struct signed_request s;
	enum verify_verdict v;
	struct made m;

	snprintf(text, sizeof(text), "{\"tools\":[{\"id\":\"t\",%s}]}", members);
	if (tools_parse(str_of(text), "f", &set, NULL) != ERR_OK)
		return;
	if (recipe_sign(tools_at(set, 0), &(struct sign_options){.now = NOW}, &s, NULL) == ERR_OK) {
		made_of_signed(&m, &s);
		recipe_input_init(&input);
		recipe_input_bind(&input, tools_at(set, 0)->recipe, &m.req);
		v = verify_request(&input, &result);
		if (v != VERIFY_OK && v != VERIFY_NOMEM)
			fail_msg("want of memory became \"%s\"", verify_reason(v));
		recipe_input_done(&input);
		signed_request_done(&s);
	}
	tools_unref(set);
}

static void scenario_stripe(void)
{
	scenario("\"preset\":\"stripe\",\"secrets\":[\"a\",\"b\"]");
}

static void scenario_gitlab(void)
{
	scenario("\"preset\":\"gitlab\",\"secrets\":[\"a\"]");
}

static void scenario_own(void)
{
	scenario("\"secrets\":[\"a:b\"],\"recipe\":{\"scheme\":\"basic\",\"split\":\"a[].b[]\","
	         "\"id\":[\"json:a\",\"form:x\"]}");
}

static void scenario_escaped(void)
{
	scenario("\"secrets\":[\"a\"],\"recipe\":{\"sig\":\"header:x\",\"signed\":\"{json:data."
	         "water_cm}{form:x}{body}\",\"ts\":\"json:timestamp iso\"}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_github_vector),
	    cmocka_unit_test(test_svix_vector),
	    cmocka_unit_test(test_stripe_vector),
	    cmocka_unit_test(test_slack_vector),
	    cmocka_unit_test(test_hubspot_vector),
	    cmocka_unit_test(test_round_trips),
	    cmocka_unit_test(test_tampered),
	    cmocka_unit_test(test_malformed_signatures),
	    cmocka_unit_test(test_wrong_key),
	    cmocka_unit_test(test_own_recipes),
	    cmocka_unit_test(test_signed_part_missing),
	    cmocka_unit_test(test_rotation),
	    cmocka_unit_test(test_groups),
	    cmocka_unit_test(test_method_is_listed),
	    cmocka_unit_test(test_basic),
	};
	const struct torture torture[] = {TORTURE(scenario_stripe), TORTURE(scenario_gitlab),
	                                  TORTURE(scenario_own), TORTURE(scenario_escaped)};

	return TESTS_OR_TORTURE(tests, torture);
}
