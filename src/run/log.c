/* A line is built in one static buffer and given to the descriptor in pieces that it takes without
 * blocking: a reader that stopped reading our log must never stop the events. What is not taken is
 * dropped and counted.
 *
 * Text in fields comes from senders, servers and files. It can neither break out of its line nor
 * steer a terminal: both formats write it with JSON's escapes, and everything that is not plain
 * text (control characters of both sets, bidirectional overrides, bytes that are no UTF-8) as \u.
 * A line that would not fit is cut inside a value and still closed properly.
 */
#include "weir/run/log.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	LINE_SIZE = 8192,
	/* Behind the last value: an ellipsis, closing marks and the line's end. */
	LINE_TAIL = 16,
	LINE_ROOM = LINE_SIZE - LINE_TAIL,
	LINES_PER_SECOND = 10, /* of one call site */
};

enum fd_kind { FD_UNKNOWN, FD_FILE, FD_SOCKET, FD_POLLED };

struct line {
	char text[LINE_SIZE];
	size_t len;
	bool json;
	bool cut; /* no room for more values */
};

#define COMPONENT_NAME(code, name) name,
static const char *const component_names[] = {LOG_COMPONENTS(COMPONENT_NAME)};
static const char *const level_names[] = {"debug", "info", "warn", "error"};
/* sd-daemon(3): DEBUG, INFO, WARNING, ERR */
static const char level_priority[] = {'7', '6', '4', '3'};
#define LEVEL_COUNT (sizeof(level_names) / sizeof(level_names[0]))

static struct {
	enum log_level levels[LOG_COMPONENT_COUNT];
	bool levels_set;
	enum log_format format;
	int fd;
	enum fd_kind kind;
	bool journal; /* the descriptor is systemd's: lines bear their priority */
	bool torn;    /* the last line went out in part: end it first */
	uint64_t dropped;
	struct str correlation;
	struct line line;
} lg = {.fd = 2};

/* --- levels --- */

static bool find_name(struct str s, const char *const *names, size_t count, size_t *ret)
{
	for (size_t i = 0; i < count; i++)
		if (str_ieq(s, str_of(names[i]))) {
			*ret = i;
			return true;
		}
	return false;
}

static enum err bad_part(struct err_info *info, struct str part, const char *why,
                         const char *const *names, size_t count)
{
	char allowed[200];
	size_t len = 0;

	for (size_t i = 0; i < count && len < sizeof(allowed); i++)
		len += (size_t)snprintf(allowed + len, sizeof(allowed) - len, "%s%s", i ? ", " : "",
		                        names[i]);
	return err_set(info, ERR_INVAL, "\"%.*s\": %s; allowed: %s",
	               (int)(part.len < 40 ? part.len : 40), part.len ? part.ptr : "", why,
	               allowed);
}

static enum err parse_level(struct str s, enum log_level *ret, struct err_info *info)
{
	size_t i;

	if (!find_name(s, level_names, LEVEL_COUNT, &i))
		return bad_part(info, s, "no such level", level_names, LEVEL_COUNT);
	*ret = (enum log_level)i;
	return ERR_OK;
}

/* "pg:debug" */
static enum err parse_component(struct str part, enum log_level *levels, struct err_info *info)
{
	struct str level = part;
	struct str name = str_trim(str_split(&level, ':'));
	size_t i;

	if (!find_name(name, component_names, LOG_COMPONENT_COUNT, &i))
		return bad_part(info, name, "no such component", component_names,
		                LOG_COMPONENT_COUNT);
	return parse_level(str_trim(level), &levels[i], info);
}

static enum err parse_levels(const char *spec, enum log_level *levels, struct err_info *info)
{
	enum log_level base = LOG_LEVEL_INFO;
	bool given = false;
	struct str rest, part;

