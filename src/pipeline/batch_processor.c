/* Hands batches from the buffer to batch objects, one for each batch in flight, and what became of
 * their events back to the sources. All decisions about failures are in batch.c, those about when a
 * batch leaves in event_buffer.c; here is only how much the database may be asked at a time. */
#include "weir/pipeline/batch_processor.h"

#include "weir/base/mem.h"
#include "weir/io/pg.h"
#include "weir/pipeline/batch.h"
#include "weir/pipeline/batch_metrics.h"
#include "weir/pipeline/batch_params.h"
#include "weir/pipeline/deduplicator.h"
#include "weir/pipeline/event_buffer.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"

enum {
	LANES = 4, /* connections in ordinary use */
	/* Batches that only wait with one suspected event do not count as workers, up to so many:
	 * some bad events must not keep the others out. */
	/* Prepared while all connections are at work, so that the next one to be idle is not for
	   long. */
	AHEAD = 2,
	MAX_PARKED = 32,
	PARTITION_DAYS = 7,
};

#define RATE_WINDOW (5 * USEC_PER_SEC)

struct batch_processor {
	struct batch_env env;
	struct event_buffer *buffer; /* borrowed */
	struct batch **batches;      /* owned array of owned batches, made when needed */
	size_t batch_count;
	size_t max_workers;
	struct event **picked; /* owned; batch_size: the events of one source */
	enum event_fate *picked_fates;
	uint64_t batches_done, events_done;
	struct {
		usec_t since;
		uint64_t batches, events; /* done at `since` */
		double batches_per_second, events_per_second;
	} rate;
	bool was_up;
	bool stopping;
	bool told_idle;
	struct loop_task pump;
	struct loop_timer grace;
	void (*on_idle)(void *arg);
	void *on_idle_arg;
};

/* ---- the buffer's drain ---- */

static bool all_workers_busy(const struct batch_processor *p)
{
	size_t busy = 0, parked = 0;

	for (size_t i = 0; i < p->batch_count; i++) {
		busy += !batch_idle(p->batches[i]);
		parked += batch_parked(p->batches[i]);
	}
	return busy - (parked < MAX_PARKED ? parked : MAX_PARKED) >= p->max_workers + AHEAD;
}

/* NULL when there is none to be had; makes it where needed. */
static struct batch *idle_batch(struct batch_processor *p)
{
	if (all_workers_busy(p))
		return NULL;
	for (size_t i = 0; i < p->batch_count; i++) {
		if (batch_idle(p->batches[i]))
			return p->batches[i];
	}
	if (p->batch_count == p->max_workers + AHEAD + MAX_PARKED ||
	    batch_new(&p->env, &p->batches[p->batch_count]) != ERR_OK)
		return NULL;
	return p->batches[p->batch_count++];
}

static size_t working(const struct batch_processor *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->batch_count; i++)
		n += batch_working(p->batches[i]);
	return n;
}

static enum event_buffer_slot drain_slot(void *arg)
{
	struct batch_processor *p = arg;
	size_t lanes = working(p);
	struct pg_pool_stats s;

	if (!pg_pool_up(p->env.pool) || !idle_batch(p))
		return EVENT_BUFFER_SLOT_NONE;
	/* What waits for a connection gains nothing by company; while it does, more are opened. */
	pg_pool_stats(p->env.pool, &s);
	if (lanes >= s.open + AHEAD)
		return EVENT_BUFFER_SLOT_NONE;
	if (pg_pool_idle(p->env.pool) == 0)
		return EVENT_BUFFER_SLOT_AHEAD;
	if (lanes >= LANES)
		return EVENT_BUFFER_SLOT_LATE;
	return lanes == 0 ? EVENT_BUFFER_SLOT_FREE : EVENT_BUFFER_SLOT_EXTRA;
}

/* The slot was asked for just before, so there is an idle batch. */
static void drain_take(void *arg, struct event *const *events, size_t n)
{
	batch_run(idle_batch(arg), events, n);
}

/* ---- rates ---- */

