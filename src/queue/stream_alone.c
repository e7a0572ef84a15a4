/* The lane:
 *
 *   IDLE       nothing waits
 *   PAUSING    something waits, but there is no room, or nothing moves in the pipeline, or Redis
 *              refused, or we have just started
 *   MARKING    one script finds out who ran the entry before, marks it and fetches it
 *   RUNNING    it is in the pipeline, under the mark
 *   UNMARKING  the mark is being taken back, because it is no evidence any more
 *   LOOSE      it goes on without a mark; the lane waits for it, or for a sign that others are
 *              stored
 *
 * A mark must be evidence that the entry kills, and of nothing else. So it stands only while this
 * process works on the event, some milliseconds as a rule. What has failed in the database once, or
 * is there and not answered at once, has not killed us; whatever ends this process from then on (an
 * operator in an outage, say) has nothing to do with it. Nor is any entry marked while the pipeline
 * holds others and stores none of them, because this one would wait behind them with its mark, or
 * in a process that has just started and may be in a crash loop of another cause: each mark is a
 * moment in which a kill would point at an innocent. The start is drawn, so that kills at a fixed
 * time do not meet it again and again. Deaths that were counted stay in the mark until the event is
 * settled.
 *
 * A mark is a hash, {by: process, deaths: n}, and beside it stands a key that says that the process
 * lives; it expires. Where Redis has no memory for them, the entry runs unmarked: draining goes
 * before judging. */
#include "weir/queue/stream_alone.h"

#include <stdio.h>

#include "weir/base/backoff.h"
#include "weir/base/mem.h"
#include "weir/base/rnd.h"
#include "weir/io/redis.h"
#include "weir/model/event.h"
#include "weir/queue/stream_intake.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define MAX_WAITING 10000
#define FIRST_SPACE 64
#define TIMEOUT     (5 * USEC_PER_SEC)
#define GONE_AFTER  (180 * USEC_PER_SEC)
#define FIRST_REST  (2 * USEC_PER_SEC) /* half to one and a half of it */
#define LONG        USEC_PER_SEC       /* in the pipeline, not sent yet, and nothing is stored */
#define LOOK_PERIOD (20 * USEC_PER_MSEC)
#define ROOM_PERIOD (50 * USEC_PER_MSEC)
#define MARK_MS     "86400000" /* a day */
#define DEATHS      "2"        /* under the mark, and the entry is condemned */
#define KEY_MAX     768

static const struct backoff pause_backoff = {
    .initial = 100 * USEC_PER_MSEC, .max = 5 * USEC_PER_SEC, .multiplier = 2.0, .jitter = 0.5};

/* KEYS: stream, mark. ARGV: group, consumer, id, this process, prefix of the keys that say who
 * lives, milliseconds that this one counts as living, milliseconds that a mark stays, deaths that
 * condemn. Returns what to do, the entry, and the deaths. The order matters: whoever holds the
 * entry now must be known before it becomes ours. */
static const char mark_script[] =
    "local key, mark = KEYS[1], KEYS[2]\n"
    "local group, consumer, id, me, lives, lives_ms, mark_ms, condemn = unpack(ARGV)\n"
    "local m = redis.call('HMGET', mark, 'by', 'deaths')\n"
    "local by, deaths = m[1], tonumber(m[2] or 0)\n"
    "if by and by ~= me then\n"
    "  if redis.call('EXISTS', lives .. by) == 1 then return {'wait'} end\n"
    "  deaths = deaths + 1\n"
    "end\n"
    "if #redis.call('XPENDING', key, group, id, id, 1) == 0 then return {'gone'} end\n"
    "local entry = redis.call('XCLAIM', key, group, consumer, 0, id)[1]\n"
    "if not entry then return {'lost'} end\n"
    "local set = redis.pcall('HSET', mark, 'by', me, 'deaths', deaths)\n"
    "if type(set) == 'table' and set.err then\n"
    "  redis.call('HDEL', mark, 'by')\n"
    "else\n"
    "  redis.call('PEXPIRE', mark, mark_ms)\n"
    "  redis.pcall('SET', lives .. me, 1, 'PX', lives_ms)\n"
    "end\n"
    "return {deaths >= tonumber(condemn) and 'condemn' or 'run', entry, deaths}\n";

