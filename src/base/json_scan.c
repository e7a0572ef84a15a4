/* One pass over the bytes, no tree, no recursion, no allocation. Strings are where the bytes are,
 * so their plain stretches go 16 at a time with SSE2. Paths are followed by bit masks: each nesting
 * level knows which paths still match there, and a level that none does costs nothing but the
 * grammar check. */
#include "weir/base/json_scan.h"

#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "weir/base/mem.h"

#include "json_priv.h"

#define MAX_PATHS 32
#define MAX_STEPS 16
#define NO_INDEX  UINT32_MAX

struct step {
	struct str name; /* points into json_paths.text */
	uint32_t index;  /* the number, where the name is one */
};

struct json_paths {
	size_t n;
	uint32_t ends[MAX_STEPS + 1]; /* paths of so many steps, as bits */
	struct step steps[MAX_PATHS][MAX_STEPS];
	char *text; /* owned */
};

/* An open array or object. */
struct level {
	uint32_t alive; /* paths that go on below it */
	uint32_t picks; /* paths that end at it */
	uint32_t index; /* arrays: the element at hand */
	bool object;
};

struct scan {
	const uint8_t *p;
	const uint8_t *end;
	const struct json_paths *paths; /* may be NULL */
	struct json_pick *picks;
	uint32_t match; /* paths whose steps so far led to the value that comes next */
	unsigned depth;
	struct level levels[JSON_SCAN_DEPTH];
};

/* ---- paths ---- */

static uint32_t step_index(struct str name)
{
	uint64_t v = 0;

	if (name.len == 0 || name.len > 9)
		return NO_INDEX;
	for (size_t i = 0; i < name.len; i++) {
		if (name.ptr[i] < '0' || name.ptr[i] > '9')
			return NO_INDEX;
		v = v * 10 + (uint64_t)(name.ptr[i] - '0');
	}
	return (uint32_t)v;
}

static enum err compile_path(struct json_paths *p, size_t i, struct str path)
{
	size_t n = 0;

	while (path.ptr) {
		struct str name = str_split(&path, '.');

		if (name.len == 0 || n == MAX_STEPS)
			return ERR_INVAL;
		p->steps[i][n++] = (struct step){name, step_index(name)};
	}
	if (n == 0)
		return ERR_INVAL;
	p->ends[n] |= 1u << i;
	return ERR_OK;
}

enum err json_paths_new(const struct str *paths, size_t n, struct json_paths **ret)
{
	struct json_paths *p;
	enum err e = ERR_OK;
	size_t total = 0, at = 0;

	if (n > MAX_PATHS)
		return ERR_TOOBIG;
	for (size_t i = 0; i < n; i++)
		total += paths[i].len;
	p = mem_zalloc(sizeof(*p));
	if (!p)
		return ERR_NOMEM;
	p->n = n;
	p->text = mem_alloc(total + 1);
	if (!p->text)
		e = ERR_NOMEM;
	for (size_t i = 0; i < n && e == ERR_OK; i++) {
		if (paths[i].len)
			memcpy(p->text + at, paths[i].ptr, paths[i].len);
		e = compile_path(p, i, str_n(p->text + at, paths[i].len));
		at += paths[i].len;
	}
	if (e != ERR_OK) {
		json_paths_free(p);
		return e;
	}
	*ret = p;
	return ERR_OK;
}

void json_paths_free(struct json_paths *p)
{
	if (!p)
		return;
	mem_free(p->text);
	mem_free(p);
}

/* ---- grammar ---- */

static inline bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline void skip_blanks(struct scan *s)
{
	while (s->p < s->end && *s->p <= ' ' && is_blank(*s->p))
		s->p++;
}

