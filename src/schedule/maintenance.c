/* A run is one transaction for the partitions, after it one for the keys, and then retention's
 * small ones: they take different locks, and one that does not come must not undo the other's work.
 * What is made is made for a week, so a run may fail for days before it matters; the gauge says how
 * much is left. It goes down by itself while no run succeeds. */
#include "weir/schedule/maintenance.h"

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>

#include "weir/base/backoff.h"
#include "weir/base/clock.h"
#include "weir/base/mem.h"
#include "weir/io/pg.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"
#include "weir/schedule/retention.h"

#define AFTER_ERROR (15 * USEC_PER_SEC)
#define TIMEOUT     (30 * USEC_PER_SEC)
#define JITTER      0.25

enum { DAYS_AHEAD = 7 };

/* The horizon is read from the catalogue, not from what was asked for: the days without a gap from
 * now on, in seconds. */
static const struct pg_stmt partitions_stmt = {
    .name = "weir_ensure_partitions",
    .sql = "SELECT weir.ensure_event_partitions($1)",
    .param_count = 1,
    .types = {PG_INT4},
};
static const struct pg_stmt horizon_stmt = {
    .name = "weir_partition_horizon",
    .sql = "SELECT greatest(0, extract(epoch FROM (min(d.day) FILTER (WHERE"
           " to_regclass('weir.events_' || to_char(d.day, 'YYYYMMDD')) IS NULL))"
           " - (now() AT TIME ZONE 'UTC')))::int8"
           " FROM generate_series((now() AT TIME ZONE 'UTC')::date::timestamp,"
           " (now() AT TIME ZONE 'UTC')::date::timestamp + interval '400 days',"
           " interval '1 day') d(day)",
};
static const struct pg_stmt generation_stmt = {
    .name = "weir_ensure_generation",
    .sql = "SELECT weir.ensure_key_generation($1)",
    .param_count = 1,
    .types = {PG_INT4},
};

static const struct metric_spec horizon_spec = {
    .type = METRIC_GAUGE,
    .name = "webhook_partition_horizon_seconds",
    .help = "How far ahead the partitions of weir.events reach without a gap; 0 is an outage.",
};
static const struct metric_spec generation_spec = {
    .type = METRIC_GAUGE,
    .name = "webhook_key_generation",
    .help = "Number of the generation that new event keys go to.",
};
static const struct metric_spec success_spec = {
    .type = METRIC_GAUGE,
    .name = "webhook_maintenance_last_success_timestamp_seconds",
    .help = "When a run of the schema's maintenance last did all that it should; 0: never yet.",
};
static const struct metric_spec runs_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_maintenance_runs_total",
    .help = "Runs of the schema's maintenance.",
    .labels = {"outcome"},
};

#define MAINTENANCE_STATES(X)       \
	X(STOPPED, "stopped")       \
	X(WAITING, "waiting")       \
	X(PARTITIONS, "partitions") \
	X(KEYS, "keys")             \
	X(RETENTION, "retention")
#define MAINTENANCE_ENUM(code, name) MAINTENANCE_##code,
#define MAINTENANCE_NAME(code, name) name,
enum maintenance_state { MAINTENANCE_STATES(MAINTENANCE_ENUM) };
static const char *const state_names[] = {MAINTENANCE_STATES(MAINTENANCE_NAME)};

struct maintenance {
	struct loop *loop; /* borrowed */
	struct pg_pool *pool;
	struct retention *retention; /* owned */
	enum maintenance_state state;
	usec_t interval;
	bool again;    /* asked for during a run */
	bool stopping; /* during a run */
	bool failed;   /* any part of this run */
	struct loop_timer timer;
	int32_t days_ahead, dedup_days; /* big endian */
	struct pg_param days_param, dedup_param;
	struct pg_call calls[2];
	struct metric *horizon, *generation, *success, *ok, *errors;
	usec_t horizon_end; /* monotonic; 0: not known yet */
};

static void on_pg_done(void *arg, enum err err, const struct pg_outcome *outcome);

static void set_state(struct maintenance *m, enum maintenance_state to)
{
	log_debug(LOG_SCHEDULE, "maintenance", LOG_STR("from", state_names[m->state]),
	          LOG_STR("to", state_names[to]));
	m->state = to;
}

static void end_run(struct maintenance *m)
{
	usec_t delay = m->failed && m->interval > AFTER_ERROR ? AFTER_ERROR : m->interval;

	metric_inc(m->failed ? m->errors : m->ok);
	if (!m->failed && !m->stopping)
		metric_set(m->success, (double)loop_wall(m->loop) / USEC_PER_SEC);
	set_state(m, m->stopping ? MAINTENANCE_STOPPED : MAINTENANCE_WAITING);
	if (m->stopping)
		return;
	loop_timer_set(&m->timer, m->again ? 0 : backoff_jitter(delay, JITTER));
	m->again = false;
}

static void note_failure(struct maintenance *m, enum err err, const char *message)
{
	m->failed = true;
	if (m->stopping)
		return;
	log_warn(LOG_SCHEDULE, "maintenance failed and will be tried again",
	         LOG_STR("part", state_names[m->state]), LOG_ERR(err), LOG_STR("message", message));
}

static bool submit(struct maintenance *m, enum maintenance_state state, size_t n)
{
	enum err e = pg_submit(m->pool, m->calls, n, TIMEOUT, on_pg_done, m);

	set_state(m, state);
	if (e == ERR_OK)
		return true;
	note_failure(m, e, err_meaning(e));
	return false;
}

