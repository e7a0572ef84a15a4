/* One batch on its way into the database: the states it goes through until each of its events is
 * stored, a duplicate, a dead letter, or given back. The processor owns the batches and reuses
 * them.
 */
#ifndef WEIR_PIPELINE_BATCH_H
#define WEIR_PIPELINE_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"
#include "weir/model/event.h"
#include "weir/pipeline/batch_updater.h"

struct batch;
struct batch_metrics;
struct deduplicator;
struct enricher;
struct loop;
struct pg_pool;
struct recipient_counters;
struct recipient_reports_reader;

/* What all batches of a processor share. */
struct batch_env {
	struct loop *loop; /* borrowed, as are all pointers here */
	struct pg_pool *pool;
	struct batch_metrics *metrics;
	struct deduplicator *deduplicator; /* NULL: the database alone decides */
	struct recipient_reports_reader *reports;
	struct recipient_counters *counters; /* NULL: nobody wants them */
	struct enricher *enricher;           /* NULL: recipients are not looked up */
	struct batch_params *params;         /* owned by the processor */
	size_t batch_size;
	unsigned quick_retries;
	int partition_days; /* made ahead when one is missing */
	unsigned races;  /* for so many more transactions, expect others to claim the same keys */
	uint64_t stored; /* events that were committed so far, by any batch */
	/* These events are done with. Called once for each transaction that settled some; the
	 * references stay the batch's. */
	void (*settled)(void *arg, struct event *const *events, const enum event_fate *fates,
	                size_t n);
	/* Try this one again in another batch; takes its reference over. */
	void (*put_back)(void *arg, struct event *e);
	/* The batch gave its connection up for a while, or is over and may be run again. Called as
	 * the last thing that it does. */
	void (*changed)(void *arg, struct batch *b);
	void *arg;
};

enum err batch_new(struct batch_env *env, struct batch **ret) MUST_CHECK;
/* With no transaction under way. Drops the references of what was not settled. */
void batch_free(struct batch *b);

/* Takes over n references, n at most batch_size. */
void batch_run(struct batch *b, struct event *const *events, size_t n);
bool batch_idle(const struct batch *b);    /* may be run */
bool batch_working(const struct batch *b); /* has or wants a connection */
bool batch_waiting(const struct batch *b); /* for its next try */
bool batch_parked(const struct batch *b);  /* waits with a single event that is at fault */
void batch_wake(struct batch *b);          /* the database is back: end the waiting */
/* Settles what is left as EVENT_RETURNED. A batch whose transaction is under way is idle only after
 * its completion, which then settles nothing. */
void batch_give_back(struct batch *b);

#endif
