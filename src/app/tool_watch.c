/* The part of the tool store that looks at files with secrets. */
#include <string.h>

#include "weir/app/preflight.h"
#include "weir/base/mem.h"
#include "weir/model/tool.h"
#include "weir/run/conf.h"
#include "weir/run/log.h"
#include "weir/run/metric.h"

#include "tool_store_priv.h"

#define PERIOD       (500 * USEC_PER_MSEC)
#define MOST_FILES   200 /* looked at in one turn */
#define FAILED_TICKS 6   /* rows that cannot be used are tried again so often */
#define MOST_FAILED  100

/* Told once for each reason; the tool itself stays as it is. */
void tool_set_stale(struct tool *t, const char *text)
{
	if (t->stale && strcmp(t->stale, text) == 0)
		return;
	mem_free(t->stale);
	t->stale = mem_strdup(text);
	log_error(LOG_CONF, "secrets not read again; the old ones stay in force",
	          LOG_SLICE("tool", t->id), LOG_STR("detail", text));
}

/* Whether one of its files changed, and looks the same as at the last look. */
static bool has_changed(struct tool *t)
{
	bool changed = false;

	for (size_t i = 0; i < t->file_count; i++) {
		struct tool_file *f = &t->files[i];
		struct tool_stamp now;

		tool_file_look(f, &now);
		if (tool_stamp_equal(&now, &f->stamp))
			continue;
		if (tool_stamp_equal(&now, &f->seen))
			changed = true;
		f->seen = now;
	}
	return changed;
}

/* Not before the files change once more. */
static void give_up(struct tool *t)
{
	for (size_t i = 0; i < t->file_count; i++)
		tool_file_look(&t->files[i], &t->files[i].stamp);
}

/* The row that has this tool; NULL: it is the file's. */
static struct row *row_of(const struct tool_store *s, const struct tool *t)
{
	for (size_t i = 0; i < s->row_count; i++)
		if (s->rows[i]->tool == t)
			return s->rows[i];
	return NULL;
}

/* The file's set with one tool in the place of another. */
static enum err replace(struct tool_store *s, const struct tool *old, struct tool *fresh)
{
	struct tools *set;
	enum err e = tools_new(tools_count(s->files), &set);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < tools_count(s->files) && e == ERR_OK; i++) {
		struct tool *t = tools_at(s->files, i);

		e = tools_add(set, t == old ? fresh : t);
	}
	if (e != ERR_OK) {
		tools_unref(set);
		return e;
	}
	tools_unref(s->files);
	s->files = set;
	return ERR_OK;
}

static void read_again(struct tool_store *s, struct tool *old)
{
	struct row *row = row_of(s, old);
	const char *label = row ? TOOL_TABLE : s->o.conf->tools_file;
	struct err_info info = {0};
	struct tool *fresh = NULL;
	enum err e = tool_refresh(old, label, !row, &fresh, &info);

	if (e == ERR_OK && row) {
		row->tool = tool_ref(fresh);
		tool_unref(old); /* the caller has one more */
	} else if (e == ERR_OK) {
		e = replace(s, old, fresh);
	}
	if (e == ERR_OK) {
		metric_inc(s->secrets_read);
		log_info(LOG_CONF, "secrets read again", LOG_SLICE("tool", fresh->id));
	} else if (e != ERR_NOMEM) {
		metric_inc(s->secrets_refused);
		tool_set_stale(old, info.text[0] ? info.text : err_meaning(e));
		give_up(old);
	}
	tool_store_changed(s);
	tool_unref(fresh);
}

static void look_at_files(struct tool_store *s)
{
	const struct tools *set = tool_store_tools(s);
	struct tool *changed[MOST_FILES];
	size_t n = tools_count(set), looked = 0, found = 0;

	for (size_t i = 0; i < n && looked < MOST_FILES; i++) {
		struct tool *t = tools_at(set, s->at++ % n);

		looked += t->file_count;
		if (t->file_count && has_changed(t))
			changed[found++] = tool_ref(t);
	}
	s->at = n ? s->at % n : 0;
	for (size_t i = 0; i < found; i++) {
		read_again(s, changed[i]);
		tool_unref(changed[i]);
	}
}

static void try_failed(struct tool_store *s)
{
	size_t tried = 0;
	bool mended = false;

	for (size_t i = 0; i < s->row_count && tried < MOST_FAILED; i++) {
		struct row *r = s->rows[s->row_at++ % s->row_count];

		if (r->tool)
			continue;
		tried++;
		tool_row_compile(s, r);
		mended |= r->tool != NULL;
	}
	if (mended)
		tool_store_changed(s);
}

void tool_store_on_timer(void *arg)
{
	struct tool_store *s = arg;

	if (s->stale)
		tool_store_changed(s);
	look_at_files(s);
	if (++s->ticks % FAILED_TICKS == 0)
		try_failed(s);
	loop_timer_set(&s->timer, PERIOD);
}

void tool_store_start(struct tool_store *s)
{
	loop_timer_set(&s->timer, PERIOD);
}
