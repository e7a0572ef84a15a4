/* Built-in schemes against vectors of the providers' own packages, and every change to a request
 * that they sign. */
#include "verify_rig.h"

#include "weir/base/form.h"

static void set_query(struct made *m, const char *target)
{
	struct str query = str_of(target);

	m->req.target = query;
	str_split(&query, '?');
	m->req.query = query;
}

/* Each byte of a text is changed in turn; none of these requests may be taken. */
static void expect_none(const struct tools *set, struct made *m, struct str *text)
{
	struct str good = *text;
	char changed[2048];

	assert_true(good.len < sizeof(changed));
	assert_int_equal(verify(set, &m->req), VERIFY_OK);
	for (size_t i = 0; i < good.len; i++) {
		memcpy(changed, good.ptr, good.len);
		changed[i] ^= 1;
		*text = str_n(changed, good.len);
		if (verify(set, &m->req) == VERIFY_OK)
			fail_msg("byte %zu may be changed", i);
	}
	for (size_t len = 0; len < good.len; len++) {
		*text = str_n(good.ptr, len);
		if (verify(set, &m->req) == VERIFY_OK)
			fail_msg("%zu bytes are enough", len);
	}
	*text = good;
	assert_int_equal(verify(set, &m->req), VERIFY_OK);
}

/* ---- Twilio ---- */

static struct tools *twilio(const char *url)
{
	char members[400];

	snprintf(members, sizeof(members),
	         "\"preset\":\"twilio\",\"secrets\":[\"new\",\"12345\"],\"url\":\"%s\"", url);
	return one_tool(members);
}

static const char twilio_form[] = "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&"
                                  "From=%2B14158675309&To=%2B18005551212";

