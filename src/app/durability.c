/* Two small machines, one a server, on one timer: it looks each second whether a connection was
 * made anew, which is cheaper than a hook in each owner of a connection, and soon enough. An answer
 * that does not come (the connection was lost over it) changes nothing; a refusal does.
 *
 * Redis is asked INFO and then CONFIG GET, because a reply lives only as long as its callback and
 * the judgement needs both. */
#include "weir/app/durability.h"

#include <stdio.h>
#include <string.h>

#include "weir/base/mem.h"
#include "weir/io/pg.h"
#include "weir/io/redis.h"
#include "weir/observe/health.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define LOOK_PERIOD USEC_PER_SEC
#define PERIOD      (60 * USEC_PER_SEC)
#define MAX_INFO    ((size_t)256 << 10)

#define AUDIT_STATES(X)                       \
	X(IDLE, "idle")                       \
	X(ASKING_INFO, "asking info")         \
	X(ASKING_CONFIG, "asking config")     \
	X(ASKING_SETTINGS, "asking settings") \
	X(ASKING_SCHEMA, "asking schema")
#define AUDIT_ENUM(code, name) AUDIT_##code,
#define AUDIT_NAME(code, name) name,
enum audit_state { AUDIT_STATES(AUDIT_ENUM) };
static const char *const state_names[] = {AUDIT_STATES(AUDIT_NAME)};

struct audit {
	const char *server; /* literal */
	enum audit_state state;
	bool known;          /* judged at least once */
	uint64_t connection; /* the adapter's count of reconnects when it was last asked */
	usec_t next;         /* monotonic; 0: at once */
};

struct durability {
	struct durability_options o;
	struct loop_timer timer;
	struct audit redis, pg;
	struct buf info; /* INFO's answer */
	struct durability_finding now[DURABILITY_COUNT];
	struct durability_finding told[DURABILITY_COUNT];  /* what was logged last */
	struct metric *gauges[DURABILITY_COUNT], *overall; /* NULL without metrics */
};

static void set_state(struct audit *a, enum audit_state to)
{
	log_debug(LOG_APP, "durability", LOG_STR("server", a->server),
	          LOG_STR("from", state_names[a->state]), LOG_STR("to", state_names[to]));
	a->state = to;
}

/* ---- telling ---- */

static void tell(struct durability *d, enum durability_setting s)
{
	const struct durability_rule *r = &durability_rules[s];
	const struct durability_finding *f = &d->now[s];
	bool was_fine = d->told[s].verdict == DURABILITY_SAFE || !d->told[s].value[0];

	if (f->verdict == d->told[s].verdict && strcmp(f->value, d->told[s].value) == 0)
		return;
	if (f->verdict != DURABILITY_SAFE)
		log_warn(LOG_APP,
		         f->verdict == DURABILITY_UNSAFE ? "not durable" : "durability unknown",
		         LOG_STR("server", r->server), LOG_STR("setting", r->setting),
		         LOG_STR("value", f->value), LOG_STR("should_be", r->want),
		         LOG_STR("otherwise", r->loss), LOG_STR("to_do", r->remedy));
	else if (!was_fine)
		log_info(LOG_APP, "durable again", LOG_STR("server", r->server),
		         LOG_STR("setting", r->setting), LOG_STR("value", f->value));
	d->told[s] = *f;
}

static enum durability_verdict overall(const struct durability *d)
{
	return durability_overall(d->now, d->o.redis != NULL, d->o.pool != NULL);
}

static void publish(struct durability *d, int from, int to)
{
	if (!d->o.metrics)
		return;
	for (int s = from; s < to; s++) {
		metric_set(d->gauges[s], d->now[s].verdict);
		tell(d, (enum durability_setting)s);
	}
	metric_set(d->overall, overall(d));
}

/* Somebody may be about to migrate a schema that does not fit. */
static void judged(struct durability *d, struct audit *a)
{
	bool unfit = a == &d->pg && d->now[DURABILITY_SCHEMA].verdict == DURABILITY_UNSAFE;

	a->known = true;
	a->next = loop_now(d->o.loop) + (unfit ? LOOK_PERIOD : PERIOD);
	set_state(a, AUDIT_IDLE);
}

/* No answer: the connection went, or is about to. */
static void unanswered(struct durability *d, struct audit *a)
{
	a->next = loop_now(d->o.loop) + LOOK_PERIOD;
	set_state(a, AUDIT_IDLE);
}

/* ---- Redis ---- */

static bool no_answer(enum err err, const struct redis_reply *reply)
{
	return err != ERR_OK && !reply;
}

