/* Looks at the streams once a second: depth, pending, age, bytes, drain rate. Everybody else reads
 * the last look and waits for nothing. */
#ifndef WEIR_QUEUE_STREAM_WATCH_H
#define WEIR_QUEUE_STREAM_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"

struct loop;
struct metric_registry;
struct redis;
struct stream_names;
struct stream_watch;

struct stream_figures {
	bool known;            /* there was a look since the connection came up */
	uint64_t depth;        /* not delivered yet, delivered and not acknowledged, and aside */
	uint64_t pending;      /* delivered and not acknowledged */
	uint64_t aside;        /* wait for a worker that knows their tool: stream_park.h */
	double oldest_seconds; /* age of the oldest pending entry, else of the oldest waiting one */
	uint64_t bytes;        /* all of them, see stream_watch.c on how they are measured */
	uint64_t max_bytes;    /* the bound in force */
	/* By the whole group; means over some ten seconds. */
	double added_per_second, drained_per_second;
	double headroom_seconds; /* until the bound, at the present growth; INFINITY: it does not
	                            grow */
};

/* What was admitted. */
struct stream_watch_share {
	uint64_t bytes;
	uint64_t look; /* the one that will have seen them */
};

struct stream_watch_options {
	struct loop *loop; /* borrowed, like all here */
	struct redis *redis;
	const struct stream_names *names;
	struct metric_registry *metrics;
	uint64_t max_bytes; /* 0: half of Redis's maxmemory, else 2 GiB */
};

enum err stream_watch_new(const struct stream_watch_options *o,
                          struct stream_watch **ret) MUST_CHECK;
void stream_watch_start(struct stream_watch *w);
/* After this nothing is asked any more; free it once the connection has told its completions. */
void stream_watch_stop(struct stream_watch *w);
void stream_watch_free(struct stream_watch *w);

void stream_watch_get(const struct stream_watch *w, struct stream_figures *ret);
/* The bound: `extra` bytes are about to be added. False: full. Counts them until a look has seen
 * the stream with them, or they are taken back because they were not added. */
bool stream_watch_admit(struct stream_watch *w, uint64_t extra, struct stream_watch_share *ret);
void stream_watch_take_back(struct stream_watch *w, const struct stream_watch_share *s);
/* Seconds that a refused sender should wait: 1..300. */
unsigned stream_watch_retry_after(const struct stream_watch *w);

#endif
