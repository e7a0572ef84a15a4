/* Arrays are opened from the outside in. What stands before and behind each opened array is
 * remembered as slices of the body; the envelope of an innermost array is those slices put
 * together, once for all of its items. */
#include "weir/receive/split.h"

#include "weir/base/json_scan.h"
#include "weir/base/mem.h"
#include "weir/model/recipe.h"

#define FIRST_SPACE 16
#define KEPT_ITEMS  1024
#define KEPT_BYTES  (256 * 1024)

struct frame {
	struct str before; /* up to and with the array's "[" */
	struct str behind; /* from its "]" on */
};

struct walk {
	struct split *s;
	const struct recipe_split *r;
	struct frame frames[RECIPE_MAX_LEVELS];
	size_t level;
	bool enveloped; /* the innermost array at hand has its envelope */
	size_t envelope, envelope_len;
};

void split_init(struct split *s, uint64_t max_bytes)
{
	*s = (struct split){.max_bytes = max_bytes};
	buf_init(&s->envelopes, (size_t)max_bytes);
}

void split_done(struct split *s)
{
	mem_free(s->items);
	buf_done(&s->envelopes);
	*s = (struct split){.max_bytes = s->max_bytes};
}

static enum err grow(struct split *s)
{
	size_t space = s->space ? s->space * 2 : FIRST_SPACE;
	struct split_item *items;

	if (s->n < s->space)
		return ERR_OK;
	items = mem_realloc(s->items, space * sizeof(*items));
	if (!items)
		return ERR_NOMEM;
	s->items = items;
	s->space = space;
	return ERR_OK;
}

static enum err make_envelope(struct walk *w)
{
	struct buf *out = &w->s->envelopes;

	if (w->enveloped)
		return ERR_OK;
	w->enveloped = true;
	w->envelope = out->len;
	for (size_t i = 0; i < w->r->level_count; i++)
		buf_add_str(out, w->frames[i].before);
	for (size_t i = w->r->level_count; i > 0; i--)
		buf_add_str(out, w->frames[i - 1].behind);
	w->envelope_len = out->len - w->envelope;
	return out->err;
}

static enum err add_item(struct walk *w, struct str element)
{
	struct split *s = w->s;
	enum err e;

	if (s->n == SPLIT_MAX_ITEMS)
		return ERR_TOOBIG;
	e = make_envelope(w);
	if (e != ERR_OK)
		return e;
	s->bytes += element.len + w->envelope_len;
	if (s->bytes > s->max_bytes)
		return ERR_TOOBIG;
	e = grow(s);
	if (e == ERR_OK)
		s->items[s->n++] = (struct split_item){element, w->envelope, w->envelope_len};
	return e;
}

static enum err find_array(const struct json_paths *path, struct str text, struct str *ret)
{
	struct json_pick pick = {JSON_KIND_ABSENT, STR_NONE};
	enum err e;

	if (path) {
		e = json_scan(text, path, &pick, NULL);
		*ret = pick.raw;
		return e == ERR_OK && pick.kind != JSON_KIND_ARRAY ? ERR_NOTFOUND : e;
	}
	e = json_scan(text, NULL, NULL, NULL);
	while (text.len && (text.ptr[0] == ' ' || text.ptr[0] == '\t' || text.ptr[0] == '\n' ||
	                    text.ptr[0] == '\r')) {
		text.ptr++;
		text.len--;
	}
	while (text.len && text.ptr[text.len - 1] != ']')
		text.len--;
	*ret = text;
	return e == ERR_OK && (text.len == 0 || text.ptr[0] != '[') ? ERR_NOTFOUND : e;
}

static enum err on_element(void *arg, struct str element);

/* Opens the array of the level at hand inside `text`. */
static enum err open_array(struct walk *w, struct str text)
{
	struct frame *f = &w->frames[w->level];
	struct str array;
	enum err e = find_array(w->r->levels[w->level], text, &array);

	if (e != ERR_OK)
		return e;
	f->before = str_n(text.ptr, (size_t)(array.ptr + 1 - text.ptr));
	f->behind = str_n(array.ptr + array.len - 1,
	                  (size_t)(text.ptr + text.len - (array.ptr + array.len - 1)));
	w->enveloped = false;
	return json_each(array, on_element, w);
}

static enum err on_element(void *arg, struct str element)
{
	struct walk *w = arg;
	enum err e;

	if (w->level + 1 == w->r->level_count)
		return add_item(w, element);
	w->level++;
	e = open_array(w, element);
	w->level--;
	return e;
}

static void reset(struct split *s)
{
	s->n = 0;
	s->bytes = 0;
	buf_reset(&s->envelopes);
}

enum err split_request(struct split *s, const struct recipe *r, struct str body)
{
	enum err e = ERR_NOTFOUND;

	if (s->space > KEPT_ITEMS || s->envelopes.space > KEPT_BYTES) {
		uint64_t max = s->max_bytes;

		split_done(s);
		split_init(s, max);
	}
	for (size_t i = 0; i < r->split_count && e == ERR_NOTFOUND; i++) {
		struct walk w = {.s = s, .r = &r->splits[i]};

		reset(s);
		e = open_array(&w, body);
	}
	return e;
}
