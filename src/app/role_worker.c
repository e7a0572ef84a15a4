/* The worker role has two Redis connections: one that blocks in reads, one for everything else.
 * Without a queue (WEBHOOK_QUEUE_ENABLED) it has no reader and nothing that reads; its events come
 * by the direct way, which it owns because its buffer is where that leads. The
 * end goes from the front to the back: no further reads, then the buffer is emptied into the
 * database, then the acknowledgements are confirmed. */
#include "weir/app/role_worker.h"

#include "weir/app/adapter_metrics.h"
#include "weir/app/connect.h"
#include "weir/app/enrichment.h"
#include "weir/app/queue_health.h"
#include "weir/base/mem.h"
#include "weir/model/tool.h"
#include "weir/observe/health.h"
#include "weir/pipeline/batch_processor.h"
#include "weir/pipeline/deduplicator.h"
#include "weir/pipeline/event_buffer.h"
#include "weir/pipeline/recipient_counters.h"
#include "weir/queue/direct.h"
#include "weir/queue/stream_acks.h"
#include "weir/queue/stream_alone.h"
#include "weir/queue/stream_claim.h"
#include "weir/queue/stream_consumer.h"
#include "weir/queue/stream_intake.h"
#include "weir/queue/stream_names.h"
#include "weir/queue/stream_park.h"
#include "weir/queue/stream_trim.h"
#include "weir/queue/stream_watch.h"
#include "weir/run/conf.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/schedule/maintenance.h"

/* A process that was silent for so many times the time after which its entries are taken is gone.
 */
#define GONE_IDLES 3
/* Of the memory bound. A read takes up to three times its bytes for a moment, and what is held is
 * there three times while it is stored: as events, as parameters, and in libpq's buffer. */
#define READ_SHARE   8
#define HELD_SHARE   8
#define READ_EIGHTHS 5 /* no read while more than this part of all memory is in use */
#define MEMORY_LOOK  (50 * USEC_PER_MSEC)
/* High-water mark: so many batches for each worker, and at least so many events. Each worker has
 * two under way, and at the low mark, three quarters, there must be one more for it until what was
 * asked for then has come. More would only leave the processor's caches before they are stored. */
#define HELD_BATCHES 4
#define HELD_MIN     3000

struct role_worker {
	struct role_worker_options o;
	struct stream_names names;
	struct redis *reader, *control; /* owned, like all below; NULL: not used */
	struct pg_pool *pool;
	struct event_buffer *buffer;
	struct deduplicator *deduplicator;
	struct recipient_counters *counters;
	struct enrichment *enrichment;
	struct batch_processor *processor;
	struct direct *direct;
	struct stream_acks *acks; /* NULL without a queue, like the next */
	struct stream_intake *intake;
	struct stream_alone *alone;
	struct stream_consumer *consumer;
	struct stream_claim *claim;
	struct stream_park *park;
	struct stream_trim *trim;
	struct stream_watch *watch; /* NULL: o.watch is another role's */
	struct maintenance *maintenance;
	struct loop_timer stop_timer;   /* waits for the last read */
	struct loop_timer memory_timer; /* reading stopped for want of memory */
	bool stopping;
};

/* ---- seams between the rooms ---- */

static void on_reader_state(void *arg, bool up)
{
	struct role_worker *r = arg;

	if (r->consumer)
		stream_consumer_on_state(r->consumer, up);
}

static void on_control_state(void *arg, bool up)
{
	struct role_worker *r = arg;

	recipient_counters_on_redis(r->counters, up);
	if (up && r->acks)
		stream_acks_retry(r->acks);
}

static void on_acked(void *arg, size_t n)
{
	struct role_worker *r = arg;

	stream_trim_acked(r->trim, n);
}

static bool connected(void *arg)
{
	struct role_worker *r = arg;

	return pg_pool_up(r->pool) && r->o.schema_fits(r->o.database_arg);
}

/* What is read when nothing is held always fits, or a large entry would never be read. */
static bool may_take(void *arg)
{
	struct role_worker *r = arg;

	if (!connected(r))
		return false;
	if (event_buffer_held(r->buffer) == 0 || mem_fits(0, READ_EIGHTHS))
		return true;
	loop_timer_set(&r->memory_timer, MEMORY_LOOK);
	return false;
}

static void on_memory_timer(void *arg)
{
	struct role_worker *r = arg;

	if (r->consumer)
		stream_consumer_kick(r->consumer);
}

