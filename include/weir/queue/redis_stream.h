/* The queue in Redis streams: a producer that is an event_sink, and a consumer that is an
 * event_source in front of an event_inlet.
 *
 * Two streams, read by one consumer group: NAME, and NAME:large for entries over 256 KiB, which are
 * read one at a time so that a read is bounded in bytes. stream_entry.h has the entry's format.
 * Everything here is called from the loop's thread; all callbacks come from the loop. */
#ifndef WEIR_QUEUE_REDIS_STREAM_H
#define WEIR_QUEUE_REDIS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/io/redis.h"
#include "weir/model/event.h"

struct loop;
struct metric_registry;
struct resolver;

struct redis_stream_names {
	const char *prefix; /* REDIS_KEY_PREFIX, in front of every key; NULL or "": none */
	const char *stream; /* WEBHOOK_STREAM */
	const char *group;  /* WEBHOOK_GROUP */
};

/* What the last probe saw (about one a second), and what was counted since the start. Of the
 * group, both streams together, unless it says otherwise. */
struct redis_stream_stats {
	bool known;     /* the figures of the group below were read at least once */
	usec_t probed;  /* monotonic; when they were read last */
	uint64_t depth; /* lag + pending */
	uint64_t pending;
	double oldest_pending_seconds; /* since the oldest pending entry was appended; 0: none */
	uint64_t bytes;                /* of Redis's memory, both streams */
	double drain_rate;             /* acknowledged a second, by all consumers; smoothed */
	uint64_t max_bytes;            /* producer: the bound in force */
	/* This consumer's: */
	uint64_t taken;     /* events given to the inlet */
	uint64_t acked;     /* acknowledged, confirmed by Redis */
	uint64_t claimed;   /* taken over from other consumers */
	uint64_t lost;      /* pending, but deleted from the stream; must stay 0 */
	uint64_t malformed; /* entries that are no events of ours */
	uint64_t trimmed;
	size_t held;            /* taken, not settled */
	size_t unacked;         /* settled, XACK not confirmed */
	const char *last_error; /* text of the last error reply or loss; "" without */
};

/* ---- producer ---- */

struct redis_stream_producer;

struct redis_stream_producer_options {
	struct loop *loop; /* borrowed, like all pointers here but strings, which are copied */
	struct resolver *resolver;
	struct metric_registry *metrics; /* NULL: no metrics */
	struct redis_options redis;      /* `name` NULL: "producer" */
	struct redis_stream_names names;
	uint64_t max_bytes; /* QUEUE_MAX_BYTES; 0: half of Redis's maxmemory, else 2 GiB */
	/* Optional: told when the connection came up or was lost. */
	redis_state_fn on_state;
	void *arg;
};

enum err redis_stream_producer_new(const struct redis_stream_producer_options *o,
                                   struct redis_stream_producer **ret) MUST_CHECK;
void redis_stream_producer_start(struct redis_stream_producer *p);
/* What waits completes with ERR_CANCELLED (outcome unknown); wait for pending() == 0 before. */
void redis_stream_producer_stop(struct redis_stream_producer *p);
void redis_stream_producer_free(struct redis_stream_producer *p); /* NULL is fine */

/* Borrowed; lives as long as the producer. append() says ERR_FULL past the bound, and when more
 * waits for Redis than redis_options allow; the events of one call are written all or none. A
 * completion is ERR_OK when Redis confirmed; ERR_FULL and ERR_UNAVAILABLE: Redis refused, nothing
 * was written; ERR_CLOSED, ERR_TIMEOUT, ERR_CANCELLED: unknown. */
struct event_sink *redis_stream_producer_sink(struct redis_stream_producer *p);
struct redis *redis_stream_producer_redis(struct redis_stream_producer *p);  /* borrowed */
size_t redis_stream_producer_pending(const struct redis_stream_producer *p); /* open append()s */
bool redis_stream_producer_full(const struct redis_stream_producer *p);
void redis_stream_producer_stats(const struct redis_stream_producer *p,
                                 struct redis_stream_stats *ret);

