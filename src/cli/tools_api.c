/* Where `weir tools` has its tools from: the admin API of a running weir, or the file. */
#include <stdio.h>
#include <string.h>

#include "weir/app/admin.h"
#include "weir/app/endpoint.h"
#include "weir/app/tool_json.h"
#include "weir/app/tool_store.h"
#include "weir/cli/command.h"
#include "weir/io/http_call.h"
#include "weir/model/tool.h"
#include "weir/run/conf.h"

#include "tools_cmd.h"

#define TIMEOUT    (15 * USEC_PER_SEC)
#define ANSWER_MAX ((size_t)16 * 1024 * 1024)

/* ---- the API ---- */

bool tools_has_api(const struct tools_cmd *c)
{
	return c->conf->admin_token[0] || c->conf->admin_read_token[0];
}

static int make_url(const struct tools_cmd *c, const char *path, char *out, size_t space)
{
	char base[ENDPOINT_URL_MAX];
	struct endpoint at;

	if (!c->url && endpoint_admin(c->conf, &at) != ERR_OK) {
		cli_error("ADMIN_ADDR=%s: not HOST:PORT", c->conf->admin_addr);
		return CLI_CONFIG;
	}
	if (!c->url)
		endpoint_url(&at, base);
	snprintf(out, space, "%s" ADMIN_TOOLS "%s", c->url ? c->url : base, path);
	return CLI_DONE;
}

/* The problem's text, or what there is instead. */
static void explain(const char *what, int status, const struct buf *answer)
{
	json_t *p = json_loadb(answer->ptr ? answer->ptr : "", answer->len, 0, NULL);
	const json_t *v = json_object_get(p, "detail");

	if (json_is_string(v))
		cli_error("%s: %d: %s", what, status, json_string_value(v));
	else
		cli_error("%s: %d", what, status);
	json_decref(p);
}

int tools_call(const struct tools_cmd *c, const char *method, const char *path, struct str body,
               struct buf *out, bool *missing)
{
	const struct conf *conf = c->conf;
	char url[2048], bearer[1200];
	const char *headers[] = {bearer, body.ptr ? "Content-Type: application/json" : NULL, NULL};
	struct http_call call = {
	    .method = method, .url = url, .headers = headers, .body = body, .timeout = TIMEOUT};
	struct err_info info = {0};
	int status = 0, rc = make_url(c, path, url, sizeof(url));

	if (rc != CLI_DONE)
		return rc;
	snprintf(bearer, sizeof(bearer), "Authorization: Bearer %s",
	         conf->admin_token[0] ? conf->admin_token : conf->admin_read_token);
	if (http_call_run(&call, &status, out, &info) != ERR_OK) {
		cli_error("%s", info.text);
		return info.code == ERR_INVAL ? CLI_USAGE : CLI_UNREACHABLE;
	}
	if (missing && status == 404) {
		*missing = true;
		return CLI_DONE;
	}
	if (status / 100 == 2)
		return CLI_DONE;
	explain(url, status, out);
	return status == 401 || status == 403 ? CLI_CONFIG : CLI_FAILED;
}

static int parse(const struct buf *text, json_t **ret)
{
	*ret = json_loadb(text->ptr ? text->ptr : "", text->len, 0, NULL);
	if (*ret)
		return CLI_DONE;
	cli_error("the admin API's answer is no JSON");
	return CLI_FAILED;
}

static int call_json(const struct tools_cmd *c, const char *path, json_t **ret)
{
	struct buf answer;
	int rc;

	buf_init(&answer, ANSWER_MAX);
	rc = tools_call(c, "GET", path, STR_NONE, &answer, NULL);
	if (rc == CLI_DONE)
		rc = parse(&answer, ret);
	buf_done(&answer);
	return rc;
}

/* All pages as one. */
static int list_of_api(const struct tools_cmd *c, json_t **ret)
{
	char path[128] = "?limit=1000";
	json_t *all = NULL, *page;
	int rc;

	while ((rc = call_json(c, path, &page)) == CLI_DONE) {
		const json_t *next = json_object_get(page, "next");

		if (next)
			snprintf(path, sizeof(path), "?limit=1000&cursor=%s",
			         json_is_string(next) ? json_string_value(next) : "");
		if (all)
			json_array_extend(json_object_get(all, "tools"),
			                  json_object_get(page, "tools"));
		else
			all = json_incref(page);
		if (!json_is_string(next)) {
			json_decref(page);
			break;
		}
		json_decref(page);
	}
	if (rc != CLI_DONE) {
		json_decref(all);
		return rc;
	}
	json_object_set_new(all, "next", json_null());
	*ret = all;
	return CLI_DONE;
}

/* ---- the file ---- */

static int list_of_file(const struct tools_cmd *c, json_t **ret)
{
	struct tools *tools = NULL;
	struct tool_view v;
	struct buf out;
	int rc = cli_load_tools(c->conf, &tools);

	if (rc != CLI_DONE)
		return rc;
	buf_init(&out, ANSWER_MAX);
	buf_add_cstr(&out, "{\"tools\":[");
	for (size_t i = 0; i < tools_count(tools); i++) {
		v = tool_view_of_file(tools_at(tools, i));
		if (i)
			buf_add_char(&out, ',');
		tool_json_brief(&v, &out);
	}
	buf_add_cstr(&out, "],\"next\":null,\"table\":\"none\"}");
	rc = parse(&out, ret);
	buf_done(&out);
	tools_unref(tools);
	return rc;
}

static int one_of_file(const struct tools_cmd *c, json_t **ret)
{
	struct tools *tools = NULL;
	const struct tool *t;
	struct tool_view v;
	struct buf out;
	int rc = cli_load_tools(c->conf, &tools);

	if (rc != CLI_DONE)
		return rc;
	t = tools_find(tools, str_of(c->id));
	buf_init(&out, ANSWER_MAX);
	if (t) {
		v = tool_view_of_file(t);
		tool_json_full(&v, NULL, &out);
		rc = parse(&out, ret);
	} else {
		cli_error("there is no tool '%s' in the tools file", c->id);
		rc = CLI_FAILED;
	}
	buf_done(&out);
	tools_unref(tools);
	return rc;
}

int tools_fetch_list(const struct tools_cmd *c, json_t **ret)
{
	return tools_has_api(c) ? list_of_api(c, ret) : list_of_file(c, ret);
}

int tools_fetch(const struct tools_cmd *c, json_t **ret)
{
	char path[128];

	if (!tools_has_api(c))
		return one_of_file(c, ret);
	snprintf(path, sizeof(path), "/%.100s", c->id);
	return call_json(c, path, ret);
}