static void on_pool_change(void *arg)
{
	struct role_worker *r = arg;

	batch_processor_on_pool(r->processor);
	if (r->consumer)
		stream_consumer_kick(r->consumer);
}

static bool database_answers(void *arg)
{
	struct role_worker *r = arg;

	return r->o.database_up(r->o.database_arg);
}

static bool may_claim(void *arg)
{
	struct role_worker *r = arg;

	return !r->stopping && r->o.database_up(r->o.database_arg);
}

/* Of events that came without EVENT_MARK_REPORTS: their tool reported nothing when they were
 * received, or a weir that knows no marks took them in. */
static const struct recipient_map *recipient_map_of(void *arg, struct str tool_id)
{
	struct role_worker *r = arg;
	const struct tool *t = tools_find(r->o.tools(r->o.tools_arg), tool_id);

	return t ? t->recipient : NULL;
}

static struct tool *hold_tool(void *arg, struct str tool_id)
{
	struct role_worker *r = arg;

	return tools_hold_reporting(r->o.tools(r->o.tools_arg), tool_id);
}

void role_worker_on_tools(void *arg)
{
	struct role_worker *r = *(struct role_worker **)arg;

	if (r && r->park)
		stream_park_tools_changed(r->park);
}

/* ---- building ---- */

static enum err make_servers(struct role_worker *r)
{
	const struct conf *c = r->o.conf;
	struct redis_options ro;
	struct pg_options po;
	enum err e = ERR_OK;

	connect_redis_options(c, "consumer", &ro);
	if (c->webhook_queue_enabled)
		e = redis_new(r->o.loop, r->o.resolver, &ro, on_reader_state, r, &r->reader);
	connect_redis_options(c, "control", &ro);
	if (e == ERR_OK && connect_wants_redis(c))
		e = redis_new(r->o.loop, r->o.resolver, &ro, on_control_state, r, &r->control);
	connect_pg_options(c, &po);
	if (e == ERR_OK)
		e = pg_pool_new(r->o.loop, r->o.resolver, &po, &r->pool);
	return e;
}

static size_t buffer_events(const struct conf *c)
{
	size_t held = (size_t)c->webhook_batch_size * (size_t)c->webhook_max_workers * HELD_BATCHES;

	if (c->webhook_buffer_size)
		return (size_t)c->webhook_buffer_size;
	return held > HELD_MIN ? held : HELD_MIN;
}

static enum err make_pipeline(struct role_worker *r)
{
	const struct conf *c = r->o.conf;
	size_t batch = (size_t)c->webhook_batch_size, workers = (size_t)c->webhook_max_workers;
	struct event_buffer_options bo = {.batch_size = batch,
	                                  .batch_bytes = c->webhook_batch_bytes,
	                                  .flush_interval = c->webhook_flush_interval,
	                                  .high_events = buffer_events(c),
	                                  .high_bytes = c->max_memory / HELD_SHARE};
	struct batch_processor_options po = {.loop = r->o.loop,
	                                     .pool = r->pool,
	                                     .metrics = r->o.metrics,
	                                     .max_workers = workers,
	                                     .batch_size = batch,
	                                     .quick_retries = (unsigned)c->database_update_retries,
	                                     .recipients = {recipient_map_of, r}};
	struct recipient_counters_options co = {.loop = r->o.loop,
	                                        .redis = r->control,
	                                        .pool = r->pool,
	                                        .prefix = c->redis_key_prefix,
	                                        .metrics = r->o.metrics,
	                                        .ttl = c->message_batch_ttl,
	                                        .ready = connected,
	                                        .arg = r};
	struct maintenance_options mo = {.loop = r->o.loop,
	                                 .pool = r->pool,
	                                 .metrics = r->o.metrics,
	                                 .dedup_days = (int)c->dedup_days,
	                                 .retention_days = (int)c->retention_days,
	                                 .interval = c->maintenance_interval};
	struct deduplicator_options dd = {.loop = r->o.loop,
	                                  .pool = r->pool,
	                                  .redis = r->control,
	                                  .metrics = r->o.metrics,
	                                  .key_prefix = c->redis_key_prefix,
	                                  .ttl = c->webhook_dedup_ttl,
	                                  .max_keys = (size_t)c->dedup_max_keys,
	                                  .memory_keys = (size_t)c->dedup_memory_keys,
	                                  .batch_size = batch};
	struct enrichment_options eo = {.loop = r->o.loop,
	                                .resolver = r->o.resolver,
	                                .metrics = r->o.metrics,
	                                .conf = c,
	                                .pool = r->pool,
	                                .redis = r->control};
	enum err e = event_buffer_new(r->o.loop, &bo, &r->buffer);

