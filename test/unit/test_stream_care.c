/* The queue's care: entries that were delivered too often, consumers and groups that are gone, ids
 * as wide as Redis takes them, and what the look at it says. */
#include "stream_rig.h"

#define MARKS "EVAL return(#redis.call('KEYS','test:events*:alone:*')) 0"
/* Marks that name a process. */
#define MARKED                                                                                    \
	"EVAL local\tn=0;for\t_,k\tin\tipairs(redis.call('KEYS','test:events*:alone:*'))do\tif\t" \
	"redis.call('HEXISTS',k,'by')==1\tthen\tn=n+1\tend\tend;return\tn 0"

static const struct event *last_event(const struct queue *q)
{
	return q->inlet.events[q->inlet.count - 1];
}

static bool lane_idle(struct rig *r)
{
	return stream_alone_idle(queue_of(r)->alone);
}

static bool lane_busy(struct rig *r)
{
	return !lane_idle(r);
}

/* Entries of the consumer "one", delivered once and never done. */
static void strand(size_t n, size_t body_len)
{
	struct queue *q = queue_open(&(struct queue_options){0});

	append_some(q, n, body_len);
	assert_true(wait_for(q, n, LONG_MSEC));
	queue_close(q);
}

/* ---- the lane ---- */

static void test_one_at_a_time(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	strand(3, 100);
	q = queue_open(&(struct queue_options){.max_deliveries = 1});
	assert_true(wait_for(q, 1, LONG_MSEC));
	append_some(q, 5, 100); /* they come beside it, and settle with the first */
	for (size_t i = 0; i < 3; i++) {
		assert_true(wait_for(q, 6 + i, LONG_MSEC));
		turn_until(&q->r, never, 100);
		assert_int_equal(q->inlet.count, 6 + i);
		assert_int_equal(integer(q, MARKED), 1);
		settle(q, EVENT_STORED);
	}
	for (size_t i = 0, alone = 0; i < 8; i++) {
		alone += (q->inlet.events[i]->flags & EVENT_ALONE) != 0;
		assert_false(q->inlet.events[i]->flags & EVENT_CONDEMNED);
		assert_int_equal(alone > 0 && i == 7 ? alone : 3, 3);
	}
	assert_true(wait_acked(q, 8, LONG_MSEC));
	assert_true(turn_until(&q->r, lane_idle, LONG_MSEC));
	assert_int_equal(integer(q, MARKS), 0);
	assert_int_equal(pending(q), 0);
	assert_int_equal((int)counter(q, "webhook_queue_alone_total"), 3);
	queue_close(q);
}

/* Whoever dies under the mark twice over the same entry convicts it; once does not. */
static void test_condemned(void **state)
{
	static const struct queue_options o = {.max_deliveries = 1, .gone_after = 50 * MSEC};
	struct queue *q;

	(void)state;
	NEED_SERVER();
	strand(1, 100);
	for (int deaths = 0; deaths < 3; deaths++) {
		q = queue_open(&o);
		assert_true(wait_for(q, 1, LONG_MSEC));
		assert_true(last_event(q)->flags & EVENT_ALONE);
		assert_int_equal((last_event(q)->flags & EVENT_CONDEMNED) != 0, deaths == 2);
		if (deaths == 2)
			break;
		turn_until(&q->r, never, 60); /* the word that it lives expires */
		queue_close(q);
	}
	assert_int_equal((int)counter(q, "webhook_queue_condemned_total"), 1);
	settle(q, EVENT_DEAD);
	assert_true(wait_acked(q, 1, LONG_MSEC));
	assert_int_equal(integer(q, MARKS), 0);
	assert_int_equal(pending(q), 0);
	queue_close(q);
}

/* A mark of a process that lives is no evidence, and the entry is its own to run: also where both
 * have one consumer name. */
static void test_the_living(void **state)
{
	static const struct queue_options o = {.max_deliveries = 1, .min_idle = 300 * MSEC};
	struct queue *a, *b;

	(void)state;
	NEED_SERVER();
	strand(1, 100);
	a = queue_open(&o);
	assert_true(wait_for(a, 1, LONG_MSEC));
	b = queue_open(&o);
	for (int i = 0; i < 10; i++) { /* it is claimed again and again */
		turn_until(&b->r, never, 100);
		assert_int_equal(b->inlet.count, 0);
	}
	settle(a, EVENT_STORED);
	assert_true(wait_acked(a, 1, LONG_MSEC));
	assert_int_equal(pending(a), 0);
	turn_until(&b->r, never, 500);
	assert_int_equal(b->inlet.count, 0);
	queue_close(b);
	queue_close(a);
}