/* To the next byte of a string that is not plain: quote, backslash, control or not ASCII. */
static inline const uint8_t *skip_plain(const uint8_t *p, const uint8_t *end)
{
#ifdef __SSE2__
	const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
	const __m128i blank = _mm_set1_epi8(' ');

	while (end - p >= 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
		/* Signed comparison: bytes from 0x80 are negative, so less than a blank too. */
		__m128i hit =
		    _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)),
		                 _mm_cmplt_epi8(v, blank));
		int bits = _mm_movemask_epi8(hit);

		if (bits)
			return p + __builtin_ctz((unsigned)bits);
		p += 16;
	}
#endif
	while (p < end && *p != '"' && *p != '\\' && *p >= ' ' && *p < 0x80)
		p++;
	return p;
}

/* Length of the well-formed UTF-8 sequence at p (RFC 3629), 0 when there is none. */
static size_t utf8_len(const uint8_t *p, const uint8_t *end)
{
	size_t left = (size_t)(end - p);
	uint8_t c = p[0], low = 0x80, high = 0xbf;

	if (c >= 0xc2 && c <= 0xdf)
		return left >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
	if (c >= 0xe0 && c <= 0xef) {
		if (c == 0xe0)
			low = 0xa0;
		else if (c == 0xed)
			high = 0x9f;
		return left >= 3 && p[1] >= low && p[1] <= high && (p[2] & 0xc0) == 0x80 ? 3 : 0;
	}
	if (c >= 0xf0 && c <= 0xf4) {
		if (c == 0xf0)
			low = 0x90;
		else if (c == 0xf4)
			high = 0x8f;
		return left >= 4 && p[1] >= low && p[1] <= high && (p[2] & 0xc0) == 0x80 &&
		               (p[3] & 0xc0) == 0x80
		           ? 4
		           : 0;
	}
	return 0;
}

static size_t escape_len(const uint8_t *p, const uint8_t *end)
{
	if (end - p < 2)
		return 0;
	switch (p[1]) {
	case '"':
	case '\\':
	case '/':
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't':
		return 2;
	case 'u':
		return json_hex4(p + 2, end) >= 0 ? 6 : 0;
	}
	return 0;
}

/* s->p stands behind the opening quote; afterwards behind the closing one. */
static enum err scan_string(struct scan *s)
{
	for (;;) {
		size_t n;

		s->p = skip_plain(s->p, s->end);
		if (s->p == s->end)
			return ERR_INVAL;
		if (*s->p == '"') {
			s->p++;
			return ERR_OK;
		}
		n = *s->p == '\\' ? escape_len(s->p, s->end) : utf8_len(s->p, s->end);
		if (n == 0)
			return ERR_INVAL;
		s->p += n;
	}
}

static bool scan_digits(struct scan *s)
{
	const uint8_t *from = s->p;

	while (s->p < s->end && json_is_digit(*s->p))
		s->p++;
	return s->p > from;
}

static enum err scan_number(struct scan *s)
{
	if (*s->p == '-')
		s->p++;
	if (s->p < s->end && *s->p == '0')
		s->p++;
	else if (!scan_digits(s))
		return ERR_INVAL;
	if (s->p < s->end && *s->p == '.') {
		s->p++;
		if (!scan_digits(s))
			return ERR_INVAL;
	}
	if (s->p < s->end && (*s->p | 0x20) == 'e') {
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		if (!scan_digits(s))
			return ERR_INVAL;
	}
	return ERR_OK;
}

static enum err scan_word(struct scan *s, const char *word, size_t len)
{
	if ((size_t)(s->end - s->p) < len || memcmp(s->p, word, len) != 0)
		return ERR_INVAL;
	s->p += len;
	return ERR_OK;
}

static enum err scan_scalar(struct scan *s, enum json_kind *ret_kind)
{
	switch (*s->p) {
	case '"':
		*ret_kind = JSON_KIND_STRING;
		s->p++;
		return scan_string(s);
	case 't':
		*ret_kind = JSON_KIND_BOOL;
		return scan_word(s, "true", 4);
	case 'f':
		*ret_kind = JSON_KIND_BOOL;
		return scan_word(s, "false", 5);
	case 'n':
		*ret_kind = JSON_KIND_NULL;
		return scan_word(s, "null", 4);
	}
	*ret_kind = JSON_KIND_NUMBER;
	return scan_number(s);
}

