/* Tools from which events are expected (`expect_every`) and do not come. */
#ifndef WEIR_RECEIVE_SILENCE_PRIV_H
#define WEIR_RECEIVE_SILENCE_PRIV_H

#include <stddef.h>

#include "weir/base/buf.h"
#include "weir/receive/receiver.h"

#include "receive_stats_priv.h"

struct silence;

/* Looks at the tools there are now: their time runs from here. */
enum err silence_new(const struct receiver_options *o, struct receive_stats *stats,
                     struct silence **ret) MUST_CHECK;
void silence_free(struct silence *s);

/* Sets the gauges; returns how many tools are silent. Into `out`, unless NULL, go the members of a
 * health component's details. */
size_t silence_look(struct silence *s, struct buf *out);

#endif
