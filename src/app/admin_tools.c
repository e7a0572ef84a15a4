/* The routes of tools. A change holds its ticket until the database has committed it, and then this
 * process uses it already. */
#include <stdio.h>
#include <string.h>

#include "weir/app/admin_request.h"
#include "weir/app/tool_json.h"
#include "weir/app/tool_store.h"
#include "weir/app/tool_table.h"
#include "weir/base/mem.h"
#include "weir/model/tool.h"
#include "weir/run/log.h"

#include "admin_priv.h"

struct change {
	struct admin *admin;
	struct http_ticket *ticket; /* a reference */
	char id[TOOL_ID_MAX + 1];
	bool put;
	int64_t expected; /* as in struct tool_change */
};

/* ---- reading ---- */

/* Before the table was read once, a list would lack its tools without saying so. */
static const char *table_state(const struct admin *a)
{
	return !a->o.table ? "none" : tool_store_table_read(a->o.store) ? "read" : "unread";
}

void admin_list_tools(struct admin *a, struct http_ticket *t, struct str id)
{
	struct err_info info = {0};
	struct admin_page page;
	struct tool_view *views;
	size_t n, shown, limit;
	enum err e = admin_read_page(http_ticket_query(t), &page, &info);

	(void)id;
	if (e == ERR_INVAL) {
		admin_problem(a, t, 400, info.text);
		return;
	}
	limit = (size_t)page.limit;
	/* One more says whether there is a next page. */
	views = e == ERR_OK ? mem_array(limit + 1, sizeof(*views)) : NULL;
	if (!views) {
		admin_problem(a, t, 503, "out of memory for this answer");
		return;
	}
	n = tool_store_page(a->o.store, str_of(page.cursor), views, limit + 1);
	shown = n > limit ? limit : n;
	buf_add_cstr(&a->page, "{\"tools\":[");
	for (size_t i = 0; i < shown; i++) {
		if (i)
			buf_add_char(&a->page, ',');
		tool_json_brief(&views[i], &a->page);
	}
	buf_add_cstr(&a->page, "],\"next\":");
	if (n > shown)
		buf_add_json(&a->page, views[shown - 1].id);
	else
		buf_add_cstr(&a->page, "null");
	mem_free(views);
	buf_addf(&a->page, ",\"table\":\"%s\"", table_state(a));
	admin_add_process(a, &a->page);
	buf_add_cstr(&a->page, "}\n");
	admin_reply_json(a, t, 200, NULL);
}

static void reply_tool(struct admin *a, struct http_ticket *t, int status,
                       const struct tool_view *v)
{
	char etag[ADMIN_ETAG_MAX];

	buf_reset(&a->page);
	tool_json_full(v, a->o.receiver, &a->page);
	if (a->page.err == ERR_OK)
		a->page.len--; /* the closing brace */
	admin_add_process(a, &a->page);
	buf_add_cstr(&a->page, "}\n");
	admin_format_etag(v->version, etag);
	admin_reply_json(a, t, status, v->from_file ? NULL : etag);
}

static void refuse_absent(struct admin *a, struct http_ticket *t)
{
	if (a->o.table && !tool_store_table_read(a->o.store))
		admin_problem(a, t, 503, "the table of tools was not read yet");
	else
		admin_problem(a, t, 404, "there is no such tool");
}

void admin_get_tool(struct admin *a, struct http_ticket *t, struct str id)
{
	struct tool_view v;

	if (tool_store_find(a->o.store, id, &v))
		reply_tool(a, t, 200, &v);
	else
		refuse_absent(a, t);
}

/* ---- changing ---- */

bool admin_may_change(struct admin *a, struct http_ticket *t, struct str id)
{
	struct tool_view v;

	if (tool_store_find(a->o.store, id, &v) && v.from_file) {
		admin_problem(a, t, 409,
		              "this tool stands in TOOLS_FILE (or comes of WEBHOOK_SECRET), and is "
		              "changed there");
		return false;
	}
	if (!a->o.table) {
		admin_problem(
		    a, t, 409,
		    "this process has no database, so its tools come from TOOLS_FILE alone");
		return false;
	}
	return true;
}

/* False: refused. */
static bool read_condition(struct admin *a, struct http_ticket *t, int64_t *ret)
{
	struct str match = STR_NONE, none = STR_NONE;
	size_t n = http_ticket_header(t, STR("if-match"), &match);
	size_t m = http_ticket_header(t, STR("if-none-match"), &none);

	if (admin_read_condition(match, n, none, m, ret))
		return true;
	admin_problem(a, t, 400, "a condition must be If-Match with one ETag, or If-None-Match: *");
	return false;
}