	if (e == ERR_OK)
		e = deduplicator_new(&dd, &r->deduplicator);
	eo.deduplicator = r->deduplicator;
	if (e == ERR_OK)
		e = enrichment_new(&eo, &r->enrichment);
	po.buffer = r->buffer;
	po.deduplicator = r->deduplicator;
	po.enricher = r->enrichment ? enrichment_enricher(r->enrichment) : NULL;
	if (e == ERR_OK)
		e = recipient_counters_new(&co, &r->counters);
	po.counters = r->counters;
	if (e == ERR_OK)
		e = batch_processor_new(&po, &r->processor);
	if (e == ERR_OK)
		e = maintenance_new(&mo, &r->maintenance);
	return e;
}

static enum err make_direct(struct role_worker *r)
{
	const struct conf *c = r->o.conf;
	struct direct_options o = {.loop = r->o.loop,
	                           .inlet = event_buffer_inlet(r->buffer),
	                           .metrics = r->o.metrics,
	                           .connected = connected,
	                           .answers = database_answers,
	                           .tool_of = hold_tool,
	                           .arg = r,
	                           .timeout = c->direct_timeout,
	                           .max_events = buffer_events(c)};

	return direct_new(&o, &r->direct);
}

static enum err make_reading(struct role_worker *r)
{
	unsigned max_deliveries = (unsigned)r->o.conf->queue_max_deliveries;
	struct stream_acks_options ao = {.loop = r->o.loop,
	                                 .redis = r->control,
	                                 .names = &r->names,
	                                 .acked = on_acked,
	                                 .arg = r};
	struct stream_intake_options io = {.inlet = event_buffer_inlet(r->buffer),
	                                   .metrics = r->o.metrics,
	                                   .may_take = may_take,
	                                   .arg = r};
	struct stream_consumer_options co = {.loop = r->o.loop,
	                                     .reader = r->reader,
	                                     .names = &r->names,
	                                     .inlet = event_buffer_inlet(r->buffer),
	                                     .metrics = r->o.metrics,
	                                     .max_deliveries = max_deliveries,
	                                     .batch = (size_t)r->o.conf->webhook_batch_size,
	                                     .read_bytes = r->o.conf->max_memory / READ_SHARE};
	struct stream_alone_options lo = {.loop = r->o.loop,
	                                  .redis = r->control,
	                                  .names = &r->names,
	                                  .metrics = r->o.metrics,
	                                  .gone_after = r->o.conf->queue_claim_idle * GONE_IDLES};
	struct stream_park_options po = {.loop = r->o.loop,
	                                 .redis = r->control,
	                                 .names = &r->names,
	                                 .metrics = r->o.metrics,
	                                 .period = r->o.conf->queue_claim_idle / 6,
	                                 .most_wait = r->o.conf->queue_tool_wait,
	                                 .tool_of = hold_tool,
	                                 .may_look = may_claim,
	                                 .arg = r};
	enum err e = stream_acks_new(&ao, &r->acks);

	if (e == ERR_OK)
		e = stream_park_new(&po, &r->park);
	io.acks = r->acks;
	io.park = r->park;
	if (e == ERR_OK)
		e = stream_intake_new(&io, &r->intake);
	co.intake = lo.intake = r->intake;
	if (e == ERR_OK)
		e = stream_alone_new(&lo, &r->alone);
	co.alone = r->alone;
	if (e == ERR_OK)
		e = stream_consumer_new(&co, &r->consumer);
	return e;
}

