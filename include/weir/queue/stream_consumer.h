/* The queue's exit: reads the streams into the pipeline's inlet, first what this consumer was given
 * before and did not finish, then what is new. Stops reading while the inlet has no room. */
#ifndef WEIR_QUEUE_STREAM_CONSUMER_H
#define WEIR_QUEUE_STREAM_CONSUMER_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/err.h"

struct event_inlet;
struct loop;
struct metric_registry;
struct redis;
struct stream_alone;
struct stream_consumer;
struct stream_intake;
struct stream_names;

struct stream_consumer_options {
	struct loop *loop;    /* borrowed, like all here */
	struct redis *reader; /* its own connection: reads block */
	const struct stream_names *names;
	struct stream_intake *intake;
	struct stream_alone *alone;
	struct metric_registry *metrics;
	struct event_inlet *inlet; /* tells when it has room again */
	size_t batch;              /* most entries in one read */
	size_t read_bytes;         /* most bytes in one read, but for a single large entry */
	unsigned max_deliveries;   /* what was delivered more often runs alone */
};

enum err stream_consumer_new(const struct stream_consumer_options *o,
                             struct stream_consumer **ret) MUST_CHECK;
void stream_consumer_free(
    struct stream_consumer *c); /* once the connection has told its completions */

/* To be called when the reader connection came up or went down. */
void stream_consumer_on_state(struct stream_consumer *c, bool up);
/* There may be room again for a reason that the inlet does not know. */
void stream_consumer_kick(struct stream_consumer *c);
/* No further read; what is on its way is still taken. */
void stream_consumer_stop(struct stream_consumer *c);
bool stream_consumer_idle(const struct stream_consumer *c); /* stopped, and no read is under way */

#endif
