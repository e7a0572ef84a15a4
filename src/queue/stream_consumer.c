/* How it reads:
 *
 * - DOWN: no connection.
 * - GROUP: makes the group at id 0 (a new group starts with what is there, not with what comes).
 * - OWN: our own pending entries, stream by stream, from id 0 on: a crash or a lost connection left
 *   them. Those that are still held are skipped by the intake.
 * - READ: both streams without waiting: many of the main one, one of the large one.
 * - WAIT: both were empty: blocks on both for the first entry.
 * - FULL: the inlet has no room.
 * - PAUSE: an error: waits with backoff, then GROUP.
 * - STOPPED.
 *
 * READ and WAIT take turns, so a busy queue is read in batches, and the entry that ends a quiet
 * time is seen at once. A read is bounded in bytes: so many entries are asked for as fit the bound
 * if all are as big as the largest of late, and, since the next ones may be bigger, no more than
 * fit twice the bound if all have STREAM_ENTRY_LARGE, the most that the main stream takes. */
#include "weir/queue/stream_consumer.h"

#include <stdio.h>

#include "weir/base/backoff.h"
#include "weir/base/mem.h"
#include "weir/io/redis.h"
#include "weir/model/event.h"
#include "weir/queue/stream_entry.h"
#include "weir/queue/stream_intake.h"
#include "weir/queue/stream_names.h"
#include "weir/queue/stream_page.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define BLOCK_MS "500"
#define TIMEOUT  (10 * USEC_PER_SEC)

static const struct backoff pause_backoff = {
    .initial = 100 * USEC_PER_MSEC, .max = 5 * USEC_PER_SEC, .multiplier = 2.0, .jitter = 0.5};

#define CONSUMER_STATES(X) X(DOWN) X(GROUP) X(OWN) X(READ) X(WAIT) X(FULL) X(PAUSE) X(STOPPED)
#define CONSUMER_ENUM(s)   CONSUMER_##s,
#define CONSUMER_NAME(s)   #s,
enum consumer_state { CONSUMER_STATES(CONSUMER_ENUM) };
static const char *const state_names[] = {CONSUMER_STATES(CONSUMER_NAME)};

/* Which states may follow; bits of enum consumer_state. */
#define TO(state) (1u << CONSUMER_##state)
#define TROUBLE   (TO(FULL) | TO(PAUSE) | TO(DOWN) | TO(STOPPED))
static const unsigned may_follow[] = {
    [CONSUMER_DOWN] = TO(GROUP) | TO(STOPPED),
    [CONSUMER_GROUP] = TO(OWN) | TROUBLE,
    [CONSUMER_OWN] = TO(READ) | TROUBLE,
    [CONSUMER_READ] = TO(WAIT) | TROUBLE,
    [CONSUMER_WAIT] = TO(READ) | TROUBLE,
    [CONSUMER_FULL] = TO(OWN) | TO(READ) | TROUBLE,
    [CONSUMER_PAUSE] = TO(GROUP) | TO(DOWN) | TO(STOPPED),
    [CONSUMER_STOPPED] = 0,
};

struct stream_consumer {
	struct stream_consumer_options o;
	enum consumer_state state;
	struct loop_timer timer; /* PAUSE */
	unsigned errors;         /* in a row */
	size_t under_way;        /* commands without an answer */
	enum err failed;         /* first error of this round */
	bool got;                /* this round brought entries */
	bool own_done;           /* OWN was gone through on this connection */
	bool stopping;
	enum stream_which own_stream;
	struct stream_id own_last;
	char own_text[STREAM_ID_TEXT];
	char allowed[24]; /* deliveries */
	bool had_group;   /* since we read from it, it was there */
	struct metric *remade;
};

static void step(struct stream_consumer *c);

static void set_state(struct stream_consumer *c, enum consumer_state to)
{
	bool routine = (c->state == CONSUMER_READ || c->state == CONSUMER_WAIT) &&
	               (to == CONSUMER_READ || to == CONSUMER_WAIT);

	if (c->state != to && !(may_follow[c->state] & 1u << to))
		log_error(LOG_QUEUE, "the consumer in an impossible state",
		          LOG_STR("from", state_names[c->state]), LOG_STR("to", state_names[to]));
	if (c->state != to && !routine)
		log_debug(LOG_QUEUE, "consumer", LOG_STR("from", state_names[c->state]),
		          LOG_STR("to", state_names[to]));
	c->state = to;
}

/* ---- commands ---- */

static bool submit(struct stream_consumer *c, const struct str *argv, size_t argc,
                   redis_reply_fn fn)
{
	enum err e = redis_submit(c->o.reader, argv, argc, TIMEOUT, fn, c);

	if (e == ERR_OK)
		c->under_way++;
	else if (c->failed == ERR_OK)
		c->failed = e;
	return e == ERR_OK;
}

/* The round's last answer decides how it goes on. */
static void round_done(struct stream_consumer *c)
{
	if (--c->under_way == 0)
		step(c);
}

