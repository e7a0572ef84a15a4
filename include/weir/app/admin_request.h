/* What the admin API reads of a request besides a tool's definition, apart from HTTP: who asks,
 * which page of a list, on what condition something is to be changed. */
#ifndef WEIR_APP_ADMIN_REQUEST_H
#define WEIR_APP_ADMIN_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"
#include "weir/base/str.h"
#include "weir/model/tool.h"

#define ADMIN_PAGE     100 /* rows of a list, unless the caller says otherwise */
#define ADMIN_PAGE_MAX 1000

/* The token of an Authorization header's value: "Bearer TOKEN", the scheme in any case. STR_NONE:
 * it is another scheme, or there is no token. */
struct str admin_read_bearer(struct str authorization);

/* application/json, whatever its parameters. */
bool admin_is_json(struct str content_type);

/* Is it the path of `route`, or where that ends with '/', one with a name behind it (no further
 * '/')? *ret_name is the name, or empty. */
bool admin_path_fits(struct str path, struct str route, struct str *ret_name);

struct admin_page {
	int64_t limit;                /* 1 to ADMIN_PAGE_MAX */
	char cursor[TOOL_ID_MAX + 1]; /* an id of a tool; "": the first page */
};

/* `query` is raw; parameters with other names are not looked at. ERR_INVAL, with a text for the
 * sender: one of them is malformed, out of its range or there twice; ERR_NOMEM. */
enum err admin_read_page(struct str query, struct admin_page *ret,
                         struct err_info *info) MUST_CHECK;

#define ADMIN_ETAG_MAX 24
#define ADMIN_ANY      (-1) /* no condition */
#define ADMIN_ABSENT   0    /* only where there is no such tool */

/* A tool's version as its ETag. */
void admin_format_etag(int64_t version, char ret[ADMIN_ETAG_MAX]);
/* `n_match` and `n_none` are how often If-Match and If-None-Match were sent, `match` and `none` the
 * value of the first. *ret is ADMIN_ANY, ADMIN_ABSENT (If-None-Match: *) or the version that
 * If-Match's ETag stands for, just as admin_format_etag() writes it. False: it is another
 * condition, or several. */
bool admin_read_condition(struct str match, size_t n_match, struct str none, size_t n_none,
                          int64_t *ret);

#endif
