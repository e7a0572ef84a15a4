/* The settings as text: for a file, for a person, for the status page, for the README, for the
 * manual page. */
#include "conf_table.h"

#include <ctype.h>

/* A comment's text is wrapped at this column. */
enum { WRAP = 96 };

/* "# text", wrapped between words. */
static void add_comment(struct buf *out, const char *text)
{
	struct str rest = str_of(text);
	size_t column = 0;

	while (rest.ptr) {
		struct str word = str_split(&rest, ' ');

		if (column == 0 || column + word.len + 1 > WRAP) {
			(void)buf_add_cstr(out, column ? "\n#" : "#");
			column = 1;
		}
		(void)buf_add_char(out, ' ');
		(void)buf_add_str(out, word);
		column += word.len + 1;
	}
	(void)buf_add_char(out, '\n');
}

static bool starts_group(size_t i)
{
	return i == 0 || strcmp(conf_rows[i].group, conf_rows[i - 1].group) != 0;
}

enum err conf_print_default(struct buf *out)
{
	for (size_t i = 0; i < conf_row_count; i++) {
		const struct conf_row *row = &conf_rows[i];

		if (starts_group(i))
			(void)buf_addf(out, "%s## %s\n\n", i ? "\n" : "", row->group);
		add_comment(out, row->help);
		(void)buf_add_cstr(out, "# Allowed: ");
		conf_value_print_allowed(row, out);
		(void)buf_addf(out, "%s\n%s=%s\n",
		               row->flags & CONF_RELOAD ? ". SIGHUP applies it." : ".", row->name,
		               row->def);
	}
	return out->err;
}

/* In quotes where conf_load would otherwise not read the same back. */
static void add_value(struct buf *out, struct str v)
{
	bool quote = v.len > 0 && (v.ptr[0] == '"' || v.ptr[0] == '\'' || str_trim(v).len < v.len);

	(void)buf_add_cstr(out, quote ? "\"" : "");
	(void)buf_add_str(out, v);
	(void)buf_add_cstr(out, quote ? "\"" : "");
}

enum err conf_dump(const struct conf *c, struct buf *out)
{
	struct buf value;

	buf_init(&value, out->cap);
	for (size_t i = 0; i < conf_row_count; i++) {
		buf_reset(&value);
		conf_value_print(c, &conf_rows[i], true, &value);
		if (value.err && !out->err)
			out->err = value.err;
		(void)buf_addf(out, "%s=", conf_rows[i].name);
		add_value(out, buf_str(&value));
		(void)buf_add_char(out, '\n');
	}
	buf_done(&value);
	return out->err;
}

static void add_json_name(struct buf *out, const char *name)
{
	(void)buf_add_char(out, '"');
	for (; *name; name++)
		(void)buf_add_char(out, (char)tolower((unsigned char)*name));
	(void)buf_add_cstr(out, "\":");
}

enum err conf_dump_json(const struct conf *c, struct buf *out)
{
	struct buf value;

	buf_init(&value, out->cap);
	(void)buf_add_char(out, '{');
	for (size_t i = 0; i < conf_row_count; i++) {
		const struct conf_row *row = &conf_rows[i];

		if (i > 0)
			(void)buf_add_char(out, ',');
		add_json_name(out, row->name);
		buf_reset(&value);
		conf_value_print(c, row, true, &value);
		if (value.err && !out->err)
			out->err = value.err;
		if (row->type == CONF_INT || row->type == CONF_BOOL)
			(void)buf_add_str(out, buf_str(&value));
		else
			(void)buf_add_json(out, buf_str(&value));
	}
	(void)buf_add_char(out, '}');
	buf_done(&value);
	return out->err;
}

static void add_markdown_row(struct buf *out, const struct conf_row *row)
{
	(void)buf_addf(out, "| `%s`", row->name);
	if (row->alias)
		(void)buf_addf(out, " or `%s`", row->alias);
	if (row->def[0])
		(void)buf_addf(out, " | `%s` | ", row->def);
	else
		(void)buf_add_cstr(out, " | | ");
	conf_value_print_allowed(row, out);
	(void)buf_addf(out, " | %s%s%s |\n", row->help,
	               row->flags & CONF_RELOAD ? " SIGHUP applies it." : "",
	               row->flags & CONF_SECRET ? " A secret." : "");
}

enum err conf_print_markdown(struct buf *out)
{
	for (size_t i = 0; i < conf_row_count; i++) {
		if (starts_group(i))
			(void)buf_addf(out,
			               "%s**%s**\n\n| setting | default | allowed | |\n"
			               "|---|---|---|---|\n",
			               i ? "\n" : "", conf_rows[i].group);
		add_markdown_row(out, &conf_rows[i]);
	}
	return out->err;
}

void conf_add_roff(struct buf *out, struct str text)
{
	if (text.len && (text.ptr[0] == '.' || text.ptr[0] == '\''))
		(void)buf_add_cstr(out, "\\&");
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] == '\\')
			(void)buf_add_cstr(out, "\\e");
		else if (text.ptr[i] == '-')
			(void)buf_add_cstr(out, "\\-");
		else
			(void)buf_add_char(out, text.ptr[i]);
	}
}

static void add_man_row(struct buf *out, const struct conf_row *row)
{
	struct buf allowed;

	buf_init(&allowed, out->cap);
	conf_value_print_allowed(row, &allowed);
	if (allowed.err && !out->err)
		out->err = allowed.err;
	(void)buf_addf(out, ".TP\n.BR %s", row->name);
	if (row->alias)
		(void)buf_addf(out, " \" or \" %s", row->alias);
	(void)buf_add_char(out, '\n');
	conf_add_roff(out, str_of(row->help));
	(void)buf_add_cstr(out, row->flags & CONF_RELOAD ? " SIGHUP applies it." : "");
	(void)buf_add_cstr(out, row->flags & CONF_SECRET ? " A secret." : "");
	(void)buf_add_cstr(out, "\nAllowed: ");
	conf_add_roff(out, buf_str(&allowed));
	if (row->def[0]) {
		(void)buf_add_cstr(out, ". Default: ");
		conf_add_roff(out, str_of(row->def));
	}
	(void)buf_add_cstr(out, ".\n");
	buf_done(&allowed);
}

enum err conf_print_man(struct buf *out)
{
	for (size_t i = 0; i < conf_row_count; i++) {
		if (starts_group(i))
			(void)buf_addf(out, ".SS \"%s\"\n", conf_rows[i].group);
		add_man_row(out, &conf_rows[i]);
	}
	return out->err;
}
