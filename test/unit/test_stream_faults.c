/* The queue in trouble: crashed and dead consumers, deleted, foreign and refused entries, a Redis
 * that forgets, refuses and goes away. */
#include "stream_rig.h"

static const char *id_text(const struct event *e)
{
	static char text[STREAM_ID_TEXT];

	stream_id_format((struct stream_id){e->token[0], e->token[1]}, text);
	return text;
}

static bool older(const struct event *a, const struct event *b)
{
	return a->token[0] < b->token[0] ||
	       (a->token[0] == b->token[0] && a->token[1] < b->token[1]);
}

static void delete_entry(struct queue *q, const char *id)
{
	char line[128];

	snprintf(line, sizeof(line), "XDEL test:events %s", id);
	assert_int_equal(integer(q, line), 1);
}

/* ---- what others left ---- */

static void test_own_first(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.consumer = "same"});
	append_some(q, 95, 100);
	append_some(q, 5, 300 * 1024);
	assert_true(wait_for(q, 100, LONG_MSEC));
	queue_close(q);
	/* It comes back with new entries in the queue: the old ones first, all of them, once. */
	q = queue_open(&(struct queue_options){.no_consumer = true, .consumer = "same"});
	append_some(q, 50, 100);
	queue_open_consumer(q, &(struct queue_options){.batch = 30});
	assert_true(wait_for(q, 150, LONG_MSEC));
	for (size_t i = 0; i < 100; i++)
		for (size_t k = 100; k < 150; k++)
			assert_true(older(q->inlet.events[i], q->inlet.events[k]));
	turn_until(&q->r, never, 200);
	assert_int_equal(q->inlet.count, 150);
	settle(q, EVENT_STORED);
	assert_true(wait_acked(q, 150, LONG_MSEC));
	assert_int_equal(pending(q), 0);
	queue_close(q);
}

/* A lost connection takes replies with it: what they held is read again, what is held is not. */
static void test_reader_killed(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){0});
	append_some(q, 50, 100);
	assert_true(wait_for(q, 50, LONG_MSEC));
	for (int i = 0; i < 3; i++) {
		ask(&q->r, "CLIENT KILL TYPE normal SKIPME yes");
		append_some(q, 10, 100);
	}
	assert_true(wait_for(q, 80, LONG_MSEC));
	turn_until(&q->r, never, 700);
	assert_int_equal(q->inlet.count, 80);
	settle(q, EVENT_STORED);
	assert_true(wait_acked(q, 80, LONG_MSEC));
	assert_int_equal(pending(q), 0);
	queue_close(q);
}

static void test_claim(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.consumer = "dead"});
	append_some(q, 40, 100);
	append_some(q, 3, 300 * 1024);
	assert_true(wait_for(q, 43, LONG_MSEC));
	queue_close(q);
	q = queue_open(
	    &(struct queue_options){.consumer = "alive", .min_idle = 300 * MSEC, .room = 50});
	q->may_claim = false;
	turn_until(&q->r, never, 900);
	assert_int_equal(q->inlet.count, 0); /* its own database is away */
	q->may_claim = true;
	assert_true(wait_for(q, 43, LONG_MSEC));
	turn_until(&q->r, never, 500);
	assert_int_equal(q->inlet.count, 43);
	assert_int_equal((int)counter(q, "webhook_queue_claimed_total"), 43);
	settle(q, EVENT_STORED);
	assert_true(wait_acked(q, 43, LONG_MSEC));
	assert_int_equal(pending(q), 0);
	queue_close(q);
}

#define CLAIMS                                                                 \
	"EVAL return(tonumber(string.match(redis.call('INFO','commandstats')," \
	"'cmdstat_xautoclaim:calls=(%d+)'))or(0)) 0"

/* No more bytes at a time than a read may have, whatever the count. */
static void test_claim_is_bounded_in_bytes(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.consumer = "dead"});
	append_some(q, 40, 200 * 1024);
	assert_true(wait_for(q, 40, LONG_MSEC));
	assert_int_equal(stream_intake_fitting(q->intake, 1 << 20, 100), 5);
	assert_int_equal(stream_intake_fitting(q->intake, 1 << 20, 3), 3);
	assert_int_equal(stream_intake_fitting(q->intake, 1, 100), 1);
	queue_close(q);
	q = queue_open(&(struct queue_options){
	    .consumer = "alive", .min_idle = 300 * MSEC, .read_bytes = 1 << 20});
	assert_int_equal(stream_intake_fitting(q->intake, 1 << 20, 100), 8); /* knows none yet */
	q->may_claim = false;
	turn_until(&q->r, never, 500); /* all are idle for long enough: one claim could take them */
	ask(&q->r, "CONFIG RESETSTAT");
	q->may_claim = true;
	assert_true(wait_for(q, 40, LONG_MSEC));
	assert_true(integer(q, CLAIMS) >= 1 + (40 - 8) / 5);
	queue_close(q);
}

