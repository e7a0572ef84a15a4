/* The enricher with a look-up of the test's own and a real Redis: what is asked, what is cached,
 * how long one waits for a server that stands still, and when a failing one is asked again. */
#include "fake_lookup.h"
#include "redis_rig.h"

#include "weir/base/buf.h"
#include "weir/model/event.h"
#include "weir/model/recipient.h"
#include "weir/pipeline/enricher.h"
#include "weir/run/metric.h"

#define TIMEOUT (400 * MSEC)

static struct rig rig;
static struct metric_registry *metrics;
static struct enricher *enricher;
static struct enrich_question *question;
static int dones;
static usec_t shift; /* of the monotonic clock */

/* ---- the rig ---- */

static usec_t shifted_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * USEC_PER_SEC + t.tv_nsec / 1000 + shift;
}

static void on_done(void *arg)
{
	(void)arg;
	dones++;
}

static struct enricher_options options(void)
{
	return (struct enricher_options){.loop = rig.loop,
	                                 .redis = rig.redis,
	                                 .lookup = &fake.base,
	                                 .metrics = metrics,
	                                 .key_prefix = "p:",
	                                 .timeout = TIMEOUT,
	                                 .found_ttl = 3600 * USEC_PER_SEC,
	                                 .unknown_ttl = 30 * USEC_PER_SEC,
	                                 .max_keys = 1000};
}

static void open_enricher(const struct enricher_options *o)
{
	assert_int_equal(enricher_new(o, &enricher), ERR_OK);
	assert_int_equal(enrich_question_new(enricher, on_done, NULL, &question), ERR_OK);
}

static void close_enricher(void)
{
	enrich_question_free(question);
	enricher_free(enricher);
	question = NULL;
	enricher = NULL;
}

static int set_up(void **state)
{
	struct redis_options ro = rig_options();
	struct enricher_options o;

	(void)state;
	shift = 0;
	dones = 0;
	fake_init();
	if (!server.pid)
		return 0;
	rig_init(&rig, &ro);
	assert_int_equal(ask(&rig, "FLUSHALL").err, ERR_OK);
	assert_int_equal(metric_registry_new(&metrics), ERR_OK);
	o = options();
	open_enricher(&o);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	clock_set_source(NULL, NULL);
	if (!server.pid)
		return 0;
	redis_free(rig.redis);
	rig.redis = NULL;
	if (fake.pending)
		fake_answers(ERR_CANCELLED);
	close_enricher();
	metric_registry_free(metrics);
	rig_done(&rig);
	return 0;
}

static bool is_done(struct rig *r)
{
	(void)r;
	return dones > 0;
}

static bool is_asked(struct rig *r)
{
	(void)r;
	return fake.pending > 0 || dones > 0;
}

static void wait_asked(void)
{
	assert_true(turn_until(&rig, is_asked, LONG_MSEC));
	assert_int_equal(fake.pending, 1);
}

static void wait_done(void)
{
	assert_true(turn_until(&rig, is_done, LONG_MSEC));
	assert_int_equal(dones, 1);
	dones = 0;
}

static double count(const char *result)
{
	return metric_get(metric_of(
	    metric_family(metrics, &(struct metric_spec){.type = METRIC_COUNTER,
	                                                 .name = "webhook_enrich_reports_total",
	                                                 .help = "Delivery reports by how their "
	                                                         "recipient was found.",
	                                                 .labels = {"result"}}),
	    result, NULL, NULL));
}

/* An event of `tool` with one report for each message id. */
static struct event *event_of(const char *tool, const char *ids)
{
	struct event_view v = {.tool = str_of(tool), .type = STR("t")};
	struct recipient_reports *r = mem_zalloc(sizeof(*r) + 16 * sizeof(r->list[0]));
	struct str rest = str_of(ids);
	struct event *e;

	assert_non_null(r);
	assert_int_equal(event_make(&v, &e), ERR_OK);
	while (rest.ptr)
		r->list[r->n++] = (struct recipient_report){.message_id = str_split(&rest, ' '),
		                                            .address = STR("a@b")};
	e->reports = r;
	return e;
}

static int64_t found(const struct event *e, size_t i)
{
	return e->reports->list[i].recipient_id;
}

/* Asks for the events' reports; the fake answers, if it is asked. */
static void enrich(struct event **events, size_t n)
{
	if (!enricher_ask(question, events, n))
		return;
	assert_true(turn_until(&rig, is_asked, LONG_MSEC));
	if (fake.pending)
		fake_answers(ERR_OK);
	wait_done();
}

static void enrich_one(const char *ids, int64_t want)
{
	struct event *e = event_of("tool", ids);

	enrich(&e, 1);
	assert_int_equal(found(e, 0), want);
	event_unref(e);
}

