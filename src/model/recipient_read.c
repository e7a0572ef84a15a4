/* Reading an event's delivery reports. Texts are taken as slices of the body wherever they stand
 * there as they are; only what has escapes, and what becomes part of a report, is copied. */
#include <string.h>

#include "weir/base/form.h"
#include "weir/base/mem.h"
#include "weir/model/event.h"

#include "recipient_priv.h"

#define INNER_MAX  ((size_t)1 << 30) /* decoding never makes longer; bodies are bounded before */
#define TEXT_MAX   ((size_t)RECIPIENT_MAX_REPORTS * (RECIPIENT_ADDRESS_MAX + 1) + 4096)
#define VALUE_MAX  4096                       /* decoded; longer ones are none of ours */
#define KEPT_BYTES 65536                      /* a buffer that grew past this is given back */
#define EARLIEST   (946684800 * USEC_PER_SEC) /* 2000-01-01: nobody reported before */
#define LATEST     (86400 * USEC_PER_SEC)     /* this long after the receipt */

struct slice {
	size_t at, len; /* in reader.text */
};

struct recipient_reader {
	const struct recipient_map *map; /* the event's at hand */
	struct str doc;
	bool json; /* doc is JSON, picks are valid */
	struct json_pick picks[MAP_MAX_PATHS];
	struct buf inner; /* a document that was a string */
	struct buf value, word;
	struct buf text; /* what the reports will hold */
	struct slice message_id;
	struct slice addresses[RECIPIENT_MAX_REPORTS];
	size_t n;
	bool short_of_memory;
};

#define OUTCOME_WORD(code, word) word,

const char *recipient_outcome_word(enum recipient_outcome o)
{
	static const char *const words[] = {RECIPIENT_OUTCOME_LIST(OUTCOME_WORD)};

	return words[o];
}

/* ---- values ---- */

/* The text of a scalar; false when it is none, is too long, or memory is short. */
static bool pick_text(struct recipient_reader *r, const struct json_pick *p, struct buf *b,
                      struct str *ret)
{
	switch (p->kind) {
	case JSON_KIND_NUMBER:
	case JSON_KIND_BOOL:
		*ret = p->raw;
		return true;
	case JSON_KIND_STRING:
		break;
	case JSON_KIND_ABSENT:
	case JSON_KIND_NULL:
	case JSON_KIND_ARRAY:
	case JSON_KIND_OBJECT:
		return false;
	}
	if (!memchr(p->raw.ptr, '\\', p->raw.len)) {
		*ret = str_n(p->raw.ptr + 1, p->raw.len - 2);
		return true;
	}
	buf_reset(b);
	if (json_text(p, b) != ERR_OK) {
		r->short_of_memory |= b->err == ERR_NOMEM;
		return false;
	}
	*ret = b->len ? buf_str(b) : STR("");
	return true;
}

static bool source_text(struct recipient_reader *r, const struct map_source *s, struct buf *b,
                        struct str *ret)
{
	enum err e;

	if (s->json)
		return r->json && pick_text(r, &r->picks[s->index], b, ret);
	e = form_value(r->doc, s->name, b, ret);
	r->short_of_memory |= e == ERR_NOMEM && b->err == ERR_NOMEM;
	return e == ERR_OK;
}

/* The first that is there and not empty. */
static bool first_text(struct recipient_reader *r, const struct map_sources *list, struct buf *b,
                       struct str *ret)
{
	for (size_t i = 0; i < list->n; i++)
		if (source_text(r, &list->list[i], b, ret) && ret->len > 0)
			return true;
	return false;
}

/* ---- the document ---- */

static enum err open_document(struct recipient_reader *r, struct str body)
{
	struct json_pick outer = {JSON_KIND_ABSENT, STR_NONE};

	r->doc = body;
	if (r->map->in && json_scan(body, r->map->in, &outer, NULL) == ERR_OK &&
	    outer.kind == JSON_KIND_STRING) {
		buf_reset(&r->inner);
		if (json_text(&outer, &r->inner) != ERR_OK)
			return r->inner.err;
		r->doc = r->inner.len ? buf_str(&r->inner) : STR("");
	}
	r->json = r->map->paths && json_scan(r->doc, r->map->paths, r->picks, NULL) == ERR_OK;
	return ERR_OK;
}

/* ---- status ---- */

static const struct map_word *find_word(const struct recipient_map *m, struct str word)
{
	for (size_t i = 0; i < m->word_count; i++)
		if (str_eq(m->words[i].word, word))
			return &m->words[i];
	return NULL;
}

