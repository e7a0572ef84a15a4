/* Fields of a recipe that are each right and do not go together: what one says the other makes
 * impossible, or without effect. Whoever wrote it meant something else, so it is refused; but what
 * a preset brings along may be without effect. Each rule knows one such pair and is asked by
 * itself, so that all are told at once. */
#include <string.h>

#include "recipe_priv.h"

static bool has_part(const struct recipe *r, enum recipe_part_kind k)
{
	for (size_t i = 0; i < r->part_count; i++)
		if (r->parts[i].kind == k)
			return true;
	return false;
}

static bool has_source_part(const struct recipe *r, const struct recipe_source *s)
{
	for (size_t i = 0; i < r->part_count; i++)
		if (r->parts[i].kind == RECIPE_PART_SOURCE &&
		    recipe_same_source(&r->parts[i].source, s))
			return true;
	return false;
}

/* ---- the timestamp ---- */

static enum err rule_parts_are_there(struct compiler *c)
{
	const struct recipe *r = c->r;

	if (has_part(r, RECIPE_PART_TS) && !r->has_ts)
		return recipe_bad(c, "signed", "{ts} needs the member ts");
	if (has_part(r, RECIPE_PART_URL) && r->url.len == 0)
		return recipe_bad(c, "signed", "{url} needs the tool's member url");
	return ERR_OK;
}

/* A timestamp that nothing signs guards against nothing: whoever replays a request writes a new
 * one. What stands in the body is signed with it. */
static bool ts_is_signed(const struct recipe *r)
{
	if (has_part(r, RECIPE_PART_TS) || has_source_part(r, &r->ts))
		return true;
	if (has_part(r, RECIPE_PART_BODY) && recipe_in_body(&r->ts))
		return true;
	return has_part(r, RECIPE_PART_FORM) && r->ts.kind == RECIPE_SRC_FORM;
}

static enum err rule_time_is_signed(struct compiler *c)
{
	const struct recipe *r = c->r;

	if (!r->has_ts || !r->enforce || recipe_is_built_in(r->scheme) || ts_is_signed(r))
		return ERR_OK;
	return recipe_bad(c, "ts",
	                  "the timestamp is not part of `signed`, so anybody could "
	                  "renew it: put {ts} there, or write \"enforce\": false");
}

static enum err rule_window(struct compiler *c)
{
	static const char *const edges[] = {"past", "future"};
	const struct recipe *r = c->r;

	if (!r->has_ts)
		return ERR_OK;
	for (size_t i = 0; i < 2 && !r->enforce; i++)
		if (recipe_is_own(c, edges[i]))
			return recipe_bad(c, edges[i], "has no meaning with \"enforce\": false");
	if (r->enforce && r->past == 0 && r->future == 0)
		return recipe_bad(c, "past",
		                  "is 0, and so is future: no request would ever be in time");
	return ERR_OK;
}

/* ---- what is signed ---- */

static enum err rule_signs_the_request(struct compiler *c)
{
	const struct recipe *r = c->r;

	for (size_t i = 0; i < r->part_count; i++)
		if (r->parts[i].kind != RECIPE_PART_LITERAL)
			return ERR_OK;
	return r->part_count ? recipe_bad(c, "signed",
	                                  "names nothing of the request: one signature would "
	                                  "do for all of them")
	                     : ERR_OK;
}

static enum err rule_signs_not_itself(struct compiler *c)
{
	const struct recipe *r = c->r;

	for (size_t i = 0; i < r->part_count; i++) {
		const struct recipe_source *s = &r->parts[i].source;
		bool itself = s->kind == RECIPE_SRC_SIG && r->parse == RECIPE_KV &&
		              str_eq(s->name, r->prefix);

		if (r->parts[i].kind != RECIPE_PART_SOURCE)
			continue;
		for (size_t k = 0; k < r->sig_count; k++)
			itself |= recipe_same_source(s, &r->sigs[k]);
		if (itself)
			return recipe_bad(c, "signed",
			                  "holds the signature itself, which cannot sign itself");
	}
	return ERR_OK;
}

static enum err rule_once(struct compiler *c)
{
	const struct recipe *r = c->r;