/* ---- tests ---- */

static void test_nothing_to_do(void **state)
{
	struct event_view v = {.tool = STR("t"), .type = STR("t")};
	struct event *e;

	(void)state;
	NEED_SERVER();
	assert_int_equal(event_make(&v, &e), ERR_OK);
	assert_false(enricher_ask(question, &e, 1));
	assert_int_equal(fake.asked, 0);
	event_unref(e);
}

static void test_one_lookup_for_all(void **state)
{
	struct event *e[3] = {event_of("a", "m1 m2 m1"), event_of("b", "m1 x"), NULL};

	(void)state;
	NEED_SERVER();
	e[2] = event_of("a", "m3");
	assert_true(enricher_ask(question, e, 3));
	assert_int_equal(dones, 0);
	wait_asked();
	/* (a, m1), (a, m2), (a, m3), (b, m1), (b, x) */
	assert_int_equal(fake.n, 5);
	assert_true(fake.timeout > 0 && fake.timeout <= TIMEOUT);
	fake_answers(ERR_OK);
	wait_done();
	assert_int_equal(found(e[0], 0), 1);
	assert_int_equal(found(e[0], 1), 2);
	assert_int_equal(found(e[0], 2), 1);
	assert_int_equal(found(e[1], 0), 1);
	assert_int_equal(found(e[1], 1), 0);
	assert_int_equal(found(e[2], 0), 3);
	assert_int_equal(count("found"), 5);
	assert_int_equal(count("unknown"), 1);
	assert_int_equal(fake.asked, 1);
	for (int i = 0; i < 3; i++)
		event_unref(e[i]);
}

static void test_cache(void **state)
{
	struct answer keys;

	(void)state;
	NEED_SERVER();
	enrich_one("m7", 7);
	enrich_one("x", 0);
	assert_int_equal(fake.asked, 2);
	enrich_one("m7", 7);
	enrich_one("x", 0);
	assert_int_equal(fake.asked, 2);
	assert_int_equal(count("cached"), 1);
	assert_int_equal(count("cached_unknown"), 1);
	keys = ask(&rig, "KEYS p:recipient:fake:*");
	assert_int_equal(keys.count, 2);
	assert_int_equal(ask(&rig, "DBSIZE").integer, 2);
}

static void test_times_to_live(void **state)
{
	static const char script[] =
	    "local n = {}; for _, k in ipairs(redis.call('KEYS', '*')) do local t = "
	    "redis.call('TTL', k); n[#n + 1] = t end; table.sort(n); return n[1] * 10000 + n[2]";
	struct str argv[] = {STR("EVAL"), STR(script), STR("0")};
	struct answer a = {.rig = &rig};

	(void)state;
	NEED_SERVER();
	enrich_one("m7", 7);
	enrich_one("x", 0);
	assert_int_equal(redis_submit(rig.redis, argv, 3, 0, on_answer, &a), ERR_OK);
	assert_true(await(&rig, &a, 1, LONG_MSEC));
	assert_in_range(a.integer / 10000, 20, 30);
	assert_in_range(a.integer % 10000, 3500, 3600);
}

static void test_garbage_in_the_cache_is_not_there(void **state)
{
	(void)state;
	NEED_SERVER();
	enrich_one("m7", 7);
	assert_int_equal(ask(&rig, "EVAL return(redis.call('SET',redis.call('KEYS','*')[1],'-1x'))"
	                           " 0")
	                     .err,
	                 ERR_OK);
	enrich_one("m7", 7);
	assert_int_equal(fake.asked, 2);
}

static void test_cache_is_bounded(void **state)
{
	struct enricher_options o = options();

	(void)state;
	NEED_SERVER();
	close_enricher();
	o.max_keys = 4;
	open_enricher(&o);
	for (int i = 1; i < 9; i++) {
		char id[16];

		snprintf(id, sizeof(id), "m%d", i);
		enrich_one(id, i);
	}
	assert_int_equal(ask(&rig, "DBSIZE").integer, 2);
}

static const char *epoch = "";

static const char *current_epoch(void *arg)
{
	(void)arg;
	return epoch;
}

static void test_cache_belongs_to_an_epoch(void **state)
{
	struct enricher_options o = options();

	(void)state;
	NEED_SERVER();
	close_enricher();
	o.epoch = current_epoch;
	open_enricher(&o);
	/* Not known: nothing is cached. */
	epoch = "";
	enrich_one("m7", 7);
	assert_int_equal(ask(&rig, "DBSIZE").integer, 0);
	epoch = "a";
	enrich_one("m7", 7);
	enrich_one("m7", 7);
	assert_int_equal(fake.asked, 2);
	/* Another database: what was cached counts no more, until the first one is back. */
	epoch = "b";
	enrich_one("m7", 7);
	assert_int_equal(fake.asked, 3);
	epoch = "a";
	enrich_one("m7", 7);
	assert_int_equal(fake.asked, 3);
	epoch = "";
	enrich_one("m7", 7);
	assert_int_equal(fake.asked, 4);
}

