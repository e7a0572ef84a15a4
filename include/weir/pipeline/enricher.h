/* Finds out which recipients a batch's delivery reports are about: from a cache in Redis (one MGET
 * a batch), then by one look-up for all that it lacks, which is then cached; what is unknown as
 * well, for a shorter time.
 *
 * It fills in hints (recipient_report.recipient_id) and decides nothing. In trouble events go on
 * without: an answer comes within the timeout, failures are counted and logged once, and after a
 * failure the look-ups pause, so that a dead server costs a timeout every few seconds and not every
 * batch. */
#ifndef WEIR_PIPELINE_ENRICHER_H
#define WEIR_PIPELINE_ENRICHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"

struct buf;
struct enricher;
struct enrich_question;
struct event;
struct loop;
struct metric_registry;
struct recipient_lookup;
struct redis;

struct enricher_options {
	struct loop *loop;               /* borrowed, as are all pointers here but key_prefix */
	struct redis *redis;             /* NULL: no cache */
	struct recipient_lookup *lookup; /* NULL: the cache alone */
	struct metric_registry *metrics;
	const char *key_prefix; /* copied */
	usec_t timeout;         /* an answer comes within it */
	usec_t found_ttl;       /* how long Redis keeps what was found; 0: not at all */
	usec_t unknown_ttl;     /* and what was not */
	size_t max_keys;        /* that this process has in the cache at a time */
	/* What the cached ids belong to: a text that changes when they become another's, "" while
	 * that is not known. NULL: they are for good. */
	const char *(*epoch)(void *arg);
	void *epoch_arg;
};

enum err enricher_new(const struct enricher_options *o, struct enricher **ret) MUST_CHECK;
/* Once Redis and the look-up's server have told their completions (they were freed). */
void enricher_free(struct enricher *e);

/* A question is reused by its batch. `done` comes from the loop, exactly once for each
 * enricher_ask() that said true. */
enum err enrich_question_new(struct enricher *e, void (*done)(void *arg), void *arg,
                             struct enrich_question **ret) MUST_CHECK;
void enrich_question_free(struct enrich_question *q); /* NULL is fine; `done` will not come */
/* False: nothing to wait for; all is filled in that can be. The events stay valid until `done`, or
 * until enricher_forget(). */
bool enricher_ask(struct enrich_question *q, struct event *const *events, size_t n);
/* The events may go; `done` still comes. */
void enricher_forget(struct enrich_question *q);

/* Members of the health answer's details; false while look-ups or the cache are out of order. */
bool enricher_report(const struct enricher *e, struct buf *details);

#endif
