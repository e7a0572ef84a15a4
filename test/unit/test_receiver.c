/* The receiver between a ticket and a sink that are both made up here: what is answered, what is
 * counted, what the sink sees, and that a request ends exactly once whatever the sink does. */
#include "receiver_rig.h"
#include "weir/receive/verify.h"

/* ---- tests ---- */

static void test_accepted(void **state)
{
	char expected[200], uid[UUID_TEXT_LEN + 1];
	struct http_ticket t;

	(void)state;
	ticket_init(&t, "/webhooks/open", "{\"id\":1}");
	head_and_handle(&t);
	assert_int_equal(t.limit, 10);
	assert_true(t.answers == 0 && t.dropped);
	assert_int_equal(t.refs, 1);
	assert_int_equal(receiver_in_flight(scene.receiver), 1);
	assert_string_equal(scene.sink.ids, "1|");
	sink_done(ERR_OK);
	assert_true(t.refs == 0 && t.answers == 1);
	assert_int_equal(t.status, 200);
	uuid_format(&scene.sink.first, uid);
	snprintf(expected, sizeof(expected),
	         "{\"status\":\"accepted\",\"id\":\"%s\",\"ids\":[\"%s\"]}", uid, uid);
	assert_string_equal(t.text, expected);
	counted("webhooks_received_total{tool_id=\"open\",outcome=\"accepted\"} 1");
	counted("webhook_events_received_total{event_type=\"unknown\",tool_id=\"open\"} 1");
	counted("webhook_receive_duration_seconds_count 1");
}

static void test_signed(void **state)
{
	struct err_info info;
	struct sign_options o = {.now = NOW, .id = STR("d-1"), .type = STR("push")};
	struct signed_request s;
	struct http_ticket t;

	(void)state;
	assert_int_equal(recipe_sign(tools_find(scene.tools, STR("gh")), &o, &s, &info), ERR_OK);
	ticket_init(&t, "/webhooks/gh", "");
	made_of_signed(&t.made, &s);
	t.made.req.headers = t.made.headers;
	head_and_handle(&t);
	assert_int_equal(t.limit, 1000);
	assert_string_equal(scene.sink.ids, "d-1|");
	sink_done(ERR_OK);
	counted("webhook_events_received_total{event_type=\"push\",tool_id=\"gh\"} 1");
	counted("webhook_secret_matches_total{tool_id=\"gh\",secret=\"0\",fingerprint=\"");
	signed_request_done(&s);
	o.bad = true;
	assert_int_equal(recipe_sign(tools_find(scene.tools, STR("gh")), &o, &s, &info), ERR_OK);
	ticket_init(&t, "/webhooks/gh", "");
	made_of_signed(&t.made, &s);
	t.made.req.headers = t.made.headers;
	head_and_handle(&t);
	assert_int_equal(t.status, 401);
	assert_string_equal(t.more, "WWW-Authenticate: Webhook-Signature realm=\"webhooks\"");
	assert_string_equal(t.text, "the signature is wrong, or its time is over");
	assert_string_equal(t.text, verify_detail(VERIFY_STALE));
	assert_string_equal(t.text, verify_detail(VERIFY_FUTURE));
	assert_int_equal(scene.sink.calls, 1);
	counted("webhooks_received_total{tool_id=\"gh\",outcome=\"unauthorized\"} 1");
	signed_request_done(&s);
}