static enum err make_care(struct role_worker *r)
{
	struct stream_claim_options co = {.loop = r->o.loop,
	                                  .redis = r->control,
	                                  .names = &r->names,
	                                  .intake = r->intake,
	                                  .alone = r->alone,
	                                  .metrics = r->o.metrics,
	                                  .max_deliveries =
	                                      (unsigned)r->o.conf->queue_max_deliveries,
	                                  .min_idle = r->o.conf->queue_claim_idle,
	                                  .read_bytes = r->o.conf->max_memory / READ_SHARE,
	                                  .period = r->o.conf->queue_claim_idle / 6,
	                                  .may_claim = may_claim,
	                                  .arg = r};
	struct stream_trim_options to = {.loop = r->o.loop,
	                                 .redis = r->control,
	                                 .names = &r->names,
	                                 .keep = r->o.conf->queue_keep};
	struct stream_watch_options wo = {.loop = r->o.loop,
	                                  .redis = r->control,
	                                  .names = &r->names,
	                                  .metrics = r->o.metrics,
	                                  .max_bytes = r->o.conf->queue_max_bytes};
	enum err e = stream_claim_new(&co, &r->claim);

	if (e == ERR_OK && !r->o.watch)
		e = stream_watch_new(&wo, &r->watch);
	to.watch = r->watch ? r->watch : r->o.watch;
	if (e == ERR_OK)
		e = stream_trim_new(&to, &r->trim);
	return e;
}

static void watch_adapters(struct role_worker *r)
{
	if (r->reader)
		adapter_metrics_add_redis(r->o.adapters, "consumer", r->reader);
	if (r->control)
		adapter_metrics_add_redis(r->o.adapters, "control", r->control);
	adapter_metrics_set_pool(r->o.adapters, r->pool);
	if (r->acks)
		adapter_metrics_set_acks(r->o.adapters, r->acks);
}

static void on_stop_timer(void *arg);

enum err role_worker_new(const struct role_worker_options *o, struct role_worker **ret)
{
	struct role_worker *r = mem_zalloc(sizeof(*r));
	enum err e;

	if (!r)
		return ERR_NOMEM;
	r->o = *o;
	e = loop_timer_init(&r->stop_timer, o->loop, on_stop_timer, r);
	if (e == ERR_OK)
		e = loop_timer_init(&r->memory_timer, o->loop, on_memory_timer, r);
	if (e == ERR_OK)
		e = stream_names_init(&r->names, o->conf->redis_key_prefix, o->conf->webhook_stream,
		                      o->conf->webhook_group, o->conf->worker_consumer_name);
	if (e == ERR_OK)
		e = make_servers(r);
	if (e == ERR_OK)
		e = make_pipeline(r);
	if (e == ERR_OK)
		e = make_direct(r);
	if (e == ERR_OK && o->conf->webhook_queue_enabled)
		e = make_reading(r);
	if (e == ERR_OK && o->conf->webhook_queue_enabled)
		e = make_care(r);
	if (e != ERR_OK) {
		role_worker_free(r);
		return e;
	}
	watch_adapters(r);
	*ret = r;
	return ERR_OK;
}

enum err role_worker_start(struct role_worker *r)
{
	pg_pool_start(r->pool);
	deduplicator_start(r->deduplicator);
	batch_processor_start(r->processor);
	pg_pool_on_change(r->pool, on_pool_change, r);
	maintenance_start(r->maintenance);
	recipient_counters_start(r->counters);
	if (r->control)
		redis_start(r->control);
	if (!r->consumer)
		return ERR_OK;
	redis_start(r->reader);
	stream_claim_start(r->claim);
	stream_park_start(r->park);
	stream_trim_start(r->trim);
	if (r->watch)
		stream_watch_start(r->watch);
	return ERR_OK;
}

/* ---- the end ---- */

#define STOP_POLL (5 * USEC_PER_MSEC)

static void on_stop_timer(void *arg)
{
	struct role_worker *r = arg;

	if (r->consumer && !stream_consumer_idle(r->consumer)) {
		loop_timer_set(&r->stop_timer, STOP_POLL);
		return;
	}
	batch_processor_stop(r->processor, r->o.conf->shutdown_grace, NULL, NULL);
}

void role_worker_stop(struct role_worker *r)
{
	if (r->stopping)
		return;
	r->stopping = true;
	maintenance_stop(r->maintenance);
	recipient_counters_stop(r->counters);
	if (r->consumer) {
		stream_claim_stop(r->claim);
		stream_park_stop(r->park);
		stream_consumer_stop(r->consumer);
		stream_alone_stop(r->alone);
	}
	loop_timer_set(&r->stop_timer, 0);
}

void role_worker_let_go(struct role_worker *r)
{
	direct_close(r->direct);
	if (r->claim)
		stream_claim_let_go(r->claim);
}

