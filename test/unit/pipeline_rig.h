/* The pipeline on a private server: what the tests of batches share. A stack is a pool, a buffer
 * and a processor; the rig has one, and tests may add a second on the same loop. */
#ifndef WEIR_TEST_PIPELINE_RIG_H
#define WEIR_TEST_PIPELINE_RIG_H

#include "torture.h"

#include "pg_server.h"
#include "turn.h"
#include "weir/app/migration.h"
#include "weir/base/buf.h"
#include "weir/io/pg.h"
#include "weir/io/redis.h"
#include "weir/model/event.h"
#include "weir/pipeline/batch_processor.h"
#include "weir/pipeline/deduplicator.h"
#include "weir/pipeline/event_buffer.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define MAX_EVENTS 20000

static struct pg_server server;

struct test_source {
	struct event_source base;
	size_t calls;
	size_t count[EVENT_RETURNED + 1];
	size_t settled;
	signed char fates[MAX_EVENTS]; /* by token[0]; -1: not settled */
	bool twice;                    /* some event was settled again */
};

struct stack {
	struct pg_pool *pool;
	struct redis *redis; /* NULL, like the next, unless asked for */
	struct deduplicator *dedup;
	struct event_buffer *buffer;
	struct batch_processor *processor;
	unsigned idle_calls;
};

struct rig {
	struct loop *loop;
	struct metric_registry *metrics;
	struct turn turn;
	size_t want; /* events to be settled */
	struct stack s;
	struct test_source source;
	PGconn *db; /* the test's own look at the tables */
	size_t made;
};

static inline void on_settled(struct event_source *base, struct event *const *events,
                              const enum event_fate *fates, size_t n)
{
	struct test_source *s = (struct test_source *)base;

	s->calls++;
	for (size_t i = 0; i < n; i++) {
		signed char *fate = &s->fates[events[i]->token[0]];

		s->twice |= *fate >= 0;
		*fate = (signed char)fates[i];
		s->count[fates[i]]++;
		s->settled++;
	}
}

static inline void source_init(struct test_source *s)
{
	memset(s, 0, sizeof(*s));
	s->base.settled = on_settled;
	memset(s->fates, -1, sizeof(s->fates));
}

/* ---- SQL of the test's own ---- */

static inline void disconnect(struct rig *r)
{
	PQfinish(r->db);
	r->db = NULL;
}

static inline void reconnect(struct rig *r)
{
	char info[128];

	snprintf(info, sizeof(info), "host=%s dbname=postgres user=weir", server.dir);
	r->db = PQconnectdb(info);
	PQclear(PQexec(r->db, "SET client_min_messages = warning; SET TimeZone = UTC"));
}

/* A batch in flight takes its locks in an order of its own: what the test wants of the same tables
 * may be the deadlock's victim, and then has done nothing yet. */
static inline bool is_victim(const PGresult *res)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	return state && strcmp(state, "40P01") == 0;
}

static inline PGresult *query(struct rig *r, const char *text)
{
	PGresult *res;

	if (!r->db)
		reconnect(r);
	res = PQexec(r->db, text);
	for (int i = 0; i < 20 && is_victim(res); i++) {
		PQclear(res);
		res = PQexec(r->db, text);
	}
	if (PQresultStatus(res) != PGRES_COMMAND_OK && PQresultStatus(res) != PGRES_TUPLES_OK)
		fprintf(stderr, "%s: %s", text, PQerrorMessage(r->db));
	return res;
}

static inline void sql(struct rig *r, const char *text)
{
	PGresult *res = query(r, text);
	ExecStatusType status = PQresultStatus(res);

	PQclear(res);
	assert_true(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK);
}

static inline long number(struct rig *r, const char *text)
{
	PGresult *res = query(r, text);
	long n = -1;

	if (PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1)
		n = strtol(PQgetvalue(res, 0, 0), NULL, 10);
	PQclear(res);
	return n;
}

static inline void assert_text(struct rig *r, const char *text, const char *want)
{
	PGresult *res = query(r, text);

	assert_int_equal(PQntuples(res), 1);
	assert_string_equal(PQgetisnull(res, 0, 0) ? "(null)" : PQgetvalue(res, 0, 0), want);
	PQclear(res);
}

/* ---- the loop ---- */

static inline bool all_settled(struct rig *r)
{
	return r->source.settled >= r->want;
}

static inline bool await_settled(struct rig *r, size_t want)
{
	r->want = want;
	return turn_until(r, all_settled, LONG_MSEC);
}