/* ---- consumer ---- */

struct redis_stream_consumer;

#define REDIS_STREAM_LARGE 1u /* event->flags: it came from the large stream */

/* An entry that is no event of ours. Borrowed for the call. */
struct redis_stream_malformed {
	uint64_t token[2]; /* stream id: milliseconds, sequence */
	uint32_t flags;    /* REDIS_STREAM_LARGE or 0 */
	const char *why;
	const struct redis_reply *fields; /* array of name, value, name, value, … */
};

struct redis_stream_consumer_options {
	struct loop *loop; /* borrowed, like all pointers here but strings, which are copied */
	struct resolver *resolver;
	struct metric_registry *metrics; /* NULL: no metrics */
	struct event_inlet *inlet;       /* its on_room listener becomes the consumer */
	struct redis_options redis;      /* connections are named "consumer", "consumer-large" and
	                                    "control" */
	struct redis_stream_names names;
	const char *consumer;    /* WORKER_CONSUMER_NAME, not empty */
	size_t batch;            /* most entries of a read; 0: 500 */
	usec_t keep;             /* QUEUE_KEEP: acknowledged entries younger than this stay */
	int64_t max_deliveries;  /* QUEUE_MAX_DELIVERIES; not used yet */
	usec_t block;            /* of a read without entries; 0: 1 s */
	usec_t min_idle;         /* before an entry may be claimed; 0: 60 s */
	usec_t claim_interval;   /* 0: 12 s; drawn from 0.8 to 1.2 of it */
	usec_t probe_interval;   /* 0: 1 s */
	usec_t trim_interval;    /* 0: 1 s */
	usec_t cleanup_interval; /* consumers without a process are deleted; 0: 10 min */
	usec_t consumer_idle;    /* … when idle for so long with nothing pending; 0: 1 h */

	/* Callbacks; each may be NULL. */
	/* May entries of others be claimed now? (Our own database answers.) NULL: yes. */
	bool (*may_claim)(void *arg);
	/* Held until redis_stream_consumer_discard(). Without it the entry stays pending, and is
	 * logged once. */
	void (*on_malformed)(void *arg, const struct redis_stream_malformed *m);
	void (*on_lost)(void *arg, size_t n);
	void (*on_idle)(void *arg); /* once, after stop: see redis_stream_consumer_idle() */
	void *arg;
};

enum err redis_stream_consumer_new(const struct redis_stream_consumer_options *o,
                                   struct redis_stream_consumer **ret) MUST_CHECK;
/* Connects, makes the group, takes back what is pending under its own name, then reads. */
void redis_stream_consumer_start(struct redis_stream_consumer *c);
/* Stops reading, claiming and trimming. What a read under way brings is still given to the inlet,
 * as long as that takes it; so close the inlet when redis_stream_consumer_reading() is false.
 * Events already given away can still be settled. */
void redis_stream_consumer_stop(struct redis_stream_consumer *c);
/* A read may still bring entries. */
bool redis_stream_consumer_reading(const struct redis_stream_consumer *c);
/* Stopped, no read under way, and every XACK asked for is confirmed. Events that are not settled by
 * then stay pending: they come back under the same name, or are claimed. */
bool redis_stream_consumer_idle(const struct redis_stream_consumer *c);
/* NULL is fine. Events that are still about must not be settled any more. */
void redis_stream_consumer_free(struct redis_stream_consumer *c);

/* The source of its events (event->source); settled() may be called from any callback. */
struct event_source *redis_stream_consumer_source(struct redis_stream_consumer *c);
/* A malformed entry was kept elsewhere: acknowledge it. */
void redis_stream_consumer_discard(struct redis_stream_consumer *c, const uint64_t token[2],
                                   uint32_t flags);
/* For other short commands; borrowed. */
struct redis *redis_stream_consumer_control(struct redis_stream_consumer *c);
void redis_stream_consumer_stats(const struct redis_stream_consumer *c,
                                 struct redis_stream_stats *ret);

#endif
