/* One connection's life.
 *
 *   down ──open──▶ resolving ──▶ connecting ──▶ setup ──▶ idle ⇄ busy ──deadline──▶ cancelling
 *                      ▲              │ next address             │                     │ drained:
 * idle └── backoff ◀──┴──────────────────────────┴─────────────────────┘ else: lost
 *
 * Each state has one deadline, in `timer`. Several hosts and addresses are tried one after the
 * other, each with a connect timeout of its own. Of connections that are lost together only one
 * keeps knocking (pg_pool_scouted); the others go down and are opened again on demand.
 *
 * libpq 15 has no cancel that does not block, and keeps the cancel key to itself. So a transaction
 * that is past its deadline is cancelled by pg_cancel_backend() over another connection of the
 * pool; with a pool of one, by statement_timeout alone. Its submitter is told at the deadline, and
 * the connection is closed when the server has not answered in another CANCEL_GRACE. */
#include <event2/event.h>
#include <string.h>

#include "pg_priv.h"
#include "weir/base/backoff.h"
#include "weir/base/mem.h"
#include "weir/run/crash_point.h"
#include "weir/run/log.h"

#define CANCEL_GRACE (5 * USEC_PER_SEC)

enum conn_event {
	CONN_GO,       /* somebody needs it */
	CONN_RESOLVED, /* the last name's answer is there */
	CONN_READABLE,
	CONN_WRITABLE,
	CONN_TIMER,
};

static const struct backoff backoff = {
    .initial = 100 * USEC_PER_MSEC, .max = 5 * USEC_PER_SEC, .multiplier = 2, .jitter = 0.5};

static void step(struct pg_conn *c, enum conn_event ev);

static const char *state_name(enum pg_conn_state s)
{
#define PG_CONN_NAME(code, name) [code] = name,
	static const char *const names[] = {PG_CONN_STATES(PG_CONN_NAME)};
#undef PG_CONN_NAME

	return names[s];
}

static void set_state(struct pg_conn *c, enum pg_conn_state to)
{
#define TO(s) (1u << (s))
#define GONE  (TO(CONN_DOWN) | TO(CONN_BACKOFF))
	static const unsigned allowed[PG_CONN_STATE_COUNT] = {
	    [CONN_DOWN] = TO(CONN_RESOLVING),
	    [CONN_RESOLVING] = TO(CONN_CONNECTING) | GONE,
	    [CONN_CONNECTING] = TO(CONN_CONNECTING) | TO(CONN_SETUP) | GONE,
	    [CONN_SETUP] = TO(CONN_CONNECTING) | TO(CONN_IDLE) | GONE,
	    [CONN_IDLE] = TO(CONN_BUSY) | GONE,
	    [CONN_BUSY] = TO(CONN_IDLE) | TO(CONN_CANCELLING) | GONE,
	    [CONN_CANCELLING] = TO(CONN_IDLE) | GONE,
	    [CONN_BACKOFF] = TO(CONN_RESOLVING) | TO(CONN_DOWN),
	};
#undef GONE

	if (!(allowed[c->state] & TO(to)))
		log_error(LOG_PG, "impossible change of state",
		          LOG_STR("from", state_name(c->state)), LOG_STR("to", state_name(to)));
#undef TO
	log_debug(LOG_PG, "state", LOG_INT("conn", c->index), LOG_STR("from", state_name(c->state)),
	          LOG_STR("to", state_name(to)));
	c->state = to;
	loop_timer_stop(&c->timer);
	pg_pool_settle(c->pool);
}

/* --- library callbacks: translate and return --- */

static void on_pg_socket(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	step(arg, what & EV_READ ? CONN_READABLE : CONN_WRITABLE);
}

static void on_pg_timer(void *arg)
{
	step(arg, CONN_TIMER);
}

static void on_pg_notice(void *arg, const char *message)
{
	char text[PG_REASON_LEN];
	struct pg_conn *c = arg;

	pg_reason(text, message);
	log_debug(LOG_PG, "notice", LOG_INT("conn", c->index), LOG_STR("text", text));
}

/* --- ends --- */

