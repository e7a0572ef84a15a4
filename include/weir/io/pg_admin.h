/* A blocking Postgres connection for commands that run before or without a loop (migrate,
 * check-config --connect, waiting at start). Never used while the loop turns. */
#ifndef WEIR_IO_PG_ADMIN_H
#define WEIR_IO_PG_ADMIN_H

#include <stdbool.h>

#include "weir/base/buf.h"
#include "weir/base/err.h"

struct pg_options;
struct pg_admin;

/* ERR_INVAL: the options are no sense. ERR_DENIED: the server refuses this user or password.
 * ERR_NOTFOUND: it has no such database. ERR_UNAVAILABLE: no server answers, or it is not ready. */
enum err pg_admin_open(const struct pg_options *o, struct pg_admin **ret,
                       struct err_info *info) MUST_CHECK;
void pg_admin_close(struct pg_admin *a);
/* Runs one or several statements (simple protocol). */
enum err pg_admin_exec(struct pg_admin *a, const char *sql, struct err_info *info) MUST_CHECK;
/* Runs one query; the text of row 0, column 0 goes to `out` (empty when there is no row or NULL).
 */
enum err pg_admin_value(struct pg_admin *a, const char *sql, struct buf *out,
                        struct err_info *info) MUST_CHECK;
/* The same with one text parameter $1. */
enum err pg_admin_value1(struct pg_admin *a, const char *sql, const char *param, struct buf *out,
                         struct err_info *info) MUST_CHECK;

#endif
