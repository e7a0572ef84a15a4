/* dbmate's file format: "-- migrate:up" and "-- migrate:down" on lines of their own, options behind
 * them. Everything up to the next marker belongs to the part. */
#include "weir/app/migrate.h"

static struct str first_word(struct str *rest)
{
	struct str word;

	*rest = str_trim(*rest);
	word = str_split(rest, ' ');
	*rest = str_trim(*rest);
	return word;
}

/* What stands behind "-- migrate:"; false when the line is another. */
static bool is_marker(struct str line, struct str *ret_rest)
{
	struct str prefix = STR("migrate:");

	if (!str_starts(line, STR("--")))
		return false;
	line = str_trim(str_n(line.ptr + 2, line.len - 2));
	if (!str_starts(line, prefix))
		return false;
	*ret_rest = str_n(line.ptr + prefix.len, line.len - prefix.len);
	return true;
}

static enum err open_part(struct migrate_file *f, struct str marker, size_t line,
                          struct migrate_part **ret, struct err_info *info)
{
	struct str rest = marker, word = first_word(&rest);
	struct migrate_part *p;

	if (str_eq(word, STR("up")))
		p = &f->up;
	else if (str_eq(word, STR("down")))
		p = &f->down;
	else
		return err_set(info, ERR_INVAL, "line %zu: neither migrate:up nor migrate:down",
		               line);
	if (p->present)
		return err_set(info, ERR_INVAL, "line %zu: a second migrate:%.*s", line,
		               (int)word.len, word.ptr);
	if (p == &f->down && !f->up.present)
		return err_set(info, ERR_INVAL, "line %zu: migrate:down before migrate:up", line);
	*p = (struct migrate_part){.line = line + 1, .transaction = true, .present = true};
	while (rest.len) {
		word = first_word(&rest);
		if (str_eq(word, STR("transaction:false")))
			p->transaction = false;
		else if (!str_eq(word, STR("transaction:true")))
			return err_set(info, ERR_INVAL, "line %zu: unknown option %.*s", line,
			               (int)word.len, word.ptr);
	}
	*ret = p;
	return ERR_OK;
}

enum err migrate_parse(const char *text, struct migrate_file *ret, struct err_info *info)
{
	struct migrate_file f = {0};
	struct migrate_part *part = NULL;
	struct str rest = str_of(text);
	enum err err;

	for (size_t n = 1; rest.ptr; n++) {
		struct str raw = str_split(&rest, '\n'), line = raw, marker;

		if (line.len && line.ptr[line.len - 1] == '\r')
			line.len--;
		line = str_trim(line);
		if (is_marker(line, &marker)) {
			err = open_part(&f, marker, n, &part, info);
			if (err != ERR_OK)
				return err;
			part->sql.ptr = rest.ptr ? rest.ptr : raw.ptr + raw.len;
		} else if (part) {
			part->sql.len = (size_t)(raw.ptr + raw.len - part->sql.ptr);
		} else if (line.len && !str_starts(line, STR("--"))) {
			return err_set(info, ERR_INVAL, "line %zu: SQL before migrate:up", n);
		}
	}
	if (!f.up.present)
		return err_set(info, ERR_INVAL, "there is no line -- migrate:up");
	*ret = f;
	return ERR_OK;
}
