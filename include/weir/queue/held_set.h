/* The stream ids that this process holds: taken, not settled yet. Open addressing; an id costs 24
 * bytes and no allocation of its own. */
#ifndef WEIR_QUEUE_HELD_SET_H
#define WEIR_QUEUE_HELD_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"
#include "weir/queue/stream_entry.h"

struct held {
	struct stream_id id;
	uint8_t stream; /* which of the streams */
	bool used;
};

struct held_set {
	struct held *slots; /* owned; a power of two of them */
	size_t space, count;
};

void held_set_init(struct held_set *s);
void held_set_done(struct held_set *s);
/* ERR_CONFLICT when it is there already. */
enum err held_set_add(struct held_set *s, struct stream_id id, uint8_t stream) MUST_CHECK;
bool held_set_remove(struct held_set *s, struct stream_id id, uint8_t stream);
/* Walks: `*pos` starts at 0; NULL at the end. The set must not change meanwhile. */
const struct held *held_set_next(const struct held_set *s, size_t *pos);

#endif
