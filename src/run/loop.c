/* One thread turns one libevent base; turn() below is the only place that decides what runs when.
 *
 * Completions are deferred instead of called, so that no owner is ever re-entered from inside its
 * own submit, and an owner may free itself in any completion: nothing of it is on the stack.
 *
 * Timers are ours, not libevent's, for three reasons: arming must not need memory (libevent's heap
 * grows at event_add), the coarse clock that makes libevent cheap is off by up to 4 ms (a lingering
 * batch waits less), and timers run in a known place of the turn. A binary heap keeps them; its
 * root sets one timerfd, and only when it became earlier than what the timerfd waits for, so most
 * turns make no system call for timers. A wake-up for a timer that was stopped costs one idle turn.
 */
#include "weir/run/loop.h"

#include <event2/event.h>
#include <jansson.h>
#include <signal.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "weir/base/mem.h"
#include "weir/run/log.h"

enum {
	MAX_SIGNALS = 8,
	/* Deferred calls may defer more; so many generations run in one turn before the loop looks
	 * at its descriptors again. */
	DEFER_ROUNDS = 4,
	FIRST_TIMERS = 64,
};

struct signal_slot {
	struct event *ev; /* owned */
	loop_fn fn;
	void *arg;
};

struct loop {
	struct event_base *base; /* owned */
	bool running;
	bool stopped;

	bool fresh; /* the clocks below were read since the loop last waited */
	usec_t now;
	usec_t wall;

	struct list deferred;        /* loop_task.node */
	struct list hooks;           /* loop_hook.node */
	struct loop_hook *next_hook; /* the walk's next, so that a hook may remove any other */

	struct loop_timer **heap; /* owned array; earliest first; slot 0 is not used */
	size_t armed;             /* timers in it */
	size_t initialised;       /* timers that may be armed; never more than heap_space */
	size_t heap_space;
	int timer_fd;           /* owned */
	struct event *timer_ev; /* owned */
	usec_t timer_fd_due;    /* when it will wake us; USEC_NEVER: it is not set */
	usec_t lag;             /* of the latest timer of this turn */

	struct signal_slot signals[MAX_SIGNALS];
	size_t signal_count;

	void (*on_turn)(void *arg, usec_t turn, usec_t lag);
	void *on_turn_arg;
};

/* Loops alive; libevent's globals go with the last. */
static size_t loops;

static void on_libevent_log(int severity, const char *message)
{
	if (severity == EVENT_LOG_DEBUG || severity == EVENT_LOG_MSG)
		log_debug(LOG_LOOP, "libevent", LOG_STR("text", message));
	else
		log_warn(LOG_LOOP, "libevent", LOG_STR("text", message));
}

/* libevent forbids a change of its allocator after its first use, so this happens once. */
static void install_memory(void)
{
	static bool installed;

	if (installed)
		return;
	installed = true;
	event_set_mem_functions(mem_alloc, mem_realloc, mem_free);
	json_set_alloc_funcs(mem_alloc_twice, mem_free);
	event_set_log_callback(on_libevent_log);
}

static struct event_base *new_base(void)
{
	struct event_config *cfg = event_config_new();
	struct event_base *base = NULL;

	if (!cfg)
		return NULL;
	if (event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK |
	                                   EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST) == 0)
		base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	return base;
}

/* --- clocks --- */

static void refresh_clocks(struct loop *l)
{
	l->now = clock_mono();
	l->wall = clock_wall();
	l->fresh = true;
}

/* libevent gives no call between its wait and its callbacks, so the first callback that asks after
 * a wait reads the clocks for all of them. */
static void need_clocks(const struct loop *l)
{
	if (!l->fresh || !l->running)
		refresh_clocks((struct loop *)l);
}

usec_t loop_now(const struct loop *l)
{
	need_clocks(l);
	return l->now;
}

usec_t loop_wall(const struct loop *l)
{
	need_clocks(l);
	return l->wall;
}

/* --- timers: a binary heap by due time, 1-based --- */

static void heap_put(struct loop *l, size_t slot, struct loop_timer *t)
{
	l->heap[slot] = t;
	t->slot = slot;
}

static void heap_up(struct loop *l, size_t slot, struct loop_timer *t)
{
	while (slot > 1 && t->due < l->heap[slot / 2]->due) {
		heap_put(l, slot, l->heap[slot / 2]);
		slot /= 2;
	}
	heap_put(l, slot, t);
}

static void heap_down(struct loop *l, size_t slot, struct loop_timer *t)
{
	for (;;) {
		size_t child = slot * 2;

		if (child > l->armed)
			break;
		if (child < l->armed && l->heap[child + 1]->due < l->heap[child]->due)
			child++;
		if (t->due <= l->heap[child]->due)
			break;
		heap_put(l, slot, l->heap[child]);
		slot = child;
	}
	heap_put(l, slot, t);
}

