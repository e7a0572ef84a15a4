/* The buffers are kept from batch to batch; what one huge batch needed is given back. */
#include "columns.h"

#include <endian.h>

/* A buffer that is larger is given back when a batch needs less than a quarter of it. */
#define KEEP_BYTES      ((size_t)256 * 1024)
#define KEEP_USED_BYTES ((size_t)2 * 1024 * 1024) /* where most of it was needed */

void columns_init(struct buf *columns, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_init(&columns[i], COLUMN_MAX);
}

void columns_done(struct buf *columns, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_done(&columns[i]);
}

void columns_begin(struct buf *columns, const uint32_t *elements, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		buf_reset(&columns[i]);
		pg_array_begin(&columns[i], elements[i]);
	}
}

static enum err end(struct buf *columns, struct pg_param *params, size_t n, size_t rows,
                    void (*end_one)(struct buf *b, size_t count))
{
	for (size_t i = 0; i < n; i++) {
		end_one(&columns[i], rows);
		if (columns[i].err != ERR_OK)
			return columns[i].err;
		params[i] = (struct pg_param){columns[i].ptr, columns[i].len};
	}
	return ERR_OK;
}

enum err columns_end(struct buf *columns, struct pg_param *params, size_t n, size_t rows)
{
	return end(columns, params, n, rows, pg_array_end);
}

enum err columns_end_padded(struct buf *columns, struct pg_param *params, size_t n, size_t rows)
{
	return end(columns, params, n, rows, pg_array_end_padded);
}

void columns_trim(struct buf *columns, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bool used = columns[i].len >= columns[i].space / 4;

		if (columns[i].space <= (used ? KEEP_USED_BYTES : KEEP_BYTES))
			continue;
		buf_done(&columns[i]);
		buf_init(&columns[i], COLUMN_MAX);
	}
}

void column_add_int64(struct buf *c, int64_t v)
{
	uint64_t be = htobe64((uint64_t)v);

	pg_array_add(c, &be, sizeof(be));
}

void column_add_time(struct buf *c, usec_t wall)
{
	column_add_int64(c, wall - PG_EPOCH_USEC);
}

void column_add_text(struct buf *c, struct str s)
{
	pg_array_add(c, s.len > 0 ? s.ptr : "", s.len);
}

void column_add_text_or_null(struct buf *c, struct str s)
{
	pg_array_add(c, s.len > 0 ? s.ptr : NULL, s.len);
}
