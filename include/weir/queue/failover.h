/* The sink that receive writes to: the queue as long as its server takes entries, the direct way
 * while it does not, and back when it has been well for a while. */
#ifndef WEIR_QUEUE_FAILOVER_H
#define WEIR_QUEUE_FAILOVER_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/model/event.h"

struct failover;
struct loop;
struct metric_registry;

#define FAILOVER_WRITES  3                     /* failed ones in a row */
#define FAILOVER_SILENCE USEC_PER_SEC          /* without an answer or a connection */
#define FAILOVER_PROVE   (5 * USEC_PER_SEC)    /* of good probes, before it is the queue again */
#define FAILOVER_PERIOD  (250 * USEC_PER_MSEC) /* between two looks, and two probes */

struct failover_options {
	struct loop *loop;        /* borrowed, like all here */
	struct event_sink *queue; /* NULL: there is none, all goes the direct way */
	struct metric_registry *metrics;
	bool (*queue_up)(void *arg); /* a connection stands */
	/* Asks the queue's server whether it would take an entry now; the completion comes once and
	 * from the loop. Not ERR_OK: it will not come. */
	enum err (*probe)(void *arg, event_sink_done_fn done, void *done_arg);
	bool (*direct_up)(void *arg); /* see failover_set_direct() */
	void *arg;
};

enum err failover_new(const struct failover_options *o, struct failover **ret) MUST_CHECK;
/* What was written to the queue must have been told before. */
void failover_free(struct failover *f);
void failover_start(struct failover *f);
/* No further look or probe. */
void failover_stop(struct failover *f);

/* The direct way; NULL: this process has none, and then the queue is never given up. */
void failover_set_direct(struct failover *f, struct event_sink *direct);

struct event_sink *failover_sink(struct failover *f); /* borrowed */
bool failover_direct(const struct failover *f);       /* events go the direct way now */
const char *failover_mode(const struct failover *f);  /* "queue" or "direct" */
double failover_seconds(const struct failover *f);    /* since that is so */

#endif
