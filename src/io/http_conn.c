/* A connection: an explicit state machine; evhtp only owns it.
 *
 * The socket is read by an event of our own, not by the bufferevent: one recv() takes a whole
 * request, where libevent would ask for the length first and then take 4 KiB at a time, and bodies
 * are received straight into their final place. The bufferevent stays what evhtp owns and closes
 * and writes what the socket did not take at once; an answer that fits costs one send() and no
 * change of the epoll set. evhtp's pause and resume are never used.
 *
 * While a handler has a request, further input stays in the kernel, which pushes back on the
 * client. A client that shut its side only (half-closed) still gets its answers.
 *
 * With TLS, receive() and http_conn_write() would have to go through the bufferevent; they are the
 * only places that touch the descriptor for data. */
#include "http_internal.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <fcntl.h>
#include <arpa/inet.h>
#include <sys/socket.h>

#include "weir/base/mem.h"
#include "weir/run/log.h"

#define CONN_NAME(code, name) [code] = name,
static const char *const state_names[] = {HTTP_CONN_STATES(CONN_NAME)};
#undef CONN_NAME

#define TO(s) (1u << (s))
/* Any state may become closed. */
static const unsigned allowed[CONN_STATE_COUNT] = {
    [CONN_IDLE] = TO(CONN_HEAD) | TO(CONN_BODY) | TO(CONN_FLUSH) | TO(CONN_SENT),
    [CONN_HEAD] = TO(CONN_BODY) | TO(CONN_FLUSH) | TO(CONN_SENT),
    [CONN_BODY] = TO(CONN_BUSY) | TO(CONN_FLUSH) | TO(CONN_SENT),
    [CONN_BUSY] = TO(CONN_FLUSH) | TO(CONN_SENT),
    [CONN_FLUSH] = TO(CONN_SENT),
    [CONN_SENT] = TO(CONN_IDLE) | TO(CONN_LINGER),
    [CONN_LINGER] = 0,
    [CONN_CLOSED] = 0,
};

void http_conn_set_state(struct http_conn *c, enum conn_state to)
{
	struct http_server *s = c->server;

	if (to != CONN_CLOSED && !(allowed[c->state] & TO(to)))
		log_error(LOG_HTTP, "impossible change of a connection's state",
		          LOG_STR("from", state_names[c->state]), LOG_STR("to", state_names[to]));
	list_remove(&s->states[c->state], &c->node);
	c->state = to;
	list_push_back(&s->states[to], &c->node);
	c->deadline = USEC_NEVER;
	if (s->timeouts[to] != USEC_NEVER) {
		c->deadline = loop_now(s->loop) + s->timeouts[to];
		http_server_arm(s, c->deadline);
	}
}

void http_conn_enter(struct http_conn *c)
{
	c->entered++;
}

void http_conn_leave(struct http_conn *c)
{
	if (--c->entered > 0 || c->state != CONN_CLOSED)
		return;
	list_remove(&c->server->states[CONN_CLOSED], &c->node);
	mem_free(c);
}

void http_conn_detach_ticket(struct http_conn *c, bool gone)
{
	struct http_ticket *t = c->ticket;

	if (!t)
		return;
	c->ticket = NULL;
	t->conn = NULL;
	t->client_gone = gone;
	if (!c->holds_ticket)
		return;
	c->holds_ticket = false;
	http_ticket_unref(t);
}

static void set_reading(struct http_conn *c, bool on)
{
	if (on == c->reading)
		return;
	/* Adding can only fail for want of memory in the epoll table; then the deadlines act. */
	if (on ? event_add(&c->read_ev, NULL) == 0 : event_del(&c->read_ev) == 0)
		c->reading = on;
}

/* evhtp frees the connection, whoever asked for it. */
static evhtp_res on_evhtp_fini(evhtp_connection_t *evc, void *arg)
{
	struct http_conn *c = arg;
	struct http_server *s = c->server;

	(void)evc;
	http_conn_enter(c);
	set_reading(c, false);
	loop_cancel(s->loop, &c->pump_task);
	c->evc = NULL;
	http_conn_set_state(c, CONN_CLOSED);
	http_conn_detach_ticket(c, true);
	buf_done(&c->in);
	c->feed = STR_NONE;
	http_server_conn_gone(s);
	http_conn_leave(c);
	return EVHTP_RES_OK;
}

void http_conn_close(struct http_conn *c)
{
	if (c->evc)
		evhtp_connection_free(c->evc);
}

