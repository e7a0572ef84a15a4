/* The HTTP client against a server of the test's own (http_peer.h): answers, failures as what they
 * are, order and bounds, cancelling, and requests in which each allocation fails in turn. */
#include "http_peer.h"

#include "weir/base/mem.h"
#include "weir/io/http_client.h"
#include "weir/io/resolver.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"

#define MSEC     USEC_PER_MSEC
#define PATIENCE (20 * USEC_PER_SEC)

static struct loop *loop;
static struct resolver *resolver;
static struct http_client *client;
static struct loop_timer tick;
static int expected, told;

struct answer {
	int fired, status, order;
	enum err err;
	char body[4096], headers[4096], thing[64], text[300];
	void (*then)(struct answer *a);
};

static void on_answer(void *arg, enum err err, const struct http_response *res)
{
	struct answer *a = arg;
	struct str thing = http_response_header(res, STR("x-thing"));

	a->fired++;
	a->err = err;
	a->status = res->status;
	a->order = ++told;
	snprintf(a->body, sizeof(a->body), "%.*s", (int)res->body.len, res->body.ptr);
	snprintf(a->headers, sizeof(a->headers), "%.*s", (int)res->headers.len, res->headers.ptr);
	snprintf(a->thing, sizeof(a->thing), "%.*s", (int)thing.len, thing.ptr);
	snprintf(a->text, sizeof(a->text), "%s", res->text);
	if (a->then)
		a->then(a);
}

static usec_t give_up;

static void on_tick(void *arg)
{
	(void)arg;
	if (told >= expected || clock_mono() > give_up)
		loop_stop(loop);
	else
		loop_timer_set(&tick, MSEC);
}

/* Turns the loop until so many completions ran, or for so long. */
static void turn(int completions, usec_t patience)
{
	expected = completions;
	give_up = clock_mono() + patience;
	loop_timer_set(&tick, 0);
	assert_int_equal(loop_run(loop), ERR_OK);
}

static void open_client(const struct http_client_options *o)
{
	struct http_client_options with = *o;

	assert_int_equal(loop_new(&loop), ERR_OK);
	assert_int_equal(resolver_new(loop, &resolver), ERR_OK);
	assert_int_equal(loop_timer_init(&tick, loop, on_tick, NULL), ERR_OK);
	with.resolver = resolver;
	assert_int_equal(http_client_new(loop, &with, &client), ERR_OK);
	told = 0;
	peer_forget();
}

static int set_up(void **state)
{
	(void)state;
	open_client(&(struct http_client_options){0});
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	http_client_free(client);
	resolver_free(resolver);
	loop_timer_done(&tick);
	loop_free(loop);
	return 0;
}

static void reopen(const struct http_client_options *o)
{
	tear_down(NULL);
	open_client(o);
}

static const char *url_of(const char *host, const char *path)
{
	static char url[256];

	snprintf(url, sizeof(url), "http://%s:%u%s", host, peer.port, path);
	return url;
}

static enum err submit_spec(const struct http_request_spec *s, struct answer *a,
                            struct http_request **ret)
{
	return http_client_submit(client, s, on_answer, a, ret);
}

static void submit(const char *path, struct answer *a)
{
	struct http_request_spec s = {.method = "POST",
	                              .url = url_of("127.0.0.1", path),
	                              .body = STR("some body"),
	                              .timeout = 10 * USEC_PER_SEC};

	assert_int_equal(submit_spec(&s, a, NULL), ERR_OK);
	assert_int_equal(a->fired, 0);
}

static struct answer one(const char *path)
{
	struct answer a = {0};

	told = 0;
	submit(path, &a);
	turn(1, PATIENCE);
	assert_int_equal(a.fired, 1);
	return a;
}

static void test_answer(void **state)
{
	static const char *const headers[] = {"X-Key: secret", NULL};
	struct http_request_spec s = {.method = "POST",
	                              .url = url_of("127.0.0.1", "/echo?a=b"),
	                              .headers = headers,
	                              .body = STR("the\0body")};
	struct answer a = {0};

	(void)state;
	assert_int_equal(submit_spec(&s, &a, NULL), ERR_OK);
	turn(1, PATIENCE);
	assert_int_equal(a.err, ERR_OK);
	assert_int_equal(a.status, 200);
	assert_string_equal(a.body, "the");
	assert_string_equal(a.thing, "a b");
	assert_string_equal(a.text, "");
	assert_non_null(strstr(peer.seen->last, "POST /echo?a=b HTTP/1.1\r\n"));
	assert_non_null(strstr(peer.seen->last, "\r\nX-Key: secret\r\n"));
	assert_non_null(strstr(peer.seen->last, "\r\nContent-Length: 8\r\n"));
	assert_null(strcasestr(peer.seen->last, "expect:"));
	assert_null(strcasestr(peer.seen->last, "content-type:"));
}