static void heap_remove(struct loop *l, struct loop_timer *t)
{
	size_t slot = t->slot;
	struct loop_timer *last = l->heap[l->armed--];

	t->slot = 0;
	t->due = 0;
	if (last == t)
		return;
	if (slot > 1 && last->due < l->heap[slot / 2]->due)
		heap_up(l, slot, last);
	else
		heap_down(l, slot, last);
}

static enum err heap_reserve(struct loop *l, size_t timers)
{
	size_t space = l->heap_space ? l->heap_space : FIRST_TIMERS;
	struct loop_timer **heap;

	if (timers <= l->heap_space)
		return ERR_OK;
	while (space < timers)
		space *= 2;
	heap = mem_realloc(l->heap, (space + 1) * sizeof(*heap));
	if (!heap)
		return ERR_NOMEM;
	l->heap = heap;
	l->heap_space = space;
	return ERR_OK;
}

enum err loop_timer_init(struct loop_timer *t, struct loop *l, loop_fn fn, void *arg)
{
	*t = (struct loop_timer){0};
	if (heap_reserve(l, l->initialised + 1) != ERR_OK)
		return ERR_NOMEM;
	l->initialised++;
	*t = (struct loop_timer){.loop = l, .fn = fn, .arg = arg};
	return ERR_OK;
}

void loop_timer_set(struct loop_timer *t, usec_t delay)
{
	struct loop *l = t->loop;
	usec_t now = loop_now(l);

	loop_timer_stop(t);
	/* At least 1: a timer that re-arms itself with 0 must not fire again in the same phase. */
	if (delay < 1)
		delay = 1;
	t->due = delay < USEC_NEVER - now ? now + delay : USEC_NEVER;
	heap_up(l, ++l->armed, t);
}

void loop_timer_stop(struct loop_timer *t)
{
	if (t->slot)
		heap_remove(t->loop, t);
}

bool loop_timer_armed(const struct loop_timer *t)
{
	return t->slot != 0;
}

void loop_timer_done(struct loop_timer *t)
{
	if (!t->loop)
		return;
	loop_timer_stop(t);
	t->loop->initialised--;
	t->loop = NULL;
}

/* Sees to it that the wait ends in time for the earliest timer. False when it is due already, or
 * when the timerfd cannot be set: then the loop must not wait. */
static bool set_timer_fd(struct loop *l)
{
	struct itimerspec when = {0};
	usec_t delay;

	if (l->armed == 0 || l->heap[1]->due >= l->timer_fd_due)
		return true;
	delay = l->heap[1]->due - l->now;
	if (delay <= 0)
		return false;
	when.it_value.tv_sec = (time_t)(delay / USEC_PER_SEC);
	when.it_value.tv_nsec = (long)(delay % USEC_PER_SEC) * 1000;
	if (timerfd_settime(l->timer_fd, 0, &when, NULL) != 0)
		return false;
	l->timer_fd_due = l->heap[1]->due;
	return true;
}

/* Edge-triggered: nothing to read. What is due is found by run_timers(). */
static void on_timerfd_expired(evutil_socket_t fd, short what, void *arg)
{
	struct loop *l = arg;

	(void)fd;
	(void)what;
	l->timer_fd_due = USEC_NEVER;
}

static void run_timers(struct loop *l)
{
	usec_t now = l->now;

	while (l->armed > 0 && l->heap[1]->due <= now) {
		struct loop_timer *t = l->heap[1];

		if (now - t->due > l->lag)
			l->lag = now - t->due;
		heap_remove(l, t);
		t->fn(t->arg);
	}
}

/* --- deferred calls and hooks --- */

void loop_task_init(struct loop_task *t, loop_fn fn, void *arg)
{
	*t = (struct loop_task){.fn = fn, .arg = arg};
}

void loop_defer(struct loop *l, struct loop_task *t)
{
	if (!list_linked(&t->node))
		list_push_back(&l->deferred, &t->node);
}

void loop_cancel(struct loop *l, struct loop_task *t)
{
	if (list_linked(&t->node))
		list_remove(&l->deferred, &t->node);
}

static void run_deferred(struct loop *l)
{
	for (int round = 0; round < DEFER_ROUNDS && l->deferred.count > 0; round++) {
		struct list_node *n;

		for (size_t left = l->deferred.count; left > 0; left--) {
			struct loop_task *t;

			n = list_pop_front(&l->deferred);
			if (!n)
				break;
			t = container_of(n, struct loop_task, node);
			t->fn(t->arg);
		}
	}
}

void loop_hook_add(struct loop *l, struct loop_hook *h, loop_fn fn, void *arg)
{
	*h = (struct loop_hook){.fn = fn, .arg = arg};
	list_push_back(&l->hooks, &h->node);
}

static struct loop_hook *hook_of(struct loop *l, struct list_node *n)
{
	return n == &l->hooks.head ? NULL : container_of(n, struct loop_hook, node);
}

