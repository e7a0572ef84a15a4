/* A queue on a private redis-server: producer, and a consumer in front of an inlet of the test's
 * own, put together as the roles do. */
#ifndef WEIR_TEST_STREAM_RIG_H
#define WEIR_TEST_STREAM_RIG_H

#include "redis_rig.h"
#include "weir/base/rnd.h"
#include "weir/model/event.h"
#include "weir/model/tool.h"
#include "weir/queue/stream_acks.h"
#include "weir/queue/stream_alone.h"
#include "weir/queue/stream_claim.h"
#include "weir/queue/stream_consumer.h"
#include "weir/queue/stream_intake.h"
#include "weir/queue/stream_names.h"
#include "weir/queue/stream_park.h"
#include "weir/queue/stream_producer.h"
#include "weir/queue/stream_trim.h"
#include "weir/queue/stream_watch.h"
#include "weir/run/metric.h"

#define INLET_MAX 20000

struct inlet {
	struct event_inlet in;
	size_t room;  /* that it says it has */
	enum err err; /* what put() says */
	struct event *events[INLET_MAX];
	size_t count; /* all that ever came */
	size_t settled;
	void (*on_room)(void *arg);
	void *on_room_arg;
};

static inline size_t inlet_room(const struct event_inlet *in)
{
	const struct inlet *f = container_of(in, struct inlet, in);

	return f->room > f->count - f->settled ? f->room - (f->count - f->settled) : 0;
}

static inline enum err inlet_put(struct event_inlet *in, struct event *e)
{
	struct inlet *f = container_of(in, struct inlet, in);

	if (f->err != ERR_OK)
		return f->err;
	assert_true(f->count < INLET_MAX);
	f->events[f->count++] = e;
	return ERR_OK;
}

static inline void inlet_on_room(struct event_inlet *in, void (*fn)(void *arg), void *arg)
{
	struct inlet *f = container_of(in, struct inlet, in);

	f->on_room = fn;
	f->on_room_arg = arg;
}

/* `r.redis` is a connection for the test itself. */
struct queue {
	struct rig r;
	struct metric_registry *metrics;
	struct stream_names names;
	struct redis *to, *reader, *control;
	struct stream_watch *watch;
	struct stream_producer *producer;
	struct stream_acks *acks;
	struct stream_intake *intake;
	struct stream_alone *alone;
	struct stream_consumer *consumer;
	struct stream_claim *claim;
	struct stream_park *park;
	struct stream_trim *trim;
	struct inlet inlet;
	bool may_claim, may_take;
	struct tool *tool; /* the only one that is known; borrowed */
	size_t acked;
	size_t appended, refused, unknown; /* what became of append()s */
	size_t wanted;                     /* for conditions */
};

struct queue_options {
	const char *consumer;
	uint64_t max_bytes;
	size_t batch, room, read_bytes; /* read_bytes 0: 128 MiB */
	usec_t min_idle, keep, forget_idle, gone_after, tool_wait;
	unsigned max_deliveries; /* 0: a thousand */
	bool no_consumer;
};

static inline void on_reader_state(void *arg, bool up)
{
	struct queue *q = arg;

	if (q->consumer)
		stream_consumer_on_state(q->consumer, up);
}

static inline void on_control_state(void *arg, bool up)
{
	struct queue *q = arg;

	if (up && q->acks)
		stream_acks_retry(q->acks);
}

static inline void on_acked(void *arg, size_t n)
{
	struct queue *q = arg;

	q->acked += n;
	if (q->trim)
		stream_trim_acked(q->trim, n);
}

static inline bool may_claim(void *arg)
{
	struct queue *q = arg;

	return q->may_claim;
}

static inline bool may_take(void *arg)
{
	struct queue *q = arg;

	return q->may_take;
}

static inline struct tool *tool_of(void *arg, struct str id)
{
	struct queue *q = arg;

	return q->tool && str_eq(q->tool->id, id) ? tool_ref(q->tool) : NULL;
}

static inline void queue_open_producer(struct queue *q, const struct queue_options *o)
{
	struct redis_options ro = rig_options();
	struct loop *l = q->r.loop;

	ro.name = "producer";
	assert_int_equal(redis_new(l, q->r.resolver, &ro, NULL, NULL, &q->to), ERR_OK);
	assert_int_equal(stream_watch_new(&(struct stream_watch_options){.loop = l,
	                                                                 .redis = q->to,
	                                                                 .names = &q->names,
	                                                                 .metrics = q->metrics,
	                                                                 .max_bytes = o->max_bytes},
	                                  &q->watch),
	                 ERR_OK);
	assert_int_equal(stream_producer_new(&(struct stream_producer_options){.loop = l,
	                                                                       .redis = &q->to,
	                                                                       .redis_count = 1,
	                                                                       .names = &q->names,
	                                                                       .watch = q->watch},
	                                     &q->producer),
	                 ERR_OK);
	redis_start(q->to);
	stream_watch_start(q->watch);
}

