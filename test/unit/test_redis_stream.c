/* The queue in peace: what is produced is consumed once, acknowledged and trimmed, within bounds.
 */
#include "stream_rig.h"

static bool main_is_empty(struct rig *r)
{
	return integer(queue_of(r), "XLEN test:events") == 0;
}

/* Asks inside a condition would turn the loop within the loop, so this one polls outside. */
static bool wait_empty(struct queue *q, int msec)
{
	usec_t give_up = clock_mono() + msec * MSEC;

	while (!main_is_empty(&q->r) && clock_mono() < give_up)
		turn_until(&q->r, never, 20);
	return main_is_empty(&q->r);
}

static bool all_different(const struct inlet *in)
{
	struct held_set seen;
	bool different = true;

	held_set_init(&seen);
	for (size_t i = 0; i < in->count; i++) {
		const struct event *e = in->events[i];
		struct stream_id id = {e->token[0], e->token[1]};

		different = different && held_set_add(&seen, id, e->flags & STREAM_LARGE) == ERR_OK;
	}
	held_set_done(&seen);
	return different;
}

static void test_ten_thousand(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){0});
	append_some(q, 10000, 200);
	assert_int_equal(q->appended, 10000);
	assert_true(wait_for(q, 10000, LONG_MSEC));
	assert_true(all_different(&q->inlet));
	assert_int_equal(stream_intake_held(q->intake)->count, 10000);
	assert_int_equal(pending(q), 10000);
	settle(q, EVENT_STORED);
	assert_true(wait_acked(q, 10000, LONG_MSEC));
	assert_int_equal(stream_intake_held(q->intake)->count, 0);
	assert_int_equal(pending(q), 0);
	assert_true(wait_empty(q, LONG_MSEC));
	assert_true(stream_acks_idle(q->acks));
	assert_int_equal(q->inlet.count, 10000);
	assert_int_equal((int)counter(q, "webhook_queue_lost_total"), 0);
	queue_close(q);
}

/* The bytes of an event come out as they went in; the key is made from them. */
static void test_content(void **state)
{
	static const char body[] = "{\"a\":\"\0\"}\r\n";
	struct event_view v = {.tool = STR("github"),
	                       .type = STR("push"),
	                       .id = STR("one"),
	                       .received = 1700000000123456,
	                       .headers = STR("[[\"a\",\"b\"]]"),
	                       .content_type = STR("application/json"),
	                       .traceparent = STR("00-1-2-01"),
	                       .body = {body, sizeof(body) - 1},
	                       .envelope = STR("{}")};
	struct event_sink *s;
	const struct event *e;
	struct queue *q;

	(void)state;
	NEED_SERVER();
	uuid_make(clock_wall(), &v.uid);
	q = queue_open(&(struct queue_options){0});
	s = stream_producer_sink(q->producer);
	assert_true(turn_until(&q->r, producer_is_up, LONG_MSEC));
	assert_int_equal(s->append(s, &v, 1, on_appended, q), ERR_OK);
	assert_int_equal(q->appended, 0); /* not from inside */
	assert_true(wait_for(q, 1, LONG_MSEC));
	e = q->inlet.events[0];
	assert_memory_equal(&e->view.uid, &v.uid, sizeof(v.uid));
	assert_true(str_eq(e->view.body, v.body));
	assert_true(str_eq(e->view.headers, v.headers));
	assert_true(str_eq(e->view.traceparent, v.traceparent));
	assert_int_equal(e->view.received, v.received);
	assert_false(e->windowed);
	assert_ptr_equal(e->source, q->inlet.events[0]->source);
	settle(q, EVENT_DUPLICATE);
	assert_true(wait_acked(q, 1, LONG_MSEC));
	queue_close(q);
}

static void test_large(void **state)
{
	size_t large = 0;
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){0});
	append_some(q, 3, 300 * 1024);
	append_some(q, 10, 1024);
	assert_true(wait_for(q, 13, LONG_MSEC));
	assert_true(all_different(&q->inlet));
	for (size_t i = 0; i < 13; i++) {
		const struct event *e = q->inlet.events[i];
		bool is_large = e->view.body.len > 1024;

		assert_int_equal(e->flags & 1, is_large);
		large += is_large;
	}
	assert_int_equal(large, 3);
	assert_int_equal(integer(q, "XLEN test:events:large"), 3);
	settle(q, EVENT_DEAD);
	assert_true(wait_acked(q, 13, LONG_MSEC));
	assert_true(wait_empty(q, LONG_MSEC));
	assert_int_equal(integer(q, "XLEN test:events:large"), 0);
	queue_close(q);
}

