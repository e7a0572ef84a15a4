/* Blocking, so that commands read from top to bottom. Shares with the pool how settings become
 * libpq's parameters; has no deadline but the connect timeout, for a migration may take long. */
#include "weir/io/pg_admin.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "pg_priv.h"
#include "weir/base/mem.h"
#include "weir/run/log.h"

#define CONNECT_TIMEOUT (5 * USEC_PER_SEC)

struct pg_admin {
	PGconn *pg; /* owned */
};

static void on_pg_notice(void *arg, const char *message)
{
	char text[PG_REASON_LEN];

	(void)arg;
	pg_reason(text, message);
	log_debug(LOG_PG, "notice", LOG_STR("text", text));
}

static usec_t connect_timeout(PGconn *pg)
{
	PQconninfoOption *all = PQconninfo(pg);
	int64_t seconds = 0;

	for (const PQconninfoOption *o = all; o && o->keyword; o++)
		if (strcmp(o->keyword, "connect_timeout") == 0 && o->val &&
		    str_to_int(str_of(o->val), 1, 3600, &seconds) != ERR_OK)
			seconds = 0;
	PQconninfoFree(all);
	return seconds ? seconds * USEC_PER_SEC : CONNECT_TIMEOUT;
}

/* Step by step, because only so can the messages be asked for with their SQLSTATE: words depend on
 * the server's language. False when the time ran out. */
static bool finish_connecting(PGconn *pg)
{
	usec_t end = clock_mono() + connect_timeout(pg);
	PostgresPollingStatusType s = PGRES_POLLING_WRITING;

	while (s == PGRES_POLLING_READING || s == PGRES_POLLING_WRITING) {
		struct pollfd p = {.fd = PQsocket(pg),
		                   .events = s == PGRES_POLLING_READING ? POLLIN : POLLOUT};
		usec_t left = end - clock_mono();
		int n = left > 0 ? poll(&p, 1, (int)(left / USEC_PER_MSEC) + 1) : 0;

		if (n == 0)
			return false;
		if (n > 0)
			s = PQconnectPoll(pg);
		else if (errno != EINTR)
			return true;
	}
	return true;
}

static enum err refused(PGconn *pg, struct err_info *info)
{
	char reason[PG_REASON_LEN];
	enum err e = pg_refusal(pg, reason);

	return err_set(info, e, "%s", e == ERR_NOMEM ? "out of memory" : reason);
}

static enum err connect_host(struct pg_admin *a, const struct pg_conninfo *ci,
                             const struct pg_host *h, struct err_info *info)
{
	struct pg_params params;

	pg_conninfo_params(ci, h, "", &params);
	PQfinish(a->pg);
	a->pg = PQconnectStartParams(params.keys, params.values, 0);
	if (!a->pg)
		return err_set(info, ERR_NOMEM, "out of memory");
	PQsetErrorVerbosity(a->pg, PQERRORS_VERBOSE);
	if (PQstatus(a->pg) != CONNECTION_BAD && !finish_connecting(a->pg))
		return err_set(info, ERR_UNAVAILABLE, "%s:%s does not answer in time",
		               *h->name ? h->name : h->addr, h->port);
	if (PQstatus(a->pg) != CONNECTION_OK)
		return refused(a->pg, info);
	PQsetErrorVerbosity(a->pg, PQERRORS_DEFAULT);
	PQsetNoticeProcessor(a->pg, on_pg_notice, NULL);
	return ERR_OK;
}

enum err pg_admin_open(const struct pg_options *o, struct pg_admin **ret, struct err_info *info)
{
	struct pg_conninfo ci;
	struct pg_admin *a;
	enum err err = pg_conninfo_init(&ci, o, info);

	if (err != ERR_OK)
		return err;
	a = mem_zalloc(sizeof(*a));
	err = a ? ERR_UNAVAILABLE : err_set(info, ERR_NOMEM, "out of memory");
	for (size_t i = 0; a && err != ERR_OK && i < ci.host_count; i++)
		err = connect_host(a, &ci, &ci.hosts[i], info);
	pg_conninfo_done(&ci);
	if (err != ERR_OK) {
		pg_admin_close(a);
		return err;
	}
	*ret = a;
	return ERR_OK;
}

