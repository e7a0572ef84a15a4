/* Replies come in the order of the commands. */
#include <string.h>

#include "redis_priv.h"

#define READ_BYTES      (64 * 1024)
#define READS_PER_EVENT 8

static enum err err_of_reply(struct redis *r, const struct redis_reply *reply)
{
	return reply->type == REDIS_ERROR ? redis_note_error(r, reply->str) : ERR_OK;
}

/* ---- replies ---- */

static void on_handshake_done(struct redis *r)
{
	loop_timer_stop(&r->watchdog);
	loop_timer_set(&r->pulse, REDIS_PULSE);
	redis_set_state(r, REDIS_UP);
}

/* ["slave", host, port, …]. The next address of the name may be the primary's; and without asking,
 * a replica would be found out by the first event only. Who may not ask takes what is there. */
static void refuse_replica(struct redis *r, const struct redis_reply *reply)
{
	if (reply->type == REDIS_ARRAY && reply->count > 0 &&
	    str_eq(reply->items[0]->str, STR("slave")) &&
	    redis_note_error(r, STR("READONLY it is a replica")) != ERR_OK)
		r->drop = true;
}

static void answer_handshake(struct redis *r, const struct pending *p,
                             const struct redis_reply *reply)
{
	/* A user who may do little else is welcome. */
	bool barred = reply->type == REDIS_ERROR && p->kind != PENDING_HANDSHAKE &&
	              str_starts(reply->str, STR("NOPERM "));
	enum err e = barred ? ERR_OK : err_of_reply(r, reply);

	if (r->greeting == ERR_OK)
		r->greeting = e;
	switch (p->kind) {
	case PENDING_ROLE:
		refuse_replica(r, reply);
		break;
	case PENDING_NAME:
		break;
	case PENDING_PING:
	case PENDING_HANDSHAKE:
		r->drop = r->drop || e != ERR_OK;
		break;
	case PENDING_COMMAND:
	case PENDING_MULTI:
	case PENDING_PART:
	case PENDING_EXEC:
		break;
	}
	if (r->state == REDIS_HANDSHAKE && r->pending.count == 0 && !r->drop)
		on_handshake_done(r);
}

/* Only EXEC's reply ends a transaction, but the first error among its parts says why it failed. */
static void note_part(struct redis *r, const struct redis_reply *reply)
{
	enum err e = err_of_reply(r, reply);

	if (e == ERR_OK || r->multi_err != ERR_OK)
		return;
	r->multi_err = e;
	memcpy(r->multi_text, r->last_error, sizeof(r->multi_text));
}

static void answer_exec(struct redis *r, const struct pending *p, const struct redis_reply *reply)
{
	struct redis_reply noted = {.type = REDIS_ERROR, .str = str_of(r->multi_text)};
	enum err e = err_of_reply(r, reply);

	if (!p->fn)
		return;
	if (e != ERR_OK && r->multi_err != ERR_OK) {
		p->fn(p->arg, r->multi_err, &noted);
		return;
	}
	if (e == ERR_OK && reply->type != REDIS_ARRAY)
		e = ERR_PROTO;
	for (size_t i = 0; i < reply->count && e == ERR_OK; i++) {
		e = err_of_reply(r, reply->items[i]);
		if (e != ERR_OK) {
			p->fn(p->arg, e, reply->items[i]);
			return;
		}
	}
	p->fn(p->arg, e, reply);
}

static void answer(struct redis *r, const struct redis_reply *reply)
{
	struct pending p = *pending_front(&r->pending);
	enum err e;

	pending_pop(&r->pending);
	switch (p.kind) {
	case PENDING_COMMAND:
		e = err_of_reply(r, reply);
		if (p.fn)
			p.fn(p.arg, e, reply);
		break;
	case PENDING_MULTI:
		r->multi_err = ERR_OK;
		note_part(r, reply);
		/* Its parts run one by one now: which of them did, nobody can tell. */
		if (r->multi_err != ERR_OK)
			r->drop = true;
		break;
	case PENDING_PART:
		note_part(r, reply);
		break;
	case PENDING_EXEC:
		answer_exec(r, &p, reply);
		break;
	case PENDING_HANDSHAKE:
	case PENDING_NAME:
	case PENDING_ROLE:
	case PENDING_PING:
		answer_handshake(r, &p, reply);
		break;
	}
}

/* False: the connection is gone. */
static bool take_replies(struct redis *r)
{
	const struct redis_reply *reply;
	uint64_t epoch = r->epoch;
	enum err e;

	while ((e = redis_reader_next(r->reader, &reply)) == ERR_OK) {
		if (!pending_front(&r->pending)) {
			redis_note_loss(r, REDIS_TROUBLE_PROTOCOL);
			redis_lose(r, ERR_CLOSED, "a reply that nobody asked for");
			return false;
		}
		answer(r, reply);
		if (r->epoch != epoch) /* the completion stopped us */
			return false;
		if (r->drop) {
			redis_lose(r, ERR_CLOSED, r->last_error);
			return false;
		}
	}
	if (e == ERR_AGAIN)
		return true;
	redis_note_loss(r, REDIS_TROUBLE_PROTOCOL);
	redis_lose(r, ERR_CLOSED, e == ERR_PROTO ? redis_reader_error(r->reader) : err_meaning(e));
	return false;
}

static void read_some(struct redis *r)
{
	for (int i = 0; i < READS_PER_EVENT; i++) {
		char *bytes;
		ssize_t n = 0;
		enum err e = redis_reader_space(r->reader, READ_BYTES, &bytes);

		if (e == ERR_OK)
			n = net_read(r->net, bytes, READ_BYTES);
		if (n < 0) {
			redis_lose(r, ERR_CLOSED, net_error(r->net));
			return;
		}
		if (n > 0)
			e = redis_reader_filled(r->reader, (size_t)n);
		if (e != ERR_OK) {
			redis_note_loss(r, REDIS_TROUBLE_PROTOCOL);
			redis_lose(r, ERR_CLOSED,
			           e == ERR_TOOBIG ? "a reply is too large" : err_meaning(e));
			return;
		}
		/* A short read emptied the socket; TLS may hold bytes that no event tells of. */
		if (n == 0 || !take_replies(r) || (!r->tls && n < READ_BYTES))
			return;
	}
	loop_defer(r->loop, &r->read_task);
}

/* What was gathered goes out first: the server works on it while completions do on its replies. */
void redis_on_readable(void *arg)
{
	struct redis *r = arg;

	redis_enter(r);
	if (r->state == REDIS_UP)
		redis_write(r);
	if (r->net && (r->state == REDIS_UP || r->state == REDIS_HANDSHAKE))
		read_some(r);
	redis_leave(r);
}
