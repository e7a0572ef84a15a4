/* The command table, and the few things that all commands share. */
#include "weir/cli/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "weir/app/endpoint.h"
#include "weir/app/preflight.h"
#include "weir/base/buf.h"
#include "weir/model/tool.h"
#include "weir/run/conf.h"
#include "weir/run/log.h"

extern char **environ;

#define CONFIG_OPTION "  --config FILE     NAME=value lines; the environment wins over them\n"

#define KEY_OPTION                                                                                \
	"  --key FILE        the private key (PEM) where the provider signs with one. Made when " \
	"it\n"                                                                                    \
	"                    is not there; its public half is printed in the tool's form\n"

const struct command commands[] = {
    {"serve", "[--config FILE] [--migrate] [--wait-for 30s]", "run the service",
     CONFIG_OPTION
     "  --migrate         bring the database's schema up to date first\n"
     "  --wait-for TIME   wait so long for Redis or Postgres at the start (30s); exit 69 when\n"
     "                    neither answers. Later outages never end the process\n",
     cmd_serve},
    {"dev", "[--dir DIR | --ephemeral]", "everything for a first try, with servers of its own",
     "  --dir DIR         where data and sockets lie (./.weir)\n"
     "  --ephemeral       a temporary folder instead, removed at the end\n",
     cmd_dev},
    {"migrate", "up|status|down [--config FILE] [--to VERSION] [--yes] [-o table|json]",
     "bring the database's schema up to date",
     "  up                run what is pending, each migration in a transaction\n"
     "  status            list the migrations; exit 1 when some are pending\n"
     "  down              take the newest one back, or all behind --to VERSION. Drops what the\n"
     "                    migration made, with the events in it: nothing is kept of them\n"
     "  --yes             without it down does nothing but say so\n"
     "  --to VERSION      with down; 0 takes all of them back\n"
     "  -o table|json     how to print the migrations (table)\n" CONFIG_OPTION,
     cmd_migrate},
    {"check-config", "[--config FILE] [--connect]", "say everything that serve would refuse",
     CONFIG_OPTION
     "  --connect         also reach Redis and Postgres, and look at their durability\n",
     cmd_check_config},
    {"config", "--print-default|--dump|--markdown [--config FILE]", "print settings",
     CONFIG_OPTION "  --print-default   every setting with its default and meaning\n"
                   "  --dump            the values in force; secrets masked\n"
                   "  --markdown        the reference as a table\n",
     cmd_config},
    {"healthcheck", "[--config FILE] [--url URL] [--ready]", "ask a running weir how it is",
     "  --ready           ask /health/ready: can it take events now? (default: /health)\n"
     "  --url URL         ask this address, path included, instead of the configured "
     "one\n" CONFIG_OPTION
     "\nPrints the answer's status and body. Exit 0 when the status is 200, 1 when it is another\n"
     "(503: no event can be taken), 69 when nothing answers within 5 s. A degraded weir (Postgres "
     "or\n"
     "Redis away, while events are still taken) answers 200.\n",
     cmd_healthcheck},
    {"send-test", "TOOL [--config FILE] [--url URL] [--event TYPE] [--key FILE] [--bad-signature]",
     "sign a sample as the provider would, and post it",
     CONFIG_OPTION
     "  --url URL         where to (the configured ingest address)\n"
     "  --event TYPE      the event's type, where the provider names it in a header\n" KEY_OPTION
     "  --bad-signature   spoil the signature: the answer should be 401\n",
     cmd_send_test},
    {"tools",
     "list|show ID|put ID FILE|delete ID|test ID FILE [--config FILE] [-o table|json] [...]",
     "the tools of a running weir, or of the tools file",
     "  list, show        ask the admin API when ADMIN_TOKEN or ADMIN_READ_TOKEN is set, else "
     "read\n"
     "                    TOOLS_FILE. show says which secrets are in use, and what the provider\n"
     "                    does on each answer\n"
     "  put, delete       change the table of tools (ADMIN_TOKEN); FILE holds one tool as in\n"
     "                    TOOLS_FILE, - is stdin\n"
     "  test              run a request through the tool's recipe here, sending nothing: "
     "verified,\n"
     "                    or which step failed, and what the events would be. FILE holds\n"
     "                    \"Name: value\" lines, an empty line and the body; a line\n"
     "                    \"POST /webhooks/ID?QUERY\" may stand in front\n"
     "  --at SECONDS      with test: the time of the request, since the epoch (now)\n"
     "  --url URL         of the admin API (http://ADMIN_ADDR)\n"
     "  -o table|json     how to print (table)\n" CONFIG_OPTION
     "\nExit 0 done; 1 refused, no such tool, or not verified; 69 when the admin API cannot be\n"
     "reached; 78 when the settings are bad.\n",
     cmd_tools},
    {"openapi", "", "print the description of the admin API", NULL, cmd_openapi},
    {"sign", "TOOL [FILE] [--config FILE] [--url URL] [--event TYPE] [--id ID] [--key FILE] [...]",
     "print a request as the provider would sign it",
     "  FILE              its body, byte for byte; - for standard input; without it a sample.\n"
     "                    %SIGNATURE% in it is replaced where the signature is part of the "
     "body\n" CONFIG_OPTION "  --url URL         where to (the configured ingest address)\n"
     "  --event TYPE      the event's type, where the provider names it in a header\n"
     "  --id ID           the event's id, likewise\n" KEY_OPTION
     "  --at TIME         sign as of then: seconds since 1970, or 2026-01-31T12:00:00Z\n"
     "  --bad-signature   spoil the signature\n"
     "  -o curl|http|headers  a command line for curl (default), the request, its head's lines\n",
     cmd_sign},
    {"verify", "TOOL [FILE] [--config FILE] [-H LINE]... [--body FILE] [--at TIME] [...]",
     "say whether a request is authentic, and if not, why not and what was signed",
     "  FILE              the request as HTTP text, or what curl -v printed; standard input\n"
     "                    without it or with -. With -H it is the body alone\n"
     "  -H LINE           a header line, \"Name: value\"\n"
     "  --body FILE       the body, where FILE has none (curl -v does not print it)\n"
     "  --cert FILE       the certificate (PEM) that the request names by a URL, and those above "
     "it\n"
     "  --method METHOD   with -H: the method (POST)\n"
     "  --target TARGET   with -H: path and query (/webhooks/TOOL)\n"
     "  --at TIME         judge as of then: seconds since 1970, or 2026-01-31T12:00:00Z\n"
     "  -o text|raw       raw: nothing but the bytes that are signed, to be piped "
     "on\n" CONFIG_OPTION
     "\nPrints what a sender may never see: the content that is signed and the signature that it\n"
     "should have. Exit 0 when the request is authentic, 1 when it is not.\n",
     cmd_verify},
    {"bench", "TOOL [--config FILE] [--url URL] [--connections N] [--rate N] [...]",
     "put a load of signed events on a running weir, which stores them",
     CONFIG_OPTION "  --url URL         where to (the configured ingest address)\n"
                   "  --event TYPE      the events' type (the sample's)\n"
                   "  --connections N   keep-alive connections, 1 to 10000 (64)\n"
                   "  --rate N          events a second, sent when they are due, however slow the\n"
                   "                    answers are (without it: as fast as answers come)\n"
                   "  --seconds TIME    for how long (10)\n"
                   "  --size SIZE       of the bodies (1024)\n"
                   "  -o table|json     how to print what came of it (table)\n",
     cmd_bench},
    {NULL, NULL, NULL, NULL, NULL},
};

