/* Writes the events of one batch in one transaction and one round trip: claim their keys, insert
 * those that are new. Builds parameters and reads results; submitting is the processor's.
 *
 * One updater serves one batch at a time. The calls' parameters are its own, or lent by the
 * batches' common memory. */
#ifndef WEIR_PIPELINE_BATCH_UPDATER_H
#define WEIR_PIPELINE_BATCH_UPDATER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"
#include "weir/model/event.h"

struct batch_params;
struct batch_updater;
struct pg_call;
struct pg_failure;
struct pg_result;

/* How a prepared batch is laid out: `events` was reordered to so many of each, in this order,
 * those of each as they came. */
struct batch_plan {
	size_t first;     /* go into the transaction */
	size_t duplicate; /* of one of the first */
	size_t later;     /* same key, but outside its window: for a transaction after this one */
};

/* Who holds an event's key after the transaction. */
enum batch_finding {
	FOUND_STORED, /* the event itself: by this transaction, or by an earlier one whose outcome
	                 nobody learnt */
	FOUND_DUPLICATE, /* another one with the same body */
	FOUND_CONFLICT,  /* another one with another body */
	FOUND_NOBODY,    /* it was held, and is no more: to be tried again */
};

/* `shared` is borrowed. */
enum err batch_updater_new(struct batch_params *shared, struct batch_updater **ret) MUST_CHECK;
void batch_updater_free(struct batch_updater *u);

/* Reorders `events` and builds the parameters; both must stay as they are until the completion.
 * `in_race`: in a form that others who claim the same keys at the same moment do not disturb; it is
 * slower. ERR_NOMEM; ERR_TOOBIG when it is more than one statement can take. */
enum err batch_updater_prepare(struct batch_updater *u, bool in_race, struct event **events,
                               size_t n, struct batch_plan *ret_plan) MUST_CHECK;
const struct pg_call *batch_updater_store(const struct batch_updater *u, size_t *ret_count);
/* The values that batch_updater_store() points to were copied: their memory goes to the next
 * batch. */
void batch_updater_sent(struct batch_updater *u);
/* Whether the transaction failed only because another claimed one of its keys at the same moment.
 * Never so in the form `in_race`. */
bool batch_updater_lost_race(const struct batch_updater *u, const struct pg_failure *f);
/* After the commit: whether all of plan.first were new. Otherwise ask by batch_updater_lookup(). */
bool batch_updater_all_new(const struct batch_updater *u, const struct pg_result *const *results);
/* After the commit: the message batches that changed, for recipient_counters_write(); NULL where no
 * event had delivery reports. */
const struct pg_result *batch_updater_counters(const struct batch_updater *u,
                                               const struct pg_result *const *results);
/* Its parameters stay until the completion. ERR_NOMEM. */
enum err batch_updater_lookup(struct batch_updater *u, const struct pg_call **ret) MUST_CHECK;
/* For each of plan.first and plan.duplicate; `results` are the look-up's, or NULL where all were
 * new. */
void batch_updater_findings(const struct batch_updater *u, const struct pg_result *const *results,
                            struct event *const *events, enum batch_finding *findings);
/* The batch is over: gives memory back that only an unusually large one needed. */
void batch_updater_reset(struct batch_updater *u);

#endif
