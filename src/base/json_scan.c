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
	const uint8_t *end;
	const uint8_t *failed;          /* where it failed */
	enum err err;                   /* and with what */
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

/* What scans takes where it stands and returns where it stands then; NULL: it failed. (So the place
 * is in a register, and not written back at every step.) */
static const uint8_t *fail(struct scan *s, const uint8_t *at)
{
	s->failed = at;
	return NULL;
}

static inline bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline const uint8_t *skip_blanks(const uint8_t *p, const uint8_t *end)
{
	while (p < end && *p <= ' ' && is_blank(*p))
		p++;
	return p;
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

/* From behind the opening quote to behind the closing one. */
static inline const uint8_t *scan_string(struct scan *s, const uint8_t *p)
{
	for (;;) {
		size_t n;

		p = skip_plain(p, s->end);
		if (p == s->end)
			return fail(s, p);
		if (*p == '"')
			return p + 1;
		n = *p == '\\' ? escape_len(p, s->end) : utf8_len(p, s->end);
		if (n == 0)
			return fail(s, p);
		p += n;
	}
}

static const uint8_t *skip_digits(const uint8_t *p, const uint8_t *end)
{
	while (p < end && json_is_digit(*p))
		p++;
	return p;
}

/* At least one. */
static const uint8_t *scan_digits(struct scan *s, const uint8_t *p)
{
	const uint8_t *behind = skip_digits(p, s->end);

	return behind > p ? behind : fail(s, p);
}

static const uint8_t *scan_number(struct scan *s, const uint8_t *p)
{
	const uint8_t *end = s->end;

	if (*p == '-')
		p++;
	p = p < end && *p == '0' ? p + 1 : scan_digits(s, p);
	if (p && p < end && *p == '.')
		p = scan_digits(s, p + 1);
	if (p && p < end && (*p | 0x20) == 'e') {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		p = scan_digits(s, p);
	}
	return p;
}

static const uint8_t *scan_word(struct scan *s, const uint8_t *p, const char *word, size_t len)
{
	if ((size_t)(s->end - p) < len || memcmp(p, word, len) != 0)
		return fail(s, p);
	return p + len;
}

static const uint8_t *scan_scalar(struct scan *s, const uint8_t *p, enum json_kind *ret_kind)
{
	switch (*p) {
	case '"':
		*ret_kind = JSON_KIND_STRING;
		return scan_string(s, p + 1);
	case 't':
		*ret_kind = JSON_KIND_BOOL;
		return scan_word(s, p, "true", 4);
	case 'f':
		*ret_kind = JSON_KIND_BOOL;
		return scan_word(s, p, "false", 5);
	case 'n':
		*ret_kind = JSON_KIND_NULL;
		return scan_word(s, p, "null", 4);
	}
	*ret_kind = JSON_KIND_NUMBER;
	return scan_number(s, p);
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

static void end_picks(struct scan *s, uint32_t picks, const uint8_t *end)
{
	for (uint32_t m = picks; m; m &= m - 1) {
		struct str *raw = &s->picks[__builtin_ctz(m)].raw;

		raw->len = (size_t)((const char *)end - raw->ptr);
	}
}

/* ---- structure ---- */

/* Key, colon, and up to the member's value. */
static const uint8_t *scan_key(struct scan *s, const uint8_t *p)
{
	const struct level *l = &s->levels[s->depth - 1];
	const uint8_t *from;

	if (p == s->end || *p != '"')
		return fail(s, p);
	from = p + 1;
	p = scan_string(s, from);
	if (!p)
		return NULL;
	s->match = l->alive ? match_key(s, l->alive, from, (size_t)(p - 1 - from)) : 0;
	p = skip_blanks(p, s->end);
	if (p == s->end || *p != ':')
		return fail(s, p);
	return skip_blanks(p + 1, s->end);
}

static const uint8_t *open_container(struct scan *s, const uint8_t *p)
{
	uint32_t picks = 0;
	bool object = *p == '{';

	if (s->depth == JSON_SCAN_DEPTH) {
		s->err = ERR_TOOBIG;
		return fail(s, p);
	}
	if (s->match && s->depth <= MAX_STEPS)
		picks = s->match & s->paths->ends[s->depth];
	if (picks)
		begin_picks(s, picks, object ? JSON_KIND_OBJECT : JSON_KIND_ARRAY, p, 0);
	s->levels[s->depth++] =
	    (struct level){.alive = s->match & ~picks, .picks = picks, .object = object};
	return skip_blanks(p + 1, s->end);
}

static const uint8_t *close_container(struct scan *s, const uint8_t *p)
{
	p++;
	s->depth--;
	if (s->levels[s->depth].picks)
		end_picks(s, s->levels[s->depth].picks, p);
	return p;
}

/* Moves into the container at hand: to its first value, or behind it when it is empty. */
static const uint8_t *enter(struct scan *s, const uint8_t *p, bool *ret_value_next)
{
	struct level *l = &s->levels[s->depth - 1];

	if (p == s->end)
		return fail(s, p);
	if (*p == (l->object ? '}' : ']'))
		return close_container(s, p);
	*ret_value_next = true;
	if (l->object)
		return scan_key(s, p);
	s->match = l->alive ? match_index(s, l) : 0;
	return p;
}

/* Behind a value: closes what ends here, to the next value or to the end of the outermost. */
static const uint8_t *leave(struct scan *s, const uint8_t *p, bool *ret_value_next)
{
	while (s->depth > 0) {
		struct level *l = &s->levels[s->depth - 1];

		p = skip_blanks(p, s->end);
		if (p == s->end)
			return fail(s, p);
		if (*p == (l->object ? '}' : ']')) {
			p = close_container(s, p);
			continue;
		}
		if (*p != ',')
			return fail(s, p);
		p = skip_blanks(p + 1, s->end);
		*ret_value_next = true;
		if (l->object)
			return scan_key(s, p);
		l->index++;
		s->match = l->alive ? match_index(s, l) : 0;
		return p;
	}
	return p;
}

static const uint8_t *scan_leaf(struct scan *s, const uint8_t *p)
{
	const uint8_t *from = p;
	enum json_kind kind;
	uint32_t picks = 0;

	p = scan_scalar(s, p, &kind);
	if (p && s->match && s->depth <= MAX_STEPS)
		picks = s->match & s->paths->ends[s->depth];
	if (picks)
		begin_picks(s, picks, kind, from, (size_t)(p - from));
	return p;
}

/* One value with all that is in it: from its first byte to behind its last. */
static const uint8_t *scan_value(struct scan *s, const uint8_t *p)
{
	for (;;) {
		bool value_next = false;

		if (p == s->end)
			return fail(s, p);
		if (*p == '{' || *p == '[') {
			p = open_container(s, p);
			if (p)
				p = enter(s, p, &value_next);
		} else {
			p = scan_leaf(s, p);
		}
		if (p && !value_next)
			p = leave(s, p, &value_next);
		if (!p || !value_next)
			return p;
	}
}

/* Returns where the text's value begins. */
static const uint8_t *scan_begin(struct scan *s, struct str text, const struct json_paths *paths,
                                 struct json_pick *picks)
{
	const uint8_t *p = (const uint8_t *)(text.len ? text.ptr : "");

	s->end = p + text.len;
	s->failed = NULL;
	s->err = ERR_INVAL;
	s->paths = paths;
	s->picks = picks;
	s->depth = 0;
	s->match = 0;
	if (paths && paths->n)
		s->match =
		    clear_picks(s, paths->n == MAX_PATHS ? UINT32_MAX : (1u << paths->n) - 1);
	return skip_blanks(p, s->end);
}

enum err json_scan(struct str text, const struct json_paths *paths, struct json_pick *picks,
                   size_t *ret_offset)
{
	struct scan s;
	const uint8_t *p = scan_value(&s, scan_begin(&s, text, paths, picks));

	if (p) {
		p = skip_blanks(p, s.end);
		if (p == s.end)
			return ERR_OK;
		(void)fail(&s, p);
	}
	if (ret_offset)
		*ret_offset = text.len - (size_t)(s.end - s.failed);
	return s.err;
}

enum err json_each(struct str text, enum err (*each)(void *arg, struct str element), void *arg)
{
	struct scan s;
	const uint8_t *p = scan_begin(&s, text, NULL, NULL);

	if (p == s.end || *p != '[')
		return ERR_INVAL;
	p = skip_blanks(p + 1, s.end);
	if (p < s.end && *p == ']')
		return ERR_OK;
	for (;;) {
		const uint8_t *from = p;
		enum err e;

		p = scan_value(&s, p);
		if (!p)
			return s.err;
		e = each(arg, str_n(from, (size_t)(p - from)));
		if (e != ERR_OK)
			return e;
		p = skip_blanks(p, s.end);
		if (p == s.end || (*p != ',' && *p != ']'))
			return ERR_INVAL;
		if (*p++ == ']')
			return ERR_OK;
		p = skip_blanks(p, s.end);
	}
}
