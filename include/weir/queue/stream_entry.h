/* A stream entry: an event as fields of XADD, and back. Fields (format version 1):
 *
 *   v version, u uid as text, t tool, y event type, k event id, r received time in Unix µs,
 *   h kept request headers (JSON), c content type, p traceparent, b body, n envelope,
 *   d how an event without id is deduplicated: "none", or the window in ms,
 *   s hash of what counts of the body where not all of it does (struct event_view's `content`),
 *   m marks, a letter each: r EVENT_MARK_REPORTS, x EVENT_MARK_GIVEN_UP,
 *   w since when it waits for a worker that knows its tool, Unix ms (stream_park.h)
 *
 * Empty values of k, h, c, p, n, s and m are left out, and so is d where there is an id or the
 * window is the default: without it that one holds, whatever the reader knows of the tool. Unknown
 * fields are skipped when reading, so that a newer weir may add some. */
#ifndef WEIR_QUEUE_STREAM_ENTRY_H
#define WEIR_QUEUE_STREAM_ENTRY_H

#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"
#include "weir/base/str.h"
#include "weir/model/event.h"

struct redis_reply;

#define STREAM_ENTRY_ARGS  29     /* XADD key * and thirteen fields: k and d are never both */
#define STREAM_ENTRY_LARGE 262144 /* bytes; for scripts too */
#define STREAM_ID_TEXT     42

struct stream_id {
	uint64_t ms, seq;
};

/* The texts that an entry's argv points to. */
struct stream_entry_scratch {
	char uid[UUID_TEXT_LEN + 1];
	char received[24];
	char window[24];
};

/* Fills argv (STREAM_ENTRY_ARGS places) with an XADD to `key`; returns the number of arguments. All
 * slices point into the event, the scratch and literals. */
size_t stream_entry_argv(const struct event_view *v, struct str key, struct stream_entry_scratch *s,
                         struct str *argv);
size_t stream_entry_bytes(const struct event_view *v); /* about what it takes in Redis */

/* One element of XREADGROUP's or XAUTOCLAIM's list: [id, [field, value, …]]. The view's slices
 * point into the reply. ERR_NOTFOUND: the entry was deleted (its fields are nil); ERR_INVAL: it is
 * none of ours. `ret_id` is written whenever the id itself is readable. */
enum err stream_entry_read(const struct redis_reply *entry, struct stream_id *ret_id,
                           struct event_view *ret_view) MUST_CHECK;

/* An event that stands for an entry that is none of ours (ERR_INVAL above), its fields as JSON in
 * the body, so that it can be a dead letter. The same entry gives the same uid. */
enum err stream_entry_make_malformed(const struct redis_reply *entry, struct stream_id id,
                                     struct event **ret) MUST_CHECK;

enum err stream_id_parse(struct str s, struct stream_id *ret) MUST_CHECK;
size_t stream_id_format(struct stream_id id, char out[STREAM_ID_TEXT]);

#endif
