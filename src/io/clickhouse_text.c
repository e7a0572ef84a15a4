/* The texts that go to ClickHouse and come back. Strings are escaped as literals, byte by byte,
 * because 18.16 knows no parameters: all but printable ASCII becomes \xHH, so that no escape rule
 * of any version matters but those of \\, \' and \x. */
#include <string.h>

#include "weir/io/clickhouse.h"

#define MAX_VALUES 16
#define MAX_ROW    ((size_t)1 << 20)

/* ---- to the server ---- */

void clickhouse_add_string(struct buf *b, struct str s)
{
	static const char hex[] = "0123456789abcdef";

	buf_add_char(b, '\'');
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c < 0x20 || c >= 0x7f || c == '\'' || c == '\\') {
			char escape[4] = {'\\', 'x', hex[c >> 4], hex[c & 15]};

			buf_add(b, escape, sizeof(escape));
		} else {
			buf_add_char(b, (char)c);
		}
	}
	buf_add_char(b, '\'');
}

void clickhouse_add_name(struct buf *b, struct str name)
{
	buf_add_char(b, '`');
	for (size_t i = 0; i < name.len; i++) {
		if (name.ptr[i] == '.')
			buf_add_cstr(b, "`.`");
		else
			buf_add_char(b, name.ptr[i]);
	}
	buf_add_char(b, '`');
}

/* ---- rows ---- */

void clickhouse_rows_init(struct clickhouse_rows *r, struct str text)
{
	r->rest = text;
	buf_init(&r->scratch, MAX_ROW);
}

void clickhouse_rows_done(struct clickhouse_rows *r)
{
	buf_done(&r->scratch);
}

/* The byte that an escape stands for; those without a meaning of their own are the byte. */
static char unescaped(char c)
{
	static const char names[] = "btnrf0a", bytes[] = "\b\t\n\r\f\0\a";
	const char *p = c ? strchr(names, c) : NULL;

	return p ? bytes[p - names] : c;
}

static enum err unescape(struct buf *out, struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if (c == '\\') {
			if (++i == s.len)
				return ERR_PROTO;
			c = unescaped(s.ptr[i]);
		}
		buf_add_char(out, c);
	}
	return out->err == ERR_TOOBIG ? ERR_PROTO : out->err;
}

enum err clickhouse_rows_next(struct clickhouse_rows *r, struct str *values, size_t n)
{
	size_t ends[MAX_VALUES] = {0}, at = 0;
	bool null[MAX_VALUES] = {false};
	const char *eol = r->rest.len ? memchr(r->rest.ptr, '\n', r->rest.len) : NULL;
	struct str line;

	if (r->rest.len == 0)
		return ERR_NOTFOUND;
	if (!eol || n > MAX_VALUES)
		return ERR_PROTO;
	line = str_n(r->rest.ptr, (size_t)(eol - r->rest.ptr));
	r->rest = str_n(eol + 1, r->rest.len - line.len - 1);
	buf_reset(&r->scratch);
	for (size_t i = 0; i < n; i++) {
		struct str value;
		enum err e;

		if (!line.ptr)
			return ERR_PROTO; /* too few */
		value = str_split(&line, '\t');
		null[i] = str_eq(value, STR("\\N"));
		e = null[i] ? ERR_OK : unescape(&r->scratch, value);
		if (e != ERR_OK)
			return e;
		ends[i] = r->scratch.len;
	}
	if (line.ptr)
		return ERR_PROTO; /* too many */
	/* Only now: the buffer may have moved. */
	for (size_t i = 0; i < n; at = ends[i++])
		values[i] = null[i]          ? STR_NONE
		            : r->scratch.ptr ? str_n(r->scratch.ptr + at, ends[i] - at)
		                             : STR("");
	return ERR_OK;
}

/* ---- errors ---- */

static int code_at(struct str line)
{
	int64_t code = 0;
	size_t n = 0;

	if (!str_starts(line, STR("Code: ")))
		return 0;
	line = str_n(line.ptr + 6, line.len - 6);
	while (n < line.len && n < 7 && line.ptr[n] >= '0' && line.ptr[n] <= '9')
		n++;
	return str_to_int(str_n(line.ptr, n), 1, 1000000, &code) == ERR_OK ? (int)code : 0;
}

int clickhouse_code(struct str text)
{
	while (text.len > 0) {
		int code = code_at(str_split(&text, '\n'));

		if (code)
			return code;
	}
	return 0;
}

int clickhouse_late_code(struct str rows)
{
	struct str line = rows;
	const char *before;

	while (line.len > 0 && line.ptr[line.len - 1] == '\n')
		line.len--;
	before = line.len ? memrchr(line.ptr, '\n', line.len) : NULL;
	if (before)
		line = str_n(before + 1, line.len - (size_t)(before + 1 - line.ptr));
	if (line.len == 0 || memchr(line.ptr, '\t', line.len))
		return 0;
	return code_at(line);
}
