/* Handshakes of the presets, as their providers send them; and what must not be had from them: a
 * signature of a text of one's choice, markup, an answer without being verified. */
#include "torture.h"

#include "recipe_util.h"

#include "weir/base/digest.h"
#include "weir/receive/handshake.h"
#include "weir/receive/intake.h"

static struct intake *intake;
static struct tools *set;

static void open_tool(const char *members)
{
	set = one_tool(members);
	assert_int_equal(intake_new(1 << 20, &intake), ERR_OK);
}

static void close_tool(void)
{
	intake_free(intake);
	tools_unref(set);
}

static void run(struct made *m, enum http_method method, struct intake_result *ret)
{
	m->req.method = str_of(http_method_name(method));
	intake_run(intake, tools_at(set, 0), method, &m->req, NOW, ret);
}

static void answers(struct made *m, enum http_method method, int status, const char *body)
{
	struct intake_result in;

	run(m, method, &in);
	if (in.status != 200 || !in.hand)
		fail_msg("%d %s", in.status, in.reason);
	assert_int_equal(in.hand->status, status);
	assert_int_equal(in.answer->body.len, strlen(body));
	assert_true(str_eq(buf_str(&in.answer->body), str_of(body)));
	assert_int_equal(in.n, 0);
}

static void refuses(struct made *m, enum http_method method, int status, const char *reason)
{
	struct intake_result in;

	run(m, method, &in);
	assert_null(in.hand);
	assert_int_equal(in.status, status);
	assert_string_equal(in.reason, reason);
}

/* The body, signed as the tool's provider would. */
static void signed_body(struct made *m, struct signed_request *s, const char *body)
{
	struct sign_options o = {.now = NOW, .body = str_of(body)};
	struct err_info info = {0};

	if (recipe_sign(tools_at(set, 0), &o, s, &info) != ERR_OK)
		fail_msg("%s", info.text);
	made_of_signed(m, s);
}

static void test_slack(void **state)
{
	struct signed_request s;
	struct made m;

	(void)state;
	open_tool("\"preset\":\"slack\",\"secrets\":[\"hush\"]");
	signed_body(&m, &s,
	            "{\"type\":\"url_verification\",\"challenge\":\"3eZbrw1aBm2rZgRNFdxV\"}");
	answers(&m, HTTP_POST, 200, "3eZbrw1aBm2rZgRNFdxV");
	made_find(&m, "x-slack-signature")->value = STR("v0=00");
	refuses(&m, HTTP_POST, 401, "signature_encoding");
	signed_request_done(&s);
	signed_body(&m, &s, "{\"type\":\"url_verification\",\"challenge\":\"<script>\"}");
	refuses(&m, HTTP_POST, 400, "handshake_value");
	refuses(&m, HTTP_GET, 405, "method");
	signed_request_done(&s);
	close_tool();
}

/* The answer is HMAC-SHA256 of the token by the secret, in hex. */
static void test_zoom(void **state)
{
	struct str token = STR("qgg8vlvZRS6UYooatFL8Aw");
	char expected[200], hex[65];
	struct signed_request s;
	uint8_t mac[32];
	struct hmac *h;
	struct made m;

	(void)state;
	assert_int_equal(hmac_new(DIGEST_SHA256, STR("hush"), &h), ERR_OK);
	assert_int_equal(hmac_parts(h, &token, 1, mac), ERR_OK);
	hmac_free(h);
	hex_encode(mac, 32, hex);
	snprintf(expected, sizeof(expected), "{\"plainToken\":\"%s\",\"encryptedToken\":\"%s\"}",
	         token.ptr, hex);
	open_tool("\"preset\":\"zoom\",\"secrets\":[\"hush\"]");
	signed_body(&m, &s,
	            "{\"event\":\"endpoint.url_validation\",\"payload\":{\"plainToken\":"
	            "\"qgg8vlvZRS6UYooatFL8Aw\"}}");
	answers(&m, HTTP_POST, 200, expected);
	/* Not to be had without a signature, nor for a text that could be a signed content. */
	m.req.header_count = 1;
	refuses(&m, HTTP_POST, 401, "signature_missing");
	signed_request_done(&s);
	signed_body(&m, &s,
	            "{\"event\":\"endpoint.url_validation\",\"payload\":{\"plainToken\":"
	            "\"v0:1731705121:{}\"}}");
	refuses(&m, HTTP_POST, 400, "handshake_value");
	signed_request_done(&s);
	close_tool();
}

