/* A request waits here until each of its events is settled, so one that was split is answered as a
 * whole. An event knows its request by its token; when the wait ends first, what still lies in the
 * buffer is taken out of it, and what is in a batch already loses its token and ends by itself: it
 * may be stored, and the sender's retry is a duplicate then.
 *
 * The buffer's marks hold the queue's reader back, not us: with a full queue behind it the buffer
 * is always between its marks, and a sender is waiting. So there is a bound of our own on what
 * waits, and the inlet's on bytes. */
#include "weir/queue/direct.h"

#include "weir/base/list.h"
#include "weir/base/mem.h"
#include "weir/model/event.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define PROVEN     (2 * USEC_PER_SEC) /* a commit as young as this tells more than a probe */
#define RATE_OVER  USEC_PER_SEC       /* the commit rate is taken anew after so long */
#define RETRY_DOWN 5                  /* seconds: reconnects come at least that often */
#define RETRY_MAX  300
#define COPIES     2 /* parameters, and libpq's output buffer */

/* One request: all its events have the same deadline. */
struct wait {
	struct list_node node; /* oldest first, which is also the order of the deadlines */
	struct direct *direct; /* borrowed */
	event_sink_done_fn done;
	void *arg;
	usec_t deadline;        /* monotonic */
	enum err err;           /* ERR_OK so far, or why it fails as a whole */
	size_t n, open;         /* events; those not settled */
	struct event *events[]; /* a reference each; NULL once settled */
};

struct direct {
	struct event_sink sink;
	struct event_source source;
	struct direct_options o;
	struct list waits;
	size_t events; /* of all waits, not settled */
	size_t bytes;  /* of these */
	bool closed;
	struct loop_timer timer; /* the first deadline */
	usec_t last_commit;      /* monotonic; 0: none yet */
	usec_t rate_since;
	size_t rate_count;
	double rate; /* events settled in a second */
	struct metric *stored, *timeouts, *waiting;
};

/* ---- the end of a wait ---- */

static void arm(struct direct *d)
{
	struct list_node *n = list_front(&d->waits);
	usec_t now = loop_now(d->o.loop), due;

	if (!n) {
		loop_timer_stop(&d->timer);
		return;
	}
	due = container_of(n, struct wait, node)->deadline;
	loop_timer_set(&d->timer, due > now ? due - now : 0);
}

static void finish(struct wait *w, enum err err)
{
	event_sink_done_fn done = w->done;
	void *arg = w->arg;

	list_remove(&w->direct->waits, &w->node);
	metric_set(w->direct->waiting, (double)w->direct->events);
	mem_free(w);
	done(arg, err);
}

/* The request has one event less to wait for; drops its reference. */
static void part(struct wait *w, size_t at)
{
	struct event *e = w->events[at];

	e->token[0] = 0;
	w->events[at] = NULL;
	w->open--;
	w->direct->events--;
	w->direct->bytes -= e->size;
	event_unref(e);
}

/* Nobody waits for them any more. */
static void let_go(struct wait *w)
{
	struct event_inlet *in = w->direct->o.inlet;

	for (size_t i = 0; i < w->n; i++) {
		struct event *e = w->events[i];

		if (e && in->remove(in, e))
			event_unref(e); /* the buffer's reference */
		if (e)
			part(w, i);
	}
}

static void on_deadline(void *arg)
{
	struct direct *d = arg;
	usec_t now = loop_now(d->o.loop);
	struct list_node *n;

	while ((n = list_front(&d->waits))) {
		struct wait *w = container_of(n, struct wait, node);

		if (w->deadline > now)
			break;
		metric_inc(d->timeouts);
		let_go(w);
		finish(w, ERR_TIMEOUT);
	}
	arm(d);
}

/* ---- what became of events ---- */

static void count_commits(struct direct *d, size_t n)
{
	usec_t now = loop_now(d->o.loop);

	d->last_commit = now;
	d->rate_count += n;
	if (now - d->rate_since < RATE_OVER)
		return;
	d->rate = (double)d->rate_count * USEC_PER_SEC / (double)(now - d->rate_since);
	d->rate_count = 0;
	d->rate_since = now;
}

static void settle_one(struct event *e, enum event_fate fate)
{
	struct wait *w = (struct wait *)(uintptr_t)e->token[0];

	if (!w)
		return;
	part(w, (size_t)e->token[1]);
	if (fate == EVENT_RETURNED)
		w->err = ERR_UNAVAILABLE;
	if (w->open == 0)
		finish(w, w->err);
}

static void settled(struct event_source *s, struct event *const *events,
                    const enum event_fate *fates, size_t n)
{
	struct direct *d = container_of(s, struct direct, source);
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		kept += fates[i] != EVENT_RETURNED;
	if (kept)
		count_commits(d, kept);
	metric_add(d->stored, (double)kept);
	for (size_t i = 0; i < n; i++)
		settle_one(events[i], fates[i]);
	metric_set(d->waiting, (double)d->events);
	arm(d);
}

/* ---- the sink ---- */

static struct wait *wait_new(struct direct *d, const struct event_view *views, size_t n)
{
	struct wait *w = mem_zalloc(sizeof(*w) + n * sizeof(w->events[0]));