static void on_redis_config(void *arg, enum err err, const struct redis_reply *reply)
{
	struct durability *d = arg;
	char why[DURABILITY_VALUE_LEN] = "Redis does not tell it";

	if (no_answer(err, reply)) {
		unanswered(d, &d->redis);
		return;
	}
	if (err != ERR_OK) {
		size_t n = reply->str.len < sizeof(why) ? reply->str.len : sizeof(why) - 1;

		memcpy(why, reply->str.ptr, n);
		why[n] = '\0';
	}
	durability_judge_redis(err == ERR_OK && reply->type == REDIS_ARRAY ? reply : NULL,
	                       buf_str(&d->info), why, d->now);
	judged(d, &d->redis);
	publish(d, 0, DURABILITY_SYNCHRONOUS_COMMIT);
}

static void on_redis_info(void *arg, enum err err, const struct redis_reply *reply)
{
	struct durability *d = arg;

	if (no_answer(err, reply)) {
		unanswered(d, &d->redis);
		return;
	}
	buf_reset(&d->info);
	if (err == ERR_OK && buf_add_str(&d->info, reply->str) != ERR_OK)
		buf_reset(&d->info);
	set_state(&d->redis, AUDIT_ASKING_CONFIG);
	if (redis_submit(d->o.redis, durability_config_argv, DURABILITY_CONFIG_ARGC, 0,
	                 on_redis_config, d) != ERR_OK)
		unanswered(d, &d->redis);
}

static void ask_redis(struct durability *d)
{
	static const struct str argv[] = {{"INFO", 4}};

	set_state(&d->redis, AUDIT_ASKING_INFO);
	if (redis_submit(d->o.redis, argv, 1, 0, on_redis_info, d) != ERR_OK)
		unanswered(d, &d->redis);
}

/* ---- Postgres ---- */

static bool refused(enum err err, const struct pg_outcome *o)
{
	return err != ERR_OK && o->failure.sqlstate[0];
}

static void judge_schema(struct durability *d, enum err err, const struct pg_outcome *o)
{
	struct durability_finding *f = &d->now[DURABILITY_SCHEMA];
	struct str applied = err == ERR_OK ? pg_value(o->results[0], 0, 0) : STR("");
	enum migrate_state s = migrate_judge(d->o.migrations, applied);

	if (err != ERR_OK && err != ERR_NOTABLE) {
		f->verdict = DURABILITY_UNKNOWN;
		snprintf(f->value, sizeof(f->value), "%s", o->failure.message);
		return;
	}
	durability_judge_schema(s, d->o.migrations, applied, f);
	if (d->o.on_schema)
		d->o.on_schema(d->o.arg, s, f->value);
}

static void on_pg_schema(void *arg, enum err err, const struct pg_outcome *o)
{
	struct durability *d = arg;

	if (err != ERR_OK && !refused(err, o)) {
		unanswered(d, &d->pg);
		return;
	}
	judge_schema(d, err, o);
	judged(d, &d->pg);
	publish(d, DURABILITY_SYNCHRONOUS_COMMIT, DURABILITY_COUNT);
}

static void on_pg_settings(void *arg, enum err err, const struct pg_outcome *o)
{
	static const struct pg_stmt stmt = {.name = "weir_schema_versions",
	                                    .sql = migrate_applied_sql};
	static const struct pg_call call = {.stmt = &stmt};
	struct durability *d = arg;

	if (err != ERR_OK && !refused(err, o)) {
		unanswered(d, &d->pg);
		return;
	}
	durability_judge_pg(err == ERR_OK ? o->results[0] : NULL,
	                    err == ERR_OK ? "" : o->failure.message, d->now);
	set_state(&d->pg, AUDIT_ASKING_SCHEMA);
	if (pg_submit(d->o.pool, &call, 1, 0, on_pg_schema, d) != ERR_OK)
		unanswered(d, &d->pg);
}

static void ask_pg(struct durability *d)
{
	static const struct pg_stmt stmt = {.name = "weir_durability", .sql = durability_pg_sql};
	static const struct pg_call call = {.stmt = &stmt};

	set_state(&d->pg, AUDIT_ASKING_SETTINGS);
	if (pg_submit(d->o.pool, &call, 1, 0, on_pg_settings, d) != ERR_OK)
		unanswered(d, &d->pg);
}

/* ---- when ---- */

static bool is_due(const struct durability *d, struct audit *a, bool up, uint64_t connection)
{
	if (!up || a->state != AUDIT_IDLE)
		return false;
	if (a->known && connection == a->connection && loop_now(d->o.loop) < a->next)
		return false;
	a->connection = connection;
	return true;
}

static void on_timer(void *arg)
{
	struct durability *d = arg;
	struct pg_pool_stats s;

	if (d->o.redis && is_due(d, &d->redis, redis_up(d->o.redis), redis_reconnects(d->o.redis)))
		ask_redis(d);
	if (d->o.pool) {
		pg_pool_stats(d->o.pool, &s);
		if (is_due(d, &d->pg, pg_pool_up(d->o.pool), s.reconnects))
			ask_pg(d);
	}
	/* The first look is wanted soon, above all that at the schema. */
	loop_timer_set(&d->timer, durability_knows_redis(d) && durability_knows_pg(d)
	                              ? LOOK_PERIOD
	                              : LOOK_PERIOD / 50);
}

