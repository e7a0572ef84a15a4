/* The queue's parts: names, waiting for the own database, the end, and memory that runs out. */
#include "stream_rig.h"

static void test_names(void **state)
{
	struct stream_names a, b;

	(void)state;
	assert_int_equal(stream_names_init(&a, "acme:", "hooks", "workers", ""), ERR_OK);
	assert_int_equal(stream_names_init(&b, "", "hooks", "workers", "me"), ERR_OK);
	assert_true(str_eq(a.keys[STREAM_MAIN], STR("acme:hooks")));
	assert_true(str_eq(a.keys[STREAM_LARGE], STR("acme:hooks:large")));
	assert_true(str_eq(b.keys[STREAM_LARGE], STR("hooks:large")));
	assert_true(str_eq(a.group, STR("workers")));
	assert_true(str_eq(b.consumer, STR("me")));
	stream_names_done(&b);
	/* Two processes, and two starts of one, never have the same name by accident. */
	assert_int_equal(stream_names_init(&b, "", "hooks", "workers", ""), ERR_OK);
	assert_false(str_eq(a.consumer, b.consumer));
	stream_names_done(&a);
	stream_names_done(&b);
}

/* While its own database is away it leaves the entries to others. */
static void test_may_take(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){0});
	q->may_take = false;
	append_some(q, 10, 100);
	turn_until(&q->r, never, 700);
	/* A read that was under way may have brought one. */
	assert_true(q->inlet.count <= 1);
	q->may_take = true;
	stream_consumer_kick(q->consumer);
	assert_true(wait_for(q, 10, LONG_MSEC));
	stream_consumer_kick(q->consumer); /* at any time */
	append_some(q, 1, 100);
	assert_true(wait_for(q, 11, LONG_MSEC));
	assert_int_equal(q->inlet.count, 11);
	queue_close(q);
}

/* ---- the end ---- */

static bool consumer_idle(struct rig *r)
{
	return stream_consumer_idle(queue_of(r)->consumer);
}

static void test_stop(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){0});
	append_some(q, 10, 100);
	assert_true(wait_for(q, 10, LONG_MSEC));
	stream_consumer_stop(q->consumer);
	assert_true(turn_until(&q->r, consumer_idle, 1500));
	append_some(q, 5, 100);
	turn_until(&q->r, never, 300);
	assert_int_equal(q->inlet.count, 10);
	/* What was given away before can still be settled. */
	settle(q, EVENT_STORED);
	assert_true(wait_acked(q, 10, LONG_MSEC));
	assert_true(stream_acks_idle(q->acks));
	queue_close(q);
	/* Without a connection there is nothing to wait for. */
	q = queue_open(&(struct queue_options){0});
	redis_stop(q->reader);
	turn_until(&q->r, never, 50);
	stream_consumer_stop(q->consumer);
	assert_true(consumer_idle(&q->r));
	queue_close(q);
}

/* ---- each allocation fails in turn ---- */

static void ignore_acked(void *arg, size_t n)
{
	(void)arg;
	(void)n;
}

static size_t no_room(const struct event_inlet *in)
{
	(void)in;
	return 0;
}

static enum err no_put(struct event_inlet *in, struct event *e)
{
	(void)in;
	(void)e;
	return ERR_CLOSED;
}

static void no_listener(struct event_inlet *in, void (*fn)(void *arg), void *arg)
{
	(void)in;
	(void)fn;
	(void)arg;
}

struct parts {
	struct loop *loop;
	struct resolver *resolver;
	struct redis *redis;
	struct stream_names names;
	struct metric_registry *metrics;
	struct stream_watch *watch;
	struct stream_producer *producer;
	struct stream_acks *acks;
	struct stream_intake *intake;
	struct stream_alone *alone;
	struct stream_consumer *consumer;
	struct stream_claim *claim;
	struct stream_park *park;
	struct stream_trim *trim;
	struct event_inlet inlet;
};

static bool never_claim(void *arg)
{
	(void)arg;
	return false;
}

static struct tool *no_tool(void *arg, struct str id)
{
	(void)arg;
	(void)id;
	return NULL;
}

static enum err make_parts(struct parts *p)
{
	struct redis_options ro = {.name = "test", .addr = "unix:/nowhere/at/all"};
	struct loop *l = p->loop;
	enum err e = resolver_new(l, &p->resolver);

