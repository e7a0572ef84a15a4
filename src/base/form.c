/* A form is searched for each field anew: those who ask want two or three of a few. Who wants all
 * of them has them read into one text, the views of which are set last, when nothing moves any
 * more.
 */
#include "weir/base/form.h"

#include <stdint.h>
#include <stdlib.h>

#include "weir/base/mem.h"

#define TEXT_MAX   ((size_t)1 << 30)
#define TEXT_KEPT  (64 * 1024) /* more is given back */
#define FIRST_ROOM 32

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

/* ---- all fields ---- */

void form_fields_done(struct form_fields *f)
{
	mem_free(f->list);
	buf_done(&f->text);
	*f = (struct form_fields){.n = 0};
}

static bool is_unreserved(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

/* What stands behind `from` in `b`, which was decoded, encoded in its place. */
static void encode_tail(struct buf *b, size_t from)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t more = 0, len = b->len;

	for (size_t i = from; i < len; i++)
		more += is_unreserved(b->ptr[i]) ? 0 : 2;
	if (more == 0 || buf_reserve(b, more) != ERR_OK)
		return;
	b->len += more;
	b->ptr[b->len] = '\0';
	for (size_t i = len, to = b->len; i > from; i--) {
		char c = b->ptr[i - 1];

		if (is_unreserved(c)) {
			b->ptr[--to] = c;
			continue;
		}
		b->ptr[--to] = digits[c & 15];
		b->ptr[--to] = digits[(unsigned char)c >> 4];
		b->ptr[--to] = '%';
	}
}

/* An offset in `text` for now. */
static enum err add_text(struct form_fields *f, struct str s, bool encoded, struct str *ret)
{
	size_t at = f->text.len;
	enum err e = decode(s, &f->text);

	if (e == ERR_OK && encoded)
		encode_tail(&f->text, at);
	if (e != ERR_OK || f->text.err)
		return e == ERR_INVAL ? e : ERR_NOMEM;
	*ret = (struct str){(const char *)(uintptr_t)at, f->text.len - at};
	return ERR_OK;
}

static enum err add_field(struct form_fields *f, struct str name, struct str value, bool encoded)
{
	size_t space = f->space ? 2 * f->space : FIRST_ROOM;
	enum err e;

	if (f->n == FORM_MAX_FIELDS)
		return ERR_TOOBIG;
	if (f->n == f->space) {
		struct form_field *grown = mem_realloc(f->list, space * sizeof(*grown));

		if (!grown)
			return ERR_NOMEM;
		f->list = grown;
		f->space = space;
	}
	e = add_text(f, name, encoded, &f->list[f->n].name);
	if (e == ERR_OK)
		e = add_text(f, value, encoded, &f->list[f->n].value);
	f->n += e == ERR_OK;
	return e;
}

static int compare_texts(struct str a, struct str b)
{
	size_t least = a.len < b.len ? a.len : b.len;
	int order = least ? memcmp(a.ptr, b.ptr, least) : 0;

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_fields(const void *a, const void *b)
{
	const struct form_field *x = a, *y = b;
	int order = compare_texts(x->name, y->name);

	return order ? order : compare_texts(x->value, y->value);
}

static void sort_once(struct form_fields *f)
{
	size_t kept = 0;

	for (size_t i = 0; i < f->n; i++) {
		f->list[i].name.ptr = f->text.ptr + (uintptr_t)f->list[i].name.ptr;
		f->list[i].value.ptr = f->text.ptr + (uintptr_t)f->list[i].value.ptr;
	}
	if (f->n > 1)
		qsort(f->list, f->n, sizeof(*f->list), compare_fields);
	for (size_t i = 0; i < f->n; i++)
		if (i == 0 || compare_fields(&f->list[kept - 1], &f->list[i]) != 0)
			f->list[kept++] = f->list[i];
	f->n = kept;
}

enum err form_fields_read(struct form_fields *f, struct str form, bool encoded)
{
	enum err e = ERR_OK;

	if (f->text.space > TEXT_KEPT || !f->text.ptr) {
		buf_done(&f->text);
		buf_init(&f->text, TEXT_MAX);
	}
	buf_reset(&f->text);
	f->n = 0;
	buf_reserve(&f->text, 1); /* it is never NULL */
	while (form.ptr && e == ERR_OK) {
		struct str value = str_split(&form, '&'), name = str_split(&value, '=');

		if (name.len || value.ptr)
			e = add_field(f, name, value, encoded);
	}
	if (e == ERR_OK && f->text.err)
		e = ERR_NOMEM;
	if (e == ERR_OK)
		sort_once(f);
	else
		f->n = 0;
	return e;
}