/* Nobody can claim what is still held, however long it takes; nor does it come twice. */
static void test_held(void **state)
{
	struct answer a;
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.min_idle = 600 * MSEC});
	append_some(q, 20, 100);
	assert_true(wait_for(q, 20, LONG_MSEC));
	for (int i = 0; i < 20; i++) {
		turn_until(&q->r, never, 100);
		a = ask(&q->r, "XPENDING test:events workers IDLE 500 - + 100");
		assert_int_equal(a.count, 0);
	}
	assert_int_equal(q->inlet.count, 20);
	/* A refresh is no delivery. */
	a = ask(&q->r,
	        "EVAL return(redis.call('XPENDING','test:events','workers','-','+',1)[1][4]) "
	        "0");
	assert_int_equal(a.integer, 1);
	queue_close(q);
}

/* ---- entries that are not what they should be ---- */

static void test_deleted(void **state)
{
	char one[STREAM_ID_TEXT], two[STREAM_ID_TEXT];
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.consumer = "first"});
	append_some(q, 10, 100);
	assert_true(wait_for(q, 10, LONG_MSEC));
	snprintf(one, sizeof(one), "%s", id_text(q->inlet.events[2]));
	snprintf(two, sizeof(two), "%s", id_text(q->inlet.events[7]));
	queue_close(q);
	/* Seen when the own entries are read again … */
	q = queue_open(&(struct queue_options){.no_consumer = true, .consumer = "first"});
	delete_entry(q, one);
	queue_open_consumer(q, &(struct queue_options){0});
	assert_true(wait_for(q, 9, LONG_MSEC));
	assert_true(wait_acked(q, 1, LONG_MSEC));
	assert_int_equal((int)counter(q, "webhook_queue_lost_total"), 1);
	assert_int_equal(pending(q), 9);
	queue_close(q);
	/* … and when they are claimed. */
	q = queue_open(&(struct queue_options){.no_consumer = true, .consumer = "second"});
	delete_entry(q, two);
	queue_open_consumer(q, &(struct queue_options){.min_idle = 100 * MSEC});
	assert_true(wait_for(q, 8, LONG_MSEC));
	turn_until(&q->r, never, 200);
	assert_int_equal((int)counter(q, "webhook_queue_lost_total"), 1);
	settle(q, EVENT_STORED);
	assert_true(wait_acked(q, 8, LONG_MSEC));
	assert_int_equal(pending(q), 0);
	queue_close(q);
}

/* What is read as new was never in anybody's hands; what comes again was. */
static void test_again(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){0});
	append_some(q, 2, 100);
	assert_true(wait_for(q, 2, LONG_MSEC));
	assert_false(q->inlet.events[0]->flags & EVENT_AGAIN);
	queue_close(q);
	q = queue_open(&(struct queue_options){.no_consumer = true});
	append_some(q, 1, 100);
	queue_open_consumer(q, &(struct queue_options){0}); /* its own */
	assert_true(wait_for(q, 3, LONG_MSEC));
	assert_true(q->inlet.events[0]->flags & EVENT_AGAIN);
	assert_true(q->inlet.events[1]->flags & EVENT_AGAIN);
	assert_false(q->inlet.events[2]->flags & EVENT_AGAIN);
	queue_close(q);
	q = queue_open(&(struct queue_options){
	    .consumer = "two", .min_idle = 100 * MSEC, .max_deliveries = 2}); /* another's */
	while (q->inlet.settled < 3) {
		assert_true(wait_for(q, q->inlet.settled + 1, LONG_MSEC));
		settle(q, EVENT_STORED);
	}
	for (size_t i = 0; i < 3; i++)
		assert_true(q->inlet.events[i]->flags & EVENT_AGAIN);
	assert_int_equal((int)counter(q, "webhook_queue_alone_total"), 2);
	queue_close(q);
}

