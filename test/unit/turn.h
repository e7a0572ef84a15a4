/* Turning a loop until a condition holds, with a deadline: what all rigs around a loop share. A rig
 * is the test's `struct rig` and holds a `struct turn turn`. */
#ifndef WEIR_TEST_TURN_H
#define WEIR_TEST_TURN_H

#include <stdbool.h>

#include "weir/base/clock.h"
#include "weir/run/loop.h"

#define MSEC      USEC_PER_MSEC
#define LONG_MSEC 60000 /* for what comes at once, on a machine that is slow and busy */

struct rig;

struct turn {
	struct rig *rig; /* borrowed, like the loop */
	struct loop *loop;
	struct loop_timer tick;
	bool (*until)(struct rig *r);
	usec_t give_up;
};

static inline void on_turn_tick(void *arg)
{
	struct turn *t = arg;

	if (t->until(t->rig) || clock_mono() >= t->give_up)
		loop_stop(t->loop);
	else
		loop_timer_set(&t->tick, MSEC);
}

static inline enum err turn_init(struct turn *t, struct rig *r, struct loop *l)
{
	t->rig = r;
	t->loop = l;
	return loop_timer_init(&t->tick, l, on_turn_tick, t);
}

static inline void turn_done(struct turn *t)
{
	loop_timer_done(&t->tick);
}

/* False when `until` does not hold after `msec`, or the loop cannot turn. */
static inline bool turn_run(struct turn *t, bool (*until)(struct rig *r), int msec)
{
	t->until = until;
	t->give_up = clock_mono() + msec * MSEC;
	loop_timer_set(&t->tick, 0);
	if (loop_run(t->loop) != ERR_OK)
		return false;
	loop_timer_stop(&t->tick);
	return until(t->rig);
}
#define turn_until(r, until, msec) turn_run(&(r)->turn, until, msec)

static inline bool never(struct rig *r)
{
	(void)r;
	return false;
}

#endif
