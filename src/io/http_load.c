/* A request at a fixed rate is due at a time that does not depend on the answers: when the server
 * is slow, the requests that wait for a connection count their waiting as latency. A generator that
 * waited with them would hide the very stalls that it is to show.
 *
 * Sockets and a small parser instead of libcurl, because libcurl would cost about as much as the
 * server under test. */
#include "weir/io/http_load.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "weir/base/buf.h"
#include "weir/base/list.h"
#include "weir/base/mem.h"
#include "weir/io/net.h"
#include "weir/io/resolver.h"
#include "weir/run/loop.h"

#include "http_answer.h"
#include "http_url.h"

#define READ_SIZE   (64 * 1024)
#define MAX_REQUEST (128 * 1024 * 1024)
#define MAX_PREFIX  8192
#define MAX_ADDRS   16
#define RETRY_DELAY (200 * USEC_PER_MSEC)

#define LOAD_STATES(X)                   \
	X(LOAD_CLOSED, "closed")         \
	X(LOAD_CONNECTING, "connecting") \
	X(LOAD_IDLE, "idle")             \
	X(LOAD_BUSY, "waiting for an answer")

#define LOAD_ENUM(code, name) code,
enum load_state { LOAD_STATES(LOAD_ENUM) };
#undef LOAD_ENUM

struct load;

struct load_conn {
	struct list_node node; /* in load.idle */
	struct load *load;     /* borrowed */
	struct net *net;       /* owned; NULL: closed */
	enum load_state state;
	struct loop_timer timer; /* deadline; when closed: the next attempt */
	struct http_answer answer;
	struct buf out;
	size_t written;
	usec_t due; /* monotonic: when the request under way was due */
};

struct load {
	const struct http_load_options *o; /* borrowed */
	struct http_load_result *result;   /* borrowed */
	struct err_info *info;             /* borrowed */
	struct loop *loop;                 /* owned, as is all that follows */
	struct resolver *resolver;
	struct net_tls *tls;
	struct http_url url;
	char *read_buf;
	struct buf prefix; /* "POST /path" */
	struct buf common; /* " HTTP/1.1", Host and what else all requests share */
	struct resolver_addr addrs[MAX_ADDRS];
	size_t addr_count, addr;
	struct load_conn *conns;
	size_t conn_count;
	struct list idle;
	size_t busy;
	size_t refused; /* attempts that failed at the present address, none having come about */
	bool up;        /* a connection has come about; the clock runs */
	bool stopping;
	usec_t start, last_answer;
	struct loop_timer pace, end, tick;
	enum err err;
};

#define LOAD_NAME(code, name) name,
static const char *const state_names[] = {LOAD_STATES(LOAD_NAME)};
static const char *const failure_names[] = {HTTP_LOAD_FAILURES(LOAD_NAME)};
#undef LOAD_NAME

const char *http_load_failure_name(enum http_load_failure f)
{
	return failure_names[f];
}

static void set_state(struct load_conn *c, enum load_state to)
{
	struct load *l = c->load;

	if (c->state == LOAD_IDLE)
		list_remove(&l->idle, &c->node);
	l->busy -= c->state == LOAD_BUSY;
	c->state = to;
	l->busy += to == LOAD_BUSY;
	if (to == LOAD_IDLE)
		list_push_back(&l->idle, &c->node);
}

/* ---- the end ---- */

static void conn_close(struct load_conn *c)
{
	set_state(c, LOAD_CLOSED);
	loop_timer_stop(&c->timer);
	net_free(c->net);
	c->net = NULL;
}

static void fail(struct load *l, enum err e, const char *text)
{
	if (l->err == ERR_OK)
		l->err = err_set(l->info, e, "%s", text);
	loop_stop(l->loop);
}

/* Sends no more; what is under way is waited for, each within its deadline. */
static void stop(struct load *l)
{
	if (!l->stopping && l->up && l->o->rate > 0) {
		usec_t ran = clock_mono() - l->start;
		double due = (double)(ran < l->o->duration ? ran : l->o->duration) * l->o->rate /
		             (double)USEC_PER_SEC;

		if (due > (double)l->result->sent)
			l->result->unsent = (uint64_t)due - l->result->sent;
	}
	l->stopping = true;
	loop_timer_stop(&l->pace);
	for (size_t i = 0; i < l->conn_count; i++)
		if (l->conns[i].state != LOAD_BUSY)
			conn_close(&l->conns[i]);
	if (l->busy == 0)
		loop_stop(l->loop);
}

