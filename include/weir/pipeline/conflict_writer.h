/* Writes events whose key is held with another body to weir.dead_letters, class `conflict`, in one
 * transaction. Each differing body of an event is written once, however often it is delivered: the
 * key mixed with the body's hash is claimed in event_keys like any other key, and kept as long.
 *
 * Builds parameters and reads results; submitting is the batch's. */
#ifndef WEIR_PIPELINE_CONFLICT_WRITER_H
#define WEIR_PIPELINE_CONFLICT_WRITER_H

#include <stddef.h>

#include "weir/base/err.h"
#include "weir/model/event.h"
#include "weir/pipeline/batch_updater.h"

struct conflict_writer;
struct pg_call;
struct pg_result;

enum err conflict_writer_new(struct conflict_writer **ret) MUST_CHECK;
void conflict_writer_free(struct conflict_writer *w);

/* Reorders `events`; they stay as they are until the completion. ERR_NOMEM, ERR_TOOBIG. */
enum err conflict_writer_prepare(struct conflict_writer *w, struct event **events,
                                 size_t n) MUST_CHECK;
const struct pg_call *conflict_writer_calls(const struct conflict_writer *w, size_t *ret_count);
/* After the commit, for each of the n events: FOUND_STORED where its dead letter is,
 * FOUND_DUPLICATE where another's with the same body is, FOUND_NOBODY where that was and is no
 * more. */
void conflict_writer_findings(const struct conflict_writer *w,
                              const struct pg_result *const *results, struct event *const *events,
                              size_t n, enum batch_finding *findings);
void conflict_writer_reset(struct conflict_writer *w); /* gives back what few batches need */

#endif
