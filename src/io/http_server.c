/* The server: evhtp's listener with the holes closed that are met at accepting (descriptors used
 * up, too many connections), the deadlines of all connections, and the drain. evhtp accepts, and
 * owns the connections; what goes over them it does not see (http_request.c).
 *
 * Every state of a connection has one constant time limit, so the connections of a state lie in a
 * list in the order of their deadlines, and one timer that looks at the heads serves them all: a
 * request arms and stops no timer.
 *
 * evhtp and libevent do not check every allocation while they accept. So memory is probed first:
 * without 32 KiB at hand a connection is turned away before they get to see it. */
#include "http_internal.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "weir/base/mem.h"
#include "weir/run/log.h"

#define BACKLOG            4096
#define ACCEPT_PROBE_BYTES ((size_t)32 * 1024)
#define ACCEPT_PAUSE       (200 * USEC_PER_MSEC)
#define DRAIN_LOOK         (2 * USEC_PER_MSEC)
#define DRAIN_ROUNDS       50
#define OUT_BYTES          ((size_t)8 * 1024)
#define SWEEP_AT_LEAST     (10 * USEC_PER_MSEC)
#define STALL              (500 * USEC_PER_MSEC)
#define STALL_GRACE        (2 * USEC_PER_SEC) /* what is on its way had to wait as well */

void http_server_arm(struct http_server *s, usec_t deadline)
{
	usec_t delay;

	if (loop_timer_armed(&s->sweep) && s->sweep.due <= deadline)
		return;
	delay = deadline - loop_now(s->loop);
	delay = delay > SWEEP_AT_LEAST ? delay : SWEEP_AT_LEAST;
	s->sweep_due = loop_now(s->loop) + delay;
	loop_timer_set(&s->sweep, delay);
}

/* When we stood still (stopped, starved), clients had that much less time through no fault of
 * theirs, and a 408 would say that it was. */
static void give_back_stall(struct http_server *s, usec_t late)
{
	if (late < STALL)
		return;
	for (int i = 0; i < CONN_STATE_COUNT; i++)
		list_for_each (&s->states[i], n) {
			struct http_conn *c = container_of(n, struct http_conn, node);

			if (c->deadline < USEC_NEVER - late - STALL_GRACE)
				c->deadline += late + STALL_GRACE;
		}
}

static void on_sweep_due(void *arg)
{
	struct http_server *s = arg;
	usec_t now = loop_now(s->loop), next = USEC_NEVER;

	give_back_stall(s, now - s->sweep_due);
	for (int i = 0; i < CONN_STATE_COUNT; i++) {
		struct list_node *n;

		while ((n = list_front(&s->states[i]))) {
			struct http_conn *c = container_of(n, struct http_conn, node);

			if (c->deadline > now) {
				next = c->deadline < next ? c->deadline : next;
				break;
			}
			http_conn_expire(c);
		}
	}
	if (next != USEC_NEVER)
		http_server_arm(s, next);
}

/* A few more than the limit are let in to be told so; beyond those the accept queue waits. */
static size_t accept_limit(const struct http_server *s)
{
	return s->opt.max_connections + s->opt.max_connections / 16 + 8;
}

bool http_server_over_limit(const struct http_server *s)
{
	return s->connections > s->opt.max_connections;
}

static void pause_accepting(struct http_server *s)
{
	if (!s->htp->server || s->accept_paused)
		return;
	s->accept_paused = true;
	evconnlistener_disable(s->htp->server);
	loop_timer_set(&s->accept_timer, ACCEPT_PAUSE);
}

static void resume_accepting(struct http_server *s)
{
	if (!s->accept_paused || !s->htp->server || s->connections >= accept_limit(s))
		return;
	s->accept_paused = false;
	evconnlistener_enable(s->htp->server);
}

void http_server_conn_gone(struct http_server *s)
{
	s->connections--;
}

static evhtp_res on_evhtp_pre_accept(evhtp_connection_t *evc, void *arg)
{
	struct http_server *s = arg;
	void *probe = mem_alloc(ACCEPT_PROBE_BYTES);

	(void)evc;
	if (!probe) {
		log_warn(LOG_HTTP, "a connection was turned away: out of memory",
		         LOG_STR("listener", s->name));
		return EVHTP_RES_SERVUNAVAIL;
	}
	mem_free(probe);
	return EVHTP_RES_OK;
}