static void test_malformed(void **state)
{
	struct queue *q;
	size_t marked = 0;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){0});
	append_some(q, 2, 100);
	ask(&q->r, "XADD test:events * hello world");
	ask(&q->r, "XADD test:events * v 2 u x");
	append_some(q, 2, 100);
	/* As late as ids can be, after which nothing can be added. */
	ask(&q->r, "XADD test:events 18446744073709551614-1 hello world");
	assert_true(wait_for(q, 7, LONG_MSEC));
	for (size_t i = 0; i < 7; i++) {
		const struct event *e = q->inlet.events[i];

		if (!(e->flags & EVENT_MALFORMED))
			continue;
		marked++;
		assert_true(str_eq(e->view.body, STR("[\"hello\",\"world\"]")) ||
		            str_eq(e->view.body, STR("[\"v\",\"2\",\"u\",\"x\"]")));
	}
	assert_int_equal(marked, 3);
	assert_int_equal(q->inlet.events[6]->view.received, EVENT_RECEIVED_MAX);
	settle(q, EVENT_DEAD);
	assert_true(wait_acked(q, 7, LONG_MSEC));
	assert_int_equal((int)counter(q, "webhook_queue_malformed_total"), 3);
	queue_close(q);
}

/* What the inlet would not take stays pending and comes later, once. */
static void test_inlet_refuses(void **state)
{
	static const enum err errs[] = {ERR_FULL, ERR_NOMEM};
	struct queue *q;

	(void)state;
	NEED_SERVER();
	for (size_t i = 0; i < 2; i++) {
		clean(NULL);
		q = queue_open(&(struct queue_options){0});
		append_some(q, 5, 100);
		assert_true(wait_for(q, 5, LONG_MSEC));
		q->inlet.err = errs[i];
		append_some(q, 30, 100);
		turn_until(&q->r, never, 400);
		assert_int_equal(q->inlet.count, 5);
		assert_int_equal(stream_intake_held(q->intake)->count, 5);
		q->inlet.err = ERR_OK;
		assert_true(wait_for(q, 35, LONG_MSEC));
		turn_until(&q->r, never, 100);
		assert_int_equal(q->inlet.count, 35);
		settle(q, EVENT_STORED);
		assert_true(wait_acked(q, 35, LONG_MSEC));
		queue_close(q);
	}
}

static void test_returned(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){.consumer = "same"});
	append_some(q, 5, 100);
	assert_true(wait_for(q, 5, LONG_MSEC));
	settle(q, EVENT_RETURNED);
	turn_until(&q->r, never, 200);
	assert_int_equal(q->acked, 0);
	assert_int_equal(pending(q), 5);
	queue_close(q);
	q = queue_open(&(struct queue_options){.consumer = "same"});
	assert_true(wait_for(q, 5, LONG_MSEC));
	queue_close(q);
}

/* ---- Redis ---- */

static void test_flushed(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){0});
	append_some(q, 10, 100);
	assert_true(wait_for(q, 10, LONG_MSEC));
	ask(&q->r, "FLUSHALL");
	settle(q, EVENT_STORED); /* acknowledges nothing any more, and harms nothing */
	append_some(q, 20, 100);
	assert_true(wait_for(q, 30, LONG_MSEC));
	settle(q, EVENT_STORED);
	assert_true(wait_acked(q, 30, LONG_MSEC));
	assert_int_equal(pending(q), 0);
	queue_close(q);
}

/* The commands that the server ran so far. */
static int64_t commands(struct queue *q)
{
	int64_t n = 0;
	char text[8192];
	const char *at;

	(void)q;
	assert_true(redis_server_say(&server, "INFO stats\r\n", text, sizeof(text)));
	at = strstr(text, "total_commands_processed:");
	if (at)
		n = strtoll(at + 25, NULL, 10);
	return n;
}

/* A group that can be made but not read is no reason to spin. */
static void test_no_spin(void **state)
{
	struct queue *q;
	char text[64];
	int64_t before;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){0});
	turn_until(&q->r, never, 100);
	assert_true(
	    redis_server_say(&server, "ACL SETUSER default -xreadgroup\r\n", text, sizeof(text)));
	turn_until(&q->r, never, 1000);
	before = commands(q);
	turn_until(&q->r, never, 3000);
	/* Looks, trims and the four connections' questions for the role are some fifteen a second;
	 * a flat retry of 75 ms would add three commands each time, over a hundred in all. */
	assert_in_range(commands(q) - before, 1, 90);
	assert_true(
	    redis_server_say(&server, "ACL SETUSER default +xreadgroup\r\n", text, sizeof(text)));
	append_some(q, 3, 100);
	assert_true(wait_for(q, 3, LONG_MSEC));
	queue_close(q);
}

