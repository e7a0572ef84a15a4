/* Stream entries become events in the pipeline's inlet, and events that are settled become
 * acknowledgements. Knows which ids are held, so that an entry which comes twice (read again after
 * a reconnect, or claimed) enters once. */
#ifndef WEIR_QUEUE_STREAM_INTAKE_H
#define WEIR_QUEUE_STREAM_INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"
#include "weir/model/event.h"
#include "weir/queue/held_set.h"
#include "weir/queue/stream_names.h"

struct metric_registry;
struct redis_reply;
struct stream_acks;
struct stream_intake;
struct stream_park;

struct stream_intake_options {
	struct event_inlet *inlet; /* borrowed, like all here */
	struct stream_acks *acks;
	struct stream_park *park; /* gets entries whose tool is needed and not known */
	struct metric_registry *metrics;
	/* Whether what is taken can be worked on: while our own database is away, entries are
	 * better left to others. */
	bool (*may_take)(void *arg);
	void *arg;
};

enum err stream_intake_new(const struct stream_intake_options *o,
                           struct stream_intake **ret) MUST_CHECK;
/* No event that came from here may be alive any more. */
void stream_intake_free(struct stream_intake *k);

size_t stream_intake_room(const struct stream_intake *k); /* entries that may be asked for now */
/* How many of the main stream may be asked for at once, `most` at most, so that they have `bytes`
 * together if all are as big as the largest of late, and twice that if all are as big as can be. At
 * least 1. */
size_t stream_intake_fitting(const struct stream_intake *k, size_t bytes, size_t most);

/* `entries` is a list of [id, fields]. `again`: they were delivered before. ERR_FULL, ERR_NOMEM,
 * ERR_CLOSED: the rest of the list was not taken and stays pending. */
enum err stream_intake_take(struct stream_intake *k, enum stream_which stream,
                            const struct redis_reply *entries, bool again) MUST_CHECK;
/* One entry that runs alone (EVENT_ALONE), or is condemned as well; its id is held already, and
 * what becomes of it is told to stream_intake_on_alone()'s function. A reference to the event is
 * the caller's. Not ERR_OK: it was not taken; ERR_TOOL: its tool is not known here. */
enum err stream_intake_take_alone(struct stream_intake *k, enum stream_which stream,
                                  const struct redis_reply *entry, bool condemned,
                                  struct event **ret) MUST_CHECK;
/* For such an entry, once it is not held any more. */
void stream_intake_park(struct stream_intake *k, struct stream_id id, enum stream_which stream);
typedef void (*stream_intake_alone_fn)(void *arg, struct stream_id id, enum stream_which stream,
                                       enum event_fate fate);
void stream_intake_on_alone(struct stream_intake *k, stream_intake_alone_fn fn, void *arg);
/* An id without its entry: ERR_CONFLICT when it is held already. */
enum err stream_intake_hold(struct stream_intake *k, struct stream_id id,
                            enum stream_which stream) MUST_CHECK;
void stream_intake_let_go(struct stream_intake *k, struct stream_id id, enum stream_which stream);
/* Entries that Redis says were deleted before they were done. Must never happen. */
void stream_intake_lost(struct stream_intake *k, enum stream_which stream, size_t n);

uint64_t stream_intake_done(const struct stream_intake *k); /* stored, or dead letters */
/* How many are in the pipeline: put in, and not settled yet. */
size_t stream_intake_working(const struct stream_intake *k);
const struct held_set *stream_intake_held(const struct stream_intake *k);

#endif
