/* The buffer with a clock that stands still until a test moves it. Outside of loop_run() the loop
 * reads the clock at every question, and the tests call event_buffer_pump() where the loop would.
 */
#include "torture.h"

#include "weir/base/clock.h"
#include "weir/model/event.h"
#include "weir/pipeline/event_buffer.h"
#include "weir/run/loop.h"

static usec_t now = 1000 * USEC_PER_SEC;

static usec_t fake_clock(void)
{
	return now;
}

struct fixture {
	struct loop *loop;
	struct event_buffer *buffer;
	struct event_inlet *inlet;
	enum event_buffer_slot slot;
	size_t batches; /* handed out */
	size_t events;  /* in the last one */
	size_t bytes;   /* of all, not released yet */
	size_t taken;
	char first; /* body of the first event of the last batch */
	bool one_batch_only;
	unsigned room_calls;
};

static enum event_buffer_slot slot_of(void *arg)
{
	struct fixture *f = arg;

	return f->slot;
}

static void take(void *arg, struct event *const *events, size_t n)
{
	struct fixture *f = arg;

	f->batches++;
	f->events = n;
	f->taken += n;
	f->first = events[0]->view.body.ptr[0];
	for (size_t i = 0; i < n; i++) {
		f->bytes += events[i]->size;
		event_unref(events[i]);
	}
	if (f->one_batch_only)
		f->slot = EVENT_BUFFER_SLOT_NONE;
}

static void on_room(void *arg)
{
	struct fixture *f = arg;

	f->room_calls++;
}

static const struct event_buffer_options small = {
    .batch_size = 10,
    .batch_bytes = 1 << 20,
    .flush_interval = 1000 * USEC_PER_MSEC,
    .high_events = 40,
    .high_bytes = 1 << 20,
};

static enum err setup(struct fixture *f, const struct event_buffer_options *o)
{
	*f = (struct fixture){.slot = EVENT_BUFFER_SLOT_FREE};
	clock_set_source(fake_clock, NULL);
	if (loop_new(&f->loop) != ERR_OK)
		return ERR_NOMEM;
	if (event_buffer_new(f->loop, o, &f->buffer) != ERR_OK) {
		loop_free(f->loop);
		return ERR_NOMEM;
	}
	f->inlet = event_buffer_inlet(f->buffer);
	f->inlet->on_room(f->inlet, on_room, f);
	event_buffer_set_drain(f->buffer, &(struct event_buffer_drain){slot_of, take, f});
	return ERR_OK;
}

static void teardown(struct fixture *f)
{
	event_buffer_free(f->buffer);
	loop_free(f->loop);
	clock_set_source(NULL, NULL);
}

static enum err put_flagged(struct fixture *f, struct str body, uint32_t flags)
{
	struct event_view v = {.tool = STR("t"), .type = STR("y"), .id = STR("1"), .body = body};
	struct event *e;
	enum err err = event_make(&v, &e);

	if (err != ERR_OK)
		return err;
	e->flags = flags;
	err = f->inlet->put(f->inlet, e);
	if (err != ERR_OK)
		event_unref(e);
	return err;
}

static enum err put_body(struct fixture *f, struct str body)
{
	return put_flagged(f, body, 0);
}

static void put(struct fixture *f, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_int_equal(put_body(f, STR("x")), ERR_OK);
}

/* What the loop would do after `usec`: its timer rings if it was due. */
static void pass(struct fixture *f, usec_t usec)
{
	now += usec;
	event_buffer_pump(f->buffer);
}

static void test_lonely_event_leaves_at_once(void **state)
{
	struct fixture f;

	(void)state;
	assert_int_equal(setup(&f, &small), ERR_OK);
	put(&f, 1);
	pass(&f, 0);
	assert_int_equal(f.batches, 1);
	assert_int_equal(f.events, 1);
	/* A burst in between does not make the next lonely one wait. */
	put(&f, 30);
	pass(&f, 0);
	pass(&f, 1000 * USEC_PER_MSEC);
	put(&f, 1);
	pass(&f, 0);
	assert_int_equal(event_buffer_count(f.buffer), 0);
	teardown(&f);
}

static void test_fast_arrivals_linger(void **state)
{
	struct fixture f;

	(void)state;
	assert_int_equal(setup(&f, &small), ERR_OK);
	/* 5000 a second, for long enough to be noticed. */
	for (int i = 0; i < 10; i++) {
		put(&f, 25);
		pass(&f, 5 * USEC_PER_MSEC);
		event_buffer_release(f.buffer, 25, f.bytes);
		f.bytes = 0;
	}
	now += 5 * USEC_PER_MSEC;
	put(&f, 3);
	pass(&f, 0);
	assert_int_equal(event_buffer_count(f.buffer), 3);
	pass(&f, 1900);
	assert_int_equal(event_buffer_count(f.buffer), 3);
	pass(&f, 100);
	assert_int_equal(event_buffer_count(f.buffer), 0);
	teardown(&f);
}

