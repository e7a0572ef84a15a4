/* The event, and the two seams that keep the domain's rooms apart: a sink takes accepted events
 * (the queue, or the buffer in direct mode), a source learns what became of the events it gave
 * away. */
#ifndef WEIR_MODEL_EVENT_H
#define WEIR_MODEL_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/id.h"
#include "weir/base/list.h"
#include "weir/base/str.h"

#define EVENT_TEXT_MAX \
	1024 /* bytes of tool, type and id; longer ones are cut and hashed at receive */

/* For how long the same body is the same event, where events bear no id: as default and at most.
 * What a tool asks for is decided when an event is received, and goes with it: whoever stores it,
 * and however often, must know it again by the same rule. */
#define EVENT_DEDUP_WINDOW     (600 * USEC_PER_SEC)
#define EVENT_DEDUP_WINDOW_MAX (30 * 24 * 3600 * USEC_PER_SEC)
#define EVENT_RECEIVED_MAX     253402300799999999 /* the year 9999's end: every store takes it */
#define EVENT_DEDUP_NONE       (-1)               /* each is kept, whatever its body */

/* What an event consists of; all slices borrowed. Texts are valid UTF-8 without NUL. */
struct event_view {
	struct uuid uid;
	struct str tool;
	struct str type;         /* "unknown" when it was not found */
	usec_t received;         /* wall clock; 0 to EVENT_RECEIVED_MAX */
	usec_t dedup_window;     /* or EVENT_DEDUP_NONE; 0: the default. With an id: no meaning */
	struct str id;           /* the provider's event id; empty when there is none */
	struct str headers;      /* JSON: [["name","value"],…]; secret values are null */
	struct str content_type; /* may be empty */
	struct str traceparent;  /* may be empty */
	struct str body;         /* the exact bytes */
	struct str envelope; /* split requests: the request with its items cut out; else empty */
	/* EVENT_CONTENT_LEN bytes, where not all of the body tells it from another of the same
	 * event: a hash of what does. Else empty. What held when it was received holds for it. */
	struct str content;
	unsigned marks; /* EVENT_MARK_… */
};

/* It has its effect only where its tool is known: that had a recipient mapping when the event was
 * received. A worker without that mapping must not store it. */
#define EVENT_MARK_REPORTS 1u
/* And for long no worker of the group had it. */
#define EVENT_MARK_GIVEN_UP 2u
/* It was in a worker's hands before, which did not know its tool. */
#define EVENT_MARK_WAITED 4u

#define EVENT_KEY_LEN     16
#define EVENT_CONTENT_LEN 32

/* In event->flags, the upper half of which is everybody's: this was no event (a foreign or newer
 * entry in the queue, its fields as JSON in the body); it goes straight to the dead letters, stage
 * queue. */
#define EVENT_MALFORMED 0x80000000u
/* It goes into a batch of its own: processes may have died over it. */
#define EVENT_ALONE 0x40000000u
/* They did: it goes straight to the dead letters, stage queue, and nothing else is done with it. */
#define EVENT_CONDEMNED 0x20000000u
/* Nobody knows its tool, which it needs (EVENT_MARK_GIVEN_UP): likewise. */
#define EVENT_GIVEN_UP 0x04000000u
/* It was in a worker's hands before: it may be a dead letter already. */
#define EVENT_AGAIN 0x02000000u
/* With EVENT_ALONE: all that this process does with it is done, the database has it now. */
#define EVENT_SENT 0x08000000u

/* In event->flags: a sender waits for it, so it goes ahead of those that came from the queue. */
#define EVENT_URGENT 0x10000000u

struct event_source;
struct recipient_reports;
struct tool;

/* Immutable once made, but for the fields its present holder owns. One allocation. A batch is
 * walked through several times after long in memory, hence the order: what most walks need is in
 * the first three lines of the processor's cache. */
struct event {
	struct list_node node;      /* the holder's */
	uint8_t key[EVENT_KEY_LEN]; /* see event_key() */
	uint64_t token[2];          /* the source's: a stream id's two halves */
	/* Of the body, or of its `content`. Stored with the key for ever, so its algorithm must
	 * never change. */
	uint64_t body_hash;
	uint32_t flags; /* the source's */
	uint32_t refs;

