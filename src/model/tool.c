/* One tool: its members, and its recipe put together from a preset and what the tool itself says.
 */
#include <stdio.h>
#include <string.h>

#include "weir/base/mem.h"
#include "weir/model/event.h"
#include "weir/model/handshake.h"
#include "weir/model/provider.h"
#include "weir/model/recipient.h"
#include "weir/run/log.h"

#include "tool_priv.h"

static const char *const members[] = {
    "id",           "preset",       "recipe", "auth",           "secrets",       "mode",
    "url",          "require_id",   "dedup",  "dedup_window",   "max_body",      "recipient",
    "verify_token", "format",       "rate",   "burst",          "max_in_flight", "content_types",
    "allow_from",   "expect_every", "gzip",   "signed_encoding"};
static const char *const later_members[] = {"filter", "transform", "destinations", "retry"};
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static bool is_among(const char *const *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], name) == 0)
			return true;
	return false;
}

static enum err check_members(struct loader *l, const json_t *o)
{
	const char *name;
	json_t *v;
	enum err e = ERR_OK;

	json_object_foreach((json_t *)(uintptr_t)o, name, v)
	{
		if (is_among(later_members, COUNT(later_members), name))
			e = tool_take(l, tool_bad(l, name, "is not in this version"));
		else if (!is_among(members, COUNT(members), name))
			e = tool_take(
			    l, tool_bad(l, name,
			                "no such member; a tool has id, preset, recipe, auth, "
			                "secrets, mode, url, require_id, dedup, dedup_window, "
			                "max_body, recipient, verify_token, format, rate, burst, "
			                "max_in_flight, content_types, allow_from, expect_every, "
			                "gzip, signed_encoding"));
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

/* ---- plain members ---- */

static enum err get_mode(struct loader *l, const json_t *o)
{
	const json_t *v = json_object_get(o, "mode");
	const char *mode = json_string_value(v);

	if (!v || (mode && strcmp(mode, "store") == 0))
		return ERR_OK;
	if (mode &&
	    (strcmp(mode, "store_and_forward") == 0 || strcmp(mode, "transform_and_store") == 0))
		return tool_bad(l, "mode", "\"%s\" is not in this version; \"store\" is", mode);
	return tool_bad(l, "mode", "must be \"store\"");
}

static enum err get_dedup(struct loader *l, const json_t *o, struct tool *t)
{
	const json_t *v = json_object_get(o, "dedup"), *w = json_object_get(o, "dedup_window");
	usec_t usec = -1;
	enum err e = ERR_OK;

	t->dedup = true;
	t->dedup_window = EVENT_DEDUP_WINDOW;
	if (v && (!json_is_string(v) || strcmp(json_string_value(v), "none") != 0))
		e = tool_take(l, tool_bad(l, "dedup", "must be \"none\", or left out"));
	if (v)
		t->dedup = false;
	if (e != ERR_OK || !w)
		return e;
	if (v)
		return tool_bad(l, "dedup_window", "has no meaning with \"dedup\": \"none\"");
	if (json_is_integer(w) && json_integer_value(w) <= EVENT_DEDUP_WINDOW_MAX / USEC_PER_SEC)
		usec = json_integer_value(w) * USEC_PER_SEC;
	else if (json_is_string(w) &&
	         str_to_usec(str_of(json_string_value(w)), USEC_PER_SEC, &usec) != ERR_OK)
		usec = -1;
	if (usec < USEC_PER_SEC || usec > EVENT_DEDUP_WINDOW_MAX)
		return tool_bad(l, "dedup_window",
		                "must be seconds or a duration (\"10m\") from 1 s to 30 days");
	t->dedup_window = usec;
	return ERR_OK;
}

static enum err get_limits(struct loader *l, const json_t *o, struct tool *t)
{
	const json_t *v = json_object_get(o, "max_body"), *r = json_object_get(o, "require_id");
	enum err e = ERR_OK;

	if (r && !json_is_boolean(r))
		e = tool_take(l, tool_bad(l, "require_id", "must be true or false"));
	t->require_id = json_is_true(r);
	if (e != ERR_OK || !v)
		return e;
	t->max_body_line = tool_line(l, "max_body");
	if (json_is_integer(v) && json_integer_value(v) > 0)
		t->max_body = (uint64_t)json_integer_value(v);
	else if (!json_is_string(v) ||
	         str_to_size(str_of(json_string_value(v)), &t->max_body) != ERR_OK ||
	         t->max_body == 0)
		return tool_bad(l, "max_body", "must be bytes or a size (\"1MiB\") above 0");
	return ERR_OK;
}

static enum err get_url(struct loader *l, const json_t *o, struct str *ret)
{
	const json_t *v = json_object_get(o, "url");

	*ret = STR("");
	if (!v)
		return ERR_OK;
	if (json_is_string(v))
		*ret = str_of(json_string_value(v));
	if (!ret->len || !(str_starts(*ret, STR("https://")) || str_starts(*ret, STR("http://"))))
		return tool_bad(l, "url", "must be the http or https URL as registered");
	return ERR_OK;
}

/* ---- recipe ---- */

static bool is_none(const json_t *scheme)
{
	return json_is_string(scheme) && strcmp(json_string_value(scheme), "none") == 0;
}

/* Without its own way of authentication nothing of a preset's is left but where id and type are. */
static void keep_identity(json_t *recipe)
{
	static const char *const kept[] = {"id",     "type",     "split",
	                                   "format", "volatile", "status"}; /* no handshakes */
	const char *name;
	json_t *v;
	void *next;

	json_object_foreach_safe(recipe, next, name, v)
	{
		if (!is_among(kept, COUNT(kept), name))
			json_object_del(recipe, name);
	}
}

/* What the tool writes wins over the preset; null takes a member of the preset away. */
static enum err merge(json_t *recipe, const json_t *own)
{
	json_t *scheme = json_object_get(own, "scheme"), *v;
	const json_t *preset_scheme = json_object_get(recipe, "scheme");
	const char *name;
	const char *before = preset_scheme ? json_string_value(preset_scheme) : "hmac";

	if (json_is_string(scheme) && strcmp(json_string_value(scheme), before) != 0)
		keep_identity(recipe);
	json_object_foreach((json_t *)(uintptr_t)own, name, v)
	{
		if (json_is_null(v))
			json_object_del(recipe, name);
		else if (json_object_set(recipe, name, v) != 0)
			return ERR_NOMEM;
	}
	return ERR_OK;
}

/* The preset's file; a new reference, NULL without a preset. */
static enum err get_preset(struct loader *l, const json_t *v, json_t **ret)
{
	const char *name = json_string_value(v);
	enum err e;

	*ret = NULL;
	if (!v)
		return ERR_OK;
	if (!name)
		return tool_bad(l, "preset", "must be a string");
	e = provider_load(name, ret);
	return e == ERR_NOTFOUND ? tool_bad(l, "preset", "there is no \"%s\"; there are %s", name,
	                                    provider_names())
	                         : e;
}

static enum err apply_auth(struct loader *l, const json_t *auth, const json_t *own, json_t *recipe)
{
	if (!auth)
		return ERR_OK;
	if (!is_none(auth))
		return tool_bad(l, "auth", "must be \"none\", or left out");
	if (json_object_get(own, "scheme") && !is_none(json_object_get(own, "scheme")))
		return tool_bad(l, "auth", "is \"none\", but the recipe has a scheme");
	keep_identity(recipe);
	return json_object_set_new(recipe, "scheme", json_string("none")) == 0 ? ERR_OK : ERR_NOMEM;
}

/* A format says where id and type stand and what is split: a preset's own say no more then, and the
 * tool cannot say both. */
static enum err apply_format(struct loader *l, const json_t *o, const json_t *own, json_t *recipe)
{
	static const char *const replaced[] = {"id", "type", "split"};
	json_t *v = json_object_get(o, "format");

	if (v && json_object_get(own, "format"))
		return tool_bad(l, "format", "stands in the recipe too");
	if (v && json_object_set(recipe, "format", v) != 0)
		return ERR_NOMEM;
	for (size_t i = 0; i < COUNT(replaced) && json_object_get(recipe, "format"); i++) {
		v = json_object_get(own, replaced[i]);
		if (v && !json_is_null(v))
			return tool_bad(l, "format", "recipe.%s has no meaning with it",
			                replaced[i]);
		json_object_del(recipe, replaced[i]);
	}
	if (json_object_get(recipe, "format") && !json_object_get(own, "volatile"))
		json_object_del(recipe, "volatile"); /* paths of the preset's own bodies */
	return ERR_OK;
}

/* A preset whose events have no id says for how long its provider tries again. */
static enum err use_window(const json_t *preset, const json_t *o, struct tool *t)
{
	struct str text = provider_text(preset, "dedup_window", NULL);

	if (!text.len || json_object_get(o, "dedup_window"))
		return ERR_OK;
	return str_to_usec(text, USEC_PER_SEC, &t->dedup_window);
}

/* The preset's recipe, or an empty one: a new reference. */
static enum err base_recipe(struct loader *l, const json_t *o, struct tool *t, json_t **ret)
{
	const json_t *name = json_object_get(o, "preset");
	json_t *preset, *recipe;
	enum err e = get_preset(l, name, &preset);

	if (e != ERR_OK)
		return e;
	t->preset = preset ? provider_known(json_string_value(name)) : "";
	e = use_window(preset, o, t);
	recipe = preset ? json_incref(json_object_get(preset, "recipe")) : json_object();
	json_decref(preset);
	if (!recipe || e != ERR_OK) {
		json_decref(recipe);
		return recipe ? e : ERR_NOMEM;
	}
	*ret = recipe;
	return ERR_OK;
}

/* The recipe object that is in force: a new reference. */
static enum err build_recipe(struct loader *l, const json_t *o, struct tool *t, json_t **ret)
{
	const json_t *own = json_object_get(o, "recipe"), *auth = json_object_get(o, "auth");
	json_t *recipe;
	enum err e = base_recipe(l, o, t, &recipe);

	if (e != ERR_OK)
		return e;
	if (own && !json_is_object(own))
		e = tool_bad(l, "recipe", "must be an object");
	else if (!json_object_get(o, "preset") && !own && !auth)
		e = tool_bad(l, "preset", "is needed, or \"recipe\", or \"auth\": \"none\"");
	else if (own && is_none(json_object_get(own, "scheme")) && !auth)
		e = tool_bad(l, "auth", "no verification must be written as \"auth\": \"none\"");
	if (e == ERR_OK)
		e = tool_take(l, apply_auth(l, auth, own, recipe));
	if (e == ERR_OK)
		e = merge(recipe, own);
	if (e == ERR_OK)
		e = tool_take(l, apply_format(l, o, own, recipe));
	if (e != ERR_OK) {
		json_decref(recipe);
		return e;
	}
	*ret = recipe;
	return ERR_OK;
}

static enum err recipe_fault(struct loader *l, const char *text)
{
	return tool_fault_named(l, strncmp(text, "secrets", 7) == 0 ? "" : "recipe.", text);
}

static void on_recipe_fault(void *arg, const char *text)
{
	struct loader *l = arg;

	recipe_fault(l, text);
	tool_tell(l);
}

static void on_recipient_fault(void *arg, const char *text)
{
	struct loader *l = arg;

	tool_fault_named(l, "", text);
	tool_tell(l);
}

static enum recipe_key key_form(const json_t *recipe)
{
	const json_t *keys = json_object_get(recipe, "keys");
	enum recipe_key form = RECIPE_KEY_RAW;

	/* A bad form is refused by the compiler, with a text. */
	if (json_is_string(keys) &&
	    recipe_key_form(str_of(json_string_value(keys)), &form) != ERR_OK)
		form = RECIPE_KEY_RAW;
	return form;
}

/* `secrets` NULL: they are at fault themselves. */
static enum err compile_with(struct loader *l, const json_t *recipe, const json_t *own,
                             struct str url, const struct secret_list *secrets, struct tool *t)
{
	struct err_info why = {0};
	struct err_sink sink = {.fn = on_recipe_fault, .arg = l};
	enum err e =
	    recipe_compile(recipe, own, url, secrets ? secrets->texts : NULL,
	                   secrets ? secrets->n : 0, l->sink ? &sink : NULL, &t->recipe, &why);

	return e == ERR_INVAL && why.text[0] ? recipe_fault(l, why.text) : e;
}

static enum err compile_recipe(struct loader *l, const json_t *o, struct tool *t)
{
	struct secret_list secrets = {.n = 0};
	json_t *recipe = NULL;
	struct str url;
	size_t faults;
	enum err e = tool_take(l, get_url(l, o, &url));

	if (e == ERR_OK)
		e = build_recipe(l, o, t, &recipe);
	if (e != ERR_OK)
		return e;
	faults = l->faults;
	e = tool_take(l,
	              secrets_read(l, json_object_get(o, "secrets"), key_form(recipe), &secrets));
	for (size_t i = 0; i < secrets.n && e == ERR_OK; i++)
		e = tool_fingerprint(t, i, secrets.texts[i].text);
	if (e == ERR_OK)
		e = compile_with(l, recipe, json_object_get(o, "recipe"), url,
		                 l->faults == faults ? &secrets : NULL, t);
	secrets_done(&secrets);
	json_decref(recipe);
	return e;
}

/* A tool with a provider's preset has the provider's mapping, unless it says otherwise. */
static enum err get_recipient(struct loader *l, const json_t *o, struct tool *t)
{
	const json_t *v = json_object_get(o, "recipient");
	struct err_sink sink = {.fn = on_recipient_fault, .arg = l};
	struct err_info why = {0};
	json_t *name = NULL;
	enum err e;

	if (json_is_null(v) || (!v && !recipient_preset_find(t->preset)))
		return ERR_OK;
	if (!v) {
		name = json_string(t->preset);
		if (!name)
			return ERR_NOMEM;
	}
	e = recipient_map_compile(v ? v : name, l->sink ? &sink : NULL, &t->recipient, &why);
	json_decref(name);
	return e == ERR_INVAL && why.text[0] ? tool_fault_named(l, "", why.text) : e;
}

static bool asks_for_token(const struct recipe *r)
{
	for (size_t i = 0; i < r->hand_count; i++)
		if (r->hands[i].has_token)
			return true;
	return false;
}

static enum err get_verify_token(struct loader *l, const json_t *o, struct tool *t)
{
	const json_t *v = json_object_get(o, "verify_token");
	char *text;
	size_t len;
	enum err e;

	if (!v)
		return asks_for_token(t->recipe)
		           ? tool_bad(l, "verify_token", "is needed: the handshake compares it")
		           : ERR_OK;
	if (!asks_for_token(t->recipe))
		return tool_bad(l, "verify_token",
		                "has no meaning: no handshake of the recipe asks for it");
	e = secret_read(l, "verify_token", v, &text, &len);
	if (e == ERR_OK)
		t->verify_token = (struct str){text, len};
	return e;
}

/* Such a signature can be moved to any other body, unless it counts for one only. Some providers do
 * sign so, and some senders put a digest of the body into a header that is signed, so it is no
 * fault. */
static void warn_unsigned_body(const struct loader *l, const struct recipe *r)
{
	if ((r->scheme != RECIPE_HMAC && !recipe_is_asymmetric(r->scheme)) || r->has_once)
		return;
	for (size_t i = 0; i < r->part_count; i++)
		if (r->parts[i].kind == RECIPE_PART_BODY || r->parts[i].kind == RECIPE_PART_FORM)
			return;
	log_warn(LOG_CONF, "the signature does not cover the body: `signed` has no {body}",
	         LOG_STR("tool", l->id));
}

static enum err tool_new(const char *id, struct tool **ret)
{
	struct tool *t = mem_zalloc(sizeof(*t));

	if (!t)
		return ERR_NOMEM;
	t->text = mem_strdup(id);
	if (!t->text) {
		mem_free(t);
		return ERR_NOMEM;
	}
	t->id = str_of(t->text);
	t->preset = "";
	t->refs = 1;
	*ret = t;
	return ERR_OK;
}

/* What hangs together with a recipe that is at fault is not looked at. */
static enum err compile_members(struct loader *l, const json_t *o, struct tool *t)
{
	enum err e = check_members(l, o);

	if (e == ERR_OK)
		e = tool_take(l, get_mode(l, o));
	if (e == ERR_OK)
		e = tool_take(l, get_dedup(l, o, t));
	if (e == ERR_OK)
		e = tool_take(l, get_limits(l, o, t));
	if (e == ERR_OK)
		e = tool_take(l, tool_limits_read(l, o, &t->limits));
	if (e == ERR_OK)
		e = tool_take(l, compile_recipe(l, o, t));
	if (e == ERR_OK && t->recipe)
		e = tool_take(l, tool_limits_fit(l, &t->limits, t->recipe));
	if (e == ERR_OK && t->recipe)
		e = tool_check_whole(l, o, t);
	if (e == ERR_OK && t->recipe)
		e = tool_take(l, get_verify_token(l, o, t));
	if (e == ERR_OK)
		e = tool_take(l, get_recipient(l, o, t));
	if (e == ERR_OK)
		e = tool_faults_end(l);
	return e;
}

enum err tool_compile(struct loader *l, const json_t *o, struct tool **ret)
{
	struct tool *t;
	enum err e = tool_new(l->id, &t);

	if (e != ERR_OK)
		return e;
	l->tool = t;
	e = compile_members(l, o, t);
	if (e == ERR_OK)
		e = tool_keep_source(t, o);
	l->tool = NULL;
	if (e == ERR_OK)
		warn_unsigned_body(l, t->recipe);
	if (e != ERR_OK) {
		tool_unref(t);
		return e;
	}
	*ret = t;
	return ERR_OK;
}

enum err tool_of_preset(struct loader *l, const char *preset, const char *secret, struct tool **ret)
{
	json_t *o =
	    json_pack("{s:s, s:s, s:[s]}", "id", preset, "preset", preset, "secrets", secret);
	enum err e;

	if (!o)
		return str_is_utf8(str_of(secret)) ? ERR_NOMEM : ERR_INVAL;
	e = tool_compile(l, o, ret);
	json_decref(o);
	return e;
}

struct tool *tool_ref(const struct tool *t)
{
	struct tool *counted = (struct tool *)(uintptr_t)t;

	counted->refs++;
	return counted;
}

void tool_unref(struct tool *t)
{
	if (!t || --t->refs)
		return;
	recipe_free(t->recipe);
	recipient_map_free(t->recipient);
	tool_limits_done(&t->limits);
	mem_wipe_free((char *)(uintptr_t)t->verify_token.ptr, t->verify_token.len);
	tool_source_done(t);
	mem_free(t->text);
	mem_free(t);
}
