/* The direct way in front of a real buffer, with a drain and a database of the test's own. */
#include "loop_fixture.h"

#include "weir/model/event.h"
#include "weir/model/tool.h"
#include "weir/pipeline/event_buffer.h"
#include "weir/queue/direct.h"
#include "weir/run/metric.h"

#define MOST    64
#define TIMEOUT (5 * USEC_PER_SEC)

static struct {
	struct metric_registry *metrics;
	struct event_buffer *buffer;
	struct direct *d;
	bool connected, answers;
	enum event_buffer_slot slot;
	struct event *batch[MOST]; /* with the drain */
	size_t batched;
	size_t ok, failed;
	enum err last;
} s;

static bool is_connected(void *arg)
{
	(void)arg;
	return s.connected;
}

static bool does_answer(void *arg)
{
	(void)arg;
	return s.answers;
}

static struct tool mail = {.id = {"mail", 4}, .refs = 1};

static struct tool *tool_of(void *arg, struct str id)
{
	(void)arg;
	return str_eq(id, mail.id) ? tool_ref(&mail) : NULL;
}

static enum event_buffer_slot slot_of(void *arg)
{
	(void)arg;
	return s.slot;
}

static void take(void *arg, struct event *const *events, size_t n)
{
	(void)arg;
	assert_true(s.batched + n <= MOST);
	memcpy(s.batch + s.batched, events, n * sizeof(*events));
	s.batched += n;
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

/* As the processor does after a transaction. */
static void settle(size_t from, size_t n, enum event_fate fate)
{
	enum event_fate fates[MOST];
	size_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		fates[i] = fate;
	s.batch[from]->source->settled(s.batch[from]->source, s.batch + from, fates, n);
	for (size_t i = from; i < from + n; i++) {
		bytes += s.batch[i]->size;
		event_unref(s.batch[i]);
	}
	event_buffer_release(s.buffer, n, bytes);
}

static enum err open_all(void)
{
	const struct event_buffer_options bo = {.batch_size = 10,
	                                        .batch_bytes = 1 << 20,
	                                        .flush_interval = USEC_PER_SEC,
	                                        .high_events = 4,
	                                        .high_bytes = 2048,
	                                        .max_bytes = 8192};
	struct direct_options o = {.loop = t.loop,
	                           .connected = is_connected,
	                           .answers = does_answer,
	                           .tool_of = tool_of,
	                           .timeout = TIMEOUT,
	                           .max_events = 12};
	enum err e;

	memset(&s, 0, sizeof(s));
	s.connected = s.answers = true;
	e = metric_registry_new(&s.metrics);
	if (e == ERR_OK)
		e = event_buffer_new(t.loop, &bo, &s.buffer);
	if (e != ERR_OK)
		return e;
	event_buffer_set_drain(s.buffer, &(struct event_buffer_drain){slot_of, take, NULL});
	o.inlet = event_buffer_inlet(s.buffer);
	o.metrics = s.metrics;
	return direct_new(&o, &s.d);
}

static void close_all(void)
{
	if (s.d)
		direct_close(s.d);
	event_buffer_free(s.buffer);
	direct_free(s.d);
	metric_registry_free(s.metrics);
}

static void setup(void)
{
	assert_int_equal(open_all(), ERR_OK);
	t.step = 10 * MSEC;
}

static void pass(usec_t usec)
{
	run_turns((unsigned)(usec / t.step) + 1);
}

static enum err append_sized(size_t n, size_t body)
{
	static char bytes[16384];
	struct event_view v[MOST];
	struct event_sink *k = direct_sink(s.d);

	assert_true(n <= MOST && body <= sizeof(bytes));
	for (size_t i = 0; i < n; i++)
		v[i] = (struct event_view){
		    .tool = STR("t"), .id = STR("1"), .body = str_n(bytes, body)};
	return k->append(k, v, n, on_done, NULL);
}

static enum err append(size_t n)
{
	return append_sized(n, 10);
}

static double timeouts(void)
{
	return metric_get(metric_plain(s.metrics, METRIC_COUNTER, "webhook_direct_timeouts_total",
	                               "Requests that waited longer than DIRECT_TIMEOUT for the "
	                               "database."));
}

static void test_answered_after_the_commit(void **state)
{
	(void)state;
	setup();
	s.slot = EVENT_BUFFER_SLOT_FREE;
	assert_int_equal(append(1), ERR_OK);
	assert_int_equal(direct_in_flight(s.d), 1);
	pass(20 * MSEC);
	assert_int_equal(s.batched, 1);
	assert_int_equal(s.ok + s.failed, 0);
	settle(0, 1, EVENT_STORED);
	assert_int_equal(s.ok, 1);
	assert_int_equal(direct_in_flight(s.d), 0);
	close_all();
}

/* What it reports is read by the tool that accepted it, whatever becomes of that meanwhile. */
static void test_a_report_keeps_its_tool(void **state)
{
	struct event_view v[2] = {{.tool = STR("mail"), .marks = EVENT_MARK_REPORTS},
	                          {.tool = STR("mail")}};
	struct event_sink *k;

	(void)state;
	setup();
	k = direct_sink(s.d);
	s.slot = EVENT_BUFFER_SLOT_FREE;
	assert_int_equal(k->append(k, v, 2, on_done, NULL), ERR_OK);
	pass(20 * MSEC);
	assert_int_equal(s.batched, 2);
	assert_ptr_equal(s.batch[0]->tool, &mail);
	assert_null(s.batch[1]->tool);
	assert_int_equal(mail.refs, 2);
	settle(0, 2, EVENT_STORED);
	assert_int_equal(s.ok, 1);
	assert_int_equal(mail.refs, 1);
	close_all();
}

static void test_a_dead_letter_and_a_duplicate_are_answers(void **state)
{
	(void)state;
	setup();
	s.slot = EVENT_BUFFER_SLOT_FREE;
	assert_int_equal(append(1), ERR_OK);
	assert_int_equal(append(1), ERR_OK);
	pass(20 * MSEC);
	settle(0, 1, EVENT_DEAD);
	settle(1, 1, EVENT_DUPLICATE);
	assert_int_equal(s.ok, 2);
	close_all();
}

static void test_a_split_request_waits_for_all(void **state)
{
	(void)state;
	setup();
	s.slot = EVENT_BUFFER_SLOT_FREE;
	assert_int_equal(append(5), ERR_OK);
	pass(20 * MSEC);
	settle(0, 2, EVENT_STORED);
	settle(2, 2, EVENT_DUPLICATE);
	assert_int_equal(s.ok, 0);
	settle(4, 1, EVENT_DEAD);
	assert_int_equal(s.ok, 1);
	/* One that was given back fails all of them. */
	assert_int_equal(append(3), ERR_OK);
	pass(20 * MSEC);
	settle(5, 1, EVENT_RETURNED);
	assert_int_equal(s.failed, 0);
	settle(6, 2, EVENT_STORED);
	assert_int_equal(s.failed, 1);
	assert_int_equal(s.last, ERR_UNAVAILABLE);
	close_all();
}

static void test_late_events_leave_the_buffer(void **state)
{
	(void)state;
	setup();
	s.slot = EVENT_BUFFER_SLOT_NONE;
	assert_int_equal(append(3), ERR_OK);
	pass(TIMEOUT - 200 * MSEC);
	assert_int_equal(append(1), ERR_OK);
	assert_int_equal(event_buffer_held(s.buffer), 4);
	pass(250 * MSEC);
	assert_int_equal(s.failed, 1);
	assert_int_equal(s.last, ERR_TIMEOUT);
	assert_int_equal(event_buffer_held(s.buffer), 1);
	assert_true(timeouts() == 1);
	/* The other is still in time. */
	s.slot = EVENT_BUFFER_SLOT_FREE;
	event_buffer_pump(s.buffer);
	pass(20 * MSEC);
	settle(0, 1, EVENT_STORED);
	assert_int_equal(s.ok, 1);
	assert_int_equal(event_buffer_held_bytes(s.buffer), 0);
	close_all();
}

/* Whether it is stored, nobody learns: the sender was told 503 already. */
static void test_late_events_in_a_batch_end_by_themselves(void **state)
{
	(void)state;
	setup();
	s.slot = EVENT_BUFFER_SLOT_FREE;
	assert_int_equal(append(2), ERR_OK);
	pass(TIMEOUT + 100 * MSEC);
	assert_int_equal(s.last, ERR_TIMEOUT);
	assert_int_equal(s.failed, 1);
	assert_int_equal(event_buffer_held(s.buffer), 2);
	settle(0, 2, EVENT_STORED);
	assert_int_equal(s.ok, 0);
	assert_int_equal(s.failed, 1);
	close_all();
}

static void test_half_of_a_late_request_is_settled(void **state)
{
	(void)state;
	setup();
	s.slot = EVENT_BUFFER_SLOT_FREE;
	assert_int_equal(append(4), ERR_OK);
	pass(20 * MSEC);
	settle(0, 2, EVENT_STORED);
	pass(TIMEOUT);
	assert_int_equal(s.last, ERR_TIMEOUT);
	settle(2, 2, EVENT_RETURNED);
	assert_int_equal(s.failed, 1);
	close_all();
}

static void test_all_or_none(void **state)
{
	(void)state;
	setup();
	assert_int_equal(append_sized(2, 3000), ERR_OK);
	/* The third does not fit in bytes: none of them stays. */
	assert_int_equal(append_sized(3, 600), ERR_FULL);
	assert_int_equal(event_buffer_held(s.buffer), 2);
	assert_int_equal(append_sized(1, 600), ERR_OK);
	close_all();
}

/* Between the buffer's marks too: those hold the queue's reader back. */
static void test_the_bound_is_its_own(void **state)
{
	(void)state;
	setup();
	for (int i = 0; i < 12; i++)
		assert_int_equal(append(1), ERR_OK);
	assert_true(event_buffer_full(s.buffer));
	assert_int_equal(append(1), ERR_FULL);
	pass(TIMEOUT);
	assert_int_equal(s.failed, 12);
	/* A large request passes alone. */
	assert_int_equal(append(13), ERR_OK);
	assert_int_equal(append(1), ERR_FULL);
	close_all();
}

static void test_urgent_events_go_first(void **state)
{
	struct event_inlet *in;
	struct event_view v = {.tool = STR("queued"), .id = STR("1"), .body = STR("x")};
	struct event *e;

	(void)state;
	setup();
	in = event_buffer_inlet(s.buffer);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(event_make(&v, &e), ERR_OK);
		assert_int_equal(in->put(in, e), ERR_OK);
	}
	assert_int_equal(append(2), ERR_OK);
	s.slot = EVENT_BUFFER_SLOT_FREE;
	pass(20 * MSEC);
	assert_int_equal(s.batched, 5);
	assert_true(str_eq(s.batch[0]->view.tool, STR("t")));
	assert_true(str_eq(s.batch[1]->view.tool, STR("t")));
	assert_true(str_eq(s.batch[2]->view.tool, STR("queued")));
	for (int i = 2; i < 5; i++)
		event_unref(s.batch[i]);
	settle(0, 2, EVENT_STORED);
	close_all();
}