/* KEYS: mark. ARGV: this process. */
static const char unmark_script[] =
    "if redis.call('HGET', KEYS[1], 'by') == ARGV[1] then redis.call('HDEL', KEYS[1], 'by') end\n"
    "return 0\n";

#define ALONE_STATES(X) X(IDLE) X(PAUSING) X(MARKING) X(RUNNING) X(UNMARKING) X(LOOSE)
#define ALONE_ENUM(s)   ALONE_##s,
#define ALONE_NAME(s)   #s,
enum alone_state { ALONE_STATES(ALONE_ENUM) };
static const char *const state_names[] = {ALONE_STATES(ALONE_NAME)};

#define TO(state) (1u << ALONE_##state)
static const unsigned may_follow[] = {
    [ALONE_IDLE] = TO(MARKING) | TO(PAUSING),
    [ALONE_PAUSING] = TO(MARKING) | TO(PAUSING) | TO(IDLE),
    [ALONE_MARKING] = TO(MARKING) | TO(RUNNING) | TO(UNMARKING) | TO(PAUSING) | TO(IDLE),
    [ALONE_RUNNING] = TO(UNMARKING) | TO(MARKING) | TO(PAUSING) | TO(IDLE),
    [ALONE_UNMARKING] = TO(UNMARKING) | TO(MARKING) | TO(PAUSING) | TO(IDLE) | TO(LOOSE),
    [ALONE_LOOSE] = TO(MARKING) | TO(PAUSING) | TO(IDLE),
};

struct place {
	struct stream_id id;
	enum stream_which stream;
};

struct stream_alone {
	struct stream_alone_options o;
	enum alone_state state;
	struct place *waiting; /* owned; those from `head` on */
	size_t head, count, space;
	struct place now;    /* MARKING to UNMARKING */
	struct event *event; /* reference, from RUNNING on until it is settled or the lane turns */
	usec_t since;        /* RUNNING, monotonic: when it began, or something was last stored */
	bool seen_sent;      /* at the look before */
	uint64_t done;       /* what was stored at the look before */
	bool moving;         /* something was stored between the last two looks */
	usec_t not_before;   /* monotonic */
	struct loop_timer timer;
	unsigned refused; /* in a row */
	bool unmark_due;  /* UNMARKING, and Redis could not be asked; the timer runs */
	bool stopped;
	char lives_ms[24];
	char lives[KEY_MAX]; /* prefix of the keys that say who lives */
	struct metric *ran, *condemned;
};

static void next(struct stream_alone *a);

static void set_state(struct stream_alone *a, enum alone_state to)
{
	if (!(may_follow[a->state] & 1u << to))
		log_error(LOG_QUEUE, "the lane in an impossible state",
		          LOG_STR("from", state_names[a->state]), LOG_STR("to", state_names[to]));
	a->state = to;
}

static void pause_for(struct stream_alone *a, usec_t delay)
{
	set_state(a, ALONE_PAUSING);
	loop_timer_set(&a->timer, delay);
}

static struct str mark_key(const struct stream_alone *a, const struct place *p, char out[KEY_MAX])
{
	char id[STREAM_ID_TEXT];
	int n;

	stream_id_format(p->id, id);
	n = snprintf(out, KEY_MAX, "%s:alone:%s", a->o.names->keys[p->stream].ptr, id);
	return str_n(out, (size_t)n < KEY_MAX ? (size_t)n : KEY_MAX - 1);
}

static enum err make_place(struct stream_alone *a)
{
	size_t space = a->space ? a->space * 2 : FIRST_SPACE;
	void *p;