static void test_statuses_are_answers(void **state)
{
	struct answer a = one("/busy");

	(void)state;
	assert_int_equal(a.err, ERR_OK);
	assert_int_equal(a.status, 503);
	assert_string_equal(a.body, "busy");
	assert_non_null(strstr(a.headers, "Retry-After: 7"));
}

static void test_no_redirect(void **state)
{
	struct answer a = one("/redirect");

	(void)state;
	assert_int_equal(a.status, 302);
	assert_int_equal(peer.seen->requests, 1);
}

static void test_interim_answers_are_passed_over(void **state)
{
	struct answer a = one("/interim");

	(void)state;
	assert_int_equal(a.status, 200);
	assert_string_equal(a.thing, "yes");
}

static void test_failures(void **state)
{
	static const struct {
		const char *path;
		enum err err;
	} cases[] = {{"/close", ERR_CLOSED},
	             {"/half", ERR_CLOSED},
	             {"/garbage", ERR_PROTO},
	             {"/head", ERR_TOOBIG}};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct answer a = one(cases[i].path);

		assert_int_equal(a.err, cases[i].err);
		assert_string_not_equal(a.text, "");
	}
}

static void test_answer_over_its_cap_is_cut(void **state)
{
	struct http_request_spec s = {
	    .method = "GET", .url = url_of("127.0.0.1", "/large"), .max_answer = 1000};
	struct answer a = {0}, b = {0};

	(void)state;
	assert_int_equal(submit_spec(&s, &a, NULL), ERR_OK);
	turn(1, PATIENCE);
	assert_int_equal(a.err, ERR_TOOBIG);
	assert_int_equal(a.status, 200);
	assert_int_equal(strlen(a.body), 1000);
	s.max_answer = 2000;
	assert_int_equal(submit_spec(&s, &b, NULL), ERR_OK);
	turn(2, PATIENCE);
	assert_int_equal(b.err, ERR_OK);
	assert_int_equal(strlen(b.body), 2000);
}

static void test_nobody_listens(void **state)
{
	struct http_request_spec s = {.method = "GET", .url = "http://127.0.0.1:1/"};
	struct answer a = {0};

	(void)state;
	assert_int_equal(submit_spec(&s, &a, NULL), ERR_OK);
	turn(1, PATIENCE);
	assert_int_equal(a.err, ERR_UNAVAILABLE);
	assert_int_equal(a.status, 0);
}

static void test_deadline(void **state)
{
	struct http_request_spec s = {
	    .method = "POST", .url = url_of("127.0.0.1", "/hang"), .timeout = 50 * MSEC};
	struct answer a = {0};
	usec_t before = clock_mono();

	(void)state;
	assert_int_equal(submit_spec(&s, &a, NULL), ERR_OK);
	turn(1, PATIENCE);
	assert_int_equal(a.err, ERR_TIMEOUT);
	assert_true(clock_mono() - before >= 50 * MSEC);
	assert_int_equal(one("/echo").status, 200);
}

static void test_names(void **state)
{
	struct http_request_spec s = {.method = "GET", .url = url_of("localhost", "/echo")};
	struct answer a[2] = {0};

	(void)state;
	assert_int_equal(submit_spec(&s, &a[0], NULL), ERR_OK);
	turn(1, PATIENCE);
	assert_int_equal(submit_spec(&s, &a[1], NULL), ERR_OK);
	turn(2, PATIENCE);
	assert_int_equal(a[0].status, 200);
	assert_int_equal(a[1].status, 200);
	assert_int_equal(peer.seen->connections, 1);
}

static void test_unknown_name(void **state)
{
	struct http_request_spec s = {.method = "GET", .url = "http://nowhere.test/"};
	struct answer a = {0};

	(void)state;
	resolver_set_files(resolver, "/dev/null", "/dev/null");
	s.timeout = 100 * MSEC;
	assert_int_equal(submit_spec(&s, &a, NULL), ERR_OK);
	turn(1, PATIENCE);
	assert_int_equal(a.err, ERR_UNAVAILABLE);
	assert_string_not_equal(a.text, "");
}

static void test_connections_are_used_again(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(one("/echo").status, 200);
	assert_int_equal(peer.seen->connections, 1);
	assert_int_equal(peer.seen->requests, 5);
}

