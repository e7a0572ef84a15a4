/* Reads the limits of a tool. Each member has a function; what is absent is no limit. */
#include "weir/model/tool_limits.h"

#include "weir/base/mem.h"

#include "tool_priv.h"

#define MAX_RATE      1000000
#define MAX_IN_FLIGHT 1000000
#define MIN_EXPECT    USEC_PER_SEC
#define MAX_EXPECT    (366 * 24 * 3600 * USEC_PER_SEC)

/* ---- rate and burst ---- */

static bool parse_rate(struct str s, double *ret)
{
	static const struct {
		char unit;
		double seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}};
	struct str unit = s, number = str_split(&unit, '/');
	int64_t n;

	if (str_to_int(number, 1, MAX_RATE, &n) != ERR_OK || unit.len != 1)
		return false;
	for (size_t i = 0; i < 3; i++) {
		if (unit.ptr[0] == units[i].unit) {
			*ret = (double)n / units[i].seconds;
			return true;
		}
	}
	return false;
}

static enum err get_rate(struct loader *l, const json_t *o, struct tool_limits *to)
{
	const json_t *v = json_object_get(o, "rate"), *b = json_object_get(o, "burst");

	if (b && !v)
		return tool_bad(l, "burst", "has no meaning without \"rate\"");
	if (!v)
		return ERR_OK;
	if (!json_is_string(v) || !parse_rate(str_of(json_string_value(v)), &to->rate.per_second))
		return tool_bad(l, "rate",
		                "must be requests a second, minute or hour (\"100/s\", \"6000/m\", "
		                "\"10000/h\"), up to %d",
		                MAX_RATE);
	if (b && !(json_is_integer(b) && json_integer_value(b) >= 1 &&
	           json_integer_value(b) <= MAX_RATE))
		return tool_bad(l, "burst", "must be a whole number from 1 to %d", MAX_RATE);
	to->rate.burst = b ? (double)json_integer_value(b) : to->rate.per_second;
	if (to->rate.burst < 1)
		to->rate.burst = 1;
	return ERR_OK;
}

static enum err get_in_flight(struct loader *l, const json_t *o, struct tool_limits *to)
{
	const json_t *v = json_object_get(o, "max_in_flight");

	if (!v)
		return ERR_OK;
	if (!json_is_integer(v) || json_integer_value(v) < 1 ||
	    json_integer_value(v) > MAX_IN_FLIGHT)
		return tool_bad(l, "max_in_flight", "must be a whole number from 1 to %d",
		                MAX_IN_FLIGHT);
	to->max_in_flight = (size_t)json_integer_value(v);
	return ERR_OK;
}

/* ---- content types ---- */

/* "type/subtype", where the subtype may be "*" or begin with "*+". */
static bool is_type(struct str s)
{
	struct str sub = s, type = str_split(&sub, '/');

	if (!sub.ptr || !str_is_token(type) || !str_is_token(sub) ||
	    memchr(type.ptr, '*', type.len))
		return false;
	if (sub.ptr[0] == '*') {
		sub = (struct str){sub.ptr + 1, sub.len - 1};
		if (sub.len && (sub.len == 1 || sub.ptr[0] != '+'))
			return false;
	}
	return !sub.len || !memchr(sub.ptr, '*', sub.len);
}

static enum err add_type(struct loader *l, const json_t *v, struct tool_limits *to)
{
	struct str s = str_of(json_string_value(v));
	char *copy;

	if (!s.len || !is_type(s))
		return tool_bad(l, "content_types",
		                "must be a list of media types (\"application/json\", "
		                "\"application/*\", \"application/*+json\")");
	copy = mem_dup(s.ptr, s.len);
	if (!copy)
		return ERR_NOMEM;
	to->types[to->type_count++] = str_n(copy, s.len);
	return ERR_OK;
}

static enum err get_types(struct loader *l, const json_t *o, struct tool_limits *to)
{
	const json_t *v = json_object_get(o, "content_types"), *item;
	enum err e = ERR_OK;
	size_t i, n = json_array_size(v);

	if (!v)
		return ERR_OK;
	if (n == 0 || n > TOOL_MAX_CONTENT_TYPES)
		return tool_bad(l, "content_types", "must be a list of 1 to %d media types",
		                TOOL_MAX_CONTENT_TYPES);
	to->types = mem_array(n, sizeof(*to->types));
	if (!to->types)
		return ERR_NOMEM;
	json_array_foreach(v, i, item)
	{
		if (e == ERR_OK)
			e = tool_take(l, add_type(l, item, to));
	}
	return e;
}