static inline bool is_up(struct rig *r)
{
	return pg_pool_up(r->s.pool);
}

static inline bool is_down(struct rig *r)
{
	return !pg_pool_up(r->s.pool);
}

/* ---- events ---- */

struct sample {
	const char *tool, *type, *id;
	struct str body;
	usec_t received; /* 0: now */
	usec_t dedup_window;
};

static inline struct event *make_event(struct rig *r, struct sample s)
{
	usec_t received = s.received ? s.received : clock_wall();
	struct event_view v = {
	    .tool = str_of(s.tool ? s.tool : "github"),
	    .type = str_of(s.type ? s.type : "push"),
	    .id = str_of(s.id),
	    .received = received,
	    .dedup_window = s.dedup_window,
	    .headers = STR("[[\"user-agent\",\"test\"]]"),
	    .content_type = STR("application/json"),
	    .body = s.body.ptr ? s.body : STR("{}"),
	};
	struct event *e;

	uuid_make(received, &v.uid);
	if (event_make(&v, &e) != ERR_OK)
		return NULL;
	e->source = &r->source.base;
	e->token[0] = r->made++ % MAX_EVENTS;
	return e;
}

static inline enum err put_into(struct stack *s, struct event *e)
{
	struct event_inlet *in = event_buffer_inlet(s->buffer);
	enum err err = e ? in->put(in, e) : ERR_NOMEM;

	if (err != ERR_OK)
		event_unref(e);
	return err;
}

static inline void put(struct rig *r, struct sample s)
{
	assert_int_equal(put_into(&r->s, make_event(r, s)), ERR_OK);
}

/* Events id_0 … id_n-1. */
static inline void put_numbered(struct rig *r, const char *prefix, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char id[64];

		snprintf(id, sizeof(id), "%s_%zu", prefix, i);
		put(r, (struct sample){.id = id});
	}
}

/* ---- stacks ---- */

struct stack_options {
	size_t connections, workers, batch_size;
	unsigned quick_retries;
	usec_t query_timeout;
	struct enricher *enricher; /* borrowed */
	const char *redis;         /* its address; NULL: no deduplicator */
	size_t memory_keys;
};

static inline void stack_free(struct stack *s)
{
	if (s->dedup)
		deduplicator_stop(s->dedup);
	redis_free(s->redis);
	pg_pool_free(s->pool);
	batch_processor_free(s->processor);
	deduplicator_free(s->dedup);
	event_buffer_free(s->buffer);
	memset(s, 0, sizeof(*s));
}

static inline void on_stack_redis(void *arg, bool up)
{
	(void)arg;
	(void)up;
}

static inline enum err stack_dedup_new(struct rig *r, const struct stack_options *o,
                                       struct stack *s)
{
	struct redis_options ro = {.name = "test", .addr = o->redis};
	struct deduplicator_options d = {.loop = r->loop,
	                                 .pool = s->pool,
	                                 .metrics = r->metrics,
	                                 .key_prefix = "p:",
	                                 .ttl = 3600 * USEC_PER_SEC,
	                                 .max_keys = 100000,
	                                 .memory_keys = o->memory_keys,
	                                 .batch_size = o->batch_size};
	enum err e = redis_new(r->loop, NULL, &ro, on_stack_redis, s, &s->redis);

	d.redis = s->redis;
	if (e == ERR_OK)
		e = deduplicator_new(&d, &s->dedup);
	if (e != ERR_OK)
		return e;
	redis_start(s->redis);
	deduplicator_start(s->dedup);
	return ERR_OK;
}

static inline enum err stack_new(struct rig *r, const struct stack_options *o, struct stack *s)
{
	struct pg_options po = pg_server_options(&server);
	struct event_buffer_options bo = {.batch_size = o->batch_size,
	                                  .batch_bytes = 8 << 20,
	                                  .flush_interval = 1000 * MSEC,
	                                  .high_events = MAX_EVENTS};
	enum err e;

	memset(s, 0, sizeof(*s));
	po.size = o->connections;
	po.query_timeout = o->query_timeout;
	e = pg_pool_new(r->loop, NULL, &po, &s->pool);
	if (e == ERR_OK && o->redis)
		e = stack_dedup_new(r, o, s);
	if (e == ERR_OK)
		e = event_buffer_new(r->loop, &bo, &s->buffer);
	if (e == ERR_OK)
		e = batch_processor_new(
		    &(struct batch_processor_options){.loop = r->loop,
		                                      .pool = s->pool,
		                                      .buffer = s->buffer,
		                                      .deduplicator = s->dedup,
		                                      .metrics = r->metrics,
		                                      .max_workers = o->workers,
		                                      .batch_size = o->batch_size,
		                                      .quick_retries = o->quick_retries,
		                                      .enricher = o->enricher},
		    &s->processor);
	if (e != ERR_OK) {
		stack_free(s);
		return e;
	}
	batch_processor_start(s->processor);
	pg_pool_start(s->pool);
	return ERR_OK;
}

