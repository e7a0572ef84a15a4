/* Tells which events of a batch are known, before the database is asked: from memory (a minute),
 * then from sets in Redis (WEBHOOK_DEDUP_TTL).
 *
 * Both layers hold the keys of events that are committed, mixed with the body's hash: a hit is an
 * event that is stored with this very body, so it is a duplicate, whatever happens. The same key
 * with another body is a miss, and so is an event without the provider's id, whose key has a window
 * that the database knows; the database decides on misses. So any layer may fail, forget or be
 * switched off.
 *
 * What a layer remembers belongs to one database in one course of its life (weir.epoch()). That is
 * read anew whenever the pool made a connection, and every few seconds; until it is known, and for
 * another one, nothing that was remembered counts. */
#ifndef WEIR_PIPELINE_DEDUPLICATOR_H
#define WEIR_PIPELINE_DEDUPLICATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"

struct buf;
struct deduplicator;
struct dedup_question;
struct event;
struct loop;
struct metric_registry;
struct pg_pool;
struct redis;

/* Who found a duplicate. */
enum dedup_layer { DEDUP_BATCH, DEDUP_MEMORY, DEDUP_REDIS, DEDUP_DATABASE, DEDUP_LAYERS };

struct deduplicator_options {
	struct loop *loop; /* borrowed, as are all pointers here but key_prefix */
	struct pg_pool *pool;
	struct redis *redis; /* NULL: no such layer */
	struct metric_registry *metrics;
	const char *key_prefix; /* copied */
	usec_t ttl;             /* how long Redis remembers at least; 0: no such layer */
	size_t max_keys;        /* of all workers together, in Redis */
	size_t memory_keys;     /* 0: no such layer */
	size_t batch_size;      /* events in a question at most */
};

enum err deduplicator_new(const struct deduplicator_options *o,
                          struct deduplicator **ret) MUST_CHECK;
/* Once Redis and the pool have told their completions (they were freed). */
void deduplicator_free(struct deduplicator *d);
void deduplicator_start(struct deduplicator *d);
void deduplicator_stop(struct deduplicator *d);    /* asks nothing any more */
void deduplicator_on_pool(struct deduplicator *d); /* the pool changed; the processor's call */
/* Which database it is, in which course of its life; "" while that is not known for sure. */
const char *deduplicator_epoch(const struct deduplicator *d);

/* A question is reused by its batch. `done` comes from the loop, exactly once for each dedup_ask()
 * that said true, a quarter of a second later at most. */
enum err dedup_question_new(struct deduplicator *d, void (*done)(void *arg), void *arg,
                            struct dedup_question **ret) MUST_CHECK;
/* Not while Redis may still answer it: see deduplicator_free(). */
void dedup_question_free(struct dedup_question *q);
/* False: it is answered already. The events stay valid until the answer. */
bool dedup_ask(struct dedup_question *q, struct event *const *events, size_t n);
/* The answer for events[i]. */
bool dedup_known(const struct dedup_question *q, size_t i);

/* To be taken when a transaction is submitted, and given back with what it committed: events that
 * are stored now with the body that they bear. Sent to Redis with this turn's other commands. */
typedef uint64_t dedup_ticket;
dedup_ticket deduplicator_ticket(const struct deduplicator *d);
void deduplicator_mark(struct deduplicator *d, dedup_ticket t, struct event *const *events,
                       size_t n);

/* So many events came to a layer (batch and database), and so many of them were found there. */
void deduplicator_count(struct deduplicator *d, enum dedup_layer layer, size_t asked, size_t hits);

/* Members of the health answer's details; false while a layer is out of order. */
bool deduplicator_report(const struct deduplicator *d, struct buf *details);

#endif