/* ---- picking ---- */

/* A member that repeats replaces what its namesake gave, also further down. */
static uint32_t clear_picks(struct scan *s, uint32_t match)
{
	for (uint32_t m = match; m; m &= m - 1)
		s->picks[__builtin_ctz(m)] = (struct json_pick){JSON_KIND_ABSENT, STR_NONE};
	return match;
}

static uint32_t match_key(struct scan *s, uint32_t alive, const uint8_t *raw, size_t len)
{
	uint32_t match = 0;

	for (uint32_t m = alive; m; m &= m - 1) {
		unsigned i = (unsigned)__builtin_ctz(m);

		if (json_key_equals(raw, len, s->paths->steps[i][s->depth - 1].name))
			match |= 1u << i;
	}
	return clear_picks(s, match);
}

static uint32_t match_index(const struct scan *s, const struct level *l)
{
	uint32_t match = 0;

	for (uint32_t m = l->alive; m; m &= m - 1) {
		unsigned i = (unsigned)__builtin_ctz(m);

		if (s->paths->steps[i][s->depth - 1].index == l->index)
			match |= 1u << i;
	}
	return match;
}

static void begin_picks(struct scan *s, uint32_t picks, enum json_kind kind, const uint8_t *from,
                        size_t len)
{
	for (uint32_t m = picks; m; m &= m - 1)
		s->picks[__builtin_ctz(m)] = (struct json_pick){kind, str_n(from, len)};
}

static void end_picks(struct scan *s, uint32_t picks)
{
	for (uint32_t m = picks; m; m &= m - 1) {
		struct str *raw = &s->picks[__builtin_ctz(m)].raw;

		raw->len = (size_t)((const char *)s->p - raw->ptr);
	}
}

/* ---- structure ---- */

/* Key, colon, and up to the member's value. */
static enum err scan_key(struct scan *s)
{
	const struct level *l = &s->levels[s->depth - 1];
	const uint8_t *from;
	enum err e;

	if (s->p == s->end || *s->p != '"')
		return ERR_INVAL;
	from = ++s->p;
	e = scan_string(s);
	if (e != ERR_OK)
		return e;
	s->match = l->alive ? match_key(s, l->alive, from, (size_t)(s->p - 1 - from)) : 0;
	skip_blanks(s);
	if (s->p == s->end || *s->p != ':')
		return ERR_INVAL;
	s->p++;
	skip_blanks(s);
	return ERR_OK;
}

static enum err open_container(struct scan *s)
{
	uint32_t picks = 0;
	struct level *l;
	bool object = *s->p == '{';

	if (s->depth == JSON_SCAN_DEPTH)
		return ERR_TOOBIG;
	if (s->match && s->depth <= MAX_STEPS)
		picks = s->match & s->paths->ends[s->depth];
	if (picks)
		begin_picks(s, picks, object ? JSON_KIND_OBJECT : JSON_KIND_ARRAY, s->p, 0);
	l = &s->levels[s->depth++];
	*l = (struct level){.alive = s->match & ~picks, .picks = picks, .object = object};
	s->p++;
	skip_blanks(s);
	return ERR_OK;
}

static void close_container(struct scan *s)
{
	s->p++;
	s->depth--;
	if (s->levels[s->depth].picks)
		end_picks(s, s->levels[s->depth].picks);
}

/* Moves into the container at hand: to its first value, or behind it when it is empty. */
static enum err enter(struct scan *s, bool *ret_value_next)
{
	struct level *l = &s->levels[s->depth - 1];

	*ret_value_next = false;
	if (s->p == s->end)
		return ERR_INVAL;
	if (*s->p == (l->object ? '}' : ']')) {
		close_container(s);
		return ERR_OK;
	}
	*ret_value_next = true;
	if (l->object)
		return scan_key(s);
	s->match = l->alive ? match_index(s, l) : 0;
	return ERR_OK;
}