static void get(struct made *m, const char *query)
{
	made_init(m, "");
	m->req.query = str_of(query);
}

static void test_meta(void **state)
{
	struct made m;

	(void)state;
	open_tool("\"preset\":\"meta\",\"secrets\":[\"hush\"],\"verify_token\":\"meatyham\"");
	get(&m, "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyham");
	answers(&m, HTTP_GET, 200, "1158201444");
	get(&m, "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhan");
	refuses(&m, HTTP_GET, 403, "verify_token");
	get(&m, "hub.mode=subscribe&hub.challenge=1158201444");
	refuses(&m, HTTP_GET, 403, "verify_token");
	get(&m, "hub.mode=subscribe&hub.challenge=%3Cb%3E&hub.verify_token=meatyham");
	refuses(&m, HTTP_GET, 400, "handshake_value");
	get(&m, "hub.mode=subscribe&hub.verify_token=meatyham");
	refuses(&m, HTTP_GET, 400, "handshake_value");
	get(&m, "hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=meatyham");
	refuses(&m, HTTP_GET, 405, "method");
	close_tool();
}

static void test_twitch(void **state)
{
	struct signed_request s;
	struct made m;

	(void)state;
	open_tool("\"preset\":\"twitch\",\"secrets\":[\"hush\"]");
	signed_body(&m, &s, "{\"challenge\":\"pogchamp-kappa-360noscope-vohiyo\"}");
	made_header(&m, "Twitch-Eventsub-Message-Type", "webhook_callback_verification");
	answers(&m, HTTP_POST, 200, "pogchamp-kappa-360noscope-vohiyo");
	signed_request_done(&s);
	close_tool();
}

static void test_event_grid(void **state)
{
	const char *body =
	    "[{\"id\":\"1\",\"eventType\":\"Microsoft.EventGrid."
	    "SubscriptionValidationEvent\",\"data\":{\"validationCode\":\"512d\\\"x\"}}]";
	struct made m;

	(void)state;
	open_tool("\"preset\":\"event-grid\",\"secrets\":[\"hush\"]");
	made_init(&m, body);
	made_header(&m, "aeg-event-type", "SubscriptionValidation");
	refuses(&m, HTTP_POST, 401, "signature_missing");
	m.req.query = STR("token=hush");
	answers(&m, HTTP_POST, 200, "{\"validationResponse\":\"512d\\\"x\"}");
	m.req.body = STR("[{\"data\":{\"validationCode\":\"<script>\"}}]");
	refuses(&m, HTTP_POST, 400, "handshake_value");
	m.req.body = STR("[{\"data\":{\"validationCode\":\"a\\u2028\"}}]");
	refuses(&m, HTTP_POST, 400, "handshake_value");
	m.req.body = STR("[{\"data\":{\"validationCode\":\"\"}}]");
	refuses(&m, HTTP_POST, 400, "handshake_value");
	close_tool();
}

