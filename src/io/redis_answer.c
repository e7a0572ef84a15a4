/* Replies come in the order of the commands. */
#include <stdio.h>

#include "redis_priv.h"

#define READ_BYTES      (64 * 1024)
#define READS_PER_EVENT 32

/* ---- errors ---- */

static enum err err_of_text(struct str t)
{
	static const struct {
		const char *prefix;
		enum err err;
	} map[] = {
	    {"OOM ", ERR_FULL},
	    {"LOADING ", ERR_UNAVAILABLE},
	    {"MISCONF ", ERR_UNAVAILABLE},
	    {"READONLY ", ERR_UNAVAILABLE},
	    {"BUSY ", ERR_UNAVAILABLE},
	    {"MASTERDOWN ", ERR_UNAVAILABLE},
	    {"CLUSTERDOWN ", ERR_UNAVAILABLE},
	    {"TRYAGAIN ", ERR_UNAVAILABLE},
	    {"NOREPLICAS ", ERR_UNAVAILABLE},
	    {"NOAUTH ", ERR_DENIED},
	    {"WRONGPASS ", ERR_DENIED},
	    {"NOPERM ", ERR_DENIED},
	    {"NOGROUP ", ERR_NOTABLE},
	    {"NOSCRIPT ", ERR_NOTABLE},
	    {"BUSYGROUP ", ERR_CONFLICT},
	};

	for (size_t i = 0; i < sizeof(map) / sizeof(*map); i++)
		if (str_starts(t, str_of(map[i].prefix)))
			return map[i].err;
	return ERR_INVAL;
}

static enum err err_of_reply(struct redis *r, const struct redis_reply *reply)
{
	if (reply->type != REDIS_ERROR)
		return ERR_OK;
	snprintf(r->last_error, sizeof(r->last_error), "%.*s", (int)reply->str.len, reply->str.ptr);
	/* A replica answers: the fail-over moved the primary elsewhere. */
	if (str_starts(reply->str, STR("READONLY ")))
		r->drop = true;
	return err_of_text(reply->str);
}

/* ---- replies ---- */

static void on_handshake_done(struct redis *r)
{
	r->attempts = 0;
	loop_timer_stop(&r->watchdog);
	redis_set_state(r, REDIS_UP);
}

static void answer_handshake(struct redis *r, const struct pending *p, enum err e)
{
	if (e != ERR_OK && p->kind == PENDING_HANDSHAKE) {
		r->drop = true;
		return;
	}
	if (r->pending.count == 0 && !r->drop)
		on_handshake_done(r);
}

static enum err exec_error(struct redis *r, const struct redis_reply *reply)
{
	enum err e = err_of_reply(r, reply);

	if (e != ERR_OK)
		return r->multi_err != ERR_OK ? r->multi_err : e;
	for (size_t i = 0; i < reply->count; i++)
		if (e == ERR_OK)
			e = err_of_reply(r, reply->items[i]);
	return reply->type == REDIS_ARRAY ? e : ERR_PROTO;
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
		r->multi_err = err_of_reply(r, reply);
		break;
	case PENDING_PART:
		e = err_of_reply(r, reply);
		if (r->multi_err == ERR_OK)
			r->multi_err = e;
		break;
	case PENDING_EXEC:
		e = exec_error(r, reply);
		p.fn(p.arg, e, reply);
		break;
	case PENDING_HANDSHAKE:
	case PENDING_NAME:
		answer_handshake(r, &p, err_of_reply(r, reply));
		break;
	}
}

/* False: the connection is gone. */
static bool take_replies(struct redis *r)
{
	const struct redis_reply *reply;
	enum err e;

	while ((e = redis_reader_next(r->reader, &reply)) == ERR_OK) {
		if (!pending_front(&r->pending)) {
			redis_lose(r, ERR_CLOSED, "a reply that nobody asked for");
			return false;
		}
		answer(r, reply);
		if (!r->net) /* the completion stopped us */
			return false;
		if (r->drop) {
			redis_lose(r, ERR_CLOSED, r->last_error);
			return false;
		}
	}
	if (e == ERR_AGAIN)
		return true;
	redis_lose(r, ERR_CLOSED,
	           e == ERR_NOMEM ? "out of memory for a reply" : redis_reader_error(r->reader));
	return false;
}

void redis_read(struct redis *r)
{
	static char bytes[READ_BYTES];

	for (int i = 0; i < READS_PER_EVENT; i++) {
		ssize_t n = net_read(r->net, bytes, sizeof(bytes));

		if (n == 0)
			return;
		if (n < 0) {
			redis_lose(r, ERR_CLOSED, net_error(r->net));
			return;
		}
		if (redis_reader_feed(r->reader, bytes, (size_t)n) != ERR_OK) {
			redis_lose(r, ERR_CLOSED, "out of memory for a reply");
			return;
		}
		/* A short read emptied the socket; TLS may hold bytes that no event tells of. */
		if (!take_replies(r) || (!r->tls && (size_t)n < sizeof(bytes)))
			return;
	}
	loop_defer(r->loop, &r->more_task);
}

void redis_on_more(void *arg)
{
	struct redis *r = arg;

	if (r->net && (r->state == REDIS_UP || r->state == REDIS_HANDSHAKE))
		redis_read(r);
}
