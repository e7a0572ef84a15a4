/* Rows are kept with what became of them; from the file's set and the rows' tools a new set is made
 * after each change. Nothing that did not change is compiled again, so that one change costs the
 * same with ten tools and with ten thousand.
 *
 * Files with secrets are looked at on a timer, a bounded number at a time. A change counts once it
 * looks the same twice in a row, for a file that is being written is no secret yet. */
#include "weir/app/tool_store.h"

#include <stdlib.h>
#include <string.h>

#include "weir/app/preflight.h"
#include "weir/base/buf.h"
#include "weir/base/mem.h"
#include "weir/io/pg.h"
#include "weir/model/tool.h"
#include "weir/run/conf.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#include "tool_store_priv.h"

/* ---- the set ---- */

static bool in_file(const struct tool_store *s, struct str id)
{
	return tools_find(s->files, id) != NULL;
}

static void count(struct tool_store *s)
{
	size_t failed = 0;

	for (size_t i = 0; i < s->row_count; i++)
		failed += !s->rows[i]->tool || in_file(s, s->rows[i]->id);
	for (size_t i = 0; i < tools_count(s->set); i++)
		failed += tools_at(s->set, i)->stale != NULL;
	metric_set(s->from_file, (double)tools_count(s->files));
	metric_set(s->from_table, (double)(tools_count(s->set) - tools_count(s->files)));
	metric_set(s->failed, (double)failed);
}

/* Told once. */
static bool is_shadowed(const struct tool_store *s, struct row *r)
{
	bool before = r->shadowed;

	r->shadowed = in_file(s, r->id);
	if (r->shadowed && !before)
		log_warn(LOG_CONF,
		         "a tool of the table has no effect: TOOLS_FILE has one of its id",
		         LOG_SLICE("tool", r->id));
	return r->shadowed;
}

/* Without memory the old set stays, and the timer tries again. */
static void rebuild(struct tool_store *s)
{
	size_t n = tools_count(s->files);
	struct tools *set;
	enum err e = tools_new(n + s->row_count, &set);

	s->stale = true;
	if (e != ERR_OK)
		return;
	for (size_t i = 0; i < n && e == ERR_OK; i++)
		e = tools_add(set, tools_at(s->files, i));
	for (size_t i = 0; i < s->row_count && e == ERR_OK; i++)
		if (!is_shadowed(s, s->rows[i]) && s->rows[i]->tool)
			e = tools_add(set, s->rows[i]->tool);
	if (e != ERR_OK) {
		tools_unref(set);
		return;
	}
	tools_unref(s->set);
	s->set = set;
	s->stale = false;
	count(s);
	if (s->o.changed)
		s->o.changed(s->o.arg);
}

void tool_store_changed(struct tool_store *s)
{
	rebuild(s);
}

/* ---- rows ---- */

static void row_free(struct row *r)
{
	if (!r)
		return;
	tool_unref(r->tool);
	mem_free(r->error);
	mem_free(r->text);
	mem_free(r->updated_by);
	mem_free(r->definition);
	mem_free(r);
}

/* Told once for each reason. */
static void set_error(struct row *r, const char *text)
{
	if (r->error && strcmp(r->error, text) == 0)
		return;
	mem_free(r->error);
	r->error = mem_strdup(text);
	log_error(
	    LOG_CONF, "a tool of the table cannot be used here; its webhooks are answered 503",
	    LOG_SLICE("tool", r->id), LOG_INT("version", r->version), LOG_STR("detail", text));
}

static enum err compile(const struct tool_store *s, struct str definition, struct str id,
                        struct tool **ret, struct err_info *info)
{
	struct tool *t;
	enum err e = tool_parse(definition, TOOL_TABLE, id, &t, info);

	if (e != ERR_OK)
		return e;
	e = preflight_tool(s->o.conf, TOOL_TABLE, t, info);
	if (e == ERR_OK)
		*ret = t;
	else
		tool_unref(t);
	return e;
}

/* What cannot be compiled now leaves an older tool of the same version as it is. */
void tool_row_compile(const struct tool_store *s, struct row *r)
{
	struct err_info info = {0};
	struct tool *t;
	enum err e = compile(s, str_of(r->definition), r->id, &t, &info);

	if (e != ERR_OK && r->tool) {
		tool_set_stale(r->tool, info.text);
		return;
	}
	if (e != ERR_OK) {
		set_error(r, info.text[0] ? info.text : err_meaning(e));
		return;
	}
	tool_unref(r->tool);
	r->tool = t;
	mem_free(r->error);
	r->error = NULL;
}

enum err tool_store_check(const struct tool_store *s, struct str definition, struct str id,
                          struct err_info *info)
{
	struct tool *t = NULL;
	enum err e = compile(s, definition, id, &t, info);

