/* The member `recipient` of a tool to struct recipient_map. Everything that could be wrong with a
 * mapping is found here; an event can only fail for what the event itself holds.
 *
 * All JSON paths of a mapping are picked in one scan of the document. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "weir/base/mem.h"

#include "recipient_priv.h"

#define MAX_OBJECT_TEXT ((size_t)64 * 1024) /* names and words of a mapping together */

struct map_compiler {
	struct recipient_map *m;
	const json_t *object;
	struct str paths[MAP_MAX_PATHS];
	size_t path_count;
	size_t text_len; /* in use of m->text */
	struct err_info *info;
	struct err_sink *sink; /* NULL: the first fault ends it */
};

static const char *const members[] = {
    "in", "message_id", "message_id_until", "address", "status", "detail", "words", "time", NULL};
static const char *const units[] = {"s", "ms", "iso"}; /* as in enum recipe_unit */

static enum err PRINTF_LIKE(3, 4)
    bad(struct map_compiler *c, const char *member, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(c->info, ERR_INVAL, "recipient.%s: %s", member, text);
}

static enum err take(struct map_compiler *c, enum err e)
{
	return err_sink_take(c->sink, e, c->info);
}

/* The map's copy. */
static enum err keep(struct map_compiler *c, struct str s, struct str *ret)
{
	if (s.len >= MAX_OBJECT_TEXT - c->text_len)
		return err_set(c->info, ERR_INVAL, "recipient: has more than %zu bytes of text",
		               MAX_OBJECT_TEXT);
	*ret = str_n(c->m->text + c->text_len, s.len);
	memcpy(c->m->text + c->text_len, s.ptr, s.len);
	c->text_len += s.len;
	return ERR_OK;
}

static struct str text_of(const json_t *v)
{
	return str_n(json_string_value(v), json_string_length(v));
}

/* ---- sources ---- */

static enum err compile_paths(struct map_compiler *c, const char *member, struct str path,
                              struct json_paths **ret)
{
	enum err e = json_paths_new(&path, 1, ret);

	return e == ERR_OK || e == ERR_NOMEM
	           ? e
	           : bad(c, member, "\"%.*s\" is no JSON path", (int)path.len, path.ptr);
}

/* "PATH", "PATH[]" or "PATH[].REST". */
static enum err add_path(struct map_compiler *c, const char *member, struct str path, bool many,
                         struct map_source *s)
{
	const char *mark = memmem(path.ptr, path.len, "[]", 2);
	struct json_paths *check;
	struct str rest = STR_NONE;
	enum err e;

	if (mark && !many)
		return bad(c, member, "\"%.*s\": only an address may be all of an array",
		           (int)path.len, path.ptr);
	if (mark) {
		rest = str_n(mark + 2, (size_t)(path.ptr + path.len - mark) - 2);
		path.len = (size_t)(mark - path.ptr);
		s->each = true;
	}
	if (rest.len && (rest.ptr[0] != '.' || memmem(rest.ptr, rest.len, "[]", 2)))
		return bad(c, member, "behind [] stands nothing, or a dot and a path without []");
	if (c->path_count == MAP_MAX_PATHS)
		return bad(c, member, "more than %d JSON paths in one mapping", MAP_MAX_PATHS);
	e = compile_paths(c, member, path, &check);
	if (e != ERR_OK)
		return e;
	json_paths_free(check);
	s->json = true;
	s->index = (uint8_t)c->path_count;
	e = keep(c, path, &c->paths[c->path_count]);
	c->path_count += e == ERR_OK;
	if (e == ERR_OK && rest.len)
		e = compile_paths(c, member, str_n(rest.ptr + 1, rest.len - 1), &s->rest);
	return e;
}

static enum err add_source(struct map_compiler *c, const char *member, struct str text,
                           struct map_sources *to)
{
	struct map_source *s = &to->list[to->n];

	if (to->n == MAP_MAX_SOURCES)
		return bad(c, member, "more than %d sources", MAP_MAX_SOURCES);
	to->n++;
	if (str_starts(text, STR("json:")))
		return add_path(c, member, str_n(text.ptr + 5, text.len - 5), to == &c->m->address,
		                s);
	if (!str_starts(text, STR("form:")) || text.len == 5)
		return bad(c, member, "\"%.*s\" is no source; it must be json:PATH or form:NAME",
		           (int)text.len, text.ptr);
	c->m->form = true;
	return keep(c, str_n(text.ptr + 5, text.len - 5), &s->name);
}

/* "SOURCE UNIT". The unit is what stands behind the last blank: a form's field may hold some. */
static enum err add_time(struct map_compiler *c, struct str text)
{
	struct map_sources *to = &c->m->time;
	const char *blank = memrchr(text.ptr, ' ', text.len);
	struct str unit =
	    blank ? str_n(blank + 1, (size_t)(text.ptr + text.len - blank) - 1) : STR("");
	enum err e;