void loop_hook_remove(struct loop *l, struct loop_hook *h)
{
	if (!list_linked(&h->node))
		return;
	if (l->next_hook == h)
		l->next_hook = hook_of(l, h->node.next);
	list_remove(&l->hooks, &h->node);
}

static void run_hooks(struct loop *l)
{
	for (struct loop_hook *h = hook_of(l, l->hooks.head.next); h; h = l->next_hook) {
		l->next_hook = hook_of(l, h->node.next);
		h->fn(h->arg);
	}
}

/* --- signals --- */

static void on_signal_delivered(evutil_socket_t signo, short what, void *arg)
{
	struct signal_slot *s = arg;

	(void)signo;
	(void)what;
	s->fn(s->arg);
}

enum err loop_on_signal(struct loop *l, int signo, loop_fn fn, void *arg)
{
	struct signal_slot *s = &l->signals[l->signal_count];
	sigset_t set;

	if (l->signal_count == MAX_SIGNALS)
		return ERR_FULL;
	s->ev = evsignal_new(l->base, signo, on_signal_delivered, s);
	if (!s->ev)
		return ERR_NOMEM;
	s->fn = fn;
	s->arg = arg;
	if (event_add(s->ev, NULL) != 0) {
		event_free(s->ev);
		s->ev = NULL;
		return ERR_NOMEM;
	}
	l->signal_count++;
	sigemptyset(&set);
	sigaddset(&set, signo);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	return ERR_OK;
}

/* --- the turn --- */

/* The order of a turn:
 *   1. Wait for descriptors and signals and run their library callbacks, which only note what
 *      happened; wait not at all while deferred calls are left or a timer is due.
 *   2. Read the clocks.
 *   3. Timers that are due, earliest first: deadlines before the completions they may cancel.
 *   4. Deferred calls: completions, in the order in which they were deferred.
 *   5. Hooks: adapters write what 1 to 4 gathered, one write for each connection.
 *   6. Read the clocks (the next turn's start as well) and tell the observer.
 */
static enum err turn(struct loop *l)
{
	bool may_wait = set_timer_fd(l) && l->deferred.count == 0;
	usec_t woken;

	l->fresh = false;
	if (event_base_loop(l->base, may_wait ? EVLOOP_ONCE : EVLOOP_ONCE | EVLOOP_NONBLOCK) < 0)
		return ERR_IO;
	/* A callback that asked for the time read it right after the wait. */
	woken = l->fresh ? l->now : 0;
	refresh_clocks(l);
	if (woken == 0)
		woken = l->now;
	run_timers(l);
	run_deferred(l);
	run_hooks(l);
	refresh_clocks(l);
	if (l->on_turn)
		l->on_turn(l->on_turn_arg, l->now - woken, l->lag);
	l->lag = 0;
	return ERR_OK;
}

enum err loop_run(struct loop *l)
{
	enum err e = ERR_OK;

	if (l->running)
		return ERR_BUG;
	l->running = true;
	refresh_clocks(l);
	while (!l->stopped && e == ERR_OK)
		e = turn(l);
	l->stopped = false;
	l->running = false;
	return e;
}

void loop_stop(struct loop *l)
{
	l->stopped = true;
}

void loop_observe(struct loop *l, void (*on_turn)(void *arg, usec_t turn, usec_t lag), void *arg)
{
	l->on_turn = on_turn;
	l->on_turn_arg = arg;
}

/* --- life --- */

static enum err start_timers(struct loop *l)
{
	l->timer_fd_due = USEC_NEVER;
	l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (l->timer_fd < 0)
		return ERR_IO;
	l->timer_ev =
	    event_new(l->base, l->timer_fd, EV_READ | EV_PERSIST | EV_ET, on_timerfd_expired, l);
	if (!l->timer_ev || event_add(l->timer_ev, NULL) != 0)
		return ERR_NOMEM;
	return heap_reserve(l, FIRST_TIMERS);
}

enum err loop_new(struct loop **ret)
{
	struct loop *l;
	enum err e = ERR_NOMEM;

	install_memory();
	l = mem_zalloc(sizeof(*l));
	if (!l)
		return ERR_NOMEM;
	loops++;
	list_init(&l->deferred);
	list_init(&l->hooks);
	l->timer_fd = -1;
	l->base = new_base();
	if (!l->base)
		goto fail;
	e = start_timers(l);
	if (e != ERR_OK)
		goto fail;
	/* Every write reports its own EPIPE. */
	(void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
	*ret = l;
	return ERR_OK;
fail:
	loop_free(l);
	return e;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->signal_count; i++)
		event_free(l->signals[i].ev);
	if (l->timer_ev)
		event_free(l->timer_ev);
	if (l->base)
		event_base_free(l->base);
	if (l->timer_fd >= 0)
		close(l->timer_fd);
	mem_free(l->heap);
	mem_free(l);
	if (--loops == 0)
		libevent_global_shutdown();
}

struct event_base *loop_base(struct loop *l)
{
	return l->base;
}