static evhtp_res on_evhtp_post_accept(evhtp_connection_t *evc, void *arg)
{
	struct http_server *s = arg;

	if (http_conn_new(s, evc) != ERR_OK)
		return EVHTP_RES_SERVUNAVAIL;
	if (s->connections >= accept_limit(s))
		pause_accepting(s);
	return EVHTP_RES_OK;
}

/* Out of descriptors: libevent would call us again at once, for ever. The argument is that of
 * evhtp's own accept callback. */
static void on_accept_error(struct evconnlistener *l, void *arg)
{
	const evhtp_t *htp = arg;
	struct http_server *s = htp->arg;

	(void)l;
	log_warn(LOG_HTTP, "cannot accept connections", LOG_STR("listener", s->name),
	         LOG_STR("reason", strerror(errno)), LOG_INT("connections", s->connections));
	pause_accepting(s);
}

static bool accept_queue_empty(const struct http_server *s)
{
	struct pollfd p = {.fd = evconnlistener_get_fd(s->htp->server), .events = POLLIN};

	return poll(&p, 1, 0) <= 0;
}

/* The listener takes everything that stands in its queue in one go; so it is closed when the queue
 * was seen empty, and at the latest after DRAIN_ROUNDS looks. */
static void drain_step(struct http_server *s)
{
	if (!s->htp->server)
		return;
	if (!accept_queue_empty(s) && s->drain_rounds++ < DRAIN_ROUNDS) {
		loop_timer_set(&s->accept_timer, DRAIN_LOOK);
		return;
	}
	evhtp_unbind_socket(s->htp);
	log_debug(LOG_HTTP, "listener closed", LOG_STR("listener", s->name));
}

static void on_accept_due(void *arg)
{
	struct http_server *s = arg;

	resume_accepting(s);
	if (s->draining)
		drain_step(s);
	else if (s->accept_paused)
		loop_timer_set(&s->accept_timer, ACCEPT_PAUSE);
}

/* Idle connections stay open for a moment: a client may be sending its next request just now, and
 * it gets an answer that says close instead of a reset. */
void http_server_drain(struct http_server *s)
{
	usec_t due = loop_now(s->loop) + HTTP_DRAIN_IDLE;

	if (s->draining)
		return;
	s->draining = true;
	if (s->timeouts[CONN_IDLE] > HTTP_DRAIN_IDLE)
		s->timeouts[CONN_IDLE] = HTTP_DRAIN_IDLE;
	list_for_each (&s->states[CONN_IDLE], n) {
		struct http_conn *c = container_of(n, struct http_conn, node);

		c->deadline = c->deadline < due ? c->deadline : due;
	}
	http_server_arm(s, due);
	drain_step(s);
}

static size_t in_request(const struct http_server *s)
{
	return s->states[CONN_BODY].count + s->states[CONN_BUSY].count +
	       s->states[CONN_FLUSH].count + s->states[CONN_SENT].count;
}

bool http_server_idle(const struct http_server *s)
{
	if (s->draining)
		return !s->htp->server && s->connections == s->states[CONN_LINGER].count;
	return in_request(s) + s->states[CONN_HEAD].count == 0;
}

void http_server_stats(const struct http_server *s, struct http_server_stats *ret)
{
	*ret = (struct http_server_stats){.connections = s->connections,
	                                  .active_requests = in_request(s),
	                                  .body_bytes = s->body_bytes,
	                                  .requests = s->requests,
	                                  .late_replies = s->late_replies};
}

uint16_t http_server_port(const struct http_server *s)
{
	return s->port;
}

static void set_options(struct http_server *s, const struct http_server_options *o)
{
	struct http_server_options *x = &s->opt;

	*x = *o;
	x->host = NULL; /* not ours to keep */
	x->max_connections = o->max_connections ? o->max_connections : 4096;
	x->max_header_bytes = o->max_header_bytes ? o->max_header_bytes : 32 * 1024;
	x->max_headers = o->max_headers ? o->max_headers : 100;
	if (x->max_headers > HTTP_GATE_MAX_FIELDS)
		x->max_headers = HTTP_GATE_MAX_FIELDS;
	x->max_body_total = o->max_body_total ? o->max_body_total : (uint64_t)256 << 20;
	s->limits.max_bytes = x->max_header_bytes;
	s->limits.max_fields = x->max_headers;
	for (int i = 0; i < CONN_STATE_COUNT; i++)
		s->timeouts[i] = USEC_NEVER;
	s->timeouts[CONN_IDLE] = o->idle_timeout ? o->idle_timeout : 60 * USEC_PER_SEC;
	s->timeouts[CONN_HEAD] = o->header_timeout ? o->header_timeout : 10 * USEC_PER_SEC;
	s->timeouts[CONN_BODY] = o->body_timeout ? o->body_timeout : 30 * USEC_PER_SEC;
	s->timeouts[CONN_FLUSH] = o->write_timeout ? o->write_timeout : 30 * USEC_PER_SEC;
	s->timeouts[CONN_LINGER] = HTTP_LINGER_TIME;
}

