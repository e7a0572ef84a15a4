/* A transaction in libpq's pipeline mode: Parse where a statement is new to the connection, then
 * Bind and Execute, for each call; one Sync behind them all. The server takes what stands before a
 * Sync as one implicit transaction and commits it there, so the Sync's answer decides: it is
 * committed exactly when PGRES_PIPELINE_SYNC comes without an error before it.
 *
 * Results come in order, a NULL behind those of each command; `call_at` and `parse_at` follow them.
 * A statement counts as prepared from the moment its Parse is sent, so that a second call of the
 * same transaction does not send it again, and no longer when the Parse fails. */
#include <string.h>

#include "pg_priv.h"
#include "weir/base/buf.h"
#include "weir/base/mem.h"

/* Connections hold few statements; one too many runs unprepared. */
#define MAX_KNOWN    256
#define LOCK_TIMEOUT (10 * USEC_PER_SEC)
#define OUT_FIRST    ((size_t)16 * 1024)

static bool knows(const struct pg_conn *c, const struct pg_stmt *s)
{
	for (size_t i = 0; i < c->known_count; i++)
		if (c->known[i] == s)
			return true;
	return false;
}

/* False: there is no room, run it unprepared. */
static bool learn(struct pg_conn *c, const struct pg_stmt *s)
{
	if (c->known_count == c->known_space) {
		size_t space = c->known_space ? c->known_space * 2 : 16;
		const struct pg_stmt **more;

		if (space > MAX_KNOWN)
			return false;
		more = mem_realloc(c->known, space * sizeof(*more));
		if (!more)
			return false;
		c->known = more;
		c->known_space = space;
	}
	c->known[c->known_count++] = s;
	return true;
}

static void unlearn(struct pg_conn *c, const struct pg_stmt *s)
{
	for (size_t i = 0; i < c->known_count; i++)
		if (c->known[i] == s)
			c->known[i--] = c->known[--c->known_count];
}

void pg_wire_forget(struct pg_conn *c)
{
	c->known_count = 0;
}

/* --- sending --- */

static bool send_call(struct pg_conn *c, const struct pg_call *call, bool *ret_parse)
{
	const struct pg_stmt *s = call->stmt;
	const char *values[PG_MAX_PARAMS];
	int lengths[PG_MAX_PARAMS], formats[PG_MAX_PARAMS];
	int n = (int)s->param_count;
	bool prepared = s->name && knows(c, s);

	for (int i = 0; i < n; i++) {
		values[i] = call->params[i].ptr;
		lengths[i] = (int)call->params[i].len;
		formats[i] = 1;
	}
	if (s->name && !prepared && learn(c, s)) {
		if (!PQsendPrepare(c->pg, s->name, s->sql, n, s->types))
			return false;
		*ret_parse = prepared = true;
	}
	if (prepared)
		return PQsendQueryPrepared(c->pg, s->name, n, values, lengths, formats, 1);
	return PQsendQueryParams(c->pg, s->sql, n, s->types, values, lengths, formats, 1);
}

void pg_wire_note_out(struct pg_conn *c, size_t bytes)
{
	mem_note_foreign((ptrdiff_t)bytes - (ptrdiff_t)c->out_bytes);
	c->out_bytes = bytes;
}

/* libpq doubles its output buffer until all of a pipeline fits, and keeps it. */
static void note_size(struct pg_conn *c, const struct pg_txn *t)
{
	size_t bytes = 0, space = OUT_FIRST;

	for (size_t i = 0; i < t->count; i++)
		for (size_t k = 0; k < t->calls[i].stmt->param_count; k++)
			bytes += t->calls[i].params[k].len;
	while (space < bytes)
		space *= 2;
	if (space > c->out_bytes)
		pg_wire_note_out(c, space);
}

bool pg_wire_send(struct pg_conn *c, struct pg_txn *t)
{
	bool sent = true;

	note_size(c, t);
	for (size_t i = 0; i < t->count && sent; i++)
		sent = send_call(c, &t->calls[i], &t->results[i].prepared_here);
	if (!sent || !PQpipelineSync(c->pg)) {
		pg_reason(c->reason, PQerrorMessage(c->pg));
		return false;
	}
	c->pool->transactions++;
	c->pool->statements += t->count;
	if (t->copied)
		t->copied(t->arg);
	return true;
}

static bool send_listen(struct pg_conn *c)
{
	struct buf sql;
	bool sent;

	if (!c->pool->listen)
		return true;
	buf_init(&sql, 128);
	sent = buf_addf(&sql, "LISTEN %s", c->pool->listen) == ERR_OK &&
	       PQsendQueryParams(c->pg, sql.ptr, 0, NULL, NULL, NULL, NULL, 0);
	buf_done(&sql);
	return sent;
}

/* What the promise and the statements rest on, whatever the role or the database is set to.
 * remote_apply is stricter than on, so it may stay. */
bool pg_wire_send_setup(struct pg_conn *c)
{
	static const char sql[] =
	    "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
	    " WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),"
	    " set_config('default_transaction_isolation', 'read committed', false),"
	    " set_config('TimeZone', 'UTC', false), set_config('jit', 'off', false),"
	    " set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false)";
	/* Slightly before our own deadline, so that its verdict still arrives. */
	usec_t limit = c->pool->query_timeout - c->pool->query_timeout / 20;
	const char *values[2] = {NULL, NULL};
	struct buf text[2];
	bool sent = false;

	for (size_t i = 0; i < 2; i++)
		buf_init(&text[i], 32);
	(void)buf_addf(&text[0], "%lldms", (long long)(limit / USEC_PER_MSEC));
	(void)buf_addf(&text[1], "%lldms", (long long)(LOCK_TIMEOUT / USEC_PER_MSEC));
	for (size_t i = 0; i < 2; i++)
		values[i] = text[i].ptr;
	if (text[0].err == ERR_OK && text[1].err == ERR_OK)
		sent = PQsendQueryParams(c->pg, sql, 2, NULL, values, NULL, NULL, 0) &&
		       send_listen(c) && PQpipelineSync(c->pg);
	for (size_t i = 0; i < 2; i++)
		buf_done(&text[i]);
	return sent;
}

