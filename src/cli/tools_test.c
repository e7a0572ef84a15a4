/* weir tools test: one request, from a file, through the very code that a received one goes
 * through. What failed is said here, on the terminal, and never over HTTP. */
#include <stdio.h>
#include <string.h>

#include "weir/cli/command.h"
#include "weir/cli/request_text.h"
#include "weir/base/mem.h"
#include "weir/model/handshake.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/receive/handshake.h"
#include "weir/receive/intake.h"
#include "weir/run/conf.h"

#include "tools_cmd.h"

#define MAX_FILE  ((size_t)64 * 1024 * 1024)
#define MAX_SPLIT ((uint64_t)64 * 1024 * 1024)

/* A text that begins with an empty line is a body without headers. */
static int parse(struct str text, struct request_text *q)
{
	struct err_info info = {0};
	struct str rest = text, first = str_trim(str_split(&rest, '\n'));

	if (!first.len) {
		q->body = rest;
		return CLI_DONE;
	}
	if (request_text_parse(text, q, &info) == ERR_OK)
		return CLI_DONE;
	cli_error("%s", info.text);
	return CLI_FAILED;
}

/* ---- what came of it ---- */

static void print_text(const char *name, struct str s)
{
	printf("%-12s %.*s\n", name, s.len ? (int)s.len : 1, s.len ? s.ptr : "-");
}

static void print_events(const struct intake_result *in)
{
	printf("%-12s %zu\n", "events", in->n);
	for (size_t i = 0; i < in->n; i++) {
		const struct event_view *e = &in->events[i];

		if (in->n > 1)
			printf("\nevent %zu\n", i + 1);
		print_text("id", e->id);
		print_text("type", e->type);
		printf("%-12s %zu bytes%s\n", "body", e->body.len,
		       e->envelope.ptr ? ", one of an array" : "");
	}
}

static json_t *json_of(struct str s)
{
	return json_stringn(s.len ? s.ptr : "", s.len);
}

static void print_json(const struct tool *t, const struct intake_result *in)
{
	json_t *events = json_array(), *o;

	for (size_t i = 0; i < in->n; i++)
		json_array_append_new(events,
		                      json_pack("{s:o, s:o, s:I}", "id", json_of(in->events[i].id),
		                                "type", json_of(in->events[i].type), "bytes",
		                                (json_int_t)in->events[i].body.len));
	o = json_pack("{s:b, s:i, s:s, s:s, s:b, s:o}", "verified", in->status == 200, "status",
	              in->status, "reason", in->reason, "detail", in->detail, "handshake",
	              in->hand != NULL, "events", events);
	if (in->status == 200 && !in->hand && t->recipe->secret_count) {
		json_object_set_new(o, "secret", json_integer((json_int_t)in->secret));
		json_object_set_new(o, "fingerprint", json_string(t->fingerprints[in->secret]));
	}
	if (in->age)
		json_object_set_new(o, "age_seconds", json_integer(in->age / USEC_PER_SEC));
	json_dumpf(o, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(o);
}

static void print_table(const struct tool *t, const struct intake_result *in)
{
	if (in->status != 200) {
		printf("%-12s %s: %s\n", "refused", in->reason, in->detail);
		if (in->age)
			printf("%-12s %lld s (--at sets the time)\n", "age",
			       (long long)(in->age / USEC_PER_SEC));
		printf("%-12s %d\n", "status", in->status);
		return;
	}
	if (in->hand) {
		printf("%-12s answered with %d\n", "handshake", in->hand->status);
		print_text("answer", buf_str(&in->answer->body));
		return;
	}
	if (t->recipe->scheme == RECIPE_NONE)
		printf("%-12s not verified: \"auth\" is \"none\"\n", "accepted");
	else
		printf("%-12s by secret %zu (fingerprint %s)\n", "verified", in->secret,
		       t->fingerprints[in->secret]);
	print_events(in);
}

static int run(const struct tools_cmd *c, const struct tool *t, struct str text)
{
	struct request_text q = {.header_count = 0};
	struct recipe_request r;
	struct intake_result in;
	struct intake *k = NULL;
	int rc = parse(text, &q);

	if (rc != CLI_DONE)
		return rc;
	if (intake_new(MAX_SPLIT, &k) != ERR_OK) {
		cli_error("out of memory");
		return CLI_FAILED;
	}
	request_text_request(&q, c->at ? c->at : clock_wall(), &r);
	intake_run(k, t, request_text_method(r.method), &r, r.now, &in);
	if (c->json)
		print_json(t, &in);
	else
		print_table(t, &in);
	rc = in.status == 200 ? CLI_DONE : CLI_FAILED;
	intake_free(k);
	return rc;
}

/* ---- the tool ---- */

/* One of the table: its definition from the API, its secrets from here. */
static int from_api(const struct tools_cmd *c, struct tool **ret)
{
	struct err_info info = {0};
	json_t *o;
	const json_t *definition;
	char *text;
	size_t n;
	int rc = tools_fetch(c, &o);

	if (rc != CLI_DONE)
		return rc;
	definition = json_object_get(o, "definition");
	n = json_dumpb(definition, NULL, 0, JSON_COMPACT);
	text = mem_alloc(n + 1);
	rc = CLI_CONFIG;
	if (text && json_dumpb(definition, text, n, JSON_COMPACT) == n &&
	    tool_parse(str_n(text, n), "definition", str_of(c->id), ret, &info) == ERR_OK)
		rc = CLI_DONE;
	else
		cli_error("%s", text ? info.text : "out of memory");
	mem_free(text);
	json_decref(o);
	return rc;
}

/* With a token the API says what is in force; a tool of the file needs none. */
static int find_tool(const struct tools_cmd *c, struct tool **ret)
{
	struct tools *tools = NULL;
	const struct tool *filed;
	int rc;

	if (!tools_has_api(c))
		return cli_find_tool(c->conf, c->id, ret);
	rc = cli_load_tools(c->conf, &tools);
	if (rc != CLI_DONE)
		return rc;
	filed = tools_find(tools, str_of(c->id));
	if (filed)
		*ret = tool_ref(filed);
	tools_unref(tools);
	return filed ? CLI_DONE : from_api(c, ret);
}

int tools_test(const struct tools_cmd *c)
{
	struct tool *t;
	struct buf text;
	int rc = find_tool(c, &t);

	if (rc != CLI_DONE)
		return rc;
	buf_init(&text, MAX_FILE);
	rc = cli_read_file(c->file, &text);
	if (rc == CLI_DONE)
		rc = run(c, t, buf_str(&text));
	buf_done(&text);
	tool_unref(t);
	return rc;
}