static void test_twilio_form(void **state)
{
	struct tools *set = twilio("https://mycompany.com/myapp.php?foo=1&bar=2");
	struct made m;

	(void)state;
	made_init(&m, twilio_form);
	made_header(&m, "X-Twilio-Signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
	expect(set, &m, VERIFY_OK);
	assert_int_equal(result.secret, 1);
	expect_none(set, &m, &m.headers[0].value);
	/* The order of fields does not matter, their bytes do. */
	m.req.body = STR("To=%2B18005551212&Caller=%2B14158675309&Digits=1234&"
	                 "From=%2B14158675309&CallSid=CA1234567890ABCDE");
	expect(set, &m, VERIFY_OK);
	m.req.body = STR("To=%2B18005551212&Caller=%2B14158675309&Digits=1235&"
	                 "From=%2B14158675309&CallSid=CA1234567890ABCDE");
	expect(set, &m, VERIFY_WRONG);
	m.req.body = STR("{}");
	expect(set, &m, VERIFY_WRONG);
	m.req.body = STR("a=%zz");
	expect(set, &m, VERIFY_MALFORMED);
	m.req.body = str_of(twilio_form);
	/* The query that came is the one that counts. */
	set_query(&m, "/webhooks/t?foo=1&bar=2");
	expect(set, &m, VERIFY_OK);
	set_query(&m, "/webhooks/t?foo=1&bar=3");
	expect(set, &m, VERIFY_WRONG);
	set_query(&m, "/webhooks/t");
	made_header(&m, "X-Twilio-Signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
	expect(set, &m, VERIFY_DOUBLED);
	m.req.header_count = 0;
	expect(set, &m, VERIFY_MISSING);
	made_header(&m, "X-Twilio-Signature", "RSOYDt4T1cUTdK1PDd93");
	expect(set, &m, VERIFY_ENCODING);
	tools_unref(set);
}

static void test_twilio_url(void **state)
{
	static const struct {
		const char *url, *body, *sig;
	} cases[] = {
	    {"https://u:p@mycompany.com:8443/a", "B=2&C=&A=x+y&B=1&B=2",
	     "6lzIJVVh95JQY1Ougbb216d9h8o="},
	    {"https://u:p@mycompany.com:8443/a", "B=2&C=&A=x+y&B=1&B=2",
	     "pyBpLYB7liSITcPyrJo2/1gZwXE="}, /* signed without the port */
	    {"https://u:p@mycompany.com/a", "B=2&C=&A=x+y&B=1&B=2", "pyBpLYB7liSITcPyrJo2/1gZwXE="},
	    {"https://mycompany.com/a", "A=%C3%A4", "aU7B8iGliQCX5Hz0IfJOKj82qCw="}, /* :443 */
	    {"https://mycompany.com:443/a", "A=%C3%A4", "aU7B8iGliQCX5Hz0IfJOKj82qCw="},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tools *set = twilio(cases[i].url);
		struct made m;

		made_init(&m, cases[i].body);
		made_header(&m, "X-Twilio-Signature", cases[i].sig);
		expect(set, &m, VERIFY_OK);
		tools_unref(set);
	}
}

/* Spellings that npm's twilio 6.2.0 takes of one URL, and two that it does not. */
static void test_twilio_spellings(void **state)
{
	static const struct {
		const char *sig;
		enum verify_verdict want;
	} cases[] = {
	    {"WTWFLQe34JE43Qo0jW8Zh/lXiP8=", VERIFY_OK}, /* as it stands */
	    {"bNK/fp1lM0qGeYBe6zQL2bVxNzQ=",
	     VERIFY_OK}, /* /a%20b/%7B%C3%A9%7D?x=%271+2%27&&y=%zz&z */
	    {"/bZQkqUmOacVYdEcudKPIHzwjtM=", VERIFY_OK},    /* …?x='1%202'&y=%25zz&z= */
	    {"MRZX7o2pOavbDtVPgsdBV5tTYlI=", VERIFY_OK},    /* the same without the port */
	    {"1bsFJrHo4/Dv+72hofs8XEBuOuw=", VERIFY_WRONG}, /* the host as Mycompany.com */
	    {"v20wNtqH7uW8LmeGhx8onBwVLCI=", VERIFY_WRONG}, /* x=%281+2%27 */
	};
	struct tools *set = twilio("https://u@MyCompany.com:8443/a b/{é}?x='1+2'&&y=%zz&z");

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct made m;

		made_init(&m, "A=1");
		made_header(&m, "X-Twilio-Signature", cases[i].sig);
		expect(set, &m, cases[i].want);
	}
	tools_unref(set);
}

#define BODY_HASH "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"

static void test_twilio_body_hash(void **state)
{
	struct tools *set = twilio("https://mycompany.com/myapp.php#rc=3");
	struct made m;

	(void)state;
	made_init(&m, "{\"a\":1}");
	set_query(&m, "/webhooks/t?foo=1&bar=2&bodySHA256=" BODY_HASH);
	made_header(&m, "X-Twilio-Signature", "4GRKZCSU22d9rOjm+ecma7jyO8o=");
	expect(set, &m, VERIFY_OK);
	expect_none(set, &m, &m.headers[0].value);
	expect_none(set, &m, &m.req.query);
	expect_none(set, &m, &m.req.body);
	set_query(&m, "/webhooks/t?foo=1&bar=2&bodySHA256=" BODY_HASH "&bodySHA256=" BODY_HASH);
	expect(set, &m, VERIFY_MALFORMED);
	set_query(&m, "/webhooks/t?foo=1&bar=2&bodySHA256=00");
	expect(set, &m, VERIFY_ENCODING);
	set_query(&m, "/webhooks/t?foo=1&bar=2"); /* then the body is covered as a form */
	expect(set, &m, VERIFY_WRONG);
	tools_unref(set);
}

/* ---- JWT ---- */

#define HEAD "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9"
#define TOKEN                                                                                   \
	HEAD ".eyJpc3MiOiJrIiwiaWF0IjoxNzMxNzA1MTAwLCJleHAiOjE3MzE3MDUyODAsInFzaCI6IjNkMTRiYj"  \
	     "QxNGU5Zjg1N2RlY2IzMzUzN2FjNTBiNjViMDYyMGJhODcxMjRhNjU5NzE1MTJkNWZhNzIwNzc0ZDYifQ" \
	     ".xbl9_PifwYs_fDA23fBHiqZUqEJTiFYngg41F1vWnE8"
#define HS512                                                                                    \
	"eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzUxMiJ9."                                                  \
	"eyJpc3MiOiJrIiwiaWF0IjoxNzMxNzA1MTAwLCJleHAiOjE3MzE3MDUyODAsInFzaCI6IjNkMTRiYjQxNGU5Zj" \
	"g1N2RlY2IzMzUzN2FjNTBiNjViMDYyMGJhODcxMjRhNjU5NzE1MTJkNWZhNzIwNzc0ZDYifQ."              \
	"NTAQRJyu9h_WplA0kh3AMTa0J-11lHA65Qc-ixCB0uffDxiurABUXn992SBlpNeWsznsBkiQp8fWZdDZVWc0nA"
/* Over POST&/webhooks/t%26x&a=0,1&b=2&b2=%20~%2A%20%21%C3%A4&c= */
#define TOKEN_OF_QUERY                                                           \
	"eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJrIiwiaWF0IjoxNzMxNzA1M" \
	"TAwLCJleHAiOjE3MzE3MDUyODAsInFzaCI6IjEzMGFhNTIzNzYyYTE0M2ZhZTlhOTNiNWE" \
	"3ZjhkMTFlY2MzMzI1YjJiMDY5MmJkMDMwNjRlOTUzYjZhNTNiNjEifQ.qGFJyJI1JVybhi" \
	"y7liDeYlVd8G_K_9L5wlqr9c8SyX0"

static struct tools *jwt(const char *url)
{
	char members[400];

	snprintf(members, sizeof(members),
	         "\"preset\":\"jira-connect\",\"secrets\":[\"other\",\"shared\"],\"url\":\"%s\"",
	         url);
	return one_tool(members);
}

static void test_jwt_vector(void **state)
{
	struct tools *set = jwt("https://h.example/");
	struct made m;

	(void)state;
	made_init(&m, "{}");
	made_header(&m, "Authorization", "JWT " TOKEN);
	expect(set, &m, VERIFY_OK);
	assert_int_equal(result.secret, 1);
	expect_none(set, &m, &m.headers[0].value);
	m.headers[0].value = STR("bearer " TOKEN);
	expect(set, &m, VERIFY_OK);
	m.req.method = STR("PUT");
	expect(set, &m, VERIFY_WRONG);
	m.req.method = STR("POST");
	set_query(&m, "/webhooks/t?a=1");
	expect(set, &m, VERIFY_WRONG);
	set_query(&m, "/webhooks/t?a=%zz");
	expect(set, &m, VERIFY_MALFORMED);
	set_query(&m, "/webhooks/t/?jwt=" TOKEN);
	expect(set, &m, VERIFY_OK);
	set_query(&m, "/webhooks/u");
	expect(set, &m, VERIFY_WRONG);
	tools_unref(set);
	set = jwt("https://h.example/webhooks");
	set_query(&m, "/webhooks/t");
	expect(set, &m, VERIFY_WRONG);
	set_query(&m, "/webhooks/webhooks/t");
	expect(set, &m, VERIFY_OK);
	tools_unref(set);
}

static void test_jwt_query(void **state)
{
	struct tools *set = jwt("https://h.example/app");
	struct made m;

	(void)state;
	made_init(&m, "{}");
	made_header(&m, "Authorization", "JWT " TOKEN_OF_QUERY);
	set_query(&m, "/app/webhooks/t&x/?b=2&a=1&jwt=zz&a=0&b2=%20~*+!%C3%A4&c");
	expect(set, &m, VERIFY_OK);
	set_query(&m, "/webhooks/t&x?a=0&a=1&b=2&b2=%20%7e%2A%20%21%c3%a4&c="); /* behind a proxy */
	expect(set, &m, VERIFY_OK);
	set_query(&m, "/application/webhooks/t&x?a=0&a=1&b=2&b2=%20%7e%2A%20%21%c3%a4&c=");
	expect(set, &m, VERIFY_WRONG);
	set_query(&m, "/app/webhooks/t&x/?b=2&a=1&a=2&b2=%20~*+!%C3%A4&c");
	expect(set, &m, VERIFY_WRONG);
	tools_unref(set);
}

static void test_jwt_time(void **state)
{
	struct tools *set = jwt("https://h.example");
	struct made m;

	(void)state;
	made_init(&m, "{}");
	made_header(&m, "Authorization", "JWT " TOKEN);
	m.req.now = (1731705280 + 30) * USEC_PER_SEC;
	expect(set, &m, VERIFY_OK);
	m.req.now++;
	expect(set, &m, VERIFY_STALE);
	assert_true(result.age > 30 * USEC_PER_SEC);
	/* Since it was issued; it was to hold for three minutes. */
	assert_true(result.timed);
	assert_int_equal(result.skew, 210 * USEC_PER_SEC + 1);
	m.req.method = STR("PUT"); /* a request that the token is not for */
	expect(set, &m, VERIFY_STALE);
	assert_false(result.timed);
	m.req.method = STR("POST");
	m.req.now = (1731705100 - 30) * USEC_PER_SEC;
	expect(set, &m, VERIFY_OK);
	assert_true(result.timed);
	assert_int_equal(result.skew, -30 * USEC_PER_SEC);
	m.req.now--;
	expect(set, &m, VERIFY_FUTURE);
	m.headers[0].value.len--; /* also a wrong one */
	expect(set, &m, VERIFY_ENCODING);
	tools_unref(set);
}

/* A token of the test's own, signed with "shared" as any key can be had to sign. */
static void own_token(const char *head, const char *claims, struct buf *out)
{
	struct hmac *h;
	uint8_t mac[DIGEST_MAX_LEN];
	struct str text;

	buf_reset(out);
	assert_int_equal(base64_encode(out, head, strlen(head), true), ERR_OK);
	buf_add_char(out, '.');
	assert_int_equal(base64_encode(out, claims, strlen(claims), true), ERR_OK);
	text = buf_str(out);
	assert_int_equal(hmac_new(DIGEST_SHA256, STR("shared"), &h), ERR_OK);
	assert_int_equal(hmac_parts(h, &text, 1, mac), ERR_OK);
	hmac_free(h);
	buf_add_char(out, '.');
	assert_int_equal(base64_encode(out, mac, 32, true), ERR_OK);
}

#define QSH    "\"qsh\":\"3d14bb414e9f857decb33537ac50b65b0620ba87124a65971512d5fa720774d6\""
#define TIMES  "\"iat\":1731705100,\"exp\":1731705280"
#define HS256  "{\"alg\":\"HS256\"}"
#define CLAIMS "{" TIMES "," QSH "}"

static void test_jwt_structure(void **state)
{
	static const struct {
		const char *head, *claims;
		enum verify_verdict want;
	} cases[] = {
	    {HS256, CLAIMS, VERIFY_OK},
	    {"{\"alg\":\"none\"}", CLAIMS, VERIFY_ENCODING},
	    {"{\"alg\":\"hs256\"}", CLAIMS, VERIFY_ENCODING},
	    {"{\"alg\":\"RS256\"}", CLAIMS, VERIFY_ENCODING},
	    {"{\"alg\":[\"HS256\"]}", CLAIMS, VERIFY_ENCODING},
	    {"{}", CLAIMS, VERIFY_ENCODING},
	    {"{\"alg\":\"HS256\",\"crit\":[\"x\"]}", CLAIMS, VERIFY_ENCODING},
	    {"[]", CLAIMS, VERIFY_ENCODING},
	    {"{\"alg\":\"HS256\"", CLAIMS, VERIFY_ENCODING},
	    {HS256, "[1]", VERIFY_ENCODING},
	    {HS256, "{" TIMES "," QSH, VERIFY_ENCODING},
	    {HS256, "{" TIMES "}", VERIFY_PART_MISSING},
	    {HS256, "{" TIMES ",\"qsh\":\"context-qsh\"}", VERIFY_ENCODING},
	    {HS256, "{" TIMES ",\"qsh\":17}", VERIFY_ENCODING},
	    {HS256, "{\"iat\":1731705100," QSH "}", VERIFY_TS_MISSING},
	    {HS256, "{\"exp\":1731705280," QSH "}", VERIFY_TS_MISSING},
	    {HS256, "{\"iat\":1731705100,\"exp\":\"1731705280\"," QSH "}", VERIFY_TS_MALFORMED},
	    {HS256, "{\"iat\":1731705100,\"exp\":1e20," QSH "}", VERIFY_TS_MALFORMED},
	    {HS256, "{" TIMES ",\"nbf\":1731705152," QSH "}", VERIFY_FUTURE},
	    {HS256, "{" TIMES ",\"nbf\":1731705151," QSH "}", VERIFY_OK},
	};
	struct tools *set = jwt("https://h.example");
	struct buf token;
	struct made m;

	(void)state;
	buf_init(&token, 4000);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char header[2000];

		own_token(cases[i].head, cases[i].claims, &token);
		snprintf(header, sizeof(header), "JWT %s", token.ptr);
		made_init(&m, "{}");
		made_header(&m, "Authorization", header);
		print_message("%s %s\n", cases[i].head, cases[i].claims);
		expect(set, &m, cases[i].want);
	}
	made_init(&m, "{}");
	made_header(&m, "Authorization", "JWT " HS512);
	expect(set, &m, VERIFY_ENCODING);
	m.headers[0].value = STR("JWT " HEAD ".e30.");
	expect(set, &m, VERIFY_ENCODING);
	m.headers[0].value = STR("JWT " TOKEN ".x");
	expect(set, &m, VERIFY_ENCODING);
	m.headers[0].value = STR("Basic " TOKEN);
	expect(set, &m, VERIFY_ENCODING);
	m.headers[0].value = STR("JWT");
	expect(set, &m, VERIFY_ENCODING);
	m.req.header_count = 0;
	expect(set, &m, VERIFY_MISSING);
	buf_done(&token);
	tools_unref(set);
}

