/* Keeps the schema ahead of time: the partitions of the coming days and the generation of event
 * keys; and takes away what is past its time. Any number of processes may do so at once. */
#ifndef WEIR_SCHEDULE_MAINTENANCE_H
#define WEIR_SCHEDULE_MAINTENANCE_H

#include "weir/base/clock.h"
#include "weir/base/err.h"

struct loop;
struct maintenance;
struct metric_registry;
struct pg_pool;

struct maintenance_options {
	struct loop *loop; /* borrowed, as are all pointers here */
	struct pg_pool *pool;
	struct metric_registry *metrics;
	int dedup_days;     /* age at which a generation of keys ends */
	int retention_days; /* age at which partitions and settled rows go; 0: never */
	usec_t interval;
};

enum err maintenance_new(const struct maintenance_options *o, struct maintenance **ret) MUST_CHECK;
/* Runs once, and then at about the interval; sooner again after a failure. */
void maintenance_start(struct maintenance *m);
/* Runs soon, whatever the timer says. While a run is under way it runs once more after it. */
void maintenance_run_now(struct maintenance *m);
void maintenance_stop(struct maintenance *m);
/* After pg_pool_free() (it runs the completions that are due). No rendering of metrics after it. */
void maintenance_free(struct maintenance *m);

#endif