	if (a->head + a->count < a->space)
		return ERR_OK;
	if (a->head > a->space / 2) {
		memmove(a->waiting, a->waiting + a->head, a->count * sizeof(*a->waiting));
		a->head = 0;
		return ERR_OK;
	}
	p = mem_realloc(a->waiting, space * sizeof(*a->waiting));
	if (!p)
		return ERR_NOMEM;
	a->waiting = p;
	a->space = space;
	return ERR_OK;
}

/* ---- the mark goes ---- */

/* For good: what the pipeline is done with. Nobody waits for it; what is left behind expires, and
 * means nothing without its entry. */
static void forget_mark(struct stream_alone *a, const struct place *p)
{
	char key[KEY_MAX];
	struct str argv[] = {STR("DEL"), mark_key(a, p, key)};

	if (redis_submit(a->o.redis, argv, 2, TIMEOUT, NULL, NULL) != ERR_OK)
		log_debug(LOG_QUEUE, "a mark is left to expire");
}

static void leave(struct stream_alone *a)
{
	event_unref(a->event);
	a->event = NULL;
	if (a->state != ALONE_UNMARKING) /* whose timer is for the mark */
		loop_timer_stop(&a->timer);
}

static bool look_for_stored(struct stream_alone *a)
{
	uint64_t done = stream_intake_done(a->o.intake);

	a->moving = done != a->done;
	a->done = done;
	return a->moving;
}

static void loosen(struct stream_alone *a)
{
	if (!a->event || a->stopped) {
		leave(a);
		next(a);
		return;
	}
	set_state(a, ALONE_LOOSE);
	look_for_stored(a);
	loop_timer_set(&a->timer, ROOM_PERIOD);
}

static void not_unmarked(struct stream_alone *a, enum err err)
{
	log_debug(LOG_QUEUE, "a mark was not taken back", LOG_ERR(err));
	a->unmark_due = !a->stopped;
	if (a->unmark_due)
		loop_timer_set(&a->timer, backoff_delay(&pause_backoff, a->refused++));
	else
		loosen(a);
}

static void on_redis_unmarked(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_alone *a = arg;

	(void)reply;
	if (err != ERR_OK) {
		not_unmarked(a, err);
		return;
	}
	a->refused = 0;
	loosen(a);
}

static void unmark(struct stream_alone *a)
{
	char key[KEY_MAX];
	struct str argv[] = {STR("EVAL"), str_of(unmark_script), STR("1"),
	                     mark_key(a, &a->now, key), a->o.names->process};
	enum err e = redis_submit(a->o.redis, argv, 5, TIMEOUT, on_redis_unmarked, a);

	set_state(a, ALONE_UNMARKING);
	loop_timer_stop(&a->timer);
	a->unmark_due = false;
	if (e != ERR_OK)
		not_unmarked(a, e);
}

/* ---- running ---- */

static bool is_ours(const struct stream_alone *a, const struct place *p)
{
	return a->event && a->event->token[0] == p->id.ms && a->event->token[1] == p->id.seq &&
	       a->now.stream == p->stream;
}

static void on_settled(void *arg, struct stream_id id, enum stream_which stream,
                       enum event_fate fate)
{
	struct stream_alone *a = arg;
	struct place p = {id, stream};
	bool ours = is_ours(a, &p);

	if (fate != EVENT_RETURNED)
		forget_mark(a, &p);
	if (!ours)
		return;
	leave(a);
	look_for_stored(a); /* one after the other while they are stored */
	if (fate == EVENT_RETURNED && a->state == ALONE_RUNNING)
		unmark(a);
	else if (a->state != ALONE_UNMARKING)
		next(a);
}

