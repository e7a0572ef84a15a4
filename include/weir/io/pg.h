/* A pool of asynchronous libpq connections in pipeline mode. One submit is one implicit
 * transaction: its statements go out together with one Sync, and it is committed exactly when the
 * completion says ERR_OK. Statements are prepared on first use per connection. Parameters are
 * binary with explicit lengths. */
#ifndef WEIR_IO_PG_H
#define WEIR_IO_PG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct loop;
struct resolver;
struct pg_pool;
struct pg_result;

#define PG_MAX_PARAMS 24

/* Type oids that weir sends (pg_type.dat). */
enum pg_oid {
	PG_BOOL = 16,
	PG_BYTEA = 17,
	PG_INT8 = 20,
	PG_INT2 = 21,
	PG_INT4 = 23,
	PG_TEXT = 25,
	PG_JSON = 114,
	PG_TIMESTAMPTZ = 1184,
	PG_UUID = 2950,
	PG_JSON_ARRAY = 199,
	PG_BOOL_ARRAY = 1000,
	PG_BYTEA_ARRAY = 1001,
	PG_INT2_ARRAY = 1005,
	PG_INT4_ARRAY = 1007,
	PG_TEXT_ARRAY = 1009,
	PG_INT8_ARRAY = 1016,
	PG_TIMESTAMPTZ_ARRAY = 1185,
	PG_UUID_ARRAY = 2951,
};

/* Static and immutable; its address is its identity. `name` NULL: run unprepared. */
struct pg_stmt {
	const char *name;
	const char *sql;
	size_t param_count;
	uint32_t types[PG_MAX_PARAMS]; /* enum pg_oid */
};

struct pg_param {
	const void *ptr; /* NULL is SQL NULL */
	size_t len;
};

struct pg_call {
	const struct pg_stmt *stmt;
	const struct pg_param *params; /* binary; param_count of them */
};

/* Why a transaction failed. Strings are borrowed for the callback. */
struct pg_failure {
	char sqlstate[6]; /* "" when the failure is not the server's */
	const char *message;
	const char *constraint; /* "" when it names none */
	size_t call; /* index of the call that failed; the number of calls for the commit itself */
};

struct pg_outcome {
	const struct pg_result *const *results; /* one per call; on failure NULL */
	size_t count;
	struct pg_failure failure; /* of meaning unless ERR_OK */
};

/* err besides ERR_OK: pg_err_of_sqlstate() of the server's answer, ERR_CLOSED or ERR_TIMEOUT (sent,
 * outcome unknown), ERR_UNAVAILABLE (never sent: no connection before the deadline),
 * ERR_CANCELLED (pool stopped). Runs exactly once, from the loop. */
typedef void (*pg_done_fn)(void *arg, enum err err, const struct pg_outcome *outcome);

struct pg_options {
	const char *url;  /* a connection URI or "" */
	const char *host; /* the rest is of meaning only without url; "" means libpq's default */
	int64_t port;     /* 0: libpq's default */
	const char *dbname;
	const char *user;
	const char *password;
	const char *sslmode;
	const char *application_name;
	size_t size;            /* connections, made on demand and kept */
	usec_t connect_timeout; /* 0: 5 s */
	usec_t query_timeout;   /* 0: 30 s */
	size_t max_waiting;     /* 0: 1024 submits without a connection; past it ERR_FULL */
	const char *listen;     /* channel that every session listens on, a literal; NULL: none */
};

/* `res` may be NULL where no host is a name. ERR_INVAL: the URL is none, or it is of hosts,
 * addresses and ports that differ in number. */
/* Whether these options can be understood; reaches no server. */
enum err pg_options_check(const struct pg_options *o, struct err_info *info) MUST_CHECK;

enum err pg_pool_new(struct loop *l, struct resolver *res, const struct pg_options *opts,
                     struct pg_pool **ret) MUST_CHECK;
void pg_pool_start(struct pg_pool *p); /* opens one connection, reconnects with backoff */
/* Fails what is pending with ERR_CANCELLED; the completions come from the loop. */
void pg_pool_stop(struct pg_pool *p);
/* Stops; completions that have not run yet run inside it. Also from within a completion. */
void pg_pool_free(struct pg_pool *p);

