/* Commands that wait for their replies, in order: a ring without an allocation per command. Private
 * to io/redis. */
#ifndef WEIR_IO_REDIS_PENDING_H
#define WEIR_IO_REDIS_PENDING_H

#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/io/redis.h"

enum pending_kind {
	PENDING_COMMAND,   /* its reply is the user's */
	PENDING_MULTI,     /* MULTI of a transaction */
	PENDING_PART,      /* a command inside it: +QUEUED */
	PENDING_EXEC,      /* its reply is the user's */
	PENDING_HANDSHAKE, /* AUTH or SELECT: must be OK */
	PENDING_NAME,      /* CLIENT SETNAME: may be refused */
	PENDING_ROLE,      /* ROLE: must be no replica's; may be refused */
	PENDING_PING,      /* must be OK, or NOPERM: so commands are executed */
};

struct pending {
	enum pending_kind kind;
	redis_reply_fn fn;
	void *arg;
	usec_t deadline; /* monotonic */
};

struct pending_ring {
	struct pending *slots; /* owned; a power of two of them */
	size_t space, head, count, max;
};

void pending_init(struct pending_ring *r, size_t max);
void pending_done(struct pending_ring *r);
/* Room for n more: ERR_FULL past the maximum, ERR_NOMEM. */
enum err pending_reserve(struct pending_ring *r, size_t n) MUST_CHECK;
void pending_push(struct pending_ring *r, const struct pending *p); /* after a reserve */
struct pending *pending_front(struct pending_ring *r);              /* NULL when empty */
void pending_pop(struct pending_ring *r);
/* Runs the completion of a command that got no reply. */
void pending_tell(const struct pending *p, enum err e);
usec_t pending_next_deadline(const struct pending_ring *r); /* USEC_NEVER when empty */

#endif
