/* Queries to ClickHouse over HTTP. Works with 18.16 and with current versions: queries go as text,
 * because 18.16 has no parameters; answers are TabSeparated; `wait_end_of_query=1` makes the server
 * hold the answer until it knows that the query went well. */
#ifndef WEIR_IO_CLICKHOUSE_H
#define WEIR_IO_CLICKHOUSE_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/buf.h"
#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct clickhouse;

struct loop;
struct resolver;

struct clickhouse_options {
	struct resolver *resolver; /* borrowed; NULL where the host is an address */
	/* http or https; USER:PASSWORD@ becomes headers, path and query (settings, database) stay
	 * as they are. Copied, like ca_file. */
	const char *url;
	const char *ca_file; /* NULL or "": the system's authorities */
	size_t max_queries;  /* at once; 0: 4 */
	size_t max_answer;   /* bytes; 0: 8 MiB */
};

/* Borrowed for the completion. */
struct clickhouse_answer {
	struct str rows;  /* on ERR_OK */
	int code;         /* the server's error code; 0: it gave none */
	const char *text; /* what is wrong; "" on ERR_OK */
};

/* As the HTTP client's errors, and by what the server says: ERR_NOTABLE (no such table, database or
 * column), ERR_DENIED, ERR_TIMEOUT, ERR_FULL (its own bounds), ERR_BUG (it does not understand the
 * query), ERR_UNAVAILABLE (anything else). Exactly once, from the loop. */
typedef void (*clickhouse_fn)(void *arg, enum err err, const struct clickhouse_answer *a);

/* Whether these options can be understood; reaches no server. The text shows no userinfo. */
enum err clickhouse_check(const struct clickhouse_options *o, struct err_info *info) MUST_CHECK;
enum err clickhouse_new(struct loop *l, const struct clickhouse_options *o, struct clickhouse **ret,
                        struct err_info *info) MUST_CHECK;
/* NULL is fine. What is pending is told ERR_CANCELLED before this returns. Not from within a
 * completion. */
void clickhouse_free(struct clickhouse *c);

/* `sql` is borrowed until the completion. `timeout` covers waiting for one of max_queries places.
 * ERR_FULL past 256 that wait; ERR_NOMEM, ERR_INVAL. */
enum err clickhouse_submit(struct clickhouse *c, struct str sql, usec_t timeout, clickhouse_fn cb,
                           void *arg) MUST_CHECK;

/* ---- texts; pure ---- */

/* As a string literal, whatever its bytes. */
void clickhouse_add_string(struct buf *b, struct str s);
/* A name or dotted name, each part in backquotes. The caller has checked it (str_is_name). */
void clickhouse_add_name(struct buf *b, struct str name);

/* Reads a TabSeparated answer row by row. */
struct clickhouse_rows {
	struct str rest;
	struct buf scratch; /* the present row's values without escapes */
};
void clickhouse_rows_init(struct clickhouse_rows *r, struct str text);
void clickhouse_rows_done(struct clickhouse_rows *r);
/* The next row of exactly n values (at most 16), valid until the next call; NULL has ptr NULL.
 * ERR_NOTFOUND at the end; ERR_PROTO: that is no such row, or its end is missing; ERR_NOMEM. */
enum err clickhouse_rows_next(struct clickhouse_rows *r, struct str *values, size_t n) MUST_CHECK;

/* The number in "Code: 60, …" or "Code: 60. …" where a line begins so; 0 when none does. */
int clickhouse_code(struct str text);
/* The same where a whole answer ends in such a line that cannot be a row: what a server writes that
 * failed after it had begun to answer. */
int clickhouse_late_code(struct str rows);

#endif
