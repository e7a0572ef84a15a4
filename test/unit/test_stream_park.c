/* Delivery reports met by a worker that does not know their tool: aside, back, and given up. */
#include "stream_rig.h"

#define ASIDE "EVAL return(redis.call('XLEN','test:events:parked:mail')) 0"
#define LEFT  "EVAL return(#redis.call('KEYS','test:events:parked*')) 0"
#define MARKS "EVAL return(#redis.call('KEYS','test:events*:alone:*')) 0"

/* Its id is all that is asked for. */
static struct tool mail = {.id = {"mail", 4}, .refs = 1};

static void append_reports(struct queue *q, size_t n, size_t body_len)
{
	static char body[300 * 1024];
	struct event_sink *s = stream_producer_sink(q->producer);
	struct event_view v = {.tool = STR("mail"),
	                       .type = STR("delivered"),
	                       .headers = STR("[]"),
	                       .marks = EVENT_MARK_REPORTS};

	memset(body, 'x', sizeof(body));
	assert_true(body_len <= sizeof(body));
	assert_true(turn_until(&q->r, producer_is_up, LONG_MSEC));
	v.body = str_n(body, body_len);
	for (size_t i = 0; i < n; i++) {
		v.received = clock_wall();
		uuid_make(v.received, &v.uid);
		assert_int_equal(s->append(s, &v, 1, on_appended, q), ERR_OK);
	}
	assert_true(turn_until(&q->r, all_appended, LONG_MSEC));
}

static bool all_aside(struct rig *r)
{
	struct queue *q = queue_of(r);

	return counter(q, "webhook_queue_parked_total") >= (double)q->wanted;
}

static bool wait_aside(struct queue *q, size_t n)
{
	q->wanted = n;
	return turn_until(&q->r, all_aside, 5000);
}

static struct event *last_event(const struct queue *q)
{
	return q->inlet.events[q->inlet.count - 1];
}

static bool watched(struct rig *r)
{
	struct stream_figures f;

	stream_watch_get(queue_of(r)->watch, &f);
	return f.known && f.aside == queue_of(r)->wanted && f.depth == f.aside && f.bytes > 0;
}

/* Neither held nor pending, and no hindrance to others; taken, with the tool, as soon as that is
 * known. Each goes back into the stream for its size. */
static void test_aside_and_back(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){0});
	append_reports(q, 250, 100);
	append_reports(q, 9, 280 * 1024); /* more than are put back at once */
	append_some(q, 5, 10);
	assert_true(wait_for(q, 5, LONG_MSEC));
	settle(q, EVENT_STORED);
	assert_true(wait_acked(q, 5, LONG_MSEC));
	assert_true(wait_aside(q, 259));
	assert_int_equal(integer(q, ASIDE), 259);
	assert_int_equal(pending(q), 0);
	assert_int_equal(stream_intake_held(q->intake)->count, 0);
	q->wanted = 259;
	assert_true(turn_until(&q->r, watched, LONG_MSEC));

	q->tool = &mail;
	stream_park_tools_changed(q->park);
	assert_true(wait_for(q, 5 + 259, 4500));
	for (size_t i = 5; i < q->inlet.count; i++) {
		assert_ptr_equal(q->inlet.events[i]->tool, &mail);
		assert_int_equal(q->inlet.events[i]->view.marks,
		                 EVENT_MARK_REPORTS | EVENT_MARK_WAITED);
		assert_true(q->inlet.events[i]->flags & EVENT_AGAIN);
		assert_false(q->inlet.events[i]->flags & EVENT_GIVEN_UP);
	}
	assert_int_equal(integer(q, "XLEN test:events:large"), 9);
	assert_int_equal(integer(q, LEFT), 0);
	settle(q, EVENT_STORED);
	assert_true(wait_acked(q, 264, LONG_MSEC));
	queue_close(q);
	assert_int_equal(mail.refs, 1);
}

/* Only for long, and only by who looked often enough since it could: then it comes marked. */
static void test_given_up(void **state)
{
	static const struct queue_options o = {.min_idle = 100 * MSEC, .tool_wait = 200 * MSEC};
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&o);
	append_reports(q, 3, 100);
	assert_true(wait_aside(q, 3));
	queue_close(q);

	q = queue_open(&o); /* another process: it waited for long, and nobody has looked yet */
	q->may_claim = false;
	turn_until(&q->r, never, 1500);
	assert_int_equal(q->inlet.count, 0);
	assert_int_equal(integer(q, ASIDE), 3);
	q->may_claim = true;
	turn_until(&q->r, never, 100); /* not at the first look */
	assert_int_equal(q->inlet.count, 0);
	assert_true(wait_for(q, 3, LONG_MSEC));
	assert_true(last_event(q)->flags & EVENT_GIVEN_UP);
	assert_null(last_event(q)->tool);
	assert_int_equal(integer(q, LEFT), 0);
	settle(q, EVENT_DEAD);
	assert_true(wait_acked(q, 3, LONG_MSEC));
	assert_int_equal(pending(q), 0);
	queue_close(q);
}

/* What was given up, and is met by somebody who knows the tool, is as good as any. */
static void test_known_after_all(void **state)
{
	static const struct queue_options o = {.min_idle = 100 * MSEC, .tool_wait = MSEC};
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&o);
	append_reports(q, 1, 100);
	assert_true(wait_for(q, 1, LONG_MSEC));
	assert_true(last_event(q)->flags & EVENT_GIVEN_UP);
	queue_close(q); /* it dies, and the entry is pending */
	q = queue_open(&(struct queue_options){.no_consumer = true});
	q->tool = &mail;
	queue_open_consumer(q, &o);
	assert_true(wait_for(q, 1, LONG_MSEC));
	assert_ptr_equal(last_event(q)->tool, &mail);
	assert_false(last_event(q)->flags & EVENT_GIVEN_UP);
	queue_close(q);
	assert_int_equal(mail.refs, 1);
}

