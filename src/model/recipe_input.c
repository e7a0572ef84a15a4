/* One request as its recipe sees it. Headers are found in a single pass over the request's; the
 * body is scanned at most once; a value is copied only where it must be decoded. */
#include <string.h>

#include "weir/base/form.h"
#include "weir/base/mem.h"
#include "weir/model/cloudevents.h"
#include "weir/model/recipe.h"

#define SLOT_KEPT  16384     /* a decode buffer that grew past this is given back */
#define DECODE_MAX (1 << 30) /* decoding never makes longer; bodies are bounded before */

void recipe_input_init(struct recipe_input *in)
{
	memset(in, 0, sizeof(*in));
}

void recipe_input_done(struct recipe_input *in)
{
	for (size_t i = 0; i < RECIPE_MAX_SOURCES; i++)
		buf_done(&in->slots[i]);
	form_fields_done(&in->fields);
	buf_done(&in->scratch);
}

static void find_headers(struct recipe_input *in)
{
	const struct recipe *r = in->recipe;
	const struct recipe_request *req = in->request;

	for (size_t k = 0; k < r->header_count; k++)
		in->headers[k] = STR_NONE;
	for (size_t i = 0; i < req->header_count; i++) {
		const struct http_header *h = &req->headers[i];

		for (size_t k = 0; k < r->header_count; k++) {
			if (h->name.len != r->headers[k].len || !str_ieq(h->name, r->headers[k]))
				continue;
			if (in->headers[k].ptr) {
				in->doubled = true;
				in->doubled_name = r->headers[k];
			}
			in->headers[k] = h->value.ptr ? h->value : STR("");
			break;
		}
	}
}

void recipe_input_bind(struct recipe_input *in, const struct recipe *r,
                       const struct recipe_request *req)
{
	for (size_t i = 0; i < RECIPE_MAX_SOURCES && in->recipe; i++)
		if (in->slots[i].space > SLOT_KEPT)
			buf_done(&in->slots[i]);
	if (in->scratch.space > SLOT_KEPT)
		buf_done(&in->scratch);
	in->recipe = r;
	in->request = req;
	in->scanned = false;
	in->doubled = false;
	find_headers(in);
}

enum err recipe_input_scan(struct recipe_input *in)
{
	if (!in->scanned) {
		in->json = json_scan(in->request->body, in->recipe->paths, in->picks, NULL);
		in->scanned = true;
	}
	return in->json;
}

/* ---- values ---- */

static struct buf *fresh(struct buf *b)
{
	if (!b->ptr)
		buf_init(b, DECODE_MAX);
	buf_reset(b);
	return b;
}

static struct buf *fresh_slot(struct recipe_input *in, uint8_t slot)
{
	return fresh(&in->slots[slot]);
}

static enum err pick_text(struct recipe_input *in, const struct json_pick *pick, uint8_t slot,
                          struct str *ret)
{
	struct buf *b;

	switch (pick->kind) {
	case JSON_KIND_NUMBER:
	case JSON_KIND_BOOL:
		*ret = pick->raw;
		return ERR_OK;
	case JSON_KIND_STRING:
		break;
	case JSON_KIND_ABSENT:
	case JSON_KIND_NULL:
	case JSON_KIND_ARRAY:
	case JSON_KIND_OBJECT:
		return ERR_NOTFOUND;
	}
	if (!memchr(pick->raw.ptr, '\\', pick->raw.len)) {
		*ret = str_n(pick->raw.ptr + 1, pick->raw.len - 2);
		return ERR_OK;
	}
	b = fresh_slot(in, slot);
	if (json_text(pick, b) != ERR_OK)
		return ERR_NOMEM;
	*ret = buf_str(b);
	return ERR_OK;
}

static enum err fetch_json(struct recipe_input *in, const struct recipe_source *src,
                           struct str *ret)
{
	const struct json_pick *pick = &in->item_picks[src->index];
	struct json_pick inner = {JSON_KIND_ABSENT, STR_NONE};
	struct str text;
	enum err e;

	if (!src->in_item) {
		if (recipe_input_scan(in) != ERR_OK)
			return ERR_NOTFOUND;
		pick = &in->picks[src->index];
	}
	if (!src->inner)
		return pick_text(in, pick, src->slot, ret);
	if (pick->kind != JSON_KIND_STRING)
		return ERR_NOTFOUND;
	e = pick_text(in, pick, (uint8_t)(src->slot - 1), &text);
	if (e != ERR_OK)
		return e;
	return json_scan(text, src->inner, &inner, NULL) == ERR_OK
	           ? pick_text(in, &inner, src->slot, ret)
	           : ERR_NOTFOUND;
}

static enum err fetch_field(struct recipe_input *in, const struct recipe_source *src,
                            struct str form, struct str *ret)
{
	return form_value(form, src->name, fresh_slot(in, src->slot), ret);
}

