/* weir healthcheck: one request to a running weir, its answer as exit code; for container images
 * that have no shell. */
#include <stdio.h>

#include "weir/app/endpoint.h"
#include "weir/cli/command.h"
#include "weir/io/http_call.h"
#include "weir/run/conf.h"

#define TIMEOUT (5 * USEC_PER_SEC)

static int ask(const char *url)
{
	struct http_call call = {.method = "GET", .url = url, .timeout = TIMEOUT};
	struct err_info info = {0};
	struct buf answer;
	int status = 0;
	enum err e;

	buf_init(&answer, 64 * 1024);
	e = http_call_run(&call, &status, &answer, &info);
	if (e != ERR_OK)
		cli_error("%s", info.text);
	else
		printf("%d %.*s\n", status, (int)answer.len, answer.ptr ? answer.ptr : "");
	buf_done(&answer);
	if (e != ERR_OK)
		return CLI_UNREACHABLE;
	return status == 200 ? CLI_DONE : CLI_FAILED;
}

static int ask_configured(const char *file, const char *path)
{
	char base[ENDPOINT_URL_MAX], url[ENDPOINT_URL_MAX + 16];
	struct endpoint at;
	struct conf *c;
	int rc = cli_load_conf(file, &c);

	if (rc != CLI_DONE)
		return rc;
	if (endpoint_health(c, &at) != ERR_OK) {
		cli_error("HEALTH_ENDPOINT=%s: not HOST:PORT", c->health_endpoint);
		rc = CLI_CONFIG;
	} else {
		endpoint_url(&at, base);
		snprintf(url, sizeof(url), "%s%s", base, path);
		rc = ask(url);
	}
	conf_free(c);
	return rc;
}

int cmd_healthcheck(const struct command *self, int argc, char **argv)
{
	const char *file = NULL, *url = NULL;
	bool ready = false;
	const struct cli_option options[] = {CLI_CONFIG_FILE(&file),
	                                     {.name = "url", .value = "URL", .text = &url},
	                                     {.name = "ready", .flag = &ready},
	                                     CLI_END};
	int rc;

	if (!cli_parse(self, argc, argv, options, (struct cli_operands){0}, &rc))
		return rc;
	if (url && ready)
		return cli_usage(self, "--url names the path, so --ready has nothing to say");
	return url ? ask(url) : ask_configured(file, ready ? "/health/ready" : "/health");
}
