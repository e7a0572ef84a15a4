/* Picks the command. Everything else is the command's business. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "weir/cli/command.h"

static const struct command *find(const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

static void help(FILE *out)
{
	fprintf(out, "weir " WEIR_VERSION
	             ": takes webhooks, verifies them, and stores each exactly once\n\n"
	             "usage: weir COMMAND [options]\n\n");
	for (const struct command *c = commands; c->name; c++)
		fprintf(out, "  %-13s %s\n", c->name, c->summary);
	fprintf(out,
	        "\n`weir COMMAND --help` explains a command. Settings are environment variables:\n"
	        "`weir config --print-default` lists them.\n");
}

/* A supervisor may start us without them: a connection would then get the number that messages are
 * written to. */
static void open_standard_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	const struct command *c;

	open_standard_streams();
	if (strcmp(name, "help") == 0 && argc > 2 && (c = find(argv[2]))) {
		cli_help(c);
		return CLI_DONE;
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
		help(stdout);
		return CLI_DONE;
	}
	if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
		cli_version();
		return CLI_DONE;
	}
	c = find(name);
	if (!c) {
		if (*name)
			cli_error("there is no command '%s'", name);
		help(stderr);
		return CLI_USAGE;
	}
	return c->run(c, argc - 1, argv + 1);
}
