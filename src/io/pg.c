/* The pool: who gets which connection, and when completions run.
 *
 * Everything that follows from a change (an idle connection, a lost one, a finished transaction) is
 * done by one deferred task, on_pool_turn(), in a fixed order: waiting ones, completions, then
 * waiting transactions, then the owner's callback. So nothing here is ever re-entered from a
 * library callback, and a completion may submit, stop or free. */
#include "weir/io/pg.h"

#include <string.h>

#include "pg_priv.h"
#include "weir/base/mem.h"
#include "weir/run/log.h"

#define DEFAULT_CONNECT_TIMEOUT (5 * USEC_PER_SEC)
#define DEFAULT_QUERY_TIMEOUT   (30 * USEC_PER_SEC)
#define DEFAULT_MAX_WAITING     1024
#define MAX_SIZE                1000
#define SHED_BYTES              ((size_t)2 << 20) /* what a common batch needs at most */
#define SHED_AT_ONCE            ((size_t)16 << 20)
#define SHED_IDLE               (2 * USEC_PER_SEC)
#define MAX_CALLS               10000
/* What Postgres takes in one message, less some for the rest of it. */
#define MAX_PARAM_BYTES ((size_t)1 << 30)

/* --- transactions --- */

static struct pg_txn *txn_new(const struct pg_call *calls, size_t n)
{
	struct pg_txn *t = mem_zalloc(sizeof(*t) + n * (sizeof(*t->results) + sizeof(*t->views)));

	if (!t)
		return NULL;
	t->calls = calls;
	t->count = n;
	t->results = (struct pg_result *)(t + 1);
	t->views = (const struct pg_result **)(t->results + n);
	t->failure.message = t->failure.constraint = "";
	return t;
}

static void txn_free(struct pg_txn *t)
{
	for (size_t i = 0; i < t->count; i++)
		PQclear(t->results[i].res);
	PQclear(t->failed_res);
	mem_free(t);
}

/* Runs the completion and frees the transaction. */
static void txn_complete(struct pg_txn *t)
{
	struct pg_outcome outcome = {.failure = t->failure};

	if (t->err == ERR_OK) {
		for (size_t i = 0; i < t->count; i++)
			t->views[i] = &t->results[i];
		outcome.results = t->views;
		outcome.count = t->count;
	}
	t->cb(t->arg, t->err, &outcome);
	txn_free(t);
}

void pg_pool_finish(struct pg_pool *p, struct pg_txn *t, enum err err)
{
	t->err = err;
	list_push_back(&p->done, &t->node);
	loop_defer(p->loop, &p->task);
}

static void fail_waiting(struct pg_pool *p, struct pg_txn *t, enum err err)
{
	list_remove(&p->waiting, &t->node);
	t->failed = true;
	memcpy(t->reason, p->last_error, sizeof(t->reason));
	if (!*t->reason)
		pg_reason(t->reason, err_meaning(err));
	t->failure.message = t->reason;
	pg_pool_finish(p, t, err);
}

/* --- connections --- */

static size_t count_in(const struct pg_pool *p, enum pg_conn_state s)
{
	size_t n = 0;

	for (size_t i = 0; i < p->size; i++)
		n += p->conns[i].state == s;
	return n;
}

static struct pg_conn *first_in(struct pg_pool *p, enum pg_conn_state s)
{
	for (size_t i = 0; i < p->size; i++)
		if (p->conns[i].state == s)
			return &p->conns[i];
	return NULL;
}

static size_t count_opening(const struct pg_pool *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->size; i++)
		n += pg_conn_opening(&p->conns[i]);
	return n;
}

bool pg_pool_scouted(const struct pg_pool *p, const struct pg_conn *c)
{
	for (size_t i = 0; i < p->size; i++)
		if (&p->conns[i] != c &&
		    (pg_conn_opening(&p->conns[i]) || p->conns[i].state == CONN_BACKOFF))
			return true;
	return false;
}

/* What was lost may be made up for by another connection than the one that lost it. */
void pg_pool_begun(struct pg_pool *p)
{
	p->sessions++;
	if (p->lost == 0)
		return;
	p->lost--;
	p->reconnects++;
}

bool pg_pool_up(const struct pg_pool *p)
{
	for (size_t i = 0; i < p->size; i++)
		if (pg_conn_up(&p->conns[i]))
			return true;
	return false;
}

uint64_t pg_pool_sessions(const struct pg_pool *p)
{
	return p->sessions;
}

size_t pg_pool_idle(const struct pg_pool *p)
{
	size_t n = count_in(p, CONN_IDLE);

	if (p->running && pg_pool_up(p) && count_in(p, CONN_BACKOFF) == 0)
		n += count_in(p, CONN_DOWN) + count_opening(p);
	return n > p->waiting.count ? n - p->waiting.count : 0;
}

