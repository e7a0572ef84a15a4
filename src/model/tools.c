/* The tools file: syntax by jansson, meaning by tool.c, and the set with its index. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "weir/base/map.h"
#include "weir/base/mem.h"
#include "weir/model/provider.h"
#include "weir/run/log.h"

#include "tool_priv.h"

struct tools {
	uint32_t refs;
	struct tool **list; /* owned */
	size_t n, space;
	struct map *by_id; /* borrowed values */
};

enum err tools_new(size_t space, struct tools **ret)
{
	struct tools *t = mem_zalloc(sizeof(*t));

	if (!t)
		return ERR_NOMEM;
	t->refs = 1;
	t->space = space;
	t->list = mem_array(space ? space : 1, sizeof(*t->list));
	if (!t->list || map_new(&t->by_id) != ERR_OK) {
		mem_free(t->list);
		mem_free(t);
		return ERR_NOMEM;
	}
	*ret = t;
	return ERR_OK;
}

enum err tools_add(struct tools *s, struct tool *t)
{
	enum err e = s->n < s->space ? map_add(s->by_id, t->id, t) : ERR_BUG;

	if (e == ERR_OK)
		s->list[s->n++] = tool_ref(t);
	return e;
}

/* The caller's reference becomes the set's, also when it is refused. */
static enum err set_add(struct tools *s, struct tool *t)
{
	enum err e = tools_add(s, t);

	tool_unref(t);
	return e;
}

struct tools *tools_ref(struct tools *t)
{
	t->refs++;
	return t;
}

void tools_unref(struct tools *t)
{
	if (!t || --t->refs)
		return;
	map_free(t->by_id, NULL);
	for (size_t i = 0; i < t->n; i++)
		tool_unref(t->list[i]);
	mem_free(t->list);
	mem_free(t);
}

size_t tools_count(const struct tools *t)
{
	return t->n;
}

struct tool *tools_at(const struct tools *t, size_t i)
{
	return t->list[i];
}

const struct tool *tools_find(const struct tools *t, struct str id)
{
	return map_get(t->by_id, id);
}

struct tool *tools_hold_reporting(const struct tools *t, struct str id)
{
	struct tool *found = map_get(t->by_id, id);

	return found && found->recipient ? tool_ref(found) : NULL;
}

/* ---- the file's text ---- */

static bool is_id(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		bool plain = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9');

		if (!plain && (i == 0 || !s[i] || !strchr("._-", s[i])))
			return false;
	}
	return len >= 1 && len <= TOOL_ID_MAX;
}

bool tool_id_is_valid(struct str id)
{
	return is_id(id.ptr, id.len) && !str_eq(id, STR("weir"));
}

static enum err bad_id(struct loader *l, size_t i, const char *fmt, const char *id)
{
	size_t line = tool_line(l, "id");
	char text[200], where[24] = "";

	if (line)
		snprintf(where, sizeof(where), ":%zu", line);
	snprintf(text, sizeof(text), "%s%.80s%s", id ? "id \"" : "", id ? id : "", id ? "\" " : "");
	return err_set(l->info, ERR_INVAL, "%s%s: tools[%zu]: %s%s", l->label, where, i, text, fmt);
}

static enum err get_id(struct loader *l, const json_t *o, size_t i)
{
	const json_t *v = json_object_get(o, "id");
	const char *id = json_string_value(v);

	if (!json_is_object(o))
		return bad_id(l, i, "must be an object", NULL);
	if (!id)
		return bad_id(l, i, "id is needed, a string", NULL);
	if (!is_id(id, json_string_length(v)))
		return bad_id(l, i, "must match [a-z0-9][a-z0-9._-]{0,63}", id);
	if (strcmp(id, "weir") == 0)
		return bad_id(l, i, "the id \"weir\" is reserved", NULL);
	snprintf(l->id, sizeof(l->id), "%s", id);
	return ERR_OK;
}

/* What a tool without a good id is called when its other faults are told. */
static void name_badly(struct loader *l, const json_t *o, size_t i)
{
	const char *id = json_string_value(json_object_get(o, "id"));

	if (!id || !*id)
		snprintf(l->id, sizeof(l->id), "tools[%zu]", i);
	else
		snprintf(l->id, sizeof(l->id), "%.*s", TOOL_ID_MAX, id);
	for (char *p = l->id; *p; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p > '~')
			*p = '?';
}

static enum err add_tool(struct loader *l, struct tools *set, const json_t *o, size_t i)
{
	struct tool *t;
	enum err e;

	l->index = i;
	l->faults = 0;
	e = get_id(l, o, i);
	if (e == ERR_INVAL && l->sink && json_is_object(o)) {
		name_badly(l, o, i);
		e = tool_take(l, e); /* the rest of it is looked at all the same */
	} else if (e == ERR_OK && map_get(set->by_id, str_of(l->id))) {
		e = tool_take(l, tool_bad(l, "id", "is there twice"));
	}
	if (e == ERR_OK)
		e = tool_compile(l, o, &t);
	return e == ERR_OK ? set_add(set, t) : e;
}