static void test_route(void **state)
{
	static const char *const unknown[] = {"/webhooks/",     "/webhooks/nope", "/webhooks/gh/",
	                                      "/webhooks/gh/x", "/webhooksgh",    "/webhooks",
	                                      "/webhooks/GH",   "/webhooks/gh%"};
	static char path[4096] = RECEIVER_PREFIX;
	struct http_ticket t;

	(void)state;
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		ticket_init(&t, unknown[i], "");
		t.method = i & 1 ? HTTP_GET : HTTP_POST;
		head_and_handle(&t);
		assert_int_equal(t.status, 404);
		assert_non_null(strstr(t.text, "there is no tool"));
	}
	ticket_init(&t, "/webhooks/nope", "");
	head_and_handle(&t);
	assert_string_equal(t.text, "there is no tool \"nope\"");
	memset(path + strlen(RECEIVER_PREFIX), 'a', 4000);
	ticket_init(&t, path, "");
	head_and_handle(&t);
	assert_true(strlen(t.text) < 120);
	assert_non_null(strstr(t.text, "aaa...\""));
	counted("webhooks_received_total{tool_id=\"-\",outcome=\"unknown_tool\"} 10");
	ticket_init(&t, "/webhooks/gh", "");
	t.method = HTTP_GET;
	head_and_handle(&t);
	assert_int_equal(t.status, 405);
	assert_string_equal(t.more, "Allow: POST");
	counted("webhooks_received_total{tool_id=\"gh\",outcome=\"malformed\"} 1");
	assert_int_equal(scene.sink.calls, 0);
}

static void test_content_encoding(void **state)
{
	struct http_ticket t;

	(void)state;
	ticket_init(&t, "/webhooks/open", "{}");
	made_header(&t.made, "Content-Encoding", "gzip");
	head_and_handle(&t);
	assert_int_equal(t.status, 415);
	ticket_init(&t, "/webhooks/open", "{}");
	made_header(&t.made, "Content-Encoding", "Identity");
	head_and_handle(&t);
	sink_done(ERR_OK);
	assert_int_equal(t.status, 200);
}

static void test_body_limit(void **state)
{
	struct http_ticket t;

	(void)state;
	ticket_init(&t, "/webhooks/open", "12345678901");
	head_and_handle(&t);
	assert_int_equal(t.status, 413);
	assert_string_equal(t.text, "the body is over the limit of 10 bytes");
	counted("webhooks_received_total{tool_id=\"open\",outcome=\"too_large\"} 1");
	ticket_init(&t, "/webhooks/open", "1234567890");
	head_and_handle(&t);
	sink_done(ERR_OK);
	assert_int_equal(t.status, 200);
	ticket_init(&t, "/webhooks/big", "");
	receiver_head(scene.receiver, &t);
	assert_int_equal(t.limit, 1000);
}

static void test_sink_refuses(void **state)
{
	static const struct {
		enum err e;
		int status;
		unsigned wait;
	} cases[] = {{ERR_FULL, 503, 7},    {ERR_NOMEM, 503, 7},  {ERR_UNAVAILABLE, 503, 7},
	             {ERR_TIMEOUT, 503, 7}, {ERR_CLOSED, 503, 7}, {ERR_CANCELLED, 503, 7},
	             {ERR_DENIED, 503, 7},  {ERR_BUG, 500, 0}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (int late = 0; late < 2; late++) {
			struct http_ticket t;

			ticket_init(&t, "/webhooks/open", "{}");
			scene.sink.refuse = late ? ERR_OK : cases[i].e;
			head_and_handle(&t);
			if (late)
				sink_done(cases[i].e);
			assert_int_equal(t.answers, 1);
			assert_int_equal(t.status, cases[i].status);
			assert_int_equal(t.retry_after, cases[i].wait);
			assert_int_equal(t.refs, 0);
		}
	}
	counted("webhooks_received_total{tool_id=\"open\",outcome=\"overload\"} 4");
	counted("webhooks_received_total{tool_id=\"open\",outcome=\"unavailable\"} 12");
	counted("webhooks_received_total{tool_id=\"open\",outcome=\"accepted\"} 0");
}

