/* What the pipeline counts. Children are looked up once for each tool and event type and kept, so
 * that an event costs a comparison with the one before it. Past 200 types of a tool, and past 1000
 * tools, the rest is "other". */
#ifndef WEIR_PIPELINE_BATCH_METRICS_H
#define WEIR_PIPELINE_BATCH_METRICS_H

#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/model/event.h"

struct batch_metrics;
struct metric_registry;

enum err batch_metrics_new(struct metric_registry *r, struct batch_metrics **ret) MUST_CHECK;
void batch_metrics_free(struct batch_metrics *m);

/* What became of events; EVENT_RETURNED counts nothing. `wall` is the time of the commit. */
void batch_metrics_settled(struct batch_metrics *m, struct event *const *events,
                           const enum event_fate *fates, size_t n, usec_t wall);
void batch_metrics_batch(struct batch_metrics *m, size_t events, usec_t duration);
void batch_metrics_retry(struct batch_metrics *m, unsigned attempt, enum err why);
void batch_metrics_dead(struct batch_metrics *m, const struct event *e, enum err why);

#endif