static void on_signal(void *arg)
{
	struct load *l = arg;

	if (l->stopping)
		loop_stop(l->loop);
	else
		stop(l);
}

static void on_end_due(void *arg)
{
	stop(arg);
}

static void on_tick_due(void *arg)
{
	struct load *l = arg;

	l->o->progress(l->o->arg, l->result, clock_mono() - l->start);
	loop_timer_set(&l->tick, USEC_PER_SEC);
}

/* ---- connections ---- */

static void pump(struct load *l);
static void on_net_event(void *arg, enum net_event ev);
static void conn_connect(struct load_conn *c);

static void connect_all(struct load *l)
{
	l->refused = 0;
	for (size_t i = 0; i < l->conn_count; i++)
		if (l->conns[i].state == LOAD_CLOSED)
			conn_connect(&l->conns[i]);
}

static void next_address(struct load *l, const char *why)
{
	char text[sizeof(l->info->text)];

	if (++l->addr < l->addr_count) {
		connect_all(l);
		return;
	}
	snprintf(text, sizeof(text), "%s: %s", l->o->url, why);
	fail(l, ERR_UNAVAILABLE, text);
}

/* The request under way, if there is one, gets no answer. The connection is tried again. */
static void conn_fail(struct load_conn *c, enum http_load_failure why, const char *text)
{
	struct load *l = c->load;
	bool counts = c->state == LOAD_BUSY || c->state == LOAD_CONNECTING;
	bool never_up = !l->up;
	char kept[sizeof(l->result->failure_text)];

	snprintf(kept, sizeof(kept), "%s", text); /* may be the connection's own */
	conn_close(c);
	if (counts && !never_up) {
		l->result->failures[why]++;
		memcpy(l->result->failure_text, kept, sizeof(kept));
	}
	if (l->stopping) {
		if (l->busy == 0)
			loop_stop(l->loop);
	} else if (never_up) {
		if (++l->refused == l->conn_count)
			next_address(l, kept);
	} else {
		loop_timer_set(&c->timer, RETRY_DELAY);
	}
}

static void conn_connect(struct load_conn *c)
{
	struct load *l = c->load;
	struct err_info info = {0};

	set_state(c, LOAD_CONNECTING);
	http_answer_next(&c->answer);
	loop_timer_set(&c->timer, l->o->timeout);
	if (net_connect(l->loop, &l->addrs[l->addr], l->tls, l->url.host, on_net_event, c, &c->net,
	                &info) != ERR_OK) {
		c->net = NULL;
		conn_fail(c, HTTP_LOAD_CONNECT, info.text);
	}
}

static void on_conn_timer(void *arg)
{
	struct load_conn *c = arg;

	char text[64];

	snprintf(text, sizeof(text), "%s for too long", state_names[c->state]);
	switch (c->state) {
	case LOAD_CLOSED:
		conn_connect(c);
		break;
	case LOAD_CONNECTING:
		conn_fail(c, HTTP_LOAD_CONNECT, text);
		break;
	case LOAD_BUSY:
		conn_fail(c, HTTP_LOAD_TIMEOUT, text);
		break;
	case LOAD_IDLE:
		break;
	}
}

static void step_connected(struct load_conn *c)
{
	struct load *l = c->load;

	loop_timer_stop(&c->timer);
	if (!l->up) {
		l->up = true;
		l->start = clock_mono();
		loop_timer_set(&l->end, l->o->duration);
		if (l->o->progress)
			loop_timer_set(&l->tick, USEC_PER_SEC);
		/* Those that failed before this one did not. */
		for (size_t i = 0; i < l->conn_count; i++)
			if (l->conns[i].state == LOAD_CLOSED)
				loop_timer_set(&l->conns[i].timer, RETRY_DELAY);
	}
	set_state(c, LOAD_IDLE);
	pump(l);
}

/* ---- requests ---- */

static void conn_write(struct load_conn *c)
{
	while (c->written < c->out.len) {
		ssize_t n = net_write(c->net, c->out.ptr + c->written, c->out.len - c->written);

		if (n < 0) {
			conn_fail(c, HTTP_LOAD_CLOSED, net_error(c->net));
			return;
		}
		if (n == 0)
			break;
		c->written += (size_t)n;
	}
	net_want_write(c->net, c->written < c->out.len);
}

