/* A recipe object of jansson to struct recipe. Everything that could be wrong with a recipe is
 * found here, so that a request can only fail for what the request itself holds. */
#include <stdio.h>
#include <string.h>

#include "weir/base/mem.h"
#include "weir/model/cloudevents.h"

#include "recipe_priv.h"

#define HMAC              (1u << RECIPE_HMAC)
#define RSA               (1u << RECIPE_RSA_PKCS1)
#define SIGNED            (HMAC | RSA | 1u << RECIPE_ED25519 | 1u << RECIPE_ECDSA_P256)
#define TOKEN             (1u << RECIPE_TOKEN)
#define BASIC             (1u << RECIPE_BASIC)
#define NONE              (1u << RECIPE_NONE)
#define CERTS             (1u << RECIPE_SNS | 1u << RECIPE_PAYPAL)
#define BUILT_IN          (CERTS | 1u << RECIPE_TWILIO | 1u << RECIPE_JWT)
#define ALL               (SIGNED | TOKEN | BASIC | NONE | BUILT_IN)
#define IS_SIGNED(scheme) ((1u << (scheme)) & SIGNED)

static const char *const schemes[] = {
    "hmac", "ed25519",        "ecdsa-p256",  "rsa-pkcs1",   "token",          "basic",
    "none", "builtin:twilio", "builtin:jwt", "builtin:sns", "builtin:paypal", NULL};
static const char *const encodings[] = {"hex", "base64", "base64url", NULL};

/* The members of a recipe object and the schemes that have a use for them. */
static const struct {
	const char *name;
	unsigned schemes;
} members[] = {
    {"scheme", ALL},
    {"hash", HMAC | RSA},
    {"sig", SIGNED | TOKEN | BASIC},
    {"enc", SIGNED},
    {"keys", SIGNED},
    {"parse", SIGNED | TOKEN},
    {"signed", SIGNED},
    {"ts", SIGNED},
    {"past", SIGNED | CERTS},
    {"id", ALL},
    {"future", SIGNED | CERTS},
    {"enforce", SIGNED | CERTS},
    {"type", ALL},
    {"split", ALL},
    {"hand", ALL},
    {"cert_hosts", CERTS},
    {"once", SIGNED},
    {"format", ALL},
    {"volatile", ALL},
    {"status", ALL},
};

struct chunk {
	struct chunk *next;
	char bytes[];
};

enum err recipe_bad(struct compiler *c, const char *member, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(c->info, ERR_INVAL, "%s: %s", member, text);
}

struct str recipe_keep(struct recipe *r, struct str s)
{
	struct chunk *k = mem_alloc(sizeof(*k) + s.len + 1);

	if (!k)
		return STR_NONE;
	k->next = r->strings;
	r->strings = k;
	if (s.len)
		memcpy(k->bytes, s.ptr, s.len);
	k->bytes[s.len] = '\0';
	return str_n(k->bytes, s.len);
}

static int find_name(const char *const *names, struct str name)
{
	for (int i = 0; names[i]; i++)
		if (str_eq(str_of(names[i]), name))
			return i;
	return -1;
}

/* A string member; *ret keeps its value when the member is absent. */
static enum err get_text(struct compiler *c, const char *member, struct str *ret)
{
	const json_t *v = json_object_get(c->object, member);

	if (!v)
		return ERR_OK;
	if (!json_is_string(v))
		return recipe_bad(c, member, "must be a string");
	*ret = recipe_text(v);
	return ERR_OK;
}

static enum err get_choice(struct compiler *c, const char *member, const char *const *names,
                           const char *allowed, int *ret)
{
	struct str s = STR_NONE;
	enum err e = get_text(c, member, &s);
	int i;

	if (e != ERR_OK || !s.ptr)
		return e;
	i = find_name(names, s);
	if (i < 0)
		return recipe_bad(c, member, "\"%.*s\" is not allowed; it must be %s", (int)s.len,
		                  s.ptr, allowed);
	*ret = i;
	return ERR_OK;
}

static enum err compile_scheme(struct compiler *c)
{
	int i = RECIPE_HMAC;
	enum err e = get_choice(c, "scheme", schemes,
	                        "hmac, ed25519, ecdsa-p256, rsa-pkcs1, token, basic, none, "
	                        "builtin:twilio, builtin:jwt, builtin:sns or "
	                        "builtin:paypal",
	                        &i);

