/* Lists of sources: the first that is found counts. */
#include <stdio.h>
#include <string.h>

#include "recipe_priv.h"

bool recipe_is_repeated(const json_t *list, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (json_equal(json_array_get(list, k), json_array_get(list, i)))
			return true;
	return false;
}

struct list {
	struct compiler *c;
	const char *member;
	unsigned allowed;
	bool in_item;
	struct recipe_source *at;
	size_t space, n;
};

static enum err add_one(struct list *l, struct str text)
{
	enum err e;

	if (l->n == l->space)
		return recipe_bad(l->c, l->member, "more than %zu sources", l->space);
	e = recipe_compile_source(l->c, l->member, text, l->allowed, l->in_item, &l->at[l->n]);
	l->n += e == ERR_OK;
	return e;
}

/* "header:NAME{1..5}" stands for NAME1 to NAME5. Other texts give one source. */
static enum err add_sources(struct list *l, struct str text)
{
	const char *brace = memchr(text.ptr, '{', text.len);
	size_t at = brace ? (size_t)(brace - text.ptr) : 0;
	enum err e = ERR_OK;

	if (!brace || !str_starts(text, STR("header:")))
		return add_one(l, text);
	if (text.len - at != 6 || memcmp(brace + 2, "..", 2) != 0 || brace[5] != '}' ||
	    brace[1] < '0' || brace[4] > '9' || brace[1] >= brace[4])
		return recipe_bad(l->c, l->member, "\"%.*s\": numbers are written {1..5}",
		                  (int)text.len, text.ptr);
	for (char digit = brace[1]; digit <= brace[4] && e == ERR_OK; digit++) {
		char name[300];
		int len = snprintf(name, sizeof(name), "%.*s%c", (int)at, text.ptr, digit);

		e = len < 0 || (size_t)len >= sizeof(name)
		        ? recipe_bad(l->c, l->member, "the name is too long")
		        : add_one(l, str_n(name, (size_t)len));
	}
	return e;
}

/* A list inside the list: one text of all of them. */
static enum err add_joined(struct list *l, const json_t *group)
{
	const json_t *item;
	enum err e = ERR_OK;
	size_t i;

	if (json_array_size(group) < 2)
		return recipe_bad(l->c, l->member, "a list inside the list must hold two or more");
	json_array_foreach(group, i, item)
	{
		if (!json_is_string(item))
			return recipe_bad(l->c, l->member, "the list must hold strings");
		e = add_one(l, recipe_text(item));
		if (e != ERR_OK)
			return e;
		l->at[l->n - 1].joined = i > 0;
	}
	return ERR_OK;
}

static enum err add_item(struct list *l, const json_t *item, bool may_join)
{
	if (json_is_string(item))
		return add_sources(l, recipe_text(item));
	if (json_is_array(item) && may_join)
		return add_joined(l, item);
	return recipe_bad(l->c, l->member, "the list must hold strings");
}

enum err recipe_compile_list(struct compiler *c, const char *member, unsigned allowed, bool in_item,
                             struct recipe_source *list, size_t space, size_t *n)
{
	struct list l = {c, member, allowed, in_item, list, space, *n};
	const json_t *v = json_object_get(c->object, member), *item;
	bool may_join = strcmp(member, "sig") != 0;
	enum err e = ERR_OK;
	size_t i;

	if (json_is_string(v))
		e = add_sources(&l, recipe_text(v));
	else if (v && !json_is_array(v))
		e = recipe_bad(c, member, "must be a source (\"header:NAME\") or a list of them");
	if (json_is_array(v) && json_array_size(v) == 0)
		e = recipe_bad(c, member, "the list is empty");
	json_array_foreach(v, i, item)
	{
		if (e == ERR_OK && recipe_is_repeated(v, i))
			e = recipe_bad(c, member, "[%zu] stands there before", i);
		if (e == ERR_OK)
			e = add_item(&l, item, may_join);
	}
	*n = l.n;
	return e;
}