/* Refused acknowledgements are tried again without another event or connection to remind of them.
 */
static void test_acks_refused(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){0});
	append_some(q, 20, 100);
	assert_true(wait_for(q, 20, LONG_MSEC));
	ask(&q->r, "CONFIG SET min-replicas-to-write 1");
	settle(q, EVENT_STORED);
	turn_until(&q->r, never, 500);
	assert_int_equal(q->acked, 0);
	assert_false(stream_acks_idle(q->acks));
	ask(&q->r, "CONFIG SET min-replicas-to-write 0");
	assert_true(wait_acked(q, 20, LONG_MSEC));
	assert_true(stream_acks_idle(q->acks));
	assert_int_equal(pending(q), 0);
	queue_close(q);
}

static bool reader_is_up(struct rig *r)
{
	return redis_up(queue_of(r)->reader) && redis_up(queue_of(r)->control) &&
	       redis_up(queue_of(r)->to) && redis_up(r->redis);
}

static bool reader_is_down(struct rig *r)
{
	return !redis_up(queue_of(r)->reader) && !redis_up(queue_of(r)->control);
}

/* Redis away while events are at work: acknowledgements wait for it, nothing comes twice. */
static void test_restarted(void **state)
{
	static const char *const aof[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
	struct queue *q;

	(void)state;
	NEED_SERVER();
	redis_server_down(&server, SIGTERM);
	assert_true(redis_server_up(&server, aof));
	q = queue_open(&(struct queue_options){0});
	append_some(q, 50, 100);
	assert_true(wait_for(q, 50, LONG_MSEC));
	redis_server_down(&server, SIGKILL);
	assert_true(turn_until(&q->r, reader_is_down, 5000));
	assert_int_equal(append(q, "x", 100, 1), ERR_UNAVAILABLE);
	settle(q, EVENT_STORED);
	turn_until(&q->r, never, 300);
	assert_int_equal(q->acked, 0);
	assert_true(redis_server_up(&server, aof));
	assert_true(turn_until(&q->r, reader_is_up, LONG_MSEC));
	append_some(q, 10, 100);
	assert_true(wait_for(q, 60, LONG_MSEC));
	for (int i = 0; i < 100 && pending(q) > 0; i++) {
		settle(q, EVENT_STORED);
		turn_until(&q->r, never, 50);
	}
	assert_int_equal(pending(q), 0);
	assert_true(q->acked >= 60);
	queue_close(q);
	redis_server_down(&server, SIGKILL);
	assert_true(redis_server_up(&server, NULL));
}

/* What is settled but not acknowledged yet is not put in again when it is read again. */
static void test_settled_once(void **state)
{
	struct queue *q;

	(void)state;
	NEED_SERVER();
	q = queue_open(&(struct queue_options){0});
	append_some(q, 50, 100);
	assert_true(wait_for(q, 50, LONG_MSEC));
	redis_stop(q->control);
	settle(q, EVENT_STORED);
	ask(&q->r, "CLIENT KILL TYPE normal SKIPME yes");
	append_some(q, 1, 100);
	assert_true(wait_for(q, 51, LONG_MSEC)); /* behind its own entries */
	assert_int_equal(q->inlet.count, 51);
	assert_int_equal((int)counter(q, "webhook_queue_held_again_total"), 50);
	redis_start(q->control);
	assert_true(wait_acked(q, 50, LONG_MSEC));
	assert_int_equal(stream_intake_held(q->intake)->count, 1);
	queue_close(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_own_first, clean),
	    cmocka_unit_test_setup(test_reader_killed, clean),
	    cmocka_unit_test_setup(test_claim, clean),
	    cmocka_unit_test_setup(test_claim_is_bounded_in_bytes, clean),
	    cmocka_unit_test_setup(test_held, clean),
	    cmocka_unit_test_setup(test_deleted, clean),
	    cmocka_unit_test_setup(test_again, clean),
	    cmocka_unit_test_setup(test_malformed, clean),
	    cmocka_unit_test_setup(test_inlet_refuses, clean),
	    cmocka_unit_test_setup(test_returned, clean),
	    cmocka_unit_test_setup(test_flushed, clean),
	    cmocka_unit_test_setup(test_no_spin, clean),
	    cmocka_unit_test_setup(test_acks_refused, clean),
	    cmocka_unit_test_setup(test_restarted, clean),
	    cmocka_unit_test_setup(test_settled_once, clean),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}
