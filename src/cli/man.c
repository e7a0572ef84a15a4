/* weir(1), from the same tables as --help and the settings: nothing is written down twice. */
#include "weir/cli/man.h"

#include <string.h>

#include "weir/base/buf.h"
#include "weir/cli/command.h"
#include "weir/run/conf.h"

/* As it stands, line by line: in help the columns are the layout. */
static void add_lines(struct buf *out, const char *text)
{
	struct str rest = str_of(text);

	(void)buf_add_cstr(out, ".nf\n");
	while (rest.len) {
		conf_add_roff(out, str_split(&rest, '\n'));
		(void)buf_add_char(out, '\n');
	}
	(void)buf_add_cstr(out, ".fi\n");
}

static void add_command(struct buf *out, const struct command *c)
{
	(void)buf_add_cstr(out, ".SS \"weir ");
	conf_add_roff(out, str_of(c->name));
	(void)buf_add_cstr(out, "\"\n.B weir ");
	conf_add_roff(out, str_of(c->name));
	(void)buf_add_cstr(out, "\n");
	conf_add_roff(out, str_of(c->args));
	(void)buf_add_cstr(out, "\n.PP\n");
	conf_add_roff(out, str_of(c->summary));
	(void)buf_add_cstr(out, ".\n.PP\n");
	add_lines(out, c->options);
}

enum err man_print(struct buf *out)
{
	(void)buf_add_cstr(
	    out, ".TH WEIR 1 \"\" \"weir " WEIR_VERSION "\"\n.SH NAME\n"
	         "weir \\- takes webhooks, verifies them, and stores each exactly once\n"
	         ".SH SYNOPSIS\n.B weir\n.I COMMAND\n[options]\n.SH DESCRIPTION\n"
	         "An event that was answered 2xx is later exactly once in the table\n"
	         "weir.events, or in weir.dead_letters with the reason.\n"
	         ".B weir dev\nshows it with servers of its own;\n.B weir serve\nis the service.\n"
	         ".SH COMMANDS\nEach takes \\-\\-help and \\-\\-version.\n");
	for (const struct command *c = commands; c->name; c++)
		add_command(out, c);
	(void)buf_add_cstr(out,
	                   ".SH \"EXIT STATUS\"\n0 done; 1 failed; 2 wrong use; 69 a needed server "
	                   "cannot be reached; 78 bad configuration.\n"
	                   ".SH ENVIRONMENT\nThe settings. The same NAME=value lines stand in the "
	                   "file of \\-\\-config; the environment wins.\n");
	return conf_print_man(out);
}