static void conn_send(struct load_conn *c, usec_t due)
{
	struct load *l = c->load;
	struct http_load_request r = {STR_NONE, STR_NONE, STR_NONE};
	enum err e = l->o->next(l->o->arg, &r);

	if (e != ERR_OK) {
		fail(l, e, err_meaning(e));
		return;
	}
	buf_reset(&c->out);
	buf_add_str(&c->out, buf_str(&l->prefix));
	buf_add_str(&c->out, r.target);
	buf_add_str(&c->out, buf_str(&l->common));
	buf_add_str(&c->out, r.headers);
	buf_add_cstr(&c->out, "Content-Length: ");
	buf_add_int(&c->out, (int64_t)r.body.len);
	buf_add_cstr(&c->out, "\r\n\r\n");
	buf_add_str(&c->out, r.body);
	if (c->out.err) {
		fail(l, c->out.err, err_meaning(c->out.err));
		return;
	}
	c->written = 0;
	c->due = due;
	l->result->sent++;
	http_answer_next(&c->answer);
	set_state(c, LOAD_BUSY);
	loop_timer_set(&c->timer, l->o->timeout);
	conn_write(c);
}

/* Sends what is due over the connections that are free. */
static void pump(struct load *l)
{
	usec_t now = clock_mono(), due = now;
	struct list_node *n;

	while (!l->stopping && l->err == ERR_OK && (n = list_front(&l->idle))) {
		if (l->o->rate > 0) {
			due = l->start +
			      (usec_t)((double)l->result->sent * (double)USEC_PER_SEC / l->o->rate);
			if (due > now) {
				loop_timer_set(&l->pace, due - now);
				return;
			}
		}
		conn_send(container_of(n, struct load_conn, node), due);
	}
}

static void on_pace_due(void *arg)
{
	pump(arg);
}

static void step_answered(struct load_conn *c)
{
	struct load *l = c->load;

	l->last_answer = clock_mono();
	l->result->answered++;
	l->result->statuses[c->answer.status]++;
	histogram_add(&l->result->latency, l->last_answer - c->due);
	if (l->stopping) {
		conn_close(c);
		if (l->busy == 0)
			loop_stop(l->loop);
		return;
	}
	loop_timer_stop(&c->timer);
	if (!c->answer.keep_alive) {
		conn_close(c);
		conn_connect(c);
		return;
	}
	set_state(c, LOAD_IDLE);
	pump(l);
}

static void step_closed(struct load_conn *c)
{
	if (c->state == LOAD_BUSY && http_answer_close(&c->answer)) {
		c->answer.keep_alive = false;
		step_answered(c);
	} else if (c->state == LOAD_IDLE) {
		/* A server may end an idle connection. */
		conn_close(c);
		conn_connect(c);
	} else {
		conn_fail(c, HTTP_LOAD_CLOSED, net_error(c->net));
	}
}

static void conn_read(struct load_conn *c)
{
	struct load *l = c->load;

	for (;;) {
		ssize_t n = net_read(c->net, l->read_buf, READ_SIZE);
		struct str in = str_n(l->read_buf, n > 0 ? (size_t)n : 0);
		enum err e;

		if (n == 0)
			return;
		if (n < 0) {
			step_closed(c);
			return;
		}
		e = c->state == LOAD_BUSY ? http_answer_feed(&c->answer, &in) : ERR_PROTO;
		if (e == ERR_AGAIN)
			continue;
		if (e != ERR_OK || in.len)
			conn_fail(c, HTTP_LOAD_BAD_ANSWER, "what came is no answer of HTTP/1.1");
		else
			step_answered(c);
		return;
	}
}

static void on_net_event(void *arg, enum net_event ev)
{
	struct load_conn *c = arg;

	switch (ev) {
	case NET_UP:
		step_connected(c);
		break;
	case NET_READABLE:
		conn_read(c);
		break;
	case NET_WRITABLE:
		conn_write(c);
		break;
	case NET_FAILED:
		conn_fail(c, c->state == LOAD_CONNECTING ? HTTP_LOAD_CONNECT : HTTP_LOAD_CLOSED,
		          net_error(c->net));
		break;
	}
}

/* ---- start ---- */

