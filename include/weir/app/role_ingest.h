/* The role `ingest`: receiver in front of the queue's producer. */
#ifndef WEIR_APP_ROLE_INGEST_H
#define WEIR_APP_ROLE_INGEST_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/err.h"
#include "weir/base/str.h"

struct adapter_metrics;
struct conf;
struct direct;
struct durability;
struct health;
struct loop;
struct metric_registry;
struct receiver;
struct redis;
struct resolver;
struct role_ingest;
struct stream_watch;
struct tools;

struct role_ingest_options {
	struct loop *loop; /* borrowed, like all here */
	struct resolver *resolver;
	struct metric_registry *metrics;
	struct adapter_metrics *adapters;
	const struct conf *conf;
	const struct tools *(*tools)(void *arg);           /* the set in force */
	bool (*may_exist)(void *tools_arg, struct str id); /* see receiver.h */
	void *tools_arg;
};

enum err role_ingest_new(const struct role_ingest_options *o, struct role_ingest **ret) MUST_CHECK;
/* The way around the queue, of the worker in this process; to be given before the start. The role
 * lets go of it when it is freed. */
void role_ingest_set_direct(struct role_ingest *r, struct direct *d);
/* What Redis is known to do with what it is given; has to outlive the role. */
void role_ingest_set_durability(struct role_ingest *r, const struct durability *d);
void role_ingest_start(struct role_ingest *r);
void role_ingest_free(struct role_ingest *r);

bool role_ingest_can_take(const struct role_ingest *r, const char **ret_reason);
bool role_ingest_idle(const struct role_ingest *r);   /* no sender waits for its answer */
bool role_ingest_direct(const struct role_ingest *r); /* events go around the queue now */
struct receiver *role_ingest_receiver(struct role_ingest *r);
struct stream_watch *role_ingest_watch(struct role_ingest *r); /* NULL without a queue */
struct redis *role_ingest_redis(struct role_ingest *r);        /* likewise */
enum err role_ingest_add_health(struct role_ingest *r, struct health *h) MUST_CHECK;

#endif
