/* Builds everything, and ends it in order.
 *
 * The end, from SIGTERM on: ANNOUNCED (ready says 503, connections are still taken, so that a load
 * balancer can look away), CLOSING (the accept queue is emptied, the listeners are closed, requests
 * in flight are answered), FLUSHING (the worker commits and acknowledges what it holds), ENDED.
 * What is not done by SHUTDOWN_GRACE stays in the queue: nothing is lost by ending. A second
 * SIGTERM ends at once. */
#include "weir/app/app.h"

#include <signal.h>
#include <unistd.h>

#include "weir/app/adapter_metrics.h"
#include "weir/app/durability.h"
#include "weir/app/limits.h"
#include "weir/app/migration.h"
#include "weir/app/preflight.h"
#include "weir/app/reload.h"
#include "weir/app/role_ingest.h"
#include "weir/app/role_worker.h"
#include "weir/app/connect.h"
#include "weir/app/listeners.h"
#include "weir/app/routes.h"
#include "weir/app/tool_store.h"
#include "weir/app/tool_table.h"
#include "weir/base/mem.h"
#include "weir/io/pg.h"
#include "weir/io/redis.h"
#include "weir/io/resolver.h"
#include "weir/model/tool.h"
#include "weir/observe/health.h"
#include "weir/observe/process.h"
#include "weir/run/conf.h"
#include "weir/run/footprint.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define END_POLL    (10 * USEC_PER_MSEC)
#define LET_GO_MAX  (200 * USEC_PER_MSEC)
#define SERVER_WAIT (2 * USEC_PER_SEC)
#define TOOLS_WAIT  (2 * USEC_PER_SEC)

#define APP_STATES(X) X(STARTING) X(RUNNING) X(ANNOUNCED) X(CLOSING) X(FLUSHING) X(ENDED)
#define APP_ENUM(s)   APP_##s,
#define APP_NAME(s)   #s,
enum app_state { APP_STATES(APP_ENUM) };
static const char *const app_state_names[] = {APP_STATES(APP_NAME)};

struct app {
	struct conf *conf; /* borrowed */
	struct loop *loop; /* owned, like all pointers below */
	struct resolver *resolver;
	struct metric_registry *metrics;
	struct process_watch *process;
	struct adapter_metrics *adapters;
	struct health *health;
	struct reload *reload;
	struct tool_store *store;
	struct tool_table *table;   /* NULL without a database */
	struct role_ingest *ingest; /* NULL without the role */
	struct role_worker *worker; /* NULL without the role */
	struct durability *durability;
	struct listeners *listeners;
	struct loop_timer wait_timer;  /* first answer of a server */
	struct loop_timer step_timer;  /* the end's next step */
	struct loop_timer grace_timer; /* SHUTDOWN_GRACE */
	struct limits_memory memory;
	size_t max_connections;
	enum app_state state;
	enum err result;
	bool let_go; /* SHUTDOWN_GRACE is all but over */
	usec_t wait_for, since, started;
	bool schema_fitted;      /* at any time */
	bool schema_missed;      /* and this was told */
	struct err_info refusal; /* of a schema from the future, or by the database */
};

static void set_state(struct app *a, enum app_state to)
{
	log_info(LOG_APP, "state", LOG_STR("from", app_state_names[a->state]),
	         LOG_STR("to", app_state_names[to]));
	a->state = to;
	a->since = loop_now(a->loop);
}

/* ---- what others ask ---- */

static const struct tools *tools_in_force(void *arg)
{
	struct app *a = arg;

	return tool_store_tools(a->store);
}

static bool tool_may_exist(void *arg, struct str id)
{
	struct app *a = arg;

	return tool_store_may_exist(a->store, id);
}

static bool can_take(void *arg, const char **ret_reason)
{
	struct app *a = arg;

	/* With a database that is up this takes moments; nobody should be sent here before, to be
	 * told 503 for a tool of the table. Without one, what the file has can be taken. */
	if (!tool_store_settled(a->store) && loop_now(a->loop) - a->started < TOOLS_WAIT) {
		*ret_reason = "the table of tools was not read yet";
		return false;
	}
	if (a->ingest)
		return role_ingest_can_take(a->ingest, ret_reason);
	*ret_reason = "Redis does not answer";
	return !a->conf->webhook_queue_enabled || redis_up(role_worker_redis(a->worker));
}

