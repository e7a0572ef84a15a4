/* The hashes of message batches on a real Postgres and a real Redis: how they follow what nobody
 * wrote there, that a stop is safe at any moment, and that want of memory loses nothing. */
#include "pipeline_rig.h"

#include "redis_server.h"
#include "weir/pipeline/recipient_counters.h"

static struct redis_server cache;
static char cache_addr[128];

struct hashes {
	struct rig *rig;
	struct redis *redis;
	struct recipient_counters *counters;
	bool shut; /* the database is not to be asked */
};

static struct hashes hashes;

static bool say(const char *line, char *reply, size_t size)
{
	return redis_server_say(&cache, line, reply, size);
}

static void on_redis(void *arg, bool up)
{
	struct hashes *h = arg;

	if (h->counters)
		recipient_counters_on_redis(h->counters, up);
}

static bool may_ask(void *arg)
{
	struct hashes *h = arg;

	return !h->shut && pg_pool_up(h->rig->s.pool);
}

static void hashes_free(struct hashes *h)
{
	redis_free(h->redis);
	recipient_counters_close(h->counters);
	pg_pool_free(h->rig->s.pool);
	h->rig->s.pool = NULL;
	recipient_counters_free(h->counters);
	*h = (struct hashes){.rig = h->rig};
}

static enum err hashes_new(struct rig *r, struct hashes *h)
{
	struct redis_options ro = {.name = "test", .addr = cache_addr};
	struct recipient_counters_options o = {.loop = r->loop,
	                                       .pool = r->s.pool,
	                                       .prefix = "p:",
	                                       .metrics = r->metrics,
	                                       .ttl = 3600 * USEC_PER_SEC,
	                                       .look = 2 * MSEC,
	                                       .ready = may_ask,
	                                       .arg = h};
	enum err e;

	*h = (struct hashes){.rig = r};
	snprintf(cache_addr, sizeof(cache_addr), "%s", cache.addr);
	e = redis_new(r->loop, NULL, &ro, on_redis, h, &h->redis);
	o.redis = h->redis;
	if (e == ERR_OK)
		e = recipient_counters_new(&o, &h->counters);
	if (e != ERR_OK)
		return e;
	redis_start(h->redis);
	recipient_counters_start(h->counters);
	return ERR_OK;
}

static void enrol(struct rig *r, int from, int to)
{
	char text[400];

	snprintf(text, sizeof(text),
	         "SELECT weir.register_message_batch('b' || i, 'mail', jsonb_build_array("
	         "jsonb_build_object('message_id', 'm' || gen_random_uuid(), 'address', 'a')))"
	         " FROM generate_series(%d, %d) i",
	         from, to);
	sql(r, text);
}

static bool no_traces(struct rig *r)
{
	return number(r, "SELECT count(*) FROM weir.stale_hashes") == 0;
}

static bool swept(struct rig *r)
{
	char reply[64];

	(void)r;
	return say("EXISTS p:message_batches:swept\r\n", reply, sizeof(reply)) &&
	       strncmp(reply, ":1", 2) == 0;
}

static bool all_there(struct rig *r)
{
	return no_traces(r) && swept(r);
}

static long hash_count(void)
{
	char reply[64];

	assert_true(say("EVAL \"return #redis.call('KEYS','p:message_batch:*')\" 0\r\n", reply,
	                sizeof(reply)));
	return strtol(reply + 1, NULL, 10);
}

static void forget(struct rig *r)
{
	char reply[64];

	sql(r, "TRUNCATE weir.message_batches, weir.recipients, weir.stale_hashes");
	assert_true(say("FLUSHALL\r\n", reply, sizeof(reply)));
}

static int setup_hashes(void **state)
{
	int failed = cache.pid ? setup(state) : 0;

	if (failed || !*state)
		return failed;
	forget(*state);
	return hashes_new(*state, &hashes) != ERR_OK;
}

static int teardown_hashes(void **state)
{
	if (*state)
		hashes_free(&hashes);
	return teardown(state);
}

#define NEED_BOTH()                    \
	if (!server.pid || !cache.pid) \
	skip()

