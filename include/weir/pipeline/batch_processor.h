/* Takes batches from the buffer, has them stored, and tells the events' sources what became of
 * them.
 *
 * How many connections are used: one while there is little to do; up to four for full batches and
 * for events that lingered; more, up to max_workers, only for events that waited longer than the
 * flush interval. More connections than processors make single batches smaller and the whole
 * slower, unless the database is far away, and then events wait. */
#ifndef WEIR_PIPELINE_BATCH_PROCESSOR_H
#define WEIR_PIPELINE_BATCH_PROCESSOR_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/pipeline/batch_updater.h"
#include "weir/pipeline/recipient_reports.h"

struct batch_processor;
struct deduplicator;
struct enricher;
struct event_buffer;
struct loop;
struct metric_registry;
struct pg_pool;
struct recipient_counters;

struct batch_processor_options {
	struct loop *loop; /* borrowed, as are all pointers here */
	struct pg_pool *pool;
	struct event_buffer *buffer;
	struct deduplicator *deduplicator;   /* NULL: the database alone decides */
	struct recipient_maps recipients;    /* which tools' events are delivery reports */
	struct recipient_counters *counters; /* NULL: message batches' are the database's alone */
	struct enricher *enricher;           /* NULL: recipients are not looked up */
	struct metric_registry *metrics;
	size_t max_workers;     /* batches in flight */
	size_t batch_size;      /* not less than the buffer's */
	unsigned quick_retries; /* before a failing batch waits for longer than a moment */
};

enum err batch_processor_new(const struct batch_processor_options *o,
                             struct batch_processor **ret) MUST_CHECK;
/* Becomes the buffer's drain and the pool's listener (pg_pool_on_change). */
void batch_processor_start(struct batch_processor *p);
/* For an owner that listens to the pool itself: pass it on. */
void batch_processor_on_pool(struct batch_processor *p);

/* Closes the buffer and stores what it holds. `on_idle` (may be NULL) is called once, from the
 * loop, when all events were settled. What is not stored after `grace` is given back:
 * EVENT_RETURNED, also for transactions under way, whose outcome the next holder finds out. A
 * second call does nothing. */
void batch_processor_stop(struct batch_processor *p, usec_t grace, void (*on_idle)(void *arg),
                          void *arg);
bool batch_processor_idle(const struct batch_processor *p);        /* holds no event */
size_t batch_processor_in_flight(const struct batch_processor *p); /* batches */

enum batch_processor_state {
	BATCH_PROCESSOR_IDLE,
	BATCH_PROCESSOR_STORING,
	BATCH_PROCESSOR_RETRYING, /* the database answers, and refuses something */
	BATCH_PROCESSOR_AWAY,     /* the database does not answer */
};
struct batch_processor_figures {
	enum batch_processor_state state;
	size_t in_flight, retrying;                   /* batches */
	double batches_per_second, events_per_second; /* of the last seconds */
};
void batch_processor_look(struct batch_processor *p, struct batch_processor_figures *ret);
const char *batch_processor_state_name(enum batch_processor_state s);
/* After pg_pool_free() (it runs the completions that are due), before the buffer is freed. Drops
 * what was not settled. */
void batch_processor_free(struct batch_processor *p);

#endif
