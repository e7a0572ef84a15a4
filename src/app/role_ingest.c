/* The ingest role has Redis connections of its own: nothing that a worker does on Redis may
 * stand between a sender and its answer. Without a queue it has none, and all events go the
 * direct way. */
#include "weir/app/role_ingest.h"

#include "weir/app/adapter_metrics.h"
#include "weir/app/connect.h"
#include "weir/app/durability.h"
#include "weir/app/queue_health.h"
#include "weir/base/mem.h"
#include "weir/io/http_client.h"
#include "weir/queue/direct.h"
#include "weir/queue/failover.h"
#include "weir/queue/stream_names.h"
#include "weir/queue/stream_producer.h"
#include "weir/queue/stream_watch.h"
#include "weir/observe/health.h"
#include "weir/receive/cert_store.h"
#include "weir/receive/receiver.h"
#include "weir/run/conf.h"
#include "weir/run/log.h"

/* With less room than this the next request may be refused: say so before. */
#define ROOM_WANTED (64 * 1024)

/* See stream_producer.c. The first one also looks at the queue. */
#define CONNECTIONS 2
#define GATHER      (8 * 1024) /* half of what Redis reads at a time: measured */
/* At once, and waiting for their turn. */
#define FETCHES             8
#define MAX_FETCHES_WAITING 64

static const char *const connection_names[CONNECTIONS] = {"producer", "producer-2"};

struct role_ingest {
	struct role_ingest_options o;
	struct stream_names names;
	struct redis *redis[CONNECTIONS]; /* owned, like all below; NULL without a queue */
	struct stream_watch *watch;       /* likewise */
	struct stream_producer *producer; /* likewise */
	struct failover *failover;
	struct http_client *http; /* for what requests name: certificates, subscriptions */
	struct cert_store *certs;
	struct receiver *receiver;
	struct direct *direct;               /* borrowed; NULL: no worker in this process */
	const struct durability *durability; /* borrowed; NULL: not known */
};

static bool redis_syncs(void *arg)
{
	const struct role_ingest *r = arg;

	return r->durability && durability_redis_syncs(r->durability);
}

static enum err make_queue(struct role_ingest *r)
{
	const struct conf *c = r->o.conf;
	struct redis_options ro;
	struct stream_watch_options wo = {.loop = r->o.loop,
	                                  .names = &r->names,
	                                  .metrics = r->o.metrics,
	                                  .max_bytes = c->queue_max_bytes};
	struct stream_producer_options po = {
	    .loop = r->o.loop, .names = &r->names, .syncs = redis_syncs, .arg = r};
	enum err e = ERR_OK;

	for (size_t i = 0; i < CONNECTIONS && e == ERR_OK; i++) {
		connect_redis_options(c, connection_names[i], &ro);
		ro.gather = GATHER;
		e = redis_new(r->o.loop, r->o.resolver, &ro, NULL, NULL, &r->redis[i]);
		if (e == ERR_OK)
			adapter_metrics_add_redis(r->o.adapters, ro.name, r->redis[i]);
	}
	wo.redis = r->redis[0];
	po.redis = r->redis;
	po.redis_count = CONNECTIONS;
	if (e == ERR_OK)
		e = stream_watch_new(&wo, &r->watch);
	po.watch = r->watch;
	if (e == ERR_OK)
		e = stream_producer_new(&po, &r->producer);
	return e;
}

static bool queue_up(void *arg)
{
	struct role_ingest *r = arg;

	return stream_producer_up(r->producer);
}

static enum err probe_queue(void *arg, event_sink_done_fn done, void *done_arg)
{
	struct role_ingest *r = arg;

	return stream_producer_probe(r->producer, done, done_arg);
}

static bool direct_up(void *arg)
{
	struct role_ingest *r = arg;

	return r->direct && direct_can_store(r->direct);
}

static enum err make_failover(struct role_ingest *r)
{
	struct failover_options o = {.loop = r->o.loop,
	                             .queue =
	                                 r->producer ? stream_producer_sink(r->producer) : NULL,
	                             .metrics = r->o.metrics,
	                             .queue_up = queue_up,
	                             .probe = probe_queue,
	                             .direct_up = direct_up,
	                             .arg = r};

	return failover_new(&o, &r->failover);
}

static enum err make_fetching(struct role_ingest *r)
{
	struct http_client_options ho = {.resolver = r->o.resolver,
	                                 .max_active = FETCHES,
	                                 .max_waiting = MAX_FETCHES_WAITING,
	                                 .connect_timeout = CERT_STORE_DEADLINE,
	                                 .ca_file = r->o.conf->fetch_ca_file};
	struct cert_store_options co = {.metrics = r->o.metrics,
	                                .ca_file = r->o.conf->fetch_ca_file};
	enum err e = http_client_new(r->o.loop, &ho, &r->http);

	co.http = r->http;
	return e == ERR_OK ? cert_store_new(&co, &r->certs) : e;
}

