/* A query selects by lists of literals, and its rows are matched with the keys here, because a row
 * may answer several keys, or a key several rows. A server refuses queries over 256 KiB, so a large
 * question becomes several, one after the other.
 *
 * Each row ends in a column of our own: were an answer cut, or an error's text put behind it, its
 * last row would lack that. */
#include <stdlib.h>
#include <string.h>

#include "weir/base/buf.h"
#include "weir/base/list.h"
#include "weir/base/mem.h"
#include "weir/io/clickhouse.h"
#include "weir/pipeline/recipient_lookup.h"
#include "weir/run/loop.h"

#define MAX_QUERY ((size_t)200 << 10) /* of literals; the server's limit is 256 KiB in all */
#define ROW_END   "."

enum { MESSAGE_ID, ADDRESS, TOOL, RECIPIENT_ID, END, VALUES };

struct lookup_clickhouse {
	struct recipient_lookup base;
	struct loop *loop; /* borrowed, as is db */
	struct clickhouse *db;
	struct recipient_columns columns;
	char *names; /* owned; what the columns point to */
};

/* A key in the order of message id and address. */
struct place {
	const struct recipient_key *key;
	size_t at; /* in the caller's order */
};

struct query {
	struct lookup_clickhouse *lookup; /* borrowed */
	recipient_lookup_fn cb;
	void *arg;
	usec_t deadline;
	size_t n, from, to;   /* all places; those that are being asked for */
	struct place *places; /* owned */
	int64_t *ids;         /* owned; -1: several */
	struct buf sql;
};

static int compare(struct str a, struct str b)
{
	size_t least = a.len < b.len ? a.len : b.len;
	int c = least ? memcmp(a.ptr, b.ptr, least) : 0;

	return c ? c : (a.len > b.len) - (a.len < b.len);
}

static int compare_places(const void *a, const void *b)
{
	const struct recipient_key *x = ((const struct place *)a)->key;
	const struct recipient_key *y = ((const struct place *)b)->key;
	int c = compare(x->message_id, y->message_id);

	return c ? c : compare(x->address, y->address);
}

/* ---- the query ---- */

/* " AND column IN ('a','b')" of the chunk's keys. */
static void add_list(struct query *q, const char *column, bool lower,
                     struct str (*value)(const struct recipient_key *k))
{
	struct str last = STR_NONE;

	buf_add_cstr(&q->sql, lower ? " AND lower(toString(" : " AND ");
	clickhouse_add_name(&q->sql, str_of(column));
	buf_add_cstr(&q->sql, lower ? ")) IN (" : " IN (");
	for (size_t i = q->from; i < q->to; i++) {
		struct str v = value(q->places[i].key);

		if (i > q->from && str_eq(v, last))
			continue;
		if (i > q->from)
			buf_add_char(&q->sql, ',');
		clickhouse_add_string(&q->sql, v);
		last = v;
	}
	buf_add_char(&q->sql, ')');
}

static struct str message_id_of(const struct recipient_key *k)
{
	return k->message_id;
}

static struct str address_of(const struct recipient_key *k)
{
	return k->address;
}

static struct str tool_of(const struct recipient_key *k)
{
	return k->tool;
}

static void add_value(struct buf *b, const char *column, bool lower)
{
	if (!*column) {
		buf_add_cstr(b, "''");
		return;
	}
	buf_add_cstr(b, lower ? "lower(toString(" : "toString(");
	clickhouse_add_name(b, str_of(column));
	buf_add_cstr(b, lower ? "))" : ")");
}

static void write_query(struct query *q)
{
	const struct recipient_columns *c = &q->lookup->columns;
	struct buf *b = &q->sql;

	buf_reset(b);
	buf_add_cstr(b, "SELECT DISTINCT ");
	add_value(b, c->message_id, false);
	buf_add_cstr(b, ", ");
	add_value(b, c->address, true);
	buf_add_cstr(b, ", ");
	add_value(b, c->tool, false);
	buf_add_cstr(b, ", ");
	add_value(b, c->recipient_id, false);
	buf_add_cstr(b, ", '" ROW_END "' FROM ");
	clickhouse_add_name(b, str_of(c->table));
	buf_add_cstr(b, " WHERE 1");
	add_list(q, c->message_id, false, message_id_of);
	if (*c->address)
		add_list(q, c->address, true, address_of);
	if (*c->tool)
		add_list(q, c->tool, false, tool_of);
	buf_add_cstr(b, " FORMAT TabSeparated");
}

/* As a literal, at most. */
static size_t weight(const struct recipient_key *k)
{
	return 4 * (k->message_id.len + k->address.len + k->tool.len) + 9;
}

static void choose_chunk(struct query *q)
{
	size_t bytes = 0;

	q->from = q->to;
	while (q->to < q->n) {
		bytes += weight(q->places[q->to].key);
		if (bytes > MAX_QUERY && q->to > q->from)
			return;
		q->to++;
	}
}

/* ---- the answer ---- */

