/* "Query string hash" of Atlassian Connect: path and query in one spelling, so that what a proxy
 * may change on the way does not matter. */
#include "weir/model/builtin.h"

#include "weir/model/recipe.h"

/* The path below the app's base URL, without a slash at the end. */
static void add_path(struct str path, struct str url, struct buf *out)
{
	const char *slash;
	struct str base;

	url = str_split(&url, '?');
	slash = url.len > 8 ? memchr(url.ptr + 8, '/', url.len - 8) : NULL;
	base = slash ? str_n(slash, (size_t)(url.ptr + url.len - slash)) : STR("");

	while (base.len && base.ptr[base.len - 1] == '/')
		base.len--;
	if (base.len && str_starts(path, base) &&
	    (path.len == base.len || path.ptr[base.len] == '/'))
		path = str_n(path.ptr + base.len, path.len - base.len);
	if (path.len && path.ptr[path.len - 1] == '/')
		path.len--;
	if (path.len == 0)
		buf_add_char(out, '/');
	for (size_t i = 0; i < path.len; i++) {
		if (path.ptr[i] == '&')
			buf_add_cstr(out, "%26");
		else
			buf_add_char(out, path.ptr[i]);
	}
}

/* Fields in order; the values of one name are joined by commas. The token itself may stand in the
 * query, and is left out. */
static void add_query(const struct form_fields *f, struct buf *out)
{
	const struct form_field *before = NULL;

	for (size_t i = 0; i < f->n; i++) {
		const struct form_field *at = &f->list[i];

		if (str_eq(at->name, STR("jwt")))
			continue;
		if (before && str_eq(before->name, at->name)) {
			buf_add_char(out, ',');
		} else {
			if (before)
				buf_add_char(out, '&');
			buf_add_str(out, at->name);
			buf_add_char(out, '=');
		}
		buf_add_str(out, at->value);
		before = at;
	}
}

enum err builtin_jwt_request(struct recipe_input *in, struct buf *out)
{
	const struct recipe_request *q = in->request;
	struct str rest = q->target, path = str_split(&rest, '?');
	enum err e = form_fields_read(&in->fields, q->query, true);

	if (e != ERR_OK)
		return e == ERR_NOMEM ? e : ERR_INVAL;
	buf_add_str(out, q->method);
	buf_add_char(out, '&');
	add_path(path, in->recipe->url, out);
	buf_add_char(out, '&');
	add_query(&in->fields, out);
	return out->err ? ERR_NOMEM : ERR_OK;
}
