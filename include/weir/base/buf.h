/* Growable bytes with a cap that must be named. Nothing else in weir grows without a bound.
 * A buffer that met an error keeps it (`buf_err`), further appends do nothing: callers may append
 * many pieces and check once. */
#ifndef WEIR_BASE_BUF_H
#define WEIR_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"
#include "weir/base/str.h"

struct buf {
	char *ptr;    /* owned; NUL-terminated once anything was appended */
	size_t len;   /* bytes in use, without the NUL */
	size_t space; /* bytes allocated */
	size_t cap;   /* most bytes ever, without the NUL */
	enum err err; /* first failure: ERR_NOMEM or ERR_TOOBIG */
};

void buf_init(struct buf *b, size_t cap);
void buf_done(struct buf *b);  /* frees; may be used again after buf_init */
void buf_reset(struct buf *b); /* empties and clears the error, keeps the memory */

enum err buf_grow(struct buf *b, size_t extra); /* buf_reserve(), where there is no room yet */

/* Room for so many more bytes, and the NUL behind them. */
static inline enum err buf_reserve(struct buf *b, size_t extra)
{
	if (!b->err && b->space > b->len && extra < b->space - b->len)
		return ERR_OK;
	return buf_grow(b, extra);
}

enum err buf_add(struct buf *b, const void *p, size_t len);
enum err buf_add_str(struct buf *b, struct str s);
enum err buf_add_cstr(struct buf *b, const char *s);
enum err buf_add_char(struct buf *b, char c);
enum err buf_add_int(struct buf *b, int64_t v);
enum err buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
enum err buf_addv(struct buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
/* As a JSON string with its quotes. Bytes that are not UTF-8 are taken as Latin-1. */
enum err buf_add_json(struct buf *b, struct str s);
void buf_consume(struct buf *b, size_t n); /* drops n bytes at the front */

static inline struct str buf_str(const struct buf *b)
{
	return (struct str){b->ptr, b->len};
}

/* The caller owns the bytes now (mem_free); the buffer is empty. NULL when it failed. */
char *buf_take(struct buf *b, size_t *ret_len);

#endif
