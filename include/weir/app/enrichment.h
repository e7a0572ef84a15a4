/* Builds what enriches the worker's batches: the look-up's backend as the settings say, and the
 * enricher on it. */
#ifndef WEIR_APP_ENRICHMENT_H
#define WEIR_APP_ENRICHMENT_H

#include "weir/base/err.h"

struct conf;
struct deduplicator;
struct enricher;
struct enrichment;
struct health;
struct loop;
struct metric_registry;
struct pg_pool;
struct redis;
struct resolver;

struct enrichment_options {
	struct loop *loop; /* borrowed, like all here */
	struct resolver *resolver;
	struct metric_registry *metrics;
	const struct conf *conf;
	struct pg_pool *pool;
	struct deduplicator *deduplicator; /* knows the database's epoch */
	struct redis *redis;               /* NULL: there is no cache */
};

enum err enrichment_new(const struct enrichment_options *o, struct enrichment **ret) MUST_CHECK;
/* Ends ClickHouse's connections; what was asked is told before this returns. To be called while the
 * pool and the batches stand. NULL is fine. */
void enrichment_close(struct enrichment *e);
/* After Redis, the pool and the batches were freed. NULL is fine. */
void enrichment_free(struct enrichment *e);

struct enricher *enrichment_enricher(struct enrichment *e); /* borrowed */
enum err enrichment_add_health(struct enrichment *e, struct health *h) MUST_CHECK;

#endif