static void test_without_a_database(void **state)
{
	struct event_sink *k;

	(void)state;
	setup();
	k = direct_sink(s.d);
	s.connected = false;
	assert_int_equal(append(1), ERR_UNAVAILABLE);
	s.connected = true;
	s.answers = false;
	assert_int_equal(append(1), ERR_UNAVAILABLE);
	assert_true(k->retry_after(k) >= 1);
	/* A fresh commit tells more than a probe that waits for its turn. */
	s.answers = true;
	s.slot = EVENT_BUFFER_SLOT_FREE;
	assert_int_equal(append(1), ERR_OK);
	pass(20 * MSEC);
	settle(0, 1, EVENT_STORED);
	s.answers = false;
	assert_int_equal(append(1), ERR_OK);
	pass(20 * MSEC);
	settle(1, 1, EVENT_STORED);
	pass(3 * USEC_PER_SEC);
	assert_int_equal(append(1), ERR_UNAVAILABLE);
	close_all();
}

static void test_retry_after_follows_the_rate(void **state)
{
	struct event_sink *k;

	(void)state;
	setup();
	k = direct_sink(s.d);
	s.slot = EVENT_BUFFER_SLOT_FREE;
	/* One a second. */
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(append(1), ERR_OK);
		pass(USEC_PER_SEC);
		settle(i, 1, EVENT_STORED);
	}
	assert_int_equal(k->retry_after(k), 1);
	s.slot = EVENT_BUFFER_SLOT_NONE;
	assert_int_equal(append(12), ERR_OK);
	assert_in_range(k->retry_after(k), 11, 13);
	close_all();
}

