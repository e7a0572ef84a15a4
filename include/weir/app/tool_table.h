/* The table weir.tools, over a connection of its own that listens for its changes. It is read after
 * each new session, after each notification and now and then all the same, into the tool store;
 * while the database is away, what was read last stays in force. */
#ifndef WEIR_APP_TOOL_TABLE_H
#define WEIR_APP_TOOL_TABLE_H

#include <stdint.h>

#include "weir/base/err.h"
#include "weir/base/str.h"

struct conf;
struct loop;
struct metric_registry;
struct pg_pool_stats;
struct resolver;
struct tool_store;
struct tool_table;

struct tool_table_options {
	struct loop *loop; /* borrowed, like all here */
	struct resolver *resolver;
	const struct conf *conf;
	struct metric_registry *metrics;
	struct tool_store *store;
};

enum err tool_table_new(const struct tool_table_options *o, struct tool_table **ret) MUST_CHECK;
void tool_table_start(struct tool_table *t);
/* Changes on their way are told ERR_CANCELLED inside it. NULL is fine. */
void tool_table_free(struct tool_table *t);

void tool_table_stats(const struct tool_table *t, struct pg_pool_stats *ret); /* its connection */

/* Who changes what; all of it is copied. */
struct tool_change {
	struct str id;
	struct str definition; /* JSON; ptr NULL: delete it */
	struct str actor, peer, request_id;
	int64_t expected; /* the version that is to be changed, 0: none, -1: any */
};

enum tool_outcome {
	TOOL_CREATED,
	TOOL_UPDATED,
	TOOL_UNCHANGED,
	TOOL_DELETED,
	TOOL_ABSENT,   /* nothing to delete */
	TOOL_MISMATCH, /* another version than expected */
	TOOL_FULL,     /* TOOL_MAX_COUNT */
};

/* The change and its audit row are one transaction. With ERR_OK the store has the table as it is
 * after that. ERR_DATA: `message` says why the database refuses it. ERR_TIMEOUT, ERR_CLOSED: the
 * outcome is not known. Runs once, from the loop. */
typedef void (*tool_change_fn)(void *arg, enum err e, enum tool_outcome outcome,
                               const char *message);
enum err tool_table_change(struct tool_table *t, const struct tool_change *c, tool_change_fn done,
                           void *arg) MUST_CHECK;

#endif
