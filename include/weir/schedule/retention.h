/* Takes leave of what is past RETENTION_DAYS: event partitions are detached concurrently and then
 * dropped, settled dead letters are deleted a few at a time. Of several weirs on a database one
 * does it, under a lease; the others find it taken and are done. */
#ifndef WEIR_SCHEDULE_RETENTION_H
#define WEIR_SCHEDULE_RETENTION_H

#include <stdbool.h>

#include "weir/base/err.h"

struct loop;
struct metric_registry;
struct pg_pool;
struct retention;

struct retention_options {
	struct loop *loop; /* borrowed, as are all pointers here */
	struct pg_pool *pool;
	struct metric_registry *metrics;
	int keep_days; /* 0: everything stays */
};

/* `ok` false: something failed, and will be tried again by the next run. That a partition is in
 * somebody's use is no failure. */
typedef void (*retention_done_fn)(void *arg, bool ok);

enum err retention_new(const struct retention_options *o, struct retention **ret) MUST_CHECK;
/* One run, in as many small transactions as it takes. Not while another one is under way. `done`
 * runs once, from the loop. */
void retention_run(struct retention *r, retention_done_fn done, void *arg);
/* The run under way ends behind its present step; `done` still comes. */
void retention_cut_short(struct retention *r);
/* After pg_pool_free() (it runs the completions that are due). A run that has not ended is
 * forgotten: `done` does not come. */
void retention_free(struct retention *r);

#endif