static const struct stack_options plain = {
    .connections = 2, .workers = 4, .batch_size = 100, .quick_retries = 3};

/* ---- the rig ---- */

static inline enum err rig_new(struct rig *r, const struct stack_options *o)
{
	memset(r, 0, sizeof(*r));
	source_init(&r->source);
	if (loop_new(&r->loop) != ERR_OK)
		return ERR_NOMEM;
	if (turn_init(&r->turn, r, r->loop) != ERR_OK ||
	    metric_registry_new(&r->metrics) != ERR_OK || stack_new(r, o, &r->s) != ERR_OK) {
		metric_registry_free(r->metrics);
		turn_done(&r->turn);
		loop_free(r->loop);
		return ERR_NOMEM;
	}
	return ERR_OK;
}

static inline void rig_free(struct rig *r)
{
	stack_free(&r->s);
	metric_registry_free(r->metrics);
	turn_done(&r->turn);
	loop_free(r->loop);
	PQfinish(r->db);
}

static inline void empty_tables(struct rig *r)
{
	sql(r, "TRUNCATE weir.events, weir.event_keys, weir.dead_letters;"
	       "SELECT weir.ensure_event_partitions(7)");
}

static inline struct rig *rig_of(void **state)
{
	return *state;
}

static inline int setup_with(void **state, const struct stack_options *o)
{
	static struct rig r;

	if (!server.pid)
		return 0;
	assert_int_equal(rig_new(&r, o), ERR_OK);
	empty_tables(&r);
	*state = &r;
	return 0;
}

static inline int setup(void **state)
{
	return setup_with(state, &plain);
}

static inline int teardown(void **state)
{
	struct rig *r = *state;
	bool twice;

	if (!r)
		return 0;
	twice = r->source.twice;
	rig_free(r);
	*state = NULL;
	assert_false(twice);
	return 0;
}

/* ---- poison ---- */

/* Events whose id starts with `prefix` fail with `sqlstate`. */
static inline void poison(struct rig *r, const char *prefix, const char *sqlstate)
{
	char text[512];

	snprintf(text, sizeof(text),
	         "CREATE OR REPLACE FUNCTION weir.poison() RETURNS trigger LANGUAGE plpgsql AS $$"
	         " BEGIN IF NEW.event_id LIKE '%s%%' THEN"
	         " RAISE EXCEPTION 'no %%', NEW.event_id USING ERRCODE = '%s';"
	         " END IF; RETURN NEW; END $$;"
	         "CREATE OR REPLACE TRIGGER poison BEFORE INSERT ON weir.events"
	         " FOR EACH ROW EXECUTE FUNCTION weir.poison()",
	         prefix, sqlstate);
	sql(r, text);
}

/* Of tests that use it. */
static inline int teardown_poison(void **state)
{
	if (*state)
		sql(*state, "DROP TRIGGER IF EXISTS poison ON weir.events");
	return teardown(state);
}

/* ---- the server ---- */

#define NEED_SERVER()    \
	if (!server.pid) \
	skip()

static inline bool migrate(void)
{
	for (const struct migration *m = migrations; m->version; m++) {
		const char *up = strstr(m->sql, "-- migrate:up");
		const char *down = strstr(m->sql, "-- migrate:down");
		char *text = mem_dup(up, (size_t)(down - up));
		bool ok = text && pg_server_sql(&server, text);

		mem_free(text);
		if (!ok)
			return false;
	}
	return true;
}

static inline int start_server(void **state)
{
	(void)state;
	if (pg_server_start(&server) && !migrate())
		return -1;
	return 0;
}

static inline int stop_server(void **state)
{
	(void)state;
	pg_server_remove(&server);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* WEIR_TEST_LOG=debug shows what happens. Call sites are limited in lines, tests are not asked. */
static inline bool quiet_log(const char *levels)
{
	const char *asked = getenv("WEIR_TEST_LOG");

	return log_set_levels(asked ? asked : levels, NULL) == ERR_OK;
}

#endif
