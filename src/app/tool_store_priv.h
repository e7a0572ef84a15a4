/* What the two files of the tool store share. */
#ifndef WEIR_APP_TOOL_STORE_PRIV_H
#define WEIR_APP_TOOL_STORE_PRIV_H

#include "weir/app/tool_store.h"
#include "weir/run/loop.h"

struct metric;

struct row {
	struct str id;
	int64_t version;
	usec_t updated_at;
	struct tool *tool; /* ref; NULL: `error` says why */
	char *error;       /* owned, like the next ones; may be NULL */
	char *text, *updated_by, *definition;
	bool kept;     /* while a reading is applied */
	bool shadowed; /* by a tool of the file */
};

struct tool_store {
	struct tool_store_options o;
	struct tools *given;       /* ref; of the last reload */
	struct tools *files, *set; /* refs; `files` with secrets read again since */
	struct row **rows;         /* owned; sorted by id */
	size_t row_count;
	bool table_read, denied;
	bool stale; /* `set` could not be made anew */
	struct loop_timer timer;
	size_t at, row_at; /* where the last look at files, and at failed rows, ended */
	unsigned ticks;
	struct metric *from_file, *from_table, *failed, *secrets_read, *secrets_refused;
};

/* Compiles its definition; a tool that it has stays in force when that fails. */
void tool_row_compile(const struct tool_store *s, struct row *r);
void tool_store_changed(struct tool_store *s); /* makes the set anew */

/* tool_watch.c */
void tool_store_on_timer(void *arg);
void tool_set_stale(struct tool *t, const char *text);

#endif