static void take_rate(struct batch_processor *p)
{
	usec_t now = loop_now(p->env.loop), window = now - p->rate.since;
	double seconds = (double)window / (double)USEC_PER_SEC;

	if (window < RATE_WINDOW)
		return;
	p->rate.batches_per_second = (double)(p->batches_done - p->rate.batches) / seconds;
	p->rate.events_per_second = (double)(p->events_done - p->rate.events) / seconds;
	p->rate.batches = p->batches_done;
	p->rate.events = p->events_done;
	p->rate.since = now;
}

const char *batch_processor_state_name(enum batch_processor_state s)
{
	static const char *const names[] = {"idle", "storing", "retrying", "away"};

	return names[s];
}

void batch_processor_look(struct batch_processor *p, struct batch_processor_figures *ret)
{
	*ret = (struct batch_processor_figures){.in_flight = batch_processor_in_flight(p)};
	take_rate(p);
	for (size_t i = 0; i < p->batch_count; i++)
		ret->retrying += batch_waiting(p->batches[i]);
	ret->batches_per_second = p->rate.batches_per_second;
	ret->events_per_second = p->rate.events_per_second;
	ret->state = !pg_pool_up(p->env.pool) ? BATCH_PROCESSOR_AWAY
	             : ret->retrying          ? BATCH_PROCESSOR_RETRYING
	             : ret->in_flight         ? BATCH_PROCESSOR_STORING
	                                      : BATCH_PROCESSOR_IDLE;
}

/* ---- what became of events ---- */

/* Those from i on that have the source of events[i]; handed over in one call. */
static void settle_source(struct batch_processor *p, struct event *const *events,
                          const enum event_fate *fates, size_t i, size_t n)
{
	struct event_source *source = events[i]->source;
	size_t picked = 0;

	for (; i < n; i++) {
		if (events[i]->source != source)
			continue;
		p->picked[picked] = events[i];
		p->picked_fates[picked++] = fates[i];
	}
	source->settled(source, p->picked, p->picked_fates, picked);
}

static bool seen_before(struct event *const *events, size_t i)
{
	for (size_t k = i; k > 0; k--) {
		if (events[k - 1]->source == events[i]->source)
			return true;
	}
	return false;
}

static void on_batch_settled(void *arg, struct event *const *events, const enum event_fate *fates,
                             size_t n)
{
	struct batch_processor *p = arg;
	size_t bytes = 0;

	batch_metrics_settled(p->env.metrics, events, fates, n, loop_wall(p->env.loop));
	p->events_done += n;
	take_rate(p);
	for (size_t i = 0; i < n; i++) {
		if (events[i]->source && !seen_before(events, i))
			settle_source(p, events, fates, i, n);
	}
	for (size_t i = 0; i < n; i++) {
		bytes += events[i]->size;
		event_unref(events[i]);
	}
	event_buffer_release(p->buffer, n, bytes);
}

static void on_batch_put_back(void *arg, struct event *e)
{
	struct batch_processor *p = arg;

	event_buffer_put_back(p->buffer, e);
}

static void on_batch_changed(void *arg, struct batch *b)
{
	struct batch_processor *p = arg;

	p->batches_done += batch_idle(b);
	loop_defer(p->env.loop, &p->pump);
}

/* ---- life ---- */

bool batch_processor_idle(const struct batch_processor *p)
{
	return event_buffer_held(p->buffer) == 0;
}

size_t batch_processor_in_flight(const struct batch_processor *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->batch_count; i++)
		n += !batch_idle(p->batches[i]);
	return n;
}

static void tell_idle(struct batch_processor *p)
{
	if (!p->stopping || p->told_idle || !batch_processor_idle(p))
		return;
	p->told_idle = true;
	loop_timer_stop(&p->grace);
	if (p->on_idle)
		p->on_idle(p->on_idle_arg);
}

static void on_pump(void *arg)
{
	struct batch_processor *p = arg;

	event_buffer_pump(p->buffer);
	tell_idle(p);
}

void batch_processor_on_pool(struct batch_processor *p)
{
	bool up = pg_pool_up(p->env.pool);

	if (p->env.deduplicator)
		deduplicator_on_pool(p->env.deduplicator);
	for (size_t i = 0; up && !p->was_up && i < p->batch_count; i++)
		batch_wake(p->batches[i]);
	p->was_up = up;
	loop_defer(p->env.loop, &p->pump);
}

