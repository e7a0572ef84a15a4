/* Hot state: the counters of message batches as Redis hashes, `message_batch:ID` under the key
 * prefix, with the field names of weir.message_batches, to be read at high rate. They follow the
 * database, decide nothing, and expire.
 *
 * After each commit of delivery reports the worker writes the batches that changed. What others
 * change (registrations, deletions) and what could not be written is made up for: within about a
 * second, or as soon as database and Redis are there. */
#ifndef WEIR_PIPELINE_RECIPIENT_COUNTERS_H
#define WEIR_PIPELINE_RECIPIENT_COUNTERS_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"

struct loop;
struct metric_registry;
struct pg_pool;
struct pg_result;
struct recipient_counters;
struct redis;

/* The hash's fields besides `version`, columns of weir.message_batches; X(name). */
#define MESSAGE_BATCH_FIELDS(X) \
	X("id")                 \
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
	struct loop *loop;   /* borrowed, as all pointers here */
	struct redis *redis; /* NULL: nothing is kept there */
	struct pg_pool *pool;
	const char *prefix; /* of keys */
	struct metric_registry *metrics;
	usec_t ttl;               /* how long a hash stays after the latest change of its batch */
	usec_t look;              /* how often others' changes are looked for; 0: every second */
	bool (*ready)(void *arg); /* whether the database can be asked now */
	void *arg;
};

enum err recipient_counters_new(const struct recipient_counters_options *o,
                                struct recipient_counters **ret) MUST_CHECK;
void recipient_counters_start(struct recipient_counters *c);
/* No more catching up. What is committed is still written. */
void recipient_counters_stop(struct recipient_counters *c);
/* Redis is freed: nothing is written any more. NULL is fine. */
void recipient_counters_close(struct recipient_counters *c);
void recipient_counters_free(struct recipient_counters *c); /* after pg_pool_free() */

/* Redis is there again, or it is not. */
void recipient_counters_on_redis(struct recipient_counters *c, bool up);
/* Nothing that was committed waits for Redis. */
bool recipient_counters_idle(const struct recipient_counters *c);

/* `changed` is the answer to recipient_writer's call, after the commit. Never fails: what could not
 * be written is counted, and made up for. */
void recipient_counters_write(struct recipient_counters *c, const struct pg_result *changed);

#endif
