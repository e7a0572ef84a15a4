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
#define OUTPUT_OPTION "  -o, --output table|json   how to print (table)\n"
#define URL_OPTION    "  --url URL         where to, path included (the configured ingest address)\n"
#define AT_OPTION     "seconds since 1970, or 2026-01-31T12:00:00Z"
#define KEY_OPTION                                                                                \
	"  --key FILE        the private key (PEM) where the provider signs with one. Made when " \
	"it\n"                                                                                    \
	"                    is not there; its public half is printed in the tool's form\n"
#define TOOL_OPERAND                                                                               \
	"  TOOL              id of a tool of TOOLS_FILE, or of the table of tools, which is read " \
	"where\n"                                                                                  \
	"                    a database is named (DATABASE_URL, DATABASE_HOST, ...)\n"
#define EXITS_OF_TOOL                                                                      \
	"2 wrong use; 69 the database with the\ntable of tools cannot be reached; 78 bad " \
	"settings, "                                                                       \
	"tools or secrets.\n"

const struct command commands[] = {
    {"serve", "[--config FILE] [--migrate] [--wait-for 30s]", "run the service",
     CONFIG_OPTION
     "  --migrate         bring the database's schema up to date first; a database that is not\n"
     "                    there yet is waited for as long as the server\n"
     "  --wait-for TIME   wait so long for Redis or Postgres at the start (30s); exit 69 when\n"
     "                    neither answers. Later outages never end the process\n"
     "\nExit 0 after SIGTERM or SIGINT, when all was answered and stored; 1 could not start, say\n"
     "because another program has the port, or a second signal ended it; 2 wrong use; 69 no\n"
     "server answered; 78 bad settings or tools, a user, password or database that Postgres\n"
     "or Redis refuses at the start, a schema newer than this weir, or what STRICT_DURABILITY\n"
     "refuses.\n",
     cmd_serve},
    {"dev", "[--dir DIR | --ephemeral]", "everything for a first try, with servers of its own",
     "  --dir DIR         where data and sockets lie (./.weir)\n"
     "  --ephemeral       a temporary folder instead, removed at the end\n"
     "\nPORT in the environment says from which port on a free one is looked for (8000), "
     "TOOLS_FILE\nnames another tools file than the demo's. Exit 0 after Ctrl-C or SIGTERM; 1 "
     "when something\ncould not be started or ended by itself; 2 wrong use; 78 bad settings.\n",
     cmd_dev},
    {"migrate", "up|status|down [--config FILE] [--to VERSION] [--yes] [-o table|json]",
     "bring the database's schema up to date",
     "  up                run what is pending, each migration in a transaction\n"
     "  status            list the migrations: applied, pending, or unknown to this weir\n"
     "  down              take the newest one back, or all behind --to VERSION. Drops what the\n"
     "                    migration made, with the events in it: nothing is kept of them\n"
     "  --yes             without it down does nothing but say so\n"
     "  --to VERSION      with down; 0 takes all of them back\n" CONFIG_OPTION OUTPUT_OPTION
     "                    json: a list of {\"version\", \"name\", \"state\"}\n"
     "\nExit 0 done, or all is applied; 1 a migration failed, or with status: some are pending or\n"
     "unknown; 2 wrong use; 69 Postgres cannot be reached; 78 bad settings, or a user, password\n"
     "or database that Postgres refuses.\n",
     cmd_migrate},
    {"check-config", "[--config FILE] [--connect]", "say everything that serve would refuse",
     CONFIG_OPTION
     "  --connect         also reach Redis and Postgres, and look at their durability\n"
     "\nFaults go to stderr, all of them. Exit 0 when serve would start; 2 wrong use; 69 a server\n"
     "cannot be reached; 78 serve would refuse something.\n",
     cmd_check_config},
    {"config", "--print-default|--dump|--markdown|--man [--config FILE]", "print settings",
     CONFIG_OPTION "  --print-default   every setting with its default and meaning\n"
                   "  --dump            the values in force; secrets masked\n"
                   "  --markdown        the reference as a table\n"
                   "  --man             the manual page, weir(1)\n"
                   "\nExit 0 done; 2 wrong use; 78 bad settings (with --dump).\n",
     cmd_config},
    {"healthcheck", "[--config FILE] [--url URL] [--ready]", "ask a running weir how it is",
     CONFIG_OPTION
     "  --ready           ask /health/ready: can it take events now? (default: /health)\n"
     "  --url URL         ask this address, path included, instead of the configured one\n"
     "                    (HEALTH_ENDPOINT, or HEALTH_SERVER_HOST and HEALTH_SERVER_PORT)\n"
     "\nPrints the answer's status and body. A degraded weir (Postgres or Redis away, while "
     "events\n"
     "are still taken) answers 200. Exit 0 when the status is 200; 1 when it is another (503: no\n"
     "event can be taken); 2 wrong use; 69 when nothing answers within 5 s; 78 bad settings.\n",
     cmd_healthcheck},
    {"send-test", "TOOL [--config FILE] [--url URL] [--event TYPE] [--key FILE] [--bad-signature]",
     "sign a sample as the provider would, and post it",
     TOOL_OPERAND CONFIG_OPTION URL_OPTION
     "  --event TYPE      the event's type, where the provider names it in a header\n" KEY_OPTION
     "  --bad-signature   spoil the signature: the answer should be 401\n"
     "\nPrints the answer. Exit 0 when it is the one that should come; 1 another, or there is no "
     "such\ntool; 2 wrong use; 69 nothing answers, or the database with the table of tools does "
     "not;\n78 bad settings, tools or secrets.\n",
     cmd_send_test},
    {"tools", "list|show ID|put ID FILE|delete ID|test ID FILE [--config FILE] [-o table|json] ...",
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
     "                    \"POST /webhooks/ID?QUERY\" may stand in front. The tool is the file's,\n"
     "                    else the admin API's, else one of the table where a database is named\n"
     "  --at TIME         test as of then (now): " AT_OPTION "\n"
     "  --url URL         of the admin API (http://ADMIN_ADDR)\n" CONFIG_OPTION OUTPUT_OPTION
     "\nExit 0 done; 1 refused, no such tool, or not verified; 2 wrong use; 69 when the admin API\n"
     "or the database cannot be reached; 78 bad settings, tools or secrets, or a token that is\n"
     "refused.\n",
     cmd_tools},
    {"openapi", "", "print the description of the admin API",
     "\nOpenAPI 3.1, as JSON. Exit 0 done; 2 wrong use.\n", cmd_openapi},
    {"sign", "TOOL [FILE] [--config FILE] [--url URL] [--event TYPE] [--id ID] [--key FILE] [...]",
     "print a request as the provider would sign it",
     TOOL_OPERAND
     "  FILE              its body, byte for byte; - for standard input; without it a sample.\n"
     "                    %SIGNATURE% in it is replaced where the signature is part of the "
     "body\n" CONFIG_OPTION URL_OPTION
     "  --event TYPE      the event's type, where the provider names it in a header\n"
     "  --id ID           the event's id, likewise\n" KEY_OPTION
     "  --at TIME         sign as of then: " AT_OPTION "\n"
     "  --bad-signature   spoil the signature\n"
     "  -o, --output curl|http|headers   a command line for curl (default), the request, its\n"
     "                    head's lines\n"
     "\nExit 0 done; 1 it cannot be signed, or there is no such tool; " EXITS_OF_TOOL,
     cmd_sign},
    {"verify", "TOOL [FILE] [--config FILE] [-H LINE]... [--body FILE] [--at TIME] [...]",
     "say whether a request is authentic, and if not, why not and what was signed",
     TOOL_OPERAND
     "  FILE              the request as HTTP text, or what curl -v printed; standard input\n"
     "                    without it or with -. With -H it is the body alone\n"
     "  -H, --header LINE   a header line, \"Name: value\"\n"
     "  --body FILE       the body, where FILE has none (curl -v does not print it)\n"
     "  --cert FILE       the certificate (PEM) that the request names by a URL, and those above "
     "it\n"
     "  --method METHOD   with -H: the method (POST)\n"
     "  --target TARGET   with -H: path and query (/webhooks/TOOL)\n"
     "  --at TIME         judge as of then: " AT_OPTION "\n"
     "  -o, --output text|raw   raw: nothing but the bytes that are signed, to be piped "
     "on\n" CONFIG_OPTION
     "\nPrints what a sender may never see: the content that is signed and the signature that it\n"
     "should have. Exit 0 when the request is authentic; 1 when it is not, or there is no such\n"
     "tool; " EXITS_OF_TOOL,
     cmd_verify},
    {"bench", "TOOL [--config FILE] [--url URL] [--connections N] [--rate N] [...]",
     "put a load of signed events on a running weir, which stores them",
     TOOL_OPERAND CONFIG_OPTION URL_OPTION
     "  --event TYPE      the events' type (the sample's)\n"
     "  --connections N   keep-alive connections, 1 to 10000 (64)\n"
     "  --rate N          events a second, sent when they are due, however slow the\n"
     "                    answers are (without it: as fast as answers come)\n"
     "  --seconds TIME    for how long (10)\n"
     "  --size SIZE       of the bodies (1024)\n" OUTPUT_OPTION
     "\nThe events are real ones: each is stored, like any other. Exit 0 when all were answered\n"
     "2xx; 1 when some were not, or there is no such tool; 2 wrong use; 69 nothing answers, or "
     "the\n"
     "database with the table of tools does not; 78 bad settings, tools or secrets.\n",
     cmd_bench},
    {NULL, NULL, NULL, NULL, NULL},
};

/* What an empty line parts from the options stands behind --help. */
void cli_help(const struct command *self)
{
	const char *notes = strstr(self->options, "\n\n");

	printf("usage: weir %s %s\n\n%s\n\n", self->name, self->args, self->summary);
	if (notes)
		printf("%.*s\n", (int)(notes - self->options), self->options);
	printf("  -h, --help        this text\n"
	       "  --version         weir's version\n%s",
	       notes ? notes + 1 : self->options);
}

void cli_version(void)
{
	puts("weir " WEIR_VERSION);
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
