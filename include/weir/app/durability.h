/* The durability audit: asks Redis and Postgres how they are set up, at the start, after every
 * reconnect and once a minute. Keeps a gauge for each finding and one over all, logs each change,
 * and has a component on the health page. serve, and check-config with its own short loop, use it.
 */
#ifndef WEIR_APP_DURABILITY_H
#define WEIR_APP_DURABILITY_H

#include <stdbool.h>

#include "weir/app/durability_rules.h"
#include "weir/app/migrate.h"
#include "weir/base/err.h"

struct durability;
struct health;
struct loop;
struct metric_registry;
struct pg_pool;
struct redis;

struct durability_options {
	struct loop *loop;               /* borrowed, like all here */
	struct metric_registry *metrics; /* NULL: no gauges, no log */
	struct redis *redis;             /* NULL: this process uses none */
	struct pg_pool *pool;            /* likewise */
	const struct migration *migrations;
	/* Each time that the schema was looked at; `text` names both versions. May be NULL. */
	void (*on_schema)(void *arg, enum migrate_state s, const char *text);
	void *arg;
};

enum err durability_new(const struct durability_options *o, struct durability **ret) MUST_CHECK;
void durability_start(struct durability *d);
void durability_stop(struct durability *d);
/* After the adapters (freeing them runs the completions that are due). NULL is fine. */
void durability_free(struct durability *d);

/* Whether that server has been asked; true where there is none. */
bool durability_knows_redis(const struct durability *d);
bool durability_knows_pg(const struct durability *d);
/* Redis is known to sync its append-only file before it answers. */
bool durability_redis_syncs(const struct durability *d);
/* DURABILITY_COUNT of them, of meaning for servers that there are. */
const struct durability_finding *durability_findings(const struct durability *d);
enum err durability_add_health(struct durability *d, struct health *h) MUST_CHECK;

#endif