static void free_events(struct pg_conn *c)
{
	if (c->ev_read)
		event_free(c->ev_read);
	if (c->ev_write)
		event_free(c->ev_write);
	c->ev_read = c->ev_write = NULL;
}

/* Leaves nothing of the connection but its place in the pool. */
static void tear_down(struct pg_conn *c)
{
	pg_targets_stop(&c->targets);
	free_events(c);
	PQfinish(c->pg);
	c->pg = NULL;
	pg_wire_note_out(c, 0);
	c->drained = false;
	pg_wire_forget(c);
}

static void give_up(struct pg_conn *c, struct pg_txn *t, enum err err)
{
	if (!t)
		return;
	if (!t->failed) {
		memcpy(t->reason, c->reason, sizeof(t->reason));
		t->failure.message = t->reason;
		t->failure.call = c->call_at;
		t->failed = true;
	}
	pg_pool_finish(c->pool, t, err);
}

static void give_up_txn(struct pg_conn *c, enum err err)
{
	struct pg_txn *t = c->txn, *behind = c->behind;

	c->txn = c->behind = NULL;
	give_up(c, t, err);
	give_up(c, behind, err);
}

/* It stays down if another one is trying already. */
static void retire(struct pg_conn *c)
{
	bool scouted = pg_pool_scouted(c->pool, c), attempted = pg_conn_opening(c);

	/* The first failure is told, and then about one a minute. */
	if (attempted && c->attempt % 12 == 0)
		log_warn(LOG_PG, "cannot connect to Postgres", LOG_STR("reason", c->reason),
		         LOG_INT("attempts", c->attempt + 1));
	tear_down(c);
	memcpy(c->pool->last_error, c->reason, sizeof(c->reason));
	c->pool->refusal = attempted ? c->refusal : ERR_OK;
	set_state(c, scouted ? CONN_DOWN : CONN_BACKOFF);
	if (!scouted)
		loop_timer_set(&c->timer, backoff_delay(&backoff, c->attempt));
	c->attempt += attempted;
}

static void lose(struct pg_conn *c, enum err err)
{
	log_debug(LOG_PG, "connection closed", LOG_INT("conn", c->index),
	          LOG_STR("reason", c->reason));
	give_up_txn(c, err);
	c->pool->lost++;
	retire(c);
}

/* --- resolving --- */

static void on_targets_resolved(void *arg)
{
	step(arg, CONN_RESOLVED);
}

static void connect_next(struct pg_conn *c);

static void start_resolving(struct pg_conn *c)
{
	c->refusal = ERR_OK;
	set_state(c, CONN_RESOLVING);
	if (pg_targets_start(&c->targets, &c->pool->info, c->pool->resolver, on_targets_resolved,
	                     c))
		loop_timer_set(&c->timer, c->pool->connect_timeout);
	else
		connect_next(c);
}

static void step_resolving(struct pg_conn *c, enum conn_event ev)
{
	/* At the deadline, what was found by then has to do. */
	if (ev == CONN_TIMER)
		pg_targets_stop(&c->targets);
	if (ev == CONN_TIMER || ev == CONN_RESOLVED)
		connect_next(c);
}

/* --- connecting --- */

/* libpq may close its socket and open another one with the same number within a poll, so every wait
 * has a fresh event. */
static bool wait_socket(struct pg_conn *c, short what)
{
	free_events(c);
	c->ev_read = event_new(loop_base(c->pool->loop), PQsocket(c->pg), what, on_pg_socket, c);
	return c->ev_read && event_add(c->ev_read, NULL) == 0;
}

static void connect_failed(struct pg_conn *c, enum err why)
{
	if (c->refusal != ERR_UNAVAILABLE)
		c->refusal = why;
	log_debug(LOG_PG, "cannot connect", LOG_INT("conn", c->index),
	          LOG_STR("reason", c->reason));
	connect_next(c);
}

