/* Parsers for what people write. They work on slices, know no locale, look at every byte, and
 * refuse whatever does not fit the target type: a setting is either meant or wrong. */
#include "weir/base/str.h"

#include <endian.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool str_ieq(struct str a, struct str b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++) {
		if (lower(a.ptr[i]) != lower(b.ptr[i]))
			return false;
	}
	return true;
}

bool str_starts(struct str s, struct str prefix)
{
	return s.len >= prefix.len && str_eq(str_n(s.ptr, prefix.len), prefix);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

struct str str_trim(struct str s)
{
	while (s.len && is_blank(s.ptr[0])) {
		s.ptr++;
		s.len--;
	}
	while (s.len && is_blank(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

struct str str_split(struct str *rest, char sep)
{
	const char *at = rest->len ? memchr(rest->ptr, sep, rest->len) : NULL;
	struct str head = *rest;

	if (!at) {
		*rest = STR_NONE;
		return head;
	}
	head.len = (size_t)(at - head.ptr);
	rest->ptr = at + 1;
	rest->len -= head.len + 1;
	return head;
}

#define SAFE_DIGITS 19 /* never more than a uint64_t holds */

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Eight digits, of which the first is the lowest byte: their values first, then pairs of digits,
 * pairs of pairs, and the two halves. */
static bool eight_digits(const char *p, uint64_t *ret)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	v = le64toh(v) ^ EACH('0');
	/* A byte above 9 becomes one of 16 or more. */
	if (((v | (v + EACH(0x06))) & EACH(0xf0)) != 0)
		return false;
	v = (v * 10 + (v >> 8)) & UINT64_C(0x00ff00ff00ff00ff);
	v = (v * 100 + (v >> 16)) & UINT64_C(0x0000ffff0000ffff);
	*ret = (v * 10000 + (v >> 32)) & UINT32_MAX;
	return true;
}

enum err str_take_number(struct str *s, uint64_t *ret)
{
	size_t i = 0, safe = s->len < SAFE_DIGITS ? s->len : SAFE_DIGITS;
	uint64_t value = 0, eight;

	for (; safe - i >= 8 && eight_digits(s->ptr + i, &eight); i += 8)
		value = value * 100000000 + eight;
	for (; i < safe && is_digit(s->ptr[i]); i++)
		value = value * 10 + (uint64_t)(s->ptr[i] - '0');
	for (; i < s->len && is_digit(s->ptr[i]); i++) {
		if (__builtin_mul_overflow(value, 10u, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(s->ptr[i] - '0'), &value))
			return ERR_INVAL;
	}
	if (i == 0)
		return ERR_INVAL;
	*s = str_n(s->ptr + i, s->len - i);
	*ret = value;
	return ERR_OK;
}

enum err str_to_int(struct str s, int64_t min, int64_t max, int64_t *ret)
{
	bool negative = s.len && s.ptr[0] == '-';
	uint64_t magnitude;
	int64_t value;

	if (negative) {
		s.ptr++;
		s.len--;
	}
	if (str_take_number(&s, &magnitude) || s.len)
		return ERR_INVAL;
	if (magnitude > (uint64_t)INT64_MAX + negative)
		return ERR_INVAL;
	value = (int64_t)(negative ? 0 - magnitude : magnitude);
	if (value < min || value > max)
		return ERR_INVAL;
	*ret = value;
	return ERR_OK;
}

enum err str_to_bool(struct str s, bool *ret)
{
	static const struct {
		struct str word;
		bool value;
	} words[] = {
	    {{"true", 4}, true}, {{"false", 5}, false}, {{"1", 1}, true},  {{"0", 1}, false},
	    {{"yes", 3}, true},  {{"no", 2}, false},    {{"on", 2}, true}, {{"off", 3}, false},
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (str_ieq(s, words[i].word)) {
			*ret = words[i].value;
			return ERR_OK;
		}
	}
	return ERR_INVAL;
}

static size_t skip_digits(struct str s, size_t *i)
{
	size_t from = *i;

	while (*i < s.len && is_digit(s.ptr[*i]))
		(*i)++;
	return *i - from;
}

static bool is_sign(struct str s, size_t i)
{
	return i < s.len && (s.ptr[i] == '+' || s.ptr[i] == '-');
}

static bool is_decimal(struct str s)
{
	size_t i = is_sign(s, 0);
	size_t digits = skip_digits(s, &i);

	if (i < s.len && s.ptr[i] == '.') {
		i++;
		digits += skip_digits(s, &i);
	}
	if (!digits)
		return false;
	if (i < s.len && lower(s.ptr[i]) == 'e') {
		i++;
		i += is_sign(s, i);
		if (!skip_digits(s, &i))
			return false;
	}
	return i == s.len;
}

enum err str_to_double(struct str s, double *ret)
{
	static locale_t c_locale;
	char text[128];
	double value;

	if (s.len >= sizeof(text) || !is_decimal(s))
		return ERR_INVAL;
	if (!c_locale && !(c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0)))
		return ERR_INVAL;
	memcpy(text, s.ptr, s.len);
	text[s.len] = '\0';
	value = strtod_l(text, NULL, c_locale);
	if (!isfinite(value))
		return ERR_INVAL;
	*ret = value;
	return ERR_OK;
}

struct unit {
	struct str name;
	uint64_t factor;
};

/* A number and one of `units` behind it, as a product of at most `max`. */
static enum err number_with_unit(struct str s, const struct unit *units, size_t n, uint64_t max,
                                 uint64_t *ret)
{
	uint64_t value;

	if (str_take_number(&s, &value))
		return ERR_INVAL;
	for (size_t i = 0; i < n; i++) {
		if (!str_ieq(s, units[i].name))
			continue;
		if (__builtin_mul_overflow(value, units[i].factor, &value) || value > max)
			return ERR_INVAL;
		*ret = value;
		return ERR_OK;
	}
	return ERR_INVAL;
}

enum err str_to_usec(struct str s, usec_t bare_unit, usec_t *ret)
{
	const struct unit units[] = {
	    {STR("us"), 1},
	    {STR("ms"), USEC_PER_MSEC},
	    {STR("s"), USEC_PER_SEC},
	    {STR("m"), 60 * USEC_PER_SEC},
	    {STR("h"), 3600 * USEC_PER_SEC},
	    {STR("d"), 86400 * USEC_PER_SEC},
	    {STR(""), (uint64_t)bare_unit},
	};
	size_t n = sizeof(units) / sizeof(units[0]) - (bare_unit <= 0);
	uint64_t value;

	if (number_with_unit(s, units, n, INT64_MAX, &value))
		return ERR_INVAL;
	*ret = (usec_t)value;
	return ERR_OK;
}

enum err str_to_size(struct str s, uint64_t *ret)
{
	const struct unit units[] = {
	    {STR(""), 1},
	    {STR("k"), 1ull << 10},
	    {STR("kib"), 1ull << 10},
	    {STR("m"), 1ull << 20},
	    {STR("mib"), 1ull << 20},
	    {STR("g"), 1ull << 30},
	    {STR("gib"), 1ull << 30},
	    {STR("t"), 1ull << 40},
	    {STR("tib"), 1ull << 40},
	};

	return number_with_unit(s, units, sizeof(units) / sizeof(units[0]), UINT64_MAX, ret);
}

/* Length of the UTF-8 sequence at `p`, 0 if it is none. The second byte's range depends on the
 * first: that is where overlong forms, surrogates and what lies past U+10FFFF are refused. */
static size_t utf8_sequence(const unsigned char *p, size_t left)
{
	unsigned char lo = 0x80, hi = 0xbf;
	size_t len;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (left < len)
		return 0;
	if (p[0] == 0xe0)
		lo = 0xa0;
	else if (p[0] == 0xed)
		hi = 0x9f;
	else if (p[0] == 0xf0)
		lo = 0x90;
	else if (p[0] == 0xf4)
		hi = 0x8f;
	if (p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	return len;
}

/* How many bytes from the first on are not above 127. */
static size_t ascii_run(const unsigned char *p, size_t n)
{
	uint64_t word;
	size_t i;

	for (i = 0; n - i >= sizeof(word); i += sizeof(word)) {
		memcpy(&word, p + i, sizeof(word));
		if (word & 0x8080808080808080ull)
			break;
	}
	while (i < n && p[i] < 0x80)
		i++;
	return i;
}

bool str_is_utf8(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.ptr;
	size_t i = ascii_run(p, s.len), len;

	while (i < s.len) {
		len = utf8_sequence(p + i, s.len - i);
		if (!len)
			return false;
		i += len;
		i += ascii_run(p + i, s.len - i);
	}
	return true;
}

/* Neither a byte above 127 nor a NUL among them, which is the only one that borrows. */
static bool plain(uint64_t word, uint64_t ones)
{
	return !(((word - ones) | word) & ones << 7);
}

static bool plain_word(const char *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return plain(word, EACH(1));
}

static bool plain_half(const char *p)
{
	uint32_t half;

	memcpy(&half, p, sizeof(half));
	return plain(half, 0x01010101);
}

/* The last word may begin among what was seen. */
static bool is_plain(struct str s)
{
	size_t i = 0;

	if (s.len >= 8) {
		for (; i + 8 < s.len; i += 8)
			if (!plain_word(s.ptr + i))
				return false;
		return plain_word(s.ptr + s.len - 8);
	}
	if (s.len >= 4)
		return plain_half(s.ptr) && plain_half(s.ptr + s.len - 4);
	while (i < s.len && (signed char)s.ptr[i] > 0)
		i++;
	return i == s.len;
}

bool str_is_text(struct str s)
{
	return is_plain(s) || (!memchr(s.ptr, '\0', s.len) && str_is_utf8(s));
}

static bool is_json_plain(uint8_t c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* A byte that is none sets its highest bit: below a blank or a quote or backslash by a borrow, DEL
 * by a carry. Others may get theirs from a neighbour that is none. */
bool str_is_json_plain(struct str s)
{
	uint64_t w, quote, slash;
	size_t i = 0;

	for (; s.len - i >= sizeof(w); i += sizeof(w)) {
		memcpy(&w, s.ptr + i, sizeof(w));
		quote = w ^ EACH('"');
		slash = w ^ EACH('\\');
		if ((w | (w - EACH(0x20)) | (w + EACH(1)) | (quote - EACH(1)) | (slash - EACH(1))) &
		    EACH(0x80))
			return false;
	}
	while (i < s.len && is_json_plain((uint8_t)s.ptr[i]))
		i++;
	return i == s.len;
}

static bool may_begin_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool str_is_name(struct str s)
{
	bool begin = true;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if (begin ? !may_begin_name(c)
		          : !may_begin_name(c) && !(c >= '0' && c <= '9') && c != '.')
			return false;
		begin = c == '.';
	}
	return s.len > 0 && s.len <= 128 && !begin;
}

bool str_is_token(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
		    !(c && strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return s.len > 0;
}
