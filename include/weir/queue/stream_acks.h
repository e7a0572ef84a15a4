/* Acknowledgements: gathered over a turn of the loop, one XACK per stream, kept until Redis
 * confirmed them. An acknowledgement that gets lost all the same is harmless: its entry comes back
 * and its key is known. */
#ifndef WEIR_QUEUE_STREAM_ACKS_H
#define WEIR_QUEUE_STREAM_ACKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"
#include "weir/queue/stream_entry.h"
#include "weir/queue/stream_names.h"

struct loop;
struct redis;
struct stream_acks;

struct stream_acks_options {
	struct loop *loop; /* borrowed, like all here */
	struct redis *redis;
	const struct stream_names *names;
	void (*acked)(void *arg, size_t n); /* so many were confirmed */
	void *arg;
};

enum err stream_acks_new(const struct stream_acks_options *o, struct stream_acks **ret) MUST_CHECK;
void stream_acks_free(struct stream_acks *a); /* once the connection has told its completions */

/* Called for each id that needs no keeping any more: confirmed, refused for good, or forgotten. */
typedef void (*stream_acks_released_fn)(void *arg, struct stream_id id, enum stream_which stream);
void stream_acks_on_release(struct stream_acks *a, stream_acks_released_fn fn, void *arg);

void stream_acks_add(struct stream_acks *a, struct stream_id id, enum stream_which stream);
void stream_acks_retry(struct stream_acks *a);      /* the connection is up again */
bool stream_acks_idle(const struct stream_acks *a); /* nothing waits, nothing is under way */
uint64_t stream_acks_forgotten(const struct stream_acks *a); /* given up: memory, or the bound */

#endif
