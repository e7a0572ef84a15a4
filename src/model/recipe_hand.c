/* `hand` of a recipe object to struct handshake. What could make an answer dangerous is refused
 * here, when the recipe is loaded. */
#include "weir/model/handshake.h"

#include <string.h>

#include "weir/base/mem.h"

#include "recipe_priv.h"

#define MAX_HANDSHAKES 8
#define SOURCES                                                                       \
	(ALLOW(RECIPE_SRC_HEADER) | ALLOW(RECIPE_SRC_JSON) | ALLOW(RECIPE_SRC_FORM) | \
	 ALLOW(RECIPE_SRC_QUERY))

static const char *const members[] = {"when",    "verify", "token", "status", "type",
                                      "headers", "body",   "fetch", "hosts"};

bool recipe_takes_method(const struct recipe *r, enum http_method m)
{
	for (size_t i = 0; i < r->hand_count; i++)
		if (r->hands[i].method == m)
			return true;
	return false;
}

/* ---- conditions ---- */

static enum err set_method(struct compiler *c, struct handshake *h, struct str name)
{
	static const struct {
		const char *name;
		enum http_method method;
	} allowed[] = {
	    {"GET", HTTP_GET}, {"HEAD", HTTP_HEAD}, {"POST", HTTP_POST}, {"OPTIONS", HTTP_OPTIONS}};

	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
		if (!str_eq(name, str_of(allowed[i].name)))
			continue;
		h->method = allowed[i].method;
		return ERR_OK;
	}
	return recipe_bad(c, "hand", "method=%.*s: the method must be GET, HEAD, POST or OPTIONS",
	                  (int)name.len, name.ptr);
}

static enum err add_condition(struct compiler *c, struct handshake *h, struct str text)
{
	struct handshake_condition *w = &h->when[h->when_count];
	struct str value = text, source = str_split(&value, '=');
	enum err e;

	if (str_eq(source, STR("method")))
		return set_method(c, h, value.ptr ? value : STR(""));
	if (h->when_count == HANDSHAKE_MAX_CONDITIONS)
		return recipe_bad(c, "hand", "more than %d conditions", HANDSHAKE_MAX_CONDITIONS);
	e = recipe_compile_source(c, "hand", source, SOURCES, false, &w->source);
	if (e != ERR_OK)
		return e;
	w->value = value.ptr ? recipe_keep(c->r, value) : STR_NONE;
	if (value.ptr && !w->value.ptr)
		return ERR_NOMEM;
	h->when_count++;
	return ERR_OK;
}

static enum err compile_when(struct compiler *c, const json_t *o, struct handshake *h)
{
	const json_t *v = json_object_get(o, "when"), *item;
	enum err e = ERR_OK;
	size_t i, methods = 0;

	h->method = HTTP_POST;
	if (json_is_string(v))
		return add_condition(c, h, recipe_text(v));
	if (!json_is_array(v) || json_array_size(v) == 0)
		return recipe_bad(c, "hand",
		                  "when must be a condition, \"json:type=ping\" or "
		                  "\"method=GET\", or a list of them");
	json_array_foreach(v, i, item)
	{
		methods += json_is_string(item) && str_starts(recipe_text(item), STR("method="));
		if (methods > 1)
			return recipe_bad(c, "hand", "when names two methods");
		if (e == ERR_OK)
			e = json_is_string(item) ? add_condition(c, h, recipe_text(item))
			                         : recipe_bad(c, "hand", "when must hold strings");
	}
	return e;
}

/* ---- templates ---- */

static bool begins_source(struct str s)
{
	static const char *const heads[] = {"{json:", "{query:", "{header:", "{form:", "{hmac:"};

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		if (str_starts(s, str_of(heads[i])))
			return true;
	return false;
}

static enum err add_part(struct compiler *c, struct handshake_template *t, struct handshake_part p)
{
	if (t->n == HANDSHAKE_MAX_PARTS)
		return recipe_bad(c, "hand", "a template of more than %d pieces",
		                  HANDSHAKE_MAX_PARTS);
	t->parts[t->n++] = p;
	return ERR_OK;
}

static enum err add_source(struct compiler *c, struct handshake_template *t, struct str name)
{
	struct handshake_part p = {.literal = STR_NONE};
	enum err e;

	p.hmac = str_starts(name, STR("hmac:"));
	if (p.hmac)
		name = str_n(name.ptr + 5, name.len - 5);
	e = recipe_compile_source(c, "hand", name, SOURCES, false, &p.source);
	return e == ERR_OK ? add_part(c, t, p) : e;
}

static enum err add_literal(struct compiler *c, struct handshake_template *t, struct str s)
{
	struct handshake_part p = {.literal = recipe_keep(c->r, s)};

	return p.literal.ptr ? add_part(c, t, p) : ERR_NOMEM;
}

static enum err compile_template(struct compiler *c, struct str text, struct handshake_template *t)
{
	size_t plain = 0;
	enum err e = ERR_OK;