/* Tries the next address of the next host; backs off behind the last. */
static void connect_next(struct pg_conn *c)
{
	const struct pg_host *h;
	const char *addr;
	struct pg_params params;

	tear_down(c);
	if (!pg_targets_next(&c->targets, &h, &addr)) {
		if (c->state == CONN_RESOLVING)
			pg_reason(c->reason, "the host's name cannot be resolved");
		retire(c);
		return;
	}
	pg_conninfo_params(&c->pool->info, h, addr, &params);
	c->pg = PQconnectStartParams(params.keys, params.values, 0);
	set_state(c, CONN_CONNECTING);
	/* The timer, not this stack, goes on after a failure: a long list must not recurse. */
	loop_timer_set(&c->timer, 0);
	if (!c->pg || PQstatus(c->pg) == CONNECTION_BAD || !wait_socket(c, EV_WRITE)) {
		pg_reason(c->reason, c->pg ? PQerrorMessage(c->pg) : "out of memory");
		return;
	}
	PQsetNoticeProcessor(c->pg, on_pg_notice, c);
	PQsetErrorVerbosity(c->pg, PQERRORS_VERBOSE); /* for pg_refusal() */
	loop_timer_set(&c->timer, c->pool->connect_timeout);
	pg_reason(c->reason, "timed out");
}

static void start_setup(struct pg_conn *c);

static void step_connecting(struct pg_conn *c, enum conn_event ev)
{
	bool waiting = false;

	if (ev == CONN_TIMER) {
		connect_failed(c, ERR_UNAVAILABLE);
		return;
	}
	switch (PQconnectPoll(c->pg)) {
	case PGRES_POLLING_READING:
		waiting = wait_socket(c, EV_READ);
		break;
	case PGRES_POLLING_WRITING:
		waiting = wait_socket(c, EV_WRITE);
		break;
	case PGRES_POLLING_OK:
		PQsetErrorVerbosity(c->pg, PQERRORS_DEFAULT);
		start_setup(c);
		return;
	case PGRES_POLLING_FAILED:
	case PGRES_POLLING_ACTIVE:
		break;
	}
	if (!waiting)
		connect_failed(c, pg_refusal(c->pg, c->reason));
}

/* --- the session --- */

static bool flush(struct pg_conn *c)
{
	int left = PQflush(c->pg);

	if (left == 1 && event_add(c->ev_write, NULL) == 0)
		return true;
	if (left == 0)
		return true;
	pg_reason(c->reason, PQerrorMessage(c->pg));
	return false;
}

static bool watch(struct pg_conn *c)
{
	struct event_base *base = loop_base(c->pool->loop);
	int fd = PQsocket(c->pg);

	free_events(c);
	c->ev_read = event_new(base, fd, EV_READ | EV_PERSIST, on_pg_socket, c);
	c->ev_write = event_new(base, fd, EV_WRITE, on_pg_socket, c);
	return c->ev_read && c->ev_write && event_add(c->ev_read, NULL) == 0;
}

static void start_setup(struct pg_conn *c)
{
	bool sent = watch(c) && PQsetnonblocking(c->pg, 1) == 0 &&
	            PQenterPipelineMode(c->pg) == 1 && pg_wire_send_setup(c);

	if (!sent) {
		pg_reason(c->reason, PQerrorMessage(c->pg));
		connect_failed(c, ERR_UNAVAILABLE);
		return;
	}
	c->setup_failed = false;
	set_state(c, CONN_SETUP);
	loop_timer_set(&c->timer, c->pool->connect_timeout);
	if (!flush(c))
		connect_failed(c, ERR_UNAVAILABLE);
}

static void become_idle(struct pg_conn *c)
{
	c->drained = false;
	c->idle_since = loop_now(c->pool->loop);
	set_state(c, CONN_IDLE);
	c->pool->changed = true;
}

static void step_setup(struct pg_conn *c, enum conn_event ev)
{
	enum pg_wire w;

	if (ev == CONN_TIMER) {
		pg_reason(c->reason, "timed out");
		connect_failed(c, ERR_UNAVAILABLE);
		return;
	}
	w = ev == CONN_READABLE ? pg_wire_read(c) : PG_WIRE_MORE;
	if (w == PG_WIRE_LOST || (w == PG_WIRE_SYNC && c->setup_failed) || !flush(c)) {
		connect_failed(c, ERR_UNAVAILABLE);
		return;
	}
	if (w == PG_WIRE_MORE)
		return;
	pg_pool_begun(c->pool);
	c->attempt = 0;
	become_idle(c);
}