static void note(struct stream_consumer *c, enum err e, const struct redis_reply *reply)
{
	if (e == ERR_OK || c->failed != ERR_OK)
		return;
	c->failed = e;
	log_debug(LOG_QUEUE, "cannot read the queue", LOG_ERR(e),
	          LOG_SLICE("detail", reply ? reply->str : STR_NONE));
}

static void on_redis_group(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_consumer *c = arg;

	/* Made by us, though we had read from it: somebody deleted it, or the stream. Whatever
	 * waited there is gone, and nobody can tell how much that was. */
	if (err == ERR_OK && c->had_group) {
		metric_inc(c->remade);
		log_error(LOG_QUEUE, "the group was gone and is made anew: what waited in the "
		                     "stream is lost if that was deleted as well");
	}
	/* BUSYGROUP: it is there already. OOM: it may be there, and reading, which makes room, is
	 * allowed; if it is missing, the read says so. */
	note(c, err == ERR_CONFLICT || err == ERR_FULL ? ERR_OK : err, reply);
	round_done(c);
}

static void step_group(struct stream_consumer *c)
{
	for (enum stream_which s = STREAM_MAIN; s < STREAM_COUNT; s++) {
		struct str argv[] = {STR("XGROUP"),     STR("CREATE"), c->o.names->keys[s],
		                     c->o.names->group, STR("0"),      STR("MKSTREAM")};

		submit(c, argv, 6, on_redis_group);
	}
}

/* [[key, entries], …] or nil. */
static void take(struct stream_consumer *c, const struct redis_reply *reply)
{
	for (size_t i = 0; reply->type == REDIS_ARRAY && i < reply->count; i++) {
		const struct redis_reply *one = reply->items[i];
		enum stream_which s = STREAM_MAIN;

		if (one->type != REDIS_ARRAY || one->count != 2)
			continue;
		if (str_eq(one->items[0]->str, c->o.names->keys[STREAM_LARGE]))
			s = STREAM_LARGE;
		c->got = c->got || one->items[1]->count;
		note(c, stream_intake_take(c->o.intake, s, one->items[1], false), NULL);
	}
}

static void on_redis_entries(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_consumer *c = arg;

	note(c, err, reply);
	if (err == ERR_OK)
		take(c, reply);
	round_done(c);
}

static size_t read_count(struct stream_consumer *c, size_t room)
{
	size_t most = room < c->o.batch ? room : c->o.batch;

	return stream_intake_fitting(c->o.intake, c->o.read_bytes, most);
}

static bool read_stream(struct stream_consumer *c, enum stream_which s, size_t n)
{
	char count[24];
	struct str argv[] = {STR("XREADGROUP"),    STR("GROUP"),        c->o.names->group,
	                     c->o.names->consumer, STR("COUNT"),        STR_NONE,
	                     STR("STREAMS"),       c->o.names->keys[s], STR(">")};

	argv[5] = str_n(count, (size_t)snprintf(count, sizeof(count), "%zu", n));
	return submit(c, argv, 9, on_redis_entries);
}

static void take_own(struct stream_consumer *c, const struct redis_reply *reply)
{
	struct stream_page page;
	enum err e = stream_page_read(reply, &page);

	if (e == ERR_OK && page.cursor.len) {
		c->got = true;
		e = stream_id_parse(page.cursor, &c->own_last);
	}
	if (e == ERR_OK)
		e = stream_page_take(&page, c->own_stream, c->o.intake, c->o.alone);
	note(c, e, NULL);
}

static void on_redis_own(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_consumer *c = arg;

	note(c, err, reply);
	if (err == ERR_OK)
		take_own(c, reply);
	round_done(c);
}

static void step_own(struct stream_consumer *c, size_t room)
{
	const struct stream_names *names = c->o.names;
	size_t n = c->own_stream == STREAM_LARGE ? 1 : read_count(c, room);
	char count[24];
	struct str argv[] = {STR("EVAL"),
	                     str_of(stream_page_own),
	                     STR("1"),
	                     names->keys[c->own_stream],
	                     names->group,
	                     names->consumer,
	                     str_n(c->own_text, stream_id_format(c->own_last, c->own_text)),
	                     STR_NONE,
	                     str_of(c->allowed)};

	argv[7] = str_n(count, (size_t)snprintf(count, sizeof(count), "%zu", n));
	submit(c, argv, 9, on_redis_own);
}

static void step_read(struct stream_consumer *c, size_t room)
{
	if (read_stream(c, STREAM_MAIN, read_count(c, room)))
		read_stream(c, STREAM_LARGE, 1);
}

static void step_wait(struct stream_consumer *c)
{
	const struct stream_names *n = c->o.names;
	struct str argv[] = {STR("XREADGROUP"), STR("GROUP"), n->group,     n->consumer,
	                     STR("COUNT"),      STR("1"),     STR("BLOCK"), STR(BLOCK_MS),
	                     STR("STREAMS"),    n->keys[0],   n->keys[1],   STR(">"),
	                     STR(">")};

	submit(c, argv, 13, on_redis_entries);
}

/* ---- what comes next ---- */

