/* The role `ingest`: receiver in front of the queue's producer. */
#ifndef WEIR_APP_ROLE_INGEST_H
#define WEIR_APP_ROLE_INGEST_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/err.h"

struct adapter_metrics;
struct conf;
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
	const struct tools *(*tools)(void *arg); /* the set in force */
	void *tools_arg;
};

enum err role_ingest_new(const struct role_ingest_options *o, struct role_ingest **ret) MUST_CHECK;
void role_ingest_start(struct role_ingest *r);
void role_ingest_free(struct role_ingest *r);

bool role_ingest_can_take(const struct role_ingest *r, const char **ret_reason);
bool role_ingest_idle(const struct role_ingest *r); /* nothing waits for the queue's confirmation */
struct receiver *role_ingest_receiver(struct role_ingest *r);
struct stream_watch *role_ingest_watch(struct role_ingest *r);
struct redis *role_ingest_redis(struct role_ingest *r);
enum err role_ingest_add_health(struct role_ingest *r, struct health *h) MUST_CHECK;

#endif