static inline void queue_open_consumer(struct queue *q, const struct queue_options *o)
{
	struct redis_options ro = rig_options();
	struct loop *l = q->r.loop;
	struct resolver *res = q->r.resolver;
	unsigned most = o->max_deliveries ? o->max_deliveries : 1000;
	struct stream_acks_options ao = {
	    .loop = l, .names = &q->names, .acked = on_acked, .arg = q};
	struct stream_intake_options io = {
	    .inlet = &q->inlet.in, .metrics = q->metrics, .may_take = may_take, .arg = q};
	struct stream_consumer_options co = {.loop = l,
	                                     .names = &q->names,
	                                     .inlet = &q->inlet.in,
	                                     .metrics = q->metrics,
	                                     .max_deliveries = most,
	                                     .batch = o->batch ? o->batch : 500,
	                                     .read_bytes =
	                                         o->read_bytes ? o->read_bytes : 128 << 20};
	struct stream_claim_options cl = {.loop = l,
	                                  .names = &q->names,
	                                  .metrics = q->metrics,
	                                  .max_deliveries = most,
	                                  .min_idle = o->min_idle,
	                                  .read_bytes = co.read_bytes,
	                                  .period = o->min_idle ? o->min_idle / 4 : 0,
	                                  .may_claim = may_claim,
	                                  .arg = q};
	struct stream_park_options po = {.loop = l,
	                                 .names = &q->names,
	                                 .metrics = q->metrics,
	                                 .period = o->min_idle ? o->min_idle / 6 : 0,
	                                 .most_wait = o->tool_wait,
	                                 .tool_of = tool_of,
	                                 .may_look = may_claim,
	                                 .arg = q};
	struct stream_alone_options lo = {.loop = l,
	                                  .names = &q->names,
	                                  .metrics = q->metrics,
	                                  .gone_after = o->gone_after,
	                                  .first_rest = MSEC};
	struct stream_trim_options to = {.loop = l,
	                                 .names = &q->names,
	                                 .watch = q->watch,
	                                 .keep = o->keep,
	                                 .forget_idle = o->forget_idle};

	ro.name = "consumer";
	assert_int_equal(redis_new(l, res, &ro, on_reader_state, q, &q->reader), ERR_OK);
	ro.name = "control";
	assert_int_equal(redis_new(l, res, &ro, on_control_state, q, &q->control), ERR_OK);
	po.redis = ao.redis = cl.redis = to.redis = lo.redis = q->control;
	co.reader = q->reader;
	assert_int_equal(stream_acks_new(&ao, &q->acks), ERR_OK);
	assert_int_equal(stream_park_new(&po, &q->park), ERR_OK);
	io.acks = q->acks;
	io.park = q->park;
	assert_int_equal(stream_intake_new(&io, &q->intake), ERR_OK);
	co.intake = cl.intake = lo.intake = q->intake;
	assert_int_equal(stream_alone_new(&lo, &q->alone), ERR_OK);
	co.alone = cl.alone = q->alone;
	assert_int_equal(stream_consumer_new(&co, &q->consumer), ERR_OK);
	assert_int_equal(stream_claim_new(&cl, &q->claim), ERR_OK);
	assert_int_equal(stream_trim_new(&to, &q->trim), ERR_OK);
	redis_start(q->control);
	redis_start(q->reader);
	stream_claim_start(q->claim);
	stream_park_start(q->park);
	stream_trim_start(q->trim);
}

static inline struct queue *queue_open(const struct queue_options *o)
{
	struct redis_options ro = rig_options();
	struct queue *q = mem_zalloc(sizeof(*q));

	assert_non_null(q);
	rig_init(&q->r, &ro);
	q->may_claim = q->may_take = true;
	q->inlet = (struct inlet){.in = {inlet_room, inlet_put, inlet_on_room, NULL},
	                          .room = o->room ? o->room : INLET_MAX};
	assert_int_equal(metric_registry_new(&q->metrics), ERR_OK);
	assert_int_equal(stream_names_init(&q->names, "test:", "events", "workers",
	                                   o->consumer ? o->consumer : "one"),
	                 ERR_OK);
	queue_open_producer(q, o);
	if (!o->no_consumer)
		queue_open_consumer(q, o);
	return q;
}

