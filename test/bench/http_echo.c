/* The HTTP server alone, for measuring it against bare_evhtp and for the gate's own tests.
 *
 * Usage: http_echo PORT [NAME=VALUE...]   PORT 0: any; it is printed. Names: max_body,
 * max_body_total, max_connections, header_ms, body_ms, idle_ms, write_ms. SIGTERM drains.
 *
 *   POST /echo          the body back
 *   POST /later/MS      200 after so many milliseconds
 *   GET  /large/BYTES   a large answer
 *   GET  /drop          the handler forgets it
 *   POST /no            404 from the head handler, before the body
 *   POST /small         bodies over 10 bytes are refused
 *   GET  /headers       the headers as a JSON array
 *   GET  /stats         counters as JSON
 *   anything else       200 {"status":"accepted"} */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "weir/base/buf.h"
#include "weir/base/mem.h"
#include "weir/io/http_server.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"

static struct loop *loop;
static struct http_server *server;
static uint64_t refusals[HTTP_REFUSED_CLIENT_GONE + 1];
static struct list waiting;
static struct loop_timer drained;

struct later {
	struct list_node node;
	struct loop_timer timer;
	struct http_ticket *ticket;
};

static void later_free(struct later *l)
{
	list_remove(&waiting, &l->node);
	loop_timer_done(&l->timer);
	http_ticket_unref(l->ticket);
	mem_free(l);
}

static void on_later_due(void *arg)
{
	struct later *l = arg;

	http_reply(l->ticket, 200, "text/plain", STR("later\n"), NULL);
	later_free(l);
}

static void answer_later(struct http_ticket *t, int64_t ms)
{
	struct later *l = mem_zalloc(sizeof(*l));

	if (!l || loop_timer_init(&l->timer, loop, on_later_due, l) != ERR_OK) {
		mem_free(l);
		http_reply_problem(t, 503, "out of memory", 1, NULL);
		return;
	}
	l->ticket = http_ticket_ref(t);
	list_push_back(&waiting, &l->node);
	loop_timer_set(&l->timer, ms * USEC_PER_MSEC);
}

static void answer_large(struct http_ticket *t, int64_t bytes)
{
	char *p = mem_zalloc((size_t)bytes);

	if (!p) {
		http_reply_problem(t, 503, "out of memory", 1, NULL);
		return;
	}
	memset(p, 'x', (size_t)bytes);
	http_reply(t, 200, "text/plain", str_n(p, (size_t)bytes), NULL);
	mem_free(p);
}

static void answer_buf(struct http_ticket *t, struct buf *b)
{
	if (b->err == ERR_OK)
		http_reply(t, 200, "application/json", buf_str(b), NULL);
	else
		http_reply_problem(t, 503, "out of memory", 1, NULL);
	buf_done(b);
}

static void answer_headers(struct http_ticket *t)
{
	const struct http_header *h = http_ticket_headers(t);
	struct buf b;

	buf_init(&b, 1 << 20);
	buf_add_char(&b, '[');
	for (size_t i = 0; i < http_ticket_header_count(t); i++) {
		buf_add_cstr(&b, i ? ",[" : "[");
		buf_add_json(&b, h[i].name);
		buf_add_char(&b, ',');
		buf_add_json(&b, h[i].value);
		buf_add_char(&b, ']');
	}
	buf_add_char(&b, ']');
	answer_buf(t, &b);
}

static void answer_stats(struct http_ticket *t)
{
	struct http_server_stats st;
	struct buf b;

	http_server_stats(server, &st);
	buf_init(&b, 1 << 16);
	buf_addf(&b, "{\"connections\":%zu,\"active\":%zu,\"body_bytes\":%" PRIu64, st.connections,
	         st.active_requests, st.body_bytes);
	buf_addf(&b, ",\"requests\":%" PRIu64 ",\"late\":%" PRIu64, st.requests, st.late_replies);
	buf_addf(&b, ",\"malformed\":%" PRIu64 ",\"too_large\":%" PRIu64,
	         refusals[HTTP_REFUSED_MALFORMED], refusals[HTTP_REFUSED_TOO_LARGE]);
	buf_addf(&b, ",\"timeout\":%" PRIu64 ",\"overload\":%" PRIu64 ",\"gone\":%" PRIu64,
	         refusals[HTTP_REFUSED_TIMEOUT], refusals[HTTP_REFUSED_OVERLOAD],
	         refusals[HTTP_REFUSED_CLIENT_GONE]);
	buf_addf(&b, ",\"mem\":%zu}", mem_used());
	answer_buf(t, &b);
}

