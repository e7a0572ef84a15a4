/* The fields of a recipe that have a language of their own: sources, the signed template, the
 * timestamp. */
#include <string.h>

#include "weir/base/mem.h"

#include "recipe_priv.h"

#define MAX_WINDOW (30 * 24 * 3600 * USEC_PER_SEC)

static const struct {
	const char *prefix;
	enum recipe_source_kind kind;
} kinds[] = {
    {"header:", RECIPE_SRC_HEADER}, {"json:", RECIPE_SRC_JSON}, {"form:", RECIPE_SRC_FORM},
    {"query:", RECIPE_SRC_QUERY},   {"sig:", RECIPE_SRC_SIG},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* ---- sources ---- */

static enum err add_header(struct compiler *c, const char *member, struct recipe_source *s)
{
	struct recipe *r = c->r;
	char *lower = (char *)(uintptr_t)s->name.ptr; /* our copy */

	if (!str_is_token(s->name))
		return recipe_bad(c, member, "\"%s\" is no header name", s->name.ptr);
	for (size_t i = 0; i < s->name.len; i++)
		if (lower[i] >= 'A' && lower[i] <= 'Z')
			lower[i] = (char)(lower[i] | 0x20);
	for (s->index = 0; s->index < r->header_count; s->index++)
		if (str_eq(r->headers[s->index], s->name))
			return ERR_OK;
	if (r->header_count == RECIPE_MAX_HEADERS)
		return recipe_bad(c, member, "more than %d different headers", RECIPE_MAX_HEADERS);
	r->headers[r->header_count++] = s->name;
	return ERR_OK;
}

static enum err add_path(struct compiler *c, const char *member, struct recipe_source *s)
{
	struct str *list = s->in_item ? c->item_paths : c->paths;
	size_t *n = s->in_item ? &c->r->item_path_count : &c->r->path_count;
	struct json_paths *trial;
	enum err e;

	for (s->index = 0; s->index < *n; s->index++)
		if (str_eq(list[s->index], s->name))
			return ERR_OK;
	if (*n == RECIPE_MAX_PATHS)
		return recipe_bad(c, member, "more than %d different JSON paths", RECIPE_MAX_PATHS);
	e = json_paths_new(&s->name, 1, &trial);
	if (e == ERR_NOMEM)
		return e;
	if (e != ERR_OK)
		return recipe_bad(c, member,
		                  "\"%s\" is no JSON path; write member names with dots between, "
		                  "\"data.object.id\"",
		                  s->name.ptr);
	json_paths_free(trial);
	list[(*n)++] = s->name;
	return ERR_OK;
}

/* json:A|B. The text at A takes the slot before the one of B's. */
static enum err add_inner(struct compiler *c, const char *member, struct recipe_source *s,
                          struct str path)
{
	struct recipe *r = c->r;
	enum err e;

	if (r->inner_count == RECIPE_MAX_INNER)
		return recipe_bad(c, member, "more than %d values of JSON inside JSON",
		                  RECIPE_MAX_INNER);
	if (r->slot_count == RECIPE_MAX_SOURCES)
		return recipe_bad(c, member, "more than %d sources in all", RECIPE_MAX_SOURCES);
	e = json_paths_new(&path, 1, &r->inner[r->inner_count]);
	if (e != ERR_OK)
		return e == ERR_NOMEM ? e
		                      : recipe_bad(c, member, "\"%.*s\" is no JSON path",
		                                   (int)path.len, path.ptr);
	s->inner = r->inner[r->inner_count++];
	s->slot = (uint8_t)r->slot_count++;
	return ERR_OK;
}

static enum err check_sig_key(struct compiler *c, const char *member, struct str name)
{
	if (c->r->parse == RECIPE_KV)
		return ERR_OK;
	if (c->r->parse == RECIPE_FIRST_IS_TS && str_eq(name, STR("ts")))
		return ERR_OK;
	return recipe_bad(c, member,
	                  "sig:%.*s needs \"parse\": \"kv(…)\" (or sig:ts and first-is-ts)",
	                  (int)name.len, name.ptr);
}

enum err recipe_compile_source(struct compiler *c, const char *member, struct str text,
                               unsigned allowed, bool in_item, struct recipe_source *ret)
{
	struct recipe_source s = {0};
	struct str inner = STR_NONE;
	size_t k = 0;

	while (k < KINDS &&
	       !(allowed & ALLOW(kinds[k].kind) && str_starts(text, str_of(kinds[k].prefix))))
		k++;
	if (k == KINDS)
		return recipe_bad(c, member,
		                  "\"%.*s\" is no source; it must be header:NAME, json:PATH, %s%s",
		                  (int)text.len, text.ptr, "form:NAME or query:NAME",
		                  allowed & ALLOW(RECIPE_SRC_SIG) ? ", sig:KEY" : "");
	s.kind = kinds[k].kind;
	s.in_item = in_item && s.kind == RECIPE_SRC_JSON;
	text.ptr += strlen(kinds[k].prefix);
	text.len -= strlen(kinds[k].prefix);
	if (s.kind == RECIPE_SRC_JSON) {
		inner = text;
		text = str_split(&inner, '|');
	}
	if (text.len == 0)
		return recipe_bad(c, member, "\"%s\" names nothing", kinds[k].prefix);
	if (c->r->slot_count == RECIPE_MAX_SOURCES)
		return recipe_bad(c, member, "more than %d sources in all", RECIPE_MAX_SOURCES);
	s.slot = (uint8_t)c->r->slot_count++;
	s.name = recipe_keep(c->r, text);
	if (!s.name.ptr)
		return ERR_NOMEM;
	if (s.kind == RECIPE_SRC_HEADER || s.kind == RECIPE_SRC_JSON) {
		enum err e = s.kind == RECIPE_SRC_HEADER ? add_header(c, member, &s)
		                                         : add_path(c, member, &s);

		if (e == ERR_OK && inner.ptr)
			e = add_inner(c, member, &s, inner);
		if (e != ERR_OK)
			return e;
	}
	*ret = s;
	return s.kind == RECIPE_SRC_SIG ? check_sig_key(c, member, s.name) : ERR_OK;
}

/* ---- template ---- */

static enum err add_part(struct compiler *c, struct recipe_part part)
{
	if (c->r->part_count == RECIPE_MAX_PARTS)
		return recipe_bad(c, "signed", "more than %d pieces", RECIPE_MAX_PARTS);
	c->r->parts[c->r->part_count++] = part;
	return ERR_OK;
}

static enum err add_literal(struct compiler *c, struct str s)
{
	struct recipe_part part = {.kind = RECIPE_PART_LITERAL, .literal = recipe_keep(c->r, s)};

	return part.literal.ptr ? add_part(c, part) : ERR_NOMEM;
}

static enum err add_placeholder(struct compiler *c, struct str name)
{
	static const struct {
		const char *name;
		enum recipe_part_kind kind;
	} plain[] = {
	    {"body", RECIPE_PART_BODY},     {"ts", RECIPE_PART_TS},
	    {"method", RECIPE_PART_METHOD}, {"url", RECIPE_PART_URL},
	    {"path", RECIPE_PART_PATH},     {"formsorted", RECIPE_PART_FORM},
	};
	struct recipe_part part = {.kind = RECIPE_PART_SOURCE};
	unsigned all = ALLOW(RECIPE_SRC_HEADER) | ALLOW(RECIPE_SRC_JSON) | ALLOW(RECIPE_SRC_FORM) |
	               ALLOW(RECIPE_SRC_QUERY) | ALLOW(RECIPE_SRC_SIG);
	enum err e;

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		part.kind = plain[i].kind;
		if (!str_eq(name, str_of(plain[i].name)))
			continue;
		if (part.kind == RECIPE_PART_FORM && c->r->slot_count == RECIPE_MAX_SOURCES)
			return recipe_bad(c, "signed", "more than %d sources in all",
			                  RECIPE_MAX_SOURCES);
		if (part.kind == RECIPE_PART_FORM)
			part.slot = (uint8_t)c->r->slot_count++;
		return add_part(c, part);
	}
	part.kind = RECIPE_PART_SOURCE;
	if (!memchr(name.ptr, ':', name.len))
		return recipe_bad(
		    c, "signed",
		    "{%.*s} is not allowed; it must be {body}, {ts}, {method}, {url}, "
		    "{path}, {formsorted}, {header:N}, {sig:K}, {query:N}, {json:P} or {form:N}",
		    (int)name.len, name.ptr);
	e = recipe_compile_source(c, "signed", name, all, false, &part.source);
	if (e != ERR_OK)
		return e;
	c->r->auth_json |= part.source.kind == RECIPE_SRC_JSON;
	c->r->per_signature |= part.source.kind == RECIPE_SRC_SIG;
	return add_part(c, part);
}

