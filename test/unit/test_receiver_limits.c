/* What each tool may take in: rates, requests in flight, networks, content types; and tools that
 * are silent. The clock is the test's. */
#include "receiver_rig.h"

static usec_t clock_now = 5000 * USEC_PER_SEC;

static usec_t fake_clock(void)
{
	return clock_now;
}

static int setup_clock(void **state)
{
	clock_set_source(fake_clock, fake_clock);
	return setup(state);
}

static int teardown_clock(void **state)
{
	clock_set_source(NULL, NULL);
	return teardown(state);
}

static int post(const char *path, struct http_ticket *t)
{
	ticket_init(t, path, "{}");
	receiver_head(scene.receiver, t);
	if (t->answers)
		return t->status;
	receiver_handle(scene.receiver, t);
	if (!t->answers)
		sink_done(ERR_OK);
	ticket_end(t);
	return t->status;
}

static void test_rate(void **state)
{
	struct http_ticket t;

	(void)state;
	assert_int_equal(post("/webhooks/slow", &t), 200);
	assert_int_equal(post("/webhooks/slow", &t), 200);
	assert_int_equal(post("/webhooks/slow", &t), 429);
	assert_int_equal(t.retry_after, 2);
	assert_int_equal(post("/webhooks/open", &t), 200); /* nobody else's matter */
	clock_now += 2 * USEC_PER_SEC;
	assert_int_equal(post("/webhooks/slow", &t), 200);
	assert_int_equal(post("/webhooks/slow", &t), 429);
	counted("webhooks_received_total{tool_id=\"slow\",outcome=\"rate_limited\"} 2");
}

/* Whoever cannot sign cannot use up the rate of who can. */
static void test_rate_counts_the_authentic(void **state)
{
	struct sign_options o = {.now = NOW, .type = STR("push")};
	struct signed_request s;
	struct err_info info;
	struct http_ticket t;

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(post("/webhooks/slowgh", &t), 401);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(recipe_sign(tools_find(scene.tools, STR("slowgh")), &o, &s, &info),
		                 ERR_OK);
		ticket_init(&t, "/webhooks/slowgh", "");
		made_of_signed(&t.made, &s);
		head_and_handle(&t);
		if (i == 0)
			sink_done(ERR_OK);
		assert_int_equal(t.status, i == 0 ? 200 : 429);
		signed_request_done(&s);
	}
	assert_int_equal(t.retry_after, 3600);
}

static void test_max_in_flight(void **state)
{
	struct http_ticket t[3], other;

	(void)state;
	for (int i = 0; i < 3; i++) {
		ticket_init(&t[i], "/webhooks/few", "{}");
		receiver_head(scene.receiver, &t[i]);
	}
	assert_int_equal(t[1].answers, 0);
	assert_int_equal(t[2].status, 503);
	assert_int_equal(t[2].retry_after, 7);
	counted("webhooks_received_total{tool_id=\"few\",outcome=\"overload\"} 1");
	assert_int_equal(post("/webhooks/open", &other), 200);
	/* It does not matter how a request ends. */
	ticket_end(&t[0]);
	assert_int_equal(post("/webhooks/few", &other), 200);
	ticket_end(&t[1]);
}

static int post_from(const char *peer, const char *forwarded, const char *path)
{
	struct http_ticket t;

	ticket_init(&t, path, "{}");
	t.peer = peer;
	if (forwarded)
		made_header(&t.made, "X-Forwarded-For", forwarded);
	head_and_handle(&t);
	if (!t.answers)
		sink_done(ERR_OK);
	return t.status;
}

static void test_allow_from(void **state)
{
	(void)state;
	assert_int_equal(post_from("198.51.100.7", NULL, "/webhooks/near"), 200);
	assert_int_equal(post_from("2001:db8::7", NULL, "/webhooks/near"), 200);
	assert_int_equal(post_from("::ffff:198.51.100.7", NULL, "/webhooks/near"), 200);
	assert_int_equal(post_from("198.51.101.7", NULL, "/webhooks/near"), 403);
	/* Only a trusted proxy's word counts. */
	assert_int_equal(post_from("192.0.2.1", "198.51.100.7", "/webhooks/near"), 403);
	assert_int_equal(post_from("10.0.0.1", "198.51.100.7", "/webhooks/near"), 200);
	assert_int_equal(post_from("10.0.0.1", "198.51.100.7, 192.0.2.9", "/webhooks/near"), 403);
	assert_int_equal(post_from("10.0.0.1", NULL, "/webhooks/near"), 403);
	assert_int_equal(post_from("10.0.0.1", "unknown", "/webhooks/near"), 400);
	assert_int_equal(post_from("10.0.0.1", "unknown", "/webhooks/open"), 400);
	counted("webhooks_received_total{tool_id=\"near\",outcome=\"unauthorized\"} 4");
}

static int post_typed(const char *type)
{
	struct http_ticket t;

	ticket_init(&t, "/webhooks/typed", "{}");
	if (type)
		made_header(&t.made, "Content-Type", type);
	head_and_handle(&t);
	if (!t.answers)
		sink_done(ERR_OK);
	return t.status;
}