void pg_admin_close(struct pg_admin *a)
{
	if (!a)
		return;
	PQfinish(a->pg);
	mem_free(a);
}

static const char *field_of(const PGresult *r, int field)
{
	const char *s = PQresultErrorField(r, field);

	return s ? s : "";
}

/* The line of `sql` that an error points at; 0 if it points at none. The position counts
 * characters, from 1. */
static int line_of(const char *sql, const char *position)
{
	int64_t at;
	int line = 1;

	if (str_to_int(str_of(position), 1, INT64_MAX, &at) != ERR_OK)
		return 0;
	for (; *sql && at > 1; sql++) {
		line += *sql == '\n';
		at -= ((unsigned char)sql[1] & 0xc0) != 0x80;
	}
	return line;
}

static enum err explain(const PGresult *r, const char *sql, struct err_info *info)
{
	const char *state = field_of(r, PG_DIAG_SQLSTATE),
	           *detail = field_of(r, PG_DIAG_MESSAGE_DETAIL);
	const char *hint = field_of(r, PG_DIAG_MESSAGE_HINT),
	           *context = field_of(r, PG_DIAG_CONTEXT);
	enum err err = pg_err_of_sqlstate(state, field_of(r, PG_DIAG_CONSTRAINT_NAME));
	int line = line_of(sql, field_of(r, PG_DIAG_STATEMENT_POSITION));
	struct buf b;

	buf_init(&b, 4096);
	if (line)
		(void)buf_addf(&b, "line %d: ", line);
	(void)buf_add_cstr(&b, field_of(r, PG_DIAG_MESSAGE_PRIMARY));
	if (*detail)
		(void)buf_addf(&b, "; %s", detail);
	if (*hint)
		(void)buf_addf(&b, "; %s", hint);
	if (!line && *context)
		(void)buf_addf(&b, "; in %.*s", (int)strcspn(context, "\n"), context);
	(void)err_set(info, err, "%s (SQLSTATE %s)", b.ptr ? b.ptr : "", state);
	buf_done(&b);
	return err;
}

static enum err judge(const struct pg_admin *a, const PGresult *r, const char *sql,
                      struct err_info *info)
{
	ExecStatusType status = PQresultStatus(r);
	char reason[PG_REASON_LEN];

	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY)
		return ERR_OK;
	if (PQstatus(a->pg) != CONNECTION_BAD && *field_of(r, PG_DIAG_SQLSTATE))
		return explain(r, sql, info);
	pg_reason(reason, PQerrorMessage(a->pg));
	return err_set(info, ERR_CLOSED, "%s", reason);
}

enum err pg_admin_exec(struct pg_admin *a, const char *sql, struct err_info *info)
{
	PGresult *r = PQexec(a->pg, sql);
	enum err err = judge(a, r, sql, info);

	PQclear(r);
	return err;
}

static enum err query(struct pg_admin *a, const char *sql, int n, const char *const *params,
                      struct buf *out, struct err_info *info)
{
	PGresult *r = PQexecParams(a->pg, sql, n, NULL, params, NULL, NULL, 0);
	enum err err = judge(a, r, sql, info);

	if (err == ERR_OK) {
		buf_reset(out);
		if (PQntuples(r) > 0 && PQnfields(r) > 0)
			err = buf_add(out, PQgetvalue(r, 0, 0), (size_t)PQgetlength(r, 0, 0));
		if (err != ERR_OK)
			(void)err_set(info, err, "the answer is too long to keep");
	}
	PQclear(r);
	return err;
}

enum err pg_admin_value(struct pg_admin *a, const char *sql, struct buf *out, struct err_info *info)
{
	return query(a, sql, 0, NULL, out, info);
}

enum err pg_admin_value1(struct pg_admin *a, const char *sql, const char *param, struct buf *out,
                         struct err_info *info)
{
	return query(a, sql, 1, &param, out, info);
}
