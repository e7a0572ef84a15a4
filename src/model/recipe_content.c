/* What of a body counts when two of one event are compared. A sender that tries again counts its
 * tries in the body, or stamps it anew, and it is the same event all the same: the recipe names
 * such values. They are left out of the hash alone; the body is kept as it came. */
#include <string.h>

#include "weir/base/digest.h"

#include "recipe_priv.h"

static enum err add(struct compiler *c, const json_t *v, struct str *paths)
{
	struct recipe *r = c->r;
	struct str text = json_is_string(v) ? recipe_text(v) : STR("");

	if (!str_starts(text, STR("json:")) || text.len == 5 || memchr(text.ptr, '|', text.len))
		return recipe_bad(c, "volatile", "must be json:PATH, or a list of such");
	if (r->volatile_count == RECIPE_MAX_VOLATILE)
		return recipe_bad(c, "volatile", "more than %d paths", RECIPE_MAX_VOLATILE);
	text = recipe_keep(r, text);
	if (!text.ptr)
		return ERR_NOMEM;
	paths[r->volatile_count] = str_n(text.ptr + 5, text.len - 5);
	r->volatiles[r->volatile_count++] = text;
	return ERR_OK;
}

enum err recipe_compile_volatile(struct compiler *c)
{
	const json_t *v = json_object_get(c->object, "volatile"), *item;
	struct str paths[RECIPE_MAX_VOLATILE];
	enum err e = ERR_OK;
	size_t i;

	if (!v)
		return ERR_OK;
	if (!json_is_array(v))
		e = add(c, v, paths);
	else if (json_array_size(v) == 0)
		e = recipe_bad(c, "volatile", "the list is empty");
	json_array_foreach(v, i, item)
	{
		if (e == ERR_OK && recipe_is_repeated(v, i))
			e = recipe_bad(c, "volatile", "[%zu] stands there before", i);
		if (e == ERR_OK)
			e = add(c, item, paths);
	}
	if (e != ERR_OK)
		return e;
	e = json_paths_new(paths, c->r->volatile_count, &c->r->volatile_paths);
	if (e == ERR_OK || e == ERR_NOMEM)
		return e;
	return recipe_bad(c, "volatile", "holds what is no JSON path");
}

/* In the order in which they stand in the body. */
static void sort(struct json_pick *picks, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		struct json_pick one = picks[i];
		size_t at = i;

		for (; at > 0 && picks[at - 1].raw.ptr > one.raw.ptr; at--)
			picks[at] = picks[at - 1];
		picks[at] = one;
	}
}

enum err recipe_content(const struct recipe *r, struct str body, uint8_t out[RECIPE_CONTENT_LEN])
{
	struct json_pick picks[RECIPE_MAX_VOLATILE];
	struct str parts[2 * RECIPE_MAX_VOLATILE + 1];
	uint8_t digest[DIGEST_MAX_LEN];
	const char *at = body.ptr;
	size_t found = 0, n = 0;
	enum err e;

	if (!r->volatile_paths || json_scan(body, r->volatile_paths, picks, NULL) != ERR_OK)
		return ERR_NOTFOUND;
	for (size_t i = 0; i < r->volatile_count; i++)
		if (picks[i].kind != JSON_KIND_ABSENT)
			picks[found++] = picks[i];
	if (found == 0)
		return ERR_NOTFOUND;
	sort(picks, found);
	for (size_t i = 0; i < found; i++) {
		if (picks[i].raw.ptr < at) /* inside the one before */
			continue;
		parts[n++] = str_n(at, (size_t)(picks[i].raw.ptr - at));
		parts[n++] = (struct str){"", 1}; /* no text of JSON holds a NUL */
		at = picks[i].raw.ptr + picks[i].raw.len;
	}
	parts[n++] = str_n(at, (size_t)(body.ptr + body.len - at));
	e = digest_parts(DIGEST_SHA256, parts, n, digest);
	if (e == ERR_OK)
		memcpy(out, digest, RECIPE_CONTENT_LEN);
	return e;
}
