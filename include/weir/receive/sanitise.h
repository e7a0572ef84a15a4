/* What is stored as text is made valid UTF-8 without NUL or control characters, and short, before
 * anything else touches it; so nothing later can fail on it. */
#ifndef WEIR_RECEIVE_SANITISE_H
#define WEIR_RECEIVE_SANITISE_H

#include <stddef.h>

#include "weir/base/buf.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct http_header;
struct recipe;

/* `raw` where it is clean and at most EVENT_TEXT_MAX bytes: *ret is `raw` itself then and `out` is
 * not touched. Else the clean text is appended to `out` and *ret points there (until `out`
 * changes). Bytes that are not UTF-8 are read as Latin-1; control characters become %XX; what is
 * too long is cut at a character and ends in "…sha256:" and the digest of `raw`, so that it stays
 * distinct. */
enum err sanitise_text(struct str raw, struct buf *out, struct str *ret) MUST_CHECK;

struct kept_headers {
	struct str json;         /* [["Name","value"],…], points into the buffer */
	struct str content_type; /* clean; empty when there is none */
	struct str traceparent;  /* a valid one, or empty */
};

/* All headers as JSON, names as they were sent; the values of Authorization, Cookie,
 * Proxy-Authorization and of the headers that hold the recipe's token are null. `json` and `type`
 * are emptied first; the results point into them and into the headers. */
enum err sanitise_headers(const struct http_header *headers, size_t n, const struct recipe *r,
                          struct buf *json, struct buf *type, struct kept_headers *ret) MUST_CHECK;

#endif
