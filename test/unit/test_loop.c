/* The order of a turn, and that everything runs exactly once: with a clock of the test's own where
 * time matters, with the real one where libevent or the kernel take part. */
#include "loop_fixture.h"

#include <errno.h>
#include <event2/event.h>
#include <jansson.h>
#include <signal.h>
#include <unistd.h>

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
	    TEST(test_signals),
	    TEST(test_broken_pipe_is_an_error_not_an_end),
	    TEST(test_memory_is_counted),
	};
	const struct torture torture[] = {TORTURE(scenario_loop)};

	return TESTS_OR_TORTURE(tests, torture);
}