void pg_pool_settle(struct pg_pool *p)
{
	loop_defer(p->loop, &p->task);
}

/* Opens as many as there are transactions that wait; only one while the server does not answer. */
static void open_more(struct pg_pool *p)
{
	size_t opening = count_opening(p);
	size_t most = pg_pool_up(p) ? p->waiting.count : 1;

	if (count_in(p, CONN_BACKOFF))
		return;
	while (opening < most) {
		struct pg_conn *c = first_in(p, CONN_DOWN);

		if (!c)
			return;
		pg_conn_open(c);
		opening++;
	}
}

static void arm_wait_timer(struct pg_pool *p)
{
	usec_t due = USEC_NEVER;

	list_for_each (&p->waiting, n) {
		const struct pg_txn *t = container_of(n, struct pg_txn, node);

		due = t->deadline < due ? t->deadline : due;
	}
	if (due == USEC_NEVER)
		loop_timer_stop(&p->wait_timer);
	else
		loop_timer_set(&p->wait_timer, due - loop_now(p->loop));
}

static void on_wait_timer(void *arg)
{
	struct pg_pool *p = arg;
	usec_t now = loop_now(p->loop);

	for (struct list_node *n = p->waiting.head.next, *next; n != &p->waiting.head; n = next) {
		struct pg_txn *t = container_of(n, struct pg_txn, node);

		next = n->next;
		if (t->deadline <= now)
			fail_waiting(p, t, ERR_UNAVAILABLE);
	}
	arm_wait_timer(p);
}

static struct pg_txn *first_waiting(struct pg_pool *p)
{
	return container_of(list_front(&p->waiting), struct pg_txn, node);
}

/* The connection that will be free first, as far as can be told. NULL: one can still be opened, or
 * none may be followed. */
static struct pg_conn *to_follow(struct pg_pool *p)
{
	struct pg_conn *best = NULL;

	for (size_t i = 0; i < p->size; i++) {
		struct pg_conn *c = &p->conns[i];

		if (!pg_conn_up(c))
			return NULL;
		if (pg_conn_may_follow(c) && (!best || c->txn->deadline < best->txn->deadline))
			best = c;
	}
	return best;
}

static void dispatch(struct pg_pool *p)
{
	struct pg_conn *c;

	while (p->waiting.count && (c = first_in(p, CONN_IDLE)))
		pg_conn_run(c, container_of(list_pop_front(&p->waiting), struct pg_txn, node));
	while (p->waiting.count && first_waiting(p)->bulk && (c = to_follow(p)))
		pg_conn_follow(c, container_of(list_pop_front(&p->waiting), struct pg_txn, node));
	if (p->waiting.count)
		open_more(p);
	else
		loop_timer_stop(&p->wait_timer);
}

/* --- large buffers --- */

/* libpq never gives an output buffer back, so a connection that sent something large is made anew:
 * at once when it was very large, else when it is not needed for a while. Another one stands
 * before it goes, or the pool would be away for a moment. */
static void shed_one(struct pg_pool *p, struct pg_conn *c)
{
	size_t others = count_in(p, CONN_IDLE) + count_in(p, CONN_BUSY) - 1;
	struct pg_conn *mate = first_in(p, CONN_DOWN);

	if (others > 0 || !mate) {
		pg_conn_close(c, ERR_CANCELLED);
		if (others == 0)
			pg_conn_open(c);
	} else if (count_opening(p) == 0 && count_in(p, CONN_BACKOFF) == 0) {
		pg_conn_open(mate);
	}
}

static void shed(struct pg_pool *p)
{
	usec_t now = loop_now(p->loop), next = USEC_NEVER;

	for (size_t i = 0; i < p->size; i++) {
		struct pg_conn *c = &p->conns[i];
		usec_t due = c->out_bytes > SHED_AT_ONCE ? now : c->idle_since + SHED_IDLE;

		if (c->state != CONN_IDLE || c->out_bytes <= SHED_BYTES)
			continue;
		if (due <= now)
			shed_one(p, c);
		else
			next = due < next ? due : next;
	}
	if (next != USEC_NEVER)
		loop_timer_set(&p->shed_timer, next - now);
	else
		loop_timer_stop(&p->shed_timer);
}

static void on_shed_timer(void *arg)
{
	pg_pool_settle(arg);
}

/* --- the turn --- */

