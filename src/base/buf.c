/* Growth doubles within the cap, so that a buffer costs few reallocations and never more than twice
 * its content. Every append goes through buf_reserve: it is the only place that can fail. */
#include "weir/base/buf.h"

#include <stdio.h>

#include "weir/base/mem.h"

#define BUF_FIRST_SPACE 64

void buf_init(struct buf *b, size_t cap)
{
	*b = (struct buf){.cap = cap};
}

void buf_done(struct buf *b)
{
	mem_free(b->ptr);
	*b = (struct buf){.cap = b->cap};
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->err = ERR_OK;
	if (b->ptr)
		b->ptr[0] = '\0';
}

static enum err fail(struct buf *b, enum err e)
{
	b->err = e;
	return e;
}

enum err buf_grow(struct buf *b, size_t extra)
{
	size_t most, space;
	char *grown;

	if (b->err)
		return b->err;
	most = b->cap < SIZE_MAX ? b->cap + 1 : SIZE_MAX;
	if (extra >= most - b->len)
		return fail(b, ERR_TOOBIG);
	space = b->space <= most / 2 ? b->space * 2 : most;
	if (space < b->len + extra + 1)
		space = b->len + extra + 1;
	if (space < BUF_FIRST_SPACE)
		space = BUF_FIRST_SPACE < most ? BUF_FIRST_SPACE : most;
	grown = mem_realloc(b->ptr, space);
	if (!grown)
		return fail(b, ERR_NOMEM);
	if (!b->ptr)
		grown[0] = '\0';
	b->ptr = grown;
	b->space = space;
	return ERR_OK;
}

/* After buf_reserve. */
static void put(struct buf *b, const void *p, size_t len)
{
	if (len)
		memcpy(b->ptr + b->len, p, len);
	b->len += len;
	b->ptr[b->len] = '\0';
}

enum err buf_add(struct buf *b, const void *p, size_t len)
{
	if (!buf_reserve(b, len))
		put(b, p, len);
	return b->err;
}

enum err buf_add_str(struct buf *b, struct str s)
{
	return buf_add(b, s.ptr, s.len);
}

enum err buf_add_cstr(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s));
}

enum err buf_add_char(struct buf *b, char c)
{
	return buf_add(b, &c, 1);
}

enum err buf_add_int(struct buf *b, int64_t v)
{
	char text[20];
	size_t at = sizeof(text);
	uint64_t rest = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

	do {
		text[--at] = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest);
	if (v < 0)
		text[--at] = '-';
	return buf_add(b, text + at, sizeof(text) - at);
}

enum err buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	enum err e;

	va_start(ap, fmt);
	e = buf_addv(b, fmt, ap);
	va_end(ap);
	return e;
}

enum err buf_addv(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	size_t room;
	int n;

	if (buf_reserve(b, 0))
		return b->err;
	va_copy(again, ap);
	room = b->space - b->len;
	n = vsnprintf(b->ptr + b->len, room, fmt, ap);
	if (n >= 0 && (size_t)n >= room) {
		b->ptr[b->len] = '\0';
		if (!buf_reserve(b, (size_t)n))
			n = vsnprintf(b->ptr + b->len, b->space - b->len, fmt, again);
	}
	va_end(again);
	if (n < 0 && !b->err)
		fail(b, ERR_INVAL);
	if (b->err)
		b->ptr[b->len] = '\0';
	else
		b->len += (size_t)n;
	return b->err;
}

static bool json_plain(unsigned char c, bool latin1)
{
	return c >= 0x20 && c != '"' && c != '\\' && (c < 0x80 || !latin1);
}

static enum err add_json_escape(struct buf *b, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	const char *at = c ? strchr(from, c) : NULL;

	if (c >= 0x80) {
		text[0] = (char)(0xc0 | c >> 6);
		text[1] = (char)(0x80 | (c & 0x3f));
		return buf_add(b, text, 2);
	}
	if (!at)
		return buf_add(b, text, 6);
	text[1] = to[at - from];
	return buf_add(b, text, 2);
}

static enum err add_json_escaped(struct buf *b, struct str s)
{
	bool latin1 = !str_is_utf8(s);
	size_t i = 0, from;

	while (i < s.len && !b->err) {
		for (from = i; i < s.len && json_plain((unsigned char)s.ptr[i], latin1); i++)
			;
		if (i > from)
			buf_add(b, s.ptr + from, i - from);
		if (i < s.len)
			add_json_escape(b, (unsigned char)s.ptr[i++]);
	}
	return b->err;
}

enum err buf_add_json(struct buf *b, struct str s)
{
	size_t quotes = 2;

	if (buf_reserve(b, s.len <= SIZE_MAX - quotes ? s.len + quotes : SIZE_MAX))
		return b->err;
	put(b, "\"", 1);
	if (str_is_json_plain(s))
		put(b, s.ptr, s.len);
	else
		add_json_escaped(b, s);
	return buf_add(b, "\"", 1);
}

void buf_consume(struct buf *b, size_t n)
{
	if (n > b->len)
		n = b->len;
	if (!n)
		return;
	b->len -= n;
	memmove(b->ptr, b->ptr + n, b->len + 1);
}

char *buf_take(struct buf *b, size_t *ret_len)
{
	char *p;

	if (buf_reserve(b, 0))
		return NULL;
	p = b->ptr;
	if (ret_len)
		*ret_len = b->len;
	*b = (struct buf){.cap = b->cap};
	return p;
}