/* ---- what others ask ---- */

bool durability_knows_redis(const struct durability *d)
{
	return !d->o.redis || d->redis.known;
}

bool durability_knows_pg(const struct durability *d)
{
	return !d->o.pool || d->pg.known;
}

bool durability_redis_syncs(const struct durability *d)
{
	return d->now[DURABILITY_APPENDONLY].verdict == DURABILITY_SAFE &&
	       d->now[DURABILITY_APPENDFSYNC].verdict == DURABILITY_SAFE;
}

const struct durability_finding *durability_findings(const struct durability *d)
{
	return d->now;
}

static void add_finding(const struct durability *d, enum durability_setting s, struct buf *out)
{
	const struct durability_rule *r = &durability_rules[s];
	const struct durability_finding *f = &d->now[s];

	buf_addf(out, "\"%s\":{\"state\":\"%s\",\"value\":", r->setting,
	         durability_verdict_name(f->verdict));
	buf_add_json(out, str_of(f->value));
	if (f->verdict != DURABILITY_SAFE) {
		buf_add_cstr(out, ",\"should_be\":");
		buf_add_json(out, str_of(r->want));
		buf_add_cstr(out, ",\"otherwise\":");
		buf_add_json(out, str_of(r->loss));
	}
	buf_add_char(out, '}');
}

static void add_server(const struct durability *d, const char *name, int from, int to,
                       struct buf *out)
{
	buf_addf(out, ",\"%s\":{", name);
	for (int s = from; s < to; s++) {
		if (s > from)
			buf_add_char(out, ',');
		add_finding(d, (enum durability_setting)s, out);
	}
	buf_add_char(out, '}');
}

static enum health_state report(void *arg, struct buf *details)
{
	struct durability *d = arg;
	enum durability_verdict v = overall(d);

	buf_addf(details, "\"overall\":\"%s\"", durability_verdict_name(v));
	if (d->o.redis)
		add_server(d, "redis", 0, DURABILITY_SYNCHRONOUS_COMMIT, details);
	if (d->o.pool)
		add_server(d, "postgres", DURABILITY_SYNCHRONOUS_COMMIT, DURABILITY_COUNT, details);
	return v == DURABILITY_SAFE     ? HEALTH_HEALTHY
	       : v == DURABILITY_UNSAFE ? HEALTH_DEGRADED
	                                : HEALTH_UNKNOWN;
}

enum err durability_add_health(struct durability *d, struct health *h)
{
	return health_add(h, &(struct health_component){"durability", report, d});
}

/* ---- life ---- */

static void make_metrics(struct durability *d)
{
	static const struct metric_spec one_spec = {
	    .type = METRIC_GAUGE,
	    .name = "webhook_durability_setting",
	    .help =
	        "Whether a server's setting or state keeps what was answered: 1 safe, 0 not, -1 "
	        "unknown.",
	    .labels = {"server", "setting"}};
	static const struct metric_spec all_spec = {
	    .type = METRIC_GAUGE,
	    .name = "webhook_durability",
	    .help =
	        "The worst of webhook_durability_setting: 1 while no crash can lose an answered "
	        "event, 0 when one can, -1 when it is not known."};
	struct metric_family *family = metric_family(d->o.metrics, &one_spec);

	d->overall = metric_single(d->o.metrics, &all_spec);
	metric_set(d->overall, DURABILITY_UNKNOWN);
	for (int s = 0; s < DURABILITY_COUNT; s++) {
		if (s < DURABILITY_SYNCHRONOUS_COMMIT ? !d->o.redis : !d->o.pool)
			continue;
		d->gauges[s] = metric_of(family, durability_rules[s].server,
		                         durability_rules[s].setting, NULL);
		metric_set(d->gauges[s], DURABILITY_UNKNOWN);
	}
}

enum err durability_new(const struct durability_options *o, struct durability **ret)
{
	struct durability *d = mem_zalloc(sizeof(*d));

	if (!d)
		return ERR_NOMEM;
	d->o = *o;
	d->redis.server = "redis";
	d->pg.server = "postgres";
	buf_init(&d->info, MAX_INFO);
	for (int s = 0; s < DURABILITY_COUNT; s++)
		d->now[s] = (struct durability_finding){DURABILITY_UNKNOWN, "not asked yet"};
	if (loop_timer_init(&d->timer, o->loop, on_timer, d) != ERR_OK) {
		mem_free(d);
		return ERR_NOMEM;
	}
	if (o->metrics)
		make_metrics(d);
	*ret = d;
	return ERR_OK;
}

void durability_start(struct durability *d)
{
	loop_timer_set(&d->timer, 0);
}

void durability_stop(struct durability *d)
{
	loop_timer_stop(&d->timer);
}

void durability_free(struct durability *d)
{
	if (!d)
		return;
	loop_timer_done(&d->timer);
	buf_done(&d->info);
	mem_free(d);
}
