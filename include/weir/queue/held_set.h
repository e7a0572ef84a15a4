/* The stream ids that this process holds: taken, not settled yet. Redis numbers what comes in one
 * millisecond from 0, so neighbours share a slot: a bit each, and 24 bytes for up to 64 of them. */
#ifndef WEIR_QUEUE_HELD_SET_H
#define WEIR_QUEUE_HELD_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"
#include "weir/queue/stream_entry.h"

#define HELD_STREAMS 64 /* `stream` is below */

struct held {
	struct stream_id id;
	uint8_t stream; /* which of the streams */
};

struct held_run;

struct held_set {
	struct held_run *slots; /* owned; a power of two of them */
	size_t space, runs;
	size_t count; /* ids */
};

void held_set_init(struct held_set *s);
void held_set_done(struct held_set *s);
/* ERR_CONFLICT when it is there already. */
enum err held_set_add(struct held_set *s, struct stream_id id, uint8_t stream) MUST_CHECK;
bool held_set_remove(struct held_set *s, struct stream_id id, uint8_t stream);
/* Walks: `*pos` starts at 0; false at the end. The set must not change meanwhile. */
bool held_set_next(const struct held_set *s, size_t *pos, struct held *ret);

#endif
