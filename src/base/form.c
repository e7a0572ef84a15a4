/* A form is searched for each field anew: those who ask want two or three of a few. */
#include "weir/base/form.h"

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent and plus decoding. */
static enum err decode(struct str s, struct buf *out)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i] == '+' ? ' ' : s.ptr[i];

		if (c == '%') {
			if (s.len - i < 3 || hex_digit(s.ptr[i + 1]) < 0 ||
			    hex_digit(s.ptr[i + 2]) < 0)
				return ERR_INVAL;
			c = (char)(hex_digit(s.ptr[i + 1]) << 4 | hex_digit(s.ptr[i + 2]));
			i += 2;
		}
		if (buf_add_char(out, c) != ERR_OK)
			return ERR_NOMEM;
	}
	return ERR_OK;
}

enum err form_value(struct str form, struct str name, struct buf *b, struct str *ret)
{
	struct str found = STR_NONE;
	enum err e;

	while (form.ptr) {
		struct str value = str_split(&form, '&'), field = str_split(&value, '=');

		buf_reset(b);
		e = decode(field, b);
		if (e == ERR_NOMEM)
			return e;
		if (e != ERR_OK || !str_eq(buf_str(b), name))
			continue;
		if (found.ptr)
			return ERR_INVAL;
		found = value.ptr ? value : STR("");
	}
	if (!found.ptr)
		return ERR_NOTFOUND;
	buf_reset(b);
	e = decode(found, b);
	if (e != ERR_OK)
		return e;
	*ret = b->len ? buf_str(b) : STR("");
	return ERR_OK;
}
