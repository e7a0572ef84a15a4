/* weir tools: asks, changes, prints. What a tool is in words comes as the API's JSON in any case,
 * so that a tool of the file and one of a running weir look alike. */
#include <stdio.h>
#include <string.h>

#include "weir/base/str.h"
#include "weir/cli/command.h"
#include "weir/run/conf.h"

#include "tools_cmd.h"

#define MAX_FILE (256 * 1024)

static const char *text_of(const json_t *o, const char *name)
{
	const json_t *v = json_object_get(o, name);

	return json_is_string(v) ? json_string_value(v) : "-";
}

static void print_json(const json_t *o)
{
	json_dumpf(o, stdout, JSON_INDENT(2));
	putchar('\n');
}

/* ---- list ---- */

static int list(const struct tools_cmd *c)
{
	json_t *all, *t;
	size_t i;
	int rc = tools_fetch_list(c, &all);

	if (rc != CLI_DONE)
		return rc;
	if (c->json) {
		print_json(all);
	} else {
		printf("%-28s %-6s %-7s %-22s %s\n", "ID", "FROM", "STATE", "PRESET", "CHANGED");
		json_array_foreach(json_object_get(all, "tools"), i, t)
		{
			printf("%-28s %-6s %-7s %-22s %s\n", text_of(t, "id"), text_of(t, "origin"),
			       text_of(t, "state"), text_of(t, "preset"), text_of(t, "updated_at"));
			if (json_is_string(json_object_get(t, "error")))
				printf("  %s\n", text_of(t, "error"));
		}
		if (strcmp(text_of(all, "table"), "unread") == 0)
			cli_error(
			    "the table of tools was not read yet: its tools are not in the list");
	}
	json_decref(all);
	return CLI_DONE;
}

/* ---- show ---- */

static void print_secrets(const json_t *t)
{
	const json_t *list = json_object_get(t, "secrets");
	json_t *s;
	size_t i;

	if (json_array_size(list) == 0)
		return;
	printf("\n%-8s %-12s %-10s %s\n", "SECRET", "FINGERPRINT", "VERIFIED", "LAST USE");
	json_array_foreach(list, i, s)
	{
		const json_t *n = json_object_get(s, "matches");

		printf("%-8zu %-12s ", i, text_of(s, "fingerprint"));
		if (n)
			printf("%-10lld %s\n", (long long)json_integer_value(n),
			       text_of(s, "last_used_at"));
		else
			printf("%-10s %s\n", "?", "(not told by a running weir)");
	}
}

/* How a repetition is known. */
static void print_dedup(const json_t *t)
{
	const json_t *list = json_object_get(t, "volatile");
	json_int_t window = json_integer_value(json_object_get(t, "dedup_window_seconds"));
	json_t *v;
	size_t i;

	if (!json_object_get(t, "dedup"))
		return;
	if (json_is_false(json_object_get(t, "dedup")))
		printf("%-12s with the same event id; events without one are all kept\n",
		       "duplicates");
	else
		printf("%-12s with the same event id; without one, the same body within %lld s\n",
		       "duplicates", (long long)window);
	json_array_foreach(list, i, v)
	{
		printf("%-12s %s\n", i ? "" : "not compared", json_string_value(v));
	}
}

static void print_process(const json_t *t)
{
	const json_t *p = json_object_get(t, "process");

	if (p)
		printf("\nas process %lld on %s has it, which runs since %s\n",
		       (long long)json_integer_value(json_object_get(p, "pid")), text_of(p, "host"),
		       text_of(p, "started_at"));
}

static void print_provider(const json_t *t)
{
	const json_t *p = json_object_get(t, "provider");
	const char *name;
	json_t *v;

	if (!json_is_object(p))
		return;
	printf("\nwhat %s does\n", text_of(p, "title"));
	json_object_foreach(json_object_get(p, "answers"), name, v)
	{
		printf("  %-8s %s\n", name, json_is_string(v) ? json_string_value(v) : "");
	}
}

