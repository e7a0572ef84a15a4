/* The role `worker`: the queue's consumer, the buffer, the batches, and the schema's maintenance.
 */
#ifndef WEIR_APP_ROLE_WORKER_H
#define WEIR_APP_ROLE_WORKER_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/err.h"

struct adapter_metrics;
struct conf;
struct direct;
struct health;
struct loop;
struct metric_registry;
struct pg_pool;
struct redis;
struct resolver;
struct role_worker;
struct stream_watch;
struct tools;

struct role_worker_options {
	struct loop *loop; /* borrowed, like all here */
	struct resolver *resolver;
	struct metric_registry *metrics;
	struct adapter_metrics *adapters;
	const struct conf *conf;
	const struct tools *(*tools)(void *arg); /* the set in force */
	void *tools_arg;
	/* Whether the database answers: nobody claims others' entries while it does not. */
	bool (*database_up)(void *arg);
	/* Whether the schema was seen to fit; before that nothing is taken from the queue. */
	bool (*schema_fits)(void *arg);
	void *database_arg;
	struct stream_watch *watch; /* another role's look at the queue; NULL: one of our own */
};

enum err role_worker_new(const struct role_worker_options *o, struct role_worker **ret) MUST_CHECK;
enum err role_worker_start(struct role_worker *r) MUST_CHECK;
/* Another set of tools is in force. `arg` points to where the role's pointer is, or NULL. */
void role_worker_on_tools(void *arg);
/* Stops reading, commits what is buffered, acknowledges it. role_worker_idle() says when all of it
 * is done. What is not committed by then stays in the queue. */
void role_worker_stop(struct role_worker *r);
/* The time is over: what is held is left to other processes, without their waiting for it to look
 * idle, and senders that wait for the database are told that it was in vain. The loop turns a
 * little longer, so that Redis and they hear of it. */
void role_worker_let_go(struct role_worker *r);
bool role_worker_idle(const struct role_worker *r);
void role_worker_free(struct role_worker *r);

struct pg_pool *role_worker_pool(struct role_worker *r);
struct redis *role_worker_redis(struct role_worker *r); /* NULL: none is used */
/* The way around the queue; lives as long as the role. */
struct direct *role_worker_direct(struct role_worker *r);
enum err role_worker_add_health(struct role_worker *r, struct health *h) MUST_CHECK;

#endif
