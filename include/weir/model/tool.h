/* Tools: the configured webhook sources, from TOOLS_FILE and from the table weir.tools. A set of
 * tools is immutable and reference-counted, and so is each tool in it: a change makes a new set,
 * which shares what did not change; requests in flight keep theirs. */
#ifndef WEIR_MODEL_TOOL_H
#define WEIR_MODEL_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"
#include "weir/model/tool_limits.h"

struct json_t;
struct recipe;
struct recipient_map;
struct tools;

#define TOOL_ID_MAX      64
#define TOOL_MAX_COUNT   10000
#define TOOLS_FILE_MAX   (16 * 1024 * 1024) /* bytes */
#define TOOL_MAX_SECRETS 16
#define TOOL_MAX_FILES   (TOOL_MAX_SECRETS + 1) /* its secrets, and the verify token */
#define TOOL_FINGERPRINT 9                      /* hex digits and a NUL */

/* What a file was when a secret was read from it; any change of it shows here. */
struct tool_stamp {
	uint64_t device, inode, size;
	int64_t mtime_ns, ctime_ns;
};

struct tool_file {
	char *path;              /* owned */
	struct tool_stamp stamp; /* when it was read */
	struct tool_stamp seen;  /* a mark of who watches it */
};

struct tool {
	struct str id;         /* NUL-terminated */
	const char *preset;    /* name, "" when the recipe is written out */
	struct recipe *recipe; /* owned */
	uint64_t max_body;     /* bytes; 0: the service's limit */
	size_t max_body_line;  /* of its file; 0: in none */
	bool require_id;       /* an event without id is refused with 400 */
	bool dedup;            /* false: events without id are all kept ("dedup": "none") */
	struct tool_limits limits;
	usec_t dedup_window; /* how long events without id are duplicates by their body */
	/* owned; NULL: its events are no delivery reports */
	struct recipient_map *recipient;
	struct str verify_token; /* owned, wiped: what handshakes ask for; else empty */
	char *text;              /* owned; private */
	/* Of the secrets in their order: the first bytes of a hash, which tell secrets apart and
	 * nothing else about them. */
	char fingerprints[TOOL_MAX_SECRETS][TOOL_FINGERPRINT];
	size_t secret_count;
	char *source; /* owned: the definition as JSON, without secrets that were written into it */
	struct tool_file files[TOOL_MAX_FILES]; /* that its secrets were read from */
	size_t file_count;
	struct json_t *definition; /* ref; with files only: what tool_refresh() compiles again */
	char *stale; /* owned; why its secrets could not be read again since, else NULL */
	uint32_t refs;
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

/* One definition as it stands in weir.tools. `id` is its name, which the definition need not
 * repeat. Secrets must be {"env"} or {"file"}. */
enum err tool_parse(struct str text, const char *label, struct str id, struct tool **ret,
                    struct err_info *info) MUST_CHECK;
bool tool_id_is_valid(struct str id);
struct tool *tool_ref(const struct tool *t);
void tool_unref(struct tool *t); /* NULL is fine */

/* What the file is now; all zero when it is not there. */
void tool_file_look(const struct tool_file *f, struct tool_stamp *ret);
bool tool_stamp_equal(const struct tool_stamp *a, const struct tool_stamp *b);
/* The same definition with its secrets read again. Of a tool with files. `literals`: they are
 * allowed, for it is from the file. */
enum err tool_refresh(const struct tool *t, const char *label, bool literals, struct tool **ret,
                      struct err_info *info) MUST_CHECK;

/* An empty set, and how it is filled before anybody sees it. ERR_CONFLICT: the id is there. The set
 * takes a reference of its own. */
enum err tools_new(size_t space, struct tools **ret) MUST_CHECK;
enum err tools_add(struct tools *s, struct tool *t) MUST_CHECK;

struct tools *tools_ref(struct tools *t);
void tools_unref(struct tools *t); /* NULL is fine */

size_t tools_count(const struct tools *t);
struct tool *tools_at(const struct tools *t, size_t i);              /* in the file's order */
const struct tool *tools_find(const struct tools *t, struct str id); /* NULL: none */
/* A reference to the tool, if it is there and its events report deliveries; else NULL. */
struct tool *tools_hold_reporting(const struct tools *t, struct str id);

#endif
