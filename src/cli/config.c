/* weir config: settings as text, from the one table. */
#include <stdio.h>

#include "weir/base/buf.h"
#include "weir/cli/command.h"
#include "weir/cli/man.h"
#include "weir/run/conf.h"

#define MAX_TEXT (1024 * 1024)

enum what { PRINT_DEFAULT, DUMP, MARKDOWN, MAN };

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
		e = what == MARKDOWN ? conf_print_markdown(&out)
		    : what == MAN    ? man_print(&out)
		                     : conf_print_default(&out);
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
	const char *file = NULL;
	bool defaults = false, dump = false, markdown = false, man = false;
	const struct cli_option options[] = {
	    CLI_CONFIG_FILE(&file),          {.name = "print-default", .flag = &defaults},
	    {.name = "dump", .flag = &dump}, {.name = "markdown", .flag = &markdown},
	    {.name = "man", .flag = &man},   CLI_END};
	int rc;

	if (!cli_parse(self, argc, argv, options, (struct cli_operands){0}, &rc))
		return rc;
	if (defaults + dump + markdown + man != 1)
		return cli_usage(self,
		                 "say --print-default, --dump, --markdown or --man, one of them");
	return print(file, defaults ? PRINT_DEFAULT : dump ? DUMP : markdown ? MARKDOWN : MAN);
}
