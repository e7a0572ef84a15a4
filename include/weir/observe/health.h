/* Health: what the last probes said. Probes run on a timer (a second); a request reads their last
 * result and waits for nothing. */
#ifndef WEIR_OBSERVE_HEALTH_H
#define WEIR_OBSERVE_HEALTH_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/buf.h"
#include "weir/base/err.h"

struct health;
struct loop;
struct metric_registry;
struct pg_pool;
struct process_watch;
struct redis;

enum health_state { HEALTH_UNKNOWN, HEALTH_HEALTHY, HEALTH_DEGRADED, HEALTH_UNHEALTHY };
const char *health_state_name(enum health_state s);

/* A component that is looked at, not asked: `report` reads memory only and adds the members of its
 * "details" object, without braces. */
struct health_component {
	const char *name;
	enum health_state (*report)(void *arg, struct buf *details);
	void *arg;
};

struct health_options {
	struct loop *loop; /* borrowed, like all here */
	struct metric_registry *metrics;
	struct process_watch *process;
	const char *service_name;
	const char *mode;
	/* Whether events can be taken now; if not, *ret_reason says why (static text). */
	bool (*can_take)(void *arg, const char **ret_reason);
	size_t (*active_requests)(void *arg);
	void *arg;
};

enum err health_new(const struct health_options *o, struct health **ret) MUST_CHECK;
void health_free(struct health *h);
enum err health_start(struct health *h) MUST_CHECK;
/* Ends the probes; call it before the adapters are freed. */
void health_stop(struct health *h);

/* Each at most once; the adapters are borrowed. */
void health_watch_database(struct health *h, struct pg_pool *pool);
void health_watch_redis(struct health *h, struct redis *redis);
/* At most 16. */
enum err health_add(struct health *h, const struct health_component *c) MUST_CHECK;
void health_set_draining(struct health *h);
bool health_draining(const struct health *h);
bool health_database_up(const struct health *h);

/* JSON bodies; *ret_status is 200 or 503. */
enum err health_render(struct health *h, struct buf *out, int *ret_status) MUST_CHECK;
enum err health_render_ready(struct health *h, struct buf *out, int *ret_status) MUST_CHECK;
/* GET / */
enum err health_render_service(struct health *h, struct buf *out) MUST_CHECK;

#endif
