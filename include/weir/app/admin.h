/* The admin API on its listener: who may (bearer tokens), what there is (a table of paths), and the
 * tools. Described by openapi_json. */
#ifndef WEIR_APP_ADMIN_H
#define WEIR_APP_ADMIN_H

#include "weir/base/err.h"
#include "weir/base/str.h"

struct admin;
struct conf;
struct http_ticket;
struct loop;
struct metric_registry;
struct receiver;
struct tool_store;
struct tool_table;

#define ADMIN_MAX_BODY (256 * 1024)
#define ADMIN_TOOLS    "/api/v1/tools"
#define ADMIN_TOOL     ADMIN_TOOLS "/"
#define ADMIN_OPENAPI  "/api/openapi.json"

struct admin_options {
	const struct conf *conf; /* borrowed, like all here; a reload may change its tokens */
	struct loop *loop;
	struct metric_registry *metrics;
	struct tool_store *store;
	struct tool_table *table;  /* NULL: no database, nothing can be changed */
	struct receiver *receiver; /* NULL: this process verifies nothing */
};

enum err admin_new(const struct admin_options *o, struct admin **ret) MUST_CHECK;
/* After the table: no change is on its way any more. NULL is fine. */
void admin_free(struct admin *a);

/* For every ticket of the listener: at the head (refuses before a body is read) and when whole. */
void admin_head(struct admin *a, struct http_ticket *t);
void admin_handle(struct admin *a, struct http_ticket *t);

/* deploy/openapi.json */
extern const char openapi_json[];

#endif
