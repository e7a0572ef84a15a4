/* The command table's row and what all commands share. One file per command; a command has a table
 * of its options for cli_parse(), and returns the process's exit code. */
#ifndef WEIR_CLI_COMMAND_H
#define WEIR_CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
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
	const char *options; /* the lines of --help behind the summary; an empty line, and notes */
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
void cli_version(void);
/* "weir NAME: text" and where to find help, on stderr; returns CLI_USAGE. */
int cli_usage(const struct command *self, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "weir: text" on stderr. */
void cli_error(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* ---- options ---- */

/* One option: a flag, a text, or what `take` makes of its value. */
struct cli_option {
	const char *name;  /* --name; NULL ends the table */
	char letter;       /* -l as well; 0: none */
	const char *value; /* "FILE": what stands behind it; NULL for flags */
	bool *flag;        /* one of the three */
	const char **text;
	bool (*take)(void *arg, const char *value); /* false: it must be `must` */
	void *arg;
	const char *must;
};
#define CLI_END              \
	{                    \
		.name = NULL \
	}
#define CLI_CONFIG_FILE(to)                                     \
	{                                                       \
		.name = "config", .value = "FILE", .text = (to) \
	}
#define CLI_OUTPUT(json)                                                                       \
	{                                                                                      \
		.name = "output", .letter = 'o', .value = "table|json", .take = cli_take_json, \
		.arg = (json), .must = "table or json"                                         \
	}
bool cli_take_json(void *arg, const char *value); /* arg: bool */
/* Which of the words "a|b|c" it is, counted from 0. */
bool cli_choose(const char *words, const char *value, size_t *ret);
#define CLI_TIME "seconds since 1970, or a time like 2026-01-31T12:00:00Z"
bool cli_take_time(void *arg, const char *value); /* arg: usec_t */

/* How many arguments stand behind the options, and what to say where there are others. */
struct cli_operands {
	int min, max;
	const char *text;
};
/* Returns the arguments, up to a NULL. NULL: the command is over with *ret_rc; help was printed, or
 * what is wrong, with what is allowed. */
char **cli_parse(const struct command *self, int argc, char **argv,
                 const struct cli_option *options, struct cli_operands want, int *ret_rc);

/* ---- what commands begin with ---- */

/* On stdout, as one word of a shell's line. */
void cli_print_word(const char *s);
/* Where a tool's requests go: `given`, or without it (NULL) the configured ingest address, and then
 * `behind`. */
#define CLI_URL_MAX 4096
enum err cli_tool_url(const struct conf *c, const char *given, const char *tool, struct str behind,
                      struct buf *out, struct err_info *info) MUST_CHECK;

/* A file's bytes, "-" is standard input; on failure says why and returns CLI_FAILED. */
int cli_read_file(const char *path, struct buf *out);
/* The exit code for what pg_admin_open() said: bad settings are told from a server that is away. */
int cli_open_failed(enum err e);

/* Settings from `file` (may be NULL) and the environment; on failure says why and returns
 * CLI_CONFIG. */
int cli_load_conf(const char *file, struct conf **ret);
/* The tools of TOOLS_FILE, or those of WEBHOOK_SECRET; on failure says why and returns CLI_CONFIG.
 */
int cli_load_tools(const struct conf *c, struct tools **ret);

/* The tool of the file, or else of the table where a database is named; a reference. On failure
 * says why, and which tools there are. */
int cli_find_tool(const struct conf *c, const char *id, struct tool **ret);
struct cli_tool {
	struct conf *conf; /* owned, as the tool; NULL: not there */
	struct tool *tool;
};
/* Settings and a tool. `ret` is all zero, and in any case to be done. */
int cli_open_tool(const char *config, const char *id, struct cli_tool *ret);
void cli_tool_done(struct cli_tool *t);

#endif