/* Source lists and jobs have their place in the file, but nothing runs them in this version. */
static enum err check_list(struct loader *l, const json_t *root, const char *name, bool supported)
{
	const json_t *v = json_object_get(root, name);

	if (v && !json_is_array(v))
		return err_set(l->info, ERR_INVAL, "%s: %s: must be a list", l->label, name);
	if (!supported && json_array_size(v) > 0)
		return err_set(
		    l->info, ERR_INVAL,
		    "%s: %s: this version does not support them yet; the list must be empty",
		    l->label, name);
	if (json_array_size(v) > TOOL_MAX_COUNT)
		return err_set(l->info, ERR_INVAL, "%s: %s: more than %d", l->label, name,
		               TOOL_MAX_COUNT);
	return ERR_OK;
}

static enum err check_root(struct loader *l, const json_t *root)
{
	static const struct {
		const char *name;
		bool supported;
	} lists[] = {{"tools", true}, {"sources", false}, {"jobs", false}};
	enum err e = ERR_OK;
	const char *name;
	json_t *v;

	if (!json_is_object(root))
		return err_set(l->info, ERR_INVAL,
		               "%s: must hold one object, {\"tools\": […], \"sources\": […], "
		               "\"jobs\": […]}",
		               l->label);
	json_object_foreach((json_t *)(uintptr_t)root, name, v)
	{
		if (strcmp(name, "tools") != 0 && strcmp(name, "sources") != 0 &&
		    strcmp(name, "jobs") != 0)
			return err_set(
			    l->info, ERR_INVAL,
			    "%s: no such member: \"%.80s\"; allowed are tools, sources, jobs",
			    l->label, name);
	}
	for (size_t i = 0; i < 3 && e == ERR_OK; i++)
		e = check_list(l, root, lists[i].name, lists[i].supported);
	return e;
}

static enum err build_set(struct loader *l, const json_t *root, struct tools **ret)
{
	const json_t *list = json_object_get(root, "tools"), *o;
	struct tools *set;
	enum err e = check_root(l, root);
	size_t i;

	if (e == ERR_OK)
		e = tools_new(json_array_size(list), &set);
	l->place_space = json_array_size(list);
	if (e != ERR_OK)
		return e;
	json_array_foreach(list, i, o)
	{
		e = add_tool(l, set, o, i);
		/* Those that tool_take() took were told. */
		if (e == ERR_INVAL && l->faults)
			e = ERR_OK;
		e = err_sink_take(l->sink, e, l->info);
		if (e != ERR_OK) {
			tools_unref(set);
			return e;
		}
	}
	*ret = set;
	return ERR_OK;
}

static enum err parse(struct str text, const char *label, struct err_sink *sink, struct tools **ret,
                      struct err_info *info)
{
	struct loader l = {.label = label, .info = info, .sink = sink, .text = text};
	json_error_t where;
	json_t *root = json_loadb(text.len ? text.ptr : "", text.len,
	                          JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
	enum err e;

	if (!root)
		return err_set(info, ERR_INVAL, "%s:%d:%d: %s", label, where.line, where.column,
		               where.text);
	e = build_set(&l, root, ret);
	tool_places_free(&l);
	json_decref(root);
	return e;
}

/* jansson's lexer drops characters when it cannot grow its buffer, and goes on. So what was parsed
 * while an allocation failed is not what was written, whether it was found good or bad. */
static bool ran_short(uint64_t failures_before)
{
	return mem_failures() != failures_before;
}

static enum err parse_safely(struct str text, const char *label, struct err_sink *sink,
                             struct tools **ret, struct err_info *info)
{
	uint64_t failures = mem_failures();
	struct tools *set = NULL;
	enum err e = parse(text, label, sink, &set, info);

	if (ran_short(failures)) {
		tools_unref(set);
		e = ERR_NOMEM;
	}
	if (e == ERR_NOMEM)
		return err_set(info, e, "%s: no memory", label);
	if (e == ERR_OK)
		*ret = set;
	return e;
}

enum err tools_parse(struct str text, const char *label, struct tools **ret, struct err_info *info)
{
	return parse_safely(text, label, NULL, ret, info);
}

static enum err parse_one(struct loader *l, struct str text, struct tool **ret)
{
	json_error_t where;
	json_t *o = json_loadb(text.len ? text.ptr : "", text.len,
	                       JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
	const json_t *id = json_object_get(o, "id");
	enum err e = ERR_OK;

	if (!o)
		return err_set(l->info, ERR_INVAL, "%s:%d:%d: %s", l->label, where.line,
		               where.column, where.text);
	if (!json_is_object(o))
		e = err_set(l->info, ERR_INVAL, "%s: must be an object", l->label);
	else if (id && (!json_is_string(id) || strcmp(json_string_value(id), l->id) != 0))
		e = tool_bad(l, "id", "must be the one of the path, or left out");
	if (e == ERR_OK)
		e = tool_compile(l, o, ret);
	json_decref(o);
	return e;
}

enum err tool_parse(struct str text, const char *label, struct str id, struct tool **ret,
                    struct err_info *info)
{
	struct loader l = {.label = label, .info = info, .no_literals = true};
	uint64_t failures = mem_failures();
	struct tool *t = NULL;
	enum err e;