static void test_cloudevents(void **state)
{
	struct intake_result in;
	struct made m;

	(void)state;
	open_tool("\"preset\":\"cloudevents\",\"secrets\":[\"hush\"]");
	made_init(&m, "");
	made_header(&m, "WebHook-Request-Origin", "eventemitter.example.com");
	answers(&m, HTTP_OPTIONS, 200, "");
	run(&m, HTTP_OPTIONS, &in);
	assert_int_equal(in.hand->header_count, 3);
	assert_string_equal(in.hand->headers[0].name.ptr, "WebHook-Allowed-Origin");
	assert_string_equal(in.answer->headers[0].ptr, "eventemitter.example.com");
	m.headers[0].value = STR("<b>");
	refuses(&m, HTTP_OPTIONS, 400, "handshake_value");
	m.headers[0].name = STR("Origin");
	refuses(&m, HTTP_OPTIONS, 405, "method");
	close_tool();
}

static void test_discord(void **state)
{
	struct str parts[] = {STR("1731705121"), STR("{\"type\":0}")};
	struct buf raw, sig;
	struct keypair *key;
	char text[512], hex[129];
	struct made m;

	(void)state;
	buf_init(&raw, 64);
	buf_init(&sig, 64);
	assert_int_equal(keypair_new(PUBKEY_ED25519, &key), ERR_OK);
	assert_int_equal(keypair_public(key, PUBKEY_RAW, &raw), ERR_OK);
	assert_int_equal(keypair_sign(key, DIGEST_SHA256, parts, 2, &sig), ERR_OK);
	hex_encode((const uint8_t *)raw.ptr, raw.len, hex);
	snprintf(text, sizeof(text), "\"preset\":\"discord\",\"secrets\":[\"%s\"]", hex);
	open_tool(text);
	hex_encode((const uint8_t *)sig.ptr, sig.len, hex);
	made_init(&m, "{\"type\":0}");
	made_header(&m, "X-Signature-Timestamp", "1731705121");
	made_header(&m, "X-Signature-Ed25519", hex);
	answers(&m, HTTP_POST, 204, "");
	/* Discord sends such on purpose. */
	hex[0] = hex[0] == '0' ? '1' : '0';
	refuses(&m, HTTP_POST, 401, "signature_wrong");
	close_tool();
	keypair_free(key);
	buf_done(&raw);
	buf_done(&sig);
}

static void test_graph_okta_intercom(void **state)
{
	struct made m;

	(void)state;
	open_tool("\"preset\":\"microsoft-graph\",\"secrets\":[\"hush\"]");
	get(&m, "validationToken=Validation%3A+Testing+client+application");
	answers(&m, HTTP_POST, 200, "Validation: Testing client application");
	get(&m, "validationToken=%3Cscript%3E");
	refuses(&m, HTTP_POST, 400, "handshake_value");
	close_tool();
	open_tool("\"preset\":\"okta\",\"secrets\":[\"hush\"]");
	made_init(&m, "");
	made_header(&m, "X-Okta-Verification-Challenge", "abc\"123");
	refuses(&m, HTTP_GET, 401, "signature_missing");
	made_header(&m, "Authorization", "hush");
	answers(&m, HTTP_GET, 200, "{\"verification\":\"abc\\\"123\"}");
	m.headers[0].value = STR("<b>");
	refuses(&m, HTTP_GET, 400, "handshake_value");
	close_tool();
	open_tool("\"preset\":\"intercom\",\"secrets\":[\"hush\"]");
	made_init(&m, "");
	answers(&m, HTTP_HEAD, 200, "");
	refuses(&m, HTTP_GET, 405, "method");
	close_tool();
}

static void refused(const char *hand, const char *why)
{
	char text[1024];
	struct err_info info = {0};
	struct tools *none;

	snprintf(text, sizeof(text),
	         "{\"tools\":[{\"id\":\"t\",\"secrets\":[\"s\"],\"recipe\":{\"sig\":\"header:x\","
	         "\"hand\":[%s]}}]}",
	         hand);
	assert_int_equal(tools_parse(str_of(text), "f", &none, &info), ERR_INVAL);
	if (!strstr(info.text, why))
		fail_msg("%s gave \"%s\", not \"%s\"", hand, info.text, why);
}

