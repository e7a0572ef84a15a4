/* The delivery reports of a transaction's events as one more statement of it: recipients, then the
 * counters of their message batches. What it does, and how concurrent ones get along, stands at
 * weir.apply_reports() in migrations/0002_recipients.sql; there also only those count whose event
 * is fresh in this very transaction.
 *
 * One writer serves one batch at a time; its buffers are the call's parameters and are reused. */
#ifndef WEIR_PIPELINE_RECIPIENT_WRITER_H
#define WEIR_PIPELINE_RECIPIENT_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"
#include "weir/model/event.h"

struct pg_call;
struct recipient_writer;

enum err recipient_writer_new(struct recipient_writer **ret) MUST_CHECK;
void recipient_writer_free(struct recipient_writer *w);

void recipient_writer_begin(struct recipient_writer *w);
/* `key` is the one that the transaction claims for the event. An event without reports costs
 * nothing. */
void recipient_writer_add(struct recipient_writer *w, const uint8_t key[EVENT_KEY_LEN],
                          const struct event *e);
/* *ret_call is NULL where no event had reports; else valid until the next begin, to be run behind
 * the statements that claim the keys. ERR_NOMEM, ERR_TOOBIG. */
enum err recipient_writer_end(struct recipient_writer *w,
                              const struct pg_call **ret_call) MUST_CHECK;
/* The batch is over: gives memory back that only an unusually large one needed. */
void recipient_writer_reset(struct recipient_writer *w);

#endif