static bool number_behind(struct str path, const char *prefix, int64_t *ret)
{
	size_t n = strlen(prefix);

	return str_starts(path, str_n(prefix, n)) &&
	       str_to_int(str_n(path.ptr + n, path.len - n), 0, 1 << 28, ret) == ERR_OK;
}

static void on_head(void *arg, struct http_ticket *t)
{
	struct str path = http_ticket_path(t);

	(void)arg;
	if (str_eq(path, STR("/no")))
		http_reply_problem(t, 404, "no such path", 0, NULL);
	if (str_eq(path, STR("/small")))
		http_ticket_limit_body(t, 10);
}

static void on_request(void *arg, struct http_ticket *t)
{
	struct str path = http_ticket_path(t);
	int64_t n;

	(void)arg;
	if (http_ticket_method(t) == HTTP_METHOD_OTHER)
		http_reply_problem(t, 501, "unknown method", 0, NULL);
	else if (str_eq(path, STR("/echo")))
		http_reply(t, 200, "application/octet-stream", http_ticket_body(t), NULL);
	else if (number_behind(path, "/later/", &n))
		answer_later(t, n);
	else if (number_behind(path, "/large/", &n))
		answer_large(t, n);
	else if (str_eq(path, STR("/headers")))
		answer_headers(t);
	else if (str_eq(path, STR("/stats")))
		answer_stats(t);
	else if (!str_eq(path, STR("/drop")))
		http_reply(t, 200, "application/json", STR("{\"status\":\"accepted\"}"), NULL);
}

static void on_refusal(void *arg, const struct http_refused *r)
{
	(void)arg;
	refusals[r->why]++;
}

static void on_drained(void *arg)
{
	(void)arg;
	if (http_server_idle(server))
		loop_stop(loop);
	else
		loop_timer_set(&drained, 5 * USEC_PER_MSEC);
}

static void on_term(void *arg)
{
	(void)arg;
	http_server_drain(server);
	on_drained(NULL);
}

static bool set_option(struct http_server_options *o, struct str arg)
{
	struct str name = str_split(&arg, '=');
	int64_t v;

	if (str_to_int(arg, 0, INT64_MAX / 1000, &v) != ERR_OK)
		return false;
	if (str_eq(name, STR("max_body")))
		o->max_body = (uint64_t)v;
	else if (str_eq(name, STR("max_body_total")))
		o->max_body_total = (uint64_t)v;
	else if (str_eq(name, STR("max_connections")))
		o->max_connections = (size_t)v;
	else if (str_eq(name, STR("header_ms")))
		o->header_timeout = v * USEC_PER_MSEC;
	else if (str_eq(name, STR("body_ms")))
		o->body_timeout = v * USEC_PER_MSEC;
	else if (str_eq(name, STR("idle_ms")))
		o->idle_timeout = v * USEC_PER_MSEC;
	else if (str_eq(name, STR("write_ms")))
		o->write_timeout = v * USEC_PER_MSEC;
	else
		return false;
	return true;
}

static int serve(const struct http_server_options *o)
{
	struct err_info info = {0};

	if (http_server_new(loop, o, on_head, on_request, on_refusal, NULL, &server, &info) !=
	    ERR_OK) {
		fprintf(stderr, "http_echo: %s\n", info.text);
		return 1;
	}
	if (loop_timer_init(&drained, loop, on_drained, NULL) != ERR_OK ||
	    loop_on_signal(loop, SIGTERM, on_term, NULL) != ERR_OK)
		return 1;
	/* Now signals are safe, which whoever reads the port may rely on. */
	printf("%u\n", http_server_port(server));
	fflush(stdout);
	if (loop_run(loop) != ERR_OK)
		return 1;
	http_server_free(server);
	while (waiting.count)
		later_free(container_of(list_front(&waiting), struct later, node));
	loop_timer_done(&drained);
	return 0;
}

int main(int argc, char **argv)
{
	struct http_server_options o = {.name = "echo", .host = "127.0.0.1", .max_body = 1 << 20};
	int64_t port = 0;
	int rc = 2;

	list_init(&waiting);
	if (argc < 2 || str_to_int(str_of(argv[1]), 0, 65535, &port) != ERR_OK)
		goto out;
	o.port = (uint16_t)port;
	for (int i = 2; i < argc; i++)
		if (!set_option(&o, str_of(argv[i])))
			goto out;
	if (loop_new(&loop) != ERR_OK)
		return 1;
	if (log_set_levels(getenv("LOG_LEVEL") ? getenv("LOG_LEVEL") : "info", NULL) != ERR_OK)
		goto out;
	rc = serve(&o);
	loop_free(loop);
out:
	if (rc == 2)
		fprintf(stderr, "usage: http_echo PORT [NAME=VALUE...]\n");
	return rc;
}
