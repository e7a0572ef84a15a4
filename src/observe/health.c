/* Two things are asked over the network (is the schema there, and PING) and remembered; all else is
 * read from memory when the page is made. A probe that has not come back within its deadline counts
 * as failed, and no second one is started meanwhile. */
#include "weir/observe/health.h"

#include <stdio.h>
#include <string.h>

#include "weir/base/mem.h"
#include "weir/io/pg.h"
#include "weir/io/redis.h"
#include "weir/observe/process.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define PROBE_PERIOD   USEC_PER_SEC
#define PROBE_TIMEOUT  (2 * USEC_PER_SEC)
#define DEPTH_PERIOD   (5 * USEC_PER_SEC)
#define SETTLE_PERIOD  (50 * USEC_PER_MSEC)
#define SETTLE_LOOKS   40
#define MAX_COMPONENTS 16
#define MAX_DETAILS    ((size_t)16 * 1024)

#define NO_SCHEMA \
	"the database has no schema `weir`: run `weir migrate up`, or serve with --migrate"

enum schema { SCHEMA_UNKNOWN, SCHEMA_THERE, SCHEMA_MISSING };

/* One asked component. */
struct probe {
	struct health *health; /* borrowed: the owner */
	const char *name;
	bool used, running, stopped;
	usec_t sent;
	usec_t duration; /* of the last answer */
	enum health_state state;
	enum err err; /* of the last probe */
	struct metric *ok, *failed, *seconds;
};

struct health {
	struct health_options o;
	char *service_name;   /* owned: a reload replaces the settings' strings */
	struct pg_pool *pool; /* borrowed */
	struct redis *redis;  /* borrowed */
	struct loop_timer timer;
	struct probe database, redis_probe;
	struct health_component components[MAX_COMPONENTS];
	size_t count;
	struct metric *dlq_depth; /* NULL without a database */
	usec_t depth_next;        /* monotonic: when dead letters are counted again */
	enum schema schema;       /* as the last probe saw it */
	unsigned settle_left;     /* looks at the short period */
	bool draining;
};

const char *health_state_name(enum health_state s)
{
	static const char *const names[] = {"unknown", "healthy", "degraded", "unhealthy"};

	return names[s];
}

static void probe_init(struct probe *p, struct health *h, const char *name)
{
	struct metric_family *checks = metric_family(
	    h->o.metrics, &(struct metric_spec){.type = METRIC_COUNTER,
	                                        .name = "webhook_health_checks_total",
	                                        .help = "Health probes by component and result.",
	                                        .labels = {"component", "status"}});
	struct metric_family *seconds = metric_family(
	    h->o.metrics, &(struct metric_spec){.type = METRIC_HISTOGRAM,
	                                        .name = "webhook_health_check_duration_seconds",
	                                        .help = "How long health probes took.",
	                                        .labels = {"component"}});

	p->health = h;
	p->name = name;
	p->ok = metric_of(checks, name, "healthy", NULL);
	p->failed = metric_of(checks, name, "unhealthy", NULL);
	p->seconds = metric_of(seconds, name, NULL, NULL);
}

static void probe_done(struct probe *p, enum err err)
{
	p->running = false;
	if (p->stopped)
		return;
	p->err = err;
	p->duration = loop_now(p->health->o.loop) - p->sent;
	p->state = err == ERR_OK ? HEALTH_HEALTHY : HEALTH_UNHEALTHY;
	metric_inc(err == ERR_OK ? p->ok : p->failed);
	metric_observe(p->seconds, (double)p->duration / USEC_PER_SEC);
}

/* Without it events are taken and wait: as bad as a database that is away, but one that no waiting
 * mends. */
static void set_schema(struct health *h, bool there)
{
	enum schema to = there ? SCHEMA_THERE : SCHEMA_MISSING;

	if (h->schema == SCHEMA_MISSING && there)
		log_info(LOG_HEALTH, "the schema is there");
	if (h->schema != SCHEMA_MISSING && !there)
		log_error(LOG_HEALTH, NO_SCHEMA "; events wait in the queue until then");
	h->schema = to;
	if (!there)
		h->database.state = HEALTH_DEGRADED;
}

