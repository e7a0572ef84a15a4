/* The statement joins its rows with what it claimed, so a body that another batch writes at the
 * same moment is written once; the look-up behind it, in the same transaction, says whose it is.
 * Keys are claimed in sorted order, as in batch_sql.c. */
#include "weir/pipeline/conflict_writer.h"

#include <stdlib.h>
#include <string.h>

#include "columns.h"
#include "weir/base/mem.h"

/* X(name, element type, array type): the statement's parameters, in order. */
#define CONFLICT_COLUMNS(X)                               \
	X(CONTENT_KEY, PG_UUID, PG_UUID_ARRAY)            \
	X(UID, PG_UUID, PG_UUID_ARRAY)                    \
	X(BODY_HASH, PG_INT8, PG_INT8_ARRAY)              \
	X(KEY, PG_UUID, PG_UUID_ARRAY)                    \
	X(TOOL, PG_TEXT, PG_TEXT_ARRAY)                   \
	X(TYPE, PG_TEXT, PG_TEXT_ARRAY)                   \
	X(ID, PG_TEXT, PG_TEXT_ARRAY)                     \
	X(ATTEMPTS, PG_INT8, PG_INT8_ARRAY)               \
	X(RECEIVED, PG_TIMESTAMPTZ, PG_TIMESTAMPTZ_ARRAY) \
	X(HEADERS, PG_JSON, PG_JSON_ARRAY)                \
	X(CONTENT_TYPE, PG_TEXT, PG_TEXT_ARRAY)           \
	X(BODY, PG_BYTEA, PG_BYTEA_ARRAY)                 \
	X(ENVELOPE, PG_BYTEA, PG_BYTEA_ARRAY)             \
	X(TRACEPARENT, PG_TEXT, PG_TEXT_ARRAY)            \
	X(FIRST, PG_TIMESTAMPTZ, PG_TIMESTAMPTZ_ARRAY)
#define CONFLICT_ENUM(name, element, array) CONFLICT_##name,
enum { CONFLICT_COLUMNS(CONFLICT_ENUM) CONFLICT_COUNT };
static const uint32_t elements[] = {CONFLICT_COLUMNS(COLUMN_ELEMENT)};

/* Shared with all writers, as in batch_sql.c. */
static const struct pg_stmt lock_stmt = {
    .name = "weir_lock_keys_for_conflicts",
    .sql = "SELECT pg_advisory_xact_lock_shared(2003134834, 1)",
};

#define HOLDER(table, of) "(SELECT o.uid FROM weir." table " o WHERE o.key = " of ")"
#define HELD(of)          HOLDER("event_keys_0", of) ", " HOLDER("event_keys_1", of)

static const struct pg_stmt write_stmt = {
    .name = "weir_bury_conflicts",
    .sql =
        "WITH fresh AS ("
        "INSERT INTO weir.event_keys (key, uid, body_hash, slot)"
        " SELECT k.key, k.uid, k.body_hash, k.slot FROM ("
        "SELECT unnest($1) AS key, unnest($2) AS uid, unnest($3) AS body_hash,"
        " (SELECT slot FROM weir.event_key_generation) AS slot) k"
        " WHERE coalesce(" HELD(
            "k.key") ") IS NULL ON CONFLICT DO NOTHING RETURNING uid)"
                     " INSERT INTO weir.dead_letters (uid, tool, event_type, event_id, stage, "
                     "error_class,"
                     " message, attempts, received_at, headers, content_type, body, envelope, "
                     "traceparent, first_at)"
                     " SELECT e.uid, e.tool, e.event_type, e.event_id, 'store', 'conflict',"
                     " 'this event is stored already, with another body'"
                     " || coalesce(', as ' || coalesce(" HELD(
                         "e.key") ")::text, ''), e.attempts,"
                                  " e.received_at, e.headers, e.content_type, e.body, e.envelope, "
                                  "e.traceparent, least(e.first_at, now()) FROM ("
                                  "SELECT unnest($2) AS uid, unnest($4) AS key, unnest($5) AS tool,"
                                  " unnest($6) AS event_type, unnest($7) AS event_id, unnest($8) "
                                  "AS attempts,"
                                  " unnest($9) AS received_at, unnest($10) AS headers, unnest($11) "
                                  "AS content_type,"
                                  " unnest($12) AS body, unnest($13) AS envelope, unnest($14) AS "
                                  "traceparent, unnest($15) AS first_at) e"
                                  " WHERE e.uid IN (SELECT uid FROM fresh) ON CONFLICT DO NOTHING",
    .param_count = CONFLICT_COUNT,
    .types = {CONFLICT_COLUMNS(COLUMN_ARRAY)},
};

/* One row for each event, in the array's order. */
static const struct pg_stmt holders_stmt = {
    .name = "weir_conflict_holders",
    .sql = "SELECT coalesce(" HELD("i.key") ") FROM (SELECT unnest($1) AS key) i",
    .param_count = 1,
    .types = {PG_UUID_ARRAY},
};

