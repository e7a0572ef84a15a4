/* Pages of pending entries: our own ones, and those that are taken over from idle consumers.
 * Neither XREADGROUP nor XAUTOCLAIM tells how often an entry was delivered, and of an entry that
 * was delivered too often the content must not even be read here before it runs alone. So both are
 * scripts that look into XPENDING, and name such entries by their ids only. */
#ifndef WEIR_QUEUE_STREAM_PAGE_H
#define WEIR_QUEUE_STREAM_PAGE_H

#include "weir/base/err.h"
#include "weir/base/str.h"
#include "weir/queue/stream_names.h"

struct redis_reply;
struct stream_alone;
struct stream_intake;

/* KEYS: stream. ARGV: group, consumer, id behind which to go on, count, deliveries allowed. */
extern const char stream_page_own[];
/* KEYS: stream. ARGV: group, consumer, milliseconds idle, cursor, count, deliveries allowed. */
extern const char stream_page_claim[];

/* A reply of theirs; borrowed from it. */
struct stream_page {
	struct str cursor; /* where to go on; own: empty when there was nothing */
	const struct redis_reply *entries;
	const struct redis_reply
	    *deleted;                    /* ids that were pending and are no longer in the stream */
	const struct redis_reply *often; /* ids that were delivered too often */
};

enum err stream_page_read(const struct redis_reply *reply, struct stream_page *ret) MUST_CHECK;
/* Entries to the intake, ids to the lane, the deleted ones are counted as lost. ERR_FULL, ERR_NOMEM
 * and ERR_CLOSED: some of it was not taken and stays pending. */
enum err stream_page_take(const struct stream_page *p, enum stream_which stream,
                          struct stream_intake *k, struct stream_alone *a) MUST_CHECK;

#endif
