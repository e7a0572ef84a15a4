/* The deduplicator on a real Redis and a real Postgres: what it knows, what it must not know, and
 * that a batch never waits for it for long. */
#include "pipeline_rig.h"

#include "redis_server.h"

static struct redis_server cache;
static char cache_addr[128];

static const struct stack_options *options(size_t memory_keys)
{
	static struct stack_options o;

	snprintf(cache_addr, sizeof(cache_addr), "%s", cache.addr);
	o = (struct stack_options){.connections = 2,
	                           .workers = 4,
	                           .batch_size = 100,
	                           .quick_retries = 1000,
	                           .redis = cache_addr,
	                           .memory_keys = memory_keys};
	return &o;
}

static bool say(const char *line)
{
	char reply[4096];

	return redis_server_say(&cache, line, reply, sizeof(reply));
}

static int begin(void **state, size_t memory_keys)
{
	if (!cache.pid)
		return 0;
	if (!say("FLUSHALL\r\n"))
		return -1;
	return setup_with(state, options(memory_keys));
}

static int setup_all(void **state)
{
	return begin(state, 1000);
}

static int setup_redis_only(void **state)
{
	return begin(state, 0);
}

#define NEED_BOTH()                    \
	if (!server.pid || !cache.pid) \
	skip()

static double hits(struct rig *r, const char *layer)
{
	struct buf text;
	char start[80];
	const char *at;
	double n = 0;

	buf_init(&text, 1 << 20);
	assert_int_equal(metric_render(r->metrics, &text), ERR_OK);
	snprintf(start, sizeof(start), "webhook_dedup_hits_total{layer=\"%s\"} ", layer);
	at = strstr(text.ptr, start);
	if (at)
		n = strtod(at + strlen(start), NULL);
	buf_done(&text);
	return n;
}

static bool is_ready(struct rig *r)
{
	return is_up(r) && deduplicator_ticket(r->s.dedup) > 0 && redis_up(r->s.redis);
}

static void deliver(struct rig *r, const char *id, struct str body)
{
	size_t before = r->source.settled;

	put(r, (struct sample){.id = id, .body = body});
	assert_true(await_settled(r, before + 1));
}

#define NEED_READY(r)                                              \
	do {                                                       \
		NEED_BOTH();                                       \
		assert_true(turn_until((r), is_ready, LONG_MSEC)); \
	} while (0)

/* The second of two is a duplicate, and only this layer says so. */
static void assert_known_from(struct rig *r, const char *id, const char *layer)
{
	static const char *const layers[] = {"memory", "redis", "database"};

	deliver(r, id, STR("1"));
	deliver(r, id, STR("1"));
	assert_int_equal(r->source.count[EVENT_DUPLICATE], 1);
	for (size_t i = 0; i < 3; i++)
		assert_true(hits(r, layers[i]) == (strcmp(layers[i], layer) == 0));
}

/* ---- what is known ---- */

static void test_known_from_memory(void **state)
{
	struct rig *r = rig_of(state);

	NEED_READY(r);
	assert_known_from(r, "a", "memory");
}

static void test_known_from_redis(void **state)
{
	struct rig *r = rig_of(state);

	NEED_READY(r);
	assert_known_from(r, "a", "redis");
}

/* Known and new ones in one batch: each gets its own fate. */
static void test_mixed_batch(void **state)
{
	struct rig *r = rig_of(state);
	size_t known = 0;

	NEED_READY(r);
	put_numbered(r, "k", 100);
	assert_true(await_settled(r, 100));
	put_numbered(r, "n", 20);
	put_numbered(r, "k", 50);
	put_numbered(r, "m", 20);
	assert_true(await_settled(r, 190));
	for (size_t i = 100; i < 190; i++) {
		bool repeated = i >= 120 && i < 170;

		assert_int_equal(r->source.fates[i], repeated ? EVENT_DUPLICATE : EVENT_STORED);
		known += repeated;
	}
	assert_true(hits(r, "memory") + hits(r, "redis") == (double)known);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 140);
}

/* ---- what must not be known ---- */

