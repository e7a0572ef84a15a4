/* What a tool says besides its recipe, and that does not go with it: see recipe_whole.c. Only what
 * the tool itself has is at fault, not what a preset brings along. */
#include "tool_priv.h"

static bool signs_url(const struct recipe *r)
{
	for (size_t i = 0; i < r->part_count; i++)
		if (r->parts[i].kind == RECIPE_PART_URL)
			return true;
	return r->scheme == RECIPE_TWILIO || r->scheme == RECIPE_JWT;
}

static enum err rule_url(struct loader *l, const json_t *o, const struct tool *t)
{
	if (!json_object_get(o, "url") || signs_url(t->recipe))
		return ERR_OK;
	return tool_bad(l, "url", "has no meaning: the recipe signs no URL");
}

static enum err rule_require_id(struct loader *l, const json_t *o, const struct tool *t)
{
	static const char *const idle[] = {"dedup", "dedup_window"};

	if (!t->require_id)
		return ERR_OK;
	if (t->recipe->id_count == 0)
		return tool_bad(l, "require_id",
		                "every event would be refused: the recipe finds no id");
	for (size_t i = 0; i < 2; i++)
		if (json_object_get(o, idle[i]))
			return tool_bad(l, idle[i],
			                "has no meaning with require_id: it is about events "
			                "without id");
	return ERR_OK;
}

static enum err rule_volatile(struct loader *l, const json_t *o, const struct tool *t)
{
	bool own = json_object_get(json_object_get(o, "recipe"), "volatile");

	if (t->dedup || t->recipe->id_count || !t->recipe->volatile_count || !own)
		return ERR_OK;
	return tool_bad(l, "recipe.volatile",
	                "has no meaning: with \"dedup\": \"none\" and no id nothing is compared");
}

/* Where the body has no part in the verification it does not matter what of it is signed. */
static enum err rule_signed_encoding(struct loader *l, const json_t *o, const struct tool *t)
{
	const struct recipe *r = t->recipe;
	bool over_body = r->scheme != RECIPE_NONE && r->scheme != RECIPE_TOKEN &&
	                 r->scheme != RECIPE_BASIC && r->scheme != RECIPE_JWT;

	if (!json_object_get(o, "signed_encoding") || over_body || recipe_auth_reads_body(r))
		return ERR_OK;
	return tool_bad(l, "signed_encoding", "has no meaning: nothing signs the body");
}

enum err tool_check_whole(struct loader *l, const json_t *o, const struct tool *t)
{
	enum err (*const rules[])(struct loader *, const json_t *, const struct tool *) = {
	    rule_url, rule_require_id, rule_volatile, rule_signed_encoding};
	enum err e = ERR_OK;

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]) && e == ERR_OK; i++)
		e = tool_take(l, rules[i](l, o, t));
	return e;
}
