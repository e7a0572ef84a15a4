/* XAUTOCLAIM walks a group's pending entries with a cursor, some at a time; its third element names
 * entries that no longer exist, which are counted as lost. Held entries are refreshed with XCLAIM …
 * JUSTID, which resets their idle time and does not count as a delivery. */
#include "weir/queue/stream_claim.h"

#include <stdio.h>

#include "weir/base/mem.h"
#include "weir/base/rnd.h"
#include "weir/io/redis.h"
#include "weir/queue/stream_intake.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define MIN_IDLE      (60 * USEC_PER_SEC)
#define PERIOD        (10 * USEC_PER_SEC)
#define CLAIM_COUNT   100
#define REFRESH_COUNT 1000
#define TIMEOUT       (5 * USEC_PER_SEC)
#define CURSOR_MAX    STREAM_ID_TEXT

struct stream_claim {
	struct stream_claim_options o;
	struct loop_timer claim_timer, refresh_timer;
	enum stream_which stream; /* being walked */
	char cursor[CURSOR_MAX];
	bool walking, stopped;
	char min_idle_ms[24];
	struct metric *claimed;
};

static void walk(struct stream_claim *c);

static void walk_end(struct stream_claim *c)
{
	/* Half to one and a half periods, so that consumers do not go in step. */
	usec_t delay = c->o.period / 2 + (usec_t)rnd_below((uint64_t)c->o.period);

	c->walking = false;
	if (!c->stopped)
		loop_timer_set(&c->claim_timer, delay);
}

/* The next entries of this stream, or the next stream, or the end of the walk. */
static void walk_on(struct stream_claim *c, struct str cursor)
{
	bool finished = cursor.len >= CURSOR_MAX || str_eq(cursor, STR("0-0"));

	if (finished && c->stream == STREAM_LARGE) {
		walk_end(c);
		return;
	}
	if (finished)
		c->stream = STREAM_LARGE;
	snprintf(c->cursor, sizeof(c->cursor), "%.*s", finished ? 3 : (int)cursor.len,
	         finished ? "0-0" : cursor.ptr);
	walk(c);
}

static void on_redis_claimed(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_claim *c = arg;
	enum err e;

	if (c->stopped || err != ERR_OK || reply->type != REDIS_ARRAY || reply->count < 2) {
		if (err != ERR_OK && err != ERR_NOTABLE && !c->stopped)
			log_warn(LOG_QUEUE, "cannot claim idle entries", LOG_ERR(err),
			         LOG_SLICE("detail", reply ? reply->str : STR_NONE));
		walk_end(c);
		return;
	}
	if (reply->count > 2)
		stream_intake_lost(c->o.intake, c->stream, reply->items[2]->count);
	if (reply->items[1]->count) {
		metric_add(c->claimed, (double)reply->items[1]->count);
		log_info(LOG_QUEUE, "claimed what an idle consumer left",
		         LOG_INT("entries", reply->items[1]->count));
	}
	e = stream_intake_take(c->o.intake, c->stream, reply->items[1], NULL);
	if (e != ERR_OK)
		walk_end(c);
	else
		walk_on(c, reply->items[0]->str);
}

static void walk(struct stream_claim *c)
{
	const struct stream_names *n = c->o.names;
	size_t room = stream_intake_room(c->o.intake),
	       most = c->stream == STREAM_LARGE ? 1 : CLAIM_COUNT;
	char count[24];
	struct str argv[] = {STR("XAUTOCLAIM"),      n->keys[c->stream], n->group,     n->consumer,
	                     str_of(c->min_idle_ms), str_of(c->cursor),  STR("COUNT"), STR_NONE};

	if (!c->o.may_claim(c->o.arg) || room == 0) {
		walk_end(c);
		return;
	}
	argv[7] =
	    str_n(count, (size_t)snprintf(count, sizeof(count), "%zu", room < most ? room : most));
	if (redis_submit(c->o.redis, argv, 8, TIMEOUT, on_redis_claimed, c) != ERR_OK)
		walk_end(c);
}