void cli_help(const struct command *self)
{
	printf("usage: weir %s %s\n\n%s\n", self->name, self->args, self->summary);
	if (self->options)
		printf("\n%s", self->options);
	printf("  --help            this text\n");
}

int cli_usage(const struct command *self, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "weir %s: ", self->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nusage: weir %s %s\n", self->name, self->args);
	return CLI_USAGE;
}

void cli_error(const char *fmt, ...)
{
	va_list ap;

	fputs("weir: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void cli_print_word(const char *s)
{
	if (*s && s[strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./-"
	                      ":")] == '\0') {
		fputs(s, stdout);
		return;
	}
	putchar('\'');
	for (; *s; s++) {
		if (*s == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*s);
	}
	putchar('\'');
}

const struct tool *cli_find_tool(const struct tools *tools, const char *id)
{
	const struct tool *t = tools_find(tools, str_of(id));

	if (t)
		return t;
	cli_error("there is no tool '%s'; configured are:", id);
	for (size_t i = 0; i < tools_count(tools); i++)
		fprintf(stderr, "  %s\n", tools_at(tools, i)->id.ptr);
	return NULL;
}

enum err cli_tool_url(const struct conf *c, const char *given, const char *tool, struct str behind,
                      struct buf *out, struct err_info *info)
{
	char base[ENDPOINT_URL_MAX];
	struct endpoint at;

	if (given) {
		buf_add_cstr(out, given);
	} else {
		if (endpoint_ingest(c, &at) != ERR_OK)
			return err_set(info, ERR_INVAL, "HOST=%s: too long for a host name",
			               c->host);
		endpoint_url(&at, base);
		buf_addf(out, "%s/webhooks/%s", base, tool);
	}
	buf_add_str(out, behind);
	return out->err == ERR_OK
	           ? ERR_OK
	           : err_set(info, out->err, "the URL is longer than %d bytes", CLI_URL_MAX);
}

int cli_open_failed(enum err e)
{
	if (e == ERR_INVAL || e == ERR_DENIED || e == ERR_NOTFOUND)
		return CLI_CONFIG;
	return e == ERR_NOMEM ? CLI_FAILED : CLI_UNREACHABLE;
}

int cli_load_conf(const char *file, struct conf **ret)
{
	struct err_info info = {0};

	if (conf_load(file, environ, ret, &info) == ERR_OK)
		return CLI_DONE;
	cli_error("%s", info.text);
	return CLI_CONFIG;
}

int cli_load_tools(const struct conf *c, struct tools **ret)
{
	struct err_info info = {0};

	struct tools *t = NULL;

	if (tools_load(c->tools_file, c->webhook_secret, &t, &info) == ERR_OK &&
	    preflight_tools(c, t, NULL, &info) == ERR_OK) {
		*ret = t;
		return CLI_DONE;
	}
	tools_unref(t);
	cli_error("%s", info.text);
	return CLI_CONFIG;
}