static enum err fetch_header(struct recipe_input *in, const struct recipe_source *src,
                             struct str *ret)
{
	struct str raw = in->headers[src->index];

	if (!raw.ptr)
		return ERR_NOTFOUND;
	if (!src->escaped) {
		*ret = raw;
		return ERR_OK;
	}
	return cloudevents_attribute(raw, fresh_slot(in, src->slot), ret);
}

enum err recipe_fetch(struct recipe_input *in, const struct recipe_source *src, struct str sig,
                      struct str *ret)
{
	switch (src->kind) {
	case RECIPE_SRC_HEADER:
		return fetch_header(in, src, ret);
	case RECIPE_SRC_JSON:
		return fetch_json(in, src, ret);
	case RECIPE_SRC_FORM:
		return fetch_field(in, src, in->request->body, ret);
	case RECIPE_SRC_QUERY:
		return fetch_field(in, src, in->request->query, ret);
	case RECIPE_SRC_SIG:
		return recipe_sig_key(in->recipe, sig, src->name, ret) ? ERR_OK : ERR_NOTFOUND;
	}
	return ERR_BUG;
}

/* The sources from i on up to the next that is not joined, as one text. */
static enum err fetch_joined(struct recipe_input *in, const struct recipe_source *list, size_t n,
                             struct buf *b, struct str *ret)
{
	buf_reset(b);
	for (size_t i = 0; i < n; i++) {
		struct str text;
		enum err e = recipe_fetch(in, &list[i], STR_NONE, &text);

		if (e != ERR_OK)
			return e;
		if (text.len == 0)
			return ERR_NOTFOUND;
		if (i > 0)
			buf_add_char(b, ':');
		buf_add_str(b, text);
	}
	*ret = buf_str(b);
	return b->err == ERR_OK ? ERR_OK : ERR_NOMEM;
}

enum err recipe_fetch_first(struct recipe_input *in, const struct recipe_source *list, size_t n,
                            struct buf *b, struct str *ret)
{
	size_t group;

	for (size_t i = 0; i < n; i += group) {
		struct str text = STR("");
		enum err e;

		for (group = 1; i + group < n && list[i + group].joined;)
			group++;
		e = group == 1 ? recipe_fetch(in, &list[i], STR_NONE, &text)
		               : fetch_joined(in, list + i, group, b, &text);
		if (e == ERR_NOMEM)
			return e;
		if (e == ERR_OK && text.len) {
			*ret = text;
			return ERR_OK;
		}
	}
	return ERR_NOTFOUND;
}

/* ---- the signed content ---- */

struct buf *recipe_scratch(struct recipe_input *in)
{
	return fresh(&in->scratch);
}

enum err recipe_add_form(struct recipe_input *in, struct str form, struct buf *out)
{
	enum err e = form_fields_read(&in->fields, form, false);

	for (size_t i = 0; i < in->fields.n && e == ERR_OK; i++) {
		buf_add_str(out, in->fields.list[i].name);
		buf_add_str(out, in->fields.list[i].value);
	}
	if (e == ERR_TOOBIG)
		return ERR_INVAL;
	return e == ERR_OK && out->err ? ERR_NOMEM : e;
}

static enum err render_form(struct recipe_input *in, uint8_t slot, struct str *ret)
{
	struct buf *b = fresh_slot(in, slot);
	enum err e = recipe_add_form(in, in->request->body, b);

	*ret = b->len ? buf_str(b) : STR("");
	return e;
}

static enum err render_part(struct recipe_input *in, const struct recipe_part *p, struct str sig,
                            struct str *ret)
{
	struct str rest = in->request->target;

	switch (p->kind) {
	case RECIPE_PART_LITERAL:
		*ret = p->literal;
		return ERR_OK;
	case RECIPE_PART_BODY:
		*ret = in->request->body;
		return ERR_OK;
	case RECIPE_PART_TS:
		return recipe_fetch(in, &in->recipe->ts, sig, ret);
	case RECIPE_PART_METHOD:
		*ret = in->request->method;
		return ERR_OK;
	case RECIPE_PART_URL:
		*ret = in->recipe->url;
		return ERR_OK;
	case RECIPE_PART_PATH:
		*ret = str_split(&rest, '?');
		return ERR_OK;
	case RECIPE_PART_FORM:
		return render_form(in, p->slot, ret);
	case RECIPE_PART_SOURCE:
		return recipe_fetch(in, &p->source, sig, ret);
	}
	return ERR_BUG;
}

enum err recipe_render(struct recipe_input *in, struct str sig, struct str *parts, size_t *ret_n,
                       const struct recipe_part **ret_missing)
{
	const struct recipe *r = in->recipe;

	for (size_t i = 0; i < r->part_count; i++) {
		enum err e = render_part(in, &r->parts[i], sig, &parts[i]);

		if (e != ERR_OK) {
			*ret_missing = &r->parts[i];
			return e;
		}
	}
	*ret_n = r->part_count;
	return ERR_OK;
}