/* False: the pool was freed in a completion. */
static bool run_completions(struct pg_pool *p)
{
	bool gone = false;

	p->gone = &gone;
	/* Only those that are there now: completions may submit, and fail, without end. */
	for (size_t left = p->done.count; left > 0 && p->done.count > 0; left--) {
		txn_complete(container_of(list_pop_front(&p->done), struct pg_txn, node));
		if (gone)
			return false;
	}
	p->gone = NULL;
	if (p->done.count)
		loop_defer(p->loop, &p->task);
	return true;
}

static void tell_notified(struct pg_pool *p)
{
	if (!p->on_notify || (!p->notified && p->told_sessions == p->sessions))
		return;
	p->notified = false;
	p->told_sessions = p->sessions;
	p->on_notify(p->on_notify_arg);
}

static void tell_change(struct pg_pool *p)
{
	bool up = pg_pool_up(p);

	if (up != p->was_up) {
		p->was_up = up;
		p->changed = true;
		if (up)
			log_info(LOG_PG, "connected to Postgres",
			         LOG_INT("reconnects", p->reconnects));
		else if (p->running)
			log_warn(LOG_PG, "Postgres is away", LOG_STR("reason", p->last_error));
	}
	if (!p->changed)
		return;
	p->changed = false;
	if (p->on_change)
		p->on_change(p->on_change_arg);
}

static void on_pool_turn(void *arg)
{
	struct pg_pool *p = arg;

	/* Before the completions too: what they do must not keep a connection idle. */
	if (p->running)
		dispatch(p);
	if (!run_completions(p))
		return;
	if (p->running) {
		dispatch(p);
		shed(p);
	}
	tell_notified(p);
	tell_change(p);
}

/* --- submitting --- */

static enum err check_calls(const struct pg_call *calls, size_t n)
{
	if (n == 0 || n > MAX_CALLS)
		return ERR_INVAL;
	for (size_t i = 0; i < n; i++) {
		size_t bytes = 0;

		if (calls[i].stmt->param_count > PG_MAX_PARAMS)
			return ERR_INVAL;
		for (size_t k = 0; k < calls[i].stmt->param_count; k++) {
			size_t len = calls[i].params[k].len;

			if (len > MAX_PARAM_BYTES - bytes)
				return ERR_TOOBIG;
			bytes += len;
		}
	}
	return ERR_OK;
}

static struct pg_txn *txn_for(struct pg_pool *p, const struct pg_call *calls, size_t n,
                              usec_t timeout, pg_done_fn cb, void *arg)
{
	struct pg_txn *t = txn_new(calls, n);

	if (!t)
		return NULL;
	t->deadline = loop_now(p->loop) + (timeout > 0 ? timeout : p->query_timeout);
	t->cb = cb;
	t->arg = arg;
	return t;
}

static enum err submit(struct pg_pool *p, bool bulk, const struct pg_call *calls, size_t n,
                       usec_t timeout, void (*copied)(void *arg), pg_done_fn cb, void *arg)
{
	struct pg_conn *c = p->waiting.count ? NULL : first_in(p, CONN_IDLE);
	enum err err = check_calls(calls, n);
	struct pg_txn *t;

	if (err != ERR_OK)
		return err;
	if (!p->running)
		return ERR_CANCELLED;
	if (!c && p->waiting.count >= p->max_waiting)
		return ERR_FULL;
	t = txn_for(p, calls, n, timeout, cb, arg);
	if (!t)
		return ERR_NOMEM;
	t->bulk = bulk;
	t->copied = copied;
	if (c) {
		pg_conn_run(c, t);
		return ERR_OK;
	}
	list_push_back(&p->waiting, &t->node);
	if (!loop_timer_armed(&p->wait_timer) || t->deadline < p->wait_timer.due)
		loop_timer_set(&p->wait_timer, t->deadline - loop_now(p->loop));
	loop_defer(p->loop, &p->task);
	return ERR_OK;
}

enum err pg_submit(struct pg_pool *p, const struct pg_call *calls, size_t n, usec_t timeout,
                   pg_done_fn cb, void *arg)
{
	return submit(p, false, calls, n, timeout, NULL, cb, arg);
}

enum err pg_submit_bulk(struct pg_pool *p, const struct pg_call *calls, size_t n, usec_t timeout,
                        void (*copied)(void *arg), pg_done_fn cb, void *arg)
{
	return submit(p, true, calls, n, timeout, copied, cb, arg);
}

enum err pg_pool_submit_first(struct pg_pool *p, const struct pg_call *call, usec_t timeout,
                              pg_done_fn cb, void *arg)
{
	struct pg_txn *t = txn_for(p, call, 1, timeout, cb, arg);

	if (!t)
		return ERR_NOMEM;
	list_push_front(&p->waiting, &t->node);
	arm_wait_timer(p);
	loop_defer(p->loop, &p->task);
	return ERR_OK;
}