	if (e == ERR_OK)
		e = redis_new(l, p->resolver, &ro, NULL, NULL, &p->redis);
	if (e == ERR_OK)
		e = stream_names_init(&p->names, "p:", "s", "g", "");
	if (e == ERR_OK)
		e = metric_registry_new(&p->metrics);
	if (e == ERR_OK)
		e = stream_watch_new(
		    &(struct stream_watch_options){l, p->redis, &p->names, p->metrics, 0},
		    &p->watch);
	if (e == ERR_OK)
		e = stream_producer_new(&(struct stream_producer_options){.loop = l,
		                                                          .redis = &p->redis,
		                                                          .redis_count = 1,
		                                                          .names = &p->names,
		                                                          .watch = p->watch},
		                        &p->producer);
	if (e == ERR_OK)
		e = stream_acks_new(
		    &(struct stream_acks_options){l, p->redis, &p->names, ignore_acked, NULL},
		    &p->acks);
	if (e == ERR_OK)
		e = stream_park_new(&(struct stream_park_options){.loop = l,
		                                                  .redis = p->redis,
		                                                  .names = &p->names,
		                                                  .metrics = p->metrics,
		                                                  .tool_of = no_tool,
		                                                  .may_look = never_claim},
		                    &p->park);
	if (e == ERR_OK)
		e = stream_intake_new(&(struct stream_intake_options){.inlet = &p->inlet,
		                                                      .park = p->park,
		                                                      .acks = p->acks,
		                                                      .metrics = p->metrics,
		                                                      .may_take = never_claim},
		                      &p->intake);
	if (e == ERR_OK)
		e = stream_alone_new(&(struct stream_alone_options){.loop = l,
		                                                    .redis = p->redis,
		                                                    .names = &p->names,
		                                                    .intake = p->intake,
		                                                    .metrics = p->metrics},
		                     &p->alone);
	if (e == ERR_OK)
		e = stream_consumer_new(&(struct stream_consumer_options){.loop = l,
		                                                          .reader = p->redis,
		                                                          .names = &p->names,
		                                                          .intake = p->intake,
		                                                          .alone = p->alone,
		                                                          .metrics = p->metrics,
		                                                          .inlet = &p->inlet},
		                        &p->consumer);
	if (e == ERR_OK)
		e = stream_claim_new(&(struct stream_claim_options){.loop = l,
		                                                    .redis = p->redis,
		                                                    .names = &p->names,
		                                                    .intake = p->intake,
		                                                    .alone = p->alone,
		                                                    .metrics = p->metrics,
		                                                    .may_claim = never_claim},
		                     &p->claim);
	if (e == ERR_OK)
		e = stream_trim_new(
		    &(struct stream_trim_options){
		        .loop = l, .redis = p->redis, .names = &p->names, .watch = p->watch},
		    &p->trim);
	return e;
}

static void scenario_parts(void)
{
	struct parts p = {.inlet = {no_room, no_put, no_listener, NULL}};

	if (loop_new(&p.loop) != ERR_OK)
		return;
	if (make_parts(&p) == ERR_OK) {
		struct event_view v = {.tool = STR("t"), .type = STR("y")};
		struct event_sink *s = stream_producer_sink(p.producer);

		stream_acks_add(p.acks, (struct stream_id){1, 1}, STREAM_MAIN);
		stream_intake_park(p.intake, (struct stream_id){1, 2}, STREAM_LARGE);
		assert_int_equal(s->append(s, &v, 1, NULL, NULL), ERR_UNAVAILABLE);
	}
	redis_free(p.redis);
	stream_alone_free(p.alone);
	stream_trim_free(p.trim);
	stream_claim_free(p.claim);
	stream_consumer_free(p.consumer);
	stream_intake_free(p.intake);
	stream_park_free(p.park);
	stream_acks_free(p.acks);
	stream_producer_free(p.producer);
	stream_watch_free(p.watch);
	metric_registry_free(p.metrics);
	stream_names_done(&p.names);
	resolver_free(p.resolver);
	loop_free(p.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_names),
	    cmocka_unit_test_setup(test_may_take, clean),
	    cmocka_unit_test_setup(test_stop, clean),
	};
	const struct torture torture[] = {TORTURE(scenario_parts)};

	if (getenv("WEIR_TORTURE"))
		return TESTS_OR_TORTURE(tests, torture);
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
