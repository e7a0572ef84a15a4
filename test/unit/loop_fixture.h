/* What the tests of the loop share: a loop, a clock of the test's own, a journal of what ran, and a
 * task that keeps the loop from waiting. */
#ifndef WEIR_TEST_LOOP_FIXTURE_H
#define WEIR_TEST_LOOP_FIXTURE_H

#include "torture.h"

#include "weir/run/loop.h"

#define MSEC USEC_PER_MSEC

static usec_t fake_now;

static inline usec_t fake_mono(void)
{
	return fake_now;
}

static inline usec_t fake_wall(void)
{
	return fake_now + 1000 * USEC_PER_SEC;
}

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

static inline void note(char c)
{
	assert_true(t.len + 1 < sizeof(t.journal));
	t.journal[t.len++] = c;
	t.journal[t.len] = '\0';
}

static inline void on_tick(void *arg)
{
	(void)arg;
}

static inline void on_turn_end(void *arg)
{
	(void)arg;
	fake_now += t.step;
	if (++t.turns >= t.stop_after)
		loop_stop(t.loop);
	else
		loop_defer(t.loop, &t.ticker);
}

static inline int set_up(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	fake_now = 1000 * MSEC;
	clock_set_source(fake_mono, fake_wall);
	assert_int_equal(loop_new(&t.loop), ERR_OK);
	loop_task_init(&t.ticker, on_tick, NULL);
	return 0;
}

static inline int tear_down(void **state)
{
	(void)state;
	loop_free(t.loop);
	clock_set_source(NULL, NULL);
	return 0;
}

/* So many turns, none of which waits. */
static inline void run_turns(unsigned n)
{
	t.turns = 0;
	t.stop_after = n;
	loop_hook_add(t.loop, &t.hook, on_turn_end, NULL);
	loop_defer(t.loop, &t.ticker);
	assert_int_equal(loop_run(t.loop), ERR_OK);
	assert_int_equal(t.turns, n);
	loop_hook_remove(t.loop, &t.hook);
}

static inline void on_note(void *arg)
{
	note(*(const char *)arg);
}

static inline void on_stop(void *arg)
{
	(void)arg;
	loop_stop(t.loop);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

#endif
