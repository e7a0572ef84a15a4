/* The tools in force: those of TOOLS_FILE and those of the table weir.tools as it was last read, in
 * one immutable set that is swapped whole. A tool of the file cannot be shadowed by a row. A row
 * that cannot be used here (its secret is not in this process's environment, say) harms no other:
 * it is told in the log, in a gauge and by the admin API, and its webhooks are answered 503.
 *
 * Secrets in files are read again when the file changes, within two seconds; what cannot be read
 * leaves the old one in force. */
#ifndef WEIR_APP_TOOL_STORE_H
#define WEIR_APP_TOOL_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct buf;
struct conf;
struct loop;
struct metric_registry;
struct tool;
struct tool_store;
struct tools;

/* The table's name in error texts. */
#define TOOL_TABLE "weir.tools"

struct tool_store_options {
	struct loop *loop; /* borrowed, like all here */
	const struct conf *conf;
	struct metric_registry *metrics;
	struct tools *files;        /* of TOOLS_FILE; gets a reference */
	bool has_table;             /* a database is configured */
	void (*changed)(void *arg); /* another set is in force; NULL: nobody asks */
	void *arg;
};

enum err tool_store_new(const struct tool_store_options *o, struct tool_store **ret) MUST_CHECK;
void tool_store_free(struct tool_store *s);
void tool_store_start(struct tool_store *s); /* watches the secrets' files */
void tool_store_stop(struct tool_store *s);

/* The set in force; borrowed until the loop's next turn. */
const struct tools *tool_store_tools(const struct tool_store *s);
/* A tool that is not in the set, but may be one: the table was not read yet, or its row cannot be
 * used here. */
bool tool_store_may_exist(const struct tool_store *s, struct str id);
/* There is no table, or it was read once, or may not be read. */
bool tool_store_settled(const struct tool_store *s);
bool tool_store_table_read(const struct tool_store *s);
void tool_store_set_denied(struct tool_store *s); /* the table may not be read: no reason to wait */

/* After a reload: these are the file's tools now, and every secret of the table is read again. */
void tool_store_reload(struct tool_store *s, struct tools *files);

/* ---- the table ---- */

struct tool_row {
	struct str id;
	int64_t version;
	usec_t updated_at; /* wall clock */
	struct str updated_by;
	struct str definition; /* JSON; ptr NULL: unchanged since that version */
};

/* All rows of the table, sorted by the bytes of their ids. All or nothing: ERR_NOMEM; ERR_CONFLICT:
 * an unchanged one is not known here. */
enum err tool_store_apply(struct tool_store *s, const struct tool_row *rows, size_t n) MUST_CHECK;
/* Adds what is known to two array parameters, ids and versions; returns how many. */
size_t tool_store_known(const struct tool_store *s, struct buf *ids, struct buf *versions);

/* Whether a definition could be used here: what PUT asks before it stores anything. */
enum err tool_store_check(const struct tool_store *s, struct str definition, struct str id,
                          struct err_info *info) MUST_CHECK;

/* ---- for people ---- */

struct tool_view {
	struct str id;
	const struct tool *tool; /* NULL: it cannot be used here */
	bool from_file;
	int64_t version; /* of the table, like the next two */
	usec_t updated_at;
	const char *updated_by;
	const char *definition; /* JSON without secrets */
	const char *error;      /* "": none */
};

/* Borrowed until the loop's next turn. A row that a tool of the file shadows is not found. */
bool tool_store_find(const struct tool_store *s, struct str id, struct tool_view *ret);
/* Those behind `after` in the order of their ids, `space` at most; returns how many. */
size_t tool_store_page(const struct tool_store *s, struct str after, struct tool_view *views,
                       size_t space);
/* A view of a tool that is not in a store. */
struct tool_view tool_view_of_file(const struct tool *t);

#endif