static void on_depth(void *arg, enum err err, const struct pg_outcome *outcome)
{
	struct health *h = arg;

	if (err == ERR_OK && !h->database.stopped)
		metric_set(h->dlq_depth, (double)pg_int8(outcome->results[0], 0, 0));
}

/* Those that wait for somebody. No more are counted than an index gives in a few milliseconds. */
static void count_dead_letters(struct health *h)
{
	static const struct pg_stmt count = {
	    .name = "dlq_depth",
	    .sql = "SELECT count(*) FROM (SELECT FROM weir.dead_letters"
	           " WHERE state IN ('open', 'retrying') LIMIT 100000) AS d"};
	static const struct pg_call call = {.stmt = &count};

	if (h->schema != SCHEMA_THERE || loop_now(h->o.loop) < h->depth_next)
		return;
	/* The next period comes anyhow, whatever becomes of this one. */
	h->depth_next = loop_now(h->o.loop) + DEPTH_PERIOD;
	(void)!pg_submit(h->pool, &call, 1, PROBE_TIMEOUT, on_depth, h);
}

static void on_pg_answer(void *arg, enum err err, const struct pg_outcome *outcome)
{
	struct probe *p = arg;

	probe_done(p, err);
	if (err != ERR_OK || p->stopped)
		return;
	set_schema(p->health, pg_int8(outcome->results[0], 0, 0) == 1);
	count_dead_letters(p->health);
}

static void on_redis_pong(void *arg, enum err err, const struct redis_reply *reply)
{
	(void)reply;
	probe_done(arg, err);
}

static void probe_database(struct health *h)
{
	static const struct pg_stmt look = {
	    .name = "health", .sql = "SELECT (to_regclass('weir.events') IS NOT NULL)::int4"};
	static const struct pg_call call = {.stmt = &look};
	struct probe *p = &h->database;
	enum err e;

	if (!p->used || p->running)
		return;
	p->sent = loop_now(h->o.loop);
	p->running = true;
	e = pg_submit(h->pool, &call, 1, PROBE_TIMEOUT, on_pg_answer, p);
	if (e != ERR_OK)
		probe_done(p, e);
}

static void probe_redis(struct health *h)
{
	static const struct str ping[] = {{"PING", 4}};
	struct probe *p = &h->redis_probe;
	enum err e;

	if (!p->used || p->running)
		return;
	p->sent = loop_now(h->o.loop);
	p->running = true;
	e = redis_submit(h->redis, ping, 1, PROBE_TIMEOUT, on_redis_pong, p);
	if (e != ERR_OK)
		probe_done(p, e);
}

static bool well(const struct probe *p)
{
	return !p->used || p->state == HEALTH_HEALTHY;
}

/* The first look comes before the adapters could connect: what it says is looked at again soon. */
static bool settling(struct health *h)
{
	if (well(&h->database) && well(&h->redis_probe))
		h->settle_left = 0;
	return h->settle_left > 0 && h->settle_left--;
}

static void on_period(void *arg)
{
	struct health *h = arg;

	probe_database(h);
	probe_redis(h);
	loop_timer_set(&h->timer, settling(h) ? SETTLE_PERIOD : PROBE_PERIOD);
}

enum err health_new(const struct health_options *o, struct health **ret)
{
	struct health *h = mem_zalloc(sizeof(*h));
	enum err e;

	if (!h)
		return ERR_NOMEM;
	h->o = *o;
	h->service_name = mem_strdup(o->service_name);
	if (!h->service_name) {
		mem_free(h);
		return ERR_NOMEM;
	}
	probe_init(&h->database, h, "database");
	probe_init(&h->redis_probe, h, "redis");
	e = loop_timer_init(&h->timer, o->loop, on_period, h);
	if (e != ERR_OK) {
		health_free(h);
		return e;
	}
	*ret = h;
	return ERR_OK;
}