static void test_split(void **state)
{
	struct http_ticket t;

	(void)state;
	ticket_init(&t, "/webhooks/list", "[{\"id\":1},{\"id\":2},{}]");
	head_and_handle(&t);
	assert_int_equal(scene.sink.n, 3);
	assert_string_equal(scene.sink.ids, "1|2||");
	sink_done(ERR_OK);
	assert_int_equal(t.status, 200);
	assert_int_equal(strlen(t.text), 26 + 4 * 38 + 8 + 2 + 2);
	counted("webhooks_received_total{tool_id=\"list\",outcome=\"accepted\"} 1");
	counted("webhook_events_received_total{event_type=\"unknown\",tool_id=\"list\"} 3");
	ticket_init(&t, "/webhooks/list", "[]");
	head_and_handle(&t);
	assert_int_equal(t.status, 200);
	assert_string_equal(t.text, "{\"status\":\"accepted\",\"id\":null,\"ids\":[]}");
	assert_int_equal(scene.sink.calls, 1);
	ticket_init(&t, "/webhooks/list", "{}");
	head_and_handle(&t);
	assert_int_equal(t.status, 400);
}

/* A request whose token is "tok"; the event's id tells bodies apart. */
static void send_token(struct http_ticket *t, struct signed_request *r, const char *id)
{
	struct sign_options o = {.now = NOW};
	struct err_info info = {0};
	char body[400];

	snprintf(body, sizeof(body),
	         "{\"signature\":{\"timestamp\":\"1731705121\",\"token\":\"tok\",\"signature\":"
	         "\"%%SIGNATURE%%\"},\"event-data\":{\"id\":\"%s\",\"event\":\"x\"}}",
	         id);
	o.body = str_of(body);
	if (recipe_sign(tools_find(scene.tools, STR("mg")), &o, r, &info) != ERR_OK)
		fail_msg("%s", info.text);
	ticket_init(t, "/webhooks/mg", "");
	t->made.req.body = buf_str(&r->body);
	head_and_handle(t);
}

/* A token is the first body's that was accepted, and no refusal of ours takes it. */
static void test_token(void **state)
{
	struct signed_request r[6];
	struct http_ticket t[6];

	(void)state;
	scene.sink.refuse = ERR_FULL;
	send_token(&t[0], &r[0], "a");
	assert_int_equal(t[0].status, 503);
	scene.sink.refuse = ERR_OK;
	send_token(&t[1], &r[1], "b");
	sink_done(ERR_FULL);
	assert_int_equal(t[1].status, 503);
	send_token(&t[2], &r[2], "c"); /* while it waits for the sink, it is its own */
	send_token(&t[3], &r[3], "d");
	assert_int_equal(t[3].status, 401);
	assert_non_null(strstr(t[3].text, VERIFY_REFUSED)); /* as if the signature were wrong */
	sink_done(ERR_OK);
	assert_int_equal(t[2].status, 200);
	send_token(&t[4], &r[4], "c");
	sink_done(ERR_FULL); /* it was accepted before, so it stays */
	send_token(&t[5], &r[5], "e");
	assert_int_equal(t[5].status, 401);
	counted("webhooks_received_total{tool_id=\"mg\",outcome=\"unauthorized\"} 2");
	for (int i = 0; i < 6; i++)
		signed_request_done(&r[i]);
}

/* When nobody knows whether the events were stored, the token stays with them. */
static void test_token_unknown(void **state)
{
	struct signed_request r[2];
	struct http_ticket t[2];

	(void)state;
	send_token(&t[0], &r[0], "a");
	sink_done(ERR_TIMEOUT);
	assert_int_equal(t[0].status, 503);
	send_token(&t[1], &r[1], "b");
	assert_int_equal(t[1].status, 401);
	signed_request_done(&r[0]);
	signed_request_done(&r[1]);
}

#define SNS                                                                                        \
	"{\"Type\":\"Notification\",\"MessageId\":\"m\",\"TopicArn\":\"topic\",\"Message\":\"x\"," \
	"\"Timestamp\":\"2024-11-15T21:12:01Z\",\"SignatureVersion\":\"2\",\"Signature\":"         \
	"\"AAAA\","                                                                                \
	"\"SigningCertURL\":\"https://sns.eu-west-1.amazonaws.com/a.pem\"}"

