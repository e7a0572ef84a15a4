/* The server from inside: lives of tickets and connections, answers, addresses, and a request in
 * which each allocation fails in turn. What goes over the wire is test_gate.py's part. */
#include "torture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "weir/base/str.h"
#include "weir/io/http_gate.h"
#include "weir/io/http_server.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"

#define REQUEST \
	"POST /p?q HTTP/1.1\r\nHost: x\r\nX-Request-Id: abc\r\nContent-Length: 4\r\n\r\nbody"
#define PATIENCE (10 * USEC_PER_SEC)

static struct loop *loop;
static struct http_server *server;
static struct http_ticket *kept;
static void (*handler)(struct http_ticket *t);
static unsigned handled, refused;
static int last_status;
static size_t answers_awaited;

static struct {
	int fd;
	char in[1 << 16];
	size_t len;
	bool closed;
} client = {.fd = -1};

static void on_request(void *arg, struct http_ticket *t)
{
	(void)arg;
	handled++;
	handler(t);
}

static char refused_id[HTTP_REQUEST_ID_MAX + 1]; /* of the last refusal */

static void on_refusal(void *arg, const struct http_refused *r)
{
	(void)arg;
	assert_true(str_eq(r->peer, STR("127.0.0.1")));
	assert_true(!r->status || http_gate_request_id_ok(r->request_id));
	refused++;
	last_status = r->status;
	snprintf(refused_id, sizeof(refused_id), "%.*s", (int)r->request_id.len,
	         r->request_id.len ? r->request_id.ptr : "");
}

static void client_read(void)
{
	ssize_t n;

	if (client.fd < 0)
		return;
	n = recv(client.fd, client.in + client.len, sizeof(client.in) - 1 - client.len,
	         MSG_DONTWAIT);
	if (n > 0)
		client.len += (size_t)n;
	else if (n == 0 || errno != EAGAIN)
		client.closed = true;
	client.in[client.len] = '\0';
}

/* The loop turns until the condition holds; every millisecond it is looked at. */
struct wait {
	bool (*done)(void);
	struct loop_timer timer;
	usec_t give_up;
};

static void on_look(void *arg)
{
	struct wait *w = arg;

	client_read();
	if (w->done() || clock_mono() > w->give_up)
		loop_stop(loop);
	else
		loop_timer_set(&w->timer, USEC_PER_MSEC);
}

static void until(bool (*done)(void))
{
	struct wait w = {.done = done, .give_up = clock_mono() + PATIENCE};

	assert_int_equal(loop_timer_init(&w.timer, loop, on_look, &w), ERR_OK);
	loop_timer_set(&w.timer, 0);
	assert_int_equal(loop_run(loop), ERR_OK);
	loop_timer_done(&w.timer);
	assert_true(done());
}

static struct http_server_stats stats(void)
{
	struct http_server_stats st;

	http_server_stats(server, &st);
	return st;
}

static size_t answers(void)
{
	size_t n = 0;

	for (const char *p = client.in; (p = strstr(p, "HTTP/1.1 ")); p++)
		n++;
	return n;
}

static bool answered(void)
{
	return answers() >= answers_awaited && strstr(client.in, "\r\n\r\n");
}

static bool answered_or_closed(void)
{
	return client.closed || answered();
}

static bool was_handled(void)
{
	return handled > 0;
}

static bool all_gone(void)
{
	return stats().connections == 0;
}

static bool connected(void)
{
	return stats().connections == 1;
}

static bool is_idle(void)
{
	return http_server_idle(server);
}