/* Behind a value: closes what ends here, to the next value or to the end of the outermost. */
static enum err leave(struct scan *s, bool *ret_value_next)
{
	while (s->depth > 0) {
		struct level *l = &s->levels[s->depth - 1];

		skip_blanks(s);
		if (s->p == s->end)
			return ERR_INVAL;
		if (*s->p == (l->object ? '}' : ']')) {
			close_container(s);
			continue;
		}
		if (*s->p != ',')
			return ERR_INVAL;
		s->p++;
		skip_blanks(s);
		*ret_value_next = true;
		if (l->object)
			return scan_key(s);
		l->index++;
		s->match = l->alive ? match_index(s, l) : 0;
		return ERR_OK;
	}
	*ret_value_next = false;
	return ERR_OK;
}

static enum err scan_leaf(struct scan *s)
{
	const uint8_t *from = s->p;
	enum json_kind kind;
	uint32_t picks = 0;
	enum err e = scan_scalar(s, &kind);

	if (e != ERR_OK)
		return e;
	if (s->match && s->depth <= MAX_STEPS)
		picks = s->match & s->paths->ends[s->depth];
	if (picks)
		begin_picks(s, picks, kind, from, (size_t)(s->p - from));
	return ERR_OK;
}

/* One value with all that is in it; s->p stands on its first byte, then behind its last. */
static enum err scan_value(struct scan *s)
{
	for (;;) {
		bool value_next = false;
		enum err e;

		if (s->p == s->end)
			return ERR_INVAL;
		if (*s->p == '{' || *s->p == '[') {
			e = open_container(s);
			if (e == ERR_OK)
				e = enter(s, &value_next);
		} else {
			e = scan_leaf(s);
		}
		if (e == ERR_OK && !value_next)
			e = leave(s, &value_next);
		if (e != ERR_OK || !value_next)
			return e;
	}
}

static void scan_begin(struct scan *s, struct str text, const struct json_paths *paths,
                       struct json_pick *picks)
{
	s->p = (const uint8_t *)text.ptr;
	s->end = s->p + text.len;
	s->paths = paths;
	s->picks = picks;
	s->depth = 0;
	s->match = 0;
	if (paths && paths->n)
		s->match =
		    clear_picks(s, paths->n == MAX_PATHS ? UINT32_MAX : (1u << paths->n) - 1);
}

enum err json_scan(struct str text, const struct json_paths *paths, struct json_pick *picks,
                   size_t *ret_offset)
{
	struct scan s;
	enum err e;

	if (text.len == 0)
		text.ptr = "";
	scan_begin(&s, text, paths, picks);
	skip_blanks(&s);
	e = scan_value(&s);
	if (e == ERR_OK) {
		skip_blanks(&s);
		if (s.p != s.end)
			e = ERR_INVAL;
	}
	if (e != ERR_OK && ret_offset)
		*ret_offset = (size_t)(s.p - (const uint8_t *)text.ptr);
	return e;
}

enum err json_each(struct str text, enum err (*each)(void *arg, struct str element), void *arg)
{
	struct scan s;

	scan_begin(&s, text, NULL, NULL);
	skip_blanks(&s);
	if (s.p == s.end || *s.p != '[')
		return ERR_INVAL;
	s.p++;
	skip_blanks(&s);
	if (s.p < s.end && *s.p == ']')
		return ERR_OK;
	for (;;) {
		const uint8_t *from = s.p;
		enum err e = scan_value(&s);

		if (e == ERR_OK)
			e = each(arg, str_n(from, (size_t)(s.p - from)));
		if (e != ERR_OK)
			return e;
		skip_blanks(&s);
		if (s.p == s.end || (*s.p != ',' && *s.p != ']'))
			return ERR_INVAL;
		if (*s.p++ == ']')
			return ERR_OK;
		skip_blanks(&s);
	}
}
