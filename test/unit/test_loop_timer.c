/* Timers: against a model under the test's clock, and with real waits. */
#include "loop_fixture.h"

#include "weir/base/rnd.h"

#define TIMERS 500

static struct model {
	struct loop_timer timer;
	usec_t due; /* 0: must not fire */
	unsigned fired;
} models[TIMERS];
static usec_t last_due;

static void on_model(void *arg)
{
	struct model *m = arg;

	assert_false(loop_timer_armed(&m->timer));
	assert_int_not_equal(m->due, 0);
	assert_true(loop_now(t.loop) >= m->due);
	assert_true(loop_now(t.loop) < m->due + 2 * MSEC);
	assert_true(m->due >= last_due);
	last_due = m->due;
	m->due = 0;
	m->fired++;
}

static void shuffle_timers(unsigned *armed)
{
	for (size_t i = 0; i < TIMERS * 3; i++) {
		struct model *m = &models[rnd_u64() % TIMERS];
		usec_t delay = (usec_t)(rnd_u64() % 1000) * MSEC + 1;

		if (rnd_u64() % 3 == 0) {
			loop_timer_stop(&m->timer);
			loop_timer_stop(&m->timer);
			m->due = 0;
		} else {
			loop_timer_set(&m->timer, delay);
			m->due = fake_now + delay;
		}
		assert_int_equal(loop_timer_armed(&m->timer), m->due != 0);
	}
	for (size_t i = 0; i < TIMERS; i++)
		*armed += models[i].due != 0;
}

static void test_timers_against_a_model(void **state)
{
	unsigned armed = 0, fired = 0;

	(void)state;
	last_due = 0;
	memset(models, 0, sizeof(models));
	for (size_t i = 0; i < TIMERS; i++)
		assert_int_equal(loop_timer_init(&models[i].timer, t.loop, on_model, &models[i]),
		                 ERR_OK);
	shuffle_timers(&armed);
	t.step = MSEC;
	run_turns(1003);
	for (size_t i = 0; i < TIMERS; i++) {
		assert_int_equal(models[i].due, 0);
		assert_in_range(models[i].fired, 0, 1);
		fired += models[i].fired;
		loop_timer_done(&models[i].timer);
	}
	assert_int_equal(fired, armed);
	assert_in_range(armed, 100, TIMERS);
}

struct rearmed {
	struct loop_timer timer;
	unsigned fired;
};

static void on_rearm(void *arg)
{
	struct rearmed *r = arg;

	r->fired++;
	loop_timer_set(&r->timer, 0);
}

static void test_rearming_with_zero_fires_once_a_turn(void **state)
{
	struct rearmed r = {0};

	(void)state;
	assert_int_equal(loop_timer_init(&r.timer, t.loop, on_rearm, &r), ERR_OK);
	loop_timer_set(&r.timer, -5);
	t.step = MSEC;
	run_turns(6);
	assert_in_range(r.fired, 4, 6);
	loop_timer_done(&r.timer);
	assert_false(loop_timer_armed(&r.timer));
}

static void test_timer_ends(void **state)
{
	struct loop_timer zeroed = {0}, timer;

	(void)state;
	loop_timer_done(&zeroed);
	assert_false(loop_timer_armed(&zeroed));
	assert_int_equal(loop_timer_init(&timer, t.loop, on_note, (char[]){'t'}), ERR_OK);
	loop_timer_set(&timer, USEC_NEVER);
	assert_true(loop_timer_armed(&timer));
	loop_timer_set(&timer, MSEC);
	loop_timer_done(&timer);
	loop_timer_done(&timer);
	t.step = MSEC;
	run_turns(3);
	assert_string_equal(t.journal, "");
}

struct waiter {
	struct loop_timer timer;
	usec_t armed_at, delay;
	unsigned left;
};

static void on_waited(void *arg)
{
	struct waiter *w = arg;

	assert_true(clock_mono() >= w->armed_at + w->delay);
	if (--w->left == 0) {
		loop_stop(t.loop);
		return;
	}
	w->armed_at = clock_mono();
	w->delay = (usec_t)(rnd_u64() % 4000);
	loop_timer_set(&w->timer, w->delay + (clock_mono() - loop_now(t.loop)));
}

/* With the real clock and real waits: never early, and the loop does wake up. */
static void test_real_timers_are_never_early(void **state)
{
	struct waiter w = {.left = 30};

	(void)state;
	clock_set_source(NULL, NULL);
	assert_int_equal(loop_timer_init(&w.timer, t.loop, on_waited, &w), ERR_OK);
	w.armed_at = clock_mono();
	w.delay = 3 * MSEC;
	loop_timer_set(&w.timer, w.delay);
	assert_int_equal(loop_run(t.loop), ERR_OK);
	assert_int_equal(w.left, 0);
	loop_timer_done(&w.timer);
}

static void on_count_turn(void *arg, usec_t turn, usec_t lag)
{
	(void)turn;
	(void)lag;
	++*(unsigned *)arg;
}

/* Waiting takes a turn or two, not a busy loop. */
static void test_waiting_does_not_spin(void **state)
{
	struct loop_timer early, late;
	unsigned turns = 0;

	(void)state;
	clock_set_source(NULL, NULL);
	loop_observe(t.loop, on_count_turn, &turns);
	assert_int_equal(loop_timer_init(&early, t.loop, on_note, (char[]){'e'}), ERR_OK);
	assert_int_equal(loop_timer_init(&late, t.loop, on_stop, NULL), ERR_OK);
	loop_timer_set(&early, 20 * MSEC);
	loop_timer_set(&late, 60 * MSEC);
	loop_timer_stop(&early);
	loop_timer_set(&early, 30 * MSEC);
	assert_int_equal(loop_run(t.loop), ERR_OK);
	assert_string_equal(t.journal, "e");
	assert_in_range(turns, 2, 6);
	loop_timer_done(&early);
	loop_timer_done(&late);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_timers_against_a_model),
	    TEST(test_rearming_with_zero_fires_once_a_turn),
	    TEST(test_timer_ends),
	    TEST(test_real_timers_are_never_early),
	    TEST(test_waiting_does_not_spin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