static size_t active_requests(void *arg)
{
	struct app *a = arg;
	return a->listeners ? listeners_active_requests(a->listeners) : 0;
}

static bool schema_fits(void *arg)
{
	struct app *a = arg;

	const struct durability_finding *f = durability_findings(a->durability);

	/* What is done with an event depends on its tool, so the tools come first. */
	if (!tool_store_settled(a->store))
		return false;
	/* Not to be allowed to look is no reason to store nothing. */
	return a->schema_fitted || (durability_knows_pg(a->durability) &&
	                            f[DURABILITY_SCHEMA].verdict == DURABILITY_UNKNOWN);
}

static bool database_up(void *arg)
{
	struct app *a = arg;

	return health_database_up(a->health);
}

/* ---- the end ---- */

static bool servers_idle(const struct app *a)
{
	return listeners_idle(a->listeners) && (!a->ingest || role_ingest_idle(a->ingest));
}

static void step_announced(struct app *a)
{
	if (loop_now(a->loop) - a->since < a->conf->shutdown_delay)
		return;
	set_state(a, APP_CLOSING);
	listeners_drain(a->listeners);
}

/* Not after the last request: a slow client must not keep batches from being committed, and what
 * is still accepted waits in the queue for whoever runs next. Where senders wait for the database
 * itself, they are waited for, with half of the grace left for the last batch. */
static bool worker_may_stop(const struct app *a)
{
	return !a->ingest || !role_ingest_direct(a->ingest) || servers_idle(a) ||
	       loop_now(a->loop) - a->since >= a->conf->shutdown_grace / 2;
}

static void step_closing(struct app *a)
{
	if (a->worker && worker_may_stop(a))
		role_worker_stop(a->worker);
	if (!servers_idle(a))
		return;
	set_state(a, APP_FLUSHING);
}

static void step_flushing(struct app *a)
{
	if (a->worker && !role_worker_idle(a->worker))
		return;
	set_state(a, APP_ENDED);
	loop_stop(a->loop);
}

static void on_step_timer(void *arg)
{
	struct app *a = arg;

	switch (a->state) {
	case APP_STARTING:
	case APP_RUNNING:
	case APP_ENDED:
		return;
	case APP_ANNOUNCED:
		step_announced(a);
		break;
	case APP_CLOSING:
		step_closing(a);
		break;
	case APP_FLUSHING:
		step_flushing(a);
		break;
	}
	loop_timer_set(&a->step_timer, END_POLL);
}

/* Of SHUTDOWN_GRACE, for the last words to Redis. */
static usec_t let_go_time(const struct app *a)
{
	usec_t quarter = a->conf->shutdown_grace / 4;

	return quarter < LET_GO_MAX ? quarter : LET_GO_MAX;
}

static void on_grace_timer(void *arg)
{
	struct app *a = arg;

	if (a->worker && !a->let_go) {
		log_warn(LOG_APP,
		         "SHUTDOWN_GRACE is over; what is not stored yet stays in the queue",
		         LOG_STR("state", app_state_names[a->state]));
		a->let_go = true;
		role_worker_let_go(a->worker);
		loop_timer_set(&a->grace_timer, let_go_time(a));
		return;
	}
	if (!a->worker)
		log_warn(LOG_APP, "SHUTDOWN_GRACE is over; requests in flight are cut off",
		         LOG_STR("state", app_state_names[a->state]));
	loop_stop(a->loop);
}

static void begin_end(struct app *a)
{
	loop_timer_stop(&a->wait_timer);
	health_set_draining(a->health);
	set_state(a, APP_ANNOUNCED);
	loop_timer_set(&a->grace_timer, a->conf->shutdown_grace - let_go_time(a));
	loop_timer_set(&a->step_timer, 0);
}

static void on_signal_end(void *arg)
{
	struct app *a = arg;
	const char *reason;

	if (a->state == APP_STARTING && !can_take(a, &reason)) {
		loop_stop(a->loop);
		return;
	}
	if (a->state != APP_RUNNING && a->state != APP_STARTING) {
		log_warn(LOG_APP, "second signal: ending at once",
		         LOG_STR("state", app_state_names[a->state]));
		_exit(1);
	}
	begin_end(a);
}

