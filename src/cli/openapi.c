/* weir openapi: the admin API's description, without a running weir. */
#include <stdio.h>

#include "weir/app/admin.h"
#include "weir/cli/command.h"

int cmd_openapi(const struct command *self, int argc, char **argv)
{
	const struct cli_option options[] = {CLI_END};
	int rc;

	if (!cli_parse(self, argc, argv, options, (struct cli_operands){0}, &rc))
		return rc;
	fputs(openapi_json, stdout);
	return CLI_DONE;
}
