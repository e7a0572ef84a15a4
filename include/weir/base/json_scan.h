/* A validating JSON scanner (RFC 8259, UTF-8 checked, depth bounded) that picks values by path
 * while it goes, without building a tree. jansson is its oracle in tests.
 *
 * A path is dotted member names: "event.type"; a number picks an array element: "0.id"; names with
 * dots or digits only are not reachable. Compile once, scan often. When an object repeats a member,
 * the last one wins, as in jansson and most senders. */
#ifndef WEIR_BASE_JSON_SCAN_H
#define WEIR_BASE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/buf.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

#define JSON_SCAN_DEPTH 512 /* deepest nesting that counts as valid */

enum json_kind {
	JSON_KIND_ABSENT,
	JSON_KIND_NULL,
	JSON_KIND_BOOL,
	JSON_KIND_NUMBER,
	JSON_KIND_STRING,
	JSON_KIND_ARRAY,
	JSON_KIND_OBJECT
};

struct json_pick {
	enum json_kind kind;
	struct str raw; /* the value's exact bytes in the input, quotes included */
};

struct json_paths; /* compiled, immutable, shareable */

/* At most 32 paths of at most 16 steps. The i-th path's pick is picks[i] below. */
enum err json_paths_new(const struct str *paths, size_t n, struct json_paths **ret) MUST_CHECK;
void json_paths_free(struct json_paths *p);

/* Validates all of `text` as one JSON value. ERR_INVAL when it is none (picks are unspecified
 * then), ERR_TOOBIG when it nests deeper than JSON_SCAN_DEPTH. `ret_offset` (may be NULL) is where
 * it failed. `paths` NULL only validates. */
enum err json_scan(struct str text, const struct json_paths *paths, struct json_pick *picks,
                   size_t *ret_offset) MUST_CHECK;

/* Calls `each` with the exact bytes of every element of the array `text` (a pick of kind
 * JSON_KIND_ARRAY), in order; stops at its first error and returns it. */
enum err json_each(struct str text, enum err (*each)(void *arg, struct str element),
                   void *arg) MUST_CHECK;

/* The text of a scalar pick: strings unescaped (a lone surrogate becomes U+FFFD), numbers and
 * booleans as written. ERR_INVAL for null, arrays and objects. */
enum err json_text(const struct json_pick *pick, struct buf *out) MUST_CHECK;

#endif