	tool_unref(t);
	return e;
}

static struct row *row_new(const struct tool_store *s, const struct tool_row *from)
{
	struct row *r = mem_zalloc(sizeof(*r));

	if (!r)
		return NULL;
	r->text = mem_dup(from->id.ptr, from->id.len);
	r->updated_by =
	    mem_dup(from->updated_by.len ? from->updated_by.ptr : "", from->updated_by.len);
	r->definition = mem_dup(from->definition.ptr, from->definition.len);
	if (!r->text || !r->updated_by || !r->definition) {
		row_free(r);
		return NULL;
	}
	r->id = str_n(r->text, from->id.len);
	r->version = from->version;
	r->updated_at = from->updated_at;
	tool_row_compile(s, r);
	return r;
}

static int by_id(struct str a, struct str b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int d = n ? memcmp(a.ptr, b.ptr, n) : 0;

	return d ? d : (a.len > b.len) - (a.len < b.len);
}

static int compare_row(const void *key, const void *element)
{
	const struct str *id = key;
	const struct row *const *r = element;

	return by_id(*id, (*r)->id);
}

static struct row *find_row(const struct tool_store *s, struct str id)
{
	struct row **found =
	    s->row_count ? bsearch(&id, s->rows, s->row_count, sizeof(*s->rows), compare_row)
	                 : NULL;

	return found ? *found : NULL;
}

/* The row that is to stand there: the one that is known, or a new one. */
static enum err next_row(const struct tool_store *s, const struct tool_row *from, struct row **ret)
{
	struct row *known = find_row(s, from->id);

	if (known && known->version == from->version) {
		known->kept = true;
		*ret = known;
		return ERR_OK;
	}
	if (!from->definition.ptr)
		return ERR_CONFLICT;
	*ret = row_new(s, from);
	return *ret ? ERR_OK : ERR_NOMEM;
}

/* Frees those of a list that are, or are not, kept; and takes the marks away. */
static void drop_rows(struct row **rows, size_t n, bool kept_too)
{
	for (size_t i = 0; i < n; i++) {
		if (!rows[i]->kept || kept_too)
			row_free(rows[i]);
		else
			rows[i]->kept = false;
	}
}

enum err tool_store_apply(struct tool_store *s, const struct tool_row *rows, size_t n)
{
	struct row **list = mem_array(n ? n : 1, sizeof(*list));
	size_t fresh = 0, made = 0, gone = s->row_count;
	enum err e = list ? ERR_OK : ERR_NOMEM;

	for (; made < n && e == ERR_OK; made += e == ERR_OK) {
		e = next_row(s, &rows[made], &list[made]);
		if (e == ERR_OK && list[made]->kept)
			gone--;
		else if (e == ERR_OK)
			fresh++;
	}
	if (e != ERR_OK) {
		/* Those that were known are in the old list still. */
		if (list)
			drop_rows(list, made, false);
		mem_free(list);
		return e;
	}
	drop_rows(s->rows, s->row_count, false);
	mem_free(s->rows);
	s->rows = list;
	s->row_count = n;
	if (!s->table_read || fresh || gone) {
		rebuild(s);
		log_info(LOG_CONF, "tools of the table read", LOG_INT("tools", n),
		         LOG_INT("changed", fresh), LOG_INT("removed", gone));
	}
	s->table_read = true;
	return ERR_OK;
}

size_t tool_store_known(const struct tool_store *s, struct buf *ids, struct buf *versions)
{
	for (size_t i = 0; i < s->row_count; i++) {
		uint64_t v = (uint64_t)s->rows[i]->version;
		unsigned char be[8];

		for (size_t k = 0; k < 8; k++)
			be[k] = (unsigned char)(v >> (56 - 8 * k));
		pg_array_add(ids, s->rows[i]->id.ptr, s->rows[i]->id.len);
		pg_array_add(versions, be, sizeof(be));
	}
	return s->row_count;
}

/* ---- what others ask ---- */

const struct tools *tool_store_tools(const struct tool_store *s)
{
	return s->set;
}

bool tool_store_table_read(const struct tool_store *s)
{
	return s->table_read;
}

bool tool_store_settled(const struct tool_store *s)
{
	return !s->o.has_table || s->table_read || s->denied;
}

void tool_store_set_denied(struct tool_store *s)
{
	s->denied = true;
}

bool tool_store_may_exist(const struct tool_store *s, struct str id)
{
	if (!s->o.has_table)
		return false;
	return s->table_read ? find_row(s, id) != NULL : tool_id_is_valid(id);
}

