/* Ids wait in one array a stream; a write takes up to BATCH of them along and gives them back when
 * it fails, and a timer with backoff tries again. The arrays are bounded: what an outage of Redis
 * piles up beyond that is forgotten and counted, and comes back as a redelivery. */
#include "weir/queue/stream_acks.h"

#include "weir/base/backoff.h"
#include "weir/base/mem.h"
#include "weir/io/redis.h"
#include "weir/run/crash_point.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"

#define BATCH   1000
#define MAX_IDS (200 * 1000)
#define TIMEOUT (5 * USEC_PER_SEC)

/* A connection that stays up but refuses (a full disk, too much under way) tells nobody when it
 * takes again. */
static const struct backoff retry_backoff = {
    .initial = 100 * USEC_PER_MSEC, .max = 5 * USEC_PER_SEC, .multiplier = 2.0, .jitter = 0.5};

struct ids {
	struct stream_id *at; /* owned */
	size_t count, space;
};

/* One XACK under way. */
struct flight {
	struct stream_acks *acks; /* borrowed */
	enum stream_which stream;
	size_t count;
	struct stream_id ids[BATCH];
	char texts[BATCH][STREAM_ID_TEXT];
	struct str argv[BATCH + 3];
};

struct stream_acks {
	struct stream_acks_options o;
	struct ids waiting[STREAM_COUNT];
	struct flight *spare; /* owned: one is kept, since there is mostly one under way */
	size_t in_flight;
	uint64_t forgotten;
	struct loop_task flush;
	struct loop_timer retry;
	unsigned refused; /* in a row */
	stream_acks_released_fn released;
	void *released_arg;
};

static void retry_later(struct stream_acks *a)
{
	if (!loop_timer_armed(&a->retry))
		loop_timer_set(&a->retry, backoff_delay(&retry_backoff, a->refused++));
}

static void release(struct stream_acks *a, struct stream_id id, enum stream_which stream)
{
	if (a->released)
		a->released(a->released_arg, id, stream);
}

static void ids_add(struct stream_acks *a, enum stream_which stream, struct stream_id id)
{
	struct ids *w = &a->waiting[stream];

	if (w->count == w->space) {
		size_t space = w->space ? w->space * 2 : BATCH;
		void *p = space <= MAX_IDS ? mem_realloc(w->at, space * sizeof(*w->at)) : NULL;

		if (!p) {
			a->forgotten++;
			release(a, id, stream);
			return;
		}
		w->at = p;
		w->space = space;
	}
	w->at[w->count++] = id;
}

static void flight_give(struct flight *f)
{
	struct stream_acks *a = f->acks;

	if (a->spare)
		mem_free(f);
	else
		a->spare = f;
}

/* Whether the entries must be acknowledged all the same: when it passes by itself, or when somebody
 * has put it right. Without the group (ERR_NOTABLE) there is nothing to acknowledge. */
static bool is_owed(enum err e)
{
	enum fate fate = err_fate(e);

	return (fate == FATE_RETRY && e != ERR_NOTABLE) || fate == FATE_STOP;
}

static void on_redis_acked(void *arg, enum err err, const struct redis_reply *reply)
{
	struct flight *f = arg;
	struct stream_acks *a = f->acks;
	size_t n = f->count;

	a->in_flight--;
	CRASH_POINT("acked");
	if (is_owed(err)) {
		for (size_t i = 0; i < n; i++)
			ids_add(a, f->stream, f->ids[i]);
		retry_later(a);
	} else {
		/* NOGROUP and the like: whoever makes the group anew reads everything again. */
		if (err != ERR_OK && err != ERR_CANCELLED)
			log_warn(LOG_QUEUE, "acknowledgement refused", LOG_ERR(err),
			         LOG_SLICE("detail", reply ? reply->str : STR_NONE),
			         LOG_INT("entries", n));
		for (size_t i = 0; i < n; i++)
			release(a, f->ids[i], f->stream);
	}
	flight_give(f);
	if (err != ERR_OK)
		return;
	a->refused = 0;
	a->o.acked(a->o.arg, n);
}

static enum err send_some(struct stream_acks *a, enum stream_which stream)
{
	struct ids *w = &a->waiting[stream];
	struct flight *f = a->spare ? a->spare : mem_alloc(sizeof(*f));
	size_t n = w->count < BATCH ? w->count : BATCH;
	enum err e;

	if (!f)
		return ERR_NOMEM;
	a->spare = NULL;
	f->acks = a;
	f->stream = stream;
	f->count = n;
	f->argv[0] = STR("XACK");
	f->argv[1] = a->o.names->keys[stream];
	f->argv[2] = a->o.names->group;
	memcpy(f->ids, w->at + w->count - n, n * sizeof(*f->ids));
	for (size_t i = 0; i < n; i++)
		f->argv[3 + i] = str_n(f->texts[i], stream_id_format(f->ids[i], f->texts[i]));
	e = redis_submit(a->o.redis, f->argv, n + 3, TIMEOUT, on_redis_acked, f);
	if (e == ERR_OK) {
		w->count -= n;
		a->in_flight++;
	} else {
		flight_give(f);
	}
	return e;
}

static void on_flush(void *arg)
{
	struct stream_acks *a = arg;

	for (enum stream_which s = STREAM_MAIN; s < STREAM_COUNT; s++)
		while (a->waiting[s].count)
			if (send_some(a, s) != ERR_OK) {
				retry_later(a);
				return;
			}
}

enum err stream_acks_new(const struct stream_acks_options *o, struct stream_acks **ret)
{
	struct stream_acks *a = mem_zalloc(sizeof(*a));

	if (!a)
		return ERR_NOMEM;
	a->o = *o;
	loop_task_init(&a->flush, on_flush, a);
	if (loop_timer_init(&a->retry, o->loop, on_flush, a) != ERR_OK) {
		mem_free(a);
		return ERR_NOMEM;
	}
	*ret = a;
	return ERR_OK;
}

void stream_acks_free(struct stream_acks *a)
{
	if (!a)
		return;
	loop_cancel(a->o.loop, &a->flush);
	loop_timer_done(&a->retry);
	for (enum stream_which s = STREAM_MAIN; s < STREAM_COUNT; s++)
		mem_free(a->waiting[s].at);
	mem_free(a->spare);
	mem_free(a);
}

void stream_acks_on_release(struct stream_acks *a, stream_acks_released_fn fn, void *arg)
{
	a->released = fn;
	a->released_arg = arg;
}

void stream_acks_add(struct stream_acks *a, struct stream_id id, enum stream_which stream)
{
	ids_add(a, stream, id);
	loop_defer(a->o.loop, &a->flush);
}

void stream_acks_retry(struct stream_acks *a)
{
	a->refused = 0;
	loop_timer_stop(&a->retry);
	loop_defer(a->o.loop, &a->flush);
}

bool stream_acks_idle(const struct stream_acks *a)
{
	return !a->in_flight && !a->waiting[STREAM_MAIN].count && !a->waiting[STREAM_LARGE].count;
}

uint64_t stream_acks_forgotten(const struct stream_acks *a)
{
	return a->forgotten;
}