	if (!r->has_once)
		return ERR_OK;
	if (has_part(r, RECIPE_PART_BODY))
		return recipe_bad(c, "once", "has no meaning: `signed` covers the body");
	if (!has_source_part(r, &r->once))
		return recipe_bad(c, "once",
		                  "the token is not part of `signed`, so anybody could renew it");
	return ERR_OK;
}

static enum err rule_prefix(struct compiler *c)
{
	const struct recipe *r = c->r;

	if (r->scheme != RECIPE_TOKEN || !r->prefix.len || !recipe_is_own(c, "parse"))
		return ERR_OK;
	for (size_t i = 0; i < r->sig_count; i++)
		if (r->sigs[i].kind == RECIPE_SRC_HEADER)
			return ERR_OK;
	return recipe_bad(c, "parse", "a token has a prefix in a header only; `sig` names none");
}

/* ---- one body ---- */

static bool auth_reads(const struct recipe *r, enum recipe_source_kind k)
{
	bool any = (r->has_ts && r->ts.kind == k) || (r->has_once && r->once.kind == k) ||
	           (k == RECIPE_SRC_FORM && has_part(r, RECIPE_PART_FORM));

	for (size_t i = 0; i < r->sig_count; i++)
		any |= r->sigs[i].kind == k;
	for (size_t i = 0; i < r->part_count; i++)
		any |= r->parts[i].kind == RECIPE_PART_SOURCE && r->parts[i].source.kind == k;
	return any;
}

static bool reads(const struct recipe_source *list, size_t n, enum recipe_source_kind k)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].kind == k)
			return true;
	return false;
}

static enum err no_source(struct compiler *c, enum recipe_source_kind k, const char *why)
{
	const char *prefix = k == RECIPE_SRC_JSON ? "json:" : "form:";

	if (reads(c->r->ids, c->r->id_count, k))
		return recipe_bad(c, "id", "%s is never found: %s", prefix, why);
	if (reads(c->r->types, c->r->type_count, k))
		return recipe_bad(c, "type", "%s is never found: %s", prefix, why);
	return ERR_OK;
}

/* What verifies it says what a body is, or the array that is looked for in it. */
static enum err rule_one_body(struct compiler *c)
{
	static const char is_form[] = "the body is a form, as it is verified",
	                  is_json[] = "the body is JSON, as it is verified";
	const struct recipe *r = c->r;
	bool form = auth_reads(r, RECIPE_SRC_FORM), json = auth_reads(r, RECIPE_SRC_JSON);

	if (form && json)
		return recipe_bad(c, "signed",
		                  "the verification needs form: and json:, and a body is one of "
		                  "them");
	if (form && r->split_count)
		return recipe_bad(c, "split", "has no meaning: %s", is_form);
	if (form && recipe_is_own(c, "volatile"))
		return recipe_bad(c, "volatile", "has no meaning: %s", is_form);
	if (form)
		return no_source(c, RECIPE_SRC_JSON, is_form);
	if (json)
		return no_source(c, RECIPE_SRC_FORM, is_json);
	if (r->split_count && !r->split_optional && r->format == RECIPE_FORMAT_NONE)
		return no_source(c, RECIPE_SRC_FORM, "`split` needs JSON");
	return ERR_OK;
}

/* ---- what is stored ---- */

static bool is_secret(const struct recipe *r, const struct recipe_source *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < r->sig_count; k++)
			if (recipe_same_source(&list[i], &r->sigs[k]))
				return true;
	return false;
}

static enum err rule_secret_is_not_stored(struct compiler *c)
{
	const struct recipe *r = c->r;

	if (r->scheme != RECIPE_TOKEN && r->scheme != RECIPE_BASIC)
		return ERR_OK;
	if (is_secret(r, r->ids, r->id_count))
		return recipe_bad(c, "id", "would be the secret, as `sig` has it");
	if (is_secret(r, r->types, r->type_count))
		return recipe_bad(c, "type", "would be the secret, as `sig` has it");
	return ERR_OK;
}

enum err recipe_check_whole(struct compiler *c)
{
	static enum err (*const rules[])(struct compiler * c) = {
	    rule_parts_are_there,     rule_time_is_signed, rule_window, rule_signs_the_request,
	    rule_signs_not_itself,    rule_once,           rule_prefix, rule_one_body,
	    rule_secret_is_not_stored};
	enum err e = ERR_OK;

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]) && e == ERR_OK; i++)
		e = err_sink_take(c->sink, rules[i](c), c->info);
	return e;
}
