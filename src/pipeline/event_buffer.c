/* When a batch leaves. The more of the database is at work already, the riper a batch must be:
 *
 *   nothing at work        at once. Events of one turn of the loop go together, because handing out
 *                          is deferred. Only where events come so fast that LINGER_FREE more of
 *                          waiting would gain a handful, it waits that long: a commit costs the
 *                          database as much as a dozen rows. In a flood it waits for a thousand,
 *                          for a full batch, or for LINGER_MOST.
 *   others are at work     a full batch, or what lingered for LINGER_EXTRA. The batch at work is
 *                          back in a millisecond or two as a rule, and what gathers meanwhile makes
 *                          the next one fuller: batches fill by themselves under load, and a
 *                          trickle stays on one connection.
 *   no idle connection     what waits for longer than flush_interval.
 *
 * Marks are over everything held, batches at work included, so that they bound the memory of the
 * whole pipeline. */
#include "weir/pipeline/event_buffer.h"

#include "weir/base/mem.h"
#include "weir/run/loop.h"

#define LINGER_FREE  (2 * USEC_PER_MSEC)
#define LINGER_EXTRA (5 * USEC_PER_MSEC)
#define LINGER_MOST  (40 * USEC_PER_MSEC)
/* The arrival rate is taken anew over at least this long. */
#define RATE_WINDOW (20 * USEC_PER_MSEC)

enum {
	WORTH_LINGERING = 4, /* further events that LINGER_FREE must promise */
	FLOOD = 12,          /* so many, and up to LINGER_MOST is waited for GATHERED events */
	GATHERED = 1000,
	HIGH_EVENTS = 10000,
	HIGH_BYTES = 64 * 1024 * 1024,
};

struct event_buffer {
	struct event_inlet inlet;
	struct loop *loop; /* borrowed */
	struct event_buffer_options o;
	struct event_buffer_drain drain;
	struct list events;   /* event.node, oldest first; one reference each */
	struct list urgent;   /* likewise; EVENT_URGENT or EVENT_ALONE, they leave first */
	struct event **batch; /* owned; o.batch_size of them, lent to take() */
	size_t bytes;         /* buffered */
	size_t held, held_bytes;
	bool full; /* crossed a high mark, not yet back below both low ones */
	bool closed;
	usec_t rate_since;      /* arrivals are counted from then */
	size_t rate_count;      /* in this window */
	double rate_per_linger; /* of the last window: events in LINGER_FREE */
	struct loop_task arrived;
	struct loop_timer ripe;
	struct loop_task room;
	void (*on_room)(void *arg);
	void *on_room_arg;
};

static struct event_buffer *buffer_of(const struct event_inlet *in)
{
	return container_of(in, struct event_buffer, inlet);
}

static struct list *list_of(struct event_buffer *b, const struct event *e)
{
	return e->flags & (EVENT_URGENT | EVENT_ALONE) ? &b->urgent : &b->events;
}

/* ---- the inlet ---- */

static size_t inlet_room(const struct event_inlet *in)
{
	const struct event_buffer *b = buffer_of(in);

	if (b->full || b->closed || b->held >= b->o.high_events)
		return 0;
	return b->o.high_events - b->held;
}

/* Rates are noted per window, so that one burst does not make a lonely event linger. */
static void count_arrival(struct event_buffer *b, usec_t now)
{
	usec_t window = now - b->rate_since;

	if (window >= RATE_WINDOW) {
		b->rate_per_linger = (double)b->rate_count * (double)LINGER_FREE / (double)window;
		b->rate_count = 0;
		b->rate_since = now;
	}
	b->rate_count++;
}

static enum err inlet_put(struct event_inlet *in, struct event *e)
{
	struct event_buffer *b = buffer_of(in);
	usec_t now = loop_now(b->loop);

	if (b->closed)
		return ERR_CLOSED;
	/* An event larger than the bound passes when nothing else is held, or it never would. */
	if (b->held > 0 && b->held_bytes + e->size > b->o.max_bytes)
		return ERR_FULL;
	e->taken = now;
	list_push_back(list_of(b, e), &e->node);
	b->bytes += e->size;
	b->held++;
	b->held_bytes += e->size;
	if (b->held >= b->o.high_events || b->held_bytes >= b->o.high_bytes)
		b->full = true;
	count_arrival(b, now);
	loop_defer(b->loop, &b->arrived);
	return ERR_OK;
}