/* Small and large ones do not starve each other. */
static void test_fair(void **state)
{
	size_t small_before_last_large = 0, large_before_last_small = 0, n;
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true});
	append_some(q, 20, 300 * 1024);
	append_some(q, 2000, 100);
	queue_open_consumer(q, &(struct queue_options){.batch = 100});
	assert_true(wait_for(q, 2020, LONG_MSEC));
	for (size_t i = 0, large = 0, small = 0; i < (n = q->inlet.count); i++) {
		if (q->inlet.events[i]->flags & 1) {
			large++;
			small_before_last_large = small;
		} else {
			small++;
			large_before_last_small = large;
		}
	}
	assert_int_equal(n, 2020);
	assert_true(small_before_last_large >= 1000);
	assert_true(large_before_last_small >= 10);
	queue_close(q);
}

/* All events of one request, or none. */
static void test_request(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true});
	assert_true(turn_until(&q->r, producer_is_up, LONG_MSEC));
	assert_int_equal(append(q, "several", 100, 8), ERR_OK);
	assert_true(turn_until(&q->r, all_appended, LONG_MSEC));
	assert_int_equal(q->appended, 1);
	assert_int_equal(integer(q, "XLEN test:events"), 8);
	ask(&q->r, "CONFIG SET maxmemory 1");
	assert_int_equal(append(q, "several", 100, 8), ERR_OK);
	assert_int_equal(append(q, "one", 100, 1), ERR_OK);
	assert_true(turn_until(&q->r, all_appended, LONG_MSEC));
	assert_int_equal(q->refused, 2);
	ask(&q->r, "CONFIG SET maxmemory 0");
	assert_int_equal(integer(q, "XLEN test:events"), 8);
	queue_close(q);
}

/* ---- bounds ---- */

static bool looked(struct rig *r)
{
	struct stream_figures f;

	stream_watch_get(queue_of(r)->watch, &f);
	return f.known;
}

static bool admits(struct rig *r)
{
	struct stream_figures f;

	stream_watch_get(queue_of(r)->watch, &f);
	return f.known && f.bytes < 50 * 1024;
}

static void test_bound(void **state)
{
	size_t taken = 0;
	struct event_sink *s;
	struct stream_figures f;
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true, .max_bytes = 200 * 1024});
	s = stream_producer_sink(q->producer);
	assert_true(turn_until(&q->r, producer_is_up, LONG_MSEC));
	while (taken < 100 && append(q, "x", 10 * 1024, 1) == ERR_OK)
		taken++;
	assert_in_range(taken, 15, 20);
	assert_int_equal(append(q, "x", 10 * 1024, 1), ERR_FULL);
	assert_true(turn_until(&q->r, looked, LONG_MSEC));
	turn_until(&q->r, never, 1100); /* another look: now measured, not added up */
	stream_watch_get(q->watch, &f);
	assert_true(f.bytes > 150 * 1024);
	assert_int_equal(f.depth, taken); /* nobody made the group yet */
	assert_int_equal(append(q, "x", 60 * 1024, 1), ERR_FULL);
	assert_in_range(s->retry_after(s), 1, 300);
	/* Room again once it was consumed and trimmed. */
	queue_open_consumer(q, &(struct queue_options){0});
	assert_true(wait_for(q, taken, LONG_MSEC));
	settle(q, EVENT_STORED);
	assert_true(turn_until(&q->r, admits, LONG_MSEC));
	assert_int_equal(append(q, "x", 60 * 1024, 1), ERR_OK);
	assert_true(turn_until(&q->r, all_appended, LONG_MSEC));
	queue_close(q);
}

static struct redis *second;
static bool redis_may_sync;

static bool may_sync(void *arg)
{
	(void)arg;
	return redis_may_sync;
}

static bool both_are_up(struct rig *r)
{
	return producer_is_up(r) && redis_up(second);
}

/* Events of one turn, more than Redis reads at a time: over one connection, or several where it
 * syncs; over what is left when one is down. */
