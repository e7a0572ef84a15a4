/* The command table's row and what all commands share. One file per command; a command parses its
 * own options with getopt_long and returns the process's exit code. */
#ifndef WEIR_CLI_COMMAND_H
#define WEIR_CLI_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct buf;
struct conf;
struct tool;
struct tools;

/* Exit codes (sysexits.h for the last two). */
enum {
	CLI_DONE = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_UNREACHABLE = 69,
	CLI_CONFIG = 78,
};

struct command {
	const char *name;
	const char *args;    /* "[--config FILE] TOOL" */
	const char *summary; /* one line */
	const char *options; /* the lines of --help behind the summary, or NULL */
	int (*run)(const struct command *self, int argc, char **argv);
};

extern const struct command commands[]; /* ends with a NULL name */

int cmd_serve(const struct command *self, int argc, char **argv);
int cmd_dev(const struct command *self, int argc, char **argv);
int cmd_migrate(const struct command *self, int argc, char **argv);
int cmd_check_config(const struct command *self, int argc, char **argv);
int cmd_config(const struct command *self, int argc, char **argv);
int cmd_healthcheck(const struct command *self, int argc, char **argv);
int cmd_send_test(const struct command *self, int argc, char **argv);
int cmd_tools(const struct command *self, int argc, char **argv);
int cmd_openapi(const struct command *self, int argc, char **argv);
int cmd_sign(const struct command *self, int argc, char **argv);
int cmd_verify(const struct command *self, int argc, char **argv);
int cmd_bench(const struct command *self, int argc, char **argv);

/* Prints the command's help on stdout. */
void cli_help(const struct command *self);
/* "weir NAME: text" and where to find help, on stderr; returns CLI_USAGE. */
int cli_usage(const struct command *self, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "weir: text" on stderr. */
void cli_error(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* On stdout, as one word of a shell's line. */
void cli_print_word(const char *s);
/* NULL: there is no such tool, which was said. */
const struct tool *cli_find_tool(const struct tools *tools, const char *id);

/* Where a tool's requests go: `given`, or without it (NULL) the configured ingest address, and then
 * `behind`. */
#define CLI_URL_MAX 4096
enum err cli_tool_url(const struct conf *c, const char *given, const char *tool, struct str behind,
                      struct buf *out, struct err_info *info) MUST_CHECK;

/* The exit code for what pg_admin_open() said: bad settings are told from a server that is away. */
int cli_open_failed(enum err e);

/* Settings from `file` (may be NULL) and the environment; on failure says why and returns
 * CLI_CONFIG. */
int cli_load_conf(const char *file, struct conf **ret);
/* The tools of TOOLS_FILE, or those of WEBHOOK_SECRET; on failure says why and returns CLI_CONFIG.
 */
int cli_load_tools(const struct conf *c, struct tools **ret);

#endif
