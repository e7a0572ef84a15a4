/* One setting: text to member, member to text, and what may be shown of it. Parsing and printing
 * stand side by side, because what is printed must be read back as the same value. */
#include "conf_table.h"

#include <inttypes.h>

#include "weir/base/mem.h"

enum { SHOWN_BYTES = 60, ALLOWED_BYTES = 256 };

static const char no_text[] = "";

static void *member(const struct conf *c, const struct conf_row *row)
{
	return (char *)c + row->offset;
}

static int64_t *int_member(const struct conf *c, const struct conf_row *row)
{
	return member(c, row);
}

bool conf_value_is_text(const struct conf_row *row)
{
	return row->type == CONF_STRING || row->type == CONF_CHOICE || row->type == CONF_URL;
}

const char **conf_value_text(struct conf *c, const struct conf_row *row)
{
	return member(c, row);
}

static const char *text_of(const struct conf *c, const struct conf_row *row)
{
	return *(const char **)member(c, row);
}

void conf_text_free(const char *text)
{
	if (text && text != no_text)
		mem_wipe_free((char *)text, strlen(text));
}

/* --- printing --- */

static void print_usec(usec_t v, struct buf *out)
{
	static const struct {
		usec_t size;
		const char *name;
	} units[] = {{86400 * USEC_PER_SEC, "d"}, {3600 * USEC_PER_SEC, "h"},
	             {60 * USEC_PER_SEC, "m"},    {USEC_PER_SEC, "s"},
	             {USEC_PER_MSEC, "ms"},       {1, "us"}};
	size_t i = 0;

	if (v == 0) {
		(void)buf_add_cstr(out, "0s");
		return;
	}
	while (v % units[i].size != 0)
		i++;
	(void)buf_addf(out, "%" PRId64 "%s", v / units[i].size, units[i].name);
}

static void print_size(uint64_t v, struct buf *out)
{
	static const char *const names[] = {"", "KiB", "MiB", "GiB", "TiB"};
	size_t i = 0;

	while (v != 0 && v % 1024 == 0 && i < 4) {
		v /= 1024;
		i++;
	}
	(void)buf_addf(out, "%" PRIu64 "%s", v, names[i]);
}

static void print_flags(const struct conf_row *row, int64_t bits, struct buf *out)
{
	const char *comma = "";

	for (size_t i = 0; row->choices[i]; i++)
		if (bits & (INT64_C(1) << i)) {
			(void)buf_addf(out, "%s%s", comma, row->choices[i]);
			comma = ",";
		}
}

void conf_mask_url(struct str url, struct buf *out)
{
	const char *scheme = url.len ? memmem(url.ptr, url.len, "://", 3) : NULL;
	const char *end = url.ptr + url.len;
	const char *query, *at, *slash;

	if (url.len == 0)
		return;
	if (!scheme) {
		(void)buf_add_cstr(out, "***");
		return;
	}
	scheme += 3;
	query = memchr(scheme, '?', (size_t)(end - scheme));
	if (query)
		end = query;
	/* The userinfo ends at the last @ of all, so that one in a password that was not
	 * percent-encoded hides more rather than less. */
	at = memrchr(scheme, '@', (size_t)(url.ptr + url.len - scheme));
	slash = at && at < end ? at + 1 : scheme;
	(void)buf_add(out, url.ptr, (size_t)(scheme - url.ptr));
	if (at)
		(void)buf_add_cstr(out, "***@");
	if (!at || at < end)
		(void)buf_add(out, slash, (size_t)(end - slash));
	if (query)
		(void)buf_add_cstr(out, "?***");
}

static void print_text(const struct conf_row *row, const char *text, bool masked, struct buf *out)
{
	if (masked && (row->flags & CONF_SECRET) && text[0])
		(void)buf_add_cstr(out, "***");
	else if (masked && row->type == CONF_URL)
		conf_mask_url(str_of(text), out);
	else
		(void)buf_add_cstr(out, text);
}

void conf_value_print(const struct conf *c, const struct conf_row *row, bool masked,
                      struct buf *out)
{
	switch (row->type) {
	case CONF_STRING:
	case CONF_CHOICE:
	case CONF_URL:
		print_text(row, text_of(c, row), masked, out);
		break;
	case CONF_INT:
		(void)buf_add_int(out, *int_member(c, row));
		break;
	case CONF_BOOL:
		(void)buf_add_cstr(out, *(bool *)member(c, row) ? "true" : "false");
		break;
	case CONF_SIZE:
		print_size(*(uint64_t *)member(c, row), out);
		break;
	case CONF_USEC:
		print_usec(*(usec_t *)member(c, row), out);
		break;
	case CONF_ENUM:
		(void)buf_add_cstr(out, row->choices[*int_member(c, row)]);
		break;
	case CONF_FLAGS:
		print_flags(row, *int_member(c, row), out);
		break;
	}
}