static void test_pages_of_traces(void **state)
{
	struct rig *r = rig_of(state);

	NEED_BOTH();
	enrol(r, 1, 450);
	assert_true(turn_until(r, all_there, LONG_MSEC));
	assert_int_equal(hash_count(), 450);
	enrol(r, 201, 210);
	assert_true(turn_until(r, no_traces, LONG_MSEC));
	assert_int_equal(hash_count(), 450);
}

/* Redis lost everything, and there are no traces. */
static void test_pages_of_a_sweep(void **state)
{
	struct rig *r = rig_of(state);

	NEED_BOTH();
	hashes.shut = true;
	enrol(r, 1, 450);
	sql(r, "TRUNCATE weir.stale_hashes;"
	       "UPDATE weir.message_batches SET version = version - 3700000000 WHERE id = 'b7'");
	hashes.shut = false;
	assert_true(turn_until(r, swept, LONG_MSEC));
	assert_int_equal(hash_count(), 449); /* the hash of b7 would have expired */
}

static char note[32];

static bool swept_again(struct rig *r)
{
	char reply[64];

	return swept(r) && say("GET p:message_batches:swept\r\n", reply, sizeof(reply)) &&
	       !strstr(reply, note);
}

/* A sweep begins where the last one was, less the time that a commit may take. */
static void test_a_sweep_goes_on_from_the_last(void **state)
{
	struct rig *r = rig_of(state);
	char line[80], reply[64];

	NEED_BOTH();
	hashes.shut = true;
	enrol(r, 1, 3);
	sql(r, "TRUNCATE weir.stale_hashes;"
	       "UPDATE weir.message_batches SET version = version - 200000000 WHERE id = 'b2';"
	       "UPDATE weir.message_batches SET version = version - 400000000 WHERE id = 'b3'");
	snprintf(note, sizeof(note), "%lld", (long long)clock_wall());
	snprintf(line, sizeof(line), "SET p:message_batches:swept %s\r\n", note);
	assert_true(say(line, reply, sizeof(reply)));
	hashes.shut = false;
	assert_true(turn_until(r, swept_again, LONG_MSEC));
	assert_int_equal(hash_count(), 2);
}

/* Whatever is under way. */
static void test_a_stop_at_any_moment(void **state)
{
	struct rig *r = rig_of(state);

	NEED_BOTH();
	enrol(r, 1, 300);
	for (int i = 0; i < 30; i++) {
		(void)turn_until(r, never, i % 10);
		if (i % 3 == 0) {
			recipient_counters_stop(hashes.counters);
			(void)turn_until(r, never, i % 4);
			recipient_counters_start(hashes.counters);
		}
		hashes_free(&hashes);
		stack_free(&r->s);
		assert_int_equal(stack_new(r, &plain, &r->s), ERR_OK);
		assert_int_equal(hashes_new(r, &hashes), ERR_OK);
	}
	sql(r, "UPDATE weir.stale_hashes SET leased_until = NULL");
	assert_true(turn_until(r, all_there, LONG_MSEC));
	assert_int_equal(hash_count(), 300);
}

static bool torture_there(struct rig *r)
{
	(void)r;
	return hash_count() == 3;
}

static void scenario_hashes(void)
{
	static struct rig r;
	struct hashes h = {0};

	if (!server.pid || !cache.pid || rig_new(&r, &plain) != ERR_OK)
		return;
	if (hashes_new(&r, &h) == ERR_OK) {
		forget(&r);
		enrol(&r, 1, 3);
		if (turn_until(&r, is_up, LONG_MSEC))
			assert_true(turn_until(&r, torture_there, LONG_MSEC));
	}
	hashes_free(&h);
	rig_free(&r);
}

static int start_both(void **state)
{
	(void)redis_server_start(&cache, NULL); /* tests skip when there is none */
	return start_server(state);
}

static int stop_both(void **state)
{
	redis_server_remove(&cache);
	return stop_server(state);
}

#define HASHES(f) cmocka_unit_test_setup_teardown(f, setup_hashes, teardown_hashes)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    HASHES(test_pages_of_traces),
	    HASHES(test_pages_of_a_sweep),
	    HASHES(test_a_sweep_goes_on_from_the_last),
	    HASHES(test_a_stop_at_any_moment),
	};
	const struct torture torture[] = {TORTURE(scenario_hashes)};

	if (!quiet_log("error"))
		return 2;
	return TESTS_OR_TORTURE_BETWEEN(tests, torture, start_both, stop_both);
}
