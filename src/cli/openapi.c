/* weir openapi: the admin API's description, without a running weir. */
#include <stdio.h>
#include <string.h>

#include "weir/app/admin.h"
#include "weir/cli/command.h"

int cmd_openapi(const struct command *self, int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		cli_help(self);
		return CLI_DONE;
	}
	if (argc > 1)
		return cli_usage(self, "takes no arguments");
	fputs(openapi_json, stdout);
	return CLI_DONE;
}
