/* Faults of a tool: where they stand in the file, and how many of one tool are told. jansson keeps
 * no positions, so the place of a member is looked for in the text, once something is wrong. */
#include <stdio.h>
#include <string.h>

#include "weir/base/json_scan.h"
#include "weir/base/mem.h"

#include "tool_priv.h"

#define MAX_FAULTS 20 /* of a tool; what is more is counted */
#define MAX_PATH   200

/* ---- places ---- */

static size_t lines_between(const char *from, const char *to)
{
	size_t n = 0;

	while ((from = memchr(from, '\n', (size_t)(to - from)))) {
		n++;
		from++;
	}
	return n;
}

static enum err on_tool(void *arg, struct str element)
{
	struct loader *l = arg;
	const struct tool_place *before =
	    l->place_count ? &l->places[l->place_count - 1] : &(struct tool_place){l->text, 1};

	if (l->place_count == l->place_space)
		return ERR_FULL;
	l->places[l->place_count++] = (struct tool_place){
	    element, before->line + lines_between(before->text.ptr, element.ptr)};
	return ERR_OK;
}

/* What stands at `path`, where the text has it. */
static bool pick(struct str text, const char *path, struct json_pick *ret)
{
	struct str s = str_of(path);
	struct json_paths *paths;
	bool found;

	if (json_paths_new(&s, 1, &paths) != ERR_OK)
		return false;
	found = json_scan(text, paths, ret, NULL) == ERR_OK && ret->kind != JSON_KIND_ABSENT;
	json_paths_free(paths);
	return found;
}

static void find_tools(struct loader *l)
{
	struct json_pick list;

	l->places = mem_array(l->place_space, sizeof(*l->places));
	if (!l->places || !pick(l->text, "tools", &list) || list.kind != JSON_KIND_ARRAY ||
	    json_each(list.raw, on_tool, l) != ERR_OK)
		l->place_count = 0;
}

/* "secrets[1]" as a path; what is no path is not found. */
static void make_path(const char *member, char out[MAX_PATH])
{
	size_t n = 0;

	for (; *member && n < MAX_PATH - 1; member++)
		if (*member != ']')
			out[n++] = *member == '[' ? '.' : *member;
	out[n] = '\0';
}

size_t tool_line(struct loader *l, const char *member)
{
	const struct tool_place *at;
	struct json_pick found;
	char path[MAX_PATH], *dot;

	if (l->text.ptr && !l->places)
		find_tools(l);
	if (l->index >= l->place_count)
		return 0;
	at = &l->places[l->index];
	/* Where the tool does not have the member itself, it is the preset's, or lacks. */
	make_path(member, path);
	while (*path && !pick(at->text, path, &found)) {
		dot = strrchr(path, '.');
		*(dot ? dot : path) = '\0';
	}
	return at->line + (*path ? lines_between(at->text.ptr, found.raw.ptr) : 0);
}

void tool_places_free(struct loader *l)
{
	mem_free(l->places);
	l->places = NULL;
	l->place_count = 0;
}

/* ---- faults ---- */

enum err tool_fault(struct loader *l, const char *member, const char *text)
{
	size_t line = tool_line(l, member);

	if (line)
		return err_set(l->info, ERR_INVAL, "%s:%zu: tool \"%s\": %s: %s", l->label, line,
		               l->id, member, text);
	return err_set(l->info, ERR_INVAL, "%s: tool \"%s\": %s: %s", l->label, l->id, member,
	               text);
}

enum err tool_fault_named(struct loader *l, const char *prefix, const char *text)
{
	const char *colon = strstr(text, ": ");
	char member[160];

	if (!colon)
		return tool_fault(l, prefix, text);
	snprintf(member, sizeof(member), "%s%.*s", prefix, (int)(colon - text), text);
	return tool_fault(l, member, colon + 2);
}

enum err tool_bad(struct loader *l, const char *member, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return tool_fault(l, member, text);
}

void tool_tell(struct loader *l)
{
	if (l->faults++ < MAX_FAULTS) {
		l->sink->count++;
		l->sink->fn(l->sink->arg, l->info->text);
	}
	*l->info = (struct err_info){.code = ERR_OK};
}

enum err tool_take(struct loader *l, enum err e)
{
	if (!l->sink || e != ERR_INVAL)
		return e;
	if (l->info->text[0])
		tool_tell(l);
	return ERR_OK;
}

enum err tool_faults_end(struct loader *l)
{
	char text[64];
	size_t more = l->faults > MAX_FAULTS ? l->faults - MAX_FAULTS : 0;
	enum err e = ERR_OK;

	if (l->faults == 0)
		return ERR_OK;
	snprintf(text, sizeof(text), "%zu more faults of this tool", more);
	if (more)
		e = err_sink_take(l->sink, tool_fault(l, "id", text), l->info);
	return e == ERR_OK ? ERR_INVAL : e;
}