enum err role_ingest_new(const struct role_ingest_options *o, struct role_ingest **ret)
{
	struct role_ingest *r = mem_zalloc(sizeof(*r));
	struct receiver_options ro = {.loop = o->loop,
	                              .tools = o->tools,
	                              .may_exist = o->may_exist,
	                              .tools_arg = o->tools_arg,
	                              .metrics = o->metrics,
	                              .trusted_proxies = o->conf->trusted_proxies,
	                              .max_body = o->conf->max_body_size,
	                              .redis_prefix = o->conf->redis_key_prefix};
	enum err e;

	if (!r)
		return ERR_NOMEM;
	r->o = *o;
	e = stream_names_init(&r->names, o->conf->redis_key_prefix, o->conf->webhook_stream,
	                      o->conf->webhook_group, "");
	if (e == ERR_OK && o->conf->webhook_queue_enabled)
		e = make_queue(r);
	if (e == ERR_OK)
		e = make_failover(r);
	if (e == ERR_OK)
		e = make_fetching(r);
	if (e == ERR_OK) {
		ro.http = r->http;
		ro.certs = r->certs;
		ro.redis = r->redis[0];
		ro.sink = failover_sink(r->failover);
		e = receiver_new(&ro, &r->receiver);
	}
	if (e != ERR_OK) {
		role_ingest_free(r);
		return e;
	}
	*ret = r;
	return ERR_OK;
}

void role_ingest_set_durability(struct role_ingest *r, const struct durability *d)
{
	r->durability = d;
}

void role_ingest_set_direct(struct role_ingest *r, struct direct *d)
{
	r->direct = d;
	failover_set_direct(r->failover, direct_sink(d));
}

void role_ingest_start(struct role_ingest *r)
{
	failover_start(r->failover);
	if (!r->producer) {
		if (!r->direct)
			log_warn(LOG_APP,
			         "no event can be taken: the queue is switched off "
			         "(WEBHOOK_QUEUE_ENABLED) and this process has no worker (ROLES)");
		return;
	}
	for (size_t i = 0; i < CONNECTIONS; i++)
		redis_start(r->redis[i]);
	stream_watch_start(r->watch);
}

void role_ingest_free(struct role_ingest *r)
{
	if (!r)
		return;
	if (r->failover)
		failover_stop(r->failover);
	if (r->direct)
		direct_close(r->direct);
	if (r->watch)
		stream_watch_stop(r->watch);
	http_client_free(r->http);
	for (size_t i = 0; i < CONNECTIONS; i++)
		redis_free(r->redis[i]);
	receiver_free(r->receiver);
	cert_store_free(r->certs);
	failover_free(r->failover);
	stream_producer_free(r->producer);
	stream_watch_free(r->watch);
	stream_names_done(&r->names);
	mem_free(r);
}

bool role_ingest_can_take(const struct role_ingest *r, const char **ret_reason)
{
	struct stream_figures f;
	bool direct = r->direct && direct_can_store(r->direct);

	if (!r->producer) {
		*ret_reason = r->direct ? "Postgres does not answer, and there is no queue"
		                        : "there is neither a queue nor a worker";
		return direct;
	}
	if (failover_direct(r->failover) || !stream_producer_up(r->producer)) {
		*ret_reason = r->direct ? "neither Redis nor Postgres takes events"
		                        : "Redis does not take events";
		return direct;
	}
	stream_watch_get(r->watch, &f);
	if (f.known && f.bytes + ROOM_WANTED > f.max_bytes) {
		*ret_reason = "the queue is full (QUEUE_MAX_BYTES)";
		return false;
	}
	return true;
}

bool role_ingest_idle(const struct role_ingest *r)
{
	return receiver_in_flight(r->receiver) == 0;
}

bool role_ingest_direct(const struct role_ingest *r)
{
	return failover_direct(r->failover);
}

struct receiver *role_ingest_receiver(struct role_ingest *r)
{
	return r->receiver;
}

struct stream_watch *role_ingest_watch(struct role_ingest *r)
{
	return r->watch;
}

struct redis *role_ingest_redis(struct role_ingest *r)
{
	return r->redis[0];
}

/* The direct way where there is a queue means that Redis is in trouble. */
static enum health_state report_ingest(void *arg, struct buf *details)
{
	struct role_ingest *r = arg;
	const char *reason = "";
	bool direct = failover_direct(r->failover);

	buf_addf(details, "\"mode\":\"%s\",\"mode_seconds\":%.3f,\"in_flight\":%zu",
	         failover_mode(r->failover), failover_seconds(r->failover),
	         receiver_in_flight(r->receiver));
	if (!role_ingest_can_take(r, &reason))
		return HEALTH_UNHEALTHY;
	return direct && r->producer ? HEALTH_DEGRADED : HEALTH_HEALTHY;
}

static enum health_state report_tools(void *arg, struct buf *details)
{
	struct role_ingest *r = arg;

	return receiver_report_silence(r->receiver, details) ? HEALTH_DEGRADED : HEALTH_HEALTHY;
}

enum err role_ingest_add_health(struct role_ingest *r, struct health *h)
{
	enum err e = health_add(
	    h, &(struct health_component){.name = "ingest", .report = report_ingest, .arg = r});

	if (e == ERR_OK)
		e = health_add(h, &(struct health_component){
		                      .name = "tools", .report = report_tools, .arg = r});
	return e == ERR_OK && r->watch ? queue_health_add(h, r->watch) : e;
}