/* It is our fault that there is no certificate, so the sender is to come again. */
static void test_no_certificate(void **state)
{
	struct http_ticket t;

	(void)state;
	ticket_init(&t, "/webhooks/ses", SNS);
	head_and_handle(&t);
	assert_int_equal(t.status, 503);
	assert_int_equal(t.retry_after, 7);
	assert_int_equal(t.refs, 0);
	counted("webhooks_received_total{tool_id=\"ses\",outcome=\"unavailable\"} 1");
}

/* Requests that overlap, and a tool set that changes under them. */
static void test_in_flight(void **state)
{
	event_sink_done_fn done[2];
	struct http_ticket t[2];
	void *arg[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		ticket_init(&t[i], "/webhooks/list", i ? "[1,2]" : "[3]");
		head_and_handle(&t[i]);
		done[i] = scene.sink.done;
		arg[i] = scene.sink.arg;
	}
	tools_unref(scene.tools);
	assert_int_equal(tools_parse(STR("{}"), "f", &scene.tools, NULL), ERR_OK);
	assert_int_equal(receiver_in_flight(scene.receiver), 2);
	done[1](arg[1], ERR_OK);
	done[0](arg[0], ERR_CLOSED);
	assert_int_equal(t[1].status, 200);
	assert_int_equal(t[0].status, 503);
	ticket_init(&t[0], "/webhooks/list", "[]");
	head_and_handle(&t[0]);
	assert_int_equal(t[0].status, 404);
}

static void test_many_types(void **state)
{
	(void)state;
	for (int i = 0; i < 203; i++) {
		struct http_ticket t;
		char body[40];

		snprintf(body, sizeof(body), "{\"t\":\"t%d\"}", i % 202);
		ticket_init(&t, "/webhooks/big", body);
		head_and_handle(&t);
		sink_done(ERR_OK);
	}
	counted("webhook_events_received_total{event_type=\"t0\",tool_id=\"big\"} 2");
	counted("webhook_events_received_total{event_type=\"t199\",tool_id=\"big\"} 1");
	counted("webhook_events_received_total{event_type=\"other\",tool_id=\"big\"} 2");
}

static void test_gate_refusals(void **state)
{
	(void)state;
	receiver_count_refusal(scene.receiver, HTTP_REFUSED_MALFORMED, STR_NONE);
	receiver_count_refusal(scene.receiver, HTTP_REFUSED_TOO_LARGE, STR("/webhooks/nobody"));
	receiver_count_refusal(scene.receiver, HTTP_REFUSED_TIMEOUT, STR("/webhooks/"));
	receiver_count_refusal(scene.receiver, HTTP_REFUSED_OVERLOAD, STR("/health"));
	receiver_count_refusal(scene.receiver, HTTP_REFUSED_CLIENT_GONE, STR("/webhooks/big"));
	receiver_count_refusal(scene.receiver, HTTP_REFUSED_TOO_LARGE, STR("/webhooks/big"));
	counted("webhooks_received_total{tool_id=\"big\",outcome=\"too_large\"} 1");
	counted("webhooks_received_total{tool_id=\"-\",outcome=\"malformed\"} 1");
	counted("webhooks_received_total{tool_id=\"-\",outcome=\"too_large\"} 1");
	counted("webhooks_received_total{tool_id=\"-\",outcome=\"timeout\"} 1");
	counted("webhooks_received_total{tool_id=\"-\",outcome=\"overload\"} 1");
}

static void refused_at(const char *path, const char *body, const char *name, const char *value)
{
	struct http_ticket t;

	ticket_init(&t, path, body);
	if (name)
		made_header(&t.made, name, value);
	head_and_handle(&t);
	assert_in_range(t.status, 400, 499);
	ticket_end(&t);
}