static int show(const struct tools_cmd *c)
{
	static const char *const lines[] = {"id",         "origin",     "state", "error",
	                                    "updated_at", "updated_by", "preset"};
	json_t *t;
	int rc = tools_fetch(c, &t);

	if (rc != CLI_DONE)
		return rc;
	if (c->json) {
		print_json(t);
		json_decref(t);
		return CLI_DONE;
	}
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		if (json_is_string(json_object_get(t, lines[i])))
			printf("%-12s %s\n", lines[i], text_of(t, lines[i]));
	printf("%-12s ", "definition");
	json_dumpf(json_object_get(t, "definition"), stdout, 0);
	putchar('\n');
	print_dedup(t);
	print_secrets(t);
	print_provider(t);
	print_process(t);
	json_decref(t);
	return CLI_DONE;
}

/* ---- put, delete ---- */

static int change(const struct tools_cmd *c, const char *method, struct str body)
{
	char path[128];
	struct buf answer;
	int rc;

	snprintf(path, sizeof(path), "/%.100s", c->id);
	buf_init(&answer, 4 * 1024 * 1024);
	rc = tools_call(c, method, path, body, &answer, NULL);
	if (rc == CLI_DONE && c->json)
		fwrite(answer.ptr, 1, answer.len, stdout);
	else if (rc == CLI_DONE)
		printf("%s %s\n", c->id, body.ptr ? "is in force" : "is gone");
	buf_done(&answer);
	return rc;
}

static int put(const struct tools_cmd *c)
{
	struct buf body;
	int rc;

	buf_init(&body, MAX_FILE);
	rc = cli_read_file(c->file, &body);
	if (rc == CLI_DONE)
		rc = change(c, "PUT", buf_str(&body));
	buf_done(&body);
	return rc;
}

static int delete (const struct tools_cmd *c)
{
	return change(c, "DELETE", STR_NONE);
}

/* ---- the command ---- */

static const struct verb {
	const char *name;
	int args;
	bool api;
	int (*run)(const struct tools_cmd *c);
} verbs[] = {
    {"list", 0, false, list},    {"show", 1, false, show},       {"put", 2, true, put},
    {"delete", 1, true, delete}, {"test", 2, false, tools_test},
};

static int run(const struct command *self, const char *conf_file, struct tools_cmd *c,
               const struct verb *v)
{
	struct conf *conf = NULL;
	int rc = cli_load_conf(conf_file, &conf);

	if (rc != CLI_DONE)
		return rc;
	c->conf = conf;
	if (v->api && !conf->admin_token[0]) {
		cli_error("ADMIN_TOKEN is not set; `weir %s %s` talks to the admin API", self->name,
		          v->name);
		rc = CLI_CONFIG;
	} else {
		rc = v->run(c);
	}
	conf_free(conf);
	return rc;
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

int cmd_tools(const struct command *self, int argc, char **argv)
{
	static const struct cli_operands want = {1, 3, "say list, show, put, delete or test"};
	struct tools_cmd c = {.json = false};
	const char *file = NULL;
	const struct cli_option options[] = {
	    CLI_CONFIG_FILE(&file),
	    {.name = "url", .value = "URL", .text = &c.url},
	    {.name = "at", .value = "TIME", .take = cli_take_time, .arg = &c.at, .must = CLI_TIME},
	    CLI_OUTPUT(&c.json),
	    CLI_END};
	const struct verb *v;
	int rc, n = 0;
	char **args = cli_parse(self, argc, argv, options, want, &rc);

	if (!args)
		return rc;
	v = find_verb(args[0]);
	if (!v)
		return cli_usage(self, "there is no '%s': %s", args[0], want.text);
	while (args[n + 1])
		n++;
	if (n != v->args)
		return cli_usage(self, "%s takes %s", v->name,
		                 v->args == 0   ? "no arguments"
		                 : v->args == 1 ? "the tool's id"
		                                : "the tool's id and a file");
	c.id = v->args > 0 ? args[1] : NULL;
	c.file = v->args > 1 ? args[2] : NULL;
	return run(self, file, &c, v);
}