enum { CALL_LOCK, CALL_WRITE, CALL_HOLDERS, CALL_COUNT };

struct conflict_writer {
	struct buf columns[CONFLICT_COUNT];
	struct pg_param params[CONFLICT_COUNT];
	struct pg_call calls[CALL_COUNT];
};

static int compare_events(const void *pa, const void *pb)
{
	const struct event *const *a = pa, *const *b = pb;
	uint8_t ka[EVENT_KEY_LEN], kb[EVENT_KEY_LEN];
	int by_key;

	event_content_key(*a, ka);
	event_content_key(*b, kb);
	by_key = memcmp(ka, kb, sizeof(ka));
	return by_key ? by_key
	              : memcmp((*a)->view.uid.bytes, (*b)->view.uid.bytes,
	                       sizeof((*a)->view.uid.bytes));
}

static void add_event(struct buf *c, const struct event *e)
{
	const struct event_view *v = &e->view;
	uint8_t content_key[EVENT_KEY_LEN];

	event_content_key(e, content_key);
	pg_array_add(&c[CONFLICT_CONTENT_KEY], content_key, sizeof(content_key));
	pg_array_add(&c[CONFLICT_UID], v->uid.bytes, sizeof(v->uid.bytes));
	column_add_int64(&c[CONFLICT_BODY_HASH], (int64_t)e->body_hash);
	pg_array_add(&c[CONFLICT_KEY], e->key, sizeof(e->key));
	column_add_text(&c[CONFLICT_TOOL], v->tool);
	column_add_text(&c[CONFLICT_TYPE], v->type);
	column_add_text(&c[CONFLICT_ID], v->id);
	column_add_int64(&c[CONFLICT_ATTEMPTS], (int64_t)e->attempts + 1);
	column_add_time(&c[CONFLICT_RECEIVED], v->received);
	column_add_text_or_null(&c[CONFLICT_HEADERS], v->headers);
	column_add_text_or_null(&c[CONFLICT_CONTENT_TYPE], v->content_type);
	column_add_text(&c[CONFLICT_BODY], v->body);
	column_add_text_or_null(&c[CONFLICT_ENVELOPE], v->envelope);
	column_add_text_or_null(&c[CONFLICT_TRACEPARENT], v->traceparent);
	if (e->first_failed)
		column_add_time(&c[CONFLICT_FIRST], e->first_failed);
	else
		pg_array_add(&c[CONFLICT_FIRST], NULL, 0);
}

enum err conflict_writer_prepare(struct conflict_writer *w, struct event **events, size_t n)
{
	enum err e;

	qsort(events, n, sizeof(*events), compare_events);
	columns_begin(w->columns, elements, CONFLICT_COUNT);
	for (size_t i = 0; i < n; i++)
		add_event(w->columns, events[i]);
	e = columns_end(w->columns, w->params, CONFLICT_COUNT, n);
	if (e != ERR_OK)
		return e;
	w->calls[CALL_LOCK] = (struct pg_call){&lock_stmt, NULL};
	w->calls[CALL_WRITE] = (struct pg_call){&write_stmt, w->params};
	w->calls[CALL_HOLDERS] = (struct pg_call){&holders_stmt, &w->params[CONFLICT_CONTENT_KEY]};
	return ERR_OK;
}

const struct pg_call *conflict_writer_calls(const struct conflict_writer *w, size_t *ret_count)
{
	*ret_count = CALL_COUNT;
	return w->calls;
}

void conflict_writer_findings(const struct conflict_writer *w,
                              const struct pg_result *const *results, struct event *const *events,
                              size_t n, enum batch_finding *findings)
{
	const struct pg_result *r = results[CALL_HOLDERS];

	(void)w;
	for (size_t i = 0; i < n; i++) {
		const struct uuid *uid = &events[i]->view.uid;
		struct str holder = i < pg_rows(r) ? pg_value(r, i, 0) : STR_NONE;
		bool own = str_eq(holder, str_n((const char *)uid->bytes, sizeof(uid->bytes)));

		findings[i] = own ? FOUND_STORED : holder.len > 0 ? FOUND_DUPLICATE : FOUND_NOBODY;
	}
}

enum err conflict_writer_new(struct conflict_writer **ret)
{
	struct conflict_writer *w = mem_zalloc(sizeof(*w));

	if (!w)
		return ERR_NOMEM;
	columns_init(w->columns, CONFLICT_COUNT);
	*ret = w;
	return ERR_OK;
}

void conflict_writer_reset(struct conflict_writer *w)
{
	columns_trim(w->columns, CONFLICT_COUNT);
}

void conflict_writer_free(struct conflict_writer *w)
{
	if (!w)
		return;
	columns_done(w->columns, CONFLICT_COUNT);
	mem_free(w);
}
