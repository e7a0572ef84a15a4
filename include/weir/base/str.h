/* Slices of bytes that somebody else owns, and checked parsing of what people write into settings.
 */
#ifndef WEIR_BASE_STR_H
#define WEIR_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"

struct str {
	const char *ptr; /* borrowed; not NUL-terminated; may be NULL when len is 0 */
	size_t len;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
#define STR_NONE     ((struct str){NULL, 0})
/* A numeric macro's value as it stands there, for texts that are made when compiling: a literal,
 * and the same as a slice. */
#define STR_LITERAL(macro) STR_QUOTED(macro)
#define STR_QUOTED(text)   #text
#define STR_NUMBER(macro)  STR(STR_LITERAL(macro))

static inline struct str str_of(const char *s)
{
	return (struct str){s, s ? strlen(s) : 0};
}

static inline struct str str_n(const void *p, size_t len)
{
	return (struct str){(const char *)p, len};
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool str_ieq(struct str a, struct str b); /* ASCII case is ignored */
bool str_starts(struct str s, struct str prefix);
struct str str_trim(struct str s); /* blanks and tabs at both ends */
/* Cuts `*rest` at the first `sep`: returns what stands before it, `*rest` keeps what stands behind
 * (ptr NULL when there is nothing more). */
struct str str_split(struct str *rest, char sep);

/* Takes the digits at the front of `*s` off. ERR_INVAL: there are none, or more than a uint64_t
 * holds; then neither is changed. */
enum err str_take_number(struct str *s, uint64_t *ret) MUST_CHECK;

/* Each writes *ret only on success and returns ERR_INVAL otherwise. The whole slice must match. */
enum err str_to_int(struct str s, int64_t min, int64_t max, int64_t *ret) MUST_CHECK;
enum err str_to_bool(struct str s, bool *ret) MUST_CHECK;     /* true/false/1/0/yes/no/on/off */
enum err str_to_double(struct str s, double *ret) MUST_CHECK; /* finite, no hex, locale-free */
/* "500ms", "30s", "5m", "24h", "7d", "250us"; a bare number is in `bare_unit` microseconds, or
 * refused if that is 0. */
enum err str_to_usec(struct str s, usec_t bare_unit, usec_t *ret) MUST_CHECK;
/* "512", "64KiB", "26MiB", "2GiB", also "64k", "26M", "2G" (all powers of 1024). */
enum err str_to_size(struct str s, uint64_t *ret) MUST_CHECK;

/* UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF). */
bool str_is_utf8(struct str s);
bool str_is_text(struct str s); /* and no NUL among it: what Postgres takes */
/* Printable ASCII that stands in a JSON string as it is: no quote and no backslash. */
bool str_is_json_plain(struct str s);
/* [A-Za-z_][A-Za-z0-9_]*, or several of them with dots between; at most 128 bytes. */
bool str_is_name(struct str s);
/* A token of RFC 9110, 5.6.2, as header names are; not empty. */
bool str_is_token(struct str s);

#endif
