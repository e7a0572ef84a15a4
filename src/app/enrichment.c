/* With CLICKHOUSE_URL recipients are looked up there, else in weir.recipients. */
#include "weir/app/enrichment.h"

#include "weir/base/mem.h"
#include "weir/io/clickhouse.h"
#include "weir/observe/health.h"
#include "weir/pipeline/deduplicator.h"
#include "weir/pipeline/enricher.h"
#include "weir/pipeline/recipient_lookup.h"
#include "weir/run/conf.h"
#include "weir/run/log.h"

struct enrichment {
	struct clickhouse *clickhouse;   /* owned; NULL: Postgres is asked */
	struct recipient_lookup *lookup; /* owned */
	struct enricher *enricher;       /* owned */
};

static enum err use_clickhouse(struct enrichment *e, const struct enrichment_options *o)
{
	const struct conf *c = o->conf;
	struct clickhouse_options co = {.resolver = o->resolver,
	                                .url = c->clickhouse_url,
	                                .ca_file = c->clickhouse_ca_file,
	                                .max_queries = (size_t)c->clickhouse_max_queries};
	struct recipient_columns columns = {.table = c->clickhouse_table,
	                                    .message_id = c->clickhouse_message_id_column,
	                                    .recipient_id = c->clickhouse_recipient_id_column,
	                                    .address = c->clickhouse_address_column,
	                                    .tool = c->clickhouse_tool_column};
	struct err_info info = {0};
	enum err err = clickhouse_new(o->loop, &co, &e->clickhouse, &info);

	if (err != ERR_OK)
		log_error(LOG_APP, "CLICKHOUSE_URL cannot be used", LOG_STR("detail", info.text));
	else
		err = recipient_lookup_clickhouse_new(o->loop, e->clickhouse, &columns, &e->lookup);
	return err;
}

/* Ids of weir.recipients belong to one database in one course of its life. */
static const char *epoch_of_database(void *arg)
{
	return deduplicator_epoch(arg);
}

enum err enrichment_new(const struct enrichment_options *o, struct enrichment **ret)
{
	const struct conf *c = o->conf;
	struct enricher_options eo = {.loop = o->loop,
	                              .redis = o->redis,
	                              .metrics = o->metrics,
	                              .key_prefix = c->redis_key_prefix,
	                              .timeout = c->clickhouse_lookup_timeout,
	                              .found_ttl = c->enrich_cache_ttl,
	                              .unknown_ttl = c->enrich_cache_unknown_ttl,
	                              .max_keys = (size_t)c->enrich_cache_max_keys};
	struct enrichment *e = mem_zalloc(sizeof(*e));
	enum err err;

	if (!e)
		return ERR_NOMEM;
	err = c->clickhouse_url[0] ? use_clickhouse(e, o)
	                           : recipient_lookup_pg_new(o->pool, &e->lookup);
	eo.lookup = e->lookup;
	if (!c->clickhouse_url[0]) {
		eo.epoch = epoch_of_database;
		eo.epoch_arg = o->deduplicator;
	}
	if (err == ERR_OK)
		err = enricher_new(&eo, &e->enricher);
	if (err != ERR_OK) {
		enrichment_close(e);
		enrichment_free(e);
		return err;
	}
	*ret = e;
	return ERR_OK;
}

void enrichment_close(struct enrichment *e)
{
	if (!e)
		return;
	clickhouse_free(e->clickhouse);
	e->clickhouse = NULL;
}

void enrichment_free(struct enrichment *e)
{
	if (!e)
		return;
	enricher_free(e->enricher);
	if (e->lookup)
		e->lookup->free(e->lookup);
	mem_free(e);
}

struct enricher *enrichment_enricher(struct enrichment *e)
{
	return e->enricher;
}

static enum health_state report(void *arg, struct buf *details)
{
	struct enrichment *e = arg;

	return enricher_report(e->enricher, details) ? HEALTH_HEALTHY : HEALTH_DEGRADED;
}

enum err enrichment_add_health(struct enrichment *e, struct health *h)
{
	return health_add(h, &(struct health_component){"enricher", report, e});
}