static void test_refused(void **state)
{
	(void)state;
	refused("1", "must be a list of objects");
	refused("{}", "verify must be written");
	refused("{\"verify\":false}", "when must be a condition");
	refused("{\"verify\":false,\"when\":[]}", "when must be a condition");
	refused("{\"verify\":false,\"when\":[1]}", "when must hold strings");
	refused("{\"verify\":false,\"when\":\"method=PUT\"}", "must be GET, HEAD, POST or OPTIONS");
	refused("{\"verify\":false,\"when\":\"nonsense\"}", "is no source");
	refused("{\"verify\":false,\"when\":\"method=GET\",\"status\":301}", "must be 200 to 204");
	refused("{\"verify\":false,\"when\":\"method=GET\",\"type\":\"text/html\"}",
	        "must be text/plain or application/json");
	refused("{\"verify\":false,\"when\":\"method=GET\",\"wen\":1}", "no such member: wen");
	refused("{\"verify\":false,\"when\":\"method=GET\",\"body\":\"{json:a\"}", "a { has no }");
	refused("{\"verify\":false,\"when\":\"method=GET\",\"body\":\"{hmac:query:a}\"}",
	        "signs for whoever asks");
	refused("{\"verify\":false,\"when\":\"method=GET\",\"headers\":{\"a b\":\"x\"}}",
	        "no header name");
	refused("{\"verify\":false,\"when\":\"method=GET\",\"token\":\"query:t\"}",
	        "verify_token: is needed");
}

/* One that is posted, with escapes, and one that is asked by GET. Never is the sender at fault. */
static void scenario(const char *members, const char *body, const char *query, const char *answer)
{
	enum http_method method = query ? HTTP_GET : HTTP_POST;
	struct intake_result in;
	struct tools *all;
	struct intake *k;
	struct made m;
	char text[300];

	snprintf(text, sizeof(text), "{\"tools\":[{\"id\":\"t\",%s}]}", members);
	if (tools_parse(str_of(text), "f", &all, NULL) != ERR_OK)
		return;
	if (intake_new(1 << 20, &k) == ERR_OK) {
		made_init(&m, body);
		m.req.method = str_of(http_method_name(method));
		m.req.query = query ? str_of(query) : STR_NONE;
		intake_run(k, tools_at(all, 0), method, &m.req, NOW, &in);
		assert_true(in.status == 503 || (in.status == 200 && in.hand));
		if (in.status == 200)
			assert_true(str_starts(buf_str(&in.answer->body), str_of(answer)));
		intake_free(k);
	}
	tools_unref(all);
}

static void scenario_repeating(void)
{
	scenario(
	    "\"secrets\":[\"hush\"],\"recipe\":{\"sig\":\"header:x\",\"hand\":[{\"verify\":false,"
	    "\"when\":\"json:a=b\",\"body\":\"{json:c}\",\"headers\":{\"X-C\":\"{json:c}\"}}]}",
	    "{\"a\":\"\\u0062\",\"c\":\"\\u0064\"}", NULL, "d");
}

static void scenario_asking(void)
{
	scenario("\"preset\":\"meta\",\"secrets\":[\"hush\"],\"verify_token\":\"meatyham\"", "",
	         "hub.mode=%73ubscribe&hub.challenge=%31158&hub.verify_token=%6deatyham", "1158");
}

int main(void)
{
	const struct torture torture[] = {TORTURE(scenario_repeating), TORTURE(scenario_asking)};
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_slack),      cmocka_unit_test(test_zoom),
	    cmocka_unit_test(test_meta),       cmocka_unit_test(test_twitch),
	    cmocka_unit_test(test_event_grid), cmocka_unit_test(test_cloudevents),
	    cmocka_unit_test(test_discord),    cmocka_unit_test(test_graph_okta_intercom),
	    cmocka_unit_test(test_refused),
	};

	return TESTS_OR_TORTURE(tests, torture);
}
