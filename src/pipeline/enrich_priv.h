/* What enricher.c (the way of a question), enrich_cache.c (Redis) and enrich_gate.c (when to ask)
 * share. */
#ifndef WEIR_PIPELINE_ENRICH_PRIV_H
#define WEIR_PIPELINE_ENRICH_PRIV_H

#include "weir/base/buf.h"
#include "weir/base/list.h"
#include "weir/io/redis.h"
#include "weir/pipeline/enricher.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define ENRICH_HASH_LEN 16

/* One recipient that is asked for; several reports may be about it. */
struct enrich_group {
	uint8_t hash[ENRICH_HASH_LEN];
	int64_t id; /* 0: unknown; below 0: not known yet */
};

/* ---- the cache ---- */

struct enrich_cache {
	struct loop *loop;   /* borrowed */
	struct redis *redis; /* borrowed; NULL: there is no cache */
	char *prefix;        /* owned; with what stands before each key of the cache */
	usec_t found_ttl, unknown_ttl;
	double room, max_room, refill; /* keys that may be set now; at most; in a µs */
	usec_t refilled;
	bool stalled; /* it owes an answer for too long: nothing is asked of it */
	struct metric *get_errors, *set_errors, *skipped;
};

enum err enrich_cache_init(struct enrich_cache *c, const struct enricher_options *o,
                           const char *backend) MUST_CHECK;
void enrich_cache_done(struct enrich_cache *c);
/* One MGET for all groups. Not ERR_OK: no answer will come. */
enum err enrich_cache_get(struct enrich_cache *c, const struct enrich_group *groups, size_t n,
                          redis_reply_fn cb, void *arg) MUST_CHECK;
/* Fills in the ids that it has. */
void enrich_cache_read(struct enrich_cache *c, enum err err, const struct redis_reply *reply,
                       struct enrich_group *groups, size_t n);
void enrich_cache_set(struct enrich_cache *c, const struct enrich_group *g);

/* ---- the gate in front of the look-ups ---- */

struct enrich_gate {
	struct loop *loop;   /* borrowed */
	const char *backend; /* literal */
	unsigned failures;   /* in a row; above 0: it is closed */
	usec_t closed_until;
	bool trying;            /* one look-up is let through */
	uint64_t without;       /* reports that went without since it closed */
	uint64_t outcomes;      /* bit 0: the latest look-up; set: it worked */
	unsigned outcome_count; /* bits that count */
	char last_error[256];
	struct metric_family *lookups;
	struct metric *ok, *seconds, *paused;
};

void enrich_gate_init(struct enrich_gate *g, const struct enricher_options *o, const char *backend);
/* Whether a look-up may begin. True obliges to tell enrich_gate_note() what came of it. */
bool enrich_gate_open(struct enrich_gate *g);
void enrich_gate_note(struct enrich_gate *g, enum err err, const char *text, usec_t asked);
/* Adds to the health answer; false while it is closed. */
bool enrich_gate_report(const struct enrich_gate *g, struct buf *details);

#endif
