/* The order of a turn, and that everything runs exactly once: with a clock of the test's own where
 * time matters, with the real one where libevent or the kernel take part. */
#include "torture.h"

#include <errno.h>
#include <event2/event.h>
#include <jansson.h>
#include <signal.h>
#include <unistd.h>

#include "weir/base/rnd.h"
#include "weir/run/loop.h"

#define MSEC USEC_PER_MSEC

static usec_t fake_now;

static usec_t fake_mono(void)
{
	return fake_now;
}

static usec_t fake_wall(void)
{
	return fake_now + 1000 * USEC_PER_SEC;
}

/* Every test has a loop, a journal of what ran, and a task that keeps the loop from waiting. */
static struct {
	struct loop *loop;
	char journal[256];
	size_t len;
	unsigned turns;
	unsigned stop_after;
	usec_t step; /* by which the fake clock goes on in each turn */
	struct loop_task ticker;
	struct loop_hook hook;
} t;

static void note(char c)
{
	assert_true(t.len + 1 < sizeof(t.journal));
	t.journal[t.len++] = c;
	t.journal[t.len] = '\0';
}

static void on_tick(void *arg)
{
	(void)arg;
}

static void on_turn_end(void *arg)
{
	(void)arg;
	fake_now += t.step;
	if (++t.turns >= t.stop_after)
		loop_stop(t.loop);
	else
		loop_defer(t.loop, &t.ticker);
}

static int set_up(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	fake_now = 1000 * MSEC;
	clock_set_source(fake_mono, fake_wall);
	assert_int_equal(loop_new(&t.loop), ERR_OK);
	loop_task_init(&t.ticker, on_tick, NULL);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	loop_free(t.loop);
	clock_set_source(NULL, NULL);
	return 0;
}

/* So many turns, none of which waits. */
static void run_turns(unsigned n)
{
	t.turns = 0;
	t.stop_after = n;
	loop_hook_add(t.loop, &t.hook, on_turn_end, NULL);
	loop_defer(t.loop, &t.ticker);
	assert_int_equal(loop_run(t.loop), ERR_OK);
	assert_int_equal(t.turns, n);
	loop_hook_remove(t.loop, &t.hook);
}

static void on_note(void *arg)
{
	note(*(const char *)arg);
}

/* --- deferred calls --- */

struct chain {
	struct loop_task task;
	struct chain *next; /* deferred by this one */
	char mark;
	unsigned runs;
};

static void on_chain(void *arg)
{
	struct chain *c = arg;

	note(c->mark);
	c->runs++;
	if (c->next)
		loop_defer(t.loop, &c->next->task);
}

static void test_defer_keeps_order_and_runs_once(void **state)
{
	struct chain c[4] = {{.mark = 'a'}, {.mark = 'b'}, {.mark = 'c'}, {.mark = 'd'}};

	(void)state;
	for (size_t i = 0; i < 4; i++)
		loop_task_init(&c[i].task, on_chain, &c[i]);
	c[0].next = &c[3];
	for (size_t i = 0; i < 3; i++)
		loop_defer(t.loop, &c[i].task);
	loop_defer(t.loop, &c[0].task); /* waits already */
	assert_string_equal(t.journal, "");
	run_turns(1);
	assert_string_equal(t.journal, "abcd");
	run_turns(2);
	assert_string_equal(t.journal, "abcd");
}

static void on_cancel(void *arg)
{
	note('x');
	loop_cancel(t.loop, arg);
	loop_cancel(t.loop, arg);
}

static void test_cancel(void **state)
{
	struct chain a = {.mark = 'a'};
	struct loop_task canceller;

	(void)state;
	loop_task_init(&a.task, on_chain, &a);
	loop_task_init(&canceller, on_cancel, &a.task);
	loop_cancel(t.loop, &a.task);
	loop_defer(t.loop, &canceller);
	loop_defer(t.loop, &a.task);
	run_turns(1);
	assert_string_equal(t.journal, "x");
	loop_defer(t.loop, &a.task); /* may be used again */
	run_turns(1);
	assert_string_equal(t.journal, "xa");
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	char c;

	(void)what;
	(void)arg;
	assert_int_equal(read(fd, &c, 1), 1);
	note('r');
}

