/* The database says what to do next (weir.next_expired_partition), because it knows what is past
 * its time and how far a run before this one came; here the statements are sent, each alone, for
 * DETACH CONCURRENTLY stands in no transaction with others.
 *
 *   IDLE      between runs
 *   ASKING    which partition is next?
 *   LEAVING   its DETACH, FINALIZE or DROP is under way
 *   PRUNING   a few rows are being deleted
 *   RESTING   between two steps: housekeeping must not take the disk from the batches
 *
 * What fails is passed over for the rest of the run, so that one table that cannot be dropped (a
 * view of somebody's hangs on it) keeps no other. Waiting for locks is bounded by the pool's
 * lock_timeout and statement_timeout; a DETACH that they end half-way is finalised by a later run.
 */
#include "weir/schedule/retention.h"

#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "weir/base/buf.h"
#include "weir/base/clock.h"
#include "weir/base/mem.h"
#include "weir/base/rnd.h"
#include "weir/io/pg.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define TIMEOUT (60 * USEC_PER_SEC)
#define REST    (100 * USEC_PER_MSEC)

enum { PRUNE_ROWS = 500, NAME_MAX_BYTES = 63, STATEMENT_MAX_BYTES = 512 };

static const struct pg_stmt next_stmt = {
    .name = "weir_next_expired",
    .sql = "SELECT held, expired, name, statement"
           " FROM weir.next_expired_partition($1, $2, $3, $4)",
    .param_count = 4,
    .types = {PG_TEXT, PG_INT4, PG_TIMESTAMPTZ, PG_TEXT},
};
static const struct pg_stmt prune_stmt = {
    .name = "weir_prune_step",
    .sql = "SELECT weir.prune_step($1, $2, $3, $4)",
    .param_count = 4,
    .types = {PG_TEXT, PG_INT4, PG_TIMESTAMPTZ, PG_INT4},
};

static const struct metric_spec expired_spec = {
    .type = METRIC_GAUGE,
    .name = "webhook_expired_partitions",
    .help = "Event partitions past RETENTION_DAYS that are still there; something in use keeps "
            "them when this does not go back to 0.",
};
static const struct metric_spec dropped_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_partitions_dropped_total",
    .help = "Event partitions that this process dropped because of their age.",
};
static const struct metric_spec pruned_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_pruned_rows_total",
    .help = "Settled rows that this process deleted because of their age.",
};

#define RETENTION_STATES(X)   \
	X(IDLE, "idle")       \
	X(ASKING, "asking")   \
	X(LEAVING, "leaving") \
	X(PRUNING, "pruning") \
	X(RESTING, "resting")
#define RETENTION_ENUM(code, name) RETENTION_##code,
#define RETENTION_NAME(code, name) name,
enum retention_state { RETENTION_STATES(RETENTION_ENUM) };
static const char *const state_names[] = {RETENTION_STATES(RETENTION_NAME)};

struct retention {
	struct loop *loop; /* borrowed */
	struct pg_pool *pool;
	enum retention_state state;
	int keep_days;
	bool pruning; /* partitions are done with, rows are next */
	bool cut_short;
	bool failed; /* any part of this run */
	struct loop_timer timer;
	retention_done_fn done;
	void *done_arg;
	char holder[20];                    /* of the lease; differs for each process */
	char after[NAME_MAX_BYTES + 1];     /* partitions up to this one failed in this run */
	char name[NAME_MAX_BYTES + 1];      /* what is leaving */
	char text[STATEMENT_MAX_BYTES + 1]; /* and by which statement */
	struct pg_stmt leave_stmt;          /* of `text` */
	int32_t days_be, rows_be;           /* parameters, big endian */
	int64_t now_be;
	struct pg_param params[4];
	struct pg_call call;
	struct metric *expired, *dropped, *pruned;
};

static void on_pg_done(void *arg, enum err err, const struct pg_outcome *outcome);

static void set_state(struct retention *r, enum retention_state to)
{
	log_debug(LOG_SCHEDULE, "retention", LOG_STR("from", state_names[r->state]),
	          LOG_STR("to", state_names[to]));
	r->state = to;
}

static void end_run(struct retention *r)
{
	set_state(r, RETENTION_IDLE);
	r->done(r->done_arg, !r->failed);
}

static void rest(struct retention *r, usec_t delay)
{
	set_state(r, RETENTION_RESTING);
	loop_timer_set(&r->timer, delay);
}

/* Somebody reads what should go, for longer than we wait: nothing is wrong. */
static bool is_in_use(const struct pg_failure *f)
{
	return strcmp(f->sqlstate, "55P03") == 0 || strcmp(f->sqlstate, "57014") == 0;
}

static void note_failure(struct retention *r, enum err err, const struct pg_failure *f)
{
	if (is_in_use(f)) {
		log_info(LOG_SCHEDULE, "what is past RETENTION_DAYS is in use and stays for now",
		         LOG_STR("table", r->name), LOG_STR("message", f->message));
		return;
	}
	r->failed = true;
	log_warn(LOG_SCHEDULE, "retention failed and will be tried again",
	         LOG_STR("part", state_names[r->state]), LOG_STR("table", r->name), LOG_ERR(err),
	         LOG_STR("sqlstate", f->sqlstate), LOG_STR("message", f->message));
}

