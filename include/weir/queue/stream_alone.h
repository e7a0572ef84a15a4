/* Entries that were delivered too often. Something keeps them from being done: most often an outage
 * or restarts, and then they are as good as any; but one of them may be what kills whoever works on
 * it. So they run alone, one at a time, each in a batch of its own and under a mark in Redis that
 * names this process. Who finds a mark of a process that is gone knows that it died over that very
 * entry; only when that happened again the entry is condemned. How often it was delivered condemns
 * nothing. */
#ifndef WEIR_QUEUE_STREAM_ALONE_H
#define WEIR_QUEUE_STREAM_ALONE_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/queue/stream_entry.h"
#include "weir/queue/stream_names.h"

struct loop;
struct metric_registry;
struct redis;
struct stream_alone;
struct stream_intake;

struct stream_alone_options {
	struct loop *loop; /* borrowed, like all here */
	struct redis *redis;
	const struct stream_names *names;
	struct stream_intake *intake;
	struct metric_registry *metrics;
	/* A process that set a mark and was not heard of for so long is gone; 0: three minutes. */
	usec_t gone_after;
	usec_t first_rest; /* before the first of them after the start, about; 0: two seconds */
};

enum err stream_alone_new(const struct stream_alone_options *o,
                          struct stream_alone **ret) MUST_CHECK;
/* What waits is given up, and stays pending; what runs is settled by the pipeline. */
void stream_alone_stop(struct stream_alone *a);
bool stream_alone_idle(const struct stream_alone *a); /* nothing waits or runs, no mark is ours */
void stream_alone_free(struct stream_alone *a); /* once the connection has told its completions */

/* It is our consumer's. What is held already is left alone; past some thousands the entry is left
 * pending, and comes again. */
void stream_alone_add(struct stream_alone *a, struct stream_id id, enum stream_which stream);

#endif