	c->r->scheme = (enum recipe_scheme)i;
	return e;
}

static enum err check_member(struct compiler *c, const char *name)
{
	size_t i = 0, n = sizeof(members) / sizeof(members[0]);

	while (i < n && strcmp(members[i].name, name) != 0)
		i++;
	if (i == n)
		return recipe_bad(c, name,
		                  "no such member; a recipe has scheme, hash, sig, parse, enc, "
		                  "keys, signed, ts, past, future, enforce, id, type, split, hand, "
		                  "cert_hosts, once, format, volatile, status");
	if (!(members[i].schemes & 1u << c->r->scheme))
		return recipe_bad(c, name, "has no meaning with scheme %s", schemes[c->r->scheme]);
	return ERR_OK;
}

static enum err check_members(struct compiler *c)
{
	const char *name;
	json_t *value;
	enum err e = ERR_OK;

	json_object_foreach((json_t *)(uintptr_t)c->object, name, value)
	{
		e = err_sink_take(c->sink, check_member(c, name), c->info);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

/* ---- hash, parse, enc ---- */

static enum err add_hash(struct compiler *c, const json_t *v)
{
	for (enum digest_algo a = DIGEST_SHA256; a <= DIGEST_SHA512; a++) {
		if (!json_is_string(v) || strcmp(json_string_value(v), digest_name(a)) != 0)
			continue;
		if (!c->r->hashes)
			c->r->hash = a;
		c->r->hashes |= 1u << a;
		return ERR_OK;
	}
	return recipe_bad(c, "hash", "must be sha256, sha1 or sha512, or a list of them");
}

static enum err compile_hash(struct compiler *c)
{
	const json_t *v = json_object_get(c->object, "hash"), *item;
	enum err e = ERR_OK;
	size_t i;

	if (!v)
		c->r->hashes = 1u << DIGEST_SHA256;
	else if (!json_is_array(v))
		e = add_hash(c, v);
	else if (json_array_size(v) == 0)
		e = recipe_bad(c, "hash", "the list is empty");
	json_array_foreach(v, i, item)
	{
		if (e == ERR_OK)
			e = add_hash(c, item);
	}
	if (e == ERR_OK && (c->r->hashes & (c->r->hashes - 1)) && c->r->parse != RECIPE_METHOD)
		e = recipe_bad(c, "hash", "a list needs \"parse\": \"method\"");
	return e;
}

/* "(SEP,ARG)" or "(SEP,ARG,GROUP)"; an empty SEP leaves the default. */
static enum err compile_parse_args(struct compiler *c, struct str args, bool grouped)
{
	struct str rest = args, sep = str_split(&rest, ','), arg = rest, group = STR_NONE;
	const char *comma = rest.ptr ? memchr(rest.ptr, ',', rest.len) : NULL;

	if (!rest.ptr || sep.len > 1)
		return recipe_bad(c, "parse", "needs (SEP,%s), SEP being one character or nothing",
		                  grouped ? "KEY" : "TAG");
	if (grouped && comma) {
		arg = str_split(&rest, ',');
		group = rest;
	}
	if (arg.len == 0 || group.len > 1)
		return recipe_bad(c, "parse",
		                  "\"(%.*s)\" has an empty %s or a GROUP that is not "
		                  "one character",
		                  (int)args.len, args.ptr, grouped ? "KEY" : "TAG");
	if (sep.len)
		c->r->sep = sep.ptr[0];
	c->r->group = group.len ? group.ptr[0] : '\0';
	if (c->r->group == c->r->sep)
		return recipe_bad(c, "parse", "GROUP and SEP must differ");
	c->r->prefix = recipe_keep(c->r, arg);
	return c->r->prefix.ptr ? ERR_OK : ERR_NOMEM;
}

static enum err compile_parse_call(struct compiler *c, struct str s, struct str name)
{
	struct str args = {s.ptr + name.len + 1, s.len - name.len - 2};

	if (str_eq(name, STR("kv"))) {
		c->r->parse = RECIPE_KV;
		c->r->sep = ',';
		return compile_parse_args(c, args, true);
	}
	if (str_eq(name, STR("list"))) {
		c->r->parse = RECIPE_LIST;
		c->r->sep = ' ';
		return compile_parse_args(c, args, false);
	}
	c->r->parse = RECIPE_FIRST_IS_TS;
	c->r->sep = args.len ? args.ptr[0] : ',';
	return str_eq(name, STR("first-is-ts")) && args.len <= 1
	           ? ERR_OK
	           : recipe_bad(c, "parse", "\"%.*s\" is not allowed", (int)s.len, s.ptr);
}

static enum err compile_parse(struct compiler *c)
{
	struct str s = STR("plain"), name;
	enum err e = get_text(c, "parse", &s);

	if (e != ERR_OK)
		return e;
	if (s.len && s.ptr[s.len - 1] == ')' && memchr(s.ptr, '(', s.len) &&
	    !str_starts(s, STR("plain"))) {
		struct str rest = s;

		name = str_split(&rest, '(');
		return IS_SIGNED(c->r->scheme)
		           ? compile_parse_call(c, s, name)
		           : recipe_bad(c, "parse", "a token can only be plain or plain:PREFIX");
	}
	if (str_starts(s, STR("plain:"))) {
		c->r->prefix = recipe_keep(c->r, (struct str){s.ptr + 6, s.len - 6});
		return c->r->prefix.ptr ? ERR_OK : ERR_NOMEM;
	}
	if (str_eq(s, STR("method")) && c->r->scheme == RECIPE_HMAC)
		c->r->parse = RECIPE_METHOD;
	else if (!str_eq(s, STR("plain")))
		return recipe_bad(
		    c, "parse",
		    "\"%.*s\" is not allowed; it must be plain, plain:PREFIX, method, "
		    "kv(SEP,KEY), list(SEP,TAG) or first-is-ts(SEP)",
		    (int)s.len, s.ptr);
	return ERR_OK;
}

static enum err compile_sigs(struct compiler *c)
{
	struct recipe *r = c->r;
	unsigned allowed = ALLOW(RECIPE_SRC_HEADER) | ALLOW(RECIPE_SRC_JSON) |
	                   ALLOW(RECIPE_SRC_FORM) | ALLOW(RECIPE_SRC_QUERY);
	enum err e = ERR_OK;

	if (r->scheme == RECIPE_NONE || recipe_is_built_in(r->scheme))
		return recipe_compile_built_in(c);
	if (r->scheme == RECIPE_BASIC && !json_object_get(c->object, "sig"))
		e = recipe_compile_source(c, "sig", STR("header:authorization"), allowed, false,
		                          &r->sigs[r->sig_count++]);
	else
		e = recipe_compile_list(c, "sig", allowed, false, r->sigs, RECIPE_MAX_SIGS,
		                        &r->sig_count);
	if (e == ERR_OK && r->sig_count == 0)
		e = recipe_bad(c, "sig",
		               "is needed: where does the %s stand? For example \"header:X\"",
		               IS_SIGNED(r->scheme) ? "signature" : "token");
	for (size_t i = 0; i < r->sig_count && e == ERR_OK; i++) {
		r->auth_json |= r->sigs[i].kind == RECIPE_SRC_JSON;
		if (!IS_SIGNED(r->scheme) && r->sigs[i].kind == RECIPE_SRC_HEADER)
			r->header_auth[r->sigs[i].index] = true;
	}
	return e;
}

static enum err compile_signed(struct compiler *c)
{
	struct str s = STR("{body}");
	enum err e = get_text(c, "signed", &s);

	if (e != ERR_OK || !IS_SIGNED(c->r->scheme))
		return e;
	return recipe_compile_template(c, s);
}

static enum err compile_lists(struct compiler *c)
{
	unsigned allowed = ALLOW(RECIPE_SRC_HEADER) | ALLOW(RECIPE_SRC_JSON) |
	                   ALLOW(RECIPE_SRC_FORM) | ALLOW(RECIPE_SRC_QUERY);
	struct recipe *r = c->r;
	enum err e = recipe_compile_split(c);

	if (e == ERR_OK)
		e = recipe_compile_list(c, "id", allowed, r->split_count > 0, r->ids,
		                        RECIPE_MAX_IDS, &r->id_count);
	if (e == ERR_OK)
		e = recipe_compile_list(c, "type", allowed, r->split_count > 0, r->types,
		                        RECIPE_MAX_IDS, &r->type_count);
	return e;
}

/* What a token is worth ends with its timestamp, and no later is it remembered. */
static enum err compile_once(struct compiler *c)
{
	const json_t *v = json_object_get(c->object, "once");
	unsigned all = ALLOW(RECIPE_SRC_HEADER) | ALLOW(RECIPE_SRC_JSON) | ALLOW(RECIPE_SRC_FORM) |
	               ALLOW(RECIPE_SRC_QUERY);

	if (!v)
		return ERR_OK;
	if (!json_is_string(v))
		return recipe_bad(c, "once", "must be a source (\"json:PATH\")");
	if (!c->r->has_ts || !c->r->enforce)
		return recipe_bad(c, "once", "needs the member ts, enforced");
	c->r->has_once = true;
	c->r->auth_json |= str_starts(recipe_text(v), STR("json:"));
	return recipe_compile_source(c, "once", recipe_text(v), all, false, &c->r->once);
}

/* A format is a short-hand for members that it stands for. */
static enum err compile_identity(struct compiler *c)
{
	static const char *const formats[] = {"cloudevents", NULL}, *const replaced[] = {
	                                                                "id", "type", "split"};
	const json_t *written = c->object;
	json_t *stands_for;
	int format = -1;
	enum err e = get_choice(c, "format", formats, "cloudevents", &format);

	if (e != ERR_OK || format < 0)
		return e == ERR_OK ? compile_lists(c) : e;
	for (size_t i = 0; i < sizeof(replaced) / sizeof(replaced[0]); i++)
		if (json_object_get(written, replaced[i]))
			return recipe_bad(c, replaced[i], "has no meaning with a format");
	stands_for = json_loads(CLOUDEVENTS_RECIPE, 0, NULL);
	if (!stands_for)
		return ERR_NOMEM;
	c->object = stands_for;
	e = compile_lists(c);
	c->object = written;
	json_decref(stands_for);
	if (e == ERR_OK)
		cloudevents_mark(c->r);
	return e;
}

static enum err compile_paths(struct compiler *c)
{
	struct recipe *r = c->r;
	enum err e = ERR_OK;

	if (r->path_count)
		e = json_paths_new(c->paths, r->path_count, &r->paths);
	if (e == ERR_OK && r->item_path_count)
		e = json_paths_new(c->item_paths, r->item_path_count, &r->item_paths);
	return e;
}

static enum err compile_status(struct compiler *c)
{
	const json_t *v = json_object_get(c->object, "status");
	json_int_t status = v ? json_integer_value(v) : 200;

	if (status != 200 && status != 201 && status != 202 && status != 204)
		return recipe_bad(c, "status", "must be 200, 201, 202 or 204");
	c->r->status = (int)status;
	return ERR_OK;
}

static enum err compile_enc(struct compiler *c)
{
	int enc = (int)c->r->enc; /* a built-in scheme's own; else hex */
	enum err e = get_choice(c, "enc", encodings, "hex, base64 or base64url", &enc);

	c->r->enc = (enum recipe_enc)enc;
	return e;
}

/* X(step, function, the steps without which it has nothing to say). In this order. */
#define STEPS(X)                                            \
	X(SCHEME, compile_scheme, 0)                        \
	X(MEMBERS, check_members, BIT(SCHEME))              \
	X(PARSE, compile_parse, BIT(SCHEME))                \
	X(HASH, compile_hash, BIT(SCHEME) | BIT(PARSE))     \
	X(SIGS, compile_sigs, BIT(SCHEME))                  \
	X(SIGNED, compile_signed, BIT(SCHEME) | BIT(PARSE)) \
	X(TS, recipe_compile_ts, BIT(SCHEME) | BIT(PARSE))  \
	X(IDENTITY, compile_identity, 0)                    \
	X(ONCE, compile_once, BIT(TS))                      \
	X(VOLATILE, recipe_compile_volatile, 0)             \
	X(STATUS, compile_status, 0)                        \
	X(KEYS, recipe_compile_keys, BIT(SCHEME))           \
	X(HAND, recipe_compile_hand, BIT(SCHEME))           \
	X(PATHS, compile_paths, EACH)                       \
	X(WHOLE, recipe_check_whole, EACH)                  \
	X(ENC, compile_enc, BIT(SCHEME))
#define BIT(step)                (1u << STEP_##step)
#define EACH                     (~0u)
#define STEP_CODE(s, fn, needs)  STEP_##s,
#define STEP_FN(s, fn, needs)    fn,
#define STEP_NEEDS(s, fn, needs) needs,
enum { STEPS(STEP_CODE) STEP_COUNT };

static size_t fault_count(const struct compiler *c)
{
	return c->sink ? c->sink->count : 0;
}

static enum err compile_all(struct compiler *c, struct str url,
                            const struct recipe_secret_text *secrets, size_t n)
{
	static enum err (*const steps[])(struct compiler * c) = {STEPS(STEP_FN)};
	static const unsigned needs[] = {STEPS(STEP_NEEDS)};
	unsigned failed = 0;
	enum err e = ERR_OK;

	c->r->url = recipe_keep(c->r, url);
	if (!c->r->url.ptr)
		return ERR_NOMEM;
	for (unsigned i = 0; i < STEP_COUNT && e == ERR_OK; i++) {
		size_t before = fault_count(c);

		if (!(failed & needs[i]))
			e = err_sink_take(c->sink, steps[i](c), c->info);
		if ((failed & needs[i]) || fault_count(c) != before)
			failed |= 1u << i;
	}
	if (e == ERR_OK && secrets && !(failed & (BIT(SCHEME) | BIT(KEYS))))
		e = err_sink_take(c->sink, recipe_compile_secrets(c, secrets, n), c->info);
	return e == ERR_OK && fault_count(c) ? ERR_INVAL : e;
}

enum err recipe_compile(const struct json_t *object, const struct json_t *own, struct str url,
                        const struct recipe_secret_text *secrets, size_t n, struct err_sink *sink,
                        struct recipe **ret, struct err_info *info)
{
	struct compiler c = {.object = object, .own = own, .info = info, .sink = sink};
	enum err e;

	c.r = mem_zalloc(sizeof(*c.r));
	if (!c.r)
		return err_set(info, ERR_NOMEM, "no memory");
	e = compile_all(&c, url, secrets, n);
	if (e != ERR_OK) {
		recipe_free(c.r);
		return e == ERR_NOMEM ? err_set(info, e, "no memory") : e;
	}
	*ret = c.r;
	return ERR_OK;
}

bool recipe_auth_reads_body(const struct recipe *r)
{
	for (size_t i = 0; i < r->sig_count; i++)
		if (recipe_in_body(&r->sigs[i]))
			return true;
	for (size_t i = 0; i < r->part_count; i++)
		if (r->parts[i].kind == RECIPE_PART_FORM ||
		    (r->parts[i].kind == RECIPE_PART_SOURCE && recipe_in_body(&r->parts[i].source)))
			return true;
	return r->auth_json || r->scheme == RECIPE_TWILIO || r->scheme == RECIPE_SNS ||
	       (r->has_ts && recipe_in_body(&r->ts));
}

void recipe_free(struct recipe *r)
{
	struct chunk *k;

	if (!r)
		return;
	for (size_t i = 0; i < r->secret_count; i++) {
		for (size_t h = 0; h < RECIPE_HASHES; h++)
			hmac_free(r->secrets[i].macs[h]);
		pubkey_free(r->secrets[i].pub);
		mem_wipe_free(r->secrets[i].bytes, r->secrets[i].len);
	}
	for (size_t i = 0; i < r->split_count; i++)
		for (size_t l = 0; l < r->splits[i].level_count; l++)
			json_paths_free(r->splits[i].levels[l]);
	for (size_t i = 0; i < r->inner_count; i++)
		json_paths_free(r->inner[i]);
	mem_free(r->hands);
	json_paths_free(r->paths);
	json_paths_free(r->item_paths);
	json_paths_free(r->volatile_paths);
	while ((k = r->strings)) {
		r->strings = k->next;
		mem_free(k);
	}
	mem_wipe_free(r, sizeof(*r));
}