/* ---- {formsorted} ---- */

static void test_form_sorted(void **state)
{
	struct tools *set =
	    one_tool("\"secrets\":[\"k\"],\"url\":\"https://h/x\",\"recipe\":{\"sig\":"
	             "\"header:s\",\"signed\":\"{url}{formsorted}\",\"enc\":\"base64\","
	             "\"hash\":\"sha1\"}");
	struct hmac *h;
	struct str text = STR("https://h/xA1bx yb\xc3\xa4z");
	uint8_t mac[DIGEST_MAX_LEN];
	struct buf sig;
	struct made m;

	(void)state;
	assert_int_equal(hmac_new(DIGEST_SHA1, STR("k"), &h), ERR_OK);
	assert_int_equal(hmac_parts(h, &text, 1, mac), ERR_OK);
	hmac_free(h);
	buf_init(&sig, 100);
	assert_int_equal(base64_encode(&sig, mac, 20, false), ERR_OK);
	made_init(&m, "z&b=%c3%a4&b=x+y&A=1&b=x%20y&");
	made_header(&m, "S", sig.ptr);
	expect(set, &m, VERIFY_OK);
	m.req.body = STR("z=&b=%c3%a4&b=x+y&A=1&b=x%20y");
	expect(set, &m, VERIFY_OK);
	m.req.body = STR("z&b=%c3%a4&b=x+y&A=2");
	expect(set, &m, VERIFY_WRONG);
	m.req.body = STR("z&b=%c3%a");
	expect(set, &m, VERIFY_MALFORMED);
	buf_done(&sig);
	tools_unref(set);
}