static void test_content_types(void **state)
{
	(void)state;
	assert_int_equal(post_typed("application/json"), 200);
	assert_int_equal(post_typed("Application/JSON ; charset=utf-8"), 200);
	assert_int_equal(post_typed("application/vnd.x+json"), 200);
	assert_int_equal(post_typed("text/plain"), 200);
	assert_int_equal(post_typed("application/xml"), 415);
	assert_int_equal(post_typed("application/jsonp"), 415);
	assert_int_equal(post_typed("application/+json"), 415);
	assert_int_equal(post_typed("text/"), 415);
	assert_int_equal(post_typed(""), 415);
	assert_int_equal(post_typed(NULL), 415);
}

static void test_gzip_coding(void **state)
{
	static const struct {
		const char *coding;
		int status;
	} cases[] = {{"br", 415},   {"gzip, gzip", 415}, {"deflate", 415},
	             {"gzip", 400}, {"X-GZIP", 400},     {"identity", 200}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct http_ticket t;

		ticket_init(&t, "/webhooks/zip", "{}");
		made_header(&t.made, "Content-Encoding", cases[i].coding);
		head_and_handle(&t);
		if (!t.answers)
			sink_done(ERR_OK);
		assert_int_equal(t.status, cases[i].status);
		if (t.status == 415)
			assert_string_equal(t.more, "Accept-Encoding: gzip");
	}
}

static size_t silent_now(char *text, size_t space)
{
	struct buf out;
	size_t n;

	buf_init(&out, 1 << 16);
	n = receiver_report_silence(scene.receiver, &out);
	snprintf(text, space, "%s", out.ptr);
	buf_done(&out);
	return n;
}

static void test_silence(void **state)
{
	usec_t start = clock_now;
	char text[500], expected[300], when[CLOCK_RFC3339_LEN];
	struct http_ticket t;

	(void)state;
	assert_int_equal(silent_now(text, sizeof(text)), 0);
	assert_string_equal(text, "\"silent\":[],\"silent_count\":0");
	clock_now += 601 * USEC_PER_SEC;
	assert_int_equal(silent_now(text, sizeof(text)), 1);
	clock_rfc3339(start, when);
	snprintf(expected, sizeof(expected),
	         "\"silent\":[{\"tool\":\"slow\",\"since\":\"%s\",\"expect_every_seconds\":600}],"
	         "\"silent_count\":1",
	         when);
	assert_string_equal(text, expected);
	counted("webhook_tool_silent{tool_id=\"slow\"} 1");
	/* Requests that bring no event do not end it. */
	ticket_init(&t, "/webhooks/slow", "{}");
	t.method = HTTP_GET;
	head_and_handle(&t);
	assert_int_equal(t.status, 405);
	assert_int_equal(silent_now(text, sizeof(text)), 1);
	assert_int_equal(post("/webhooks/slow", &t), 200);
	assert_int_equal(silent_now(text, sizeof(text)), 0);
	counted("webhook_tool_silent{tool_id=\"slow\"} 0");
	snprintf(expected, sizeof(expected),
	         "webhook_tool_last_event_timestamp_seconds{tool_id=\"slow\"} %lld",
	         (long long)(clock_now / USEC_PER_SEC));
	counted(expected);
	clock_now += 601 * USEC_PER_SEC;
	assert_int_equal(silent_now(text, sizeof(text)), 1);
}

/* A reload that takes the tool away, or no longer expects anything of it. */
static void test_silence_after_reload(void **state)
{
	struct tools *fresh;
	char text[500];

	(void)state;
	clock_now += 601 * USEC_PER_SEC;
	assert_int_equal(silent_now(text, sizeof(text)), 1);
	assert_int_equal(tools_parse(STR("{\"tools\":[{\"id\":\"new\",\"auth\":\"none\","
	                                 "\"expect_every\":5}]}"),
	                             "f", &fresh, NULL),
	                 ERR_OK);
	tools_unref(scene.tools);
	scene.tools = fresh;
	assert_int_equal(silent_now(text, sizeof(text)), 0);
	counted("webhook_tool_silent{tool_id=\"slow\"} 0");
	clock_now += 6 * USEC_PER_SEC;
	assert_int_equal(silent_now(text, sizeof(text)), 1);
	assert_non_null(strstr(text, "\"new\""));
}

static void scenario_limited(void)
{
	scenario("/webhooks/near", "{\"id\":1}");
	scenario("/webhooks/slow", "{\"id\":1}");
}

#define TEST_CLOCK(f) cmocka_unit_test_setup_teardown(f, setup_clock, teardown_clock)
#define TEST(f)       cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST_CLOCK(test_rate),    TEST_CLOCK(test_rate_counts_the_authentic),
	    TEST(test_max_in_flight), TEST(test_allow_from),
	    TEST(test_content_types), TEST(test_gzip_coding),
	    TEST_CLOCK(test_silence), TEST_CLOCK(test_silence_after_reload),
	};
	const struct torture torture[] = {TORTURE(scenario_limited)};

	null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	log_set_fd(null_fd);
	return TESTS_OR_TORTURE(tests, torture);
}