enum err recipe_compile_template(struct compiler *c, struct str text)
{
	enum err e = ERR_OK;

	if (text.len == 0)
		return recipe_bad(c, "signed", "is empty");
	while (text.len && e == ERR_OK) {
		const char *open = memchr(text.ptr, '{', text.len), *close;
		size_t plain = open ? (size_t)(open - text.ptr) : text.len, used = plain;

		if (open && plain + 1 < text.len && open[1] == '{') {
			plain++; /* two braces stand for one */
			used += 2;
		}
		if (plain) {
			e = add_literal(c, (struct str){text.ptr, plain});
			text.ptr += used;
			text.len -= used;
			continue;
		}
		close = memchr(text.ptr, '}', text.len);
		if (!close)
			return recipe_bad(c, "signed", "a { has no }");
		e = add_placeholder(c, str_n(text.ptr + 1, (size_t)(close - text.ptr - 1)));
		text.len -= (size_t)(close + 1 - text.ptr);
		text.ptr = close + 1;
	}
	return e;
}

/* ---- timestamp ---- */

static enum err get_window(struct compiler *c, const char *member, usec_t *ret)
{
	const json_t *v = json_object_get(c->object, member);
	usec_t usec = -1;

	*ret = 300 * USEC_PER_SEC;
	if (!v)
		return ERR_OK;
	if (json_is_integer(v) && json_integer_value(v) <= MAX_WINDOW / USEC_PER_SEC)
		usec = json_integer_value(v) * USEC_PER_SEC;
	else if (json_is_string(v) &&
	         str_to_usec(str_of(json_string_value(v)), USEC_PER_SEC, &usec) != ERR_OK)
		usec = -1;
	if (usec < 0 || usec > MAX_WINDOW)
		return recipe_bad(c, member,
		                  "must be seconds or a duration (\"5m\") up to 30 days");
	*ret = usec;
	return ERR_OK;
}