static void test_spread(void **state)
{
	enum { READ = 14 * 1024 };
	struct redis_options ro = rig_options();
	struct stream_producer *first;
	struct redis *both[2];
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true});
	assert_int_equal(redis_new(q->r.loop, q->r.resolver, &ro, NULL, NULL, &second), ERR_OK);
	redis_start(second);
	assert_true(turn_until(&q->r, both_are_up, LONG_MSEC));
	both[0] = q->to;
	both[1] = second;
	first = q->producer;
	assert_int_equal(stream_producer_new(&(struct stream_producer_options){.loop = q->r.loop,
	                                                                       .redis = both,
	                                                                       .redis_count = 2,
	                                                                       .names = &q->names,
	                                                                       .watch = q->watch,
	                                                                       .syncs = may_sync},
	                                     &q->producer),
	                 ERR_OK);
	for (int round = 0; round < 3; round++) {
		redis_may_sync = round == 1;
		if (round == 2)
			redis_stop(second);
		for (int i = 0; i < 30; i++)
			assert_int_equal(append(q, "x", 1024, 1), ERR_OK);
		if (round == 1)
			assert_true(redis_unsent(q->to) >= READ && redis_unsent(second) >= READ);
		else
			assert_true((redis_unsent(q->to) == 0) != (redis_unsent(second) == 0));
		assert_true(turn_until(&q->r, all_appended, LONG_MSEC));
		assert_int_equal(q->appended, 30 * (round + 1));
	}
	redis_free(second);
	stream_producer_free(q->producer);
	q->producer = first;
	queue_close(q);
}

/* What Redis refused, and what never left, takes no room: a hundred times the bound, and there is
 * room still, before any look. */
static void test_refused_takes_no_room(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true, .max_bytes = 100 * 1024});
	assert_true(turn_until(&q->r, looked, LONG_MSEC));
	ask(&q->r, "CONFIG SET maxmemory 1");
	for (size_t i = 0; i < 100; i++) {
		assert_int_equal(append(q, "x", 90 * 1024, 1), ERR_OK);
		assert_true(turn_until(&q->r, all_appended, LONG_MSEC));
	}
	assert_int_equal(q->refused, 100);
	ask(&q->r, "CONFIG SET maxmemory 0");
	assert_int_equal(append(q, "x", 90 * 1024, 1), ERR_OK);
	assert_int_equal(append(q, "x", 90 * 1024, 1), ERR_FULL);
	assert_true(turn_until(&q->r, all_appended, LONG_MSEC));
	assert_int_equal(q->appended, 1);
	queue_close(q);
}

/* Looks in between: those that saw it took it off, those that failed did not. */
static void test_taken_back_once(void **state)
{
	struct stream_watch_share s, other;
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true, .max_bytes = 100 * 1024});
	assert_true(turn_until(&q->r, looked, LONG_MSEC));
	assert_true(stream_watch_admit(q->watch, 60 * 1024, &s));
	turn_until(&q->r, never, 2200); /* two looks at least */
	stream_watch_take_back(q->watch, &s);
	assert_true(stream_watch_admit(q->watch, 90 * 1024, &s));
	assert_false(stream_watch_admit(q->watch, 20 * 1024, &other));
	stream_watch_take_back(q->watch, &s);
	assert_true(stream_watch_admit(q->watch, 90 * 1024, &s));
	redis_stop(q->to);
	turn_until(&q->r, never, 2200);
	assert_false(stream_watch_admit(q->watch, 20 * 1024, &other));
	stream_watch_take_back(q->watch, &s);
	assert_true(stream_watch_admit(q->watch, 90 * 1024, &s));
	queue_close(q);
}

static void on_probed(void *arg, enum err err)
{
	enum err *ret = arg;

	*ret = err;
}

static enum err probe(struct queue *q)
{
	enum err got = ERR_COUNT;

	assert_int_equal(stream_producer_probe(q->producer, on_probed, &got), ERR_OK);
	for (int i = 0; got == ERR_COUNT && i < 250; i++)
		turn_until(&q->r, never, 20);
	return got;
}

/* The good answer is no trouble; whatever keeps entries out is, and is told by its name. */
static void test_probe(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true});
	assert_true(turn_until(&q->r, producer_is_up, LONG_MSEC));
	assert_int_equal(probe(q), ERR_OK);
	assert_string_equal(redis_last_error(q->to), "");
	assert_int_equal(integer(q, "EXISTS test:events"), 0);
	ask(&q->r, "CONFIG SET maxmemory 1");
	assert_int_equal(probe(q), ERR_FULL);
	assert_int_equal(redis_troubles(q->to, REDIS_TROUBLE_OOM), 1);
	ask(&q->r, "CONFIG SET maxmemory 0");
	ask(&q->r, "CONFIG SET min-replicas-to-write 1");
	assert_int_equal(probe(q), ERR_UNAVAILABLE);
	assert_int_equal(redis_troubles(q->to, REDIS_TROUBLE_NOREPLICAS), 1);
	ask(&q->r, "CONFIG SET min-replicas-to-write 0");
	assert_int_equal(redis_troubles(q->to, REDIS_TROUBLE_OTHER), 0);
	queue_close(q);
}

static bool has_half_of_maxmemory(struct rig *r)
{
	struct stream_figures f;

	stream_watch_get(queue_of(r)->watch, &f);
	return f.max_bytes == 50 << 20;
}