/* As a crash would: nothing more is acknowledged. */
static inline void queue_close(struct queue *q)
{
	if (q->consumer)
		stream_consumer_stop(q->consumer);
	if (q->claim)
		stream_claim_stop(q->claim);
	if (q->park)
		stream_park_stop(q->park);
	if (q->trim)
		stream_trim_stop(q->trim);
	if (q->alone)
		stream_alone_stop(q->alone);
	stream_watch_stop(q->watch);
	redis_free(q->reader);
	redis_free(q->control);
	redis_free(q->to);
	stream_alone_free(q->alone);
	stream_consumer_free(q->consumer);
	for (size_t i = 0; i < q->inlet.count; i++)
		event_unref(q->inlet.events[i]);
	stream_claim_free(q->claim);
	stream_trim_free(q->trim);
	stream_intake_free(q->intake);
	stream_park_free(q->park);
	stream_acks_free(q->acks);
	stream_producer_free(q->producer);
	stream_watch_free(q->watch);
	stream_names_done(&q->names);
	metric_registry_free(q->metrics);
	rig_done(&q->r);
	mem_free(q);
}

/* ---- what a test does ---- */

static inline void on_appended(void *arg, enum err err)
{
	struct queue *q = arg;

	if (err == ERR_OK)
		q->appended++;
	else if (err == ERR_FULL || err == ERR_UNAVAILABLE)
		q->refused++;
	else
		q->unknown++;
}

static inline enum err append(struct queue *q, const char *id, size_t body_len, size_t n)
{
	static char body[1 << 20];
	struct event_sink *s = stream_producer_sink(q->producer);
	struct event_view v[8];

	if (!body[0])
		memset(body, 'x', sizeof(body));
	assert_true(n <= 8 && body_len <= sizeof(body));
	for (size_t i = 0; i < n; i++) {
		v[i] = (struct event_view){.tool = STR("github"),
		                           .type = STR("push"),
		                           .id = str_of(id),
		                           .received = clock_wall(),
		                           .headers = STR("[]"),
		                           .body = str_n(body, body_len)};
		uuid_make(clock_wall(), &v[i].uid);
	}
	return s->append(s, v, n, on_appended, q);
}

static inline struct queue *queue_of(struct rig *r)
{
	return container_of(r, struct queue, r);
}

static inline bool producer_is_up(struct rig *r)
{
	return redis_up(queue_of(r)->to);
}

static inline bool all_came(struct rig *r)
{
	struct queue *q = queue_of(r);

	return q->inlet.count >= q->wanted;
}

static inline bool all_acked(struct rig *r)
{
	struct queue *q = queue_of(r);

	return q->acked >= q->wanted;
}

static inline bool all_appended(struct rig *r)
{
	return stream_producer_in_flight(queue_of(r)->producer) == 0;
}

static inline void append_some(struct queue *q, size_t n, size_t body_len)
{
	char id[32];

	assert_true(turn_until(&q->r, producer_is_up, LONG_MSEC));
	for (size_t i = 0; i < n; i++) {
		snprintf(id, sizeof(id), "id-%zu", i);
		assert_int_equal(append(q, id, body_len, 1), ERR_OK);
	}
	assert_true(turn_until(&q->r, all_appended, LONG_MSEC));
}

static inline bool wait_for(struct queue *q, size_t n, int msec)
{
	q->wanted = n;
	return turn_until(&q->r, all_came, msec);
}

/* The fate of all that came and was not settled yet. */
static inline void settle(struct queue *q, enum event_fate fate)
{
	size_t n = q->inlet.count - q->inlet.settled;
	enum event_fate *fates = mem_array(n + 1, sizeof(*fates));
	struct event **events = &q->inlet.events[q->inlet.settled];

	assert_non_null(fates);
	for (size_t i = 0; i < n; i++)
		fates[i] = fate;
	q->inlet.settled += n;
	if (n)
		events[0]->source->settled(events[0]->source, events, fates, n);
	mem_free(fates);
	if (q->inlet.on_room)
		q->inlet.on_room(q->inlet.on_room_arg);
}

static inline bool wait_acked(struct queue *q, size_t n, int msec)
{
	q->wanted = n;
	return turn_until(&q->r, all_acked, msec);
}

static inline int64_t integer(struct queue *q, const char *line)
{
	struct answer a = ask(&q->r, line);

	if (a.err != ERR_OK)
		fail_msg("%s: %s", line, a.text);
	return a.integer;
}

/* Pending entries of the group in the main stream. */
static inline int64_t pending(struct queue *q)
{
	return integer(q, "EVAL return(redis.call('XPENDING','test:events','workers')[1]) 0");
}

static inline double counter(struct queue *q, const char *name)
{
	return metric_get(metric_plain(q->metrics, METRIC_COUNTER, name, "x"));
}

#endif
