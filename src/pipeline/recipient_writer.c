/* One element of each column for each report, its event's key and uid repeated: folding reports of
 * the same recipient is the database's, which knows which of them are fresh. Result values are
 * texts, as the counters' hash in Redis takes them. */
#include "weir/pipeline/recipient_writer.h"

#include "columns.h"
#include "weir/base/mem.h"
#include "weir/io/pg.h"
#include "weir/model/recipient.h"
#include "weir/pipeline/recipient_counters.h"

#define COLUMNS(X)                                  \
	X(KEY, PG_UUID, PG_UUID_ARRAY)              \
	X(UID, PG_UUID, PG_UUID_ARRAY)              \
	X(TOOL, PG_TEXT, PG_TEXT_ARRAY)             \
	X(MESSAGE_ID, PG_TEXT, PG_TEXT_ARRAY)       \
	X(ADDRESS, PG_TEXT, PG_TEXT_ARRAY)          \
	X(STATUS, PG_INT2, PG_INT2_ARRAY)           \
	X(SOFT, PG_BOOL, PG_BOOL_ARRAY)             \
	X(AT, PG_TIMESTAMPTZ, PG_TIMESTAMPTZ_ARRAY) \
	X(HINT, PG_INT8, PG_INT8_ARRAY)
#define COLUMN_ENUM(name, element, array) COLUMN_##name,
enum { COLUMNS(COLUMN_ENUM) COLUMN_COUNT };
static const uint32_t elements[] = {COLUMNS(COLUMN_ELEMENT)};

#define AS_TEXT(name) ", b." name "::text"
static const struct pg_stmt apply_stmt = {
    .name = "weir_apply_reports",
    .sql = "SELECT b.id, b.version::text, b.completed_now" MESSAGE_BATCH_FIELDS(
        AS_TEXT) " FROM weir.apply_reports($1, $2, $3, $4, $5, $6, $7, $8, $9) b",
    .param_count = COLUMN_COUNT,
    .types = {COLUMNS(COLUMN_ARRAY)},
};

struct recipient_writer {
	struct buf columns[COLUMN_COUNT];
	struct pg_param params[COLUMN_COUNT];
	struct pg_call call;
	size_t rows;
};

static void add_report(struct recipient_writer *w, const uint8_t *key, const struct event *e,
                       const struct recipient_report *r)
{
	struct buf *c = w->columns;
	const uint8_t status[2] = {0, (uint8_t)r->status}, soft = r->soft;

	pg_array_add(&c[COLUMN_KEY], key, EVENT_KEY_LEN);
	pg_array_add(&c[COLUMN_UID], e->view.uid.bytes, sizeof(e->view.uid.bytes));
	column_add_text(&c[COLUMN_TOOL], e->view.tool);
	column_add_text(&c[COLUMN_MESSAGE_ID], r->message_id);
	column_add_text(&c[COLUMN_ADDRESS], r->address);
	pg_array_add(&c[COLUMN_STATUS], status, sizeof(status));
	pg_array_add(&c[COLUMN_SOFT], &soft, sizeof(soft));
	column_add_time(&c[COLUMN_AT], r->at);
	if (r->recipient_id > 0)
		column_add_int64(&c[COLUMN_HINT], r->recipient_id);
	else
		pg_array_add(&c[COLUMN_HINT], NULL, 0);
	w->rows++;
}

void recipient_writer_begin(struct recipient_writer *w)
{
	w->rows = 0;
}

void recipient_writer_add(struct recipient_writer *w, const uint8_t key[EVENT_KEY_LEN],
                          const struct event *e)
{
	if (!e->reports)
		return;
	if (w->rows == 0)
		columns_begin(w->columns, elements, COLUMN_COUNT);
	for (size_t i = 0; i < e->reports->n; i++)
		add_report(w, key, e, &e->reports->list[i]);
}

enum err recipient_writer_end(struct recipient_writer *w, const struct pg_call **ret_call)
{
	enum err e = ERR_OK;

	*ret_call = NULL;
	if (w->rows == 0)
		return ERR_OK;
	e = columns_end(w->columns, w->params, COLUMN_COUNT, w->rows);
	if (e == ERR_OK)
		*ret_call = &w->call;
	return e;
}

void recipient_writer_reset(struct recipient_writer *w)
{
	columns_trim(w->columns, COLUMN_COUNT);
}

enum err recipient_writer_new(struct recipient_writer **ret)
{
	struct recipient_writer *w = mem_zalloc(sizeof(*w));

	if (!w)
		return ERR_NOMEM;
	columns_init(w->columns, COLUMN_COUNT);
	w->call = (struct pg_call){&apply_stmt, w->params};
	*ret = w;
	return ERR_OK;
}

void recipient_writer_free(struct recipient_writer *w)
{
	if (!w)
		return;
	columns_done(w->columns, COLUMN_COUNT);
	mem_free(w);
}