static bool nobody_is_marked(struct queue *q, int msec)
{
	usec_t give_up = clock_mono() + msec * MSEC;

	while (integer(q, MARKED) > 0 && clock_mono() < give_up)
		turn_until(&q->r, never, 20);
	return integer(q, MARKED) == 0;
}

/* What has failed in the database, or waits there, has killed nobody: however often the process
 * dies from then on, and however often it was delivered. Nor are others marked while nothing is
 * stored. */
static void test_outage(void **state)
{
	static const struct queue_options o = {.max_deliveries = 1, .gone_after = 20 * MSEC};
	struct queue *q;

	(void)state;
	NEED_SERVER();
	strand(2, 100);
	for (int restarts = 0; restarts < 20; restarts++) {
		q = queue_open(&o);
		assert_true(wait_for(q, 1, LONG_MSEC));
		assert_false(last_event(q)->flags & EVENT_CONDEMNED);
		if (restarts == 0) /* it just takes long */
			assert_int_equal(integer(q, MARKED), 1);
		else if (restarts % 2)
			q->inlet.events[0]->attempts = 1;
		else
			q->inlet.events[0]->flags |= EVENT_SENT;
		assert_true(nobody_is_marked(q, LONG_MSEC));
		turn_until(&q->r, never, 120);
		assert_int_equal(q->inlet.count, 1);
		queue_close(q);
	}
	/* Given back, stored in the end, or others are: the lane turns to the next one. */
	q = queue_open(&o);
	assert_true(wait_for(q, 1, LONG_MSEC));
	settle(q, EVENT_RETURNED);
	assert_true(wait_for(q, 2, LONG_MSEC));
	assert_int_equal(integer(q, MARKED), 1);
	q->inlet.events[1]->attempts = 1;
	assert_true(nobody_is_marked(q, LONG_MSEC));
	settle(q, EVENT_STORED);
	assert_true(wait_acked(q, 1, LONG_MSEC));
	assert_int_equal(pending(q), 1);
	assert_true(turn_until(&q->r, lane_idle, LONG_MSEC));
	queue_close(q);
}

/* While others are in the pipeline and none of them is stored, an entry would wait behind them with
 * its mark, and whatever ends the process then would point at it. */
static void test_not_behind_those_that_hang(void **state)
{
	static const struct queue_options o = {
	    .consumer = "two", .max_deliveries = 1, .min_idle = 100 * MSEC};
	enum event_fate fate = EVENT_STORED;
	struct event *first;
	struct queue *q;

	(void)state;
	NEED_SERVER();
	strand(2, 100);
	q = queue_open(&(struct queue_options){.consumer = "two", .no_consumer = true});
	append_some(q, 2, 100);
	q->may_claim = false;
	queue_open_consumer(q, &o);
	assert_true(wait_for(q, 2, LONG_MSEC));
	q->may_claim = true;
	assert_true(turn_until(&q->r, lane_busy, LONG_MSEC));
	turn_until(&q->r, never, 500);
	assert_int_equal(q->inlet.count, 2);
	assert_int_equal(integer(q, MARKS), 0);
	/* The others are stored: one after the other. */
	first = q->inlet.events[0];
	first->source->settled(first->source, &first, &fate, 1);
	assert_true(wait_for(q, 3, LONG_MSEC));
	assert_true(last_event(q)->flags & EVENT_ALONE);
	assert_int_equal(integer(q, MARKED), 1);
	settle(q, EVENT_STORED);
	queue_close(q);
}