static void test_bounded_and_in_order(void **state)
{
	struct http_request_spec s = {.method = "POST", .url = url_of("127.0.0.1", "/echo")};
	struct answer a[6] = {0}, more = {0};

	(void)state;
	reopen(&(struct http_client_options){.max_active = 2, .max_waiting = 4});
	for (int i = 0; i < 6; i++)
		submit("/echo", &a[i]);
	assert_int_equal(http_client_active(client), 2);
	assert_int_equal(http_client_waiting(client), 4);
	assert_int_equal(submit_spec(&s, &more, NULL), ERR_FULL);
	turn(6, PATIENCE);
	for (int i = 0; i < 6; i++)
		assert_int_equal(a[i].status, 200);
	assert_int_equal(peer.seen->most_open, 2);
	assert_int_equal(more.fired, 0);
}

static void test_waiting_counts_into_the_deadline(void **state)
{
	struct http_request_spec s = {
	    .method = "POST", .url = url_of("127.0.0.1", "/hang"), .timeout = 200 * MSEC};
	struct answer a[2] = {0};

	(void)state;
	reopen(&(struct http_client_options){.max_active = 1});
	assert_int_equal(submit_spec(&s, &a[0], NULL), ERR_OK);
	s.timeout = 20 * MSEC;
	assert_int_equal(submit_spec(&s, &a[1], NULL), ERR_OK);
	turn(2, PATIENCE);
	assert_int_equal(a[1].order, 1);
	assert_int_equal(a[1].err, ERR_UNAVAILABLE);
	assert_int_equal(a[0].err, ERR_TIMEOUT);
}

static void test_cancel(void **state)
{
	struct http_request_spec s = {.method = "POST", .url = url_of("127.0.0.1", "/hang")};
	struct http_request *r[2];
	struct answer a[3] = {0};

	(void)state;
	reopen(&(struct http_client_options){.max_active = 1});
	assert_int_equal(submit_spec(&s, &a[0], &r[0]), ERR_OK);
	assert_int_equal(submit_spec(&s, &a[1], &r[1]), ERR_OK);
	submit("/echo", &a[2]);
	turn(1, 20 * MSEC);
	http_request_cancel(r[1]);
	http_request_cancel(r[0]);
	turn(1, PATIENCE);
	assert_int_equal(a[2].status, 200);
	assert_int_equal(a[0].fired + a[1].fired, 0);
}

static void test_free_tells_all(void **state)
{
	struct answer a[3] = {0};

	(void)state;
	reopen(&(struct http_client_options){.max_active = 1});
	for (int i = 0; i < 3; i++)
		submit("/hang", &a[i]);
	turn(1, 20 * MSEC);
	http_client_free(client);
	client = NULL;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(a[i].fired, 1);
		assert_int_equal(a[i].err, ERR_CANCELLED);
	}
}

static void submit_next(struct answer *a)
{
	static struct answer next;

	a->then = NULL;
	next = (struct answer){0};
	submit("/echo", &next);
}

static void test_completions_may_submit(void **state)
{
	struct answer a = {.then = submit_next};

	(void)state;
	submit("/echo", &a);
	turn(2, PATIENCE);
	assert_int_equal(told, 2);
	assert_int_equal(peer.seen->connections, 1);
}

static bool allow_none(void *arg, const struct sockaddr *sa, socklen_t len)
{
	unsigned *asked = arg;

	(void)len;
	assert_true(sa->sa_family == AF_INET || sa->sa_family == AF_INET6);
	++*asked;
	return false;
}

static void test_addresses_can_be_refused(void **state)
{
	static const char *const hosts[] = {"127.0.0.1", "localhost", "127.1", "2130706433"};
	unsigned asked = 0;

	(void)state;
	reopen(&(struct http_client_options){.may_connect = allow_none, .arg = &asked});
	for (size_t i = 0; i < 4; i++) {
		struct http_request_spec s = {.method = "GET", .url = url_of(hosts[i], "/echo")};
		struct answer a = {0};

		told = 0;
		assert_int_equal(submit_spec(&s, &a, NULL), ERR_OK);
		turn(1, PATIENCE);
		assert_int_equal(a.err, ERR_DENIED);
	}
	assert_true(asked >= 4);
	assert_int_equal(peer.seen->connections, 0);
}