/* 10,000 a second: they are gathered for 40 ms. */
static void test_a_flood_is_gathered(void **state)
{
	const struct event_buffer_options wide = {
	    .batch_size = 1000, .batch_bytes = 1 << 20, .flush_interval = 1000 * USEC_PER_MSEC};
	struct fixture f;

	(void)state;
	assert_int_equal(setup(&f, &wide), ERR_OK);
	for (int i = 0; i < 110; i++) {
		if (i == 10)
			f.batches = 0;
		put(&f, 50);
		pass(&f, 5 * USEC_PER_MSEC);
		event_buffer_release(f.buffer, f.events, f.bytes);
		f.events = 0;
		f.bytes = 0;
	}
	/* Half a second. */
	assert_in_range(f.batches, 10, 14);
	teardown(&f);
}

static void test_full_batch_leaves(void **state)
{
	struct fixture f;

	(void)state;
	assert_int_equal(setup(&f, &small), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_EXTRA;
	put(&f, 9);
	pass(&f, 0);
	assert_int_equal(f.batches, 0);
	put(&f, 14);
	pass(&f, 0);
	assert_int_equal(f.batches, 2);
	assert_int_equal(f.events, 10);
	assert_int_equal(event_buffer_count(f.buffer), 3);
	assert_int_equal(event_buffer_held(f.buffer), 23);
	teardown(&f);
}

static void test_extra_connection_takes_what_lingered(void **state)
{
	struct fixture f;

	(void)state;
	assert_int_equal(setup(&f, &small), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_EXTRA;
	put(&f, 2);
	pass(&f, 4999);
	assert_int_equal(f.batches, 0);
	pass(&f, 1);
	assert_int_equal(f.batches, 1);
	assert_int_equal(f.events, 2);
	teardown(&f);
}

static void test_late_only_after_the_flush_interval(void **state)
{
	struct fixture f;

	(void)state;
	assert_int_equal(setup(&f, &small), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_LATE;
	put(&f, 20);
	pass(&f, 999 * USEC_PER_MSEC);
	assert_int_equal(f.batches, 0);
	pass(&f, 1 * USEC_PER_MSEC);
	assert_int_equal(f.batches, 2);
	teardown(&f);
}

static void test_nothing_leaves_without_a_slot(void **state)
{
	struct fixture f;

	(void)state;
	assert_int_equal(setup(&f, &small), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_NONE;
	put(&f, 20);
	pass(&f, 3600 * USEC_PER_SEC);
	assert_int_equal(f.batches, 0);
	/* One slot, one batch. */
	f.slot = EVENT_BUFFER_SLOT_FREE;
	f.one_batch_only = true;
	pass(&f, 0);
	assert_int_equal(f.batches, 1);
	teardown(&f);
}

static void stop_loop(void *arg)
{
	loop_stop(arg);
}

/* With the real loop and clock: nobody but the buffer's own task and timer hands out. */
static void test_buffer_pumps_itself(void **state)
{
	struct fixture f;
	struct loop_timer t;

	(void)state;
	assert_int_equal(setup(&f, &small), ERR_OK);
	clock_set_source(NULL, NULL);
	assert_int_equal(loop_timer_init(&t, f.loop, stop_loop, f.loop), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_EXTRA;
	put(&f, 2);
	loop_timer_set(&t, 100 * USEC_PER_MSEC);
	assert_int_equal(loop_run(f.loop), ERR_OK);
	assert_int_equal(f.batches, 1);
	put(&f, 10);
	loop_timer_set(&t, 1);
	assert_int_equal(loop_run(f.loop), ERR_OK);
	assert_int_equal(f.batches, 2);
	loop_timer_done(&t);
	teardown(&f);
}

static void test_order_is_kept(void **state)
{
	struct fixture f;

	(void)state;
	assert_int_equal(setup(&f, &small), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_NONE;
	assert_int_equal(put_body(&f, STR("a")), ERR_OK);
	put(&f, 9);
	assert_int_equal(put_body(&f, STR("b")), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_FREE;
	f.one_batch_only = true;
	pass(&f, 0);
	assert_int_equal(f.first, 'a');
	f.slot = EVENT_BUFFER_SLOT_FREE;
	pass(&f, 0);
	assert_int_equal(f.first, 'b');
	teardown(&f);
}

static void test_batches_are_bounded_in_bytes(void **state)
{
	struct event_buffer_options o = small;
	char big[3000];
	struct fixture f;

	(void)state;
	memset(big, 'b', sizeof(big));
	o.batch_bytes = 2000;
	assert_int_equal(setup(&f, &o), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_NONE;
	assert_int_equal(put_body(&f, str_n(big, 600)), ERR_OK);
	assert_int_equal(put_body(&f, str_n(big, 600)), ERR_OK);
	assert_int_equal(put_body(&f, str_n(big, 600)), ERR_OK);
	assert_int_equal(put_body(&f, str_n(big, 3000)), ERR_OK);
	f.one_batch_only = true;
	f.slot = EVENT_BUFFER_SLOT_EXTRA;
	pass(&f, 0);
	assert_int_equal(f.events, 2);
	/* The third does not go with the large one, and that goes alone. */
	f.slot = EVENT_BUFFER_SLOT_EXTRA;
	pass(&f, 0);
	assert_int_equal(f.events, 1);
	f.slot = EVENT_BUFFER_SLOT_EXTRA;
	pass(&f, 0);
	assert_int_equal(f.events, 1);
	assert_int_equal(event_buffer_count(f.buffer), 0);
	teardown(&f);
}

static void test_marks(void **state)
{
	struct fixture f;
	size_t each;

	(void)state;
	assert_int_equal(setup(&f, &small), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_NONE;
	assert_int_equal(f.inlet->room(f.inlet), 40);
	put(&f, 30);
	assert_int_equal(f.inlet->room(f.inlet), 10);
	each = event_buffer_held_bytes(f.buffer) / 30;
	put(&f, 10);
	assert_int_equal(f.inlet->room(f.inlet), 0);
	assert_true(event_buffer_full(f.buffer));
	/* What was asked for while there was room is still taken. */
	put(&f, 2);

	f.slot = EVENT_BUFFER_SLOT_FREE;
	pass(&f, 0);
	assert_int_equal(f.taken, 42);
	/* Batches at work count as held. */
	assert_int_equal(f.inlet->room(f.inlet), 0);
	event_buffer_release(f.buffer, 12, 12 * each);
	assert_int_equal(f.inlet->room(f.inlet), 0);
	event_buffer_release(f.buffer, 1, each);
	assert_int_equal(f.inlet->room(f.inlet), 11);
	assert_int_equal(f.room_calls, 0);
	teardown(&f);
}

static void test_room_is_told_from_the_loop(void **state)
{
	struct fixture f;
	struct loop_timer t;

	(void)state;
	assert_int_equal(setup(&f, &small), ERR_OK);
	put(&f, 40);
	pass(&f, 0);
	event_buffer_release(f.buffer, 40, f.bytes);
	assert_int_equal(f.room_calls, 0);
	assert_int_equal(loop_timer_init(&t, f.loop, stop_loop, f.loop), ERR_OK);
	clock_set_source(NULL, NULL);
	loop_timer_set(&t, 1);
	assert_int_equal(loop_run(f.loop), ERR_OK);
	assert_int_equal(f.room_calls, 1);
	loop_timer_done(&t);
	teardown(&f);
}

static void test_bytes_are_bounded(void **state)
{
	struct event_buffer_options o = small;
	struct fixture f;
	char big[4000] = {0};

	(void)state;
	o.high_bytes = 5000;
	o.max_bytes = 10000;
	assert_int_equal(setup(&f, &o), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_NONE;
	assert_int_equal(put_body(&f, str_n(big, sizeof(big))), ERR_OK);
	assert_true(f.inlet->room(f.inlet) > 0);
	assert_int_equal(put_body(&f, str_n(big, sizeof(big))), ERR_OK);
	assert_int_equal(f.inlet->room(f.inlet), 0);
	assert_int_equal(put_body(&f, str_n(big, sizeof(big))), ERR_FULL);
	assert_int_equal(event_buffer_held(f.buffer), 2);
	teardown(&f);

	/* One that is larger than the bound passes alone. */
	o.high_bytes = 1000;
	o.max_bytes = 2000;
	assert_int_equal(setup(&f, &o), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_NONE;
	assert_int_equal(put_body(&f, str_n(big, sizeof(big))), ERR_OK);
	assert_int_equal(put_body(&f, STR("x")), ERR_FULL);
	teardown(&f);
}

static void test_closed(void **state)
{
	struct fixture f;
	struct event *e;

	(void)state;
	assert_int_equal(setup(&f, &small), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_LATE;
	put(&f, 3);
	event_buffer_close(f.buffer);
	assert_int_equal(put_body(&f, STR("x")), ERR_CLOSED);
	assert_int_equal(f.inlet->room(f.inlet), 0);
	/* All of it is ripe now. */
	pass(&f, 0);
	assert_int_equal(f.batches, 1);
	assert_null(event_buffer_pop(f.buffer));
	teardown(&f);

	assert_int_equal(setup(&f, &small), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_NONE;
	put(&f, 2);
	e = event_buffer_pop(f.buffer);
	assert_non_null(e);
	event_unref(e);
	assert_int_equal(event_buffer_count(f.buffer), 1);
	assert_int_equal(event_buffer_held(f.buffer), 2);
	teardown(&f);
}

static void test_remove_and_put_back(void **state)
{
	struct event_view v = {.tool = STR("t"), .body = STR("r")};
	struct event *e, *other;
	struct fixture f;

	(void)state;
	assert_int_equal(setup(&f, &small), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_NONE;
	put(&f, 1);
	assert_int_equal(event_make(&v, &e), ERR_OK);
	assert_int_equal(f.inlet->put(f.inlet, e), ERR_OK);
	put(&f, 1);
	assert_true(event_buffer_remove(f.buffer, e));
	assert_false(event_buffer_remove(f.buffer, e));
	assert_int_equal(event_buffer_held(f.buffer), 2);
	event_unref(e);

	/* The first leaves and comes back behind the other. */
	e = event_buffer_pop(f.buffer);
	assert_false(event_buffer_remove(f.buffer, e));
	event_buffer_put_back(f.buffer, e);
	assert_int_equal(event_buffer_held(f.buffer), 2);
	assert_int_equal(event_buffer_count(f.buffer), 2);
	other = event_buffer_pop(f.buffer);
	assert_ptr_not_equal(other, e);
	assert_ptr_equal(event_buffer_pop(f.buffer), e);
	event_unref(other);
	event_unref(e);
	teardown(&f);
}

static void scenario_buffer(void)
{
	struct fixture f;

	if (setup(&f, &small) != ERR_OK) {
		clock_set_source(NULL, NULL);
		return;
	}
	for (int i = 0; i < 12; i++)
		(void)!put_body(&f, STR("x"));
	event_buffer_pump(f.buffer);
	(void)!put_body(&f, STR("x"));
	teardown(&f);
}

/* One that is to be alone leaves first, at once, and without company. */
static void test_alone(void **state)
{
	struct fixture f;

	(void)state;
	assert_int_equal(setup(&f, &small), ERR_OK);
	f.slot = EVENT_BUFFER_SLOT_LATE;
	f.one_batch_only = true;
	put(&f, 3);
	assert_int_equal(put_flagged(&f, STR("a"), EVENT_ALONE), ERR_OK);
	assert_int_equal(put_flagged(&f, STR("b"), EVENT_ALONE), ERR_OK);
	put(&f, 3);
	for (size_t i = 0; i < 2; i++) {
		f.slot = EVENT_BUFFER_SLOT_LATE;
		event_buffer_pump(f.buffer);
		assert_int_equal(f.batches, i + 1);
		assert_int_equal(f.events, 1);
		assert_int_equal(f.first, "ab"[i]);
	}
	f.slot = EVENT_BUFFER_SLOT_LATE;
	event_buffer_pump(f.buffer);
	assert_int_equal(f.batches, 2); /* the others linger as ever */
	f.slot = EVENT_BUFFER_SLOT_FREE;
	event_buffer_pump(f.buffer);
	assert_int_equal(f.batches, 3);
	assert_int_equal(f.events, 6);
	teardown(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_lonely_event_leaves_at_once),
	    cmocka_unit_test(test_fast_arrivals_linger),
	    cmocka_unit_test(test_a_flood_is_gathered),
	    cmocka_unit_test(test_full_batch_leaves),
	    cmocka_unit_test(test_extra_connection_takes_what_lingered),
	    cmocka_unit_test(test_late_only_after_the_flush_interval),
	    cmocka_unit_test(test_nothing_leaves_without_a_slot),
	    cmocka_unit_test(test_buffer_pumps_itself),
	    cmocka_unit_test(test_order_is_kept),
	    cmocka_unit_test(test_batches_are_bounded_in_bytes),
	    cmocka_unit_test(test_marks),
	    cmocka_unit_test(test_room_is_told_from_the_loop),
	    cmocka_unit_test(test_bytes_are_bounded),
	    cmocka_unit_test(test_closed),
	    cmocka_unit_test(test_remove_and_put_back),
	    cmocka_unit_test(test_alone),
	};
	const struct torture torture[] = {TORTURE(scenario_buffer)};

	return TESTS_OR_TORTURE(tests, torture);
}