static void test_without_cache(void **state)
{
	struct enricher_options o = options();
	struct event *e = event_of("tool", "m5");

	(void)state;
	NEED_SERVER();
	close_enricher();
	o.redis = NULL;
	open_enricher(&o);
	assert_true(enricher_ask(question, &e, 1));
	assert_int_equal(fake.pending, 1);
	fake_answers(ERR_OK);
	assert_int_equal(dones, 1);
	assert_int_equal(found(e, 0), 5);
	event_unref(e);
}

static void test_redis_stands_still(void **state)
{
	struct event *e = event_of("tool", "m5");
	usec_t before = clock_mono();
	struct buf b;

	(void)state;
	NEED_SERVER();
	redis_server_signal(&server, SIGSTOP);
	assert_true(enricher_ask(question, &e, 1));
	wait_asked();
	assert_true(clock_mono() - before >= 190 * MSEC);
	fake_answers(ERR_OK);
	wait_done();
	assert_int_equal(found(e, 0), 5);
	/* While it owes an answer it is not asked again. */
	e->reports->list[0].recipient_id = 0;
	assert_true(enricher_ask(question, &e, 1));
	assert_int_equal(fake.pending, 1);
	fake_answers(ERR_OK);
	wait_done();
	buf_init(&b, 1000);
	assert_false(enricher_report(enricher, &b));
	assert_non_null(strstr(b.ptr, "\"cache\":\"stalled\""));
	buf_done(&b);
	redis_server_signal(&server, SIGCONT);
	event_unref(e);
	assert_int_equal(ask(&rig, "PING").err, ERR_OK);
	enrich_one("m5", 5);
	enrich_one("m5", 5);
	assert_int_equal(count("cached"), 1);
}

static void test_failure_closes_the_gate(void **state)
{
	struct event *e = event_of("tool", "m5 m6");
	struct buf b;

	(void)state;
	NEED_SERVER();
	clock_set_source(shifted_clock, NULL);
	assert_true(enricher_ask(question, &e, 1));
	wait_asked();
	fake_answers(ERR_TIMEOUT);
	wait_done();
	assert_int_equal(found(e, 0), 0);
	assert_int_equal(count("failed"), 2);
	/* The next ones pass by. */
	for (int i = 0; i < 5; i++)
		enrich(&e, 1);
	assert_int_equal(fake.asked, 1);
	assert_int_equal(count("skipped"), 10);
	buf_init(&b, 1000);
	assert_false(enricher_report(enricher, &b));
	assert_non_null(strstr(b.ptr, "\"paused\":true,\"error\":\"timeout: the fake says no\""));
	buf_done(&b);
	/* After the pause one is let through, and opens it. */
	shift += 3 * USEC_PER_SEC;
	enrich(&e, 1);
	assert_int_equal(fake.asked, 2);
	assert_int_equal(found(e, 0), 5);
	enrich_one("m8", 8);
	assert_int_equal(fake.asked, 3);
	event_unref(e);
}

static void test_one_at_a_time_is_let_through(void **state)
{
	struct event *e = event_of("tool", "m5"), *other = event_of("tool", "m6");
	struct enrich_question *second;

	(void)state;
	NEED_SERVER();
	clock_set_source(shifted_clock, NULL);
	assert_int_equal(enrich_question_new(enricher, on_done, NULL, &second), ERR_OK);
	fake.refuse = ERR_UNAVAILABLE;
	enrich(&e, 1);
	fake.refuse = ERR_OK;
	shift += 3 * USEC_PER_SEC;
	assert_true(enricher_ask(question, &e, 1));
	wait_asked();
	if (enricher_ask(second, &other, 1))
		wait_done();
	assert_int_equal(found(other, 0), 0);
	assert_int_equal(fake.asked, 1);
	/* It fails: closed for longer than before. */
	fake_answers(ERR_UNAVAILABLE);
	wait_done();
	shift += 3 * USEC_PER_SEC;
	enrich(&e, 1);
	assert_int_equal(fake.asked, 1);
	shift += 2 * USEC_PER_SEC;
	enrich(&e, 1);
	assert_int_equal(fake.asked, 2);
	assert_int_equal(found(e, 0), 5);
	enrich_question_free(second);
	event_unref(e);
	event_unref(other);
}