static void test_bad_requests_are_refused(void **state)
{
	static const char *const split[] = {"X: a\r\nY: b", NULL};
	const struct http_request_spec bad[] = {
	    {.method = "GET", .url = "ftp://127.0.0.1/"},
	    {.method = "GET", .url = "http://user:pw@127.0.0.1/"},
	    {.method = "GET", .url = "http://"},
	    {.method = "GET", .url = "http://127.0.0.1/ \r\n"},
	    {.method = "GET /", .url = "http://127.0.0.1/"},
	    {.method = "", .url = "http://127.0.0.1/"},
	    {.method = "GET", .url = "http://127.0.0.1/", .headers = split},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct answer a = {0};

		assert_int_equal(submit_spec(&bad[i], &a, NULL), ERR_INVAL);
	}
}

static void test_proxies_of_the_environment_are_ignored(void **state)
{
	(void)state;
	assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
	assert_int_equal(setenv("all_proxy", "http://127.0.0.1:1", 1), 0);
	assert_int_equal(one("/echo").status, 200);
	unsetenv("http_proxy");
	unsetenv("all_proxy");
}

static void test_status_to_error(void **state)
{
	static const struct {
		int status;
		enum err err;
	} cases[] = {{200, ERR_OK},          {204, ERR_OK},          {299, ERR_OK},
	             {100, ERR_PROTO},       {301, ERR_PROTO},       {304, ERR_PROTO},
	             {400, ERR_INVAL},       {401, ERR_DENIED},      {403, ERR_DENIED},
	             {404, ERR_NOTFOUND},    {407, ERR_DENIED},      {408, ERR_TIMEOUT},
	             {409, ERR_CONFLICT},    {410, ERR_NOTFOUND},    {413, ERR_TOOBIG},
	             {422, ERR_INVAL},       {425, ERR_AGAIN},       {429, ERR_FULL},
	             {500, ERR_UNAVAILABLE}, {502, ERR_UNAVAILABLE}, {503, ERR_UNAVAILABLE},
	             {504, ERR_TIMEOUT},     {507, ERR_FULL},        {600, ERR_PROTO},
	             {0, ERR_PROTO},         {-1, ERR_PROTO}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(err_of_http_status(cases[i].status), cases[i].err);
}

/* Some requests, of which one waits and one is cancelled. */
static void scenario_requests(void)
{
	struct http_client_options o = {.max_active = 2, .ca_file = "/dev/null"};
	struct http_request_spec s = {.method = "POST",
	                              .url = url_of("localhost", "/echo"),
	                              .body = STR("body"),
	                              .timeout = 300 * MSEC};
	struct answer a[4] = {0};
	struct http_request *last = NULL;
	int pending = 0;

	told = 0;
	if (loop_new(&loop) != ERR_OK)
		return;
	resolver = NULL;
	client = NULL;
	if (loop_timer_init(&tick, loop, on_tick, NULL) != ERR_OK ||
	    resolver_new(loop, &resolver) != ERR_OK)
		goto out;
	o.resolver = resolver;
	if (http_client_new(loop, &o, &client) != ERR_OK)
		goto out;
	for (int i = 0; i < 3; i++)
		pending += submit_spec(&s, &a[i], NULL) == ERR_OK;
	if (submit_spec(&s, &a[3], &last) == ERR_OK)
		http_request_cancel(last);
	turn(pending, PATIENCE);
	assert_int_equal(told, pending);
	for (int i = 0; i < 3; i++)
		assert_true(a[i].fired <= 1);
	assert_int_equal(a[3].fired, 0);
out:
	http_client_free(client);
	resolver_free(resolver);
	loop_timer_done(&tick);
	loop_free(loop);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_answer),
	    TEST(test_statuses_are_answers),
	    TEST(test_no_redirect),
	    TEST(test_interim_answers_are_passed_over),
	    TEST(test_failures),
	    TEST(test_answer_over_its_cap_is_cut),
	    TEST(test_nobody_listens),
	    TEST(test_deadline),
	    TEST(test_names),
	    TEST(test_unknown_name),
	    TEST(test_connections_are_used_again),
	    TEST(test_bounded_and_in_order),
	    TEST(test_waiting_counts_into_the_deadline),
	    TEST(test_cancel),
	    TEST(test_free_tells_all),
	    TEST(test_completions_may_submit),
	    TEST(test_addresses_can_be_refused),
	    TEST(test_bad_requests_are_refused),
	    TEST(test_proxies_of_the_environment_are_ignored),
	    TEST(test_status_to_error),
	};
	const struct torture torture[] = {TORTURE(scenario_requests)};
	int rc;

	if (log_set_levels("error", NULL) != ERR_OK)
		return 1;
	peer_start();
	rc = TESTS_OR_TORTURE(tests, torture);
	peer_end();
	return rc;
}