static void test_close_tells_all(void **state)
{
	(void)state;
	setup();
	s.slot = EVENT_BUFFER_SLOT_FREE;
	assert_int_equal(append(2), ERR_OK);
	pass(20 * MSEC);
	s.slot = EVENT_BUFFER_SLOT_NONE;
	assert_int_equal(append(2), ERR_OK);
	direct_close(s.d);
	assert_int_equal(s.failed, 2);
	assert_int_equal(s.last, ERR_CANCELLED);
	assert_int_equal(append(1), ERR_UNAVAILABLE);
	settle(0, 2, EVENT_STORED);
	assert_int_equal(s.ok, 0);
	close_all();
}

static void test_a_closed_buffer(void **state)
{
	(void)state;
	setup();
	event_buffer_close(s.buffer);
	assert_int_equal(append(1), ERR_UNAVAILABLE);
	assert_int_equal(direct_in_flight(s.d), 0);
	close_all();
}

static void scenario_requests(void)
{
	memset(&t, 0, sizeof(t));
	fake_now = 1000 * MSEC;
	clock_set_source(fake_mono, fake_wall);
	if (loop_new(&t.loop) != ERR_OK)
		goto out;
	loop_task_init(&t.ticker, on_tick, NULL);
	if (open_all() == ERR_OK) {
		t.step = 100 * MSEC;
		s.slot = EVENT_BUFFER_SLOT_FREE;
		(void)!append(1);
		(void)!append(3);
		run_turns(2);
		if (s.batched)
			settle(0, s.batched, EVENT_STORED);
		s.slot = EVENT_BUFFER_SLOT_NONE;
		(void)!append_sized(2, 3000);
		(void)!append_sized(3, 600);
		run_turns(60);
		(void)!append(1);
	}
	close_all();
	loop_free(t.loop);
out:
	clock_set_source(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_answered_after_the_commit),
	    TEST(test_a_report_keeps_its_tool),
	    TEST(test_a_dead_letter_and_a_duplicate_are_answers),
	    TEST(test_a_split_request_waits_for_all),
	    TEST(test_late_events_leave_the_buffer),
	    TEST(test_late_events_in_a_batch_end_by_themselves),
	    TEST(test_half_of_a_late_request_is_settled),
	    TEST(test_all_or_none),
	    TEST(test_the_bound_is_its_own),
	    TEST(test_urgent_events_go_first),
	    TEST(test_without_a_database),
	    TEST(test_retry_after_follows_the_rate),
	    TEST(test_close_tells_all),
	    TEST(test_a_closed_buffer),
	};
	const struct torture torture[] = {TORTURE(scenario_requests)};

	return TESTS_OR_TORTURE(tests, torture);
}
