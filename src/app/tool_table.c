/* One connection does everything: it listens, it reads, and it takes the changes of the admin API.
 * A change is sent together with a reading behind it in the same transaction, so whoever is told
 * that it was made finds it in force in this process. Readings ask for definitions only where the
 * version is another than the known one. */
#include "weir/app/tool_table.h"

#include <string.h>

#include "weir/app/connect.h"
#include "weir/app/tool_store.h"
#include "weir/base/buf.h"
#include "weir/base/mem.h"
#include "weir/io/pg.h"
#include "weir/model/tool.h"
#include "weir/run/conf.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define CHANNEL        "weir_tools"
#define QUERY_TIMEOUT  (10 * USEC_PER_SEC)
#define LOOK_PERIOD    (30 * USEC_PER_SEC) /* a lost notification is made good by then */
#define RETRY          USEC_PER_SEC
#define MAX_WAITING    64
#define KNOWN_MAX      ((size_t)4 * 1024 * 1024) /* bytes of TOOL_MAX_COUNT ids */
#define DEFINITION_MAX ((size_t)1024 * 1024)

static const struct pg_stmt read_stmt = {
    .name = "weir_tools_read",
    .sql = "SELECT t.id, t.version, t.updated_at, t.updated_by,"
           " CASE WHEN k.version IS NULL THEN t.definition::text END"
           " FROM weir.tools t LEFT JOIN unnest($1::text[], $2::int8[]) AS k(id, version)"
           " ON k.id = t.id AND k.version = t.version"
           " ORDER BY t.id COLLATE \"C\" LIMIT 10000",
    .param_count = 2,
    .types = {PG_TEXT_ARRAY, PG_INT8_ARRAY}};
static const struct pg_stmt put_stmt = {
    .name = "weir_tools_put",
    .sql = "SELECT weir.put_tool($1, $6::jsonb, $2, $3, $4, $5)",
    .param_count = 6,
    .types = {PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_INT8, PG_TEXT}};
static const struct pg_stmt delete_stmt = {.name = "weir_tools_delete",
                                           .sql = "SELECT weir.delete_tool($1, $2, $3, $4, $5)",
                                           .param_count = 5,
                                           .types = {PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_INT8}};

/* A reading, alone or behind a change. */
struct reading {
	struct tool_table *table; /* borrowed */
	struct buf ids, versions;
	struct pg_param known[2];
	struct pg_call calls[2];
	struct pg_param params[6];
	struct buf texts; /* id, actor, peer, request id, definition: one behind the other */
	unsigned char expected[8];
	tool_change_fn done; /* NULL: no change goes with it */
	void *arg;
};

struct tool_table {
	struct tool_table_options o;
	struct pg_pool *pool; /* owned */
	struct loop_timer timer;
	bool reading; /* one without a change is on its way */
	bool again;   /* and another one is wanted behind it */
	bool missing; /* the table's absence, or that it may not be read, was told */
	struct metric *ok, *failed, *when;
};

static void read_table(struct tool_table *t);

/* ---- readings ---- */

static void reading_free(struct reading *r)
{
	if (!r)
		return;
	buf_done(&r->ids);
	buf_done(&r->versions);
	buf_done(&r->texts);
	mem_free(r);
}

static struct reading *reading_new(struct tool_table *t)
{
	struct reading *r = mem_zalloc(sizeof(*r));
	size_t n;

	if (!r)
		return NULL;
	r->table = t;
	buf_init(&r->ids, KNOWN_MAX);
	buf_init(&r->versions, KNOWN_MAX);
	buf_init(&r->texts, 2 * DEFINITION_MAX);
	pg_array_begin(&r->ids, PG_TEXT);
	pg_array_begin(&r->versions, PG_INT8);
	n = tool_store_known(t->o.store, &r->ids, &r->versions);
	pg_array_end(&r->ids, n);
	pg_array_end(&r->versions, n);
	if (r->ids.err != ERR_OK || r->versions.err != ERR_OK) {
		reading_free(r);
		return NULL;
	}
	r->known[0] = (struct pg_param){r->ids.ptr, r->ids.len};
	r->known[1] = (struct pg_param){r->versions.ptr, r->versions.len};
	return r;
}

