/* Binary arrays as array_recv() reads them: dimensions, a flag for NULLs, the element type, then
 * per dimension its length and lower bound, then the elements, each behind its length. Parameters
 * in this form cost the server no parsing, which is what makes INSERT ... SELECT unnest() fast. */
#include <string.h>

#include "weir/base/buf.h"
#include "weir/io/pg.h"

enum {
	AT_HAS_NULL = 4,
	AT_COUNT = 12,
	HEADER_LEN = 20,
	NULL_LEN = -1,
};

static void put32(char *at, uint32_t v)
{
	at[0] = (char)(v >> 24);
	at[1] = (char)(v >> 16);
	at[2] = (char)(v >> 8);
	at[3] = (char)v;
}

void pg_array_begin(struct buf *b, uint32_t element_oid)
{
	char header[HEADER_LEN] = {0};

	put32(header, 1);
	put32(header + 8, element_oid);
	put32(header + 16, 1);
	buf_reset(b);
	(void)buf_add(b, header, sizeof(header)); /* a failure stays in the buffer */
}

void pg_array_add(struct buf *b, const void *p, size_t len)
{
	size_t bytes = p ? len : 0;
	char *at;

	if (len > INT32_MAX) {
		b->err = ERR_TOOBIG;
		return;
	}
	if (buf_reserve(b, sizeof(uint32_t) + bytes) != ERR_OK)
		return;
	at = b->ptr + b->len;
	put32(at, p ? (uint32_t)len : (uint32_t)NULL_LEN);
	if (bytes)
		memcpy(at + sizeof(uint32_t), p, bytes);
	if (!p)
		b->ptr[AT_HAS_NULL + 3] = 1;
	b->len += sizeof(uint32_t) + bytes;
	b->ptr[b->len] = '\0';
}

void pg_array_end(struct buf *b, size_t count)
{
	if (b->err == ERR_OK && count > INT32_MAX)
		b->err = ERR_TOOBIG;
	if (b->err == ERR_OK)
		put32(b->ptr + AT_COUNT, (uint32_t)count);
}

static bool only_nulls(const struct buf *b, size_t count)
{
	const char *lengths = b->ptr + HEADER_LEN;
	size_t bytes = count * sizeof(uint32_t);

	if (count == 0 || b->len != HEADER_LEN + bytes)
		return false;
	/* Of NULL_LEN, each byte the same. */
	return (unsigned char)*lengths == 0xff && memcmp(lengths, lengths + 1, bytes - 1) == 0;
}

void pg_array_end_padded(struct buf *b, size_t count)
{
	pg_array_end(b, count);
	if (b->err != ERR_OK || !only_nulls(b, count))
		return;
	put32(b->ptr, 0);
	put32(b->ptr + AT_HAS_NULL, 0);
	b->len = AT_COUNT;
}