static void print_choices(const struct conf_row *row, struct buf *out)
{
	for (size_t i = 0; row->choices[i]; i++)
		(void)buf_addf(out, "%s%s", i ? ", " : "", row->choices[i]);
}

void conf_value_print_allowed(const struct conf_row *row, struct buf *out)
{
	if (row->allowed) {
		(void)buf_add_cstr(out, row->allowed);
		return;
	}
	switch (row->type) {
	case CONF_STRING:
	case CONF_URL:
		(void)buf_addf(out, "text of at most %" PRId64 " bytes", row->max);
		break;
	case CONF_CHOICE:
	case CONF_ENUM:
		print_choices(row, out);
		break;
	case CONF_FLAGS:
		(void)buf_add_cstr(out, "a comma list of ");
		print_choices(row, out);
		break;
	case CONF_INT:
		(void)buf_addf(out, "%" PRId64 " to %" PRId64, row->min, row->max);
		break;
	case CONF_BOOL:
		(void)buf_add_cstr(out, "true, false, 1, 0, yes, no, on, off");
		break;
	case CONF_SIZE:
		print_size((uint64_t)row->min, out);
		(void)buf_add_cstr(out, " to ");
		print_size((uint64_t)row->max, out);
		break;
	case CONF_USEC:
		print_usec(row->min, out);
		(void)buf_add_cstr(out, " to ");
		print_usec(row->max, out);
		(void)buf_addf(out, "; a bare number is in %s",
		               row->unit == USEC_PER_SEC ? "seconds" : "milliseconds");
		break;
	}
}

bool conf_value_equal(const struct conf *a, const struct conf *b, const struct conf_row *row)
{
	if (conf_value_is_text(row))
		return strcmp(text_of(a, row), text_of(b, row)) == 0;
	if (row->type == CONF_BOOL)
		return *(bool *)member(a, row) == *(bool *)member(b, row);
	return *int_member(a, row) == *int_member(b, row);
}

/* --- parsing --- */

/* The value as an error may show it: masked, short, printable. */
static void show(const struct conf_row *row, struct str v, char *out, size_t size)
{
	struct buf masked;

	buf_init(&masked, 8192);
	if (row->flags & CONF_SECRET)
		v = STR("***");
	if (row->type == CONF_URL) {
		conf_mask_url(v, &masked);
		v = masked.err ? STR("***") : buf_str(&masked);
	}
	if (v.len > size - 1)
		v.len = size - 1;
	for (size_t i = 0; i < v.len; i++)
		out[i] = v.ptr[i] >= 0x20 && v.ptr[i] < 0x7f ? v.ptr[i] : '?';
	out[v.len] = '\0';
	buf_done(&masked);
}

static enum err bad_value(const struct conf_row *row, struct str v, const char *why,
                          struct err_info *info)
{
	char shown[SHOWN_BYTES + 1];
	struct buf allowed;

	show(row, v, shown, sizeof(shown));
	buf_init(&allowed, ALLOWED_BYTES);
	conf_value_print_allowed(row, &allowed);
	(void)err_set(info, ERR_INVAL, "%s=%s: %s; allowed: %s", row->name, shown, why,
	              allowed.err ? "see weir config --print-default" : allowed.ptr);
	buf_done(&allowed);
	return ERR_INVAL;
}

static enum err set_text(struct conf *c, const struct conf_row *row, struct str v,
                         struct err_info *info)
{
	const char **text = conf_value_text(c, row);
	char *copy;

	if (v.len == 0) {
		conf_text_free(*text);
		*text = no_text;
		return ERR_OK;
	}
	copy = mem_dup(v.ptr, v.len);
	if (!copy)
		return err_set(info, ERR_NOMEM, "%s: out of memory", row->name);
	conf_text_free(*text);
	*text = copy;
	return ERR_OK;
}

/* Before the value takes the old one's place: what hangs together with a refused one is judged by
 * the default. */