/* Notices and parameter changes come here; so does the server's farewell. */
static void step_idle(struct pg_conn *c, enum conn_event ev)
{
	if (ev == CONN_READABLE && pg_wire_read(c) == PG_WIRE_LOST)
		lose(c, ERR_CLOSED);
}

static void await_answers(struct pg_conn *c)
{
	pg_wire_expect(c);
	loop_timer_set(&c->timer, c->txn->deadline - loop_now(c->pool->loop));
}

void pg_conn_run(struct pg_conn *c, struct pg_txn *t)
{
	bool sent = pg_wire_send(c, t);

	c->txn = t;
	set_state(c, CONN_BUSY);
	await_answers(c);
	/* Without its Sync nothing of it can be committed. */
	if (!sent)
		lose(c, ERR_UNAVAILABLE);
	else if (!flush(c))
		lose(c, ERR_CLOSED);
	else if (t->bulk)
		CRASH_POINT("sent");
}

/* Not behind one that prepares statements, whose failure would be the other's as well; and not
 * before all of that one is written, so that libpq never holds two of them. */
bool pg_conn_may_follow(const struct pg_conn *c)
{
	return c->state == CONN_BUSY && c->txn && c->txn->bulk && !c->behind && !c->parsed_any &&
	       !event_pending(c->ev_write, EV_WRITE, NULL);
}

void pg_conn_follow(struct pg_conn *c, struct pg_txn *t)
{
	c->behind = t;
	if (!pg_wire_send(c, t) || !flush(c))
		lose(c, ERR_CLOSED);
	else
		CRASH_POINT("sent");
}

/* Errors after which the session is of no use: a plan or name that is out of date on the server
 * (a new session prepares anew), and a server that does not take writes any more (a new session may
 * find the one that does). */
static bool spoiled(const struct pg_txn *t)
{
	static const char *const states[] = {"0A000", "26000", "25006"};

	for (size_t i = 0; t->failed && i < sizeof(states) / sizeof(*states); i++)
		if (strcmp(t->failure.sqlstate, states[i]) == 0)
			return true;
	return false;
}

static void complete(struct pg_conn *c)
{
	struct pg_txn *t = c->txn;
	bool done_with = spoiled(t);

	if (done_with)
		pg_reason(c->reason, t->failure.message);
	c->txn = NULL;
	pg_pool_finish(c->pool, t, pg_wire_verdict(t));
	if (done_with) {
		lose(c, ERR_CLOSED);
	} else if (c->behind) {
		c->txn = c->behind;
		c->behind = NULL;
		await_answers(c);
	} else {
		become_idle(c);
	}
}

/* The end of one transaction, and of the one behind it if that came along. */
static enum pg_wire read_answers(struct pg_conn *c)
{
	enum pg_wire w = pg_wire_read(c);

	while (w == PG_WIRE_SYNC) {
		complete(c);
		if (c->state != CONN_BUSY)
			return PG_WIRE_SYNC;
		w = pg_wire_read(c);
	}
	return w;
}

static void start_cancelling(struct pg_conn *c);

static void step_busy(struct pg_conn *c, enum conn_event ev)
{
	enum pg_wire w;

	if (ev == CONN_TIMER) {
		pg_reason(c->reason, "no answer before the deadline");
		if (c->behind)
			lose(c, ERR_TIMEOUT); /* a cancel could hit either */
		else
			start_cancelling(c);
		return;
	}
	w = ev == CONN_READABLE ? read_answers(c) : PG_WIRE_MORE;
	if (w == PG_WIRE_SYNC)
		return;
	if (w == PG_WIRE_LOST || !flush(c))
		lose(c, ERR_CLOSED);
	else if (ev == CONN_WRITABLE)
		pg_pool_settle(c->pool); /* another one may follow now */
}

/* --- past the deadline --- */

static void on_cancel_done(void *arg, enum err err, const struct pg_outcome *outcome)
{
	struct pg_conn *c = arg;

	(void)outcome;
	c->cancel_open = false;
	log_debug(LOG_PG, "cancel", LOG_INT("conn", c->index), LOG_ERR(err));
	if (c->state == CONN_CANCELLING && c->drained)
		become_idle(c);
}

