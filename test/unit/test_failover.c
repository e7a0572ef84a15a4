/* The fail-over with a clock of the test's own and sinks that do as they are told. */
#include "loop_fixture.h"

#include "weir/model/event.h"
#include "weir/queue/failover.h"
#include "weir/run/metric.h"

#define MOST 64

struct fake_sink {
	struct event_sink sink;
	enum err says; /* append()'s answer */
	size_t count;
	event_sink_done_fn done[MOST];
	void *arg[MOST];
	size_t told;
};

static struct {
	struct metric_registry *metrics;
	struct failover *f;
	struct fake_sink queue, direct;
	bool queue_up, direct_up;
	enum err probe_says;   /* at once */
	enum err probe_answer; /* from the loop */
	bool probe_silent;
	unsigned probes;
	struct loop_task probed;
	event_sink_done_fn probe_done;
	void *probe_arg;
	size_t ok, failed;
	enum err last;
} s;

static enum err fake_append(struct event_sink *sink, const struct event_view *events, size_t n,
                            event_sink_done_fn done, void *arg)
{
	struct fake_sink *k = container_of(sink, struct fake_sink, sink);

	(void)events;
	(void)n;
	if (k->says != ERR_OK)
		return k->says;
	assert_true(k->count < MOST);
	k->done[k->count] = done;
	k->arg[k->count++] = arg;
	return ERR_OK;
}

static unsigned queue_wait(const struct event_sink *sink)
{
	(void)sink;
	return 11;
}

static unsigned direct_wait(const struct event_sink *sink)
{
	(void)sink;
	return 22;
}

/* What the sink's server says to the oldest append that was not told. */
static void tell(struct fake_sink *k, enum err e)
{
	assert_true(k->told < k->count);
	k->told++;
	k->done[k->told - 1](k->arg[k->told - 1], e);
}

static bool queue_is_up(void *arg)
{
	(void)arg;
	return s.queue_up;
}

static bool direct_is_up(void *arg)
{
	(void)arg;
	return s.direct_up;
}

static void on_probed_task(void *arg)
{
	event_sink_done_fn done = s.probe_done;

	(void)arg;
	s.probe_done = NULL;
	done(s.probe_arg, s.probe_answer);
}

static enum err fake_probe(void *arg, event_sink_done_fn done, void *done_arg)
{
	(void)arg;
	s.probes++;
	if (s.probe_says != ERR_OK)
		return s.probe_says;
	assert_null(s.probe_done);
	s.probe_done = done;
	s.probe_arg = done_arg;
	if (!s.probe_silent)
		loop_defer(t.loop, &s.probed);
	return ERR_OK;
}

static void on_done(void *arg, enum err e)
{
	(void)arg;
	s.last = e;
	if (e == ERR_OK)
		s.ok++;
	else
		s.failed++;
}

static enum err make(bool with_queue, bool with_direct)
{
	struct failover_options o = {.loop = t.loop,
	                             .queue = with_queue ? &s.queue.sink : NULL,
	                             .metrics = s.metrics,
	                             .queue_up = queue_is_up,
	                             .probe = fake_probe,
	                             .direct_up = direct_is_up};
	enum err e = failover_new(&o, &s.f);

	if (e != ERR_OK)
		return e;
	if (with_direct)
		failover_set_direct(s.f, &s.direct.sink);
	failover_start(s.f);
	return ERR_OK;
}

static enum err open_fakes(void)
{
	memset(&s, 0, sizeof(s));
	s.queue.sink = (struct event_sink){fake_append, queue_wait};
	s.direct.sink = (struct event_sink){fake_append, direct_wait};
	s.queue_up = s.direct_up = true;
	loop_task_init(&s.probed, on_probed_task, NULL);
	return metric_registry_new(&s.metrics);
}

static void setup(bool with_queue, bool with_direct)
{
	assert_int_equal(open_fakes(), ERR_OK);
	assert_int_equal(make(with_queue, with_direct), ERR_OK);
	t.step = 10 * MSEC;
	run_turns(2);
}

static void teardown(void)
{
	while (s.queue.told < s.queue.count)
		tell(&s.queue, ERR_CANCELLED);
	failover_stop(s.f);
	if (s.probe_done)
		on_probed_task(NULL);
	failover_free(s.f);
	metric_registry_free(s.metrics);
}

static void pass(usec_t usec)
{
	run_turns((unsigned)(usec / t.step) + 1);
}

static enum err append(void)
{
	const struct event_view v = {.tool = STR("t")};
	struct event_sink *k = failover_sink(s.f);

	return k->append(k, &v, 1, on_done, NULL);
}

static double changes(const char *mode, const char *reason)
{
	return metric_get(metric_of(
	    metric_family(s.metrics,
	                  &(struct metric_spec){.type = METRIC_COUNTER,
	                                        .name = "webhook_ingest_mode_changes_total",
	                                        .help = "Changes of webhook_ingest_mode.",
	                                        .labels = {"mode", "reason"}}),
	    mode, reason, NULL));
}

static unsigned retry_after(void)
{
	struct event_sink *k = failover_sink(s.f);

	return k->retry_after(k);
}