/* A schema that was never seen to fit: an older one may yet be migrated, and meanwhile events wait
 * in the queue; with a newer one this weir has no business, be it seen late because Postgres was.
 * One that fitted and changes is another weir's that takes over from this one, which goes on. */
static void on_schema(void *arg, enum migrate_state s, const char *text)
{
	struct app *a = arg;

	a->schema_fitted |= s == MIGRATE_CURRENT;
	if (a->schema_fitted || a->refusal.code != ERR_OK)
		return;
	if (s == MIGRATE_OLDER) {
		if (!a->schema_missed)
			log_warn(LOG_APP,
			         "nothing is stored before the schema is brought up to date",
			         LOG_STR("schema", text), LOG_STR("with", "weir migrate up"));
		a->schema_missed = true;
		return;
	}
	a->result = err_set(&a->refusal, ERR_CONFLICT, "%s (%s)", migrate_state_advice(s), text);
	if (a->state == APP_STARTING)
		loop_stop(a->loop);
	else if (a->state == APP_RUNNING)
		begin_end(a);
}

static void on_signal_reload(void *arg)
{
	struct app *a = arg;

	reload_run(a->reload);
	tool_store_reload(a->store, reload_tools(a->reload));
}

/* ---- the start ---- */

/* NULL: nothing here uses Redis. */
static struct redis *any_redis(const struct app *a)
{
	struct redis *r = a->ingest ? role_ingest_redis(a->ingest) : NULL;

	return r || !a->worker ? r : role_worker_redis(a->worker);
}

/* A schema that does not fit, or a server that does not let us in, should be known before anybody
 * hears that the start went well; and whoever waits for no time has asked each server once. */
static bool waits_for_servers(const struct app *a, const struct pg_pool_stats *s)
{
	bool pg = a->worker ? durability_knows_pg(a->durability)
	                    : !a->table || tool_store_settled(a->store);
	bool redis = !any_redis(a) || redis_connect_result(any_redis(a)) != ERR_AGAIN;

	return !(redis && (pg || s->last_error[0])) && loop_now(a->loop) - a->since < SERVER_WAIT;
}

/* A server that is not there yet may come; one that refuses us waits for a human. This is asked at
 * the start only: what runs goes on, whatever somebody changes at the servers. */
static bool is_refused(struct app *a, const struct pg_pool_stats *s)
{
	a->result = connect_pg_refusal(s, &a->refusal);
	if (a->result == ERR_OK && any_redis(a))
		a->result = connect_redis_refusal(a->conf, any_redis(a), &a->refusal);
	if (a->result != ERR_OK)
		loop_stop(a->loop);
	return a->result != ERR_OK;
}

/* Later outages never end the process; a set-up in which nothing ever answered does. */
static void on_wait_timer(void *arg)
{
	struct app *a = arg;
	bool redis = any_redis(a) && redis_up(any_redis(a));
	bool pg = a->worker && pg_pool_up(role_worker_pool(a->worker));
	struct pg_pool_stats s = {.last_error = ""};

	if (a->worker)
		pg_pool_stats(role_worker_pool(a->worker), &s);
	else if (a->table)
		tool_table_stats(a->table, &s);
	if (is_refused(a, &s))
		return;
	if ((redis || pg || (!a->worker && !any_redis(a))) && !waits_for_servers(a, &s)) {
		set_state(a, APP_RUNNING);
		log_info(LOG_APP, "serving", LOG_STR("version", WEIR_VERSION),
		         LOG_BOOL("redis", redis), LOG_BOOL("postgres", pg),
		         LOG_INT("ingest_port", listeners_port(a->listeners, LISTENER_INGEST)),
		         LOG_INT("health_port", listeners_port(a->listeners, LISTENER_HEALTH)),
		         LOG_INT("admin_port", listeners_port(a->listeners, LISTENER_ADMIN)),
		         LOG_INT("tools", tools_count(tools_in_force(a))));
		if (tools_count(tools_in_force(a)) == 0 && tool_store_settled(a->store))
			log_warn(LOG_APP,
			         "no tools: every webhook is answered 404; set TOOLS_FILE or "
			         "WEBHOOK_SECRET");
		(void)footprint_trim();
		return;
	}
	if (!redis && !pg && loop_now(a->loop) - a->since >= a->wait_for &&
	    !waits_for_servers(a, &s)) {
		a->result = ERR_UNAVAILABLE;
		loop_stop(a->loop);
		return;
	}
	loop_timer_set(&a->wait_timer, END_POLL);
}

