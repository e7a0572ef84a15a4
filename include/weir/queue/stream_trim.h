/* Gives back the memory of entries that every group is done with, and forgets consumers that are
 * long gone. Both are scripts: what they decide on cannot change before they act. */
#ifndef WEIR_QUEUE_STREAM_TRIM_H
#define WEIR_QUEUE_STREAM_TRIM_H

#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"

struct loop;
struct redis;
struct stream_names;
struct stream_trim;
struct stream_watch;

struct stream_trim_options {
	struct loop *loop; /* borrowed, like all here */
	struct redis *redis;
	const struct stream_names *names;
	struct stream_watch *watch; /* past half of its bound nothing is kept */
	usec_t keep;                /* acknowledged entries stay so long (QUEUE_KEEP) */
	/* Consumers with nothing pending that were not heard of for so long are forgotten; 0: an
	 * hour. */
	usec_t forget_idle;
};

enum err stream_trim_new(const struct stream_trim_options *o, struct stream_trim **ret) MUST_CHECK;
void stream_trim_start(struct stream_trim *t);
void stream_trim_stop(struct stream_trim *t);
void stream_trim_free(struct stream_trim *t); /* once the connection has told its completions */
/* So many entries were acknowledged: past some thousands it trims before its timer. */
void stream_trim_acked(struct stream_trim *t, size_t n);

#endif