void http_conn_lost(struct http_conn *c, const char *detail)
{
	struct http_server *s = c->server;
	bool in_request = c->state == CONN_HEAD || c->state == CONN_BODY || c->state == CONN_BUSY ||
	                  c->state == CONN_FLUSH;

	if (in_request)
		http_conn_tell_refusal(c, HTTP_REFUSED_CLIENT_GONE, 0, detail,
		                       c->ticket ? c->ticket->request_id : STR(""));
	if (in_request)
		log_debug(LOG_HTTP, "client gone", LOG_STR("listener", s->name),
		          LOG_STR("detail", detail), LOG_STR("state", state_names[c->state]),
		          LOG_SLICE("peer", str_n(c->peer, c->peer_len)));
	http_conn_close(c);
}

/* ERR_AGAIN: nothing there now. ERR_CLOSED: the client has shut its side. ERR_IO: lost. */
static enum err receive(struct http_conn *c, void *p, size_t len, int flags, size_t *ret_len)
{
	ssize_t n;

	do
		n = recv(c->fd, p, len, flags);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		*ret_len = (size_t)n;
		return ERR_OK;
	}
	if (n == 0)
		return ERR_CLOSED;
	return errno == EAGAIN || errno == EWOULDBLOCK ? ERR_AGAIN : ERR_IO;
}

bool http_conn_write(struct http_conn *c, struct str head, struct str body, bool *ret_rest)
{
	struct iovec iov[2] = {{(void *)(uintptr_t)head.ptr, head.len},
	                       {(void *)(uintptr_t)body.ptr, body.len}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = body.len ? 2 : 1};
	ssize_t n = 0;

	*ret_rest = evbuffer_get_length(bufferevent_get_output(c->evc->bev)) > 0;
	if (!*ret_rest) {
		do
			n = body.len ? sendmsg(c->fd, &msg, MSG_NOSIGNAL)
			             : send(c->fd, head.ptr, head.len, MSG_NOSIGNAL);
		while (n < 0 && errno == EINTR);
		if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
			return false;
	}
	for (int i = 0; i < 2; i++) {
		size_t done = n < 0 ? 0 : (size_t)n < iov[i].iov_len ? (size_t)n : iov[i].iov_len;

		n -= (ssize_t)(n < 0 ? 0 : done);
		if (done == iov[i].iov_len)
			continue;
		*ret_rest = true;
		if (bufferevent_write(c->evc->bev, (char *)iov[i].iov_base + done,
		                      iov[i].iov_len - done) != 0)
			return false;
	}
	return true;
}

/* Nothing more is wanted, and closing meets no bytes that are still on their way. */
static bool is_over(const struct http_conn *c)
{
	bool more_input = (c->pumping ? c->feed.len : c->in.len) > 0;

	if (c->eof && (!c->keep || !more_input))
		return true;
	return c->whole && c->client_end && !more_input;
}

/* The answer is out. */
static bool step_sent(struct http_conn *c)
{
	if (is_over(c)) {
		http_conn_close(c);
		return false;
	}
	if (c->whole && c->keep) {
		c->whole = false;
		http_conn_set_state(c, CONN_IDLE);
		set_reading(c, !c->eof);
		return true;
	}
	/* We end it, and the client may still be sending: closing now would answer those bytes
	 * with a reset, which can destroy the answer on its way. */
	shutdown(c->fd, SHUT_WR);
	c->feed = STR_NONE;
	buf_done(&c->in);
	c->linger_left = HTTP_LINGER_BYTES;
	http_conn_set_state(c, CONN_LINGER);
	set_reading(c, true);
	return false;
}

static bool step(struct http_conn *c)
{
	switch (c->state) {
	case CONN_IDLE:
	case CONN_HEAD:
		return http_request_step_head(c);
	case CONN_BODY:
		return http_request_step_body(c);
	case CONN_SENT:
		return step_sent(c);
	case CONN_BUSY:
	case CONN_FLUSH:
	case CONN_LINGER:
	case CONN_CLOSED:
	case CONN_STATE_COUNT:
		break;
	}
	return false;
}

static bool feed_in_buffer(const struct http_conn *c)
{
	return c->in.len > 0 && c->feed.ptr >= c->in.ptr && c->feed.ptr <= c->in.ptr + c->in.len;
}