	for (int i = 0; blank && i < 3; i++) {
		if (!str_eq(unit, str_of(units[i])))
			continue;
		e = add_source(c, "time", str_n(text.ptr, (size_t)(blank - text.ptr)), to);
		if (e == ERR_OK)
			to->list[to->n - 1].unit = (enum recipe_unit)i;
		return e;
	}
	return bad(c, "time",
	           "must be SOURCE UNIT, the unit being s, ms or iso (\"json:timestamp s\")");
}

static enum err add_one(struct map_compiler *c, const char *member, const json_t *v,
                        struct map_sources *to)
{
	if (!json_is_string(v))
		return bad(c, member,
		           "must be a source, \"json:PATH\" or \"form:NAME\", or a list "
		           "of them");
	return to == &c->m->time ? add_time(c, text_of(v)) : add_source(c, member, text_of(v), to);
}

static enum err get_sources(struct map_compiler *c, const char *member, bool needed,
                            struct map_sources *to)
{
	const json_t *v = json_object_get(c->object, member), *item;
	enum err e = ERR_OK;
	size_t i;

	if (!v)
		return needed ? bad(c, member, "is needed") : ERR_OK;
	if (!json_is_array(v))
		return add_one(c, member, v, to);
	if (json_array_size(v) == 0)
		return bad(c, member, "must name a source");
	json_array_foreach(v, i, item)
	{
		e = add_one(c, member, item, to);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

static enum err get_in(struct map_compiler *c)
{
	const json_t *v = json_object_get(c->object, "in");
	struct str text;

	if (!v)
		return ERR_OK;
	text = json_is_string(v) ? text_of(v) : STR("");
	if (!str_starts(text, STR("json:")))
		return bad(c, "in", "must be a source json:PATH");
	return compile_paths(c, "in", str_n(text.ptr + 5, text.len - 5), &c->m->in);
}

static enum err get_until(struct map_compiler *c)
{
	const json_t *v = json_object_get(c->object, "message_id_until");

	if (!v)
		return ERR_OK;
	if (!json_is_string(v) || json_string_length(v) == 0)
		return bad(c, "message_id_until", "must be a text that is not empty");
	return keep(c, text_of(v), &c->m->until);
}

/* ---- words ---- */

#define STATUS_WORD(code, word)  word,
#define STATUS_NAMED(code, word) word ", "

static const char *const status_words[] = {RECIPIENT_STATUS_LIST(STATUS_WORD)};

const char *recipient_status_word(enum recipient_status s)
{
	return status_words[s];
}

static enum err get_status(struct map_compiler *c, const json_t *v, struct map_word *w)
{
	const char *name = json_string_value(v);

	w->none = json_is_null(v);
	if (w->none)
		return ERR_OK;
	w->soft = name && strcmp(name, "soft_bounced") == 0;
	if (w->soft)
		name = "bounced";
	for (int i = 0; name && i < RECIPIENT_STATUSES; i++) {
		w->status = (enum recipient_status)i;
		if (strcmp(name, status_words[i]) == 0)
			return ERR_OK;
	}
	return bad(c, "words",
	           "\"%.*s\" must be " RECIPIENT_STATUS_LIST(STATUS_NAMED) "soft_bounced or null",
	           (int)w->word.len, w->word.ptr);
}

static enum err get_words(struct map_compiler *c)
{
	json_t *words = json_object_get(c->object, "words"), *v;
	struct recipient_map *m = c->m;
	const char *name;
	bool some = false;

	if (!json_is_object(words) || json_object_size(words) == 0)
		return bad(c, "words", "is needed, an object of words and their statuses");
	json_object_foreach(words, name, v)
	{
		struct map_word *w = &m->words[m->word_count];
		struct str word = str_of(name);
		enum err e;

		if (m->word_count == MAP_MAX_WORDS)
			return bad(c, "words", "more than %d", MAP_MAX_WORDS);
		if (word.len == 0 || word.len > MAP_WORD_MAX)
			return bad(c, "words", "a word has 1 to %d bytes", MAP_WORD_MAX);
		e = keep(c, word, &w->word);
		if (e == ERR_OK)
			e = get_status(c, v, w);
		if (e != ERR_OK)
			return e;
		m->word_count++;
		some |= !w->none;
	}
	return some ? ERR_OK : bad(c, "words", "none of them leads to a status");
}

/* ---- all of it ---- */

static enum err check_member(struct map_compiler *c, const char *name)
{
	for (size_t i = 0; members[i]; i++)
		if (strcmp(members[i], name) == 0)
			return ERR_OK;
	return err_set(c->info, ERR_INVAL,
	               "recipient.%.80s: no such member; a mapping has preset, in, "
	               "message_id, message_id_until, address, status, detail, "
	               "words, time",
	               name);
}

static enum err check_members(struct map_compiler *c)
{
	const char *name;
	json_t *v;
	enum err e = ERR_OK;

	json_object_foreach((json_t *)(uintptr_t)c->object, name, v)
	{
		if (e == ERR_OK)
			e = take(c, check_member(c, name));
	}
	return e;
}

static enum err compile(struct map_compiler *c)
{
	struct recipient_map *m = c->m;
	enum err e = check_members(c);

	if (e == ERR_OK)
		e = take(c, get_in(c));
	if (e == ERR_OK)
		e = take(c, get_sources(c, "message_id", true, &m->message_id));
	if (e == ERR_OK)
		e = take(c, get_until(c));
	if (e == ERR_OK)
		e = take(c, get_sources(c, "address", true, &m->address));
	if (e == ERR_OK)
		e = take(c, get_sources(c, "status", true, &m->status));
	if (e == ERR_OK)
		e = take(c, get_sources(c, "detail", false, &m->detail));
	if (e == ERR_OK)
		e = take(c, get_words(c));
	if (e == ERR_OK)
		e = take(c, get_sources(c, "time", false, &m->time));
	if (e == ERR_OK && c->sink && c->sink->count)
		return ERR_INVAL;
	if (e == ERR_OK && c->path_count > 0)
		e = json_paths_new(c->paths, c->path_count, &m->paths);
	return e;
}

static enum err compile_object(const json_t *object, struct err_sink *sink,
                               struct recipient_map **ret, struct err_info *info)
{
	struct map_compiler c = {.object = object, .info = info, .sink = sink};
	enum err e;

	c.m = mem_zalloc(sizeof(*c.m));
	if (!c.m)
		return ERR_NOMEM;
	c.m->text = mem_alloc(MAX_OBJECT_TEXT);
	e = c.m->text ? compile(&c) : ERR_NOMEM;
	if (e != ERR_OK) {
		recipient_map_free(c.m);
		return e;
	}
	*ret = c.m;
	return ERR_OK;
}

/* The ready mapping's object, a new reference. */
static enum err load_preset(const json_t *name, const char *member, json_t **ret,
                            struct err_info *info)
{
	const char *text =
	    json_is_string(name) ? recipient_preset_find(json_string_value(name)) : NULL;

	if (!json_is_string(name))
		return err_set(info, ERR_INVAL, "%s: must be the name of a ready mapping", member);
	if (!text)
		return err_set(info, ERR_INVAL, "%s: there is no \"%.80s\"; there are %s", member,
		               json_string_value(name), recipient_preset_names());
	*ret = json_loads(text, 0, NULL);
	return *ret ? ERR_OK : ERR_NOMEM;
}

/* What the mapping writes wins over the preset's, its words over the same words. */
static enum err merge(json_t *object, const json_t *own)
{
	json_t *words = json_object_get(object, "words"), *v;
	const char *name;

	json_object_foreach((json_t *)(uintptr_t)own, name, v)
	{
		bool into = strcmp(name, "words") == 0 && json_is_object(v) && words;

		if (strcmp(name, "preset") == 0)
			continue;
		if (json_is_null(v) && !into)
			json_object_del(object, name);
		else if (into ? json_object_update(words, v) != 0
		              : json_object_set(object, name, v) != 0)
			return ERR_NOMEM;
	}
	return ERR_OK;
}

enum err recipient_map_compile(const json_t *value, struct err_sink *sink,
                               struct recipient_map **ret, struct err_info *info)
{
	const json_t *name = json_is_object(value) ? json_object_get(value, "preset") : value;
	json_t *object = NULL;
	enum err e;

	if (!json_is_object(value) && !json_is_string(value))
		return err_set(info, ERR_INVAL,
		               "recipient: must be an object, or the name of a "
		               "ready mapping");
	if (!name)
		return compile_object(value, sink, ret, info);
	e = load_preset(name, json_is_object(value) ? "recipient.preset" : "recipient", &object,
	                info);
	if (e != ERR_OK)
		return e;
	e = json_is_object(value) ? merge(object, value) : ERR_OK;
	if (e == ERR_OK)
		e = compile_object(object, sink, ret, info);
	json_decref(object);
	return e;
}

static void free_sources(struct map_sources *s)
{
	for (size_t i = 0; i < s->n; i++)
		json_paths_free(s->list[i].rest);
}

void recipient_map_free(struct recipient_map *m)
{
	if (!m)
		return;
	free_sources(&m->address);
	json_paths_free(m->in);
	json_paths_free(m->paths);
	mem_free(m->text);
	mem_free(m);
}