static enum err apply(struct tool_table *t, const struct pg_result *res)
{
	size_t n = pg_rows(res);
	struct tool_row *rows = mem_array(n ? n : 1, sizeof(*rows));
	enum err e;

	if (!rows)
		return ERR_NOMEM;
	for (size_t i = 0; i < n; i++)
		rows[i] = (struct tool_row){.id = pg_value(res, i, 0),
		                            .version = pg_int8(res, i, 1),
		                            .updated_at = pg_int8(res, i, 2) + PG_EPOCH_USEC,
		                            .updated_by = pg_value(res, i, 3),
		                            .definition = pg_value(res, i, 4)};
	e = tool_store_apply(t->o.store, rows, n);
	mem_free(rows);
	if (e != ERR_OK)
		return e;
	t->missing = false;
	metric_inc(t->ok);
	metric_set(t->when, (double)clock_wall() / USEC_PER_SEC);
	return ERR_OK;
}

/* Without the table (the schema is older) or the right to read it, it is asked for again and again;
 * that is told once. */
static void tell_failure(struct tool_table *t, enum err e, const char *why)
{
	metric_inc(t->failed);
	if (e == ERR_DENIED)
		tool_store_set_denied(t->o.store);
	if ((e == ERR_NOTABLE || err_fate(e) == FATE_STOP) && !t->missing) {
		t->missing = true;
		log_warn(LOG_CONF,
		         "the table of tools cannot be read; tools that are in no file are "
		         "answered 503",
		         LOG_STR("table", TOOL_TABLE), LOG_STR("detail", why));
	} else if (e != ERR_CANCELLED) {
		log_debug(LOG_CONF, "table of tools not read", LOG_ERR(e), LOG_STR("detail", why));
	}
}

static void on_read(void *arg, enum err e, const struct pg_outcome *o)
{
	struct reading *r = arg;
	struct tool_table *t = r->table;

	t->reading = false;
	reading_free(r);
	if (e == ERR_OK)
		e = apply(t, o->results[0]);
	else
		tell_failure(t, e, o->failure.message);
	if (e == ERR_CANCELLED)
		return;
	loop_timer_set(&t->timer, e == ERR_OK ? LOOK_PERIOD : RETRY);
	if (t->again)
		read_table(t);
}

static void read_table(struct tool_table *t)
{
	struct reading *r;

	t->again = t->reading;
	if (t->reading)
		return;
	r = reading_new(t);
	if (r) {
		r->calls[0] = (struct pg_call){&read_stmt, r->known};
		t->reading = pg_submit(t->pool, r->calls, 1, 0, on_read, r) == ERR_OK;
	}
	if (!t->reading) {
		reading_free(r);
		loop_timer_set(&t->timer, RETRY);
	}
}

static void on_notify(void *arg)
{
	read_table(arg);
}

/* While there is no session, the next one brings a reading with it. */
static void on_timer(void *arg)
{
	struct tool_table *t = arg;

	if (pg_pool_up(t->pool))
		read_table(t);
	else
		loop_timer_set(&t->timer, RETRY);
}

/* ---- changes ---- */