static void submit(struct retention *r, enum retention_state state, const struct pg_stmt *stmt)
{
	enum err e;

	r->now_be = (int64_t)htobe64((uint64_t)(loop_wall(r->loop) - PG_EPOCH_USEC));
	r->call = (struct pg_call){stmt, r->params};
	set_state(r, state);
	e = pg_submit(r->pool, &r->call, 1, TIMEOUT, on_pg_done, r);
	if (e == ERR_OK)
		return;
	note_failure(r, e, &(struct pg_failure){.message = err_meaning(e)});
	end_run(r);
}

static void run_next(struct retention *r)
{
	if (r->cut_short) {
		end_run(r);
		return;
	}
	r->params[0] = (struct pg_param){r->holder, strlen(r->holder)};
	r->params[1] = (struct pg_param){&r->days_be, sizeof(r->days_be)};
	r->params[2] = (struct pg_param){&r->now_be, sizeof(r->now_be)};
	r->params[3] = r->pruning ? (struct pg_param){&r->rows_be, sizeof(r->rows_be)}
	                          : (struct pg_param){r->after, strlen(r->after)};
	if (r->pruning)
		submit(r, RETENTION_PRUNING, &prune_stmt);
	else
		submit(r, RETENTION_ASKING, &next_stmt);
}

static bool copy(char *to, size_t space, struct str from)
{
	if (from.len >= space)
		return false;
	if (from.len)
		memcpy(to, from.ptr, from.len);
	to[from.len] = '\0';
	return true;
}

static void prune(struct retention *r)
{
	r->pruning = true;
	r->name[0] = '\0';
	run_next(r);
}

static void step_asking(struct retention *r, enum err err, const struct pg_outcome *o)
{
	struct str held;

	if (err != ERR_OK) {
		note_failure(r, err, &o->failure);
		prune(r);
		return;
	}
	held = pg_value(o->results[0], 0, 0);
	if (!held.len || !held.ptr[0]) {
		log_debug(LOG_SCHEDULE, "another weir takes care of what is past its time");
		end_run(r);
		return;
	}
	metric_set(r->expired, (double)pg_int8(o->results[0], 0, 1));
	if (!pg_value(o->results[0], 0, 3).ptr ||
	    !copy(r->name, sizeof(r->name), pg_value(o->results[0], 0, 2)) ||
	    !copy(r->text, sizeof(r->text), pg_value(o->results[0], 0, 3))) {
		prune(r);
		return;
	}
	r->leave_stmt = (struct pg_stmt){.sql = r->text};
	submit(r, RETENTION_LEAVING, &r->leave_stmt);
}

static void step_leaving(struct retention *r, enum err err, const struct pg_outcome *o)
{
	bool drop = strncmp(r->text, "DROP ", 5) == 0;

	if (err != ERR_OK) {
		note_failure(r, err, &o->failure);
		memcpy(r->after, r->name, sizeof(r->after));
	} else if (drop) {
		metric_inc(r->dropped);
		log_info(LOG_SCHEDULE, "an event partition past RETENTION_DAYS was dropped",
		         LOG_STR("table", r->name));
	}
	rest(r, REST);
}

static void step_pruning(struct retention *r, enum err err, const struct pg_outcome *o)
{
	int64_t n = err == ERR_OK ? pg_int8(o->results[0], 0, 0) : 0;

	if (err != ERR_OK)
		note_failure(r, err, &o->failure);
	metric_add(r->pruned, (double)n);
	if (n > 0)
		rest(r, REST);
	else
		end_run(r);
}

static void on_pg_done(void *arg, enum err err, const struct pg_outcome *outcome)
{
	struct retention *r = arg;

	switch (r->state) {
	case RETENTION_ASKING:
		step_asking(r, err, outcome);
		return;
	case RETENTION_LEAVING:
		step_leaving(r, err, outcome);
		return;
	case RETENTION_PRUNING:
		step_pruning(r, err, outcome);
		return;
	case RETENTION_IDLE:
	case RETENTION_RESTING:
		return;
	}
}

static void on_timer(void *arg)
{
	run_next(arg);
}

void retention_run(struct retention *r, retention_done_fn done, void *arg)
{
	r->done = done;
	r->done_arg = arg;
	r->failed = r->cut_short = false;
	r->pruning = false;
	r->after[0] = r->name[0] = '\0';
	if (r->keep_days == 0)
		r->cut_short = true;
	rest(r, 0);
}

void retention_cut_short(struct retention *r)
{
	r->cut_short = true;
	if (r->state == RETENTION_RESTING)
		loop_timer_set(&r->timer, 0);
}

enum err retention_new(const struct retention_options *o, struct retention **ret)
{
	struct retention *r = mem_zalloc(sizeof(*r));

	if (!r)
		return ERR_NOMEM;
	r->loop = o->loop;
	r->pool = o->pool;
	r->keep_days = o->keep_days;
	r->days_be = (int32_t)htobe32((uint32_t)o->keep_days);
	r->rows_be = (int32_t)htobe32(PRUNE_ROWS);
	snprintf(r->holder, sizeof(r->holder), "%016llx", (unsigned long long)rnd_u64());
	if (loop_timer_init(&r->timer, o->loop, on_timer, r) != ERR_OK) {
		mem_free(r);
		return ERR_NOMEM;
	}
	r->expired = metric_single(o->metrics, &expired_spec);
	r->dropped = metric_single(o->metrics, &dropped_spec);
	r->pruned = metric_single(o->metrics, &pruned_spec);
	*ret = r;
	return ERR_OK;
}

void retention_free(struct retention *r)
{
	if (!r)
		return;
	loop_timer_done(&r->timer);
	mem_free(r);
}