static void fail_round(struct stream_consumer *c)
{
	enum err e = c->failed;

	c->failed = ERR_OK;
	if (!redis_up(c->o.reader)) {
		set_state(c, CONSUMER_DOWN); /* stream_consumer_on_state() comes */
		return;
	}
	/* No room for what was read: it is pending now, and is read again as our own. */
	c->own_done = false;
	set_state(c, CONSUMER_PAUSE);
	loop_timer_set(&c->timer, backoff_delay(&pause_backoff, c->errors++));
	log_debug(LOG_QUEUE, "pausing", LOG_ERR(e));
}

static void begin_own(struct stream_consumer *c, enum stream_which s)
{
	c->own_stream = s;
	c->own_last = (struct stream_id){0, 0};
}

/* After a round without error. */
static enum consumer_state next_state(struct stream_consumer *c)
{
	switch (c->state) {
	case CONSUMER_GROUP:
	case CONSUMER_PAUSE:
		begin_own(c, STREAM_MAIN);
		return CONSUMER_OWN;
	case CONSUMER_OWN:
		if (c->got)
			return CONSUMER_OWN;
		if (c->own_stream == STREAM_MAIN) {
			begin_own(c, STREAM_LARGE);
			return CONSUMER_OWN;
		}
		c->own_done = true;
		return CONSUMER_READ;
	case CONSUMER_READ:
		return c->got ? CONSUMER_READ : CONSUMER_WAIT;
	case CONSUMER_WAIT:
		return c->got ? CONSUMER_READ : CONSUMER_WAIT;
	case CONSUMER_FULL:
		return c->own_done ? CONSUMER_READ : CONSUMER_OWN;
	case CONSUMER_DOWN:
		return CONSUMER_GROUP;
	case CONSUMER_STOPPED:
		return CONSUMER_STOPPED;
	}
	return CONSUMER_STOPPED;
}

static void enter(struct stream_consumer *c, enum consumer_state to)
{
	size_t room = stream_intake_room(c->o.intake);

	if (room == 0 && to != CONSUMER_GROUP) {
		set_state(c, CONSUMER_FULL);
		return;
	}
	set_state(c, to);
	c->got = false;
	if (to == CONSUMER_GROUP)
		step_group(c);
	else if (to == CONSUMER_OWN)
		step_own(c, room);
	else if (to == CONSUMER_READ)
		step_read(c, room);
	else if (to == CONSUMER_WAIT)
		step_wait(c);
	if (!c->under_way && c->failed != ERR_OK)
		fail_round(c);
}

/* Called with nothing under way. */
static void step(struct stream_consumer *c)
{
	if (c->stopping) {
		set_state(c, CONSUMER_STOPPED);
		return;
	}
	if (c->failed != ERR_OK) {
		fail_round(c);
		return;
	}
	/* Making the group says nothing: what failed was to read it. */
	if (c->state == CONSUMER_READ || c->state == CONSUMER_WAIT) {
		c->errors = 0;
		c->had_group = true;
	}
	enter(c, next_state(c));
}

static void on_pause_over(void *arg)
{
	struct stream_consumer *c = arg;

	if (c->state == CONSUMER_PAUSE && !c->stopping)
		enter(c, CONSUMER_GROUP);
}

void stream_consumer_kick(struct stream_consumer *c)
{
	if (c->state == CONSUMER_FULL && !c->under_way)
		step(c);
}

static void on_inlet_room(void *arg)
{
	stream_consumer_kick(arg);
}

/* ---- life ---- */

enum err stream_consumer_new(const struct stream_consumer_options *o, struct stream_consumer **ret)
{
	struct stream_consumer *c = mem_zalloc(sizeof(*c));
	enum err e;

	if (!c)
		return ERR_NOMEM;
	c->o = *o;
	snprintf(c->allowed, sizeof(c->allowed), "%u", o->max_deliveries);
	c->remade = metric_plain(
	    o->metrics, METRIC_COUNTER, "webhook_queue_group_remade_total",
	    "The group or a stream was deleted by somebody and made anew. Must stay 0.");
	e = loop_timer_init(&c->timer, o->loop, on_pause_over, c);
	if (e != ERR_OK) {
		mem_free(c);
		return e;
	}
	o->inlet->on_room(o->inlet, on_inlet_room, c);
	*ret = c;
	return ERR_OK;
}

void stream_consumer_free(struct stream_consumer *c)
{
	if (!c)
		return;
	c->o.inlet->on_room(c->o.inlet, NULL, NULL);
	loop_timer_done(&c->timer);
	mem_free(c);
}

void stream_consumer_on_state(struct stream_consumer *c, bool up)
{
	if (c->stopping || c->state == CONSUMER_STOPPED)
		return;
	if (up) {
		c->own_done = false;
		c->failed = ERR_OK;
		enter(c, CONSUMER_GROUP);
	} else {
		loop_timer_stop(&c->timer);
		if (!c->under_way)
			set_state(c, CONSUMER_DOWN);
	}
}

void stream_consumer_stop(struct stream_consumer *c)
{
	c->stopping = true;
	loop_timer_stop(&c->timer);
	if (!c->under_way)
		set_state(c, CONSUMER_STOPPED);
}

bool stream_consumer_idle(const struct stream_consumer *c)
{
	return c->state == CONSUMER_STOPPED;
}
