/* Where settings come from: the table's defaults, then a file, then the environment. Everything is
 * parsed into a fresh struct conf, so that a bad file never leaves half of itself behind.
 *
 * An empty value counts as not given, in the file as in the environment: container tools write
 * NAME= for what nobody set.
 */
#include "conf_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "weir/base/mem.h"

enum { FILE_MAX_BYTES = 1024 * 1024, LINE_MAX_BYTES = 8192, NAME_SHOWN = 60 };

/* A file being read. `seen` holds for each row the line that gave it, 0 for none. */
struct reader {
	const char *name;
	size_t line;
	size_t *seen;
	struct conf *conf;
	struct err_info *info;
	struct err_sink *sink; /* NULL: the first fault ends the reading */
};

static enum err line_error(const struct reader *r, enum err e, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

static enum err line_error(const struct reader *r, enum err e, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(r->info, e, "%s:%zu: %s", r->name, r->line, text);
}

static enum err unknown_name(const struct reader *r, struct str name)
{
	const char *meant = conf_row_nearest(name);
	char shown[NAME_SHOWN + 1];
	size_t len = name.len < NAME_SHOWN ? name.len : NAME_SHOWN;

	for (size_t i = 0; i < len; i++)
		shown[i] = name.ptr[i] >= 0x20 && name.ptr[i] < 0x7f ? name.ptr[i] : '?';
	shown[len] = '\0';
	if (meant)
		return line_error(r, ERR_INVAL, "unknown setting \"%s\"; did you mean %s?", shown,
		                  meant);
	return line_error(r, ERR_INVAL, "unknown setting \"%s\"; see weir config --print-default",
	                  shown);
}

/* Takes the quotes off. What stands between them is taken as it is; a value that starts with a
 * quote must end with the same. */
static enum err unquote(const struct reader *r, struct str *v)
{
	if (v->len == 0 || (v->ptr[0] != '"' && v->ptr[0] != '\''))
		return ERR_OK;
	if (v->len < 2 || v->ptr[v->len - 1] != v->ptr[0])
		return line_error(r, ERR_INVAL, "the quote is not closed");
	v->ptr++;
	v->len -= 2;
	return ERR_OK;
}

static enum err read_line(struct reader *r, struct str line)
{
	const struct conf_row *row;
	struct str name, value = line;
	struct err_info why = {0};
	enum err e;

	if (line.len == 0 || line.ptr[0] == '#')
		return ERR_OK;
	name = str_trim(str_split(&value, '='));
	if (!value.ptr)
		return line_error(r, ERR_INVAL, "not a NAME=value line");
	row = conf_row_find(name);
	if (!row)
		return unknown_name(r, name);
	if (r->seen[row - conf_rows])
		return line_error(r, ERR_INVAL, "%s was given in line %zu already", row->name,
		                  r->seen[row - conf_rows]);
	r->seen[row - conf_rows] = r->line;
	value = str_trim(value);
	e = unquote(r, &value);
	if (e != ERR_OK || value.len == 0)
		return e;
	e = conf_value_set(r->conf, row, value, &why);
	return e == ERR_OK ? ERR_OK : line_error(r, e, "%s", why.text);
}

static enum err read_raw_line(struct reader *r, struct str line)
{
	if (line.len > LINE_MAX_BYTES)
		return line_error(r, ERR_TOOBIG, "a line has at most %d bytes", LINE_MAX_BYTES);
	if (line.len > 0 && memchr(line.ptr, '\0', line.len))
		return line_error(r, ERR_INVAL, "a NUL byte");
	if (line.len > 0 && line.ptr[line.len - 1] == '\r')
		line.len--;
	return read_line(r, str_trim(line));
}

static enum err read_text(struct reader *r, struct str text)
{
	if (str_starts(text, STR("\xef\xbb\xbf"))) {
		text.ptr += 3;
		text.len -= 3;
	}
	while (text.ptr) {
		struct str line = str_split(&text, '\n');
		enum err e;

		r->line++;
		e = err_sink_take(r->sink, read_raw_line(r, line), r->info);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

/* --- environment --- */

static struct str env_value(char *const *environ_block, const char *name)
{
	size_t len = strlen(name);

	for (; environ_block && *environ_block; environ_block++)
		if (strncmp(*environ_block, name, len) == 0 && (*environ_block)[len] == '=')
			return str_of(*environ_block + len + 1);
	return STR_NONE;
}

static enum err read_variable(const struct conf_row *row, char *const *environ_block,
                              struct conf *c, struct err_info *info)
{
	struct str v = env_value(environ_block, row->name);
	struct str other = row->alias ? env_value(environ_block, row->alias) : STR_NONE;

	if (v.len > 0 && other.len > 0 && !str_eq(v, other))
		return err_set(info, ERR_INVAL, "%s and %s are two names of one setting and differ",
		               row->name, row->alias);
	if (v.len == 0)
		v = other;
	return v.len == 0 ? ERR_OK : conf_value_set(c, row, v, info);
}

static enum err read_environ(struct reader *r, char *const *environ_block)
{
	enum err e = ERR_OK;

	for (size_t i = 0; i < conf_row_count && e == ERR_OK; i++)
		e = err_sink_take(r->sink,
		                  read_variable(&conf_rows[i], environ_block, r->conf, r->info),
		                  r->info);
	return e;
}

/* --- the whole --- */

static enum err check_shutdown(const struct conf *c, struct err_info *info)
{
	if (c->shutdown_delay < c->shutdown_grace)
		return ERR_OK;
	return err_set(
	    info, ERR_INVAL, "SHUTDOWN_DELAY (%.3f s) must be less than SHUTDOWN_GRACE (%.3f s)",
	    (double)c->shutdown_delay / USEC_PER_SEC, (double)c->shutdown_grace / USEC_PER_SEC);
}

static enum err check_memory(const struct conf *c, struct err_info *info)
{
	if (c->max_body_size < c->max_memory)
		return ERR_OK;
	return err_set(info, ERR_INVAL,
	               "MAX_BODY_SIZE (%llu bytes) must be less than MAX_MEMORY (%llu bytes)",
	               (unsigned long long)c->max_body_size, (unsigned long long)c->max_memory);
}

/* A group made anew reads kept entries again: then their keys must still be known. */
static enum err check_keep(const struct conf *c, struct err_info *info)
{
	if (c->queue_keep < c->dedup_days * 24 * 3600 * USEC_PER_SEC)
		return ERR_OK;
	return err_set(info, ERR_INVAL, "QUEUE_KEEP (%.0f s) must be less than DEDUP_DAYS (%lld)",
	               (double)c->queue_keep / USEC_PER_SEC, (long long)c->dedup_days);
}

static enum err check_health_server(const struct conf *c, struct err_info *info)
{
	if (!c->health_server_host[0] || c->health_server_port != 0)
		return ERR_OK;
	return err_set(info, ERR_INVAL,
	               "HEALTH_SERVER_HOST=%.60s: needs HEALTH_SERVER_PORT as well",
	               c->health_server_host);
}

/* Settings that are fine each, but not with each other. */
static enum err check_together(const struct conf *c, struct err_sink *sink, struct err_info *info)
{
	static enum err (*const checks[])(const struct conf *c, struct err_info *info) = {
	    check_shutdown, check_memory, check_keep, check_health_server};
	enum err e = ERR_OK;

	for (size_t i = 0; i < sizeof(checks) / sizeof(*checks) && e == ERR_OK; i++)
		e = err_sink_take(sink, checks[i](c, info), info);
	return e;
}

static enum err set_defaults(struct conf *c, struct err_info *info)
{
	enum err e = ERR_OK;

	for (size_t i = 0; i < conf_row_count && e == ERR_OK; i++)
		e = conf_value_set(c, &conf_rows[i], str_of(conf_rows[i].def), info);
	return e;
}

static enum err load_text(const char *name, struct str text, char *const *environ_block,
                          struct err_sink *sink, struct conf **ret, struct err_info *info)
{
	struct reader r = {.name = name, .info = info, .sink = sink};
	enum err e = ERR_NOMEM;

	r.conf = mem_zalloc(sizeof(*r.conf));
	r.seen = mem_array(conf_row_count, sizeof(*r.seen));
	if (!r.conf || !r.seen) {
		(void)err_set(info, ERR_NOMEM, "out of memory");
		goto out;
	}
	e = set_defaults(r.conf, info);
	if (e == ERR_OK)
		e = read_text(&r, text);
	if (e == ERR_OK)
		e = read_environ(&r, environ_block);
	if (e == ERR_OK)
		e = check_together(r.conf, sink, info);
out:
	mem_free(r.seen);
	if (e == ERR_OK)
		*ret = r.conf;
	else
		conf_free(r.conf);
	return e;
}

enum err conf_load_text(const char *name, struct str text, char *const *environ_block,
                        struct conf **ret, struct err_info *info)
{
	return load_text(name, text, environ_block, NULL, ret, info);
}

static enum err read_all(const char *file, int fd, struct buf *out, struct err_info *info)
{
	for (;;) {
		ssize_t n;

		if (buf_reserve(out, 4096) != ERR_OK)
			return err_set(info, out->err, "%s: %s", file,
			               out->err == ERR_TOOBIG ? "larger than 1MiB"
			                                      : "out of memory");
		n = read(fd, out->ptr + out->len, 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(info, ERR_IO, "%s: %s", file, strerror(errno));
		if (n == 0)
			return ERR_OK;
		out->len += (size_t)n;
	}
}

enum err conf_load_all(const char *file, char *const *environ_block, struct err_sink *sink,
                       struct conf **ret, struct err_info *info)
{
	struct buf text;
	enum err e;
	int fd;

	if (!file)
		return load_text("", STR_NONE, environ_block, sink, ret, info);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(info, errno == ENOENT ? ERR_NOTFOUND : ERR_IO, "%s: %s", file,
		               strerror(errno));
	buf_init(&text, FILE_MAX_BYTES);
	e = read_all(file, fd, &text, info);
	close(fd);
	if (e == ERR_OK)
		e = load_text(file, buf_str(&text), environ_block, sink, ret, info);
	if (text.ptr)
		explicit_bzero(text.ptr, text.len);
	buf_done(&text);
	return e;
}

enum err conf_load(const char *file, char *const *environ_block, struct conf **ret,
                   struct err_info *info)
{
	return conf_load_all(file, environ_block, NULL, ret, info);
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < conf_row_count; i++)
		if (conf_value_is_text(&conf_rows[i]))
			conf_text_free(*conf_value_text(c, &conf_rows[i]));
	mem_free(c);
}

/* --- reload --- */

static enum err name_not_applied(const struct conf *c, const struct conf *fresh, struct buf *out)
{
	for (size_t i = 0; i < conf_row_count; i++) {
		const struct conf_row *row = &conf_rows[i];

		if (!(row->flags & CONF_RELOAD) && !conf_value_equal(c, fresh, row))
			(void)buf_addf(out, "%s%s", out->len ? ", " : "", row->name);
	}
	return out->err;
}

/* Through text, like every other way into a member. */
static enum err copy_value(struct conf *to, const struct conf *from, const struct conf_row *row)
{
	struct buf text;
	enum err e;

	buf_init(&text, LINE_MAX_BYTES);
	conf_value_print(from, row, false, &text);
	e = text.err;
	if (e == ERR_OK)
		e = conf_value_set(to, row, buf_str(&text), NULL);
	if (text.ptr)
		explicit_bzero(text.ptr, text.len);
	buf_done(&text);
	return e;
}

/* All or nothing: what is to come is built aside, and then the members are exchanged. */
enum err conf_apply_reload(struct conf *c, const struct conf *fresh, struct buf *not_applied)
{
	struct conf *next = mem_zalloc(sizeof(*next));
	struct conf old;
	enum err e = ERR_OK;

	if (!next)
		return ERR_NOMEM;
	for (size_t i = 0; i < conf_row_count && e == ERR_OK; i++) {
		bool reload = conf_rows[i].flags & CONF_RELOAD;

		e = copy_value(next, reload ? fresh : c, &conf_rows[i]);
	}
	if (e == ERR_OK)
		e = check_together(next, NULL, NULL);
	if (e == ERR_OK)
		e = name_not_applied(c, fresh, not_applied);
	if (e == ERR_OK) {
		old = *c;
		*c = *next;
		*next = old;
	}
	conf_free(next);
	return e;
}