static void on_resolved(void *arg, enum err e, const struct resolver_addr *addrs, size_t n)
{
	struct load *l = arg;
	char text[sizeof(l->info->text)];

	if (e != ERR_OK || n == 0) {
		snprintf(text, sizeof(text), "%s: no address of this name", l->url.host);
		fail(l, ERR_UNAVAILABLE, text);
		return;
	}
	l->addr_count = n < MAX_ADDRS ? n : MAX_ADDRS;
	memcpy(l->addrs, addrs, l->addr_count * sizeof(*addrs));
	connect_all(l);
}

static enum err use_url(struct load *l)
{
	enum err e = http_url_parse(l->o->url, &l->url, l->info);

	if (e != ERR_OK)
		return e;
	buf_addf(&l->prefix, "%s %s", l->o->method, l->url.target);
	buf_addf(&l->common, " HTTP/1.1\r\nHost: %s\r\nUser-Agent: weir-bench/" WEIR_VERSION "\r\n",
	         l->url.authority);
	return l->url.tls ? net_tls_new(NULL, &l->tls, l->info) : ERR_OK;
}

static enum err make_conns(struct load *l)
{
	enum err e = ERR_OK;

	l->conns = mem_array(l->o->connections, sizeof(*l->conns));
	if (!l->conns)
		return ERR_NOMEM;
	l->conn_count = l->o->connections;
	for (size_t i = 0; i < l->conn_count; i++) {
		struct load_conn *c = &l->conns[i];

		c->load = l;
		c->state = LOAD_CLOSED;
		http_answer_init(&c->answer);
		buf_init(&c->out, MAX_REQUEST);
		if (e == ERR_OK)
			e = loop_timer_init(&c->timer, l->loop, on_conn_timer, c);
	}
	return e;
}

static enum err load_init(struct load *l)
{
	enum err e = loop_new(&l->loop);

	if (e == ERR_OK)
		e = loop_timer_init(&l->pace, l->loop, on_pace_due, l);
	if (e == ERR_OK)
		e = loop_timer_init(&l->end, l->loop, on_end_due, l);
	if (e == ERR_OK)
		e = loop_timer_init(&l->tick, l->loop, on_tick_due, l);
	if (e == ERR_OK)
		e = resolver_new(l->loop, &l->resolver);
	if (e == ERR_OK)
		e = make_conns(l);
	if (e == ERR_OK)
		e = loop_on_signal(l->loop, SIGINT, on_signal, l);
	if (e == ERR_OK)
		e = loop_on_signal(l->loop, SIGTERM, on_signal, l);
	l->read_buf = mem_alloc(READ_SIZE);
	if (e == ERR_OK && !l->read_buf)
		e = ERR_NOMEM;
	return e == ERR_OK ? e : err_set(l->info, e, "%s", err_meaning(e));
}

static void load_done(struct load *l)
{
	for (size_t i = 0; i < l->conn_count; i++) {
		conn_close(&l->conns[i]);
		loop_timer_done(&l->conns[i].timer);
		http_answer_done(&l->conns[i].answer);
		buf_done(&l->conns[i].out);
	}
	mem_free(l->conns);
	mem_free(l->read_buf);
	resolver_free(l->resolver);
	net_tls_free(l->tls);
	loop_timer_done(&l->pace);
	loop_timer_done(&l->end);
	loop_timer_done(&l->tick);
	if (l->loop)
		loop_free(l->loop);
	buf_done(&l->prefix);
	buf_done(&l->common);
}

enum err http_load_run(const struct http_load_options *o, struct http_load_result *ret,
                       struct err_info *info)
{
	struct load l = {.o = o, .result = ret, .info = info};
	struct resolver_query *query;
	enum err e;

	memset(ret, 0, sizeof(*ret));
	list_init(&l.idle);
	buf_init(&l.prefix, MAX_PREFIX);
	buf_init(&l.common, MAX_PREFIX);
	e = load_init(&l);
	if (e == ERR_OK)
		e = use_url(&l);
	if (e == ERR_OK) {
		e = resolver_submit(l.resolver, l.url.host, l.url.port, on_resolved, &l, &query);
		if (e == ERR_OK)
			e = loop_run(l.loop);
		if (e != ERR_OK)
			err_set(info, e, "%s: %s", l.url.host, err_meaning(e));
	}
	if (l.up)
		ret->elapsed = (l.last_answer ? l.last_answer : clock_mono()) - l.start;
	if (e == ERR_OK)
		e = l.err;
	load_done(&l);
	return e;
}