	while (plain < text.len && e == ERR_OK) {
		struct str rest = str_n(text.ptr + plain, text.len - plain);
		const char *close = memchr(rest.ptr, '}', rest.len);

		if (!begins_source(rest)) {
			plain++;
			continue;
		}
		if (!close)
			return recipe_bad(c, "hand", "a { has no }");
		if (plain)
			e = add_literal(c, t, str_n(text.ptr, plain));
		if (e == ERR_OK)
			e = add_source(c, t, str_n(rest.ptr + 1, (size_t)(close - rest.ptr - 1)));
		text.len -= (size_t)(close + 1 - text.ptr);
		text.ptr = close + 1;
		plain = 0;
	}
	return e == ERR_OK && text.len ? add_literal(c, t, text) : e;
}

static enum err compile_body(struct compiler *c, const json_t *o, struct handshake *h)
{
	const json_t *v = json_object_get(o, "body");

	if (!v)
		return ERR_OK;
	if (!json_is_string(v))
		return recipe_bad(c, "hand", "body must be a string");
	return compile_template(c, recipe_text(v), &h->body);
}

static enum err compile_headers(struct compiler *c, const json_t *o, struct handshake *h)
{
	const json_t *all = json_object_get(o, "headers");
	const char *name;
	json_t *v;

	if (all && !json_is_object(all))
		return recipe_bad(c, "hand", "headers must be an object of names and templates");
	json_object_foreach((json_t *)(uintptr_t)all, name, v)
	{
		struct handshake_header *to = &h->headers[h->header_count];
		enum err e;

		if (!json_is_string(v) || !str_is_token(str_of(name)))
			return recipe_bad(c, "hand", "headers.%s: no header name, or no string",
			                  name);
		if (h->header_count == HANDSHAKE_MAX_HEADERS)
			return recipe_bad(c, "hand", "more than %d headers", HANDSHAKE_MAX_HEADERS);
		to->name = recipe_keep(c->r, str_of(name));
		if (!to->name.ptr)
			return ERR_NOMEM;
		h->header_count++;
		e = compile_template(c, recipe_text(v), &to->value);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

/* ---- one handshake ---- */

static enum err check_members(struct compiler *c, const json_t *o)
{
	const char *name;
	json_t *v;

	if (!json_is_object(o))
		return recipe_bad(c, "hand", "must be a list of objects");
	json_object_foreach((json_t *)(uintptr_t)o, name, v)
	{
		size_t i = 0, n = sizeof(members) / sizeof(members[0]);

		while (i < n && strcmp(members[i], name) != 0)
			i++;
		if (i == n)
			return recipe_bad(c, "hand",
			                  "no such member: %s; a handshake has when, verify, "
			                  "token, status, type, headers, body, fetch, hosts",
			                  name);
	}
	if (!json_is_boolean(json_object_get(o, "verify")))
		return recipe_bad(c, "hand", "verify must be written: true or false");
	return ERR_OK;
}

static enum err compile_answer(struct compiler *c, const json_t *o, struct handshake *h)
{
	const json_t *status = json_object_get(o, "status"), *type = json_object_get(o, "type");
	const char *name = type ? json_string_value(type) : "text/plain";

	h->verify = json_is_true(json_object_get(o, "verify"));
	h->status = status ? (int)json_integer_value(status) : 200;
	if (h->status < 200 || h->status > 204)
		return recipe_bad(c, "hand", "status must be 200 to 204");
	h->json = name && strcmp(name, "application/json") == 0;
	if (!h->json && (!name || strcmp(name, "text/plain") != 0))
		return recipe_bad(c, "hand", "type must be text/plain or application/json");
	return ERR_OK;
}

static enum err compile_token(struct compiler *c, const json_t *o, struct handshake *h)
{
	const json_t *v = json_object_get(o, "token");

	if (!v)
		return ERR_OK;
	if (!json_is_string(v))
		return recipe_bad(c, "hand", "token must be a source (\"query:NAME\")");
	h->has_token = true;
	return recipe_compile_source(c, "hand", recipe_text(v), SOURCES, false, &h->token);
}

/* Whoever could choose what is fetched could have this host ask for it. */
static enum err compile_fetch(struct compiler *c, const json_t *o, struct handshake *h)
{
	const json_t *v = json_object_get(o, "fetch"), *hosts = json_object_get(o, "hosts");
	enum err e;

	if (!v)
		return hosts ? recipe_bad(c, "hand", "hosts has no meaning without fetch") : ERR_OK;
	if (!json_is_string(v))
		return recipe_bad(c, "hand", "fetch must be a source (\"json:PATH\")");
	if (!h->verify || c->r->scheme == RECIPE_NONE)
		return recipe_bad(c, "hand",
		                  "fetch needs \"verify\": true and a scheme that verifies");
	if (!hosts)
		return recipe_bad(c, "hand", "fetch needs hosts, the list of those it may be on");
	e = recipe_compile_source(c, "hand", recipe_text(v), SOURCES, false, &h->fetch);
	h->hosts.query = true;
	h->hosts.prefix = STR("/");
	h->hosts.suffix = STR("");
	return e == ERR_OK ? recipe_compile_hosts(c, "hand", hosts, &h->hosts) : e;
}

static bool signs(const struct handshake_template *t)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->parts[i].hmac)
			return true;
	return false;
}

