/* Entries whose effect depends on their tool (EVENT_MARK_REPORTS), met by a worker that does not
 * know it: they are put aside in Redis, a stream for each tool, and acknowledged where they were,
 * so that they neither come again at once nor keep others from being trimmed. All workers of the
 * group look at what waits there; one that knows the tool puts them back into the queue. When that
 * took longer than `most_wait`, any worker puts them back marked EVENT_MARK_GIVEN_UP: whoever takes
 * them then and knows the tool stores them, and who does not makes them dead letters.
 *
 * To be aside for long is not enough: the worker that gives up has looked a number of times in a
 * row without success, with its own database at hand, since it started, since its tools changed and
 * since it could not look. So neither an outage nor the order in which processes are started makes
 * dead letters: who knows the tool has had the time to say so. */
#ifndef WEIR_QUEUE_STREAM_PARK_H
#define WEIR_QUEUE_STREAM_PARK_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"
#include "weir/queue/stream_entry.h"
#include "weir/queue/stream_names.h"

struct loop;
struct metric_registry;
struct redis;
struct stream_park;
struct tool;

struct stream_park_options {
	struct loop *loop; /* borrowed, like all here */
	struct redis *redis;
	const struct stream_names *names;
	struct metric_registry *metrics;
	usec_t period;    /* of looking, jittered; 0: 10 s */
	usec_t most_wait; /* 0: a day */
	/* A reference to a tool with what its events need; NULL: this worker does not have it. */
	struct tool *(*tool_of)(void *arg, struct str id);
	bool (*may_look)(void *arg); /* its database is at hand */
	void *arg;
};

enum err stream_park_new(const struct stream_park_options *o, struct stream_park **ret) MUST_CHECK;
void stream_park_start(struct stream_park *p);
void stream_park_stop(struct stream_park *p);
void stream_park_free(struct stream_park *p); /* once the connection has told its completions */

struct tool *stream_park_tool(struct stream_park *p, struct str id); /* as tool_of() */
/* Puts aside an entry that is pending and held by nobody, later in this turn. It stays pending
 * where that does not work, and comes again by being claimed. */
void stream_park_add(struct stream_park *p, struct stream_id id, enum stream_which stream);
/* Other tools are in force now: looks at once. */
void stream_park_tools_changed(struct stream_park *p);

#endif