static void keep_rest(struct http_conn *c)
{
	enum err e = ERR_OK;

	if (feed_in_buffer(c))
		buf_consume(&c->in, c->in.len - c->feed.len);
	else if (c->feed.len > 0)
		e = buf_add_str(&c->in, c->feed);
	c->feed = STR_NONE;
	if (c->in.len == 0 && c->in.ptr)
		buf_done(&c->in);
	if (e != ERR_OK)
		http_conn_lost(c, "no memory for its input");
}

/* Works on the feed until more input, an answer or the end is waited for. */
void http_conn_pump(struct http_conn *c)
{
	http_conn_enter(c);
	c->pumping = true;
	while (step(c))
		;
	c->pumping = false;
	if (c->state != CONN_CLOSED)
		keep_rest(c);
	http_conn_leave(c);
}

static void on_pump_due(void *arg)
{
	struct http_conn *c = arg;

	if (c->state != CONN_IDLE && c->state != CONN_SENT)
		return;
	c->feed = buf_str(&c->in);
	http_conn_pump(c);
}

void http_conn_send(struct http_conn *c, struct str head, struct str body)
{
	bool rest;

	http_conn_enter(c);
	if (!http_conn_write(c, head, body, &rest)) {
		c->server->late_replies++;
		http_conn_lost(c, "left before the answer");
		goto out;
	}
	http_conn_set_state(c, rest ? CONN_FLUSH : CONN_SENT);
	if (rest || c->pumping)
		goto out;
	/* Outside the pump the caller is some handler: finish here, but leave pipelined requests
	 * to a turn of their own, so that no handler is called from within another's answer. */
	step_sent(c);
	if (c->state == CONN_IDLE && c->in.len > 0)
		loop_defer(c->server->loop, &c->pump_task);
out:
	http_conn_leave(c);
}

/* A wait ended with the connection instead of bytes. */
static void input_ended(struct http_conn *c, enum err e)
{
	if (e == ERR_AGAIN)
		return;
	c->eof = true;
	http_conn_lost(c, e == ERR_CLOSED ? "left before the request was whole"
	                                  : "connection reset before the request was whole");
}

/* False when there is nothing more to read now. */
static bool read_body(struct http_conn *c)
{
	size_t room, n;
	enum err e;
	char *p;

	if (!http_request_body_room(c, &p, &room))
		return false;
	e = receive(c, p, room, 0, &n);
	if (e != ERR_OK) {
		input_ended(c, e);
		return false;
	}
	http_request_body_read(c, n);
	if (c->body_left == 0)
		http_conn_pump(c);
	return n == room;
}

static bool read_input(struct http_conn *c)
{
	struct http_server *s = c->server;
	enum err e;
	size_t n;

	if (c->in.len > c->scanned) { /* pipelined requests first; they bound the buffer */
		c->feed = buf_str(&c->in);
		http_conn_pump(c);
		return false;
	}
	e = receive(c, s->scratch, sizeof(s->scratch), 0, &n);
	if (e != ERR_OK) {
		input_ended(c, e);
		return false;
	}
	c->feed = str_n(s->scratch, n);
	if (c->in.len > 0) {
		if (buf_add_str(&c->in, c->feed) != ERR_OK) {
			http_conn_lost(c, "no memory for its input");
			return false;
		}
		c->feed = buf_str(&c->in);
	}
	http_conn_pump(c);
	return n == sizeof(s->scratch);
}

/* Nothing is read while an answer is due, but the end of the connection is noticed. */
static void look_for_end(struct http_conn *c)
{
	enum err e;
	size_t n;
	char byte;

	e = receive(c, &byte, 1, MSG_PEEK, &n);
	if (e == ERR_AGAIN)
		return;
	if (e == ERR_IO) {
		http_conn_lost(c, "left before the answer");
		return;
	}
	c->eof = e == ERR_CLOSED;
	set_reading(c, false);
}

static void discard_input(struct http_conn *c)
{
	enum err e;
	size_t n;

	for (unsigned i = 0; i < HTTP_READ_ROUNDS; i++) {
		e = receive(c, c->server->scratch, sizeof(c->server->scratch), MSG_TRUNC, &n);
		if (e == ERR_AGAIN)
			return;
		if (e != ERR_OK || n > c->linger_left)
			break;
		c->linger_left -= n;
		if (i + 1 == HTTP_READ_ROUNDS)
			return;
	}
	http_conn_close(c);
}

