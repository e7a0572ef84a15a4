/* What comes from ClickHouse and goes to it: answers of any bytes are read row by row, error codes
 * are looked for, and any string survives as a literal: read back by an unescaper of this file's
 * own, it is what it was, and no byte of it can end the literal. The first byte is the number of
 * values in a row. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weir/io/clickhouse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_rows(struct str text, size_t n)
{
	struct clickhouse_rows r;
	struct str values[16];
	size_t rows = 0;

	clickhouse_rows_init(&r, text);
	while (clickhouse_rows_next(&r, values, n) == ERR_OK) {
		size_t total = 0;

		for (size_t i = 0; i < n; i++) {
			if (values[i].len && (!values[i].ptr || values[i].len > text.len))
				abort();
			total += values[i].len;
			/* Every byte is readable. */
			for (size_t k = 0; k < values[i].len; k++)
				total += values[i].ptr[k] == 0 ? 0 : 0;
		}
		if (total > text.len || ++rows > text.len)
			abort();
	}
	clickhouse_rows_done(&r);
}

static int hex_of(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void check_literal(struct str s)
{
	struct buf b;
	size_t at = 1;

	buf_init(&b, s.len * 4 + 2);
	clickhouse_add_string(&b, s);
	if (b.err != ERR_OK || b.ptr[0] != '\'' || b.ptr[b.len - 1] != '\'')
		abort();
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)b.ptr[at++];

		if (c == '\'' || c < 0x20 || c >= 0x7f)
			abort();
		if (c == '\\') {
			if (b.ptr[at++] != 'x')
				abort();
			c = (unsigned char)(hex_of(b.ptr[at]) << 4 | hex_of(b.ptr[at + 1]));
			at += 2;
		}
		if (c != (unsigned char)s.ptr[i])
			abort();
	}
	if (at != b.len - 1)
		abort();
	buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text;

	if (size == 0)
		return 0;
	text = str_n(data + 1, size - 1);
	read_rows(text, 1 + data[0] % 16);
	if (clickhouse_code(text) < 0 || clickhouse_late_code(text) < 0)
		abort();
	check_literal(text);
	return 0;
}