/* --- receiving --- */

void pg_wire_expect(struct pg_conn *c)
{
	const struct pg_txn *t = c->txn;

	c->call_at = 0;
	c->parse_at = t->results[0].prepared_here;
	c->parsed_any = false;
	for (size_t i = 0; i < t->count; i++)
		c->parsed_any |= t->results[i].prepared_here;
}

static const char *field_of(const PGresult *r, int field)
{
	const char *s = PQresultErrorField(r, field);

	return s ? s : "";
}

/* Only the first error of a transaction says why; what follows are its consequences. */
static void take_error(struct pg_conn *c, PGresult *r)
{
	const char *state = field_of(r, PG_DIAG_SQLSTATE);
	struct pg_txn *t = c->txn;

	if (c->state == CONN_SETUP) {
		c->setup_failed = true;
		pg_reason(c->reason, PQresultErrorMessage(r));
	}
	if (c->parse_at && t && c->call_at < t->count)
		unlearn(c, t->calls[c->call_at].stmt);
	if (!t || t->failed) {
		PQclear(r);
		return;
	}
	t->failed = true;
	t->failed_res = r;
	memcpy(t->failure.sqlstate, state, strnlen(state, sizeof(t->failure.sqlstate) - 1));
	t->failure.message = field_of(r, PG_DIAG_MESSAGE_PRIMARY);
	if (!*t->failure.message)
		t->failure.message = PQresultErrorMessage(r); /* libpq's own, such as no memory */
	t->failure.constraint = field_of(r, PG_DIAG_CONSTRAINT_NAME);
	t->failure.call = c->call_at;
}

static void take_rows(struct pg_conn *c, PGresult *r)
{
	struct pg_txn *t = c->txn;

	if (!t || c->parse_at || c->call_at >= t->count || t->results[c->call_at].res)
		PQclear(r);
	else
		t->results[c->call_at].res = r;
}

/* A command was skipped because one before it failed. */
static void take_skipped(struct pg_conn *c, PGresult *r)
{
	struct pg_txn *t = c->txn;

	if (c->parse_at && t && c->call_at < t->count)
		unlearn(c, t->calls[c->call_at].stmt);
	PQclear(r);
}

/* A NULL came: the next result is the next command's. */
static void next_command(struct pg_conn *c)
{
	const struct pg_txn *t = c->txn;

	if (c->parse_at) {
		c->parse_at = false;
		return;
	}
	if (!t || c->call_at >= t->count)
		return;
	c->call_at++;
	c->parse_at = c->call_at < t->count && t->results[c->call_at].prepared_here;
}

static enum pg_wire take(struct pg_conn *c, PGresult *r)
{
	switch (PQresultStatus(r)) {
	case PGRES_COMMAND_OK:
	case PGRES_TUPLES_OK:
	case PGRES_EMPTY_QUERY:
		take_rows(c, r);
		return PG_WIRE_MORE;
	case PGRES_BAD_RESPONSE:
	case PGRES_NONFATAL_ERROR:
	case PGRES_FATAL_ERROR:
		take_error(c, r);
		return PG_WIRE_MORE;
	case PGRES_PIPELINE_ABORTED:
		take_skipped(c, r);
		return PG_WIRE_MORE;
	case PGRES_PIPELINE_SYNC:
		PQclear(r);
		return PG_WIRE_SYNC;
	case PGRES_COPY_OUT:
	case PGRES_COPY_IN:
	case PGRES_COPY_BOTH:
	case PGRES_SINGLE_TUPLE:
		break;
	}
	PQclear(r);
	pg_reason(c->reason, "the server sent a result that was not asked for");
	return PG_WIRE_LOST;
}

/* Takes what has arrived whole. Two NULLs in a row mean that nothing is left. */
static enum pg_wire take_all(struct pg_conn *c)
{
	bool ended = false;

	while (!PQisBusy(c->pg)) {
		PGresult *r = PQgetResult(c->pg);
		enum pg_wire w;

		if (!r && ended)
			return PG_WIRE_MORE;
		ended = !r;
		if (!r) {
			next_command(c);
			continue;
		}
		w = take(c, r);
		if (w != PG_WIRE_MORE)
			return w;
	}
	return PG_WIRE_MORE;
}

/* What they say is not looked at: who listens reads again what it is about. */
static void take_notifications(struct pg_conn *c)
{
	PGnotify *n;

	while ((n = PQnotifies(c->pg))) {
		PQfreemem(n);
		c->pool->notified = true;
		pg_pool_settle(c->pool);
	}
}

/* Also without new input: what a transaction behind another one is answered may have come along. */
enum pg_wire pg_wire_read(struct pg_conn *c)
{
	bool alive = PQconsumeInput(c->pg) == 1;
	enum pg_wire w = take_all(c);

	if (c->pool->listen)
		take_notifications(c);
	if (w == PG_WIRE_MORE && (!alive || PQstatus(c->pg) == CONNECTION_BAD)) {
		pg_reason(c->reason, PQerrorMessage(c->pg));
		return PG_WIRE_LOST;
	}
	return w;
}

enum err pg_wire_verdict(const struct pg_txn *t)
{
	if (!t->failed)
		return ERR_OK;
	return pg_err_of_sqlstate(t->failure.sqlstate, t->failure.constraint);
}