/* ---- giving the queue up ---- */

static void test_three_failed_writes(void **state)
{
	(void)state;
	setup(true, true);
	for (int i = 0; i < 4; i++)
		assert_int_equal(append(), ERR_OK);
	assert_int_equal(s.queue.count, 4);
	tell(&s.queue, ERR_FULL); /* out of memory */
	tell(&s.queue, ERR_UNAVAILABLE);
	assert_false(failover_direct(s.f));
	assert_int_equal(retry_after(), 11);
	tell(&s.queue, ERR_CLOSED);
	assert_true(failover_direct(s.f));
	assert_string_equal(failover_mode(s.f), "direct");
	assert_int_equal(retry_after(), 22);
	assert_int_equal(s.failed, 3);
	/* What was under way is told its own end, and is not sent a second time. */
	tell(&s.queue, ERR_OK);
	assert_int_equal(s.ok, 1);
	assert_int_equal(s.direct.count, 0);
	assert_true(failover_direct(s.f));
	assert_int_equal(append(), ERR_OK);
	assert_int_equal(s.direct.count, 1);
	assert_int_equal(s.queue.count, 4);
	assert_true(changes("direct", "failed_writes") == 1);
	teardown();
}

static void test_a_success_between_failures(void **state)
{
	(void)state;
	setup(true, true);
	for (int i = 0; i < 9; i++) {
		assert_int_equal(append(), ERR_OK);
		tell(&s.queue, i % 3 == 2 ? ERR_OK : ERR_TIMEOUT);
	}
	assert_false(failover_direct(s.f));
	/* Our own trouble is not Redis's. */
	for (int i = 0; i < 5; i++) {
		assert_int_equal(append(), ERR_OK);
		tell(&s.queue, i % 2 ? ERR_NOMEM : ERR_CANCELLED);
		s.queue.says = i % 2 ? ERR_NOMEM : ERR_FULL;
		assert_int_equal(append(), s.queue.says);
		s.queue.says = ERR_OK;
	}
	assert_false(failover_direct(s.f));
	teardown();
}

static void test_a_second_without_an_answer(void **state)
{
	(void)state;
	setup(true, true);
	assert_int_equal(append(), ERR_OK);
	pass(900 * MSEC);
	assert_false(failover_direct(s.f));
	pass(400 * MSEC);
	assert_true(failover_direct(s.f));
	assert_int_equal(s.failed, 0);
	tell(&s.queue, ERR_TIMEOUT);
	assert_int_equal(s.last, ERR_TIMEOUT);
	assert_true(changes("direct", "no_answer") == 1);
	teardown();
}

static void test_answers_that_keep_coming(void **state)
{
	(void)state;
	setup(true, true);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(append(), ERR_OK);
		pass(500 * MSEC);
		tell(&s.queue, ERR_OK);
	}
	assert_false(failover_direct(s.f));
	teardown();
}

static void test_a_second_without_a_connection(void **state)
{
	(void)state;
	setup(true, true);
	s.queue_up = false;
	s.probe_says = ERR_UNAVAILABLE;
	pass(700 * MSEC);
	assert_false(failover_direct(s.f));
	s.queue_up = true;
	pass(300 * MSEC);
	s.queue_up = false;
	pass(700 * MSEC);
	assert_false(failover_direct(s.f));
	pass(600 * MSEC);
	assert_true(failover_direct(s.f));
	assert_true(changes("direct", "no_connection") == 1);
	teardown();
}

/* Nothing was sent, so the event may go another way at once. */
static void test_what_was_not_sent_goes_direct(void **state)
{
	(void)state;
	setup(true, true);
	s.queue.says = ERR_UNAVAILABLE;
	assert_int_equal(append(), ERR_OK);
	assert_int_equal(s.direct.count, 1);
	assert_false(failover_direct(s.f));
	s.direct.says = ERR_FULL;
	assert_int_equal(append(), ERR_FULL);
	assert_int_equal(append(), ERR_FULL);
	assert_true(failover_direct(s.f));
	teardown();
}

/* ---- coming back ---- */

static void go_direct(void)
{
	for (unsigned i = 0; i < FAILOVER_WRITES; i++)
		assert_int_equal(append(), ERR_OK);
	for (unsigned i = 0; i < FAILOVER_WRITES; i++)
		tell(&s.queue, ERR_CLOSED);
	assert_true(failover_direct(s.f));
}

static void test_back_after_five_good_seconds(void **state)
{
	(void)state;
	setup(true, true);
	s.probe_answer = ERR_FULL;
	go_direct();
	pass(20 * USEC_PER_SEC);
	assert_true(failover_direct(s.f));
	assert_true(s.probes >= 70 && s.probes <= 82);
	s.probe_answer = ERR_OK;
	pass(4900 * MSEC);
	assert_true(failover_direct(s.f));
	/* One bad probe, and it begins anew. */
	s.probe_answer = ERR_UNAVAILABLE;
	pass(300 * MSEC);
	s.probe_answer = ERR_OK;
	pass(4900 * MSEC);
	assert_true(failover_direct(s.f));
	pass(600 * MSEC);
	assert_false(failover_direct(s.f));
	assert_int_equal(append(), ERR_OK);
	assert_int_equal(s.queue.count, FAILOVER_WRITES + 1);
	assert_true(changes("queue", "recovered") == 1);
	/* The count begins anew too. */
	tell(&s.queue, ERR_CLOSED);
	assert_false(failover_direct(s.f));
	teardown();
}