static void reply_failure(struct admin *a, struct http_ticket *t, enum err e, const char *message)
{
	char text[400];

	if (e == ERR_DATA) {
		snprintf(text, sizeof(text), "the database refuses it: %s", message);
		admin_problem(a, t, 422, text);
	} else if (e == ERR_TIMEOUT || e == ERR_CLOSED) {
		admin_problem(
		    a, t, 503,
		    "the connection to the database was lost meanwhile: read the tool to see "
		    "whether it was changed");
	} else if (e == ERR_NOTABLE || err_fate(e) == FATE_STOP) {
		snprintf(text, sizeof(text), "nothing was changed: %s", message);
		admin_problem(a, t, 503, text);
	} else {
		admin_problem(a, t, 503, "the database does not answer; nothing was changed");
	}
}

static void reply_mismatch(struct change *c)
{
	struct admin *a = c->admin;
	struct tool_view v;
	bool there = tool_store_find(a->o.store, str_of(c->id), &v);
	char text[256];

	if (c->expected == ADMIN_ABSENT)
		snprintf(text, sizeof(text),
		         "If-None-Match: * is for new tools, and there is one of this id already; "
		         "to replace it send If-Match with its ETag, or no condition");
	else if (there)
		snprintf(text, sizeof(text),
		         "If-Match says version \"%lld\", but the tool is at \"%lld\" now: "
		         "somebody changed it meanwhile. Read it again, and send its new ETag",
		         (long long)c->expected, (long long)v.version);
	else
		snprintf(text, sizeof(text),
		         "If-Match says version \"%lld\", but there is no such tool (any more)",
		         (long long)c->expected);
	admin_problem(a, c->ticket, 412, text);
}

static void reply_outcome(struct change *c, enum tool_outcome outcome)
{
	struct admin *a = c->admin;
	struct tool_view v;

	switch (outcome) {
	case TOOL_CREATED:
	case TOOL_UPDATED:
	case TOOL_UNCHANGED:
		if (tool_store_find(a->o.store, str_of(c->id), &v))
			reply_tool(a, c->ticket, outcome == TOOL_CREATED ? 201 : 200, &v);
		else
			admin_problem(a, c->ticket, 503,
			              "it was changed, but is not in force here yet");
		return;
	case TOOL_DELETED:
		buf_reset(&a->page);
		buf_add_cstr(&a->page, "{\"deleted\":");
		buf_add_json(&a->page, str_of(c->id));
		admin_add_process(a, &a->page);
		buf_add_cstr(&a->page, "}\n");
		admin_reply_json(a, c->ticket, 200, NULL);
		return;
	case TOOL_ABSENT:
		admin_problem(a, c->ticket, 404, "there is no such tool");
		return;
	case TOOL_MISMATCH:
		reply_mismatch(c);
		return;
	case TOOL_FULL:
		admin_problem(a, c->ticket, 409, "the table holds 10000 tools, which is the most");
		return;
	}
}

static void on_changed(void *arg, enum err e, enum tool_outcome outcome, const char *message)
{
	struct change *c = arg;

	log_set_correlation(http_ticket_request_id(c->ticket));
	if (e == ERR_OK && outcome <= TOOL_DELETED)
		log_info(LOG_CONF, c->put ? "tool put" : "tool deleted", LOG_STR("tool", c->id),
		         LOG_SLICE("peer", http_ticket_peer(c->ticket)));
	log_set_correlation(STR_NONE);
	if (e == ERR_OK)
		reply_outcome(c, outcome);
	else
		reply_failure(c->admin, c->ticket, e, message);
	http_ticket_unref(c->ticket);
	mem_free(c);
}

static void submit(struct admin *a, struct http_ticket *t, struct str id, struct str definition)
{
	struct tool_change change = {.id = id,
	                             .definition = definition,
	                             .actor = STR("admin"),
	                             .peer = http_ticket_peer(t),
	                             .request_id = http_ticket_request_id(t)};
	struct change *c;
	enum err e;

	if (!read_condition(a, t, &change.expected))
		return;
	c = mem_zalloc(sizeof(*c));
	if (!c) {
		admin_problem(a, t, 503, "out of memory");
		return;
	}
	c->admin = a;
	c->put = definition.ptr != NULL;
	c->expected = change.expected;
	memcpy(c->id, id.ptr, id.len);
	c->ticket = http_ticket_ref(t);
	e = tool_table_change(a->o.table, &change, on_changed, c);
	if (e == ERR_OK)
		return;
	admin_problem(a, t, 503, "too many changes are waiting, or memory is short");
	http_ticket_unref(c->ticket);
	mem_free(c);
}

void admin_put_tool(struct admin *a, struct http_ticket *t, struct str id)
{
	struct str body = http_ticket_body(t);
	struct err_info info = {0};
	enum err e;

	if (!body.len) {
		admin_problem(a, t, 400, "the body must be the tool's definition");
		return;
	}
	e = tool_store_check(a->o.store, body, id, &info);
	if (e == ERR_OK)
		submit(a, t, id, body);
	else
		admin_problem(a, t, e == ERR_NOMEM ? 503 : 422, info.text);
}

void admin_delete_tool(struct admin *a, struct http_ticket *t, struct str id)
{
	if (tool_id_is_valid(id))
		submit(a, t, id, STR_NONE);
	else
		admin_problem(a, t, 404, "there is no such tool");
}
