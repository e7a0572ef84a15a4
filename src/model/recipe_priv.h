/* What the pieces of the recipe compiler share. */
#ifndef WEIR_MODEL_RECIPE_PRIV_H
#define WEIR_MODEL_RECIPE_PRIV_H

#include <jansson.h>
#include <stdbool.h>

#include "weir/model/recipe.h"

#define RECIPE_MAX_PATHS 32

#define ALLOW(kind) (1u << (kind))

struct compiler {
	struct recipe *r;
	const json_t *object;
	const json_t *own; /* see recipe_compile() */
	struct str paths[RECIPE_MAX_PATHS];
	struct str item_paths[RECIPE_MAX_PATHS];
	struct err_info *info;
	struct err_sink *sink; /* NULL: the first fault ends it */
};

/* "member: text" into the compiler's info; returns ERR_INVAL. */
enum err recipe_bad(struct compiler *c, const char *member, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* A copy that lives as long as the recipe; ptr NULL without memory. */
struct str recipe_keep(struct recipe *r, struct str s);

static inline struct str recipe_text(const json_t *v)
{
	return str_n(json_string_value(v), json_string_length(v));
}

/* Whether the tool wrote it, and no preset. */
static inline bool recipe_is_own(const struct compiler *c, const char *member)
{
	return json_object_get(c->object, member) && json_object_get(c->own, member);
}

/* Whether it stands in a field of the body. */
static inline bool recipe_in_body(const struct recipe_source *s)
{
	return s->kind == RECIPE_SRC_JSON || s->kind == RECIPE_SRC_FORM;
}

/* Whether both are the same value of a request. Of JSON inside JSON that is not known. */
static inline bool recipe_same_source(const struct recipe_source *a, const struct recipe_source *b)
{
	return a->kind == b->kind && str_eq(a->name, b->name) && !a->inner && !b->inner &&
	       a->in_item == b->in_item;
}

/* One source, "header:NAME" and the like. `allowed` is a mask of ALLOW(kind). `member` names the
 * place in error texts. */
enum err recipe_compile_source(struct compiler *c, const char *member, struct str text,
                               unsigned allowed, bool in_item, struct recipe_source *ret);
/* A member that is a source, or a list of sources and of lists of joined ones: at most `space`. */
enum err recipe_compile_list(struct compiler *c, const char *member, unsigned allowed, bool in_item,
                             struct recipe_source *list, size_t space, size_t *n);
/* Whether an item of a list stands there before, where it is never looked at. */
bool recipe_is_repeated(const json_t *list, size_t i);
/* The signature and the sources of a built-in scheme; others have none. */
enum err recipe_compile_built_in(struct compiler *c);
/* "SOURCE UNIT" of a built-in scheme's timestamp; NULL: it has none that is known here. */
const char *recipe_built_in_ts(enum recipe_scheme s);
/* A list of host patterns, added to the pin. */
enum err recipe_compile_hosts(struct compiler *c, const char *member, const json_t *list,
                              struct pin *pin);
enum err recipe_compile_template(struct compiler *c, struct str text);
enum err recipe_compile_ts(struct compiler *c);
enum err recipe_compile_split(struct compiler *c);
enum err recipe_compile_volatile(struct compiler *c);
enum err recipe_compile_keys(struct compiler *c);
enum err recipe_compile_hand(struct compiler *c);
/* Whether the fields go together. */
enum err recipe_check_whole(struct compiler *c);
enum err recipe_compile_secrets(struct compiler *c, const struct recipe_secret_text *secrets,
                                size_t n);

#endif