void health_free(struct health *h)
{
	if (!h)
		return;
	loop_timer_done(&h->timer);
	mem_free(h->service_name);
	mem_free(h);
}

enum err health_start(struct health *h)
{
	h->settle_left = SETTLE_LOOKS;
	loop_timer_set(&h->timer, 0);
	return ERR_OK;
}

void health_stop(struct health *h)
{
	loop_timer_stop(&h->timer);
	h->database.stopped = h->redis_probe.stopped = true;
}

void health_watch_database(struct health *h, struct pg_pool *pool)
{
	h->pool = pool;
	h->database.used = true;
	h->dlq_depth = metric_plain(
	    h->o.metrics, METRIC_GAUGE, "webhook_dlq_depth",
	    "Dead letters that are open or retried now; no more than 100000 are counted.");
}

void health_watch_redis(struct health *h, struct redis *redis)
{
	h->redis = redis;
	h->redis_probe.used = true;
}

enum err health_add(struct health *h, const struct health_component *c)
{
	if (h->count == MAX_COMPONENTS)
		return ERR_FULL;
	h->components[h->count++] = *c;
	return ERR_OK;
}

void health_set_draining(struct health *h)
{
	h->draining = true;
}

bool health_draining(const struct health *h)
{
	return h->draining;
}

bool health_database_up(const struct health *h)
{
	return h->database.state == HEALTH_HEALTHY;
}

/* ---- pages ---- */

/* A component that is not healthy at all has a probe or can_take() behind it, or was not looked at
 * yet; one that is degraded is the only one that knows. */
static bool any_degraded(struct health *h)
{
	struct buf scratch;
	bool found = false;

	buf_init(&scratch, MAX_DETAILS);
	for (size_t i = 0; i < h->count && !found; i++)
		found = h->components[i].report(h->components[i].arg, &scratch) == HEALTH_DEGRADED;
	buf_done(&scratch);
	return found;
}

static enum health_state overall(struct health *h, const char **ret_reason)
{
	bool trouble = (h->database.used && h->database.state != HEALTH_HEALTHY) ||
	               (h->redis_probe.used && h->redis_probe.state != HEALTH_HEALTHY);

	if (!h->o.can_take(h->o.arg, ret_reason))
		return HEALTH_UNHEALTHY;
	return trouble || any_degraded(h) ? HEALTH_DEGRADED : HEALTH_HEALTHY;
}

static void add_member(struct buf *out, const char *name, const char *value)
{
	buf_addf(out, "\"%s\":", name);
	buf_add_json(out, str_of(value));
}

/* What is wrong although events can be taken; NULL: nothing that needs a human. */
static const char *advice(const struct health *h)
{
	return h->database.state == HEALTH_DEGRADED ? NO_SCHEMA : NULL;
}

static void add_probe(struct health *h, struct buf *out, const struct probe *p)
{
	buf_addf(out, "\"%s\":{", p->name);
	add_member(out, "status", health_state_name(p->state));
	buf_add_cstr(out, ",\"details\":{");
	if (p == &h->database) {
		struct pg_pool_stats s;

		pg_pool_stats(h->pool, &s);
		buf_addf(out, "\"open_connections\":%zu,\"query_duration_ms\":%.3f", s.open,
		         (double)p->duration / 1000.0);
		if (advice(h) || (p->state == HEALTH_UNHEALTHY && s.last_error[0])) {
			buf_add_char(out, ',');
			add_member(out, "error", advice(h) ? advice(h) : s.last_error);
		}
	} else {
		buf_addf(out, "\"ping_duration_ms\":%.3f", (double)p->duration / 1000.0);
		if (p->state == HEALTH_UNHEALTHY && redis_last_error(h->redis)[0]) {
			buf_add_char(out, ',');
			add_member(out, "error", redis_last_error(h->redis));
		}
	}
	buf_add_cstr(out, "}},");
}