static bool read_once(struct http_conn *c)
{
	switch (c->state) {
	case CONN_IDLE:
	case CONN_HEAD:
		return read_input(c);
	case CONN_BODY:
		return c->chunked ? read_input(c) : read_body(c);
	case CONN_BUSY:
	case CONN_FLUSH:
	case CONN_SENT:
		look_for_end(c);
		break;
	case CONN_LINGER:
		discard_input(c);
		break;
	case CONN_CLOSED:
	case CONN_STATE_COUNT:
		break;
	}
	return false;
}

static void on_socket_readable(evutil_socket_t fd, short what, void *arg)
{
	struct http_conn *c = arg;
	unsigned rounds = 0;

	(void)fd;
	(void)what;
	http_conn_enter(c);
	while (rounds++ < HTTP_READ_ROUNDS && read_once(c))
		if (c->state != CONN_BODY && c->state != CONN_IDLE && c->state != CONN_HEAD)
			break;
	http_conn_leave(c);
}

static void on_bev_written(struct bufferevent *bev, void *arg)
{
	struct http_conn *c = arg;

	if (c->state != CONN_FLUSH || evbuffer_get_length(bufferevent_get_output(bev)) > 0)
		return;
	http_conn_set_state(c, CONN_SENT);
	c->feed = buf_str(&c->in);
	http_conn_pump(c);
}

static void on_bev_event(struct bufferevent *bev, short what, void *arg)
{
	struct http_conn *c = arg;

	(void)bev;
	(void)what;
	if (c->state == CONN_FLUSH)
		c->server->late_replies++;
	http_conn_lost(c, "left before the answer was taken");
}

void http_conn_expire(struct http_conn *c)
{
	switch (c->state) {
	case CONN_HEAD:
		http_conn_refuse(c, HTTP_REFUSED_TIMEOUT, 408, "the request's head took too long",
		                 0);
		break;
	case CONN_BODY:
		http_conn_refuse(c, HTTP_REFUSED_TIMEOUT, 408, "the request's body took too long",
		                 0);
		break;
	case CONN_FLUSH:
		http_conn_lost(c, "did not take the answer in time");
		break;
	case CONN_IDLE:
	case CONN_BUSY:
	case CONN_SENT:
	case CONN_LINGER:
	case CONN_CLOSED:
	case CONN_STATE_COUNT:
		http_conn_close(c);
		break;
	}
}

static void set_peer(struct http_conn *c, const struct sockaddr *sa)
{
	const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
	const void *address = v6;
	int family = sa->sa_family;

	if (family == AF_INET)
		address = &((const struct sockaddr_in *)(const void *)sa)->sin_addr;
	if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(v6)) {
		family = AF_INET;
		address = &v6->s6_addr[12];
	}
	if (evutil_inet_ntop(family, address, c->peer, sizeof(c->peer)))
		c->peer_len = (uint8_t)strlen(c->peer);
}

/* From here on evhtp's callbacks do not run any more. */
static void take_over(struct http_conn *c, struct bufferevent *bev)
{
	bufferevent_setcb(bev, NULL, on_bev_written, on_bev_event, c);
	bufferevent_disable(bev, EV_READ);
}

enum err http_conn_new(struct http_server *s, evhtp_connection_t *evc)
{
	struct http_conn *c = mem_zalloc(sizeof(*c));

	if (!c)
		return ERR_NOMEM;
	c->server = s;
	c->evc = evc;
	c->fd = evc->sock;
	buf_init(&c->in, HTTP_READ_BYTES + s->limits.max_bytes);
	loop_task_init(&c->pump_task, on_pump_due, c);
	set_peer(c, evc->saddr);
	fcntl(c->fd, F_SETFD, FD_CLOEXEC);
	take_over(c, evc->bev);
	event_assign(&c->read_ev, loop_base(s->loop), c->fd, EV_READ | EV_PERSIST,
	             on_socket_readable, c);
	set_reading(c, true);
	if (!c->reading || evhtp_connection_set_hook(evc, evhtp_hook_on_connection_fini,
	                                             (evhtp_hook)on_evhtp_fini, c) != 0) {
		set_reading(c, false);
		mem_free(c);
		return ERR_NOMEM;
	}
	s->connections++;
	list_push_back(&s->states[CONN_IDLE], &c->node);
	c->deadline = loop_now(s->loop) + s->timeouts[CONN_IDLE];
	http_server_arm(s, c->deadline);
	if (http_server_over_limit(s))
		http_conn_refuse(c, HTTP_REFUSED_OVERLOAD, 503, "too many connections", 1);
	return ERR_OK;
}
