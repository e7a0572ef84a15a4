/* Tools: the configured webhook sources, from TOOLS_FILE. A set of tools is immutable and
 * reference-counted: a reload makes a new one, requests in flight keep theirs. */
#ifndef WEIR_MODEL_TOOL_H
#define WEIR_MODEL_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct recipe;
struct recipient_map;
struct tools;

#define TOOL_ID_MAX       64
#define TOOL_MAX_COUNT    10000
#define TOOLS_FILE_MAX    (16 * 1024 * 1024) /* bytes */
#define TOOL_DEDUP_WINDOW (600 * USEC_PER_SEC)

struct tool {
	struct str id;         /* NUL-terminated */
	const char *preset;    /* name, "" when the recipe is written out */
	struct recipe *recipe; /* owned */
	uint64_t max_body;     /* bytes; 0: the service's limit */
	bool require_id;       /* an event without id is refused with 400 */
	bool dedup;            /* false: events without id are all kept ("dedup": "none") */
	usec_t dedup_window;   /* how long events without id are duplicates by their body */
	/* owned; NULL: its events are no delivery reports */
	struct recipient_map *recipient;
	struct str verify_token; /* owned, wiped: what handshakes ask for; else empty */
	char *text;              /* owned; private */
};

/* Reads the tools. `path` NULL or "": no file; then, with a `webhook_secret` that is neither NULL
 * nor "", every preset is a tool of its own name with this one secret (those whose secrets need a
 * form that it has not are left out, which the log says); without either the set is empty.
 *
 * All or nothing: on failure `info` says where (file:line:column for syntax, the tool's id and the
 * member otherwise), what is wrong and what is allowed. */
enum err tools_load(const char *path, const char *webhook_secret, struct tools **ret,
                    struct err_info *info) MUST_CHECK;
/* The same, but each tool that is at fault goes to `sink` and is left out of the set. Not ERR_OK:
 * the file as a whole cannot be read. */
enum err tools_load_all(const char *path, const char *webhook_secret, struct err_sink *sink,
                        struct tools **ret, struct err_info *info) MUST_CHECK;
/* The same as tools_load() from text; `label` stands for the file in error texts. */
enum err tools_parse(struct str text, const char *label, struct tools **ret,
                     struct err_info *info) MUST_CHECK;

struct tools *tools_ref(struct tools *t);
void tools_unref(struct tools *t); /* NULL is fine */

size_t tools_count(const struct tools *t);
const struct tool *tools_at(const struct tools *t, size_t i);        /* in the file's order */
const struct tool *tools_find(const struct tools *t, struct str id); /* NULL: none */

#endif