static enum err check_text(const struct conf_row *row, struct str v, struct err_info *info)
{
	struct err_info why = {0};
	char shown[SHOWN_BYTES + 1];
	char *copy;
	enum err e;

	if (!row->check || v.len == 0)
		return ERR_OK;
	copy = mem_dup(v.ptr, v.len);
	if (!copy)
		return err_set(info, ERR_NOMEM, "%s: out of memory", row->name);
	e = row->check(copy, &why);
	conf_text_free(copy);
	if (e == ERR_OK)
		return ERR_OK;
	show(row, v, shown, sizeof(shown));
	return err_set(info, e, "%s=%s: %.250s", row->name, shown, why.text);
}

static enum err parse_text(struct conf *c, const struct conf_row *row, struct str v,
                           struct err_info *info)
{
	enum err e;

	if (v.len > (size_t)row->max)
		return bad_value(row, v, "too long", info);
	for (size_t i = 0; i < v.len; i++)
		if ((unsigned char)v.ptr[i] < 0x20 || v.ptr[i] == 0x7f)
			return bad_value(row, v, "a control character", info);
	e = check_text(row, v, info);
	return e == ERR_OK ? set_text(c, row, v, info) : e;
}

static bool find_choice(const struct conf_row *row, struct str v, size_t *ret)
{
	for (size_t i = 0; row->choices[i]; i++)
		if (str_ieq(v, str_of(row->choices[i]))) {
			*ret = i;
			return true;
		}
	return false;
}

static enum err parse_choice(struct conf *c, const struct conf_row *row, struct str v,
                             struct err_info *info)
{
	size_t i;

	if (row->type == CONF_CHOICE && v.len == 0)
		return set_text(c, row, v, info);
	if (!find_choice(row, v, &i))
		return bad_value(row, v, "not one of its words", info);
	if (row->type == CONF_CHOICE)
		return set_text(c, row, str_of(row->choices[i]), info);
	*int_member(c, row) = (int64_t)i;
	return ERR_OK;
}

static enum err parse_flags(struct conf *c, const struct conf_row *row, struct str v,
                            struct err_info *info)
{
	struct str rest = v;
	int64_t bits = 0;
	size_t i;

	while (rest.ptr) {
		if (!find_choice(row, str_trim(str_split(&rest, ',')), &i))
			return bad_value(row, v, "not a list of its words", info);
		bits |= INT64_C(1) << i;
	}
	*int_member(c, row) = bits;
	return ERR_OK;
}

/* Whole numbers, sizes and durations: read without bounds first, so that the error can tell
 * nonsense from excess. */
static enum err parse_number(struct conf *c, const struct conf_row *row, struct str v,
                             struct err_info *info)
{
	const char *why = "not a whole number";
	int64_t n = 0;
	uint64_t size = 0;
	enum err e;

	if (row->type == CONF_SIZE) {
		why = "not a size";
		e = str_to_size(v, &size);
		n = size > INT64_MAX ? INT64_MAX : (int64_t)size;
	} else if (row->type == CONF_USEC) {
		why = "not a duration";
		e = str_to_usec(v, row->unit, &n);
	} else {
		e = str_to_int(v, INT64_MIN, INT64_MAX, &n);
	}
	if (e != ERR_OK)
		return bad_value(row, v, why, info);
	if (n < row->min || n > row->max)
		return bad_value(row, v, "out of range", info);
	if (row->type == CONF_SIZE)
		*(uint64_t *)member(c, row) = (uint64_t)n;
	else
		*int_member(c, row) = n;
	return ERR_OK;
}

static enum err parse_bool(struct conf *c, const struct conf_row *row, struct str v,
                           struct err_info *info)
{
	bool on;

	if (str_to_bool(v, &on) != ERR_OK)
		return bad_value(row, v, "not a truth value", info);
	*(bool *)member(c, row) = on;
	return ERR_OK;
}

enum err conf_value_set(struct conf *c, const struct conf_row *row, struct str v,
                        struct err_info *info)
{
	switch (row->type) {
	case CONF_STRING:
	case CONF_URL:
		return parse_text(c, row, v, info);
	case CONF_CHOICE:
	case CONF_ENUM:
		return parse_choice(c, row, v, info);
	case CONF_FLAGS:
		return parse_flags(c, row, v, info);
	case CONF_INT:
	case CONF_SIZE:
	case CONF_USEC:
		return parse_number(c, row, v, info);
	case CONF_BOOL:
		return parse_bool(c, row, v, info);
	}
	return ERR_BUG;
}