/* `calls`, parameter arrays and values stay valid until the completion. `timeout` 0 takes the
 * pool's; it covers waiting for a connection too. Not ERR_OK: `cb` will not fire (ERR_FULL,
 * ERR_NOMEM, ERR_INVAL, ERR_TOOBIG, or ERR_CANCELLED while the pool is stopped).
 *
 * At the deadline the completion says ERR_TIMEOUT and the server is asked to cancel: libpq 15 has
 * no cancel that does not block, so it is pg_cancel_backend() over another connection of the pool,
 * and besides a statement_timeout slightly below the pool's query_timeout. A connection that is not
 * free 5 s later is dropped. */
enum err pg_submit(struct pg_pool *p, const struct pg_call *calls, size_t n, usec_t timeout,
                   pg_done_fn cb, void *arg) MUST_CHECK;

/* The same for transactions of a kind that come in numbers and take about as long as each other.
 * While all connections are at work, it may be sent behind another one of the kind, so that the
 * server finds it there when that one is committed: it need not wait for us between the two. What
 * becomes of the other one does not matter, unless the connection is lost: then the outcome of both
 * is unknown.
 *
 * `copied` (may be NULL) is called at most once, maybe from within this very call: the parameters'
 * values are copied and need not stay until the completion. It may not call anything here. */
enum err pg_submit_bulk(struct pg_pool *p, const struct pg_call *calls, size_t n, usec_t timeout,
                        void (*copied)(void *arg), pg_done_fn cb, void *arg) MUST_CHECK;

/* Connections that a submit would get at once (idle, or not opened yet while the server answers).
 */
size_t pg_pool_idle(const struct pg_pool *p);
/* Called from the loop when a connection became idle, or the pool came up or went down. */
void pg_pool_on_change(struct pg_pool *p, void (*fn)(void *arg), void *arg);
/* Of a pool with `listen`: called from the loop after notifications came (once for many), and after
 * each new session, for what was told while there was none was missed. */
void pg_pool_on_notify(struct pg_pool *p, void (*fn)(void *arg), void *arg);
bool pg_pool_up(const struct pg_pool *p); /* at least one connection stands */
/* Connections made so far. Where it grew, the server may be another one than before. */
uint64_t pg_pool_sessions(const struct pg_pool *p);

struct pg_pool_stats {
	size_t open, busy, waiting;
	uint64_t reconnects;
	uint64_t transactions, statements; /* sent so far */
	const char *last_error;            /* "" when there was none */
	/* Why the last attempt to connect failed, where every server refused us: ERR_DENIED (user
	 * or password) or ERR_NOTFOUND (no such database). ERR_OK: for another reason, or it did
	 * not. */
	enum err refusal;
};
void pg_pool_stats(const struct pg_pool *p, struct pg_pool_stats *ret);

/* Results. Values are binary; NULL gives ptr NULL. */
size_t pg_rows(const struct pg_result *r);
size_t pg_affected(const struct pg_result *r);
struct str pg_value(const struct pg_result *r, size_t row, size_t col);
int64_t pg_int8(const struct pg_result *r, size_t row,
                size_t col); /* int4 or int8 column; 0 for NULL */

/* SQLSTATE to error: 22, 23 (but a 23514 that names no constraint: ERR_NOTABLE), 54: ERR_DATA;
 * 42P01, 3F000: ERR_NOTABLE; 28, 42501: ERR_DENIED; 57014: ERR_TIMEOUT; 53 but 53200:
 * ERR_FULL; 40, 55P03, 25006: ERR_AGAIN; 08, 57P, 53200 and whatever is not known: ERR_UNAVAILABLE;
 * 42 otherwise: ERR_BUG. */
enum err pg_err_of_sqlstate(const char *sqlstate, const char *constraint);

/* Binary array parameters, one array in a buffer. begin() empties the buffer; NULL and empty arrays
 * are fine; a failure stays in the buffer's `err`. */
struct buf;
void pg_array_begin(struct buf *b, uint32_t element_oid);    /* PG_TEXT, not PG_TEXT_ARRAY */
void pg_array_add(struct buf *b, const void *p, size_t len); /* p NULL: SQL NULL */
void pg_array_end(struct buf *b, size_t count);              /* patches the header */
/* The same for an array beside others that are unnested in the select list, where the shorter ones
 * are padded with NULLs: of NULLs alone it becomes an empty one, which costs nothing for each row.
 */
void pg_array_end_padded(struct buf *b, size_t count);
#define PG_EPOCH_USEC \
	INT64_C(946684800000000) /* 2000-01-01 in Unix µs: what timestamptz counts from */

#endif
