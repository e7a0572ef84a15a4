/* From bytes to a request. The head is parsed where it lies and copied once, into the ticket; the
 * body is gathered in one piece. Nothing that a client wrote reaches evhtp's parser, which is known
 * to misread (a token cut between two reads, overflowing chunk sizes, pipelined requests, unknown
 * encodings); so it is given nothing at all. */
#include "http_internal.h"

#define TRUSTED_BYTES ((size_t)64 * 1024) /* of an announced body, before any of it is here */
#define BODY_GROWTH   8

#include <stdio.h>

#include "weir/run/log.h"

static void feed_skip(struct http_conn *c, size_t n)
{
	c->feed = str_n(c->feed.ptr + n, c->feed.len - n);
	c->scanned = 0;
}

static void dispatch(struct http_conn *c)
{
	struct http_server *s = c->server;
	struct http_ticket *t = c->ticket;

	c->whole = true;
	http_conn_set_state(c, CONN_BUSY);
	c->holds_ticket = false; /* the reference is this frame's now */
	s->on_request(s->arg, t);
	http_ticket_unref(t);
}

static void refuse_large(struct http_conn *c)
{
	const struct http_server *s = c->server;
	uint64_t limit = c->ticket ? c->ticket->max_body : s->opt.max_body;
	char text[80];

	snprintf(text, sizeof(text), "the body is over the limit of %llu bytes",
	         (unsigned long long)limit);
	http_conn_refuse(c, HTTP_REFUSED_TOO_LARGE, 413, text, 0);
}

static unsigned retry_after(const struct http_conn *c)
{
	const struct http_server *s = c->server;

	return s->opt.retry_after ? s->opt.retry_after(s->arg) : 1;
}

static void refuse_body(struct http_conn *c, enum err e)
{
	if (e == ERR_INVAL)
		http_conn_refuse(c, HTTP_REFUSED_MALFORMED, 400, "the chunked framing is broken",
		                 0);
	else if (e == ERR_TOOBIG)
		refuse_large(c);
	else
		http_conn_refuse(c, HTTP_REFUSED_OVERLOAD, 503,
		                 "too much request data in memory, try again", retry_after(c));
}

static void continue_expected(struct http_conn *c)
{
	bool rest;

	/* A rest stays in libevent's buffer; the answer will queue behind it. */
	if (!http_conn_write(c, STR("HTTP/1.1 100 Continue\r\n\r\n"), STR_NONE, &rest))
		http_conn_lost(c, "left before the body");
}

/* Asks the head handler. True when the body is wanted. */
static bool ask_head_handler(struct http_conn *c)
{
	struct http_server *s = c->server;
	struct http_ticket *t = c->ticket;

	if (!s->on_head)
		return true;
	http_ticket_ref(t);
	s->on_head(s->arg, t);
	if (c->state == CONN_BODY && c->body_left > t->max_body)
		refuse_body(c, ERR_TOOBIG);
	http_ticket_unref(t);
	return c->state == CONN_BODY;
}

/* Room for a body of `whole` bytes of which `have` are here. All of it at once where it is little;
 * else it grows with what comes, since announcing much costs a sender nothing. */
static enum err reserve(struct http_conn *c, uint64_t whole, size_t have)
{
	size_t room = have < TRUSTED_BYTES / BODY_GROWTH ? TRUSTED_BYTES : have * BODY_GROWTH;

	if (have && have <= c->ticket->body_space)
		return ERR_OK;
	return http_ticket_body_reserve(c->ticket, whole < room ? (size_t)whole : room, true);
}

static bool reserve_first(struct http_conn *c)
{
	enum err e = reserve(c, c->body_left, 0);

	if (e != ERR_OK)
		refuse_body(c, e);
	return e == ERR_OK;
}

/* When the whole body came along with the head, an answer by the head handler need not cost the
 * connection: the body is skipped. */
static bool start_body(struct http_conn *c, bool expect_continue)
{
	bool whole = !c->chunked && c->body_left <= c->feed.len;

	c->whole = whole;
	if (!ask_head_handler(c)) {
		if (whole && c->state != CONN_CLOSED)
			feed_skip(c, (size_t)c->body_left);
		return c->state != CONN_CLOSED;
	}
	if (c->chunked)
		http_dechunk_init(&c->dechunk, c->ticket->max_body);
	else if (!reserve_first(c))
		return c->state != CONN_CLOSED;
	if (expect_continue && !whole && c->feed.len == 0 && !c->http10)
		continue_expected(c);
	return c->state != CONN_CLOSED;
}