static enum err make_tools(struct app *a, struct tools *files)
{
	struct tool_store_options s = {.loop = a->loop,
	                               .conf = a->conf,
	                               .metrics = a->metrics,
	                               .files = files,
	                               .has_table = connect_has_database(a->conf),
	                               .changed = role_worker_on_tools,
	                               .arg = &a->worker};
	struct tool_table_options t = {
	    .loop = a->loop, .resolver = a->resolver, .conf = a->conf, .metrics = a->metrics};
	enum err e = tool_store_new(&s, &a->store);

	t.store = a->store;
	return e == ERR_OK && s.has_table ? tool_table_new(&t, &a->table) : e;
}

static enum err make_roles(struct app *a)
{
	struct role_ingest_options i = {.loop = a->loop,
	                                .resolver = a->resolver,
	                                .metrics = a->metrics,
	                                .adapters = a->adapters,
	                                .conf = a->conf,
	                                .tools = tools_in_force,
	                                .may_exist = tool_may_exist,
	                                .tools_arg = a};
	struct role_worker_options w = {.loop = a->loop,
	                                .resolver = a->resolver,
	                                .metrics = a->metrics,
	                                .adapters = a->adapters,
	                                .conf = a->conf,
	                                .tools = tools_in_force,
	                                .tools_arg = a,
	                                .database_up = database_up,
	                                .schema_fits = schema_fits,
	                                .database_arg = a};
	enum err e = ERR_OK;

	if (a->conf->roles & ROLE_INGEST)
		e = role_ingest_new(&i, &a->ingest);
	if (a->ingest)
		w.watch = role_ingest_watch(a->ingest);
	if (e == ERR_OK && (a->conf->roles & ROLE_WORKER))
		e = role_worker_new(&w, &a->worker);
	if (e == ERR_OK && a->ingest && a->worker)
		role_ingest_set_direct(a->ingest, role_worker_direct(a->worker));
	return e;
}

static enum err make_durability(struct app *a)
{
	struct durability_options o = {.loop = a->loop,
	                               .metrics = a->metrics,
	                               .redis = a->ingest ? role_ingest_redis(a->ingest)
	                                                  : role_worker_redis(a->worker),
	                               .pool = a->worker ? role_worker_pool(a->worker) : NULL,
	                               .migrations = migrations,
	                               .on_schema = on_schema,
	                               .arg = a};
	enum err e = durability_new(&o, &a->durability);

	if (a->ingest)
		role_ingest_set_durability(a->ingest, a->durability);
	return e == ERR_OK ? durability_add_health(a->durability, a->health) : e;
}

static enum err make_health(struct app *a)
{
	struct health_options o = {.loop = a->loop,
	                           .metrics = a->metrics,
	                           .process = a->process,
	                           .service_name = a->conf->service_name,
	                           .mode = "unified",
	                           .can_take = can_take,
	                           .active_requests = active_requests,
	                           .arg = a};
	enum err e = health_new(&o, &a->health);

	if (e != ERR_OK)
		return e;
	if (any_redis(a))
		health_watch_redis(a->health, any_redis(a));
	if (a->ingest)
		e = role_ingest_add_health(a->ingest, a->health);
	if (e != ERR_OK || !a->worker)
		return e;
	health_watch_database(a->health, role_worker_pool(a->worker));
	return role_worker_add_health(a->worker, a->health);
}

static enum err make_listeners(struct app *a, struct err_info *info)
{
	struct listeners_options o = {.loop = a->loop,
	                              .conf = a->conf,
	                              .metrics = a->metrics,
	                              .adapters = a->adapters,
	                              .health = a->health,
	                              .receiver =
	                                  a->ingest ? role_ingest_receiver(a->ingest) : NULL,
	                              .store = a->store,
	                              .table = a->table,
	                              .max_connections = a->max_connections};

	return listeners_new(&o, &a->listeners, info);
}

static enum err make_timers(struct app *a)
{
	enum err e = loop_timer_init(&a->wait_timer, a->loop, on_wait_timer, a);

