/* The buffer in front of the pipeline: holds events in order of arrival, says when a batch is ripe,
 * and tells its sources to stop when too much is held. Events that are to be
 * alone (EVENT_ALONE) leave first, each in a batch of its own. Knows nothing of Postgres. */
#ifndef WEIR_PIPELINE_EVENT_BUFFER_H
#define WEIR_PIPELINE_EVENT_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/model/event.h"

struct loop;
struct event_buffer;

/* How much the database can take now; it decides how ripe a batch must be to leave. */
enum event_buffer_slot {
	EVENT_BUFFER_SLOT_NONE,  /* nothing: no batch leaves */
	EVENT_BUFFER_SLOT_LATE,  /* one could be queued: only what is older than flush_interval */
	EVENT_BUFFER_SLOT_AHEAD, /* all at work, but one may wait its turn: only full batches */
	EVENT_BUFFER_SLOT_EXTRA, /* idle connection, others are at work: full or lingered batches */
	EVENT_BUFFER_SLOT_FREE,  /* nothing is at work: at once, see event_buffer.c on lingering */
};

struct event_buffer_drain {
	enum event_buffer_slot (*slot)(void *arg);
	/* Takes over the references of n events, n >= 1; cannot refuse. The array is borrowed. The
	 * events count as held until event_buffer_release(). */
	void (*take)(void *arg, struct event *const *events, size_t n);
	void *arg;
};

struct event_buffer_options {
	size_t batch_size;  /* events in a batch */
	size_t batch_bytes; /* of event->size in a batch; one larger event goes alone */
	usec_t
	    flush_interval; /* an event is offered to a waiting database after this at the latest */
	/* High-water marks over all that is held, batches at work included; the low ones are three
	 * quarters of them. 0: 10,000 events; 64 MiB. */
	size_t high_events;
	size_t high_bytes;
	size_t max_bytes; /* put() refuses what would exceed it; 0: twice high_bytes */
};

enum err event_buffer_new(struct loop *l, const struct event_buffer_options *o,
                          struct event_buffer **ret) MUST_CHECK;
/* Drops the references of what is still buffered. */
void event_buffer_free(struct event_buffer *b);

/* Borrowed; lives as long as the buffer. put() sets event->taken. on_room() tells its listener when
 * the buffer was full and fell below the low marks. */
struct event_inlet *event_buffer_inlet(struct event_buffer *b);

/* One drain; set before the first put(). `d` is copied. */
void event_buffer_set_drain(struct event_buffer *b, const struct event_buffer_drain *d);
/* Hands out what is ripe, as long as slot() allows. Called by the buffer itself, from the loop,
 * when events arrived or became old enough; by the drain whenever its slot() improved. */
void event_buffer_pump(struct event_buffer *b);
/* The drain is done with n events of so many bytes. */
void event_buffer_release(struct event_buffer *b, size_t n, size_t bytes);

/* From now on put() says ERR_CLOSED and whatever is buffered is ripe. */
void event_buffer_close(struct event_buffer *b);
/* Takes the oldest event out, as a batch would; NULL when there is none. */
struct event *event_buffer_pop(struct event_buffer *b);

/* For sources that stop waiting: takes an event out that put() took and nobody settled yet; the
 * reference is the caller's then, and nothing is held for it any more. False when it is in a batch
 * already, which will settle it. */
bool event_buffer_remove(struct event_buffer *b, struct event *e);
/* Takes back an event that left in a batch: it goes behind all others. */
void event_buffer_put_back(struct event_buffer *b, struct event *e);

size_t event_buffer_count(const struct event_buffer *b); /* buffered, without batches at work */
size_t event_buffer_held(const struct event_buffer *b);  /* with them */
size_t event_buffer_held_bytes(const struct event_buffer *b); /* of event->size */
bool event_buffer_full(const struct event_buffer *b);         /* between high and low marks */

#endif
