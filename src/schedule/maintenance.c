/* A run is one transaction for the partitions and, after it, one for the keys: they take different
 * locks, and one that does not come must not undo the other's work. What is made is made for a
 * week, so a run may fail for days before it matters; the gauge says how much is left. */
#include "weir/schedule/maintenance.h"

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/mem.h"
#include "weir/base/rnd.h"
#include "weir/io/pg.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define EVERY       (600 * USEC_PER_SEC)
#define AFTER_ERROR (15 * USEC_PER_SEC)
#define TIMEOUT     (30 * USEC_PER_SEC)

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
	X(KEYS, "keys")
#define MAINTENANCE_ENUM(code, name) MAINTENANCE_##code,
#define MAINTENANCE_NAME(code, name) name,
enum maintenance_state { MAINTENANCE_STATES(MAINTENANCE_ENUM) };
static const char *const state_names[] = {MAINTENANCE_STATES(MAINTENANCE_NAME)};

struct maintenance {
	struct loop *loop; /* borrowed */
	struct pg_pool *pool;
	enum maintenance_state state;
	bool again;    /* asked for during a run */
	bool stopping; /* during a run */
	bool failed;   /* any part of this run */
	struct loop_timer timer;
	int32_t days_ahead, dedup_days; /* big endian */
	struct pg_param days_param, dedup_param;
	struct pg_call calls[2];
	struct metric *horizon, *generation, *ok, *errors;
};

static void on_pg_done(void *arg, enum err err, const struct pg_outcome *outcome);

static void set_state(struct maintenance *m, enum maintenance_state to)
{
	log_debug(LOG_SCHEDULE, "maintenance", LOG_STR("from", state_names[m->state]),
	          LOG_STR("to", state_names[to]));
	m->state = to;
}

/* Processes that started together do not stay together. */
static usec_t with_jitter(usec_t delay)
{
	return delay - (usec_t)rnd_below((uint64_t)delay / 4);
}

static void end_run(struct maintenance *m)
{
	metric_inc(m->failed ? m->errors : m->ok);
	set_state(m, m->stopping ? MAINTENANCE_STOPPED : MAINTENANCE_WAITING);
	if (m->stopping)
		return;
	loop_timer_set(&m->timer, m->again ? 0 : with_jitter(m->failed ? AFTER_ERROR : EVERY));
	m->again = false;
}

static void note_failure(struct maintenance *m, enum err err, const char *message)
{
	m->failed = true;
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

static void run_keys(struct maintenance *m)
{
	m->calls[0] = (struct pg_call){&generation_stmt, &m->dedup_param};
	if (m->stopping || !submit(m, MAINTENANCE_KEYS, 1))
		end_run(m);
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

		metric_set(m->horizon, (double)pg_int8(o->results[1], 0, 0));
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
	end_run(m);
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
		return;
	}
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
	if (m->state != MAINTENANCE_WAITING)
		return;
	loop_timer_stop(&m->timer);
	set_state(m, MAINTENANCE_STOPPED);
}

enum err maintenance_new(const struct maintenance_options *o, struct maintenance **ret)
{
	struct maintenance *m = mem_zalloc(sizeof(*m));
	struct metric_family *runs;

	if (!m)
		return ERR_NOMEM;
	m->loop = o->loop;
	m->pool = o->pool;
	m->days_ahead = (int32_t)htobe32(DAYS_AHEAD);
	m->dedup_days = (int32_t)htobe32((uint32_t)o->dedup_days);
	m->days_param = (struct pg_param){&m->days_ahead, sizeof(m->days_ahead)};
	m->dedup_param = (struct pg_param){&m->dedup_days, sizeof(m->dedup_days)};
	if (loop_timer_init(&m->timer, o->loop, on_timer, m) != ERR_OK) {
		mem_free(m);
		return ERR_NOMEM;
	}
	runs = metric_family(o->metrics, &runs_spec);
	m->ok = metric_of(runs, "ok", NULL, NULL);
	m->errors = metric_of(runs, "error", NULL, NULL);
	m->horizon = metric_single(o->metrics, &horizon_spec);
	m->generation = metric_single(o->metrics, &generation_spec);
	*ret = m;
	return ERR_OK;
}

void maintenance_free(struct maintenance *m)
{
	if (!m)
		return;
	loop_timer_done(&m->timer);
	mem_free(m);
}