/* The mark stands as long as Redis does not take it back, and no longer; nor does a stop wait. */
static void test_unmarked_in_the_end(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	strand(2, 100);
	for (int stop = 0; stop < 2; stop++) {
		q = queue_open(&(struct queue_options){.max_deliveries = 1});
		assert_true(wait_for(q, 1, LONG_MSEC));
		assert_int_equal(integer(q, MARKED), 1);
		ask(&q->r, "ACL SETUSER default -hdel");
		q->inlet.events[0]->attempts = 1;
		turn_until(&q->r, never, 400);
		assert_int_equal(integer(q, MARKED), 1);
		if (stop) {
			stream_alone_stop(q->alone);
			assert_true(turn_until(&q->r, lane_idle, LONG_MSEC));
		}
		ask(&q->r, "ACL SETUSER default +hdel");
		if (!stop)
			assert_true(nobody_is_marked(q, LONG_MSEC));
		queue_close(q);
	}
}

/* One that the database does not take for whatever reason does not hold up the others for ever. */
static void test_loose(void **state)
{
	enum event_fate fate = EVENT_STORED;
	struct event *new_one;
	struct queue *q;

	(void)state;
	NEED_SERVER();
	strand(2, 100);
	q = queue_open(&(struct queue_options){.max_deliveries = 1});
	assert_true(wait_for(q, 1, LONG_MSEC));
	q->inlet.events[0]->attempts = 1;
	append_some(q, 1, 100);
	assert_true(wait_for(q, 2, LONG_MSEC));
	assert_true(nobody_is_marked(q, LONG_MSEC));
	turn_until(&q->r, never, 100);
	assert_int_equal(q->inlet.count, 2);
	new_one = q->inlet.events[1];
	new_one->source->settled(new_one->source, &new_one, &fate, 1);
	assert_true(wait_for(q, 3, LONG_MSEC));
	assert_true(last_event(q)->flags & EVENT_ALONE);
	queue_close(q);
}

/* Draining goes before judging: without memory for a mark it runs unmarked. */
static void test_no_memory_for_marks(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	strand(2, 100);
	q = queue_open(&(struct queue_options){.no_consumer = true});
	ask(&q->r, "CONFIG SET maxmemory 1");
	queue_open_consumer(q, &(struct queue_options){.max_deliveries = 1});
	for (size_t i = 1; i <= 2; i++) {
		assert_true(wait_for(q, i, LONG_MSEC));
		assert_true(last_event(q)->flags & EVENT_ALONE);
		settle(q, EVENT_STORED);
	}
	assert_true(wait_acked(q, 2, LONG_MSEC));
	assert_int_equal(integer(q, MARKS), 0);
	ask(&q->r, "CONFIG SET maxmemory 0");
	queue_close(q);
}

/* Taken over from the dead, of both streams; deleted ones are counted. */
static void test_claimed_alone(void **state)
{
	struct queue *q;
	size_t alone = 0;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.consumer = "dead"});
	append_some(q, 3, 100);
	append_some(q, 1, 300 * 1024);
	assert_true(wait_for(q, 4, LONG_MSEC));
	queue_close(q);
	q = queue_open(&(struct queue_options){.consumer = "alive", .no_consumer = true});
	for (size_t s = 0; s < 2; s++) {
		const char *key = s ? "test:events:large" : "test:events";
		char line[512];

		snprintf(line, sizeof(line),
		         "EVAL local\tp=redis.call('XPENDING',KEYS[1],'workers','-','+',1)[1];"
		         "redis.call('XCLAIM',KEYS[1],'workers','dead',0,p[1],'RETRYCOUNT',50,"
		         "'JUSTID');return(0) 1 %s",
		         key);
		assert_int_equal(integer(q, line), 0);
	}
	queue_open_consumer(q,
	                    &(struct queue_options){.max_deliveries = 5, .min_idle = 100 * MSEC});
	while (q->inlet.settled < 4) {
		assert_true(wait_for(q, q->inlet.settled + 1, LONG_MSEC));
		settle(q, EVENT_STORED);
	}
	for (size_t i = 0; i < 4; i++)
		alone += (q->inlet.events[i]->flags & EVENT_ALONE) != 0;
	assert_int_equal(alone, 2);
	assert_true(wait_acked(q, 4, LONG_MSEC));
	assert_int_equal(integer(q, MARKS), 0);
	assert_int_equal((int)counter(q, "webhook_queue_claimed_total"), 4);
	assert_int_equal((int)counter(q, "webhook_queue_lost_total"), 0);
	queue_close(q);
}