static void test_another_body_is_a_miss(void **state)
{
	struct rig *r = rig_of(state);

	NEED_READY(r);
	deliver(r, "a", STR("1"));
	deliver(r, "a", STR("2"));
	assert_int_equal(r->source.count[EVENT_DEAD], 1);
	/* The dead letter's own repetition is known, then. */
	deliver(r, "a", STR("2"));
	assert_int_equal(r->source.count[EVENT_DUPLICATE], 1);
	assert_int_equal(hits(r, "memory"), 1);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.dead_letters"), 1);
}

static void test_windows_are_the_databases(void **state)
{
	struct rig *r = rig_of(state);

	NEED_READY(r);
	assert_known_from(r, "", "database");
}

static bool has_ticket(struct rig *r)
{
	return deduplicator_ticket(r->s.dedup) >= r->want;
}

static bool has_reconnected(struct rig *r)
{
	return pg_pool_sessions(r->s.pool) > r->want;
}

/* Connections broke, and behind the new ones is a database of another epoch. */
static void test_epochs(void **state)
{
	struct rig *r = rig_of(state);
	struct event *e;
	dedup_ticket old;
	uint64_t sessions;

	NEED_READY(r);
	old = deduplicator_ticket(r->s.dedup);
	deliver(r, "a", STR("1"));
	sessions = pg_pool_sessions(r->s.pool);
	sql(r, "TRUNCATE weir.events, weir.event_keys;"
	       "UPDATE weir.instance SET id = gen_random_uuid()");
	sql(r, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
	       " WHERE application_name = 'weir-test'");
	/* Not even the first event behind the new connection is taken for known. */
	r->want = sessions;
	assert_true(turn_until(r, has_reconnected, LONG_MSEC));
	deliver(r, "a", STR("1"));
	assert_int_equal(r->source.count[EVENT_STORED], 2);
	r->want = old + 1;
	assert_true(turn_until(r, has_ticket, LONG_MSEC));
	/* What an old transaction committed is not remembered in the new epoch. */
	e = make_event(r, (struct sample){.id = "b", .body = STR("1")});
	deduplicator_mark(r->s.dedup, old, &e, 1);
	event_unref(e);
	deliver(r, "b", STR("1"));
	assert_int_equal(r->source.count[EVENT_STORED], 3);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 2);
}

/* The same database again: what was remembered still counts. */
static void test_a_reconnect_alone_forgets_nothing(void **state)
{
	struct rig *r = rig_of(state);

	NEED_READY(r);
	deliver(r, "a", STR("1"));
	sql(r, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
	       " WHERE application_name = 'weir-test'");
	assert_true(turn_until(r, is_down, LONG_MSEC));
	assert_true(turn_until(r, is_ready, LONG_MSEC));
	deliver(r, "a", STR("1"));
	assert_true(hits(r, "memory") == 1);
}

/* ---- Redis in trouble ---- */

static void test_a_stalled_redis_is_waited_for_once(void **state)
{
	struct rig *r = rig_of(state);
	struct buf text;
	usec_t start;

	NEED_READY(r);
	deliver(r, "a", STR("1"));
	redis_server_signal(&cache, SIGSTOP);
	start = clock_mono();
	for (int i = 0; i < 20; i++) {
		char id[16];

		snprintf(id, sizeof(id), "s%d", i);
		deliver(r, id, STR("1"));
	}
	assert_true(clock_mono() - start < 4000 * MSEC); /* not twenty deadlines */
	assert_true(clock_mono() - start >= 200 * MSEC);
	buf_init(&text, 4096);
	assert_false(deduplicator_report(r->s.dedup, &text));
	buf_done(&text);
	redis_server_signal(&cache, SIGCONT);
	/* Late answers are nobody's; then it is asked again. */
	(void)turn_until(r, never, 1200);
	deliver(r, "a", STR("1"));
	assert_int_equal(r->source.count[EVENT_DUPLICATE], 1);
	assert_true(hits(r, "redis") == 1);
}

static void on_idle(void *arg)
{
	((struct stack *)arg)->idle_calls++;
}

static bool told_idle(struct rig *r)
{
	return r->s.idle_calls > 0;
}