	if (!w)
		return NULL;
	w->direct = d;
	w->deadline = loop_now(d->o.loop) + d->o.timeout;
	for (; w->n < n; w->n++) {
		struct event *e;

		if (event_make(&views[w->n], &e) != ERR_OK)
			break;
		e->source = &d->source;
		if (e->view.marks & EVENT_MARK_REPORTS)
			e->tool = d->o.tool_of(d->o.arg, e->view.tool);
		e->flags |= EVENT_URGENT;
		e->token[0] = (uint64_t)(uintptr_t)w;
		e->token[1] = w->n;
		w->events[w->n] = e;
	}
	if (w->n == n)
		return w;
	while (w->n > 0)
		event_unref(w->events[--w->n]);
	mem_free(w);
	return NULL;
}

/* All or none: nothing leaves the buffer before this turn's deferred calls. */
static enum err put_all(struct wait *w)
{
	struct event_inlet *in = w->direct->o.inlet;
	size_t put = 0;
	enum err e = ERR_OK;

	for (; put < w->n && e == ERR_OK; put++) {
		e = in->put(in, event_ref(w->events[put]));
		if (e != ERR_OK) {
			event_unref(w->events[put]);
			break;
		}
	}
	if (e == ERR_OK)
		return ERR_OK;
	for (size_t i = 0; i < w->n; i++) {
		if (i < put && in->remove(in, w->events[i]))
			event_unref(w->events[i]);
		event_unref(w->events[i]);
	}
	mem_free(w);
	return e == ERR_CLOSED ? ERR_UNAVAILABLE : e;
}

/* For the events, and for what the database's adapter makes of these and of those that wait. */
static bool memory_for(const struct direct *d, const struct event_view *events, size_t n)
{
	size_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		bytes += events[i].body.len + events[i].envelope.len;
	return mem_fits(bytes + (bytes + d->bytes) * COPIES, 8);
}

static enum err sink_append(struct event_sink *s, const struct event_view *events, size_t n,
                            event_sink_done_fn done, void *arg)
{
	struct direct *d = container_of(s, struct direct, sink);
	struct wait *w;
	enum err e;

	if (!direct_can_store(d))
		return ERR_UNAVAILABLE;
	/* A request larger than the bound passes when it is alone, or it never would. */
	if (d->events > 0 && (d->events + n > d->o.max_events || !memory_for(d, events, n)))
		return ERR_FULL;
	w = wait_new(d, events, n);
	if (!w)
		return ERR_NOMEM;
	e = put_all(w);
	if (e != ERR_OK)
		return e;
	w->done = done;
	w->arg = arg;
	w->open = n;
	d->events += n;
	for (size_t i = 0; i < n; i++)
		d->bytes += w->events[i]->size;
	metric_set(d->waiting, (double)d->events);
	list_push_back(&d->waits, &w->node);
	if (!loop_timer_armed(&d->timer))
		arm(d);
	return ERR_OK;
}

static unsigned sink_retry_after(const struct event_sink *s)
{
	const struct direct *d = container_of(s, struct direct, sink);
	double seconds;

	if (direct_can_store(d) && d->events == 0)
		return 1;
	if (!direct_can_store(d) || d->rate <= 0)
		return RETRY_DOWN;
	seconds = (double)d->events / d->rate;
	return seconds < 1 ? 1 : seconds > RETRY_MAX ? RETRY_MAX : (unsigned)seconds;
}

struct event_sink *direct_sink(struct direct *d)
{
	return &d->sink;
}

bool direct_can_store(const struct direct *d)
{
	if (d->closed || !d->o.connected(d->o.arg))
		return false;
	if (d->last_commit && loop_now(d->o.loop) - d->last_commit < PROVEN)
		return true;
	return d->o.answers(d->o.arg);
}

size_t direct_in_flight(const struct direct *d)
{
	return d->waits.count;
}

/* ---- life ---- */

static void register_metrics(struct direct *d)
{
	struct metric_registry *r = d->o.metrics;

	d->stored = metric_plain(r, METRIC_COUNTER, "webhook_direct_events_total",
	                         "Events that were stored without the queue.");
	d->timeouts =
	    metric_plain(r, METRIC_COUNTER, "webhook_direct_timeouts_total",
	                 "Requests that waited longer than DIRECT_TIMEOUT for the database.");
	d->waiting = metric_plain(r, METRIC_GAUGE, "webhook_direct_waiting",
	                          "Events whose senders wait for the database.");
}

enum err direct_new(const struct direct_options *o, struct direct **ret)
{
	struct direct *d = mem_zalloc(sizeof(*d));
	enum err e;

	if (!d)
		return ERR_NOMEM;
	d->o = *o;
	d->sink = (struct event_sink){sink_append, sink_retry_after};
	d->source.settled = settled;
	d->rate_since = loop_now(o->loop);
	list_init(&d->waits);
	register_metrics(d);
	e = loop_timer_init(&d->timer, o->loop, on_deadline, d);
	if (e != ERR_OK) {
		mem_free(d);
		return e;
	}
	*ret = d;
	return ERR_OK;
}

void direct_close(struct direct *d)
{
	struct list_node *n;

	d->closed = true;
	while ((n = list_front(&d->waits))) {
		struct wait *w = container_of(n, struct wait, node);

		let_go(w);
		finish(w, ERR_CANCELLED);
	}
	loop_timer_stop(&d->timer);
}

void direct_free(struct direct *d)
{
	if (!d)
		return;
	direct_close(d);
	loop_timer_done(&d->timer);
	mem_free(d);
}