static void add_component(struct buf *out, const struct health_component *c)
{
	struct buf details;
	enum health_state s;

	buf_init(&details, MAX_DETAILS);
	s = c->report(c->arg, &details);
	buf_addf(out, "\"%s\":{", c->name);
	add_member(out, "status", health_state_name(s));
	buf_add_cstr(out, ",\"details\":{");
	buf_add_str(out, buf_str(&details));
	buf_add_cstr(out, "}},");
	buf_done(&details);
}

static void add_worker(struct health *h, struct buf *out)
{
	struct process_figures f;

	process_watch_get(h->o.process, &f);
	buf_addf(
	    out,
	    "\"worker\":{\"status\":\"%s\",\"details\":{\"runtime\":{\"memory_alloc_mb\":%.2f,"
	    "\"resident_mb\":%.2f,\"open_fds\":%d,\"loop_lag_ms\":%.3f,\"active_requests\":%zu}}}",
	    health_state_name(h->draining ? HEALTH_DEGRADED : HEALTH_HEALTHY), f.memory_alloc_mb,
	    f.resident_mb, f.open_fds, f.loop_lag_ms, h->o.active_requests(h->o.arg));
}

/* Members that tell of processing cycles; this process has none yet. */
static void add_cycles(struct health *h, struct buf *out)
{
	struct process_figures f;

	process_watch_get(h->o.process, &f);
	buf_addf(out,
	         ",\"processing\":false,\"processing_count\":0,\"last_processing_time\":null,"
	         "\"execution_count\":0,\"last_execution_time\":null,\"next_execution_time\":null,"
	         "\"uptime_seconds\":%.3f",
	         (double)f.uptime / USEC_PER_SEC);
}

static void add_heading(struct health *h, struct buf *out, const char *status)
{
	char now[CLOCK_RFC3339_LEN];

	clock_rfc3339(clock_wall(), now);
	buf_add_char(out, '{');
	add_member(out, "service_name", h->service_name);
	buf_add_char(out, ',');
	add_member(out, "status", status);
	buf_add_char(out, ',');
	add_member(out, "mode", h->o.mode);
	buf_addf(out, ",\"timestamp\":\"%s\"", now);
}

enum err health_render(struct health *h, struct buf *out, int *ret_status)
{
	const char *reason = "";
	enum health_state s = overall(h, &reason);

	add_heading(h, out, health_state_name(s));
	add_cycles(h, out);
	if (s == HEALTH_UNHEALTHY || advice(h)) {
		buf_add_char(out, ',');
		add_member(out, "reason", s == HEALTH_UNHEALTHY ? reason : advice(h));
	}
	buf_add_cstr(out, ",\"components\":{");
	if (h->database.used)
		add_probe(h, out, &h->database);
	if (h->redis_probe.used)
		add_probe(h, out, &h->redis_probe);
	for (size_t i = 0; i < h->count; i++)
		add_component(out, &h->components[i]);
	add_worker(h, out);
	buf_add_cstr(out, "},\"dependencies\":{}}");
	*ret_status = s == HEALTH_UNHEALTHY ? 503 : 200;
	return out->err;
}

enum err health_render_ready(struct health *h, struct buf *out, int *ret_status)
{
	const char *reason = "";
	bool ready = !h->draining && h->o.can_take(h->o.arg, &reason);

	if (h->draining)
		reason = "draining: the process was asked to stop";
	buf_addf(out, "{\"status\":\"%s\",\"reasons\":[", ready ? "ready" : "unavailable");
	if (!ready || advice(h))
		buf_add_json(out, str_of(ready ? advice(h) : reason));
	buf_add_cstr(out, "]}");
	*ret_status = ready ? 200 : 503;
	return out->err;
}

enum err health_render_service(struct health *h, struct buf *out)
{
	buf_add_char(out, '{');
	add_member(out, "service_name", h->service_name);
	buf_add_cstr(out, ",\"version\":\"" WEIR_VERSION "\",");
	add_member(out, "mode", h->o.mode);
	buf_addf(out,
	         ",\"status\":\"%s\",\"processing\":false,\"processing_count\":0,"
	         "\"last_processing_time\":null}",
	         h->draining ? "draining" : "ready");
	return out->err;
}
