/* The ingest role has Redis connections of its own: nothing that a worker does on Redis may
 * stand between a sender and its answer. */
#include "weir/app/role_ingest.h"

#include "weir/app/adapter_metrics.h"
#include "weir/app/connect.h"
#include "weir/app/queue_health.h"
#include "weir/base/mem.h"
#include "weir/queue/stream_names.h"
#include "weir/queue/stream_producer.h"
#include "weir/queue/stream_watch.h"
#include "weir/receive/receiver.h"
#include "weir/run/conf.h"

/* With less room than this the next request may be refused: say so before. */
#define ROOM_WANTED (64 * 1024)

/* See stream_producer.c. The first one also looks at the queue. */
#define CONNECTIONS 2
static const char *const connection_names[CONNECTIONS] = {"producer", "producer-2"};

struct role_ingest {
	struct role_ingest_options o;
	struct stream_names names;
	struct redis *redis[CONNECTIONS]; /* owned, like all below */
	struct stream_watch *watch;
	struct stream_producer *producer;
	struct receiver *receiver;
};

static enum err make_queue(struct role_ingest *r)
{
	const struct conf *c = r->o.conf;
	struct redis_options ro;
	struct stream_watch_options wo = {.loop = r->o.loop,
	                                  .names = &r->names,
	                                  .metrics = r->o.metrics,
	                                  .max_bytes = c->queue_max_bytes};
	struct stream_producer_options po = {.loop = r->o.loop, .names = &r->names};
	enum err e = ERR_OK;

	for (size_t i = 0; i < CONNECTIONS && e == ERR_OK; i++) {
		connect_redis_options(c, connection_names[i], &ro);
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

enum err role_ingest_new(const struct role_ingest_options *o, struct role_ingest **ret)
{
	struct role_ingest *r = mem_zalloc(sizeof(*r));
	struct receiver_options ro = {.tools = o->tools,
	                              .tools_arg = o->tools_arg,
	                              .metrics = o->metrics,
	                              .max_body = o->conf->max_body_size};
	enum err e;

	if (!r)
		return ERR_NOMEM;
	r->o = *o;
	e = stream_names_init(&r->names, o->conf->redis_key_prefix, o->conf->webhook_stream,
	                      o->conf->webhook_group, "");
	if (e == ERR_OK)
		e = make_queue(r);
	if (e == ERR_OK) {
		ro.sink = stream_producer_sink(r->producer);
		e = receiver_new(&ro, &r->receiver);
	}
	if (e != ERR_OK) {
		role_ingest_free(r);
		return e;
	}
	*ret = r;
	return ERR_OK;
}

void role_ingest_start(struct role_ingest *r)
{
	for (size_t i = 0; i < CONNECTIONS; i++)
		redis_start(r->redis[i]);
	stream_watch_start(r->watch);
}

void role_ingest_free(struct role_ingest *r)
{
	if (!r)
		return;
	if (r->watch)
		stream_watch_stop(r->watch);
	for (size_t i = 0; i < CONNECTIONS; i++)
		redis_free(r->redis[i]);
	receiver_free(r->receiver);
	stream_producer_free(r->producer);
	stream_watch_free(r->watch);
	stream_names_done(&r->names);
	mem_free(r);
}

bool role_ingest_can_take(const struct role_ingest *r, const char **ret_reason)
{
	struct stream_figures f;

	if (!stream_producer_up(r->producer)) {
		*ret_reason = "Redis does not take events";
		return false;
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
	return stream_producer_in_flight(r->producer) == 0 && receiver_in_flight(r->receiver) == 0;
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

enum err role_ingest_add_health(struct role_ingest *r, struct health *h)
{
	return queue_health_add(h, r->watch);
}
