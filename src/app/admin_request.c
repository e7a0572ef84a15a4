/* A condition that is misread changes what it was to protect, so an ETag is only what was given out
 * as one, to the byte. */
#include "weir/app/admin_request.h"

#include <stdio.h>
#include <string.h>

#include "weir/base/buf.h"
#include "weir/base/form.h"

struct str admin_read_bearer(struct str authorization)
{
	struct str token = authorization, scheme = str_split(&token, ' ');

	if (!str_ieq(scheme, STR("bearer")) || !token.ptr)
		return STR_NONE;
	token = str_trim(token);
	return token.len ? token : STR_NONE;
}

bool admin_is_json(struct str content_type)
{
	return str_ieq(str_trim(str_split(&content_type, ';')), STR("application/json"));
}

bool admin_path_fits(struct str path, struct str route, struct str *ret_name)
{
	struct str name;

	if (!str_starts(path, route))
		return false;
	name = str_n(path.ptr + route.len, path.len - route.len);
	if (route.ptr[route.len - 1] != '/') {
		if (name.len)
			return false;
	} else if (name.len == 0 || memchr(name.ptr, '/', name.len)) {
		return false;
	}
	*ret_name = name;
	return true;
}

/* ---- pages ---- */

/* What is not there keeps its value. */
static enum err read_limit(struct str query, struct buf *b, int64_t *ret, struct err_info *info)
{
	struct str value;
	enum err e = form_value(query, STR("limit"), b, &value);

	if (e == ERR_OK)
		e = str_to_int(value, 1, ADMIN_PAGE_MAX, ret);
	if (e == ERR_INVAL)
		return err_set(info, e, "limit: must be a number from 1 to %d", ADMIN_PAGE_MAX);
	return e == ERR_NOTFOUND ? ERR_OK : e;
}

static enum err read_cursor(struct str query, struct buf *b, struct admin_page *p,
                            struct err_info *info)
{
	struct str value = STR("");
	enum err e = form_value(query, STR("cursor"), b, &value);

	if (e == ERR_OK && value.len && !tool_id_is_valid(value))
		e = ERR_INVAL;
	if (e == ERR_INVAL)
		return err_set(info, e, "cursor: must be one that a page's \"next\" gave");
	if (e == ERR_OK)
		snprintf(p->cursor, sizeof(p->cursor), "%.*s", (int)value.len, value.ptr);
	return e == ERR_NOTFOUND ? ERR_OK : e;
}

enum err admin_read_page(struct str query, struct admin_page *ret, struct err_info *info)
{
	struct admin_page p = {.limit = ADMIN_PAGE};
	struct buf b;
	enum err e;

	buf_init(&b, query.len);
	e = read_limit(query, &b, &p.limit, info);
	if (e == ERR_OK)
		e = read_cursor(query, &b, &p, info);
	buf_done(&b);
	if (e == ERR_OK)
		*ret = p;
	return e;
}

/* ---- conditions ---- */

void admin_format_etag(int64_t version, char ret[ADMIN_ETAG_MAX])
{
	snprintf(ret, ADMIN_ETAG_MAX, "\"%lld\"", (long long)version);
}

static bool read_etag(struct str s, int64_t *ret)
{
	char again[ADMIN_ETAG_MAX];
	int64_t version;

	if (s.len < 3 || str_to_int(str_n(s.ptr + 1, s.len - 2), 1, INT64_MAX, &version) != ERR_OK)
		return false;
	admin_format_etag(version, again);
	if (!str_eq(s, str_of(again)))
		return false;
	*ret = version;
	return true;
}

bool admin_read_condition(struct str match, size_t n_match, struct str none, size_t n_none,
                          int64_t *ret)
{
	if (n_match + n_none > 1)
		return false;
	if (n_match)
		return read_etag(match, ret);
	if (n_none && !str_eq(none, STR("*")))
		return false;
	*ret = n_none ? ADMIN_ABSENT : ADMIN_ANY;
	return true;
}