/* "WORD/DETAIL" for each detail that the event has, in order, then "WORD". */
static const struct map_word *find_detailed(struct recipient_reader *r, struct str word)
{
	const struct map_sources *details = &r->map->detail;
	struct str detail;

	for (size_t i = 0; i < details->n; i++) {
		char pair[MAP_WORD_MAX];
		const struct map_word *found;

		if (!source_text(r, &details->list[i], &r->value, &detail) ||
		    word.len + detail.len >= sizeof(pair))
			continue;
		memcpy(pair, word.ptr, word.len);
		pair[word.len] = '/';
		if (detail.len)
			memcpy(pair + word.len + 1, detail.ptr, detail.len);
		found = find_word(r->map, str_n(pair, word.len + 1 + detail.len));
		if (found)
			return found;
	}
	return find_word(r->map, word);
}

/* ---- message id and addresses ---- */

/* Texts that Postgres takes and an index can hold. */
static bool is_clean(struct str s, size_t max)
{
	if (s.len == 0 || s.len > max || !str_is_utf8(s))
		return false;
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] < ' ' || s.ptr[i] == 0x7f)
			return false;
	return true;
}

/* What stands in a pair of angle brackets that ends the text. */
static struct str unbracket(struct str s)
{
	const char *open = s.len && s.ptr[s.len - 1] == '>' ? memrchr(s.ptr, '<', s.len) : NULL;

	if (!open)
		return s;
	return str_trim(str_n(open + 1, (size_t)(s.ptr + s.len - open) - 2));
}

static enum err keep(struct recipient_reader *r, struct str s, bool lower, struct slice *ret)
{
	struct buf *t = &r->text;

	*ret = (struct slice){t->len, s.len};
	if (buf_add_str(t, s) != ERR_OK)
		return t->err;
	for (size_t i = ret->at; lower && i < t->len; i++)
		if (t->ptr[i] >= 'A' && t->ptr[i] <= 'Z')
			t->ptr[i] = (char)(t->ptr[i] | 0x20);
	return ERR_OK;
}

static bool find_message_id(struct recipient_reader *r, struct str *ret)
{
	const struct recipient_map *m = r->map;
	const char *mark;

	if (!first_text(r, &m->message_id, &r->value, ret))
		return false;
	mark = m->until.len ? memmem(ret->ptr, ret->len, m->until.ptr, m->until.len) : NULL;
	if (mark)
		ret->len = (size_t)(mark - ret->ptr);
	*ret = unbracket(str_trim(*ret));
	return is_clean(*ret, RECIPIENT_MESSAGE_ID_MAX);
}

/* Whatever is no address is left out. */
static enum err add_address(struct recipient_reader *r, struct str s)
{
	enum err e;

	s = unbracket(str_trim(s));
	if (!is_clean(s, RECIPIENT_ADDRESS_MAX) || r->n == RECIPIENT_MAX_REPORTS)
		return ERR_OK;
	e = keep(r, s, true, &r->addresses[r->n]);
	r->n += e == ERR_OK;
	return e;
}

struct each {
	struct recipient_reader *r;
	const struct map_source *s;
};

static enum err on_element(void *arg, struct str element)
{
	static const struct json_pick absent = {JSON_KIND_ABSENT, STR_NONE};
	struct each *each = arg;
	struct recipient_reader *r = each->r;
	struct json_pick p = {JSON_KIND_ABSENT, STR_NONE};
	struct str text;

	if (each->s->rest) {
		if (json_scan(element, each->s->rest, &p, NULL) != ERR_OK)
			p = absent;
	} else if (element.len && element.ptr[0] == '"') {
		p = (struct json_pick){JSON_KIND_STRING, element};
	}
	if (!pick_text(r, &p, &r->value, &text))
		return r->short_of_memory ? ERR_NOMEM : ERR_OK;
	return add_address(r, text);
}

static enum err find_addresses(struct recipient_reader *r)
{
	const struct map_sources *list = &r->map->address;
	enum err e = ERR_OK;

	for (size_t i = 0; i < list->n && r->n == 0 && e == ERR_OK; i++) {
		const struct map_source *s = &list->list[i];
		struct each each = {r, s};
		struct str text;

		if (s->each && r->json && r->picks[s->index].kind == JSON_KIND_ARRAY)
			e = json_each(r->picks[s->index].raw, on_element, &each);
		else if (source_text(r, s, &r->value, &text))
			e = add_address(r, text);
	}
	return e;
}