static void inlet_on_room(struct event_inlet *in, void (*fn)(void *arg), void *arg)
{
	struct event_buffer *b = buffer_of(in);

	b->on_room = fn;
	b->on_room_arg = arg;
}

static void on_room_task(void *arg)
{
	struct event_buffer *b = arg;

	if (b->on_room && !b->full && !b->closed)
		b->on_room(b->on_room_arg);
}

/* So near that what is asked for then comes before the rest has left. */
static size_t low_mark(size_t high)
{
	return high - high / 4;
}

void event_buffer_release(struct event_buffer *b, size_t n, size_t bytes)
{
	b->held -= n;
	b->held_bytes -= bytes;
	if (!b->full || b->held >= low_mark(b->o.high_events) ||
	    b->held_bytes >= low_mark(b->o.high_bytes))
		return;
	b->full = false;
	loop_defer(b->loop, &b->room);
}

/* ---- batches ---- */

struct event *event_buffer_pop(struct event_buffer *b)
{
	struct list_node *n = list_pop_front(b->urgent.count ? &b->urgent : &b->events);
	struct event *e;

	if (!n)
		return NULL;
	e = container_of(n, struct event, node);
	b->bytes -= e->size;
	return e;
}

bool event_buffer_remove(struct event_buffer *b, struct event *e)
{
	if (!list_linked(&e->node))
		return false;
	list_remove(list_of(b, e), &e->node);
	b->bytes -= e->size;
	event_buffer_release(b, 1, e->size);
	return true;
}

static bool inlet_remove(struct event_inlet *in, struct event *e)
{
	return event_buffer_remove(buffer_of(in), e);
}

void event_buffer_put_back(struct event_buffer *b, struct event *e)
{
	e->taken = loop_now(b->loop);
	list_push_back(list_of(b, e), &e->node);
	b->bytes += e->size;
	loop_defer(b->loop, &b->arrived);
}

/* The one that leaves next. */
static struct event *first(const struct event_buffer *b)
{
	const struct list *l = b->urgent.count ? &b->urgent : &b->events;

	return container_of(list_front(l), struct event, node);
}

/* When the one that waits for the longest came. */
static usec_t oldest(const struct event_buffer *b)
{
	usec_t taken = first(b)->taken;
	struct list_node *n = list_front(&b->events);
	usec_t other = n ? container_of(n, struct event, node)->taken : taken;

	return taken < other ? taken : other;
}

static bool fills_a_batch(const struct event_buffer *b)
{
	return event_buffer_count(b) >= b->o.batch_size || b->bytes >= b->o.batch_bytes;
}

/* What comes fast is gathered for longer: thousands a second cost the database far less by the
 * hundred. Not where senders wait for the commit, which then send the less the longer it takes. */
static usec_t linger_in_flood(const struct event_buffer *b, usec_t otherwise)
{
	double linger;

	if (b->rate_per_linger < FLOOD || b->urgent.count > 0)
		return otherwise;
	linger = (double)LINGER_FREE * GATHERED / b->rate_per_linger;
	if (linger < (double)otherwise)
		return otherwise;
	return linger < (double)LINGER_MOST ? (usec_t)linger : LINGER_MOST;
}

static usec_t linger_free(const struct event_buffer *b)
{
	return b->rate_per_linger >= WORTH_LINGERING ? linger_in_flood(b, LINGER_FREE) : 0;
}