static enum err start_listening(struct http_server *s, const struct http_server_options *o,
                                struct err_info *info)
{
	enum err e;
	int fd;

	e = http_listen(o, &fd, &s->port, info);
	if (e != ERR_OK)
		return e;
	if (evhtp_accept_socket(s->htp, fd, BACKLOG) != 0) {
		e = err_set(info, ERR_IO, "cannot listen on %s:%u: %s", o->host ? o->host : "",
		            o->port, strerror(errno));
		close(fd);
		return e;
	}
	evconnlistener_set_error_cb(s->htp->server, on_accept_error);
	return ERR_OK;
}

static enum err server_init(struct http_server *s, const struct http_server_options *o)
{
	enum err e;

	s->name = mem_strdup(o->name ? o->name : "http");
	s->htp = evhtp_new(loop_base(s->loop), s);
	if (!s->name || !s->htp)
		return ERR_NOMEM;
	s->opt.name = s->name;
	evhtp_set_pre_accept_cb(s->htp, on_evhtp_pre_accept, s);
	evhtp_set_post_accept_cb(s->htp, on_evhtp_post_accept, s);
	evhtp_set_bev_flags(s->htp, BEV_OPT_CLOSE_ON_FREE);
	e = loop_timer_init(&s->sweep, s->loop, on_sweep_due, s);
	if (e == ERR_OK)
		e = loop_timer_init(&s->accept_timer, s->loop, on_accept_due, s);
	if (e == ERR_OK)
		e = buf_reserve(&s->out, OUT_BYTES);
	return e == ERR_OK ? buf_reserve(&s->text, 1024) : e;
}

enum err http_server_new(struct loop *l, const struct http_server_options *o, http_head_fn on_head,
                         http_request_fn on_request, http_refusal_fn on_refusal, void *arg,
                         struct http_server **ret, struct err_info *info)
{
	struct http_server *s = mem_zalloc(sizeof(*s));
	enum err e;

	if (!s)
		return err_set(info, ERR_NOMEM, "out of memory");
	s->loop = l;
	s->on_head = on_head;
	s->on_request = on_request;
	s->on_refusal = on_refusal;
	s->arg = arg;
	for (int i = 0; i < CONN_STATE_COUNT; i++)
		list_init(&s->states[i]);
	list_init(&s->tickets);
	list_init(&s->pool);
	buf_init(&s->out, 64 * 1024);
	buf_init(&s->text, 64 * 1024);
	set_options(s, o);
	signal(SIGPIPE, SIG_IGN);
	e = server_init(s, o);
	if (e == ERR_OK)
		e = start_listening(s, o, info);
	else
		err_set(info, e, "out of memory");
	if (e != ERR_OK) {
		http_server_free(s);
		return e;
	}
	*ret = s;
	return ERR_OK;
}

static void free_connections(struct http_server *s)
{
	for (int i = 0; i < CONN_CLOSED; i++) {
		struct list_node *n;

		while ((n = list_front(&s->states[i])))
			http_conn_close(container_of(n, struct http_conn, node));
	}
}

/* Tickets that somebody still holds live on, without server. */
static void free_tickets(struct http_server *s)
{
	struct list_node *n;

	while ((n = list_pop_front(&s->tickets)))
		container_of(n, struct http_ticket, node)->server = NULL;
	while ((n = list_pop_front(&s->pool)))
		http_ticket_destroy(container_of(n, struct http_ticket, node));
}

void http_server_free(struct http_server *s)
{
	if (!s)
		return;
	free_connections(s);
	free_tickets(s);
	if (s->htp) {
		evhtp_unbind_socket(s->htp);
		evhtp_free(s->htp);
	}
	loop_timer_done(&s->sweep);
	loop_timer_done(&s->accept_timer);
	buf_done(&s->out);
	buf_done(&s->text);
	mem_free(s->name);
	mem_free(s);
}