	/* The bare level first, wherever it stands: it is the ground for the others. */
	for (rest = str_of(spec); rest.ptr;) {
		enum err e;

		part = str_trim(str_split(&rest, ','));
		if (part.len > 0 && memchr(part.ptr, ':', part.len))
			continue;
		if (given)
			return bad_part(info, part, "a second level without a component",
			                component_names, LOG_COMPONENT_COUNT);
		given = true;
		e = parse_level(part, &base, info);
		if (e != ERR_OK)
			return e;
	}
	for (size_t i = 0; i < LOG_COMPONENT_COUNT; i++)
		levels[i] = base;
	for (rest = str_of(spec); rest.ptr;) {
		enum err e = ERR_OK;

		part = str_trim(str_split(&rest, ','));
		if (part.len > 0 && memchr(part.ptr, ':', part.len))
			e = parse_component(part, levels, info);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

enum err log_check_levels(const char *spec, struct err_info *info)
{
	enum log_level levels[LOG_COMPONENT_COUNT];

	return parse_levels(spec, levels, info);
}

enum err log_set_levels(const char *spec, struct err_info *info)
{
	enum log_level levels[LOG_COMPONENT_COUNT];
	enum err e = parse_levels(spec, levels, info);

	if (e != ERR_OK)
		return e;
	memcpy(lg.levels, levels, sizeof(levels));
	lg.levels_set = true;
	return ERR_OK;
}

bool log_enabled(enum log_component c, enum log_level level)
{
	return level >= (lg.levels_set ? lg.levels[c] : LOG_LEVEL_INFO);
}

void log_set_format(enum log_format f)
{
	lg.format = f;
}

void log_set_correlation(struct str request_id)
{
	lg.correlation = request_id;
}

uint64_t log_dropped(void)
{
	return lg.dropped;
}

/* --- building a line --- */

static void put(struct line *l, const char *p, size_t len)
{
	if (len > LINE_SIZE - l->len)
		len = LINE_SIZE - l->len;
	memcpy(l->text + l->len, p, len);
	l->len += len;
}

static void put_cstr(struct line *l, const char *s)
{
	put(l, s, strlen(s));
}

/* Puts all of it or, where the room for values ends, an ellipsis and nothing ever after. */
static bool put_value(struct line *l, const char *p, size_t len)
{
	if (l->cut)
		return false;
	if (l->len + len > LINE_ROOM) {
		l->cut = true;
		put_cstr(l, "…");
		return false;
	}
	put(l, p, len);
	return true;
}

/* Length of the UTF-8 character at the start of `s`, 0 if there is none. */
static size_t utf8_len(struct str s)
{
	unsigned char c = (unsigned char)s.ptr[0];
	size_t len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

	return len <= s.len && str_is_utf8(str_n(s.ptr, len)) ? len : 0;
}

static unsigned utf8_code(const char *p, size_t len)
{
	static const unsigned char first_mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	unsigned code = (unsigned char)p[0] & first_mask[len];

	for (size_t i = 1; i < len; i++)
		code = code << 6 | ((unsigned char)p[i] & 0x3f);
	return code;
}

/* What could move a terminal's cursor, end a line for some reader, or reorder what a person sees.
 */
static bool is_unsafe(unsigned code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200b && code <= 0x200f) ||
	       (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) ||
	       code == 0xfeff;
}

/* One character, escaped if need be; returns how many bytes of `s` it was. */
static size_t put_character(struct line *l, struct str s)
{
	size_t len = utf8_len(s);
	unsigned code = len ? utf8_code(s.ptr, len) : (unsigned char)s.ptr[0];
	char out[8];

	if (code == '"' || code == '\\')
		put_value(l, (const char[]){'\\', (char)code}, 2);
	else if (code == '\n')
		put_value(l, "\\n", 2);
	else if (code == '\t')
		put_value(l, "\\t", 2);
	else if (len == 0 || is_unsafe(code))
		put_value(l, out, (size_t)snprintf(out, sizeof(out), "\\u%04x", code & 0xffff));
	else
		put_value(l, s.ptr, len);
	return len ? len : 1;
}

static bool is_plain(unsigned char c)
{
	return c > ' ' && c < 0x7f && c != '"' && c != '\\';
}

/* The text between the quotes. Runs of plain characters are put at once. */
static void put_escaped(struct line *l, struct str s)
{
	size_t i = 0;

	while (i < s.len && !l->cut) {
		size_t room = l->len < LINE_ROOM ? LINE_ROOM - l->len : 0;
		size_t run = 0;

		while (i + run < s.len && run < room &&
		       (is_plain((unsigned char)s.ptr[i + run]) || s.ptr[i + run] == ' '))
			run++;
		if (run > 0)
			put_value(l, s.ptr + i, run);
		else
			run = put_character(l, str_n(s.ptr + i, s.len - i));
		i += run;
	}
}

static void put_quoted(struct line *l, struct str s)
{
	put_cstr(l, "\"");
	put_escaped(l, s);
	put_cstr(l, "\"");
}

static bool needs_quotes(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_plain((unsigned char)s.ptr[i]) || s.ptr[i] == '=')
			return true;
	/* Only quoted text is cut where the room ends. */
	return s.len == 0 || s.len > 256;
}

/* False when there is no room for a further pair. */
static bool put_key(struct line *l, const char *key)
{
	size_t len = strlen(key);

	/* Room for the key, its marks and some of the value. */
	if (l->cut || l->len + len + 40 > LINE_ROOM) {
		l->cut = true;
		return false;
	}
	put_cstr(l, l->json ? ",\"" : " ");
	put(l, key, len);
	put_cstr(l, l->json ? "\":" : "=");
	return true;
}

static void put_str(struct line *l, const char *key, struct str s)
{
	if (!put_key(l, key))
		return;
	if (l->json || needs_quotes(s))
		put_quoted(l, s);
	else
		put_value(l, s.ptr, s.len);
}

