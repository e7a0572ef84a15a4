/* Hot state: the counters of message batches as Redis hashes, `message_batch:ID` under the key
 * prefix, with the field names of weir.message_batches, to be read at high rate. They follow the
 * database after each commit, decide nothing, expire, and may be deleted at any time: the next
 * change of the batch writes them anew. */
#ifndef WEIR_PIPELINE_RECIPIENT_COUNTERS_H
#define WEIR_PIPELINE_RECIPIENT_COUNTERS_H

#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"

struct metric_registry;
struct pg_result;
struct recipient_counters;
struct redis;

/* The hash's fields besides `version`, columns of weir.message_batches; X(name). */
#define MESSAGE_BATCH_FIELDS(X) \
	X("tool")               \
	X("total")              \
	X("expected")           \
	X("queued")             \
	X("sent")               \
	X("deferred")           \
	X("delivered")          \
	X("opened")             \
	X("clicked")            \
	X("bounced")            \
	X("failed")             \
	X("complained")         \
	X("unsubscribed")       \
	X("unique_recipients")  \
	X("finished")           \
	X("created_at")         \
	X("completed_at")

struct recipient_counters_options {
	struct redis *redis; /* borrowed, as all pointers here; NULL: nothing is kept there */
	const char *prefix;  /* of keys */
	struct metric_registry *metrics;
	usec_t ttl; /* how long a hash stays after the latest change of its batch */
};

enum err recipient_counters_new(const struct recipient_counters_options *o,
                                struct recipient_counters **ret) MUST_CHECK;
/* Redis is freed: nothing is written any more. */
void recipient_counters_close(struct recipient_counters *c);
void recipient_counters_free(struct recipient_counters *c);

/* `changed` is the answer to recipient_writer's call, after the commit. Never fails: what could not
 * be written is counted. */
void recipient_counters_write(struct recipient_counters *c, const struct pg_result *changed);

#endif