static void on_retention_done(void *arg, bool ok)
{
	struct maintenance *m = arg;

	m->failed |= !ok;
	end_run(m);
}

static void run_retention(struct maintenance *m)
{
	if (m->stopping) {
		end_run(m);
		return;
	}
	set_state(m, MAINTENANCE_RETENTION);
	retention_run(m->retention, on_retention_done, m);
}

static void run_keys(struct maintenance *m)
{
	m->calls[0] = (struct pg_call){&generation_stmt, &m->dedup_param};
	if (m->stopping || !submit(m, MAINTENANCE_KEYS, 1))
		run_retention(m);
}

static void run_partitions(struct maintenance *m)
{
	m->failed = false;
	m->calls[0] = (struct pg_call){&partitions_stmt, &m->days_param};
	m->calls[1] = (struct pg_call){&horizon_stmt, NULL};
	if (!submit(m, MAINTENANCE_PARTITIONS, 2))
		end_run(m);
}

static void step_partitions(struct maintenance *m, enum err err, const struct pg_outcome *o)
{
	if (err == ERR_OK) {
		int64_t made = pg_int8(o->results[0], 0, 0);

		m->horizon_end =
		    loop_now(m->loop) + (usec_t)pg_int8(o->results[1], 0, 0) * USEC_PER_SEC;
		if (made > 0)
			log_info(LOG_SCHEDULE, "event partitions were made",
			         LOG_INT("count", made));
	} else {
		note_failure(m, err, o->failure.message);
	}
	run_keys(m);
}

static void step_keys(struct maintenance *m, enum err err, const struct pg_outcome *o)
{
	if (err == ERR_OK)
		metric_set(m->generation, (double)pg_int8(o->results[0], 0, 0));
	else
		note_failure(m, err, o->failure.message);
	run_retention(m);
}

static void on_pg_done(void *arg, enum err err, const struct pg_outcome *outcome)
{
	struct maintenance *m = arg;

	switch (m->state) {
	case MAINTENANCE_PARTITIONS:
		step_partitions(m, err, outcome);
		return;
	case MAINTENANCE_KEYS:
		step_keys(m, err, outcome);
		return;
	case MAINTENANCE_STOPPED:
	case MAINTENANCE_WAITING:
	case MAINTENANCE_RETENTION:
		return;
	}
}

static void on_collect(void *arg)
{
	struct maintenance *m = arg;
	usec_t left = m->horizon_end - loop_now(m->loop);

	metric_set(m->horizon, m->horizon_end && left > 0 ? (double)left / USEC_PER_SEC : 0);
}

static void on_timer(void *arg)
{
	run_partitions(arg);
}

void maintenance_start(struct maintenance *m)
{
	m->stopping = false;
	if (m->state != MAINTENANCE_STOPPED)
		return;
	set_state(m, MAINTENANCE_WAITING);
	loop_timer_set(&m->timer, 0);
}

void maintenance_run_now(struct maintenance *m)
{
	if (m->state == MAINTENANCE_WAITING)
		loop_timer_set(&m->timer, 0);
	else if (m->state != MAINTENANCE_STOPPED)
		m->again = true;
}

void maintenance_stop(struct maintenance *m)
{
	if (m->state == MAINTENANCE_STOPPED)
		return;
	m->stopping = true;
	if (m->state == MAINTENANCE_RETENTION)
		retention_cut_short(m->retention);
	if (m->state != MAINTENANCE_WAITING)
		return;
	loop_timer_stop(&m->timer);
	set_state(m, MAINTENANCE_STOPPED);
}

static enum err init(struct maintenance *m, const struct maintenance_options *o)
{
	struct retention_options ro = {.loop = o->loop,
	                               .pool = o->pool,
	                               .metrics = o->metrics,
	                               .keep_days = o->retention_days};
	struct metric_family *runs = metric_family(o->metrics, &runs_spec);
	enum err e;

	m->loop = o->loop;
	m->pool = o->pool;
	m->interval = o->interval;
	m->days_ahead = (int32_t)htobe32(DAYS_AHEAD);
	m->dedup_days = (int32_t)htobe32((uint32_t)o->dedup_days);
	m->days_param = (struct pg_param){&m->days_ahead, sizeof(m->days_ahead)};
	m->dedup_param = (struct pg_param){&m->dedup_days, sizeof(m->dedup_days)};
	m->ok = metric_of(runs, "ok", NULL, NULL);
	m->errors = metric_of(runs, "error", NULL, NULL);
	m->horizon = metric_single(o->metrics, &horizon_spec);
	m->generation = metric_single(o->metrics, &generation_spec);
	m->success = metric_single(o->metrics, &success_spec);
	e = loop_timer_init(&m->timer, o->loop, on_timer, m);
	if (e == ERR_OK)
		e = retention_new(&ro, &m->retention);
	/* Last: the registry keeps the pointer. */
	return e == ERR_OK ? metric_on_collect(o->metrics, on_collect, m) : e;
}

enum err maintenance_new(const struct maintenance_options *o, struct maintenance **ret)
{
	struct maintenance *m = mem_zalloc(sizeof(*m));
	enum err e = m ? init(m, o) : ERR_NOMEM;

	if (e != ERR_OK) {
		maintenance_free(m);
		return e;
	}
	*ret = m;
	return ERR_OK;
}

void maintenance_free(struct maintenance *m)
{
	if (!m)
		return;
	retention_free(m->retention);
	loop_timer_done(&m->timer);
	mem_free(m);
}