/* --- life --- */

static bool needs_resolver(const struct pg_conninfo *ci)
{
	for (size_t i = 0; i < ci->host_count; i++)
		if (ci->hosts[i].unknown)
			return true;
	return false;
}

static enum err init_parts(struct pg_pool *p, const struct pg_options *o)
{
	enum err err = pg_conninfo_init(&p->info, o, NULL);

	if (err == ERR_OK && !p->resolver && needs_resolver(&p->info))
		err = ERR_INVAL;
	if (err == ERR_OK)
		err = loop_timer_init(&p->wait_timer, p->loop, on_wait_timer, p);
	if (err == ERR_OK)
		err = loop_timer_init(&p->shed_timer, p->loop, on_shed_timer, p);
	for (size_t i = 0; err == ERR_OK && i < p->size; i++)
		err = pg_conn_init(&p->conns[i], p, i);
	return err;
}

enum err pg_pool_new(struct loop *l, struct resolver *res, const struct pg_options *opts,
                     struct pg_pool **ret)
{
	struct pg_pool *p;
	enum err err = ERR_NOMEM;

	if (opts->size > MAX_SIZE)
		return ERR_INVAL;
	p = mem_zalloc(sizeof(*p));
	if (!p)
		return ERR_NOMEM;
	p->loop = l;
	p->resolver = res;
	p->size = opts->size ? opts->size : 1;
	p->connect_timeout =
	    opts->connect_timeout ? opts->connect_timeout : DEFAULT_CONNECT_TIMEOUT;
	p->query_timeout = opts->query_timeout ? opts->query_timeout : DEFAULT_QUERY_TIMEOUT;
	p->max_waiting = opts->max_waiting ? opts->max_waiting : DEFAULT_MAX_WAITING;
	p->listen = opts->listen;
	list_init(&p->waiting);
	list_init(&p->done);
	loop_task_init(&p->task, on_pool_turn, p);
	p->conns = mem_array(p->size, sizeof(*p->conns));
	if (p->conns)
		err = init_parts(p, opts);
	if (err != ERR_OK) {
		pg_pool_free(p);
		return err;
	}
	*ret = p;
	return ERR_OK;
}

void pg_pool_start(struct pg_pool *p)
{
	if (p->running)
		return;
	p->running = true;
	pg_conn_open(&p->conns[0]);
}

void pg_pool_stop(struct pg_pool *p)
{
	if (!p->running)
		return;
	p->running = false;
	while (p->waiting.count)
		fail_waiting(p, container_of(list_front(&p->waiting), struct pg_txn, node),
		             ERR_CANCELLED);
	loop_timer_stop(&p->wait_timer);
	loop_timer_stop(&p->shed_timer);
	for (size_t i = 0; i < p->size; i++)
		pg_conn_close(&p->conns[i], ERR_CANCELLED);
}

void pg_pool_free(struct pg_pool *p)
{
	if (!p)
		return;
	pg_pool_stop(p);
	p->on_change = p->on_notify = NULL;
	if (p->gone)
		*p->gone = true;
	while (p->done.count)
		txn_complete(container_of(list_pop_front(&p->done), struct pg_txn, node));
	loop_cancel(p->loop, &p->task);
	for (size_t i = 0; p->conns && i < p->size; i++)
		pg_conn_done(&p->conns[i]);
	mem_free(p->conns);
	loop_timer_done(&p->wait_timer);
	loop_timer_done(&p->shed_timer);
	pg_conninfo_done(&p->info);
	mem_free(p);
}

void pg_pool_on_change(struct pg_pool *p, void (*fn)(void *arg), void *arg)
{
	p->on_change = fn;
	p->on_change_arg = arg;
}

void pg_pool_on_notify(struct pg_pool *p, void (*fn)(void *arg), void *arg)
{
	p->on_notify = fn;
	p->on_notify_arg = arg;
}

void pg_pool_stats(const struct pg_pool *p, struct pg_pool_stats *ret)
{
	size_t busy = count_in(p, CONN_BUSY) + count_in(p, CONN_CANCELLING);
	bool refused = p->refusal == ERR_DENIED || p->refusal == ERR_NOTFOUND;

	*ret = (struct pg_pool_stats){.open = count_in(p, CONN_IDLE) + busy,
	                              .busy = busy,
	                              .waiting = p->waiting.count,
	                              .reconnects = p->reconnects,
	                              .transactions = p->transactions,
	                              .statements = p->statements,
	                              .last_error = p->last_error,
	                              .refusal = refused ? p->refusal : ERR_OK};
}