static void send_cancel(struct pg_conn *c)
{
	static const struct pg_stmt cancel = {
	    .sql = "SELECT pg_cancel_backend($1)", .param_count = 1, .types = {PG_INT4}};
	uint32_t pid = (uint32_t)PQbackendPID(c->pg);

	if (c->cancel_open || c->pool->size == 1)
		return;
	for (size_t i = 0; i < 4; i++)
		c->cancel_pid[i] = (unsigned char)(pid >> (24 - 8 * i));
	c->cancel_param = (struct pg_param){c->cancel_pid, sizeof(c->cancel_pid)};
	c->cancel_call = (struct pg_call){&cancel, &c->cancel_param};
	c->cancel_open = pg_pool_submit_first(c->pool, &c->cancel_call, CANCEL_GRACE,
	                                      on_cancel_done, c) == ERR_OK;
}

static void start_cancelling(struct pg_conn *c)
{
	give_up_txn(c, ERR_TIMEOUT);
	set_state(c, CONN_CANCELLING);
	loop_timer_set(&c->timer, CANCEL_GRACE);
	send_cancel(c);
}

/* The session is free again once both are over: what it ran, and the cancel, which could otherwise
 * hit the next transaction. Results were not followed, so it is not known which statements it
 * prepared; if it might have, it is closed. */
static void step_cancelling(struct pg_conn *c, enum conn_event ev)
{
	enum pg_wire w = ev == CONN_READABLE ? pg_wire_read(c) : PG_WIRE_MORE;

	if (ev == CONN_TIMER)
		pg_reason(c->reason, "no answer to the cancel");
	if (w == PG_WIRE_SYNC && c->parsed_any)
		pg_reason(c->reason, "cancelled");
	if (w == PG_WIRE_LOST || ev == CONN_TIMER || (w == PG_WIRE_SYNC && c->parsed_any) ||
	    !flush(c)) {
		lose(c, ERR_CLOSED);
		return;
	}
	if (w != PG_WIRE_SYNC)
		return;
	c->drained = true;
	if (!c->cancel_open)
		become_idle(c);
}

/* --- between sessions --- */

static void step_down(struct pg_conn *c, enum conn_event ev)
{
	if (ev == CONN_GO)
		start_resolving(c);
}

static void step_backoff(struct pg_conn *c, enum conn_event ev)
{
	if (ev == CONN_TIMER)
		start_resolving(c);
}

static void step(struct pg_conn *c, enum conn_event ev)
{
	switch (c->state) {
	case CONN_DOWN:
		step_down(c, ev);
		return;
	case CONN_RESOLVING:
		step_resolving(c, ev);
		return;
	case CONN_CONNECTING:
		step_connecting(c, ev);
		return;
	case CONN_SETUP:
		step_setup(c, ev);
		return;
	case CONN_IDLE:
		step_idle(c, ev);
		return;
	case CONN_BUSY:
		step_busy(c, ev);
		return;
	case CONN_CANCELLING:
		step_cancelling(c, ev);
		return;
	case CONN_BACKOFF:
		step_backoff(c, ev);
		return;
	case PG_CONN_STATE_COUNT:
		return;
	}
}

enum err pg_conn_init(struct pg_conn *c, struct pg_pool *p, size_t index)
{
	c->pool = p;
	c->index = index;
	return loop_timer_init(&c->timer, p->loop, on_pg_timer, c);
}

void pg_conn_open(struct pg_conn *c)
{
	step(c, CONN_GO);
}

void pg_conn_close(struct pg_conn *c, enum err why)
{
	pg_reason(c->reason, err_meaning(why));
	give_up_txn(c, why);
	tear_down(c);
	if (c->state != CONN_DOWN)
		set_state(c, CONN_DOWN);
	c->attempt = 0;
}

void pg_conn_done(struct pg_conn *c)
{
	tear_down(c);
	loop_timer_done(&c->timer);
	mem_free(c->known);
	c->known = NULL;
}