static void test_forgotten_events_may_go(void **state)
{
	struct event *e = event_of("tool", "m5");

	(void)state;
	NEED_SERVER();
	assert_true(enricher_ask(question, &e, 1));
	wait_asked();
	enricher_forget(question);
	event_unref(e);
	fake_answers(ERR_OK);
	wait_done();
	/* It was cached nevertheless. */
	enrich_one("m5", 5);
	assert_int_equal(fake.asked, 1);
	/* The same while the cache is asked. */
	e = event_of("tool", "m6");
	assert_true(enricher_ask(question, &e, 1));
	enricher_forget(question);
	event_unref(e);
	wait_done();
	assert_int_equal(fake.asked, 1);
}

static void test_freed_while_it_is_asked(void **state)
{
	struct event *e = event_of("tool", "m5");

	(void)state;
	NEED_SERVER();
	assert_true(enricher_ask(question, &e, 1));
	wait_asked();
	enrich_question_free(question);
	question = NULL;
	event_unref(e);
	fake_answers(ERR_OK);
	assert_int_equal(dones, 0);
	assert_int_equal(enrich_question_new(enricher, on_done, NULL, &question), ERR_OK);
}

static void test_more_than_can_be_asked_for(void **state)
{
	struct event_view v = {.tool = STR("t"), .type = STR("t")};
	struct recipient_reports *r = mem_zalloc(sizeof(*r) + 10001 * sizeof(r->list[0]));
	char(*ids)[8] = mem_zalloc(10001 * 8);
	struct event *e;

	(void)state;
	NEED_SERVER();
	assert_int_equal(event_make(&v, &e), ERR_OK);
	for (r->n = 0; r->n < 10001; r->n++) {
		snprintf(ids[r->n], 8, "m%zu", r->n);
		r->list[r->n] = (struct recipient_report){.message_id = str_of(ids[r->n]),
		                                          .address = STR("a@b")};
	}
	e->reports = r;
	fake.refuse = ERR_UNAVAILABLE;
	if (enricher_ask(question, &e, 1))
		wait_done();
	assert_int_equal(count("failed"), 10000);
	assert_int_equal(count("skipped"), 1);
	event_unref(e);
	mem_free(ids);
}

/* Without Redis, so that all allocations are the enricher's. */
static void scenario_enrich(void)
{
	struct event *e = NULL;
	struct enricher_options o;
	struct event_view v = {.tool = STR("t"), .type = STR("t")};

	fake_init();
	dones = 0;
	rig = (struct rig){0};
	metrics = NULL;
	enricher = NULL;
	question = NULL;
	if (loop_new(&rig.loop) != ERR_OK)
		return;
	if (metric_registry_new(&metrics) != ERR_OK || event_make(&v, &e) != ERR_OK)
		goto out;
	e->reports = mem_zalloc(sizeof(*e->reports) + 2 * sizeof(e->reports->list[0]));
	if (!e->reports)
		goto out;
	e->reports->n = 2;
	for (int i = 0; i < 2; i++)
		e->reports->list[i] = (struct recipient_report){
		    .message_id = i ? STR("m1") : STR("m2"), .address = STR("a@b")};
	o = options();
	if (enricher_new(&o, &enricher) != ERR_OK ||
	    enrich_question_new(enricher, on_done, NULL, &question) != ERR_OK)
		goto out;
	if (enricher_ask(question, &e, 1)) {
		fake_answers(ERR_OK);
		assert_int_equal(dones, 1);
		assert_int_equal(found(e, 0), 2);
	}
out:
	event_unref(e);
	enrich_question_free(question);
	enricher_free(enricher);
	metric_registry_free(metrics);
	loop_free(rig.loop);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_nothing_to_do),
	    TEST(test_one_lookup_for_all),
	    TEST(test_cache),
	    TEST(test_times_to_live),
	    TEST(test_garbage_in_the_cache_is_not_there),
	    TEST(test_cache_is_bounded),
	    TEST(test_cache_belongs_to_an_epoch),
	    TEST(test_without_cache),
	    TEST(test_redis_stands_still),
	    TEST(test_failure_closes_the_gate),
	    TEST(test_one_at_a_time_is_let_through),
	    TEST(test_forgotten_events_may_go),
	    TEST(test_freed_while_it_is_asked),
	    TEST(test_more_than_can_be_asked_for),
	};
	const struct torture torture[] = {TORTURE(scenario_enrich)};
	int rc;

	if (log_set_levels("error", NULL) != ERR_OK)
		return 1;
	if (getenv("WEIR_TORTURE"))
		return torture_all(torture, 1);
	(void)redis_server_start(&server, NULL);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	redis_server_remove(&server);
	return rc;
}
