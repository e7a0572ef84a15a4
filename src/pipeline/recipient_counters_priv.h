/* What recipient_counters.c (the hashes), counters_page.c (many of them) and counters_catchup.c
 * (those that others changed) share. */
#ifndef WEIR_PIPELINE_RECIPIENT_COUNTERS_PRIV_H
#define WEIR_PIPELINE_RECIPIENT_COUNTERS_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/io/redis.h"
#include "weir/pipeline/recipient_counters.h"

/* Columns of the statements' answers before MESSAGE_BATCH_FIELDS; the third is of meaning to him
 * who asked. */
enum { COUNTERS_ID, COUNTERS_VERSION, COUNTERS_THIRD, COUNTERS_FIRST_FIELD };
/* What Redis answers: a later state stands there; written; this one stood there already. */
enum counters_answer { COUNTERS_OUTDATED, COUNTERS_WRITTEN, COUNTERS_SAME };

/* Sends one row. Where its field `id` is NULL the batch is gone, and so goes the hash. Not ERR_OK:
 * `cb` will not fire. */
enum err recipient_counters_send(struct recipient_counters *c, const struct pg_result *r,
                                 size_t row, redis_reply_fn cb, void *arg) MUST_CHECK;
/* Counts what became of a row that the catching up sent. */
void recipient_counters_caught(struct recipient_counters *c, enum err err,
                               const struct redis_reply *reply);

/* ---- a page of rows ---- */

#define COUNTERS_PAGE 200

struct counters_slot {
	struct counters_page *page;
};

/* Embedded in its owner. */
struct counters_page {
	struct recipient_counters *counters; /* borrowed */
	void (*done)(void *arg);
	void *arg;
	struct counters_slot slots[COUNTERS_PAGE];
	bool rows_written[COUNTERS_PAGE]; /* or there is nothing to be written */
	size_t rows, answered;
	bool lost; /* Redis does not take writes now */
};

void counters_page_init(struct counters_page *p, struct recipient_counters *counters,
                        void (*done)(void *arg), void *arg);
/* Sends all rows, COUNTERS_PAGE at most. True: `done` will be called once, from the loop. False: no
 * answer is to come. */
bool counters_page_write(struct counters_page *p, const struct pg_result *r) MUST_CHECK;

/* ---- catching up ---- */

struct counters_catchup;

/* `o` as recipient_counters_new() has it; `counters` borrowed. */
enum err counters_catchup_new(const struct recipient_counters_options *o,
                              struct recipient_counters *counters,
                              struct counters_catchup **ret) MUST_CHECK;
void counters_catchup_start(struct counters_catchup *u);
void counters_catchup_stop(struct counters_catchup *u); /* before the pool is freed */
/* Something may be missing in Redis that no trace in the database tells of. */
void counters_catchup_missed(struct counters_catchup *u);
void counters_catchup_on_redis(struct counters_catchup *u); /* it is there, maybe without memory */
void counters_catchup_free(struct counters_catchup *u);     /* after both are freed */

#endif
