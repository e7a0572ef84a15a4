/* weir check-config: says everything that serve would refuse, before it does. */
#include <stdio.h>

#include "weir/app/connect_check.h"
#include "weir/app/preflight.h"
#include "weir/cli/command.h"
#include "weir/model/tool.h"
#include "weir/run/conf.h"
#include "weir/run/log.h"

extern char **environ;

#define TIMEOUT (5 * USEC_PER_SEC)

static void on_finding(void *arg, bool ok, bool fatal, const char *text)
{
	size_t *faults = arg;

	printf("%-8s %s\n", ok ? "ok" : fatal ? "error" : "warning", text);
	*faults += !ok && fatal;
}

static int check_servers(const struct conf *c)
{
	size_t faults = 0;
	enum err e;

	if (log_set_levels("error", NULL) != ERR_OK)
		return CLI_FAILED;
	e = connect_check_run(c, TIMEOUT, on_finding, &faults);
	if (e != ERR_OK)
		return cli_open_failed(e);
	if (faults == 0)
		return CLI_DONE;
	cli_error("serve would not start with the errors above%s",
	          c->strict_durability ? ", because STRICT_DURABILITY is true" : "");
	return CLI_CONFIG;
}

static void on_fault(void *arg, const char *text)
{
	(void)arg;
	cli_error("%s", text);
}

/* All faults are told, not the first one only. What hangs together with a faulty setting is judged
 * with the setting's default. */
static enum err read_all(const char *file, struct err_sink *sink, struct conf **c,
                         struct tools **tools, struct err_info *info)
{
	enum err e = conf_load_all(file, environ, sink, c, info);

	if (e == ERR_OK)
		e = preflight(*c, sink, info);
	if (e == ERR_OK)
		e = err_sink_take(
		    sink, tools_load_all((*c)->tools_file, (*c)->webhook_secret, sink, tools, info),
		    info);
	if (e == ERR_OK && *tools)
		e = preflight_tools(*c, *tools, sink, info);
	return e;
}

static void print_tools(const struct conf *c, size_t n)
{
	if (c->tools_file[0] || c->webhook_secret[0])
		printf("%-8s %zu tool%s from %s\n", n ? "ok" : "warning", n, n == 1 ? "" : "s",
		       c->tools_file[0] ? c->tools_file : "WEBHOOK_SECRET");
	else
		printf("%-8s no tools: neither TOOLS_FILE nor WEBHOOK_SECRET is set\n", "warning");
}

static int check(const char *file, bool with_servers)
{
	struct err_sink sink = {.fn = on_fault};
	struct conf *c = NULL;
	struct tools *tools = NULL;
	struct err_info info = {0};
	enum err e = read_all(file, &sink, &c, &tools, &info);
	int rc = e == ERR_OK && sink.count == 0 ? CLI_DONE : CLI_CONFIG;

	if (e != ERR_OK)
		cli_error("%s", info.text);
	if (sink.count > 1)
		cli_error("%zu faults", sink.count);
	if (rc == CLI_DONE) {
		printf("%-8s settings are valid\n", "ok");
		print_tools(c, tools_count(tools));
		if (with_servers)
			rc = check_servers(c);
	}
	tools_unref(tools);
	conf_free(c);
	return rc;
}

int cmd_check_config(const struct command *self, int argc, char **argv)
{
	const char *file = NULL;
	bool with_servers = false;
	const struct cli_option options[] = {
	    CLI_CONFIG_FILE(&file), {.name = "connect", .flag = &with_servers}, CLI_END};
	int rc;

	if (!cli_parse(self, argc, argv, options, (struct cli_operands){0}, &rc))
		return rc;
	return check(file, with_servers);
}