/* Whoever could have texts of his choice signed could sign webhooks. */
static enum err check_oracle(struct compiler *c, const struct handshake *h)
{
	bool any = signs(&h->body);

	for (size_t i = 0; i < h->header_count; i++)
		any |= signs(&h->headers[i].value);
	if (any && (!h->verify || c->r->scheme == RECIPE_NONE))
		return recipe_bad(
		    c, "hand",
		    "{hmac:...} signs for whoever asks: it needs \"verify\": true and "
		    "a scheme that verifies");
	if (any && !recipe_shares_secret(c->r->scheme))
		return recipe_bad(c, "hand", "{hmac:...} needs a shared secret");
	return ERR_OK;
}

/* ---- what goes together ---- */

static bool template_reads_body(const struct handshake_template *t)
{
	for (size_t i = 0; i < t->n; i++)
		if (!t->parts[i].literal.ptr && recipe_in_body(&t->parts[i].source))
			return true;
	return false;
}

static bool reads_body(const struct handshake *h)
{
	bool any = (h->has_token && recipe_in_body(&h->token)) || template_reads_body(&h->body) ||
	           (h->hosts.host_count && recipe_in_body(&h->fetch));

	for (size_t i = 0; i < h->when_count; i++)
		any |= recipe_in_body(&h->when[i].source);
	for (size_t i = 0; i < h->header_count; i++)
		any |= template_reads_body(&h->headers[i].value);
	return any;
}

static bool implies(const struct handshake *h, const struct handshake_condition *w)
{
	for (size_t i = 0; i < h->when_count; i++) {
		const struct handshake_condition *own = &h->when[i];

		if (recipe_same_source(&own->source, &w->source) &&
		    (!w->value.ptr || (own->value.ptr && str_eq(own->value, w->value))))
			return true;
	}
	return false;
}

/* The first handshake whose conditions hold is the one. */
static bool hides(const struct handshake *before, const struct handshake *h)
{
	if (before->method != h->method)
		return false;
	for (size_t i = 0; i < before->when_count; i++)
		if (!implies(h, &before->when[i]))
			return false;
	return true;
}

static enum err check_whole(struct compiler *c, const struct handshake *h)
{
	if (h->method != HTTP_POST && reads_body(h))
		return recipe_bad(c, "hand",
		                  "json: and form: stand in a body, and only a POST has one");
	if (h->status == 204 && h->body.n)
		return recipe_bad(c, "hand", "an answer 204 has no body");
	if (h->verify && c->r->scheme == RECIPE_NONE)
		return recipe_bad(c, "hand",
		                  "\"verify\": true has no meaning without a scheme that verifies");
	for (size_t i = 0; i < c->r->hand_count; i++)
		if (hides(&c->r->hands[i], h))
			return recipe_bad(c, "hand",
			                  "[%zu] is never asked: [%zu] takes all of its requests",
			                  c->r->hand_count, i);
	return ERR_OK;
}

static enum err compile_one(struct compiler *c, const json_t *o, struct handshake *h)
{
	enum err (*const steps[])(struct compiler *, const json_t *, struct handshake *) = {
	    compile_when,    compile_answer, compile_token,
	    compile_headers, compile_body,   compile_fetch};
	enum err e = check_members(c, o);

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && e == ERR_OK; i++)
		e = steps[i](c, o, h);
	if (e == ERR_OK)
		e = check_oracle(c, h);
	return e == ERR_OK ? check_whole(c, h) : e;
}

enum err recipe_compile_hand(struct compiler *c)
{
	const json_t *v = json_object_get(c->object, "hand"), *item;
	enum err e = ERR_OK;
	size_t i;

	if (!v)
		return ERR_OK;
	if (!json_is_array(v) || json_array_size(v) > MAX_HANDSHAKES)
		return recipe_bad(c, "hand", "must be a list of at most %d handshakes",
		                  MAX_HANDSHAKES);
	if (json_array_size(v) == 0)
		return ERR_OK;
	c->r->hands = mem_array(json_array_size(v), sizeof(*c->r->hands));
	if (!c->r->hands)
		return ERR_NOMEM;
	memset(c->r->hands, 0, json_array_size(v) * sizeof(*c->r->hands));
	json_array_foreach(v, i, item)
	{
		if (e == ERR_OK)
			e = compile_one(c, item, &c->r->hands[c->r->hand_count]);
		c->r->hand_count += e == ERR_OK;
	}
	return e;
}
