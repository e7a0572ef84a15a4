/* The queue's entrance: accepted events become stream entries. */
#ifndef WEIR_QUEUE_STREAM_PRODUCER_H
#define WEIR_QUEUE_STREAM_PRODUCER_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/err.h"
#include "weir/model/event.h"

struct event_sink;
struct loop;
struct redis;
struct stream_names;
struct stream_producer;
struct stream_watch;

struct stream_producer_options {
	struct loop *loop;          /* borrowed, like all here */
	struct redis *const *redis; /* any number of connections; see stream_producer.c on why */
	size_t redis_count;
	const struct stream_names *names;
	struct stream_watch *watch; /* the bound, and how long to wait past it */
	bool (*syncs)(void *arg); /* Redis syncs what it is given before it answers; NULL: it may */
	void *arg;
};

enum err stream_producer_new(const struct stream_producer_options *o,
                             struct stream_producer **ret) MUST_CHECK;
/* The connection must have told its completions (redis_free) before. */
void stream_producer_free(struct stream_producer *p);

struct event_sink *stream_producer_sink(struct stream_producer *p); /* borrowed */
bool stream_producer_up(const struct stream_producer *p); /* one connection stands at least */
/* Whether Redis would take an entry now, found out without writing one. ERR_OK: it would. Anything
 * but ERR_OK at once: `done` will not fire. */
enum err stream_producer_probe(struct stream_producer *p, event_sink_done_fn done,
                               void *arg) MUST_CHECK;
size_t stream_producer_in_flight(const struct stream_producer *p); /* appends not confirmed yet */

#endif
