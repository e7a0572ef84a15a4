/* Commands as RESP arrays of bulk strings, written by hand: hiredis's formatter would allocate and
 * copy once more. */
#include "redis_wire.h"

#include <string.h>

#define LINE_MAX_BYTES 23 /* '*' or '$', 20 digits, CR LF */

static char *put_line(char *p, char sign, size_t n)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	*p++ = sign;
	memcpy(p, digits + at, sizeof(digits) - at);
	p += sizeof(digits) - at;
	*p++ = '\r';
	*p++ = '\n';
	return p;
}

size_t redis_wire_size(const struct str *argv, size_t argc)
{
	size_t size = LINE_MAX_BYTES;

	for (size_t i = 0; i < argc; i++)
		size += LINE_MAX_BYTES + argv[i].len + 2;
	return size;
}

enum err redis_wire_add(struct buf *out, const struct str *argv, size_t argc)
{
	char *p;
	enum err e = buf_reserve(out, redis_wire_size(argv, argc));

	if (e != ERR_OK) {
		out->err = ERR_OK; /* what it holds is whole */
		return e;
	}
	p = put_line(out->ptr + out->len, '*', argc);
	for (size_t i = 0; i < argc; i++) {
		p = put_line(p, '$', argv[i].len);
		if (argv[i].len)
			memcpy(p, argv[i].ptr, argv[i].len);
		p += argv[i].len;
		*p++ = '\r';
		*p++ = '\n';
	}
	out->len = (size_t)(p - out->ptr);
	return ERR_OK;
}