/* Given back while the question is under way. */
static void test_stop_while_asking(void **state)
{
	struct rig *r = rig_of(state);

	NEED_READY(r);
	redis_server_signal(&cache, SIGSTOP);
	put_numbered(r, "x", 150);
	(void)turn_until(r, never, 20);
	batch_processor_stop(r->s.processor, 20 * MSEC, on_idle, &r->s);
	assert_true(turn_until(r, told_idle, LONG_MSEC));
	redis_server_signal(&cache, SIGCONT);
	assert_int_equal(r->source.count[EVENT_RETURNED], 150);
	(void)turn_until(r, never, 400);
	assert_int_equal(r->source.settled, 150);
	assert_int_equal(batch_processor_in_flight(r->s.processor), 0);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 0);
}

/* Freed with questions under way. */
static void test_freed_while_asking(void **state)
{
	struct rig *r = rig_of(state);

	NEED_READY(r);
	redis_server_signal(&cache, SIGSTOP);
	put_numbered(r, "x", 350);
	(void)turn_until(r, never, 20);
}

static int resume(void **state)
{
	int rc = teardown(state);

	redis_server_signal(&cache, SIGCONT);
	return rc;
}

/* Sets in Redis, and what else is there, cannot be told from keys of ours by a wrong type alone. */
static void test_a_foreign_key_in_the_way(void **state)
{
	struct rig *r = rig_of(state);

	NEED_READY(r);
	deliver(r, "a", STR("1"));
	assert_true(
	    say("EVAL \"for _,k in ipairs(redis.call('KEYS','p:*')) do redis.call('SET',k,'x') end "
	        "return 1\" 0\r\n"));
	for (int i = 0; i < 3; i++)
		deliver(r, "a", STR("1"));
	assert_int_equal(r->source.count[EVENT_DUPLICATE], 3);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 1);
}

/* ---- every allocation fails once ---- */

static void scenario_dedup(void)
{
	static struct rig r;
	size_t taken = 0;

	if (!server.pid || !cache.pid || rig_new(&r, options(10)) != ERR_OK)
		return;
	(void)turn_until(&r, is_ready, 200);
	for (int i = 0; i < 6; i++) {
		struct sample s = {.id = i % 2 ? "x" : "y", .body = i % 3 ? STR("a") : STR("b")};

		taken += put_into(&r.s, make_event(&r, s)) == ERR_OK;
	}
	r.want = taken;
	if (!turn_until(&r, all_settled, 8000))
		fail_msg("%zu of %zu events were settled", r.source.settled, taken);
	rig_free(&r);
}

static int start_both(void **state)
{
	if (!redis_server_start(&cache, NULL))
		cache.pid = 0;
	return start_server(state);
}

static int stop_both(void **state)
{
	redis_server_remove(&cache);
	return stop_server(state);
}

#define ALL(f)        cmocka_unit_test_setup_teardown(f, setup_all, teardown)
#define REDIS_ONLY(f) cmocka_unit_test_setup_teardown(f, setup_redis_only, teardown)
#define STALLED(f)    cmocka_unit_test_setup_teardown(f, setup_redis_only, resume)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    ALL(test_known_from_memory),
	    REDIS_ONLY(test_known_from_redis),
	    ALL(test_mixed_batch),
	    REDIS_ONLY(test_mixed_batch),
	    ALL(test_another_body_is_a_miss),
	    ALL(test_windows_are_the_databases),
	    ALL(test_epochs),
	    REDIS_ONLY(test_epochs),
	    ALL(test_a_reconnect_alone_forgets_nothing),
	    STALLED(test_a_stalled_redis_is_waited_for_once),
	    STALLED(test_stop_while_asking),
	    STALLED(test_freed_while_asking),
	    REDIS_ONLY(test_a_foreign_key_in_the_way),
	};
	const struct torture torture[] = {TORTURE(scenario_dedup)};
	int failed;

	if (!quiet_log("error"))
		return 2;
	if (!getenv("WEIR_TORTURE"))
		return cmocka_run_group_tests(tests, start_both, stop_both);
	if (start_both(NULL) != 0)
		return 1;
	failed = torture_all(torture, TORTURE_LEN(torture));
	stop_both(NULL);
	return failed;
}