	if (!tool_id_is_valid(id))
		return err_set(
		    info, ERR_INVAL,
		    "%s: id \"%.*s\" must match [a-z0-9][a-z0-9._-]{0,63}, and not be \"weir\"",
		    label, (int)(id.len < 80 ? id.len : 80), id.len ? id.ptr : "");
	snprintf(l.id, sizeof(l.id), "%.*s", (int)id.len, id.ptr);
	e = parse_one(&l, text, &t);
	if (ran_short(failures)) {
		if (e == ERR_OK)
			tool_unref(t);
		e = ERR_NOMEM;
	}
	if (e == ERR_NOMEM)
		return err_set(info, e, "%s: no memory", label);
	if (e == ERR_OK)
		*ret = t;
	return e;
}

/* ---- from a file, or from one secret ---- */

static enum err read_file(const char *path, struct buf *out, struct err_info *info)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	ssize_t n = 1;

	if (fd < 0)
		return err_set(info, ERR_INVAL, "TOOLS_FILE: cannot open %s: %s", path,
		               strerror(errno));
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > TOOLS_FILE_MAX) {
		close(fd);
		return err_set(info, ERR_INVAL,
		               "TOOLS_FILE: %s is no regular file of at most %d MiB", path,
		               TOOLS_FILE_MAX / 1024 / 1024);
	}
	while (n > 0 && buf_reserve(out, 65536) == ERR_OK) {
		n = read(fd, out->ptr + out->len, 65536);
		if (n > 0)
			out->len += (size_t)n;
		else if (n < 0 && errno == EINTR)
			n = 1;
	}
	if (n < 0)
		(void)err_set(info, ERR_IO, "TOOLS_FILE: cannot read %s: %s", path,
		              strerror(errno));
	close(fd);
	if (out->err)
		return err_set(info, out->err, "TOOLS_FILE: %s: %s", path, err_meaning(out->err));
	return n < 0 ? ERR_IO : ERR_OK;
}

static enum err load_file(const char *path, struct err_sink *sink, struct tools **ret,
                          struct err_info *info)
{
	struct buf text;
	enum err e;

	buf_init(&text, TOOLS_FILE_MAX + 65536);
	e = read_file(path, &text, info);
	if (e == ERR_OK)
		e = parse_safely(buf_str(&text), path, sink, ret, info);
	mem_wipe_free(text.ptr, text.space);
	return e;
}

/* One line of the log for all of them: it is told at each start. */
static void tell_unfit(const struct buf *names)
{
	if (names->len)
		log_info(
		    LOG_CONF,
		    "WEBHOOK_SECRET alone makes no tools of these presets, which need a secret "
		    "of another form, or more than one secret: write them into TOOLS_FILE",
		    LOG_SLICE("presets", buf_str(names)));
}

static enum err add_preset(struct loader *l, const char *secret, struct tools *set,
                           struct buf *unfit)
{
	uint64_t failures = mem_failures();
	struct tool *t;
	enum err e = tool_of_preset(l, l->id, secret, &t);

	if (e == ERR_OK)
		return set_add(set, t);
	if (ran_short(failures) || e != ERR_INVAL)
		return e == ERR_INVAL ? ERR_NOMEM : e;
	log_debug(LOG_CONF, "WEBHOOK_SECRET does not fit", LOG_STR("preset", l->id),
	          LOG_STR("why", l->info->text));
	return buf_addf(unfit, "%s%s", unfit->len ? "," : "", l->id);
}

static enum err load_presets(const char *secret, struct tools **ret, struct err_info *info)
{
	struct err_info why = {0};
	struct loader l = {.label = "WEBHOOK_SECRET", .info = &why};
	uint64_t failures = mem_failures();
	struct tools *set = NULL;
	struct buf unfit;
	enum err e = tools_new(provider_count(), &set);

	buf_init(&unfit, 16 * 1024);
	for (size_t i = 0; i < provider_count() && e == ERR_OK; i++) {
		snprintf(l.id, sizeof(l.id), "%s", provider_name(i));
		e = add_preset(&l, secret, set, &unfit);
	}
	if (ran_short(failures))
		e = ERR_NOMEM;
	if (e == ERR_OK)
		tell_unfit(&unfit);
	buf_done(&unfit);
	if (e != ERR_OK) {
		tools_unref(set);
		return err_set(info, e, "WEBHOOK_SECRET: %s", err_meaning(e));
	}
	*ret = set;
	return ERR_OK;
}

enum err tools_load(const char *path, const char *webhook_secret, struct tools **ret,
                    struct err_info *info)
{
	return tools_load_all(path, webhook_secret, NULL, ret, info);
}

enum err tools_load_all(const char *path, const char *webhook_secret, struct err_sink *sink,
                        struct tools **ret, struct err_info *info)
{
	enum err e;

	if (path && path[0])
		return load_file(path, sink, ret, info);
	if (webhook_secret && webhook_secret[0])
		return load_presets(webhook_secret, ret, info);
	e = tools_new(0, ret);
	return e == ERR_OK ? e : err_set(info, e, "no memory");
}
