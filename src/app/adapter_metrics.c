/* One collector for all adapters: the registry takes few of them, and rooms below need not know of
 * metrics that are figures they keep anyway. */
#include "weir/app/adapter_metrics.h"

#include "weir/base/mem.h"
#include "weir/io/http_server.h"
#include "weir/io/pg.h"
#include "weir/io/redis.h"
#include "weir/queue/stream_acks.h"
#include "weir/run/log.h"
#include "weir/run/metric.h"

#define MAX_REDIS 8 /* four producers, consumer, control */
#define MAX_HTTP  3 /* ingest, health, admin */

struct redis_watched {
	const struct redis *redis; /* borrowed, like all here */
	struct metric *reconnects;
};

struct http_watched {
	const struct http_server *server;
	struct metric *connections, *late_replies;
};

struct adapter_metrics {
	struct metric_registry *registry; /* borrowed, like all pointers here */
	struct redis_watched redis[MAX_REDIS];
	size_t redis_count;
	struct metric *redis_errors[REDIS_TROUBLE_COUNT]; /* of all of them */
	struct http_watched http[MAX_HTTP];
	size_t http_count;
	const struct pg_pool *pool; /* NULL: none */
	struct metric *pg_transactions, *pg_statements;
	struct metric *pg_reconnects, *pg_open, *pg_busy, *pg_waiting;
	const struct stream_acks *acks; /* NULL: none */
	struct metric *acks_forgotten;
};

static void set_counter(struct metric *m, uint64_t total)
{
	double more = (double)total - metric_get(m);

	if (more > 0)
		metric_add(m, more);
}

static void collect_redis_errors(struct adapter_metrics *m, enum redis_trouble t)
{
	uint64_t total = 0;

	for (size_t i = 0; i < m->redis_count; i++)
		total += redis_troubles(m->redis[i].redis, t);
	set_counter(m->redis_errors[t], total);
}

static void collect_http(struct http_watched *w)
{
	struct http_server_stats s;

	http_server_stats(w->server, &s);
	metric_set(w->connections, (double)s.connections);
	set_counter(w->late_replies, s.late_replies);
}

static void collect_pool(struct adapter_metrics *m)
{
	struct pg_pool_stats s;

	pg_pool_stats(m->pool, &s);
	metric_set(m->pg_open, (double)s.open);
	metric_set(m->pg_busy, (double)s.busy);
	metric_set(m->pg_waiting, (double)s.waiting);
	set_counter(m->pg_reconnects, s.reconnects);
	set_counter(m->pg_transactions, s.transactions);
	set_counter(m->pg_statements, s.statements);
}

static void on_collect(void *arg)
{
	struct adapter_metrics *m = arg;

	for (size_t i = 0; i < m->redis_count; i++)
		set_counter(m->redis[i].reconnects, redis_reconnects(m->redis[i].redis));
	for (int t = REDIS_TROUBLE_NONE + 1; t < REDIS_TROUBLE_COUNT && m->redis_count; t++)
		collect_redis_errors(m, t);
	for (size_t i = 0; i < m->http_count; i++)
		collect_http(&m->http[i]);
	if (m->pool)
		collect_pool(m);
	if (m->acks)
		set_counter(m->acks_forgotten, stream_acks_forgotten(m->acks));
}

enum err adapter_metrics_new(struct metric_registry *r, struct adapter_metrics **ret)
{
	struct adapter_metrics *m = mem_zalloc(sizeof(*m));
	enum err e;

	if (!m)
		return ERR_NOMEM;
	m->registry = r;
	e = metric_on_collect(r, on_collect, m);
	if (e != ERR_OK) {
		mem_free(m);
		return e;
	}
	*ret = m;
	return ERR_OK;
}

void adapter_metrics_free(struct adapter_metrics *m)
{
	mem_free(m);
}

static struct metric *labelled(struct adapter_metrics *m, enum metric_type type, const char *name,
                               const char *help, const char *label, const char *value)
{
	const struct metric_spec spec = {
	    .type = type, .name = name, .help = help, .labels = {label}};

	return metric_of(metric_family(m->registry, &spec), value, NULL, NULL);
}

static struct metric *counter(struct adapter_metrics *m, const char *name, const char *help)
{
	return metric_plain(m->registry, METRIC_COUNTER, name, help);
}

void adapter_metrics_add_redis(struct adapter_metrics *m, const char *connection,
                               const struct redis *r)
{
	if (m->redis_count == MAX_REDIS) {
		log_error(LOG_APP, "more Redis connections than metrics for them",
		          LOG_STR("connection", connection));
		return;
	}
	m->redis[m->redis_count++] = (struct redis_watched){
	    r, labelled(m, METRIC_COUNTER, "webhook_redis_reconnects_total",
	                "Redis connections made anew.", "connection", connection)};
	for (int t = REDIS_TROUBLE_NONE + 1; t < REDIS_TROUBLE_COUNT; t++)
		m->redis_errors[t] =
		    labelled(m, METRIC_COUNTER, "webhook_redis_errors_total",
		             "What Redis refused, and connections lost to its silence, by kind.",
		             "kind", redis_trouble_name(t));
}

void adapter_metrics_add_http(struct adapter_metrics *m, const char *listener,
                              const struct http_server *s)
{
	if (m->http_count == MAX_HTTP) {
		log_error(LOG_APP, "more listeners than metrics for them",
		          LOG_STR("listener", listener));
		return;
	}
	m->http[m->http_count++] = (struct http_watched){
	    s,
	    labelled(m, METRIC_GAUGE, "webhook_http_connections", "Open client connections.",
	             "listener", listener),
	    labelled(m, METRIC_COUNTER, "webhook_http_late_replies_total",
	             "Answers that came after the client had left.", "listener", listener)};
}

void adapter_metrics_set_pool(struct adapter_metrics *m, const struct pg_pool *p)
{
	const char *name = "webhook_pg_connections";
	const char *help = "Postgres: open connections, those at work, and what waits for one.";

	m->pool = p;
	m->pg_open = labelled(m, METRIC_GAUGE, name, help, "state", "open");
	m->pg_busy = labelled(m, METRIC_GAUGE, name, help, "state", "busy");
	m->pg_waiting = labelled(m, METRIC_GAUGE, name, help, "state", "waiting");
	m->pg_transactions =
	    counter(m, "webhook_pg_transactions_total", "Transactions sent to Postgres.");
	m->pg_statements =
	    counter(m, "webhook_pg_statements_total", "Statements sent to Postgres.");
	m->pg_reconnects =
	    counter(m, "webhook_pg_reconnects_total", "Postgres connections made anew.");
}

void adapter_metrics_set_acks(struct adapter_metrics *m, const struct stream_acks *a)
{
	m->acks = a;
	m->acks_forgotten = counter(m, "webhook_queue_acks_forgotten_total",
	                            "Acknowledgements given up; their entries come again.");
}
