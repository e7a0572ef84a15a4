/* The options of a command, from its table. getopt_long does the reading; what it would say itself
 * is said here, with what is allowed. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "weir/base/buf.h"
#include "weir/cli/command.h"

#define MAX_OPTIONS 16
#define LONG        256 /* of getopt's values: an option's place is added */
#define HELP        'h'
#define LONG_HELP   (LONG + MAX_OPTIONS) /* as are those that every command has */
#define VERSION     (LONG_HELP + 1)

static void print_option(const struct cli_option *o, struct buf *out)
{
	if (o->letter)
		buf_addf(out, "-%c", o->letter);
	if (o->name)
		buf_addf(out, "%s--%s", o->letter ? ", " : "", o->name);
	if (o->value)
		buf_addf(out, " %s", o->value);
}

static int refuse(const struct command *self, const struct cli_option *options, const char *given)
{
	struct buf all;
	int rc;

	buf_init(&all, 4096);
	for (const struct cli_option *o = options; o->name; o++) {
		print_option(o, &all);
		buf_add_cstr(&all, "; ");
	}
	rc = cli_usage(self, "there is no option %s; there are: %s-h, --help; --version", given,
	               all.len ? all.ptr : "");
	buf_done(&all);
	return rc;
}

static int lacks_value(const struct command *self, const struct cli_option *o)
{
	struct buf text;
	int rc;

	buf_init(&text, 256);
	print_option(o, &text);
	rc = cli_usage(self, "an option lacks its value: %s", text.len ? text.ptr : "");
	buf_done(&text);
	return rc;
}

/* By what getopt_long returns, or what it complains of. */
static const struct cli_option *find(const struct cli_option *options, int value)
{
	if (value >= LONG)
		return &options[value - LONG];
	for (const struct cli_option *o = options; o->name; o++)
		if (value && o->letter == value)
			return o;
	return NULL;
}

static bool apply(const struct command *self, const struct cli_option *o, const char *value,
                  int *ret_rc)
{
	if (o->flag)
		*o->flag = true;
	else if (o->text)
		*o->text = value;
	else if (!o->take(o->arg, value)) {
		*ret_rc = cli_usage(self, "--%s %s: must be %s", o->name, value, o->must);
		return false;
	}
	return true;
}

static void describe(const struct cli_option *options, struct option *longs, char *shorts)
{
	size_t n = 0;

	*shorts++ = ':';
	*shorts++ = HELP;
	for (; options[n].name && n < MAX_OPTIONS; n++) {
		const struct cli_option *o = &options[n];

		longs[n] = (struct option){o->name, o->value ? required_argument : no_argument,
		                           NULL, LONG + (int)n};
		if (o->letter)
			*shorts++ = o->letter;
		if (o->letter && o->value)
			*shorts++ = ':';
	}
	*shorts = '\0';
	longs[n++] = (struct option){"help", no_argument, NULL, LONG_HELP};
	longs[n++] = (struct option){"version", no_argument, NULL, VERSION};
	longs[n] = (struct option){NULL, 0, NULL, 0};
}

/* False: the command is over. */
static bool read_options(const struct command *self, int argc, char **argv,
                         const struct cli_option *options, int *ret_rc)
{
	struct option longs[MAX_OPTIONS + 3];
	char shorts[2 * MAX_OPTIONS + 4];
	int v;

	describe(options, longs, shorts);
	opterr = 0;
	while ((v = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct cli_option *o = v == '?' ? NULL : find(options, v == ':' ? optopt : v);
		char letter[] = {'-', (char)optopt, '\0'};

		if (v == HELP || v == LONG_HELP || v == VERSION) {
			if (v == VERSION)
				cli_version();
			else
				cli_help(self);
			*ret_rc = CLI_DONE;
			return false;
		}
		if (v == ':' && o) {
			*ret_rc = lacks_value(self, o);
			return false;
		}
		if (!o) {
			bool is_long = optopt == 0 || optopt >= LONG;

			*ret_rc = refuse(self, options, is_long ? argv[optind - 1] : letter);
			return false;
		}
		if (!apply(self, o, optarg, ret_rc))
			return false;
	}
	return true;
}

char **cli_parse(const struct command *self, int argc, char **argv,
                 const struct cli_option *options, struct cli_operands want, int *ret_rc)
{
	int n;

	if (!read_options(self, argc, argv, options, ret_rc))
		return NULL;
	n = argc - optind;
	if (n >= want.min && n <= want.max)
		return argv + optind;
	*ret_rc = want.max ? cli_usage(self, "%s", want.text)
	                   : cli_usage(self, "takes no arguments, like %s", argv[optind]);
	return NULL;
}

bool cli_take_json(void *arg, const char *value)
{
	size_t which;

	if (!cli_choose("table|json", value, &which))
		return false;
	*(bool *)arg = which == 1;
	return true;
}

bool cli_choose(const char *words, const char *value, size_t *ret)
{
	struct str rest = str_of(words);

	for (size_t i = 0; rest.ptr; i++) {
		if (!str_eq(str_split(&rest, '|'), str_of(value)))
			continue;
		*ret = i;
		return true;
	}
	return false;
}
