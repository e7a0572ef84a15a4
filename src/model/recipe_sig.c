/* How providers write signatures and times into headers. Pure text; what it returns points into
 * what it was given. */
#include <string.h>

#include "weir/model/recipe.h"

struct str recipe_signatures(const struct recipe *r, struct str sig)
{
	if (r->parse == RECIPE_FIRST_IS_TS)
		(void)str_split(&sig, r->sep);
	return sig;
}

static struct str behind(struct str s, size_t n)
{
	return (struct str){s.ptr + n, s.len - n};
}

static bool plain_signature(const struct recipe *r, struct str s, struct str *ret)
{
	if (!str_starts(s, r->prefix))
		return false;
	*ret = behind(s, r->prefix.len);
	return true;
}

static bool method_signature(const struct recipe *r, struct str s, struct str *ret,
                             enum digest_algo *ret_hash)
{
	struct str name = str_split(&s, '=');

	if (!s.ptr)
		return false;
	for (enum digest_algo a = DIGEST_SHA256; a <= DIGEST_SHA512; a++) {
		if (r->hashes & 1u << a && str_ieq(name, str_of(digest_name(a)))) {
			*ret = s;
			*ret_hash = a;
			return true;
		}
	}
	return false;
}

static bool next_listed(const struct recipe *r, struct str *rest, struct str *ret)
{
	while (rest->ptr) {
		struct str one = str_trim(str_split(rest, r->sep));

		if (r->parse == RECIPE_KV) {
			struct str key = str_split(&one, '=');

			if (one.ptr && str_eq(str_trim(key), r->prefix)) {
				*ret = str_trim(one);
				return true;
			}
		} else if (r->parse == RECIPE_LIST && str_starts(one, r->prefix)) {
			*ret = behind(one, r->prefix.len);
			return true;
		} else if (r->parse == RECIPE_FIRST_IS_TS && one.len) {
			*ret = one;
			return true;
		}
	}
	return false;
}

bool recipe_next_signature(const struct recipe *r, struct str *rest, struct str *ret_text,
                           enum digest_algo *ret_hash)
{
	struct str whole = *rest;

	*ret_hash = r->hash;
	if (!whole.ptr)
		return false;
	switch (r->parse) {
	case RECIPE_PLAIN:
		*rest = STR_NONE;
		return plain_signature(r, whole, ret_text);
	case RECIPE_METHOD:
		*rest = STR_NONE;
		return method_signature(r, whole, ret_text, ret_hash);
	case RECIPE_KV:
	case RECIPE_LIST:
	case RECIPE_FIRST_IS_TS:
		break;
	}
	return next_listed(r, rest, ret_text);
}

/* A key that comes twice has no value: which one was signed is anybody's guess. */
bool recipe_sig_key(const struct recipe *r, struct str sig, struct str key, struct str *ret)
{
	struct str found = STR_NONE;

	if (r->parse == RECIPE_FIRST_IS_TS) {
		found = str_split(&sig, r->sep);
		*ret = str_trim(found);
		return sig.ptr != NULL;
	}
	while (sig.ptr) {
		struct str value = str_trim(str_split(&sig, r->sep)), name = str_split(&value, '=');

		if (!value.ptr || !str_eq(str_trim(name), key))
			continue;
		if (found.ptr)
			return false;
		found = str_trim(value);
	}
	if (!found.ptr)
		return false;
	*ret = found;
	return true;
}

/* ---- time ---- */

/* Takes `n` digits off the front. */
static bool take_digits(struct str *s, size_t n, int64_t *ret)
{
	int64_t v = 0;

	if (s->len < n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (s->ptr[i] < '0' || s->ptr[i] > '9')
			return false;
		v = v * 10 + (s->ptr[i] - '0');
	}
	*s = behind(*s, n);
	*ret = v;
	return true;
}

static bool take_char(struct str *s, char c)
{
	bool letter = c >= 'A' && c <= 'Z';

	if (s->len == 0 || (s->ptr[0] != c && !(letter && s->ptr[0] == (c | 0x20))))
		return false;
	*s = behind(*s, 1);
	return true;
}

/* ".123456789" to microseconds; at least one digit. */
static bool take_fraction(struct str *s, int64_t *ret)
{
	int64_t usec = 0, unit = 100000;
	size_t n = 0;

	while (n < s->len && s->ptr[n] >= '0' && s->ptr[n] <= '9') {
		usec += (s->ptr[n++] - '0') * unit;
		unit /= 10;
	}
	*s = behind(*s, n);
	*ret = usec;
	return n > 0;
}

/* Days since 1970-01-01 of a Gregorian date: years are counted from March, so that the leap day is
 * a year's last. */
static int64_t days_of(int64_t y, int64_t m, int64_t d)
{
	int64_t era, yoe, doy;

	y -= m <= 2;
	era = y / 400;
	yoe = y - era * 400;
	doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static bool take_offset(struct str *s, int64_t *ret_seconds)
{
	int64_t h, m, sign = 1;

	*ret_seconds = 0;
	if (take_char(s, 'Z'))
		return true;
	if (s->len && s->ptr[0] == '-')
		sign = -1;
	else if (!s->len || s->ptr[0] != '+')
		return false;
	*s = behind(*s, 1);
	if (!take_digits(s, 2, &h))
		return false;
	m = 0;
	(void)take_char(s, ':');
	if ((s->len && !take_digits(s, 2, &m)) || h > 23 || m > 59)
		return false;
	*ret_seconds = sign * (h * 3600 + m * 60);
	return true;
}

static enum err parse_iso(struct str s, usec_t *ret)
{
	int64_t y, mo, d, h, mi, sec, offset, fraction = 0;

	if (!take_digits(&s, 4, &y) || !take_char(&s, '-') || !take_digits(&s, 2, &mo) ||
	    !take_char(&s, '-') || !take_digits(&s, 2, &d) ||
	    !(take_char(&s, 'T') || take_char(&s, ' ')) || !take_digits(&s, 2, &h) ||
	    !take_char(&s, ':') || !take_digits(&s, 2, &mi) || !take_char(&s, ':') ||
	    !take_digits(&s, 2, &sec))
		return ERR_INVAL;
	if (s.len && s.ptr[0] == '.') {
		s = behind(s, 1);
		if (!take_fraction(&s, &fraction))
			return ERR_INVAL;
	}
	if (!take_offset(&s, &offset) || s.len || mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 ||
	    mi > 59 || sec > 60)
		return ERR_INVAL;
	*ret = (days_of(y, mo, d) * 86400 + h * 3600 + mi * 60 + sec - offset) * USEC_PER_SEC +
	       fraction;
	return ERR_OK;
}

enum err recipe_parse_ts(enum recipe_unit unit, struct str text, usec_t *ret)
{
	struct str whole = str_split(&text, '.');
	int64_t v, fraction = 0;
	usec_t size = unit == RECIPE_SECONDS ? USEC_PER_SEC : USEC_PER_MSEC;

	if (unit == RECIPE_ISO) {
		if (text.ptr)
			whole.len += text.len + 1;
		return parse_iso(whole, ret);
	}
	if (whole.len == 0 || whole.len > 18 || whole.ptr[0] == '+' ||
	    str_to_int(whole, 0, INT64_MAX / USEC_PER_SEC, &v) != ERR_OK)
		return ERR_INVAL;
	if (text.ptr && (!take_fraction(&text, &fraction) || text.len))
		return ERR_INVAL;
	*ret = v * size + (unit == RECIPE_SECONDS ? fraction : 0);
	return ERR_OK;
}