/* One of each kind that a setting would allow. */
static void log_limits(void)
{
	struct http_ticket t;

	refused_at("/webhooks/open", "0123456789a", NULL, NULL);
	refused_at("/webhooks/typed", "{}", "Content-Type", "image/png");
	refused_at("/webhooks/gh", "{}", "Content-Encoding", "gzip");
	refused_at("/webhooks/near", "{}", NULL, NULL);
	refused_at("/webhooks/mg",
	           "{\"signature\":{\"timestamp\":\"1731600000\",\"token\":\"tok\",\"signature\":"
	           "\"7d5c551f564014b459c1bb8df85ecd0d0b0bce2aa3d064a32385b71dfc70def0\"}}",
	           NULL, NULL);
	for (int i = 0; i < 2; i++) {
		ticket_init(&t, "/webhooks/slow", "{}");
		head_and_handle(&t);
		sink_done(ERR_OK);
		ticket_end(&t);
	}
	refused_at("/webhooks/slow", "{}", NULL, NULL);
	counted("webhook_refusals_total{tool_id=\"open\",reason=\"body_too_large\"} 1");
	counted("webhook_refusals_total{tool_id=\"slow\",reason=\"rate\"} 1");
}

/* The refusals' lines: reason, tool and peer, the request id as correlation, no secrets. Runs
 * first: a call site logs ten lines a second. */
static void test_log(void **state)
{
	static const char *const named[] = {
	    "tool=open status=413 reason=body_too_large limit=10 setting=max_body",
	    "tool=slow status=429 reason=rate limit=\"30/m, burst 2\" setting=rate",
	    "tool=typed status=415 reason=content_type setting=content_types",
	    "tool=gh status=415 reason=content_encoding setting=gzip",
	    "tool=near status=403 reason=sender_network setting=allow_from",
	    "tool=mg status=401 reason=timestamp_stale setting=past age_seconds=",
	    "tolerance_seconds=",
	};
	char path[] = "/tmp/weir-log-XXXXXX", text[8000];
	int fd = mkstemp(path);
	struct http_ticket t;
	ssize_t n;

	(void)state;
	log_set_fd(fd);
	log_limits();
	ticket_init(&t, "/webhooks/gh", "");
	made_header(&t.made, "X-Hub-Signature-256", "sha256=topsecret");
	head_and_handle(&t);
	log_set_fd(null_fd);
	assert_true(lseek(fd, 0, SEEK_SET) == 0);
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_non_null(strstr(text, "tool=gh"));
	assert_non_null(strstr(text, "reason=signature_encoding"));
	assert_non_null(strstr(text, "peer=192.0.2.1"));
	assert_non_null(strstr(text, "req-1"));
	assert_null(strstr(text, "topsecret"));
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
		if (!strstr(text, named[i]))
			fail_msg("no %s in %s", named[i], text);
	close(fd);
	unlink(path);
}

/* ---- memory ---- */

static void scenario_one(void)
{
	scenario("/webhooks/open", "{\"id\":1}");
}

/* Signed for the key "k". */
static void scenario_token(void)
{
	scenario("/webhooks/mg",
	         "{\"signature\":{\"timestamp\":\"1731705121\",\"token\":\"tok\",\"signature\":"
	         "\"7d5c551f564014b459c1bb8df85ecd0d0b0bce2aa3d064a32385b71dfc70def0\"},\"event-"
	         "data\":{\"id\":\"a\",\"event\":\"x\"}}");
}

static void scenario_certificate(void)
{
	scenario("/webhooks/ses", SNS);
}

static void scenario_several(void)
{
	scenario("/webhooks/list", "[1,2,3]");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_log),
	    TEST(test_accepted),
	    TEST(test_signed),
	    TEST(test_route),
	    TEST(test_content_encoding),
	    TEST(test_body_limit),
	    TEST(test_sink_refuses),
	    TEST(test_split),
	    TEST(test_token),
	    TEST(test_token_unknown),
	    TEST(test_no_certificate),
	    TEST(test_in_flight),
	    TEST(test_many_types),
	    TEST(test_gate_refusals),
	};
	const struct torture torture[] = {TORTURE(scenario_one), TORTURE(scenario_several),
	                                  TORTURE(scenario_token), TORTURE(scenario_certificate)};

	null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	log_set_fd(null_fd);
	return TESTS_OR_TORTURE(tests, torture);
}