	if (e == ERR_OK)
		e = loop_timer_init(&a->step_timer, a->loop, on_step_timer, a);
	if (e == ERR_OK)
		e = loop_timer_init(&a->grace_timer, a->loop, on_grace_timer, a);
	if (e == ERR_OK)
		e = limits_memory_init(&a->memory, a->loop, (size_t)a->conf->max_memory);
	if (e == ERR_OK)
		e = loop_on_signal(a->loop, SIGTERM, on_signal_end, a);
	if (e == ERR_OK)
		e = loop_on_signal(a->loop, SIGINT, on_signal_end, a);
	if (e == ERR_OK)
		e = loop_on_signal(a->loop, SIGHUP, on_signal_reload, a);
	/* They mean nothing here, and a stray one must not end the process. */
	signal(SIGUSR1, SIG_IGN);
	signal(SIGUSR2, SIG_IGN);
	return e;
}

static enum err app_init(struct app *a, const struct app_options *o, struct err_info *info)
{
	enum err e = preflight(o->conf, NULL, info);

	if (e == ERR_OK)
		e = loop_new(&a->loop);
	a->max_connections = limits_connections(o->conf);

	if (e == ERR_OK)
		e = make_timers(a);
	if (e == ERR_OK)
		e = resolver_new(a->loop, &a->resolver);
	if (e == ERR_OK)
		e = metric_registry_new(&a->metrics);
	if (e == ERR_OK)
		e = process_watch_new(a->loop, a->metrics, &a->process);
	if (e == ERR_OK)
		e = adapter_metrics_new(a->metrics, &a->adapters);
	if (e == ERR_OK)
		e = reload_new(o->conf, o->config_file, o->tools, a->metrics, &a->reload);
	if (e == ERR_OK)
		e = make_tools(a, o->tools);
	if (e == ERR_OK)
		e = make_roles(a);
	if (e == ERR_OK)
		e = make_health(a);
	if (e == ERR_OK)
		e = make_durability(a);
	if (e == ERR_OK)
		e = make_listeners(a, info);
	if (e != ERR_OK && info->code == ERR_OK)
		err_set(info, e, "could not start: %s", err_meaning(e));
	return e;
}

static enum err app_start(struct app *a)
{
	enum err e = ERR_OK;

	a->since = a->started = clock_mono();
	tool_store_start(a->store);
	if (a->table)
		tool_table_start(a->table);
	if (a->ingest)
		role_ingest_start(a->ingest);
	if (a->worker)
		e = role_worker_start(a->worker);
	if (e == ERR_OK)
		e = health_start(a->health);
	durability_start(a->durability);
	if (e == ERR_OK)
		loop_timer_set(&a->wait_timer, 0);
	return e;
}

static void app_done(struct app *a)
{
	if (a->health)
		health_stop(a->health);
	if (a->durability)
		durability_stop(a->durability);
	listeners_close(a->listeners);
	tool_table_free(a->table);
	role_ingest_free(a->ingest);
	role_worker_free(a->worker);
	durability_free(a->durability);
	listeners_free(a->listeners);
	health_free(a->health);
	tool_store_free(a->store);
	reload_free(a->reload);
	process_watch_free(a->process);
	resolver_free(a->resolver);
	adapter_metrics_free(a->adapters);
	metric_registry_free(a->metrics);
	loop_timer_done(&a->wait_timer);
	loop_timer_done(&a->step_timer);
	loop_timer_done(&a->grace_timer);
	limits_memory_done(&a->memory);
	loop_free(a->loop);
}

enum err app_run(const struct app_options *o, struct err_info *info)
{
	struct app a = {.conf = o->conf, .wait_for = o->wait_for};
	enum err e;

	info->code = ERR_OK;
	e = app_init(&a, o, info);
	if (e == ERR_OK)
		e = app_start(&a);
	if (e == ERR_OK)
		e = loop_run(a.loop);
	if (e == ERR_OK)
		e = a.result;
	if (a.refusal.code != ERR_OK)
		*info = a.refusal;
	if (e == ERR_UNAVAILABLE && !o->conf->webhook_queue_enabled)
		err_set(info, e, "Postgres did not answer within %g s",
		        (double)o->wait_for / USEC_PER_SEC);
	else if (e == ERR_UNAVAILABLE)
		err_set(info, e, "neither Redis (%s) nor Postgres answered within %g s",
		        o->conf->redis_addr, (double)o->wait_for / USEC_PER_SEC);
	app_done(&a);
	return e;
}