static void on_pool_changed(void *arg)
{
	batch_processor_on_pool(arg);
}

void batch_processor_start(struct batch_processor *p)
{
	event_buffer_set_drain(p->buffer, &(struct event_buffer_drain){drain_slot, drain_take, p});
	pg_pool_on_change(p->env.pool, on_pool_changed, p);
	loop_defer(p->env.loop, &p->pump);
}

static void give_back_buffered(struct batch_processor *p)
{
	static const enum event_fate fate = EVENT_RETURNED;
	struct event *e;

	while ((e = event_buffer_pop(p->buffer)))
		on_batch_settled(p, &e, &fate, 1);
}

static void on_grace_over(void *arg)
{
	struct batch_processor *p = arg;

	log_warn(LOG_PIPELINE, "stopping with events not stored; they are given back",
	         LOG_INT("events", event_buffer_held(p->buffer)));
	for (size_t i = 0; i < p->batch_count; i++)
		batch_give_back(p->batches[i]);
	give_back_buffered(p);
	tell_idle(p);
}

void batch_processor_stop(struct batch_processor *p, usec_t grace, void (*on_idle)(void *arg),
                          void *arg)
{
	if (p->stopping)
		return;
	p->stopping = true;
	p->on_idle = on_idle;
	p->on_idle_arg = arg;
	event_buffer_close(p->buffer);
	loop_timer_set(&p->grace, grace);
	loop_defer(p->env.loop, &p->pump);
}

static enum err init(struct batch_processor *p, const struct batch_processor_options *o)
{
	p->env = (struct batch_env){
	    .loop = o->loop,
	    .pool = o->pool,
	    .counters = o->counters,
	    .deduplicator = o->deduplicator,
	    .enricher = o->enricher,
	    .batch_size = o->batch_size,
	    .quick_retries = o->quick_retries,
	    .partition_days = PARTITION_DAYS,
	    .settled = on_batch_settled,
	    .put_back = on_batch_put_back,
	    .changed = on_batch_changed,
	    .arg = p,
	};
	p->rate.since = loop_now(o->loop);
	p->buffer = o->buffer;
	p->max_workers = o->max_workers > 0 ? o->max_workers : 1;
	loop_task_init(&p->pump, on_pump, p);
	p->batches = mem_array(p->max_workers + AHEAD + MAX_PARKED, sizeof(struct batch *));
	p->picked = mem_array(o->batch_size, sizeof(struct event *));
	p->picked_fates = mem_array(o->batch_size, sizeof(*p->picked_fates));
	if (!p->batches || !p->picked || !p->picked_fates)
		return ERR_NOMEM;
	if (batch_params_new(&p->env.params) != ERR_OK ||
	    batch_metrics_new(o->metrics, &p->env.metrics) != ERR_OK ||
	    recipient_reports_reader_new(o->metrics, &o->recipients, &p->env.reports) != ERR_OK)
		return ERR_NOMEM;
	/* One at least, or nothing would ever ask again for more. */
	if (!idle_batch(p))
		return ERR_NOMEM;
	return loop_timer_init(&p->grace, o->loop, on_grace_over, p);
}

enum err batch_processor_new(const struct batch_processor_options *o, struct batch_processor **ret)
{
	struct batch_processor *p = mem_zalloc(sizeof(*p));

	if (!p)
		return ERR_NOMEM;
	if (init(p, o) != ERR_OK) {
		batch_processor_free(p);
		return ERR_NOMEM;
	}
	*ret = p;
	return ERR_OK;
}

void batch_processor_free(struct batch_processor *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->batch_count; i++)
		batch_free(p->batches[i]);
	loop_cancel(p->env.loop, &p->pump);
	loop_timer_done(&p->grace);
	batch_metrics_free(p->env.metrics);
	batch_params_free(p->env.params);
	recipient_reports_reader_free(p->env.reports);
	mem_free(p->batches);
	mem_free(p->picked);
	mem_free(p->picked_fates);
	mem_free(p);
}