/* The first place not before the row's values. */
static size_t lower_bound(const struct query *q, const struct recipient_key *row, bool by_address)
{
	size_t low = q->from, high = q->to;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct recipient_key *k = q->places[mid].key;
		int c = compare(k->message_id, row->message_id);

		if (c == 0 && by_address)
			c = compare(k->address, row->address);
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void note(struct query *q, const struct recipient_key *row, int64_t id)
{
	const struct recipient_columns *c = &q->lookup->columns;
	size_t i = lower_bound(q, row, *c->address);

	for (; i < q->to; i++) {
		const struct recipient_key *k = q->places[i].key;
		int64_t *to = &q->ids[q->places[i].at];

		if (!str_eq(k->message_id, row->message_id) ||
		    (*c->address && !str_eq(k->address, row->address)))
			return;
		if (*c->tool && !str_eq(k->tool, row->tool))
			continue;
		*to = *to == 0 || *to == id ? id : -1;
	}
}

static enum err read_rows(struct query *q, struct str text)
{
	struct clickhouse_rows rows;
	struct str v[VALUES];
	enum err e;

	clickhouse_rows_init(&rows, text);
	while ((e = clickhouse_rows_next(&rows, v, VALUES)) == ERR_OK) {
		struct recipient_key row = {
		    .tool = v[TOOL], .message_id = v[MESSAGE_ID], .address = v[ADDRESS]};
		int64_t id;

		if (!str_eq(v[END], STR(ROW_END))) {
			e = ERR_PROTO;
			break;
		}
		if (v[RECIPIENT_ID].ptr && str_to_int(v[RECIPIENT_ID], 1, INT64_MAX, &id) == ERR_OK)
			note(q, &row, id);
	}
	clickhouse_rows_done(&rows);
	return e == ERR_NOTFOUND ? ERR_OK : e;
}

/* ---- the course of it ---- */

static void query_free(struct query *q)
{
	buf_done(&q->sql);
	mem_free(q->places);
	mem_free(q->ids);
	mem_free(q);
}

static void finish(struct query *q, enum err err, const char *text)
{
	for (size_t i = 0; i < q->n; i++) {
		if (q->ids[i] < 0)
			q->ids[i] = 0;
	}
	q->cb(q->arg, err, text, err == ERR_OK ? q->ids : NULL);
	query_free(q);
}

static void on_answer(void *arg, enum err err, const struct clickhouse_answer *a);

static enum err ask(struct query *q)
{
	usec_t left = q->deadline - loop_now(q->lookup->loop);

	choose_chunk(q);
	write_query(q);
	if (q->sql.err != ERR_OK)
		return q->sql.err;
	if (left <= 0)
		return ERR_TIMEOUT;
	return clickhouse_submit(q->lookup->db, buf_str(&q->sql), left, on_answer, q);
}

static void on_answer(void *arg, enum err err, const struct clickhouse_answer *a)
{
	struct query *q = arg;
	const char *text = a->text;

	if (err == ERR_OK) {
		err = read_rows(q, a->rows);
		text = err == ERR_OK ? "" : "the answer's rows are not those that were asked for";
	}
	if (err == ERR_OK && q->to < q->n) {
		err = ask(q);
		if (err == ERR_OK)
			return;
		text = err_meaning(err);
	}
	finish(q, err, text);
}

static enum err find(struct recipient_lookup *l, const struct recipient_key *keys, size_t n,
                     usec_t timeout, recipient_lookup_fn cb, void *arg)
{
	struct lookup_clickhouse *c = container_of(l, struct lookup_clickhouse, base);
	struct query *q = mem_zalloc(sizeof(*q));
	enum err e = ERR_NOMEM;

	if (!q)
		return ERR_NOMEM;
	*q = (struct query){.lookup = c, .cb = cb, .arg = arg, .n = n};
	q->deadline = loop_now(c->loop) + timeout;
	q->places = mem_array(n, sizeof(*q->places));
	q->ids = mem_array(n, sizeof(*q->ids));
	buf_init(&q->sql, MAX_QUERY + (16 << 10));
	if (q->places && q->ids) {
		for (size_t i = 0; i < n; i++)
			q->places[i] = (struct place){&keys[i], i};
		qsort(q->places, n, sizeof(*q->places), compare_places);
		e = ask(q);
	}
	if (e != ERR_OK)
		query_free(q);
	return e;
}

static void lookup_free(struct recipient_lookup *l)
{
	struct lookup_clickhouse *c = container_of(l, struct lookup_clickhouse, base);

	mem_free(c->names);
	mem_free(c);
}

static enum err copy_columns(struct lookup_clickhouse *l, const struct recipient_columns *c)
{
	const char *from[] = {c->table, c->message_id, c->recipient_id, c->address, c->tool};
	const char **to[] = {&l->columns.table, &l->columns.message_id, &l->columns.recipient_id,
	                     &l->columns.address, &l->columns.tool};
	size_t n = sizeof(from) / sizeof(*from), bytes = 0;
	char *p;

	for (size_t i = 0; i < n; i++)
		bytes += strlen(from[i]) + 1;
	l->names = p = mem_alloc(bytes);
	for (size_t i = 0; p && i < n; i++) {
		memcpy(p, from[i], strlen(from[i]) + 1);
		*to[i] = p;
		p += strlen(p) + 1;
	}
	return l->names ? ERR_OK : ERR_NOMEM;
}

enum err recipient_lookup_clickhouse_new(struct loop *loop, struct clickhouse *db,
                                         const struct recipient_columns *c,
                                         struct recipient_lookup **ret)
{
	struct lookup_clickhouse *l = mem_zalloc(sizeof(*l));

	if (!l)
		return ERR_NOMEM;
	l->base =
	    (struct recipient_lookup){.name = "clickhouse", .find = find, .free = lookup_free};
	l->loop = loop;
	l->db = db;
	if (copy_columns(l, c) != ERR_OK) {
		mem_free(l);
		return ERR_NOMEM;
	}
	*ret = &l->base;
	return ERR_OK;
}