static enum tool_outcome outcome_of(struct str s)
{
	static const char *const names[] = {
	    [TOOL_CREATED] = "created", [TOOL_UPDATED] = "updated", [TOOL_UNCHANGED] = "unchanged",
	    [TOOL_DELETED] = "deleted", [TOOL_ABSENT] = "absent",   [TOOL_MISMATCH] = "mismatch",
	    [TOOL_FULL] = "full",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (str_eq(s, str_of(names[i])))
			return (enum tool_outcome)i;
	return TOOL_UNCHANGED;
}

static void on_changed(void *arg, enum err e, const struct pg_outcome *o)
{
	struct reading *r = arg;
	struct tool_table *t = r->table;
	enum tool_outcome outcome = TOOL_UNCHANGED;

	if (e == ERR_OK) {
		outcome = outcome_of(pg_value(o->results[0], 0, 0));
		/* The change is made in any case; what fails here is made good by the timer. */
		if (apply(t, o->results[1]) != ERR_OK)
			loop_timer_set(&t->timer, RETRY);
	}
	r->done(r->arg, e, outcome, e == ERR_OK ? "" : o->failure.message);
	reading_free(r);
}

/* Copies; the parameter is set once nothing moves any more. */
static void add_text(struct reading *r, size_t i, struct str s)
{
	r->params[i] = (struct pg_param){(const void *)(uintptr_t)r->texts.len, s.len};
	buf_add_str(&r->texts, s);
	buf_add_char(&r->texts, '\0');
}

static enum err fill(struct reading *r, const struct tool_change *c)
{
	add_text(r, 0, c->id);
	add_text(r, 1, c->actor);
	add_text(r, 2, c->peer);
	add_text(r, 3, c->request_id);
	add_text(r, 5, c->definition);
	if (r->texts.err != ERR_OK)
		return r->texts.err;
	for (size_t i = 0; i < 6; i++)
		r->params[i].ptr = r->texts.ptr + (uintptr_t)r->params[i].ptr;
	for (size_t i = 0; i < 8; i++)
		r->expected[i] = (unsigned char)((uint64_t)c->expected >> (56 - 8 * i));
	r->params[4] = (struct pg_param){c->expected < 0 ? NULL : r->expected,
	                                 c->expected < 0 ? 0 : sizeof(r->expected)};
	r->calls[0] = (struct pg_call){c->definition.ptr ? &put_stmt : &delete_stmt, r->params};
	r->calls[1] = (struct pg_call){&read_stmt, r->known};
	return ERR_OK;
}

enum err tool_table_change(struct tool_table *t, const struct tool_change *c, tool_change_fn done,
                           void *arg)
{
	struct reading *r = reading_new(t);
	enum err e = r ? fill(r, c) : ERR_NOMEM;

	if (e == ERR_OK) {
		r->done = done;
		r->arg = arg;
		e = pg_submit(t->pool, r->calls, 2, 0, on_changed, r);
	}
	if (e != ERR_OK)
		reading_free(r);
	return e;
}

/* ---- life ---- */

enum err tool_table_new(const struct tool_table_options *o, struct tool_table **ret)
{
	struct tool_table *t = mem_zalloc(sizeof(*t));
	struct metric_family *reads;
	struct pg_options po;
	enum err e;

	if (!t)
		return ERR_NOMEM;
	t->o = *o;
	reads = metric_family(o->metrics,
	                      &(struct metric_spec){.type = METRIC_COUNTER,
	                                            .name = "webhook_tool_table_reads_total",
	                                            .help = "Readings of the table of tools.",
	                                            .labels = {"outcome"}});
	t->ok = metric_of(reads, "ok", NULL, NULL);
	t->failed = metric_of(reads, "failed", NULL, NULL);
	t->when =
	    metric_plain(o->metrics, METRIC_GAUGE, "webhook_tool_table_last_read_timestamp_seconds",
	                 "When the table of tools was last read.");
	connect_pg_options(o->conf, &po);
	po.size = 1;
	po.listen = CHANNEL;
	po.query_timeout = QUERY_TIMEOUT;
	po.max_waiting = MAX_WAITING;
	e = loop_timer_init(&t->timer, o->loop, on_timer, t);
	if (e == ERR_OK)
		e = pg_pool_new(o->loop, o->resolver, &po, &t->pool);
	if (e != ERR_OK) {
		tool_table_free(t);
		return e;
	}
	pg_pool_on_notify(t->pool, on_notify, t);
	*ret = t;
	return ERR_OK;
}

void tool_table_start(struct tool_table *t)
{
	pg_pool_start(t->pool);
	loop_timer_set(&t->timer, LOOK_PERIOD);
}

void tool_table_stats(const struct tool_table *t, struct pg_pool_stats *ret)
{
	pg_pool_stats(t->pool, ret);
}

void tool_table_free(struct tool_table *t)
{
	if (!t)
		return;
	pg_pool_free(t->pool);
	loop_timer_done(&t->timer);
	mem_free(t);
}
