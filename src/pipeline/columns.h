/* Parameters of statements that take one array a column: unnest() of each gives the rows. */
#ifndef WEIR_PIPELINE_COLUMNS_H
#define WEIR_PIPELINE_COLUMNS_H

#include <stddef.h>
#include <stdint.h>

#include "weir/base/buf.h"
#include "weir/base/clock.h"
#include "weir/base/str.h"
#include "weir/io/pg.h"

/* Postgres takes parameters up to 1 GiB less one byte. */
#define COLUMN_MAX ((size_t)512 * 1024 * 1024)

/* What lists of X(name, element type, array type) become: types for columns_begin(), and those of
 * the statement's parameters. */
#define COLUMN_ELEMENT(name, element, array) element,
#define COLUMN_ARRAY(name, element, array)   array,

void columns_init(struct buf *columns, size_t n);
void columns_done(struct buf *columns, size_t n);
/* Empties them; `elements` are element types (PG_TEXT, not PG_TEXT_ARRAY). */
void columns_begin(struct buf *columns, const uint32_t *elements, size_t n);
/* The first failure of any append; ERR_OK: `params` point into the columns. */
enum err columns_end(struct buf *columns, struct pg_param *params, size_t n,
                     size_t rows) MUST_CHECK;
/* For statements that unnest them all in one select list, see pg_array_end_padded(). */
enum err columns_end_padded(struct buf *columns, struct pg_param *params, size_t n,
                            size_t rows) MUST_CHECK;
/* Gives memory back that only an unusually large batch needed. */
void columns_trim(struct buf *columns, size_t n);

void column_add_int64(struct buf *c, int64_t v);
void column_add_time(struct buf *c, usec_t wall);
void column_add_text(struct buf *c, struct str s);
void column_add_text_or_null(struct buf *c, struct str s); /* empty: NULL */

#endif