static void test_default_bound(void **state)
{
	struct stream_figures f;
	struct queue *q;
	char text[16];

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true});
	assert_true(turn_until(&q->r, looked, LONG_MSEC));
	stream_watch_get(q->watch, &f);
	assert_int_equal(f.max_bytes, (uint64_t)2 << 30);
	queue_close(q);
	redis_server_say(&server, "CONFIG SET maxmemory 100mb\r\n", text, sizeof(text));
	q = queue_open(&(struct queue_options){.no_consumer = true});
	assert_true(turn_until(&q->r, has_half_of_maxmemory, LONG_MSEC));
	queue_close(q);
	redis_server_say(&server, "CONFIG SET maxmemory 0\r\n", text, sizeof(text));
}

/* No more is asked for than there is room, and every entry comes once. */
static void test_inlet_full(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.room = 10, .batch = 4});
	append_some(q, 100, 100);
	assert_true(wait_for(q, 10, LONG_MSEC));
	turn_until(&q->r, never, 700);
	assert_int_equal(q->inlet.count, 10);
	while (q->inlet.count < 100) {
		size_t before = q->inlet.count;

		settle(q, EVENT_STORED);
		assert_true(wait_for(q, before + 1, LONG_MSEC));
		turn_until(&q->r, never, 5);
		assert_true(q->inlet.count - q->inlet.settled <= 10);
	}
	settle(q, EVENT_STORED);
	assert_true(wait_acked(q, 100, LONG_MSEC));
	assert_int_equal(q->inlet.count, 100);
	assert_true(all_different(&q->inlet));
	queue_close(q);
}

/* ---- trimming ---- */

static void test_keep(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.keep = 3600 * USEC_PER_SEC});
	append_some(q, 20, 100);
	assert_true(wait_for(q, 20, LONG_MSEC));
	settle(q, EVENT_STORED);
	assert_true(wait_acked(q, 20, LONG_MSEC));
	turn_until(&q->r, never, 1300);
	assert_int_equal(integer(q, "XLEN test:events"), 20);
	queue_close(q);
}

/* What is pending holds back what is younger, and another group holds back all. */
static void test_trim_limits(void **state)
{
	enum event_fate fate = EVENT_STORED;
	struct event *last;
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){0});
	append_some(q, 10, 100);
	assert_true(wait_for(q, 10, LONG_MSEC));
	for (size_t i = 0; i < 10; i++)
		if (i != 4)
			q->inlet.events[i]->source->settled(q->inlet.events[i]->source,
			                                    &q->inlet.events[i], &fate, 1);
	assert_true(wait_acked(q, 9, LONG_MSEC));
	turn_until(&q->r, never, 1300);
	assert_int_equal(integer(q, "XLEN test:events"), 6); /* from the pending one on */
	ask(&q->r, "XGROUP CREATE test:events others 0");
	last = q->inlet.events[4];
	last->source->settled(last->source, &last, &fate, 1);
	assert_true(wait_acked(q, 10, LONG_MSEC));
	turn_until(&q->r, never, 1300);
	assert_int_equal(integer(q, "XLEN test:events"), 6);
	ask(&q->r, "XGROUP DESTROY test:events others");
	assert_true(wait_empty(q, LONG_MSEC));
	queue_close(q);
}

/* A large backlog goes in steps, and all of it. */
static void test_trim_much(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true});
	ask(&q->r, "EVAL for\ti=1,100000\tdo\tredis.call('XADD','test:events','*','a','b')end 0");
	ask(&q->r, "XGROUP CREATE test:events workers $");
	assert_int_equal(integer(q, "XLEN test:events"), 100000);
	queue_open_consumer(q, &(struct queue_options){0});
	assert_true(wait_empty(q, 3000)); /* five steps, one a second, would take longer */
	queue_close(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_ten_thousand, clean),
	    cmocka_unit_test_setup(test_spread, clean),
	    cmocka_unit_test_setup(test_content, clean),
	    cmocka_unit_test_setup(test_large, clean),
	    cmocka_unit_test_setup(test_fair, clean),
	    cmocka_unit_test_setup(test_request, clean),
	    cmocka_unit_test_setup(test_bound, clean),
	    cmocka_unit_test_setup(test_refused_takes_no_room, clean),
	    cmocka_unit_test_setup(test_taken_back_once, clean),
	    cmocka_unit_test_setup(test_probe, clean),
	    cmocka_unit_test_setup(test_default_bound, clean),
	    cmocka_unit_test_setup(test_inlet_full, clean),
	    cmocka_unit_test_setup(test_keep, clean),
	    cmocka_unit_test_setup(test_trim_limits, clean),
	    cmocka_unit_test_setup(test_trim_much, clean),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}