static enum err get_enforce(struct compiler *c)
{
	const json_t *v = json_object_get(c->object, "enforce");

	if (v && !json_is_boolean(v))
		return recipe_bad(c, "enforce", "must be true or false");
	c->r->enforce = !v || json_is_true(v);
	return ERR_OK;
}

static enum err compile_unit(struct compiler *c, struct str unit)
{
	static const char *const units[] = {"s", "ms", "iso"};

	for (int i = 0; i < 3; i++) {
		if (str_eq(unit, str_of(units[i]))) {
			c->r->unit = (enum recipe_unit)i;
			return ERR_OK;
		}
	}
	return recipe_bad(c, "ts",
	                  "must be SOURCE UNIT, the unit being s, ms or iso "
	                  "(\"header:x-timestamp s\")");
}

enum err recipe_compile_ts(struct compiler *c)
{
	const json_t *v = json_object_get(c->object, "ts");
	const char *own = recipe_built_in_ts(c->r->scheme);
	struct recipe *r = c->r;
	unsigned all = ALLOW(RECIPE_SRC_HEADER) | ALLOW(RECIPE_SRC_JSON) | ALLOW(RECIPE_SRC_FORM) |
	               ALLOW(RECIPE_SRC_QUERY) | ALLOW(RECIPE_SRC_SIG);
	struct str unit, source;
	enum err e;

	if (!v && !own) {
		static const char *const guards[] = {"past", "future", "enforce"};

		for (size_t i = 0; i < 3; i++)
			if (recipe_is_own(c, guards[i]))
				return recipe_bad(c, guards[i], "needs the member ts");
		return ERR_OK;
	}
	if (!own && !json_is_string(v))
		return recipe_bad(c, "ts", "must be a string");
	unit = str_of(own ? own : json_string_value(v));
	source = str_split(&unit, ' ');
	e = compile_unit(c, unit);
	if (e == ERR_OK)
		e = recipe_compile_source(c, "ts", source, all, false, &r->ts);
	if (e == ERR_OK)
		e = get_window(c, "past", &r->past);
	if (e == ERR_OK)
		e = get_window(c, "future", &r->future);
	if (e == ERR_OK)
		e = get_enforce(c);
	r->has_ts = true;
	r->auth_json |= r->ts.kind == RECIPE_SRC_JSON;
	r->per_signature |= r->ts.kind == RECIPE_SRC_SIG;
	return e;
}