static void test_form_bounds(void **state)
{
	struct form_fields f = {.n = 0};
	struct buf b;

	(void)state;
	buf_init(&b, 1 << 20);
	for (int i = 0; i < FORM_MAX_FIELDS; i++)
		buf_addf(&b, "%d=%d&", FORM_MAX_FIELDS - i, i);
	assert_int_equal(form_fields_read(&f, buf_str(&b), true), ERR_OK);
	assert_int_equal(f.n, FORM_MAX_FIELDS);
	assert_true(str_eq(f.list[1].name, STR("10")));
	buf_addf(&b, "x=");
	assert_int_equal(form_fields_read(&f, buf_str(&b), true), ERR_TOOBIG);
	assert_int_equal(form_fields_read(&f, STR("&&"), true), ERR_OK);
	assert_int_equal(f.n, 0);
	assert_int_equal(form_fields_read(&f, STR_NONE, false), ERR_OK);
	assert_int_equal(f.n, 0);
	buf_done(&b);
	form_fields_done(&f);
}

/* ---- without memory ---- */

static void try_one(const char *members, const char *header, const char *value, const char *target)
{
	char text[1000];
	struct tools *set;
	struct recipe_input in;
	enum verify_verdict v;
	struct made m;

	snprintf(text, sizeof(text), "{\"tools\":[{\"id\":\"t\",%s}]}", members);
	if (tools_parse(str_of(text), "test", &set, NULL) != ERR_OK)
		return;
	made_init(&m, twilio_form);
	made_header(&m, header, value);
	set_query(&m, target);
	recipe_input_init(&in);
	recipe_input_bind(&in, tools_at(set, 0)->recipe, &m.req);
	v = verify_request(&in, &result);
	if (v != VERIFY_OK && v != VERIFY_NOMEM)
		fail_msg("without memory it is neither right nor wrong");
	recipe_input_done(&in);
	tools_unref(set);
}

static void scenario_verify(void)
{
	try_one("\"preset\":\"twilio\",\"secrets\":[\"12345\"],\"url\":"
	        "\"https://mycompany.com/myapp.php?foo=1&bar=2\"",
	        "X-Twilio-Signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8=", "/webhooks/t");
	try_one("\"preset\":\"jira-connect\",\"secrets\":[\"shared\"],\"url\":\"https://h/app\"",
	        "Authorization", "JWT " TOKEN_OF_QUERY,
	        "/app/webhooks/t&x/?b=2&a=1&jwt=zz&a=0&b2=%20~*+!%C3%A4&c");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_twilio_form),      cmocka_unit_test(test_twilio_url),
	    cmocka_unit_test(test_twilio_spellings), cmocka_unit_test(test_twilio_body_hash),
	    cmocka_unit_test(test_jwt_vector),       cmocka_unit_test(test_jwt_query),
	    cmocka_unit_test(test_jwt_time),         cmocka_unit_test(test_jwt_structure),
	    cmocka_unit_test(test_form_sorted),      cmocka_unit_test(test_form_bounds),
	};
	const struct torture torture[] = {TORTURE(scenario_verify)};

	return TESTS_OR_TORTURE(tests, torture);
}