/* It waits in the lane while somebody deletes it: lost, and said so. */
static void test_deleted_in_the_lane(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	strand(2, 100);
	q = queue_open(&(struct queue_options){.max_deliveries = 1});
	assert_true(wait_for(q, 1, LONG_MSEC));
	turn_until(&q->r, never, 50);
	ask(&q->r, "EVAL local\te=redis.call('XREVRANGE','test:events','+','-','COUNT',1)[1];"
	           "return(redis.call('XDEL','test:events',e[1])) 0");
	settle(q, EVENT_STORED);
	assert_true(turn_until(&q->r, lane_idle, LONG_MSEC));
	assert_int_equal(q->inlet.count, 1);
	assert_int_equal((int)counter(q, "webhook_queue_lost_total"), 1);
	assert_int_equal(pending(q), 0);
	queue_close(q);
}

/* Redis refuses for a while, or there is no room: the lane waits, and goes on. */
static void test_lane_waits(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	strand(3, 100);
	q = queue_open(&(struct queue_options){.max_deliveries = 1, .room = 1});
	assert_true(wait_for(q, 1, LONG_MSEC));
	turn_until(&q->r, never, 1500); /* unmarked meanwhile, but there is no room */
	assert_int_equal(q->inlet.count, 1);
	ask(&q->r, "CONFIG SET min-replicas-to-write 1");
	settle(q, EVENT_STORED);
	turn_until(&q->r, never, 400);
	assert_int_equal(q->inlet.count, 1);
	ask(&q->r, "CONFIG SET min-replicas-to-write 0");
	assert_true(wait_for(q, 2, LONG_MSEC));
	settle(q, EVENT_STORED);
	assert_true(wait_for(q, 3, LONG_MSEC));
	settle(q, EVENT_STORED);
	assert_true(wait_acked(q, 3, LONG_MSEC));
	queue_close(q);
}

/* ---- consumers and groups ---- */

#define CONSUMERS "XINFO CONSUMERS test:events workers"

static void test_row31_idle_consumers_are_forgotten(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true});
	append_some(q, 1, 100);
	ask(&q->r, "XGROUP CREATE test:events workers 0");
	ask(&q->r, "XGROUP CREATECONSUMER test:events workers ghost");
	ask(&q->r, "XREADGROUP GROUP workers holder COUNT 1 STREAMS test:events >");
	append_some(q, 1, 100);
	queue_open_consumer(q, &(struct queue_options){.forget_idle = 500 * MSEC});
	assert_true(wait_for(q, 1, LONG_MSEC)); /* now there are three of them */
	for (int i = 0; i < 100 && ask(&q->r, CONSUMERS).count > 2; i++)
		turn_until(&q->r, never, 50);
	/* The one with something pending stays, as do we. */
	assert_int_equal(integer(q, "XGROUP DELCONSUMER test:events workers holder"), 1);
	assert_int_equal(integer(q, "XGROUP CREATECONSUMER test:events workers one"), 0);
	assert_int_equal(integer(q, "XGROUP CREATECONSUMER test:events workers ghost"), 1);
	queue_close(q);
}

static bool was_remade(struct rig *r)
{
	return counter(queue_of(r), "webhook_queue_group_remade_total") > 0;
}

static void test_remade(void **state)
{
	static const char *const blows[] = {"FLUSHALL", "DEL test:events",
	                                    "XGROUP DESTROY test:events workers"};
	struct queue *q;

	(void)state;
	NEED_SERVER();
	for (size_t i = 0; i < 3; i++) {
		clean(NULL);
		q = queue_open(&(struct queue_options){0});
		append_some(q, 5, 100);
		assert_true(wait_for(q, 5, LONG_MSEC));
		settle(q, EVENT_STORED);
		assert_true(wait_acked(q, 5, LONG_MSEC));
		assert_int_equal((int)counter(q, "webhook_queue_group_remade_total"), 0);
		ask(&q->r, blows[i]);
		assert_true(turn_until(&q->r, was_remade, LONG_MSEC));
		append_some(q, 5, 100);
		assert_true(wait_for(q, 10, LONG_MSEC));
		queue_close(q);
	}
}

/* ---- trimming and looking ---- */