/* A task that defers itself for ever must not keep the loop from its descriptors. */
static void test_endless_defer_starves_nobody(void **state)
{
	struct chain a = {.mark = '.'};
	struct event *ev;
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	ev = event_new(loop_base(t.loop), fds[0], EV_READ, on_readable, NULL);
	assert_int_equal(event_add(ev, NULL), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	loop_task_init(&a.task, on_chain, &a);
	a.next = &a;
	loop_defer(t.loop, &a.task);
	run_turns(3);
	assert_non_null(strchr(t.journal, 'r'));
	assert_in_range(a.runs, 3, 12);
	loop_cancel(t.loop, &a.task);
	event_free(ev);
	close(fds[0]);
	close(fds[1]);
}

/* --- the turn --- */

static void on_observe(void *arg, usec_t turn, usec_t lag)
{
	(void)turn;
	(void)lag;
	on_note(arg);
}

static void on_readable_defers(evutil_socket_t fd, short what, void *arg)
{
	on_readable(fd, what, NULL);
	loop_defer(t.loop, arg);
}

static void test_order_of_a_turn(void **state)
{
	struct loop_timer timer;
	struct loop_task task;
	struct loop_hook h1, h2;
	struct event *ev;
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	loop_task_init(&task, on_note, (char[]){'d'});
	ev = event_new(loop_base(t.loop), fds[0], EV_READ, on_readable_defers, &task);
	assert_int_equal(event_add(ev, NULL), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(loop_timer_init(&timer, t.loop, on_note, (char[]){'t'}), ERR_OK);
	loop_timer_set(&timer, 5 * MSEC);
	fake_now += 5 * MSEC;
	loop_hook_add(t.loop, &h1, on_note, (char[]){'1'});
	loop_hook_add(t.loop, &h2, on_note, (char[]){'2'});
	loop_observe(t.loop, on_observe, (char[]){'o'});
	run_turns(1);
	assert_string_equal(t.journal, "rtd12o");
	loop_observe(t.loop, NULL, NULL);
	loop_timer_done(&timer);
	event_free(ev);
	close(fds[0]);
	close(fds[1]);
}

static struct loop_hook hooks[3];

static void on_remove_hooks(void *arg)
{
	note('x');
	loop_hook_remove(t.loop, arg);
	loop_hook_remove(t.loop, &hooks[0]);
	loop_hook_remove(t.loop, &hooks[0]);
}

static void test_hook_removes_itself_and_the_next(void **state)
{
	(void)state;
	loop_hook_add(t.loop, &hooks[0], on_remove_hooks, &hooks[1]);
	loop_hook_add(t.loop, &hooks[1], on_note, (char[]){'1'});
	loop_hook_add(t.loop, &hooks[2], on_note, (char[]){'2'});
	run_turns(2);
	assert_string_equal(t.journal, "x22");
	loop_hook_remove(t.loop, &hooks[2]);
}

static void on_nested_run(void *arg)
{
	(void)arg;
	assert_int_equal(loop_run(t.loop), ERR_BUG);
	note('n');
}

static void test_stop(void **state)
{
	struct loop_task nested;

	(void)state;
	loop_stop(t.loop);
	loop_stop(t.loop);
	assert_int_equal(loop_run(t.loop), ERR_OK); /* at once */
	loop_task_init(&nested, on_nested_run, NULL);
	loop_defer(t.loop, &nested);
	run_turns(1);
	assert_string_equal(t.journal, "n");
}

/* --- clocks --- */

static void on_clock(void *arg)
{
	usec_t *seen = arg;

	fake_now += 7;
	seen[0] = loop_now(t.loop);
	seen[1] = loop_wall(t.loop);
	fake_now += 7;
	assert_int_equal(loop_now(t.loop), seen[0]);
}

static void test_clocks_stand_still_within_a_phase(void **state)
{
	struct loop_task task;
	usec_t seen[2], before = fake_now;

	(void)state;
	loop_task_init(&task, on_clock, seen);
	loop_defer(t.loop, &task);
	run_turns(1);
	assert_int_equal(seen[0], before);
	assert_int_equal(seen[1], before + 1000 * USEC_PER_SEC);
	/* Outside a run they are read afresh. */
	assert_int_equal(loop_now(t.loop), before + 14);
	assert_int_equal(loop_wall(t.loop), before + 14 + 1000 * USEC_PER_SEC);
}

static struct {
	usec_t turn, lag;
} observed;

static void on_observe_figures(void *arg, usec_t turn, usec_t lag)
{
	(void)arg;
	observed.turn = turn;
	observed.lag = lag;
}

static void on_slow(void *arg)
{
	(void)arg;
	fake_now += 9 * MSEC;
}

static void test_observe_tells_turn_and_lag(void **state)
{
	struct loop_timer timer;

	(void)state;
	loop_observe(t.loop, on_observe_figures, NULL);
	assert_int_equal(loop_timer_init(&timer, t.loop, on_slow, NULL), ERR_OK);
	loop_timer_set(&timer, 10 * MSEC);
	fake_now += 50 * MSEC;
	run_turns(1);
	assert_int_equal(observed.lag, 40 * MSEC);
	assert_int_equal(observed.turn, 9 * MSEC);
	run_turns(1);
	assert_int_equal(observed.lag, 0);
	loop_timer_done(&timer);
}

/* --- timers --- */

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

static void on_stop(void *arg)
{
	(void)arg;
	loop_stop(t.loop);
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

/* --- signals, memory --- */

static void test_signals(void **state)
{
	(void)state;
	assert_int_equal(loop_on_signal(t.loop, SIGUSR1, on_note, (char[]){'1'}), ERR_OK);
	assert_int_equal(loop_on_signal(t.loop, SIGUSR2, on_note, (char[]){'2'}), ERR_OK);
	raise(SIGUSR1);
	raise(SIGUSR1);
	run_turns(3);
	assert_string_equal(t.journal, "11");
	raise(SIGUSR2);
	run_turns(3);
	assert_string_equal(t.journal, "112");
	for (int i = 0; i < 6; i++)
		assert_int_equal(loop_on_signal(t.loop, SIGRTMIN + i, on_note, NULL), ERR_OK);
	assert_int_equal(loop_on_signal(t.loop, SIGHUP, on_note, NULL), ERR_FULL);
}

static void test_broken_pipe_is_an_error_not_an_end(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	assert_int_equal(write(fds[1], "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	close(fds[1]);
}

static void test_memory_is_counted(void **state)
{
	size_t before = mem_used();
	json_t *j = json_string("counted");
	struct event *ev = event_new(loop_base(t.loop), -1, 0, on_readable, NULL);

	(void)state;
	assert_non_null(j);
	assert_non_null(ev);
	assert_true(mem_used() >= before + sizeof("counted") + 64);
	json_decref(j);
	event_free(ev);
	assert_int_equal(mem_used(), before);
}

/* --- with failing allocations --- */

static void use_loop(struct loop *l)
{
	struct loop_timer timers[100];
	struct loop_hook hook;
	struct loop_task task;
	size_t n = 0;

	t.loop = l;
	loop_task_init(&task, on_tick, NULL);
	while (n < 100 && loop_timer_init(&timers[n], l, on_stop, NULL) == ERR_OK)
		n++;
	for (size_t i = 0; i < n; i++)
		loop_timer_set(&timers[i], (usec_t)(100 - i));
	(void)!loop_on_signal(l, SIGUSR1, on_tick, NULL);
	loop_hook_add(l, &hook, on_tick, NULL);
	loop_defer(l, &task);
	if (n > 0)
		(void)!loop_run(l);
	for (size_t i = 0; i < n; i++)
		loop_timer_done(&timers[i]);
	loop_hook_remove(l, &hook);
}

static void scenario_loop(void)
{
	struct loop *l;

	if (loop_new(&l) != ERR_OK)
		return;
	use_loop(l);
	loop_free(l);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_defer_keeps_order_and_runs_once),
	    TEST(test_cancel),
	    TEST(test_endless_defer_starves_nobody),
	    TEST(test_order_of_a_turn),
	    TEST(test_hook_removes_itself_and_the_next),
	    TEST(test_stop),
	    TEST(test_clocks_stand_still_within_a_phase),
	    TEST(test_observe_tells_turn_and_lag),
	    TEST(test_timers_against_a_model),
	    TEST(test_rearming_with_zero_fires_once_a_turn),
	    TEST(test_timer_ends),
	    TEST(test_real_timers_are_never_early),
	    TEST(test_waiting_does_not_spin),
	    TEST(test_signals),
	    TEST(test_broken_pipe_is_an_error_not_an_end),
	    TEST(test_memory_is_counted),
	};
	const struct torture torture[] = {TORTURE(scenario_loop)};

	return TESTS_OR_TORTURE(tests, torture);
}