static void test_a_probe_without_an_answer_is_not_doubled(void **state)
{
	(void)state;
	setup(true, true);
	s.probe_silent = true;
	go_direct();
	pass(3 * USEC_PER_SEC);
	assert_int_equal(s.probes, 1);
	assert_true(failover_direct(s.f));
	s.probe_silent = false;
	s.probe_answer = ERR_TIMEOUT;
	on_probed_task(NULL);
	pass(1 * USEC_PER_SEC);
	assert_true(s.probes > 2);
	teardown();
}

static void test_no_probation_without_a_database(void **state)
{
	(void)state;
	setup(true, true);
	s.probe_answer = ERR_UNAVAILABLE;
	s.direct_up = false;
	s.direct.says = ERR_UNAVAILABLE;
	go_direct();
	pass(2 * USEC_PER_SEC);
	assert_true(failover_direct(s.f));
	assert_int_equal(append(), ERR_UNAVAILABLE);
	s.probe_answer = ERR_OK;
	pass(600 * MSEC);
	assert_false(failover_direct(s.f));
	assert_true(changes("queue", "database_down") == 1);
	teardown();
}

static void test_database_goes_during_probation(void **state)
{
	(void)state;
	setup(true, true);
	go_direct();
	pass(1 * USEC_PER_SEC);
	assert_true(failover_direct(s.f));
	s.direct_up = false;
	assert_int_equal(append(), ERR_OK);
	assert_int_equal(s.direct.count, 0);
	assert_int_equal(s.queue.count, FAILOVER_WRITES + 1);
	assert_false(failover_direct(s.f));
	teardown();
}

/* ---- with one of both only ---- */

static void test_without_a_direct_way(void **state)
{
	(void)state;
	setup(true, false);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(append(), ERR_OK);
		tell(&s.queue, ERR_CLOSED);
	}
	s.queue_up = false;
	s.queue.says = ERR_UNAVAILABLE;
	pass(3 * USEC_PER_SEC);
	assert_int_equal(append(), ERR_UNAVAILABLE);
	assert_false(failover_direct(s.f));
	assert_int_equal(retry_after(), 11);
	assert_int_equal(s.probes, 0);
	teardown();
}

static void test_without_a_queue(void **state)
{
	(void)state;
	setup(false, true);
	assert_true(failover_direct(s.f));
	assert_int_equal(append(), ERR_OK);
	assert_int_equal(s.direct.count, 1);
	tell(&s.direct, ERR_OK);
	assert_int_equal(s.ok, 1);
	pass(3 * USEC_PER_SEC);
	assert_int_equal(s.probes, 0);
	assert_int_equal(retry_after(), 22);
	teardown();
}

static void test_without_both(void **state)
{
	(void)state;
	setup(false, false);
	assert_int_equal(append(), ERR_UNAVAILABLE);
	assert_true(retry_after() >= 1);
	teardown();
}

static void scenario_there_and_back(void)
{
	memset(&t, 0, sizeof(t));
	fake_now = 1000 * MSEC;
	clock_set_source(fake_mono, fake_wall);
	if (loop_new(&t.loop) != ERR_OK)
		goto out;
	loop_task_init(&t.ticker, on_tick, NULL);
	if (open_fakes() == ERR_OK && make(true, true) == ERR_OK) {
		t.step = 100 * MSEC;
		for (int i = 0; i < 4; i++)
			(void)!append();
		run_turns(2);
		while (s.queue.told < s.queue.count)
			tell(&s.queue, ERR_CLOSED);
		(void)!append();
		pass(6 * USEC_PER_SEC);
		(void)!append();
		while (s.queue.told < s.queue.count)
			tell(&s.queue, ERR_OK);
		failover_stop(s.f);
		if (s.probe_done)
			on_probed_task(NULL);
		failover_free(s.f);
	}
	metric_registry_free(s.metrics);
	loop_free(t.loop);
out:
	clock_set_source(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_three_failed_writes),
	    TEST(test_a_success_between_failures),
	    TEST(test_a_second_without_an_answer),
	    TEST(test_answers_that_keep_coming),
	    TEST(test_a_second_without_a_connection),
	    TEST(test_what_was_not_sent_goes_direct),
	    TEST(test_back_after_five_good_seconds),
	    TEST(test_a_probe_without_an_answer_is_not_doubled),
	    TEST(test_no_probation_without_a_database),
	    TEST(test_database_goes_during_probation),
	    TEST(test_without_a_direct_way),
	    TEST(test_without_a_queue),
	    TEST(test_without_both),
	};
	const struct torture torture[] = {TORTURE(scenario_there_and_back)};

	return TESTS_OR_TORTURE(tests, torture);
}