static bool start_request(struct http_conn *c, const struct http_gate_head *h)
{
	struct http_server *s = c->server;

	c->ticket = http_ticket_new(c, c->feed.ptr, h);
	if (!c->ticket) {
		http_conn_refuse(c, HTTP_REFUSED_OVERLOAD, 503, "out of memory, try again", 1);
		return true;
	}
	s->requests++;
	c->holds_ticket = true;
	c->keep = h->keep_alive;
	c->client_end = !h->keep_alive;
	c->http10 = !h->http11;
	c->chunked = h->chunked;
	c->body_left = h->length;
	feed_skip(c, h->len);
	http_conn_set_state(c, CONN_BODY);
	if (h->length > s->opt.max_body) {
		refuse_body(c, ERR_TOOBIG);
		return true;
	}
	return start_body(c, h->expect_continue);
}

/* Blank lines before a request are no part of one: the connection stays idle. */
static bool only_blank(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] != '\r' && s.ptr[i] != '\n')
			return false;
	return true;
}

bool http_request_step_head(struct http_conn *c)
{
	struct http_server *s = c->server;
	struct str in = c->feed;

	if (in.len == 0)
		return false;
	/* Verdicts change with line feeds only; this keeps dripped heads cheap. */
	if (c->scanned > 0 && in.len < s->limits.max_bytes &&
	    !memchr(in.ptr + c->scanned, '\n', in.len - c->scanned)) {
		c->scanned = in.len;
		return false;
	}
	switch (http_gate_parse(in.ptr, in.len, &s->limits, &s->head)) {
	case HTTP_GATE_MORE:
		c->scanned = in.len;
		if (c->state == CONN_IDLE && !only_blank(in))
			http_conn_set_state(c, CONN_HEAD);
		return false;
	case HTTP_GATE_WHOLE:
		return start_request(c, &s->head);
	case HTTP_GATE_REFUSED:
		break;
	}
	http_conn_refuse(c, s->head.why, s->head.status, s->head.detail, 0);
	return true;
}

static enum err body_add(struct http_conn *c, struct str data)
{
	struct http_ticket *t = c->ticket;
	size_t have = t->body_len + data.len;
	enum err e = c->chunked ? http_ticket_body_reserve(t, have, false)
	                        : reserve(c, t->body_len + c->body_left, have);

	if (e == ERR_OK && data.len) {
		memcpy(t->body + t->body_len, data.ptr, data.len);
		t->body_len += data.len;
	}
	return e;
}

static bool step_chunked(struct http_conn *c)
{
	struct str data;
	enum err e;

	do {
		e = http_dechunk_next(&c->dechunk, &c->feed, &data);
		if (e == ERR_OK)
			e = body_add(c, data);
	} while (e == ERR_OK);
	if (e == ERR_AGAIN)
		return false;
	if (e == ERR_NOTFOUND)
		dispatch(c);
	else
		refuse_body(c, e);
	return true;
}

bool http_request_step_body(struct http_conn *c)
{
	size_t n = c->feed.len;
	enum err e;

	if (c->chunked)
		return step_chunked(c);
	if (n > c->body_left)
		n = (size_t)c->body_left;
	e = body_add(c, str_n(c->feed.ptr, n));
	if (e != ERR_OK) {
		refuse_body(c, e);
		return true;
	}
	feed_skip(c, n);
	c->body_left -= n;
	if (c->body_left > 0)
		return false;
	dispatch(c);
	return true;
}

bool http_request_body_room(struct http_conn *c, char **ret_p, size_t *ret_len)
{
	struct http_ticket *t = c->ticket;
	enum err e = t->body_len < t->body_space
	                 ? ERR_OK
	                 : reserve(c, t->body_len + c->body_left, t->body_len + 1);

	if (e != ERR_OK) {
		refuse_body(c, e);
		return false;
	}
	*ret_p = t->body + t->body_len;
	*ret_len = t->body_space - t->body_len;
	if (*ret_len > c->body_left)
		*ret_len = (size_t)c->body_left;
	return true;
}

void http_request_body_read(struct http_conn *c, size_t len)
{
	c->ticket->body_len += len;
	c->body_left -= len;
}