	struct event_source *source; /* borrowed; may be NULL */
	size_t size;                 /* bytes of memory that it counts for */
	/* A reference, with EVENT_MARK_REPORTS: the tool as it was when the event was taken in, so
	 * that no change of it takes the effect away. Else NULL, also where it is not known. */
	struct tool *tool;
	/* owned; NULL: none, or not read yet; see pipeline/recipient_reports.h */
	struct recipient_reports *reports;
	usec_t taken;        /* monotonic: when the buffer got it */
	usec_t first_failed; /* wall clock: the first of those failures; 0: none */
	uint32_t attempts;   /* batches it failed in */
	bool reports_read;   /* see `reports` */
	bool windowed;       /* no provider id: the key is the body's hash, see view.dedup_window */

	struct event_view view; /* slices point behind this struct */
};

/* Copies all. Not event_new(): that name is libevent's, and the linker would take ours for both. */
enum err event_make(const struct event_view *v, struct event **ret) MUST_CHECK;
struct event *event_ref(struct event *e);
void event_unref(struct event *e);

/* For loops over events that nobody has looked at for a while, all of a batch's: asks the processor
 * for the first `bytes` of one that comes EVENT_PREFETCH places later. The second does it for an
 * array's, as far as most loops look: what stands first in the struct, and tool and type, which
 * come first behind it. */
#define EVENT_PREFETCH 4
static inline void event_prefetch(const struct event *e, size_t bytes)
{
	enum { LINE = 64 };

	for (size_t at = 0; at < bytes; at += LINE)
		__builtin_prefetch((const char *)e + at);
}

static inline void event_prefetch_next(struct event *const *events, size_t i, size_t n)
{
	const struct event *e = i + EVENT_PREFETCH < n ? events[i + EVENT_PREFETCH] : NULL;

	if (!e)
		return;
	event_prefetch(e, offsetof(struct event, view.id));
	__builtin_prefetch(e + 1);
}

/* First 16 bytes of SHA-256 over tool, type and id, each with a NUL behind it; without an id over
 * tool, NUL, type, NUL, NUL, and the body's SHA-256, or its `content`. */
enum err event_key(const struct event_view *v, uint8_t out[EVENT_KEY_LEN],
                   bool *ret_windowed) MUST_CHECK;

/* Names an event together with its body: differs where the key or what counts of the body does.
 * Stored, so its algorithm must never change. */
void event_content_key(const struct event *e, uint8_t out[EVENT_KEY_LEN]);

/* What became of an event. */
enum event_fate {
	EVENT_STORED,    /* committed */
	EVENT_DUPLICATE, /* its key was there already */
	EVENT_DEAD,      /* dead letter committed */
	EVENT_RETURNED,  /* given back untouched (stop): it may be given to somebody else */
};

struct event_source {
	/* Called from the loop after COMMIT. The events are borrowed. */
	void (*settled)(struct event_source *s, struct event *const *events,
	                const enum event_fate *fates, size_t n);
};

/* err is ERR_OK when all n events are durable. ERR_CLOSED and ERR_TIMEOUT: unknown. Exactly once,
 * from the loop. */
typedef void (*event_sink_done_fn)(void *arg, enum err err);

/* Where a source puts what it took: the buffer in front of the pipeline. */
struct event_inlet {
	/* How many more events it takes now; 0 above the high-water mark until below the low one.
	 */
	size_t (*room)(const struct event_inlet *in);
	/* Takes over the caller's reference on ERR_OK. ERR_FULL, ERR_CLOSED (stopping): still the
	 * caller's. A full inlet still takes what was asked for while it had room, as long as the
	 * process's memory bound holds. */
	enum err (*put)(struct event_inlet *in, struct event *e) MUST_CHECK;
	/* One listener, called from the loop when there is room again. */
	void (*on_room)(struct event_inlet *in, void (*fn)(void *arg), void *arg);
	/* For sources that stop waiting: takes an event out that put() took and nobody settled yet;
	 * the reference is the caller's then. False when it is in a batch already, which will
	 * settle it. */
	bool (*remove)(struct event_inlet *in, struct event *e);
};

struct event_sink {
	/* Takes all n events or none. Slices are borrowed for the call. Not ERR_OK: `done` will not
	 * fire; ERR_FULL (bound reached), ERR_UNAVAILABLE, ERR_NOMEM. */
	enum err (*append)(struct event_sink *s, const struct event_view *events, size_t n,
	                   event_sink_done_fn done, void *arg) MUST_CHECK;
	/* Seconds that a refused sender should wait, from lag and drain rate; at least 1. */
	unsigned (*retry_after)(const struct event_sink *s);
};

#endif
