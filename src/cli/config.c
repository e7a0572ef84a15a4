/* weir config: settings as text, from the one table. */
#include <getopt.h>
#include <stdio.h>

#include "weir/base/buf.h"
#include "weir/cli/command.h"
#include "weir/run/conf.h"

#define MAX_TEXT (1024 * 1024)

enum what { NOTHING, PRINT_DEFAULT, DUMP, MARKDOWN };

static int print(const char *file, enum what what)
{
	struct buf out;
	struct conf *c = NULL;
	enum err e = ERR_OK;
	int rc = CLI_DONE;

	buf_init(&out, MAX_TEXT);
	if (what == DUMP) {
		rc = cli_load_conf(file, &c);
		if (rc == CLI_DONE)
			e = conf_dump(c, &out);
	} else {
		e = what == MARKDOWN ? conf_print_markdown(&out) : conf_print_default(&out);
	}
	if (rc == CLI_DONE && e == ERR_OK)
		fwrite(out.ptr, 1, out.len, stdout);
	else if (rc == CLI_DONE)
		rc = CLI_FAILED;
	conf_free(c);
	buf_done(&out);
	return rc;
}

int cmd_config(const struct command *self, int argc, char **argv)
{
	static const struct option options[] = {
	    {"config", required_argument, NULL, 'c'}, {"print-default", no_argument, NULL, 'p'},
	    {"dump", no_argument, NULL, 'd'},         {"markdown", no_argument, NULL, 'm'},
	    {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
	const char *file = NULL;
	enum what what = NOTHING;
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == 'h') {
			cli_help(self);
			return CLI_DONE;
		}
		if (o == '?')
			return cli_usage(self, "bad option");
		if (o == 'c')
			file = optarg;
		else
			what = o == 'p' ? PRINT_DEFAULT : o == 'd' ? DUMP : MARKDOWN;
	}
	if (what == NOTHING || optind != argc)
		return cli_usage(self, "say --print-default, --dump or --markdown");
	return print(file, what);
}
