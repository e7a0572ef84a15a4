/* What the files of the admin API share. */
#ifndef WEIR_APP_ADMIN_PRIV_H
#define WEIR_APP_ADMIN_PRIV_H

#include "weir/app/admin.h"
#include "weir/base/buf.h"
#include "weir/base/clock.h"
#include "weir/io/http_server.h"

struct metric_family;

struct admin {
	struct admin_options o;
	struct buf page; /* reused for every answer */
	struct metric_family *requests;
	usec_t started; /* wall clock */
};

/* Count, then answer. `etag` NULL: none. */
void admin_reply_json(struct admin *a, struct http_ticket *t, int status, const char *etag);
void admin_problem(struct admin *a, struct http_ticket *t, int status, const char *detail);
/* ,"process":{…}: which one answers, where several share an address. */
void admin_add_process(const struct admin *a, struct buf *out);

/* admin_tools.c. `id` is the path's end. */
void admin_list_tools(struct admin *a, struct http_ticket *t, struct str id);
void admin_get_tool(struct admin *a, struct http_ticket *t, struct str id);
void admin_put_tool(struct admin *a, struct http_ticket *t, struct str id);
void admin_delete_tool(struct admin *a, struct http_ticket *t, struct str id);
/* False: it was refused. Before the body is read, and again when it is. */
bool admin_may_change(struct admin *a, struct http_ticket *t, struct str id);

#endif
