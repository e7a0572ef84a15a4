/* What the admin API reads of a request. The first byte chooses: a query, conditions, an
 * Authorization, a Content-Type, a path. What is found of a query is compared with what another
 * reader of forms finds there; a condition holds for the very ETag that was given out. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weir/app/admin_request.h"
#include "weir/base/form.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

/* The field's value; NULL: it is not there. */
static const struct str *find(const struct form_fields *f, struct str name)
{
	const struct str *found = NULL;

	for (size_t i = 0; i < f->n; i++)
		if (str_eq(f->list[i].name, name))
			found = &f->list[i].value;
	return found;
}

static void query(struct str text)
{
	static struct form_fields f;
	struct err_info info = {0};
	struct admin_page p = {.limit = -7};
	const struct str *limit, *cursor;
	enum err e = admin_read_page(text, &p, &info);

	must(e == ERR_OK || (e == ERR_INVAL && info.text[0] && p.limit == -7));
	for (const char *c = info.text; *c; c++)
		must((uint8_t)*c >= 0x20 && (uint8_t)*c < 0x7f);
	if (e != ERR_OK)
		return;
	must(p.limit >= 1 && p.limit <= ADMIN_PAGE_MAX);
	must(!p.cursor[0] || tool_id_is_valid(str_of(p.cursor)));
	if (form_fields_read(&f, text, false) != ERR_OK)
		return;
	limit = find(&f, STR("limit"));
	cursor = find(&f, STR("cursor"));
	must(limit || p.limit == ADMIN_PAGE);
	must(cursor ? str_eq(*cursor, str_of(p.cursor)) : !p.cursor[0]);
}

/* A line each: If-Match, If-None-Match. */
static void conditions(struct str text)
{
	struct str none = text, match = str_split(&none, '\n');
	char etag[ADMIN_ETAG_MAX];
	int64_t version = -7;

	if (admin_read_condition(match, 1, STR_NONE, 0, &version)) {
		must(version >= 1);
		admin_format_etag(version, etag);
		must(str_eq(match, str_of(etag)));
	} else {
		must(version == -7);
	}
	must(!admin_read_condition(match, 1, none, 1, &version));
	must(admin_read_condition(STR_NONE, 0, none, 1, &version) == str_eq(none, STR("*")));
}

static void bearer(struct str text)
{
	struct str token = admin_read_bearer(text);

	if (!token.ptr)
		return;
	must(token.len > 0 && token.ptr >= text.ptr + 7);
	must(token.ptr + token.len <= text.ptr + text.len);
	must(str_eq(str_trim(token), token));
}

/* A line each: the route, the path. */
static void path(struct str text)
{
	struct str at = text, route = str_split(&at, '\n'), name;
	bool named = route.len && route.ptr[route.len - 1] == '/';

	if (!route.len || !at.ptr || !admin_path_fits(at, route, &name))
		return;
	must(at.len == route.len + name.len && memcmp(at.ptr, route.ptr, route.len) == 0);
	must(named == (name.len > 0) && (!name.len || !memchr(name.ptr, '/', name.len)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text;
	char *copy;

	if (size == 0)
		return 0;
	/* A block of its own, so that a byte too many is noticed. */
	copy = malloc(size);
	must(copy != NULL);
	memcpy(copy, data + 1, size - 1);
	text = str_n(copy, size - 1);
	switch (data[0] % 5) {
	case 0:
		query(text);
		break;
	case 1:
		conditions(text);
		break;
	case 2:
		bearer(text);
		break;
	case 3:
		must(!admin_is_json(text) || text.len >= 16);
		break;
	case 4:
		path(text);
		break;
	}
	free(copy);
	return 0;
}
