/* One tool, for commands that act as its provider or its judge. It is looked for where the service
 * has its tools from: in the file, then in the table, which is only read. The secrets of a tool of
 * the table are this process's, as they would be the service's. */
#include <stdio.h>

#include "weir/app/connect.h"
#include "weir/app/preflight.h"
#include "weir/app/tool_store.h"
#include "weir/base/buf.h"
#include "weir/cli/command.h"
#include "weir/io/pg.h"
#include "weir/io/pg_admin.h"
#include "weir/model/tool.h"
#include "weir/run/conf.h"

#define MAX_DEFINITION ((size_t)1024 * 1024)
#define MAX_LISTED     50

#define FIND_SQL "SELECT definition::text FROM " TOOL_TABLE " WHERE id = $1"
#define LIST_SQL                                                                                   \
	"SELECT string_agg(id, ' ') FROM (SELECT id FROM " TOOL_TABLE " ORDER BY id COLLATE \"C\"" \
	" LIMIT " STR_LITERAL(MAX_LISTED) ") AS t"

/* ---- what there is instead ---- */

static void list_file(const struct conf *c, const struct tools *tools)
{
	size_t n = tools_count(tools);

	fprintf(stderr, "  %s:",
	        c->tools_file[0] ? c->tools_file
	        : n              ? "presets with WEBHOOK_SECRET"
	                         : "TOOLS_FILE (not set)");
	for (size_t i = 0; i < n && i < MAX_LISTED; i++)
		fprintf(stderr, " %s", tools_at(tools, i)->id.ptr);
	fprintf(stderr, "%s\n", n == 0 ? " none" : n > MAX_LISTED ? " …" : "");
}

static void list_table(struct pg_admin *pg)
{
	struct buf ids;

	buf_init(&ids, 8192);
	if (pg_admin_value(pg, LIST_SQL, &ids, NULL) == ERR_OK)
		fprintf(stderr, "  table " TOOL_TABLE ": %s\n", ids.len ? ids.ptr : "none");
	buf_done(&ids);
}

/* ---- the table ---- */

static int compile(const struct conf *c, const char *id, struct str definition, struct tool **ret)
{
	struct err_info info = {0};
	struct tool *t = NULL;
	enum err e = tool_parse(definition, TOOL_TABLE, str_of(id), &t, &info);

	if (e == ERR_OK)
		e = preflight_tool(c, TOOL_TABLE, t, &info);
	if (e == ERR_OK) {
		*ret = t;
		return CLI_DONE;
	}
	tool_unref(t);
	cli_error("%s", info.text);
	return CLI_CONFIG;
}

/* An older schema has no such table, which is as good as an empty one. */
static int read_row(const struct conf *c, const struct tools *tools, struct pg_admin *pg,
                    const char *id, struct tool **ret)
{
	struct err_info info = {0};
	struct buf text;
	int rc = CLI_FAILED;
	enum err e;

	buf_init(&text, MAX_DEFINITION);
	e = pg_admin_value1(pg, FIND_SQL, id, &text, &info);
	if (e == ERR_OK && text.len) {
		rc = compile(c, id, buf_str(&text), ret);
	} else if (e == ERR_OK || e == ERR_NOTABLE) {
		cli_error("there is no tool '%s'; there are, of", id);
		list_file(c, tools);
		list_table(pg);
	} else {
		cli_error("there is no tool '%s' in the file, and the table " TOOL_TABLE
		          " cannot be read: %s",
		          id, info.text);
	}
	buf_done(&text);
	return rc;
}

static int find_in_table(const struct conf *c, const struct tools *tools, const char *id,
                         struct tool **ret)
{
	struct err_info info = {0};
	struct pg_options o;
	struct pg_admin *pg;
	enum err e;
	int rc;

	if (!connect_names_database(c)) {
		cli_error("there is no tool '%s'; the table of tools was not looked at, for no "
		          "database is named (DATABASE_URL); there are, of",
		          id);
		list_file(c, tools);
		return CLI_FAILED;
	}
	connect_pg_options(c, &o);
	e = pg_admin_open(&o, &pg, &info);
	if (e != ERR_OK) {
		cli_error("there is no tool '%s' in the file, and the table " TOOL_TABLE
		          " cannot be read: Postgres: %s",
		          id, info.text);
		return cli_open_failed(e);
	}
	rc = read_row(c, tools, pg, id, ret);
	pg_admin_close(pg);
	return rc;
}

int cli_find_tool(const struct conf *c, const char *id, struct tool **ret)
{
	struct tools *tools = NULL;
	const struct tool *filed;
	int rc = cli_load_tools(c, &tools);

	if (rc != CLI_DONE)
		return rc;
	*ret = NULL;
	filed = tools_find(tools, str_of(id));
	if (filed)
		*ret = tool_ref(filed);
	else
		rc = find_in_table(c, tools, id, ret);
	tools_unref(tools);
	return rc;
}

int cli_open_tool(const char *config, const char *id, struct cli_tool *ret)
{
	int rc = cli_load_conf(config, &ret->conf);

	return rc == CLI_DONE ? cli_find_tool(ret->conf, id, &ret->tool) : rc;
}

void cli_tool_done(struct cli_tool *t)
{
	tool_unref(t->tool);
	conf_free(t->conf);
}