/* How much longer the oldest event has to wait for this slot; 0: a batch may leave. */
static usec_t ripe_in(const struct event_buffer *b, enum event_buffer_slot slot)
{
	usec_t age = loop_now(b->loop) - oldest(b);
	usec_t linger = 0;

	if (slot != EVENT_BUFFER_SLOT_NONE && first(b)->flags & EVENT_ALONE)
		return 0;
	switch (slot) {
	case EVENT_BUFFER_SLOT_NONE:
		return USEC_NEVER;
	case EVENT_BUFFER_SLOT_LATE:
		linger = b->o.flush_interval;
		break;
	case EVENT_BUFFER_SLOT_AHEAD:
		linger = fills_a_batch(b) ? 0 : b->o.flush_interval;
		break;
	case EVENT_BUFFER_SLOT_EXTRA:
		linger = fills_a_batch(b) ? 0 : linger_in_flood(b, LINGER_EXTRA);
		break;
	case EVENT_BUFFER_SLOT_FREE:
		linger = fills_a_batch(b) ? 0 : linger_free(b);
		break;
	}
	if (linger > b->o.flush_interval)
		linger = b->o.flush_interval;
	return b->closed || age >= linger ? 0 : linger - age;
}

static void hand_out(struct event_buffer *b)
{
	size_t n = 0, bytes = 0;

	while (n < b->o.batch_size && event_buffer_count(b) > 0) {
		if (n > 0 && (bytes + first(b)->size > b->o.batch_bytes ||
		              (first(b)->flags | b->batch[0]->flags) & EVENT_ALONE))
			break;
		b->batch[n] = event_buffer_pop(b);
		bytes += b->batch[n]->size;
		n++;
	}
	b->drain.take(b->drain.arg, b->batch, n);
}

void event_buffer_pump(struct event_buffer *b)
{
	loop_timer_stop(&b->ripe);
	while (event_buffer_count(b) > 0 && b->drain.slot) {
		usec_t wait = ripe_in(b, b->drain.slot(b->drain.arg));

		if (wait > 0) {
			if (wait != USEC_NEVER)
				loop_timer_set(&b->ripe, wait);
			return;
		}
		hand_out(b);
	}
}

static void on_arrived(void *arg)
{
	event_buffer_pump(arg);
}

/* ---- life ---- */

void event_buffer_set_drain(struct event_buffer *b, const struct event_buffer_drain *d)
{
	b->drain = *d;
}

void event_buffer_close(struct event_buffer *b)
{
	b->closed = true;
	loop_defer(b->loop, &b->arrived);
}

size_t event_buffer_count(const struct event_buffer *b)
{
	return b->events.count + b->urgent.count;
}

size_t event_buffer_held(const struct event_buffer *b)
{
	return b->held;
}

size_t event_buffer_held_bytes(const struct event_buffer *b)
{
	return b->held_bytes;
}

bool event_buffer_full(const struct event_buffer *b)
{
	return b->full;
}

static void set_defaults(struct event_buffer_options *o)
{
	if (o->batch_size == 0)
		o->batch_size = 1;
	if (o->high_events == 0)
		o->high_events = HIGH_EVENTS;
	if (o->high_bytes == 0)
		o->high_bytes = HIGH_BYTES;
	if (o->max_bytes == 0)
		o->max_bytes = o->high_bytes * 2;
}

enum err event_buffer_new(struct loop *l, const struct event_buffer_options *o,
                          struct event_buffer **ret)
{
	struct event_buffer *b = mem_zalloc(sizeof(*b));

	if (!b)
		return ERR_NOMEM;
	b->inlet = (struct event_inlet){inlet_room, inlet_put, inlet_on_room, inlet_remove};
	b->loop = l;
	b->o = *o;
	set_defaults(&b->o);
	list_init(&b->events);
	list_init(&b->urgent);
	loop_task_init(&b->arrived, on_arrived, b);
	loop_task_init(&b->room, on_room_task, b);
	b->rate_since = loop_now(l);
	b->batch = mem_array(b->o.batch_size, sizeof(struct event *));
	if (!b->batch || loop_timer_init(&b->ripe, l, on_arrived, b) != ERR_OK) {
		event_buffer_free(b);
		return ERR_NOMEM;
	}
	*ret = b;
	return ERR_OK;
}

void event_buffer_free(struct event_buffer *b)
{
	struct event *e;

	if (!b)
		return;
	while ((e = event_buffer_pop(b)))
		event_unref(e);
	loop_cancel(b->loop, &b->arrived);
	loop_cancel(b->loop, &b->room);
	loop_timer_done(&b->ripe);
	mem_free(b->batch);
	mem_free(b);
}

struct event_inlet *event_buffer_inlet(struct event_buffer *b)
{
	return &b->inlet;
}