static void look(struct stream_alone *a)
{
	if (look_for_stored(a))
		a->since = loop_now(a->o.loop);
	if (a->event->attempts > 0 || a->seen_sent || loop_now(a->o.loop) - a->since >= LONG) {
		unmark(a);
		return;
	}
	a->seen_sent = a->event->flags & EVENT_SENT;
	loop_timer_set(&a->timer, LOOK_PERIOD);
}

/* Others are stored: it is not the weather that keeps this one. */
static void look_around(struct stream_alone *a)
{
	if (look_for_stored(a)) {
		leave(a);
		next(a);
	} else {
		loop_timer_set(&a->timer, ROOM_PERIOD);
	}
}

static void run(struct stream_alone *a, const struct redis_reply *entry, bool condemn,
                int64_t deaths)
{
	struct event *e;
	enum err err = stream_intake_take_alone(a->o.intake, a->now.stream, entry, condemn, &e);

	if (err != ERR_OK) {
		stream_intake_let_go(a->o.intake, a->now.id, a->now.stream);
		/* Who died over it knew its tool: such a one is waited for while the mark stays. */
		if (err == ERR_TOOL && deaths == 0)
			stream_intake_park(a->o.intake, a->now.id, a->now.stream);
		unmark(a);
		return;
	}
	metric_inc(condemn ? a->condemned : a->ran);
	log_warn(LOG_QUEUE,
	         condemn ? "processes died over an entry; it becomes a dead letter"
	                 : "an entry was delivered too often and runs alone",
	         LOG_INT("id_ms", a->now.id.ms), LOG_INT("id_seq", a->now.id.seq),
	         LOG_INT("deaths", deaths));
	a->event = e;
	a->since = loop_now(a->o.loop);
	a->seen_sent = false;
	set_state(a, ALONE_RUNNING);
	loop_timer_set(&a->timer, LOOK_PERIOD);
}

/* ---- marking ---- */

/* It is not ours to run now. If it is still pending it comes again. */
static void drop(struct stream_alone *a)
{
	stream_intake_let_go(a->o.intake, a->now.id, a->now.stream);
	next(a);
}

static void refused(struct stream_alone *a)
{
	if (make_place(a) == ERR_OK)
		a->waiting[a->head + a->count++] = a->now;
	else
		stream_intake_let_go(a->o.intake, a->now.id, a->now.stream);
	pause_for(a, backoff_delay(&pause_backoff, a->refused++));
}

static void on_redis_marked(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_alone *a = arg;
	struct str verdict;

	if (a->stopped) {
		stream_intake_let_go(a->o.intake, a->now.id, a->now.stream);
		unmark(a);
		return;
	}
	if (err != ERR_OK && err != ERR_NOTABLE) {
		refused(a);
		return;
	}
	a->refused = 0;
	if (err != ERR_OK || reply->type != REDIS_ARRAY || reply->count < 1) {
		drop(a);
		return;
	}
	verdict = reply->items[0]->str;
	if (str_eq(verdict, STR("lost")))
		stream_intake_lost(a->o.intake, a->now.stream, 1);
	if (reply->count < 3)
		drop(a);
	else
		run(a, reply->items[1], str_eq(verdict, STR("condemn")), reply->items[2]->integer);
}

static void mark(struct stream_alone *a)
{
	const struct stream_names *n = a->o.names;
	char key[KEY_MAX], id[STREAM_ID_TEXT];
	struct str argv[13] = {STR("EVAL"),
	                       str_of(mark_script),
	                       STR("2"),
	                       n->keys[a->now.stream],
	                       mark_key(a, &a->now, key),
	                       n->group,
	                       n->consumer,
	                       str_n(id, stream_id_format(a->now.id, id)),
	                       n->process,
	                       str_of(a->lives),
	                       str_of(a->lives_ms),
	                       STR(MARK_MS),
	                       STR(DEATHS)};

	if (redis_submit(a->o.redis, argv, 13, TIMEOUT, on_redis_marked, a) == ERR_OK)
		set_state(a, ALONE_MARKING);
	else
		refused(a);
}