/* Without memory in Redis it stays where it is, and comes again; nothing goes lost in between. */
static void test_no_memory(void **state)
{
	static const struct queue_options o = {.min_idle = 100 * MSEC};
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true});
	append_reports(q, 1, 100);
	ask(&q->r, "XGROUP CREATE test:events workers 0");
	ask(&q->r, "XGROUP CREATE test:events:large workers 0 MKSTREAM");
	ask(&q->r, "CONFIG SET maxmemory 1");
	queue_open_consumer(q, &o);
	for (int i = 0; pending(q) == 0 && i < 250; i++)
		turn_until(&q->r, never, 20);
	turn_until(&q->r, never, 300);
	assert_int_equal(pending(q), 1);
	assert_int_equal(q->inlet.count, 0);
	ask(&q->r, "CONFIG SET maxmemory 0");
	assert_true(wait_aside(q, 1));
	ask(&q->r, "CONFIG SET maxmemory 1"); /* likewise on the way back */
	q->tool = &mail;
	turn_until(&q->r, never, 300);
	assert_int_equal(integer(q, ASIDE), 1);
	ask(&q->r, "CONFIG SET maxmemory 0");
	assert_true(wait_for(q, 1, LONG_MSEC));
	assert_int_equal(integer(q, LEFT), 0);
	queue_close(q);
}

/* Delivered too often: through the lane, which says nothing against it. */
static void test_in_the_lane(void **state)
{
	static const struct queue_options o = {
	    .max_deliveries = 1, .min_idle = 100 * MSEC, .gone_after = 50 * MSEC};
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true});
	append_reports(q, 1, 100);
	q->tool = &mail;
	queue_open_consumer(q, &(struct queue_options){0});
	assert_true(wait_for(q, 1, LONG_MSEC));
	queue_close(q);
	q = queue_open(&o);
	assert_true(wait_aside(q, 1));
	assert_int_equal((int)counter(q, "webhook_queue_alone_total"), 0);
	assert_int_equal(pending(q), 0);
	queue_close(q);
}

/* A process that knows its tool, or not, and gets its own pending entries. */
static struct queue *open_next(bool knows)
{
	static const struct queue_options o = {.max_deliveries = 1, .gone_after = 50 * MSEC};
	struct queue *q = queue_open(&(struct queue_options){.no_consumer = true});

	q->tool = knows ? &mail : NULL;
	queue_open_consumer(q, &o);
	return q;
}

static void dies_over_it(bool alone)
{
	struct queue *q = open_next(true);

	assert_true(wait_for(q, 1, LONG_MSEC));
	assert_int_equal((last_event(q)->flags & EVENT_ALONE) != 0, alone);
	turn_until(&q->r, never, 60); /* the word that it lives expires */
	queue_close(q);
}

/* It killed one that knew its tool. Who does not know that leaves it there, and the count of the
 * dead; with one more it is condemned, whoever finds that. */
static void test_deaths_are_not_forgotten(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true});
	append_reports(q, 1, 100);
	queue_close(q);
	dies_over_it(false);
	dies_over_it(true);
	q = open_next(false);
	turn_until(&q->r, never, 500);
	assert_int_equal(q->inlet.count, 0);
	assert_int_equal(integer(q, MARKS), 1);
	assert_int_equal(integer(q, LEFT), 0);
	assert_int_equal(pending(q), 1);
	queue_close(q);
	dies_over_it(true);
	q = open_next(false);
	assert_true(wait_for(q, 1, LONG_MSEC));
	assert_true(last_event(q)->flags & EVENT_CONDEMNED);
	queue_close(q);
}

/* Whoever writes to the stream: odd names and values go through Redis and back unharmed. */
static void test_odd_entries(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.no_consumer = true});
	assert_true(turn_until(&q->r, producer_is_up, LONG_MSEC));
	assert_int_equal(
	    ask(&q->r, "XADD test:events * v 1 u 0190163d-8694-739b-aea5-966c26f8ad91 t other t "
	               "m%:* y x m r w soon b old b new r 5 zz long")
	        .err,
	    ERR_OK);
	queue_open_consumer(q, &(struct queue_options){.min_idle = 100 * MSEC});
	assert_true(wait_aside(q, 1));
	q->tool = &(struct tool){.id = STR("m%:*"), .refs = 1};
	assert_true(wait_for(q, 1, LONG_MSEC));
	assert_true(str_eq(last_event(q)->view.tool, STR("m%:*")));
	assert_true(str_eq(last_event(q)->view.body, STR("new")));
	assert_int_equal(last_event(q)->view.received, 5);
	assert_int_equal(integer(q, LEFT), 0);
	queue_close(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_aside_and_back, clean),
	    cmocka_unit_test_setup(test_given_up, clean),
	    cmocka_unit_test_setup(test_known_after_all, clean),
	    cmocka_unit_test_setup(test_no_memory, clean),
	    cmocka_unit_test_setup(test_in_the_lane, clean),
	    cmocka_unit_test_setup(test_deaths_are_not_forgotten, clean),
	    cmocka_unit_test_setup(test_odd_entries, clean),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}
