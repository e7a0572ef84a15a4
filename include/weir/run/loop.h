/* The one loop of the process: timers, signals, deferred calls and the fixed order of a turn
 * (described at the top of loop.c). libevent is known only here and in `io`. */
#ifndef WEIR_RUN_LOOP_H
#define WEIR_RUN_LOOP_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/list.h"

struct event_base;
struct loop;

typedef void (*loop_fn)(void *arg);

enum err loop_new(struct loop **ret) MUST_CHECK; /* also installs base/mem into libevent, jansson */
/* NULL is fine. Timers, tasks and hooks that still wait are forgotten; their owners must not touch
 * the loop afterwards. */
void loop_free(struct loop *l);
struct event_base *loop_base(struct loop *l); /* for adapters in `io` */

/* Turns until loop_stop(); never nested. The turn in which it was stopped is finished: its deferred
 * calls and hooks still run. A stop before the run makes it return at once. */
enum err loop_run(struct loop *l);
void loop_stop(struct loop *l);

/* Read once for each half of a turn (library callbacks; our own calls), so that they cost nothing.
 * Outside loop_run() they are read afresh. */
usec_t loop_now(const struct loop *l);  /* monotonic */
usec_t loop_wall(const struct loop *l); /* wall clock */

/* A call in the next turn at the latest, from the top of the stack. The task is embedded in its
 * owner, so deferring cannot fail. Deferring a task that waits already is a no-op. */
struct loop_task {
	struct list_node node;
	loop_fn fn;
	void *arg;
};
void loop_task_init(struct loop_task *t, loop_fn fn, void *arg);
void loop_defer(struct loop *l, struct loop_task *t);
void loop_cancel(struct loop *l, struct loop_task *t); /* a no-op when it does not wait */

/* A hook runs in every turn after the deferred calls and before the loop waits: adapters write what
 * the turn gathered. Hooks run in the order in which they were added; a hook may remove itself. */
struct loop_hook {
	struct list_node node;
	loop_fn fn;
	void *arg;
};
void loop_hook_add(struct loop *l, struct loop_hook *h, loop_fn fn, void *arg);
void loop_hook_remove(struct loop *l, struct loop_hook *h);

/* One-shot timer, embedded in its owner. Arming cannot fail once init succeeded. A timer never
 * fires early by loop_now(), and never in the turn phase that armed it. */
struct loop_timer {
	struct loop *loop; /* borrowed; NULL before init and after done */
	loop_fn fn;
	void *arg;
	usec_t due;  /* monotonic; 0 when not armed */
	size_t slot; /* private to loop.c: place in its heap */
};
enum err loop_timer_init(struct loop_timer *t, struct loop *l, loop_fn fn, void *arg) MUST_CHECK;
void loop_timer_set(struct loop_timer *t, usec_t delay); /* re-arms if armed */
void loop_timer_stop(struct loop_timer *t);
bool loop_timer_armed(const struct loop_timer *t);
void loop_timer_done(struct loop_timer *t); /* safe on a zeroed timer and twice */

/* Calls `fn` from the loop for every delivery of `signo`; one that was blocked until now is not any
 * more. At most 8 signals. */
enum err loop_on_signal(struct loop *l, int signo, loop_fn fn, void *arg) MUST_CHECK;

/* How late timers fire and how long turns take, for metrics: called once a turn (may be NULL).
 * `turn` is the time worked, not the time waited; `lag` is the latest timer's, 0 without one. */
void loop_observe(struct loop *l, void (*on_turn)(void *arg, usec_t turn, usec_t lag), void *arg);

#endif