static void next(struct stream_alone *a)
{
	usec_t now = loop_now(a->o.loop);

	if (a->count == 0 || a->stopped) {
		a->head = 0;
		a->moving = false;
		set_state(a, ALONE_IDLE);
	} else if (now < a->not_before) {
		pause_for(a, a->not_before - now);
	} else if (stream_intake_room(a->o.intake) == 0 ||
	           (stream_intake_working(a->o.intake) > 0 && !a->moving)) {
		look_for_stored(a);
		pause_for(a, ROOM_PERIOD);
	} else {
		a->now = a->waiting[a->head++];
		a->count--;
		mark(a);
	}
}

/* After a pause: what was stored before it says nothing. */
static void go_on(struct stream_alone *a)
{
	look_for_stored(a);
	next(a);
}

static void on_timer(void *arg)
{
	struct stream_alone *a = arg;

	if (a->state == ALONE_RUNNING)
		look(a);
	else if (a->state == ALONE_LOOSE)
		look_around(a);
	else if (a->state == ALONE_PAUSING)
		go_on(a);
	else if (a->state == ALONE_UNMARKING && a->unmark_due)
		unmark(a);
}

void stream_alone_add(struct stream_alone *a, struct stream_id id, enum stream_which stream)
{
	if (a->stopped || a->count >= MAX_WAITING || make_place(a) != ERR_OK ||
	    stream_intake_hold(a->o.intake, id, stream) != ERR_OK)
		return;
	a->waiting[a->head + a->count++] = (struct place){id, stream};
	if (a->state == ALONE_IDLE)
		next(a);
}

/* ---- life ---- */

enum err stream_alone_new(const struct stream_alone_options *o, struct stream_alone **ret)
{
	struct stream_alone *a = mem_zalloc(sizeof(*a));
	usec_t gone = o->gone_after ? o->gone_after : GONE_AFTER;
	usec_t rest = o->first_rest ? o->first_rest : FIRST_REST;

	if (!a)
		return ERR_NOMEM;
	a->o = *o;
	a->not_before = loop_now(o->loop) + rest / 2 + (usec_t)rnd_below((uint64_t)rest);
	snprintf(a->lives_ms, sizeof(a->lives_ms), "%lld", (long long)(gone / USEC_PER_MSEC));
	snprintf(a->lives, sizeof(a->lives), "%s:lives:", o->names->keys[STREAM_MAIN].ptr);
	a->ran = metric_plain(o->metrics, METRIC_COUNTER, "webhook_queue_alone_total",
	                      "Entries that were delivered too often and ran alone.");
	a->condemned = metric_plain(o->metrics, METRIC_COUNTER, "webhook_queue_condemned_total",
	                            "Entries over which processes died; they became dead letters.");
	if (loop_timer_init(&a->timer, o->loop, on_timer, a) != ERR_OK) {
		mem_free(a);
		return ERR_NOMEM;
	}
	stream_intake_on_alone(o->intake, on_settled, a);
	*ret = a;
	return ERR_OK;
}

void stream_alone_stop(struct stream_alone *a)
{
	if (a->stopped)
		return;
	a->stopped = true;
	for (size_t i = 0; i < a->count; i++)
		stream_intake_let_go(a->o.intake, a->waiting[a->head + i].id,
		                     a->waiting[a->head + i].stream);
	a->count = 0;
	if (a->state == ALONE_PAUSING || a->state == ALONE_LOOSE) {
		leave(a);
		next(a);
	} else if (a->unmark_due) {
		unmark(a);
	}
}

bool stream_alone_idle(const struct stream_alone *a)
{
	return a->state == ALONE_IDLE;
}

void stream_alone_free(struct stream_alone *a)
{
	if (!a)
		return;
	stream_intake_on_alone(a->o.intake, NULL, NULL);
	event_unref(a->event);
	loop_timer_done(&a->timer);
	mem_free(a->waiting);
	mem_free(a);
}
