/* Where a request's events lie: paths of arrays. */
#include <string.h>

#include "recipe_priv.h"

static enum err add_level(struct compiler *c, struct recipe_split *r, struct str path)
{
	enum err e;

	if (r->level_count == RECIPE_MAX_LEVELS)
		return recipe_bad(c, "split", "more than %d arrays", RECIPE_MAX_LEVELS);
	if (path.len == 0 && r->level_count > 0)
		return recipe_bad(c, "split", "an array directly inside an array is not allowed");
	r->levels[r->level_count] = NULL;
	if (path.len) {
		e = json_paths_new(&path, 1, &r->levels[r->level_count]);
		if (e != ERR_OK)
			return e == ERR_NOMEM ? e
			                      : recipe_bad(c, "split", "\"%.*s\" is no JSON path",
			                                   (int)path.len, path.ptr);
	}
	r->level_count++;
	return ERR_OK;
}

/* A path of arrays: "[]", "entry[].changes[]". */
static enum err add_path(struct compiler *c, struct str rest)
{
	struct recipe_split *to = &c->r->splits[c->r->split_count];
	enum err e = ERR_OK;

	if (c->r->split_count == RECIPE_MAX_SPLITS)
		return recipe_bad(c, "split", "more than %d paths", RECIPE_MAX_SPLITS);
	if (rest.len && rest.ptr[rest.len - 1] == '?') {
		c->r->split_optional = true;
		rest.len--;
	}
	if (rest.len < 2)
		return recipe_bad(c, "split",
		                  "must be \"[]\", a path like \"entry[].changes[]\", a list of "
		                  "such, or \"none\"");
	c->r->split_count++; /* from here on recipe_free() knows its levels */
	while (rest.len && e == ERR_OK) {
		const char *mark = memmem(rest.ptr, rest.len, "[]", 2);
		size_t at = mark ? (size_t)(mark - rest.ptr) : 0;

		if (!mark)
			return recipe_bad(c, "split", "must end with []");
		e = add_level(c, to, (struct str){rest.ptr, at});
		rest.ptr += at + 2;
		rest.len -= at + 2;
		if (rest.len && rest.ptr[0] == '.') {
			rest.ptr++;
			rest.len--;
		} else if (rest.len) {
			return recipe_bad(c, "split", "behind [] stands nothing, a dot, or ?");
		}
	}
	return e;
}

enum err recipe_compile_split(struct compiler *c)
{
	const json_t *v = json_object_get(c->object, "split"), *item;
	enum err e = ERR_OK;
	size_t i;

	if (!v || (json_is_string(v) && strcmp(json_string_value(v), "none") == 0))
		return ERR_OK;
	if (!json_is_array(v))
		return add_path(c, json_is_string(v) ? recipe_text(v) : STR(""));
	if (json_array_size(v) == 0)
		return recipe_bad(c, "split", "the list is empty");
	json_array_foreach(v, i, item)
	{
		if (e == ERR_OK && recipe_is_repeated(v, i))
			e = recipe_bad(c, "split", "[%zu] stands there before", i);
		if (e == ERR_OK)
			e = add_path(c, json_is_string(item) ? recipe_text(item) : STR(""));
	}
	return e;
}