static usec_t find_time(struct recipient_reader *r, usec_t received)
{
	const struct map_sources *list = &r->map->time;
	struct str text;
	usec_t at;

	for (size_t i = 0; i < list->n; i++) {
		if (!source_text(r, &list->list[i], &r->value, &text) ||
		    recipe_parse_ts(list->list[i].unit, text, &at) != ERR_OK)
			continue;
		return at >= EARLIEST && at - received <= LATEST ? at : received;
	}
	return received;
}

/* ---- an event ---- */

static enum err build(const struct recipient_reader *r, const struct map_word *w, usec_t at,
                      struct recipient_reports **ret)
{
	size_t list = r->n * sizeof(struct recipient_report);
	struct recipient_reports *reports = mem_alloc(sizeof(*reports) + list + r->text.len);
	char *text;

	if (!reports)
		return ERR_NOMEM;
	reports->n = r->n;
	text = (char *)reports + sizeof(*reports) + list;
	memcpy(text, r->text.ptr, r->text.len);
	for (size_t i = 0; i < r->n; i++)
		reports->list[i] = (struct recipient_report){
		    .message_id = str_n(text + r->message_id.at, r->message_id.len),
		    .address = str_n(text + r->addresses[i].at, r->addresses[i].len),
		    .status = w->status,
		    .soft = w->soft,
		    .at = at,
		};
	*ret = reports;
	return ERR_OK;
}

static enum err read_event(struct recipient_reader *r, const struct event_view *v,
                           struct recipient_reports **ret, enum recipient_outcome *outcome)
{
	const struct map_word *w;
	struct str text;
	enum err e = open_document(r, v->body);

	if (e != ERR_OK)
		return e;
	*outcome = RECIPIENT_UNREADABLE;
	if (!r->json && !r->map->form)
		return ERR_OK;
	*outcome = RECIPIENT_NO_STATUS;
	if (!first_text(r, &r->map->status, &r->word, &text))
		return ERR_OK;
	*outcome = RECIPIENT_OTHER;
	w = find_detailed(r, text);
	if (!w || w->none)
		return ERR_OK;
	*outcome = RECIPIENT_NO_MESSAGE_ID;
	if (!find_message_id(r, &text))
		return ERR_OK;
	e = keep(r, text, false, &r->message_id);
	if (e == ERR_OK)
		e = find_addresses(r);
	*outcome = RECIPIENT_NO_ADDRESS;
	if (e != ERR_OK || r->n == 0)
		return e;
	*outcome = RECIPIENT_READ;
	return build(r, w, find_time(r, v->received), ret);
}

static void begin(struct recipient_reader *r, const struct recipient_map *m)
{
	if (r->inner.space > KEPT_BYTES) {
		buf_done(&r->inner);
		buf_init(&r->inner, INNER_MAX);
	}
	if (r->text.space > KEPT_BYTES) {
		buf_done(&r->text);
		buf_init(&r->text, TEXT_MAX);
	}
	buf_reset(&r->text);
	r->map = m;
	r->n = 0;
	r->short_of_memory = false;
}

enum err recipient_read(struct recipient_reader *r, const struct recipient_map *m,
                        const struct event_view *v, struct recipient_reports **ret_reports,
                        enum recipient_outcome *ret_outcome)
{
	struct recipient_reports *reports = NULL;
	enum err e;

	begin(r, m);
	e = read_event(r, v, &reports, ret_outcome);
	if (e == ERR_OK && r->short_of_memory) {
		recipient_reports_free(reports);
		e = ERR_NOMEM;
	}
	if (e == ERR_OK)
		*ret_reports = reports;
	return e;
}

void recipient_reports_free(struct recipient_reports *r)
{
	mem_free(r);
}

enum err recipient_reader_new(struct recipient_reader **ret)
{
	struct recipient_reader *r = mem_zalloc(sizeof(*r));

	if (!r)
		return ERR_NOMEM;
	buf_init(&r->inner, INNER_MAX);
	buf_init(&r->value, VALUE_MAX);
	buf_init(&r->word, VALUE_MAX);
	buf_init(&r->text, TEXT_MAX);
	*ret = r;
	return ERR_OK;
}

void recipient_reader_free(struct recipient_reader *r)
{
	if (!r)
		return;
	buf_done(&r->inner);
	buf_done(&r->value);
	buf_done(&r->word);
	buf_done(&r->text);
	mem_free(r);
}