static void test_wide_ids(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true});
	ask(&q->r, "XADD test:events 7-9007199254740993 a b");
	ask(&q->r, "XADD test:events 7-18446744073709551614 a b");
	ask(&q->r, "XADD test:events 7-18446744073709551615 a b");
	queue_open_consumer(q, &(struct queue_options){0});
	assert_true(wait_for(q, 3, LONG_MSEC));
	assert_int_equal(integer(q, "XACK test:events workers 7-9007199254740993"), 1);
	turn_until(&q->r, never, 1300);
	assert_int_equal(integer(q, "XLEN test:events"), 2); /* the next one is pending still */
	settle(q, EVENT_DEAD);
	assert_true(wait_acked(q, 3, LONG_MSEC));
	turn_until(&q->r, never, 1300);
	/* Behind the last one there is no id of these milliseconds: it stays. */
	assert_int_equal(integer(q, "XLEN test:events"), 1);
	assert_int_equal(redis_troubles(q->control, REDIS_TROUBLE_OTHER), 0);
	queue_close(q);
}

static bool grows(struct rig *r)
{
	struct stream_figures f;

	stream_watch_get(queue_of(r)->watch, &f);
	return f.added_per_second > 0 && f.headroom_seconds < 1e9;
}

static bool rests(struct rig *r)
{
	struct stream_figures f;

	stream_watch_get(queue_of(r)->watch, &f);
	return f.known && f.depth == 0 && f.headroom_seconds > 1e9;
}

static void test_headroom(void **state)
{
	struct stream_figures f;
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true, .max_bytes = 10 << 20});
	append_some(q, 10, 1000);
	turn_until(&q->r, never, 1200);
	append_some(q, 500, 1000);
	assert_true(turn_until(&q->r, grows, LONG_MSEC));
	stream_watch_get(q->watch, &f);
	/* 500 a second weigh a fifth: 100 a second of 1 KiB, nearly 10 MiB are left. */
	assert_true(f.headroom_seconds > 20 && f.headroom_seconds < 400);
	queue_open_consumer(q, &(struct queue_options){0});
	assert_true(wait_for(q, 510, LONG_MSEC));
	settle(q, EVENT_STORED);
	assert_true(turn_until(&q->r, rests, LONG_MSEC));
	stream_watch_get(q->watch, &f);
	assert_true(f.drained_per_second > 0);
	queue_close(q);
}

static bool weighs(struct rig *r)
{
	struct stream_figures f;

	stream_watch_get(queue_of(r)->watch, &f);
	return f.bytes > (uint64_t)150 << 20;
}

/* MEMORY USAGE takes the first nodes for all; here the first 25,000 are small, the rest is not. */
static void test_uneven(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true});
	ask(&q->r, "EVAL local\tb=string.rep('x',3900);for\ti=1,25000\tdo\t"
	           "redis.call('XADD','test:events','*','b',b)end 0");
	ask(&q->r, "EVAL local\tb=string.rep('x',32000);for\ti=1,4000\tdo\t"
	           "redis.call('XADD','test:events','*','b',b)end 0");
	assert_true(
	    turn_until(&q->r, weighs, LONG_MSEC)); /* 100 + 128 MB; by the sample alone 120 */
	queue_close(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_one_at_a_time, clean),
	    cmocka_unit_test_setup(test_condemned, clean),
	    cmocka_unit_test_setup(test_the_living, clean),
	    cmocka_unit_test_setup(test_outage, clean),
	    cmocka_unit_test_setup(test_not_behind_those_that_hang, clean),
	    cmocka_unit_test_setup(test_unmarked_in_the_end, clean),
	    cmocka_unit_test_setup(test_loose, clean),
	    cmocka_unit_test_setup(test_no_memory_for_marks, clean),
	    cmocka_unit_test_setup(test_claimed_alone, clean),
	    cmocka_unit_test_setup(test_deleted_in_the_lane, clean),
	    cmocka_unit_test_setup(test_lane_waits, clean),
	    cmocka_unit_test_setup(test_row31_idle_consumers_are_forgotten, clean),
	    cmocka_unit_test_setup(test_remade, clean),
	    cmocka_unit_test_setup(test_wide_ids, clean),
	    cmocka_unit_test_setup(test_headroom, clean),
	    cmocka_unit_test_setup(test_uneven, clean),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}