static void put_raw(struct line *l, const char *key, const char *value)
{
	if (put_key(l, key))
		put_cstr(l, value);
}

static void put_number(struct line *l, const char *key, double v)
{
	char text[32];

	if (!isfinite(v)) {
		put_raw(l, key, l->json ? "null" : isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
		return;
	}
	snprintf(text, sizeof(text), "%.15g", v);
	put_raw(l, key, text);
}

static void put_integer(struct line *l, const char *key, int64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, v);
	put_raw(l, key, text);
}

static void put_field(struct line *l, const struct log_field *f)
{
	switch (f->kind) {
	case LOG_KIND_STR:
		put_str(l, f->key, f->str);
		break;
	case LOG_KIND_INT:
		put_integer(l, f->key, f->integer);
		break;
	case LOG_KIND_NUM:
		put_number(l, f->key, f->number);
		break;
	case LOG_KIND_BOOL:
		put_raw(l, f->key, f->integer ? "true" : "false");
		break;
	case LOG_END:
		break;
	}
}

static void begin_line(struct line *l, enum log_level level)
{
	char ts[CLOCK_RFC3339_LEN];

	l->len = 0;
	l->cut = false;
	l->json = lg.format == LOG_FORMAT_JSON;
	if (lg.torn)
		put(l, "\n", 1);
	if (lg.journal)
		put(l, (const char[]){'<', level_priority[level], '>'}, 3);
	clock_rfc3339(clock_wall(), ts);
	put_cstr(l, l->json ? "{\"ts\":\"" : "ts=");
	put_cstr(l, ts);
	if (l->json)
		put_cstr(l, "\"");
}

static void end_line(struct line *l)
{
	put_cstr(l, l->json ? "}\n" : "\n");
}

/* --- writing --- */

static bool is_journal(const struct stat *st)
{
	const char *s = getenv("JOURNAL_STREAM");
	char here[64];

	if (!s)
		return false;
	snprintf(here, sizeof(here), "%ju:%ju", (uintmax_t)st->st_dev, (uintmax_t)st->st_ino);
	return strcmp(s, here) == 0;
}

static void look_at_fd(void)
{
	struct stat st;

	lg.kind = FD_POLLED;
	lg.journal = false;
	if (fstat(lg.fd, &st) != 0)
		return;
	lg.kind = S_ISREG(st.st_mode) ? FD_FILE : S_ISSOCK(st.st_mode) ? FD_SOCKET : FD_POLLED;
	lg.journal = is_journal(&st);
}

void log_set_fd(int fd)
{
	lg.fd = fd;
	lg.torn = false;
	look_at_fd();
}

/* Pipes and terminals may be shared with processes that want them blocking, so O_NONBLOCK is not
 * ours to set: poll() says whether PIPE_BUF bytes go in. */
static ssize_t write_some(const char *p, size_t len)
{
	struct pollfd pfd = {.fd = lg.fd, .events = POLLOUT};

	if (lg.kind == FD_SOCKET)
		return send(lg.fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (lg.kind == FD_FILE)
		return write(lg.fd, p, len);
	if (poll(&pfd, 1, 0) != 1 || !(pfd.revents & POLLOUT)) {
		errno = EAGAIN;
		return -1;
	}
	return write(lg.fd, p, len < PIPE_BUF ? len : PIPE_BUF);
}

static void write_line(const struct line *l)
{
	size_t done = 0;

	while (done < l->len) {
		ssize_t n = write_some(l->text + done, l->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (done < l->len)
		lg.dropped++;
	if (done > 0)
		lg.torn = done < l->len;
}

/* --- the call --- */

/* Counts the line in its site's window; false when it must not be written. */
static bool may_pass(struct log_site *site)
{
	usec_t now = clock_mono();

	if (site->in_window == 0 || now < site->window || now - site->window >= USEC_PER_SEC) {
		site->window = now;
		site->in_window = 0;
	}
	if (site->in_window >= LINES_PER_SECOND) {
		site->suppressed++;
		return false;
	}
	site->in_window++;
	return true;
}

void log_write(struct log_site *site, const char *message, const struct log_field *fields)
{
	struct line *l = &lg.line;

	if (!may_pass(site))
		return;
	if (lg.kind == FD_UNKNOWN)
		look_at_fd();
	begin_line(l, site->level);
	put_str(l, "level", str_of(level_names[site->level]));
	put_str(l, "component", str_of(component_names[site->component]));
	if (put_key(l, "msg"))
		put_quoted(l, str_of(message));
	if (lg.correlation.len > 0)
		put_str(l, "request_id", lg.correlation);
	if (site->suppressed > 0)
		put_integer(l, "suppressed", site->suppressed);
	for (const struct log_field *f = fields; f && f->kind != LOG_END; f++)
		put_field(l, f);
	site->suppressed = 0;
	end_line(l);
	write_line(l);
}