static void client_open(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET,
	                         .sin_port = htons(http_server_port(server)),
	                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	client.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(client.fd >= 0);
	assert_int_equal(connect(client.fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	client.len = 0;
	client.in[0] = '\0';
	client.closed = false;
	answers_awaited = 1;
	handled = refused = 0;
	until(connected);
}

static void client_send(const char *text)
{
	assert_int_equal(send(client.fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void client_close(void)
{
	close(client.fd);
	client.fd = -1;
	until(all_gone);
}

static void client_reset(void)
{
	struct linger now = {1, 0};

	setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	client_close();
}

static void setup_server(void)
{
	struct http_server_options o = {.host = "127.0.0.1", .max_body = 1000};

	assert_int_equal(loop_new(&loop), ERR_OK);
	assert_int_equal(
	    http_server_new(loop, &o, NULL, on_request, on_refusal, NULL, &server, NULL), ERR_OK);
}

static void teardown_server(void)
{
	http_server_free(server);
	server = NULL;
	loop_free(loop);
}

/* ---- handlers ---- */

static void answer_ok(struct http_ticket *t)
{
	http_reply(t, 200, "text/plain", STR("ok"), NULL);
}

static void answer_nothing(struct http_ticket *t)
{
	(void)t;
}

static void keep(struct http_ticket *t)
{
	kept = http_ticket_ref(t);
}

static void look_at_all(struct http_ticket *t)
{
	struct str v = STR_NONE;

	assert_int_equal(http_ticket_method(t), HTTP_POST);
	assert_true(str_eq(http_ticket_method_text(t), STR("POST")));
	assert_true(str_eq(http_ticket_path(t), STR("/p")));
	assert_true(str_eq(http_ticket_target(t), STR("/p?q")));
	assert_true(str_eq(http_ticket_query(t), STR("q")));
	assert_true(str_eq(http_ticket_body(t), STR("body")));
	assert_true(str_eq(http_ticket_peer(t), STR("127.0.0.1")));
	assert_true(str_eq(http_ticket_request_id(t), STR("abc")));
	assert_true(http_ticket_received(t) > 0);
	assert_int_equal(http_ticket_header_count(t), 3);
	assert_true(str_eq(http_ticket_headers(t)[0].name, STR("Host")));
	assert_int_equal(http_ticket_header(t, STR("content-LENGTH"), &v), 1);
	assert_true(str_eq(v, STR("4")));
	assert_int_equal(http_ticket_header(t, STR("nothing"), &v), 0);
	assert_null(http_ticket_user(t));
	http_ticket_set_user(t, &kept);
	assert_ptr_equal(http_ticket_user(t), &kept);
	assert_false(http_ticket_answered(t));
	answer_ok(t);
	assert_true(http_ticket_answered(t));
	assert_true(str_eq(http_ticket_path(t), STR("/p"))); /* still there */
	assert_false(http_ticket_client_gone(t));
}

static void answer_twice(struct http_ticket *t)
{
	http_reply(t, 200, "text/plain", STR("first"), NULL);
	http_reply(t, 500, "text/plain", STR("second"), NULL);
	http_reply_problem(t, 500, "third", 0, NULL);
}

static void answer_with_headers(struct http_ticket *t)
{
	static const struct http_reply_header headers[] = {
	    {"X-Good", "yes"}, {"X-Bad", "a\r\nX-Smuggled: b"}, {"X Bad", "c"}, {NULL, NULL}};

	http_reply(t, 200, "text/plain", STR("ok"), headers);
}

static void answer_204(struct http_ticket *t)
{
	http_reply(t, 204, "text/plain", STR("ignored"), NULL);
}

static void answer_problem(struct http_ticket *t)
{
	http_reply_problem(t, 405, "say \"please\"", 7,
	                   &(struct http_reply_header){"Allow", "GET"});
}

/* ---- tests ---- */

static void ask(void (*with)(struct http_ticket *t), const char *request)
{
	handler = with;
	client_open();
	client_send(request);
	until(answered);
}

static void test_ticket(void **state)
{
	(void)state;
	setup_server();
	ask(look_at_all, REQUEST);
	assert_non_null(strstr(client.in, "HTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(client.in, "\r\nX-Request-Id: abc\r\n"));
	assert_non_null(strstr(client.in, "\r\nContent-Length: 2\r\n"));
	assert_null(strstr(client.in, "Connection"));
	assert_int_equal(stats().requests, 1);
	assert_int_equal(stats().body_bytes, 0);
	client_close();
	teardown_server();
}

static void test_answers(void **state)
{
	(void)state;
	setup_server();
	log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC)); /* they are errors, and said */
	ask(answer_twice, REQUEST);
	assert_non_null(strstr(client.in, "first"));
	assert_null(strstr(client.in, "second"));
	client_close();
	ask(answer_with_headers, REQUEST);
	assert_non_null(strstr(client.in, "\r\nX-Good: yes\r\n"));
	assert_null(strstr(client.in, "Smuggled"));
	assert_null(strstr(client.in, "Bad"));
	client_close();
	ask(answer_204, REQUEST);
	assert_non_null(strstr(client.in, "HTTP/1.1 204 No Content\r\nContent-Type: text/plain\r\n"
	                                  "X-Request-Id: abc\r\n\r\n"));
	client_close();
	ask(answer_problem, REQUEST);
	assert_non_null(strstr(client.in, "\r\nRetry-After: 7\r\nAllow: GET\r\n"));
	assert_non_null(
	    strstr(client.in, "\"detail\":\"say \\\"please\\\"\",\"instance\":\"abc\"}"));
	client_close();
	ask(answer_nothing, REQUEST);
	assert_non_null(strstr(client.in, "HTTP/1.1 500 "));
	client_close();
	log_set_fd(2);
	teardown_server();
}

static void test_answer_later(void **state)
{
	(void)state;
	setup_server();
	handler = keep;
	client_open();
	client_send(REQUEST REQUEST);
	until(was_handled);
	assert_int_equal(stats().active_requests, 1);
	assert_false(http_server_idle(server));
	assert_int_equal(handled, 1); /* one at a time */
	handler = answer_ok;
	answer_ok(kept);
	assert_int_equal(handled, 1); /* never from within another's answer */
	http_ticket_unref(kept);
	answers_awaited = 2;
	until(answered);
	assert_int_equal(handled, 2);
	assert_true(http_server_idle(server));
	client_close();
	teardown_server();
}

static void test_last_reference_without_an_answer(void **state)
{
	(void)state;
	setup_server();
	handler = keep;
	client_open();
	client_send(REQUEST);
	until(was_handled);
	log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	http_ticket_unref(kept);
	log_set_fd(2);
	until(answered);
	assert_non_null(strstr(client.in, "HTTP/1.1 500 "));
	client_close();
	teardown_server();
}

static void test_client_gone(void **state)
{
	(void)state;
	setup_server();
	handler = keep;
	client_open();
	client_send(REQUEST);
	until(was_handled);
	client_reset();
	assert_int_equal(refused, 1);
	assert_int_equal(last_status, 0);
	assert_true(http_ticket_client_gone(kept));
	assert_true(str_eq(http_ticket_body(kept), STR("body")));
	assert_true(stats().body_bytes > 0);
	answer_ok(kept);
	assert_int_equal(stats().late_replies, 1);
	http_ticket_unref(kept);
	assert_int_equal(stats().body_bytes, 0);
	teardown_server();
}

static void test_ticket_outlives_the_server(void **state)
{
	(void)state;
	setup_server();
	handler = keep;
	client_open();
	client_send(REQUEST);
	until(was_handled);
	teardown_server();
	close(client.fd);
	client.fd = -1;
	assert_true(str_eq(http_ticket_body(kept), STR("body")));
	assert_true(http_ticket_client_gone(kept));
	http_reply_problem(kept, 503, "too late", 1, NULL);
	http_ticket_unref(kept);
}

static void test_drain(void **state)
{
	(void)state;
	setup_server();
	handler = keep;
	client_open();
	client_send(REQUEST);
	until(was_handled);
	http_server_drain(server);
	http_server_drain(server);
	assert_false(http_server_idle(server));
	answer_ok(kept);
	http_ticket_unref(kept);
	until(answered);
	assert_non_null(strstr(client.in, "\r\nConnection: close\r\n"));
	until(is_idle);
	client_close();
	teardown_server();
}

static void test_addresses(void **state)
{
	static const char *const good[] = {"", "0.0.0.0", "127.0.0.1", "localhost", "::", "::1"};
	static const char *const bad[] = {"example.com", "1.2.3", "127.0.0.1:80", "[::1]", " "};
	struct http_server_options o = {.max_body = 1};
	struct err_info info = {0};

	(void)state;
	assert_int_equal(loop_new(&loop), ERR_OK);
	for (size_t i = 0; i < TORTURE_LEN(good); i++) {
		o.host = good[i];
		assert_int_equal(
		    http_server_new(loop, &o, NULL, on_request, NULL, NULL, &server, &info),
		    ERR_OK);
		assert_true(http_server_port(server) > 0);
		http_server_free(server);
	}
	for (size_t i = 0; i < TORTURE_LEN(bad); i++) {
		o.host = bad[i];
		assert_int_equal(
		    http_server_new(loop, &o, NULL, on_request, NULL, NULL, &server, &info),
		    ERR_INVAL);
		assert_non_null(strstr(info.text, bad[i]));
	}
	loop_free(loop);
}

static void test_port_in_use(void **state)
{
	struct http_server_options o = {.host = "127.0.0.1"};
	struct http_server *second = NULL;
	struct err_info info = {0};

	(void)state;
	setup_server();
	o.port = http_server_port(server);
	assert_int_equal(http_server_new(loop, &o, NULL, on_request, NULL, NULL, &second, &info),
	                 ERR_IO);
	assert_null(second);
	assert_non_null(strstr(info.text, "cannot listen on 127.0.0.1:"));
	assert_non_null(strstr(info.text, "another program has this port"));
	teardown_server();
}

/* A request larger than what fits inside a ticket, so that every allocation is taken. */
static void send_large(void)
{
	char name[80];

	client_send("POST /%41 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n");
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "X-Header-%d: %040d\r\n", i, i);
		client_send(name);
	}
	client_send("\r\n100\r\n");
	snprintf(client.in, sizeof(client.in), "%0256d\r\n0\r\n\r\n", 0);
	client_send(client.in);
	client.in[0] = '\0';
}

/* The connection is made in peace: what evhtp and libevent do not check there is guarded by a probe
 * (http_server.c). From then on any allocation may fail: the client is answered or cut off. */
static void test_each_allocation_fails(void **state)
{
	bool failed = true;

	(void)state;
	setup_server();
	log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	handler = answer_problem;
	for (uint64_t n = 1; failed; n++) {
		assert_true(n < 1000);
		client_open();
		mem_fail_nth(n);
		send_large();
		until(answered_or_closed);
		failed = mem_fail_count() >= n;
		mem_fail_nth(0);
		if (!failed)
			assert_non_null(strstr(client.in, "HTTP/1.1 405 "));
		client_close();
		assert_int_equal(stats().body_bytes, 0);
	}
	log_set_fd(2);
	ask(answer_ok, REQUEST);
	client_close();
	teardown_server();
}

/* Making and ending a server, for the run in which each allocation fails. */
static void scenario_server(void)
{
	struct http_server_options o = {.host = "127.0.0.1"};
	struct http_server *s;
	struct loop *l;

	if (loop_new(&l) != ERR_OK)
		return;
	if (http_server_new(l, &o, NULL, on_request, NULL, NULL, &s, NULL) == ERR_OK)
		http_server_free(s);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ticket),
	    cmocka_unit_test(test_answers),
	    cmocka_unit_test(test_answer_later),
	    cmocka_unit_test(test_last_reference_without_an_answer),
	    cmocka_unit_test(test_client_gone),
	    cmocka_unit_test(test_ticket_outlives_the_server),
	    cmocka_unit_test(test_drain),
	    cmocka_unit_test(test_addresses),
	    cmocka_unit_test(test_port_in_use),
	    cmocka_unit_test(test_each_allocation_fails),
	};
	const struct torture torture[] = {TORTURE(scenario_server)};

	return TESTS_OR_TORTURE(tests, torture);
}