static bool type_fits(struct str pattern, struct str type)
{
	const char *star = memchr(pattern.ptr, '*', pattern.len);
	size_t before = star ? (size_t)(star - pattern.ptr) : pattern.len,
	       after = pattern.len - before - (star ? 1 : 0);

	if (!star)
		return str_ieq(pattern, type);
	return type.len > before + after &&
	       str_ieq(str_n(pattern.ptr, before), str_n(type.ptr, before)) &&
	       str_ieq(str_n(star + 1, after), str_n(type.ptr + type.len - after, after));
}

bool tool_limits_take_type(const struct tool_limits *l, struct str content_type)
{
	struct str type;

	if (l->type_count == 0)
		return true;
	if (!content_type.len)
		return false;
	type = str_trim(str_split(&content_type, ';'));
	for (size_t i = 0; i < l->type_count; i++)
		if (type_fits(l->types[i], type))
			return true;
	return false;
}

/* ---- networks ---- */

static enum err add_net(struct loader *l, const json_t *v, struct tool_limits *to)
{
	const char *text = json_string_value(v);

	if (!text || ip_net_parse(str_of(text), &to->nets[to->net_count]) != ERR_OK)
		return tool_bad(l, "allow_from",
		                "\"%.60s\" is no address or network (\"192.0.2.0/24\", "
		                "\"2001:db8::/32\"; no bits may be set behind the prefix)",
		                text ? text : "?");
	to->net_count++;
	return ERR_OK;
}

static enum err get_nets(struct loader *l, const json_t *o, struct tool_limits *to)
{
	const json_t *v = json_object_get(o, "allow_from"), *item;
	enum err e = ERR_OK;
	size_t i, n = json_array_size(v);

	if (!v)
		return ERR_OK;
	if (n == 0 || n > TOOL_MAX_NETWORKS)
		return tool_bad(l, "allow_from", "must be a list of 1 to %d networks",
		                TOOL_MAX_NETWORKS);
	to->nets = mem_array(n, sizeof(*to->nets));
	if (!to->nets)
		return ERR_NOMEM;
	json_array_foreach(v, i, item)
	{
		if (e == ERR_OK)
			e = tool_take(l, add_net(l, item, to));
	}
	return e;
}

/* ---- silence, gzip ---- */

static enum err get_expectation(struct loader *l, const json_t *o, struct tool_limits *to)
{
	const json_t *v = json_object_get(o, "expect_every");
	usec_t usec = -1;

	if (!v)
		return ERR_OK;
	if (json_is_integer(v) && json_integer_value(v) <= MAX_EXPECT / USEC_PER_SEC)
		usec = json_integer_value(v) * USEC_PER_SEC;
	else if (json_is_string(v) &&
	         str_to_usec(str_of(json_string_value(v)), USEC_PER_SEC, &usec) != ERR_OK)
		usec = -1;
	if (usec < MIN_EXPECT || usec > MAX_EXPECT)
		return tool_bad(l, "expect_every",
		                "must be seconds or a duration (\"1h\") from 1 s to 366 days");
	to->expect_every = usec;
	return ERR_OK;
}

static enum err get_gzip(struct loader *l, const json_t *o, struct tool_limits *to)
{
	const json_t *v = json_object_get(o, "gzip"), *s = json_object_get(o, "signed_encoding");
	const char *text = json_string_value(s);

	if (v && !json_is_boolean(v))
		return tool_bad(l, "gzip", "must be true or false");
	to->gzip = json_is_true(v);
	if (!s)
		return ERR_OK;
	if (!text || (strcmp(text, "sent") != 0 && strcmp(text, "decoded") != 0))
		return tool_bad(l, "signed_encoding", "must be \"sent\" or \"decoded\"");
	if (!to->gzip)
		return tool_bad(l, "signed_encoding", "has no meaning without \"gzip\": true");
	to->signed_decoded = strcmp(text, "decoded") == 0;
	return ERR_OK;
}

enum err tool_limits_read(struct loader *l, const json_t *o, struct tool_limits *to)
{
	enum err (*const steps[])(struct loader *, const json_t *, struct tool_limits *) = {
	    get_rate, get_in_flight, get_types, get_nets, get_expectation, get_gzip};
	enum err e = ERR_OK;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && e == ERR_OK; i++)
		e = tool_take(l, steps[i](l, o, to));
	return e;
}

/* Of such a body nothing can be read before it is decoded, and it is decoded after it was found
 * authentic. */
enum err tool_limits_fit(struct loader *l, const struct tool_limits *t, const struct recipe *r)
{
	if (!t->gzip || t->signed_decoded || !recipe_auth_reads_body(r))
		return ERR_OK;
	return tool_bad(l, "gzip",
	                "the recipe reads its signature or what is signed from fields of the body; "
	                "that needs \"signed_encoding\": \"decoded\"");
}

void tool_limits_done(struct tool_limits *t)
{
	for (size_t i = 0; i < t->type_count; i++)
		mem_free((char *)(uintptr_t)t->types[i].ptr);
	mem_free(t->types);
	mem_free(t->nets);
}