bool role_worker_idle(const struct role_worker *r)
{
	if (!r->stopping || !batch_processor_idle(r->processor) ||
	    !recipient_counters_idle(r->counters))
		return false;
	if (!r->consumer)
		return true;
	return stream_consumer_idle(r->consumer) &&
	       (!redis_up(r->control) ||
	        (stream_acks_idle(r->acks) && stream_alone_idle(r->alone)));
}

/* Adapters first: freeing them runs the completions that are due. */
void role_worker_free(struct role_worker *r)
{
	if (!r)
		return;
	loop_timer_done(&r->stop_timer);
	loop_timer_done(&r->memory_timer);
	if (r->consumer)
		stream_consumer_stop(r->consumer);
	if (r->claim)
		stream_claim_stop(r->claim);
	if (r->park)
		stream_park_stop(r->park);
	if (r->trim)
		stream_trim_stop(r->trim);
	if (r->watch)
		stream_watch_stop(r->watch);
	if (r->maintenance)
		maintenance_stop(r->maintenance);
	if (r->deduplicator)
		deduplicator_stop(r->deduplicator);
	if (r->pool)
		pg_pool_on_change(r->pool, NULL, NULL);
	redis_free(r->reader);
	redis_free(r->control);
	recipient_counters_close(r->counters); /* commits may be told below */
	stream_alone_free(r->alone);           /* before what is left is given back */
	enrichment_close(r->enrichment);
	pg_pool_free(r->pool);
	batch_processor_free(r->processor);
	recipient_counters_free(r->counters);
	enrichment_free(r->enrichment);
	deduplicator_free(r->deduplicator);
	stream_consumer_free(r->consumer);
	event_buffer_free(r->buffer);
	direct_free(r->direct);
	stream_claim_free(r->claim);
	stream_trim_free(r->trim);
	stream_watch_free(r->watch);
	stream_intake_free(r->intake);
	stream_park_free(r->park);
	stream_acks_free(r->acks);
	maintenance_free(r->maintenance);
	stream_names_done(&r->names);
	mem_free(r);
}

/* ---- what others ask ---- */

struct pg_pool *role_worker_pool(struct role_worker *r)
{
	return r->pool;
}

struct redis *role_worker_redis(struct role_worker *r)
{
	return r->control;
}

struct direct *role_worker_direct(struct role_worker *r)
{
	return r->direct;
}

static enum health_state report_buffer(void *arg, struct buf *details)
{
	struct role_worker *r = arg;
	bool full = event_buffer_full(r->buffer);

	buf_addf(details, "\"size\":%zu,\"held\":%zu,\"held_bytes\":%zu,\"state\":\"%s\"",
	         event_buffer_count(r->buffer), event_buffer_held(r->buffer),
	         event_buffer_held_bytes(r->buffer),
	         r->stopping ? "closing"
	         : full      ? "full"
	                     : "open");
	return full ? HEALTH_DEGRADED : HEALTH_HEALTHY;
}

static enum health_state report_deduplicator(void *arg, struct buf *details)
{
	struct role_worker *r = arg;

	return deduplicator_report(r->deduplicator, details) ? HEALTH_HEALTHY : HEALTH_DEGRADED;
}

static enum health_state report_updater(void *arg, struct buf *details)
{
	struct role_worker *r = arg;
	struct batch_processor_figures f;

	batch_processor_look(r->processor, &f);
	buf_addf(details,
	         "\"state\":\"%s\",\"batches_in_flight\":%zu,\"batches_retrying\":%zu,"
	         "\"batches_per_second\":%.2f,\"events_per_second\":%.1f",
	         batch_processor_state_name(f.state), f.in_flight, f.retrying, f.batches_per_second,
	         f.events_per_second);
	if (f.state == BATCH_PROCESSOR_AWAY)
		return HEALTH_UNHEALTHY;
	return f.state == BATCH_PROCESSOR_RETRYING ? HEALTH_DEGRADED : HEALTH_HEALTHY;
}

enum err role_worker_add_health(struct role_worker *r, struct health *h)
{
	const struct health_component own[] = {{"buffer", report_buffer, r},
	                                       {"deduplicator", report_deduplicator, r},
	                                       {"database_updater", report_updater, r}};
	enum err e = enrichment_add_health(r->enrichment, h);

	for (size_t i = 0; i < sizeof(own) / sizeof(*own) && e == ERR_OK; i++)
		e = health_add(h, &own[i]);
	return e == ERR_OK && r->watch ? queue_health_add(h, r->watch) : e;
}