static void on_claim_timer(void *arg)
{
	struct stream_claim *c = arg;

	if (c->walking)
		return;
	c->walking = true;
	c->stream = STREAM_MAIN;
	snprintf(c->cursor, sizeof(c->cursor), "0-0");
	walk(c);
}

/* ---- refreshing what we hold ---- */

static void on_redis_refreshed(void *arg, enum err err, const struct redis_reply *reply)
{
	(void)arg;
	(void)reply;
	if (err != ERR_OK && err != ERR_CANCELLED)
		log_debug(LOG_QUEUE, "held entries not refreshed", LOG_ERR(err));
}

struct refresh {
	char texts[REFRESH_COUNT][STREAM_ID_TEXT];
	struct str argv[REFRESH_COUNT + 6];
	size_t count;
};

static void refresh_send(struct stream_claim *c, struct refresh *f, enum stream_which stream)
{
	const struct stream_names *n = c->o.names;

	if (!f->count)
		return;
	f->argv[0] = STR("XCLAIM");
	f->argv[1] = n->keys[stream];
	f->argv[2] = n->group;
	f->argv[3] = n->consumer;
	f->argv[4] = STR("0");
	f->argv[5 + f->count] = STR("JUSTID");
	if (redis_submit(c->o.redis, f->argv, f->count + 6, TIMEOUT, on_redis_refreshed, c) !=
	    ERR_OK)
		log_debug(LOG_QUEUE, "held entries not refreshed: no connection");
	f->count = 0;
}

static void refresh_stream(struct stream_claim *c, struct refresh *f, enum stream_which stream)
{
	const struct held *h;
	size_t pos = 0;

	f->count = 0;
	while ((h = held_set_next(stream_intake_held(c->o.intake), &pos))) {
		if (h->stream != stream)
			continue;
		f->argv[5 + f->count] =
		    str_n(f->texts[f->count], stream_id_format(h->id, f->texts[f->count]));
		if (++f->count == REFRESH_COUNT)
			refresh_send(c, f, stream);
	}
	refresh_send(c, f, stream);
}

static void on_refresh_timer(void *arg)
{
	struct stream_claim *c = arg;
	struct refresh *f;

	if (stream_intake_held(c->o.intake)->count && (f = mem_alloc(sizeof(*f)))) {
		refresh_stream(c, f, STREAM_MAIN);
		refresh_stream(c, f, STREAM_LARGE);
		mem_free(f);
	}
	loop_timer_set(&c->refresh_timer, c->o.min_idle / 3);
}

/* ---- life ---- */

enum err stream_claim_new(const struct stream_claim_options *o, struct stream_claim **ret)
{
	struct stream_claim *c = mem_zalloc(sizeof(*c));
	enum err e;

	if (!c)
		return ERR_NOMEM;
	c->o = *o;
	c->o.min_idle = o->min_idle ? o->min_idle : MIN_IDLE;
	c->o.period = o->period ? o->period : PERIOD;
	snprintf(c->min_idle_ms, sizeof(c->min_idle_ms), "%lld",
	         (long long)(c->o.min_idle / USEC_PER_MSEC));
	c->claimed = metric_single(
	    o->metrics, &(struct metric_spec){.type = METRIC_COUNTER,
	                                      .name = "webhook_queue_claimed_total",
	                                      .help = "Entries taken over from idle consumers."});
	e = loop_timer_init(&c->claim_timer, o->loop, on_claim_timer, c);
	if (e == ERR_OK)
		e = loop_timer_init(&c->refresh_timer, o->loop, on_refresh_timer, c);
	if (e != ERR_OK) {
		stream_claim_free(c);
		return e;
	}
	*ret = c;
	return ERR_OK;
}

void stream_claim_start(struct stream_claim *c)
{
	loop_timer_set(&c->claim_timer, (usec_t)rnd_below((uint64_t)c->o.period));
	loop_timer_set(&c->refresh_timer, c->o.min_idle / 3);
}

void stream_claim_stop(struct stream_claim *c)
{
	c->stopped = true;
	loop_timer_stop(&c->claim_timer);
}

void stream_claim_free(struct stream_claim *c)
{
	if (!c)
		return;
	loop_timer_done(&c->claim_timer);
	loop_timer_done(&c->refresh_timer);
	mem_free(c);
}
