/* One statement for all keys: their columns as arrays, an answer's row for each, in their order. */
#include "weir/base/buf.h"
#include "weir/base/list.h"
#include "weir/base/mem.h"
#include "weir/io/pg.h"
#include "weir/pipeline/recipient_lookup.h"

enum { TOOLS, MESSAGE_IDS, ADDRESSES, COLUMNS };

#define MAX_COLUMN ((size_t)64 << 20)

static const struct pg_stmt find_stmt = {
    .name = "weir_find_recipients",
    .sql = "SELECT r.id FROM unnest($1, $2, $3)"
           " WITH ORDINALITY AS k(tool, message_id, address, place)"
           " LEFT JOIN weir.recipients r ON r.tool = k.tool"
           " AND r.message_id = k.message_id AND r.address = k.address ORDER BY k.place",
    .param_count = COLUMNS,
    .types = {PG_TEXT_ARRAY, PG_TEXT_ARRAY, PG_TEXT_ARRAY},
};

struct lookup_pg {
	struct recipient_lookup base;
	struct pg_pool *pool; /* borrowed */
};

struct query {
	recipient_lookup_fn cb;
	void *arg;
	size_t n;
	int64_t *ids; /* owned */
	struct buf columns[COLUMNS];
	struct pg_param params[COLUMNS];
	struct pg_call call;
};

static void query_free(struct query *q)
{
	for (size_t i = 0; i < COLUMNS; i++)
		buf_done(&q->columns[i]);
	mem_free(q->ids);
	mem_free(q);
}

static void on_pg_done(void *arg, enum err err, const struct pg_outcome *outcome)
{
	struct query *q = arg;
	const char *text = err == ERR_OK ? "" : err_meaning(err);

	if (err == ERR_OK && pg_rows(outcome->results[0]) != q->n) {
		err = ERR_PROTO; /* no address is there twice: its key is unique */
		text = "an answer of another size";
	} else if (err == ERR_OK) {
		for (size_t i = 0; i < q->n; i++)
			q->ids[i] = pg_int8(outcome->results[0], i, 0);
	} else if (outcome && outcome->failure.message) {
		text = outcome->failure.message;
	}
	q->cb(q->arg, err, text, err == ERR_OK ? q->ids : NULL);
	query_free(q);
}

static enum err fill(struct query *q, const struct recipient_key *keys)
{
	for (size_t i = 0; i < COLUMNS; i++) {
		struct buf *b = &q->columns[i];

		buf_init(b, MAX_COLUMN);
		pg_array_begin(b, PG_TEXT);
		for (size_t k = 0; k < q->n; k++) {
			struct str s = i == TOOLS         ? keys[k].tool
			               : i == MESSAGE_IDS ? keys[k].message_id
			                                  : keys[k].address;

			pg_array_add(b, s.ptr ? s.ptr : "", s.len);
		}
		pg_array_end(b, q->n);
		if (b->err != ERR_OK)
			return b->err;
		q->params[i] = (struct pg_param){b->ptr, b->len};
	}
	q->call = (struct pg_call){&find_stmt, q->params};
	return ERR_OK;
}

static enum err find(struct recipient_lookup *l, const struct recipient_key *keys, size_t n,
                     usec_t timeout, recipient_lookup_fn cb, void *arg)
{
	struct query *q = mem_zalloc(sizeof(*q));
	enum err e = ERR_NOMEM;

	if (!q)
		return ERR_NOMEM;
	q->cb = cb;
	q->arg = arg;
	q->n = n;
	q->ids = mem_array(n, sizeof(*q->ids));
	if (q->ids)
		e = fill(q, keys);
	if (e == ERR_OK)
		e = pg_submit(container_of(l, struct lookup_pg, base)->pool, &q->call, 1, timeout,
		              on_pg_done, q);
	if (e != ERR_OK)
		query_free(q);
	return e;
}

static void lookup_free(struct recipient_lookup *l)
{
	mem_free(container_of(l, struct lookup_pg, base));
}

enum err recipient_lookup_pg_new(struct pg_pool *pool, struct recipient_lookup **ret)
{
	struct lookup_pg *l = mem_zalloc(sizeof(*l));

	if (!l)
		return ERR_NOMEM;
	l->base = (struct recipient_lookup){.name = "postgres", .find = find, .free = lookup_free};
	l->pool = pool;
	*ret = &l->base;
	return ERR_OK;
}