void tool_store_reload(struct tool_store *s, struct tools *files)
{
	if (files != s->given) {
		tools_unref(s->files);
		tools_unref(s->given);
		s->files = tools_ref(files);
		s->given = tools_ref(files);
	}
	for (size_t i = 0; i < s->row_count; i++)
		tool_row_compile(s, s->rows[i]);
	rebuild(s);
}

/* ---- for people ---- */

struct tool_view tool_view_of_file(const struct tool *t)
{
	return (struct tool_view){.id = t->id,
	                          .tool = t,
	                          .from_file = true,
	                          .updated_by = "",
	                          .definition = t->source,
	                          .error = t->stale ? t->stale : ""};
}

static struct tool_view view_row(const struct row *r)
{
	const char *stale = r->tool && r->tool->stale ? r->tool->stale : "";

	return (struct tool_view){.id = r->id,
	                          .tool = r->tool,
	                          .version = r->version,
	                          .updated_at = r->updated_at,
	                          .updated_by = r->updated_by,
	                          .definition = r->definition,
	                          .error = r->error  ? r->error
	                                   : r->tool ? stale
	                                             : "out of memory"};
}

bool tool_store_find(const struct tool_store *s, struct str id, struct tool_view *ret)
{
	const struct tool *t = tools_find(s->files, id);
	const struct row *r = t ? NULL : find_row(s, id);

	if (t)
		*ret = tool_view_of_file(t);
	else if (r)
		*ret = view_row(r);
	return t || r;
}

/* Keeps `views` sorted; what does not fit falls off its end. */
static size_t put_view(struct tool_view *views, size_t n, size_t space, struct tool_view v)
{
	size_t at = n;

	while (at > 0 && by_id(v.id, views[at - 1].id) < 0)
		at--;
	if (at == space)
		return n;
	n -= n == space;
	memmove(views + at + 1, views + at, (n - at) * sizeof(*views));
	views[at] = v;
	return n + 1;
}

size_t tool_store_page(const struct tool_store *s, struct str after, struct tool_view *views,
                       size_t space)
{
	size_t n = 0;

	for (size_t i = 0; i < tools_count(s->files); i++)
		if (by_id(tools_at(s->files, i)->id, after) > 0)
			n = put_view(views, n, space, tool_view_of_file(tools_at(s->files, i)));
	for (size_t i = 0; i < s->row_count; i++)
		if (by_id(s->rows[i]->id, after) > 0 && !in_file(s, s->rows[i]->id))
			n = put_view(views, n, space, view_row(s->rows[i]));
	return n;
}

/* ---- life ---- */

static void make_metrics(struct tool_store *s)
{
	struct metric_family *tools =
	    metric_family(s->o.metrics, &(struct metric_spec){.type = METRIC_GAUGE,
	                                                      .name = "webhook_tools",
	                                                      .help = "Tools in force.",
	                                                      .labels = {"origin"}});
	struct metric_family *reads = metric_family(
	    s->o.metrics,
	    &(struct metric_spec){.type = METRIC_COUNTER,
	                          .name = "webhook_tool_secret_reads_total",
	                          .help = "Secrets read again because their file had changed.",
	                          .labels = {"outcome"}});

	s->from_file = metric_of(tools, "file", NULL, NULL);
	s->from_table = metric_of(tools, "table", NULL, NULL);
	s->failed = metric_plain(s->o.metrics, METRIC_GAUGE, "webhook_tools_failed",
	                         "Tools that cannot be used here, or whose secrets cannot be read "
	                         "again.");
	s->secrets_read = metric_of(reads, "applied", NULL, NULL);
	s->secrets_refused = metric_of(reads, "refused", NULL, NULL);
}

enum err tool_store_new(const struct tool_store_options *o, struct tool_store **ret)
{
	struct tool_store *s = mem_zalloc(sizeof(*s));
	enum err e;

	if (!s)
		return ERR_NOMEM;
	s->o = *o;
	s->given = tools_ref(o->files);
	s->files = tools_ref(o->files);
	s->set = tools_ref(o->files);
	make_metrics(s);
	count(s);
	e = loop_timer_init(&s->timer, o->loop, tool_store_on_timer, s);
	if (e != ERR_OK) {
		tool_store_free(s);
		return e;
	}
	*ret = s;
	return ERR_OK;
}

void tool_store_stop(struct tool_store *s)
{
	loop_timer_stop(&s->timer);
}

void tool_store_free(struct tool_store *s)
{
	if (!s)
		return;
	loop_timer_done(&s->timer);
	drop_rows(s->rows, s->row_count, true);
	mem_free(s->rows);
	tools_unref(s->set);
	tools_unref(s->files);
	tools_unref(s->given);
	mem_free(s);
}
