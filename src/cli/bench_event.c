/* A request is made once a second, as a whole: body from the preset's sample, the id's and type's
 * places filled, padded, signed. In between only the id is exchanged where it stands, and the
 * signature is made anew only where the recipe signs the id. Ids have one length, so that nothing
 * moves. */
#include "bench_event.h"

#include <jansson.h>
#include <string.h>

#include "weir/base/buf.h"
#include "weir/base/id.h"
#include "weir/base/mem.h"
#include "weir/base/rnd.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"

#define MAX_BODY    (64 * 1024 * 1024)
#define MAX_HEADERS (256 * 1024)
#define MAX_PLACES  8 /* where the id stands in a body */
#define MAX_STEP    256
#define LIFE        USEC_PER_SEC
#define NOWHERE     SIZE_MAX
#define PAD_FRAME   (sizeof(",\"padding\":\"\"") - 1)

struct bench_event {
	const struct tool *tool; /* borrowed */
	const char *type;        /* borrowed */
	size_t size;
	usec_t made;                      /* wall clock; 0: not yet */
	struct buf body, headers, target; /* owned */
	size_t places[MAX_PLACES];        /* of the id in `body` */
	size_t place_count;
	size_t in_header; /* of the id in `headers`; NOWHERE: not there */
	bool id_signed;   /* an exchanged id needs a new signature */
	char id[UUID_TEXT_LEN + 1];
	struct err_info *info; /* borrowed while it is being made */
};

static enum err refuse(struct bench_event *b, const char *why)
{
	return err_set(b->info, ERR_INVAL, "tool \"%s\": %s", b->tool->id.ptr, why);
}

/* ---- body ---- */

/* Writes a text at a path of member names, making the objects on the way. */
static enum err put_text(struct bench_event *b, json_t *object, struct str path, const char *text)
{
	char step[MAX_STEP];

	while (path.ptr) {
		struct str name = str_split(&path, '.');
		json_t *below;

		if (name.len == 0 || name.len >= sizeof(step))
			return refuse(b, "its recipe's paths are too strange for a made-up body");
		memcpy(step, name.ptr, name.len);
		step[name.len] = '\0';
		if (!path.ptr)
			return json_object_set_new(object, step, json_string(text)) == 0
			           ? ERR_OK
			           : ERR_NOMEM;
		below = json_object_get(object, step);
		if (!json_is_object(below)) {
			below = json_object();
			if (json_object_set_new(object, step, below) != 0)
				return ERR_NOMEM;
		}
		object = below;
	}
	return ERR_OK;
}

static enum err put_source(struct bench_event *b, json_t *object, const struct recipe_source *src,
                           const char *text)
{
	switch (src->kind) {
	case RECIPE_SRC_HEADER:
		return ERR_OK;
	case RECIPE_SRC_JSON:
		return put_text(b, object, src->name, text);
	case RECIPE_SRC_FORM:
	case RECIPE_SRC_QUERY:
	case RECIPE_SRC_SIG:
		break;
	}
	return refuse(b, "bench makes ids and types only in headers and JSON bodies");
}

/* Hex digits: neither as dense as random bytes nor as thin as one letter repeated. */
static enum err pad(struct bench_event *b, json_t *object, size_t have)
{
	size_t n = b->size > have + PAD_FRAME ? b->size - have - PAD_FRAME : 0;
	char *text = mem_alloc(n + 1);
	enum err e;

	if (!text)
		return ERR_NOMEM;
	for (size_t i = 0; i < n; i++)
		text[i] = "0123456789abcdef"[rnd_below(16)];
	text[n] = '\0';
	e = n == 0 || json_object_set_new(object, "padding", json_string(text)) == 0 ? ERR_OK
	                                                                             : ERR_NOMEM;
	mem_free(text);
	return e;
}

static int on_json_dump(const char *p, size_t n, void *arg)
{
	return buf_add(arg, p, n) == ERR_OK ? 0 : -1;
}

static enum err dump(const json_t *value, bool in_array, struct buf *out)
{
	buf_reset(out);
	if (in_array)
		buf_add_char(out, '[');
	if (json_dump_callback(value, on_json_dump, out, JSON_COMPACT) != 0)
		return out->err ? out->err : ERR_NOMEM;
	if (in_array)
		buf_add_char(out, ']');
	return out->err;
}

static enum err fill(struct bench_event *b, json_t *object)
{
	const struct recipe *r = b->tool->recipe;
	bool in_array = r->split_count > 0;
	enum err e = ERR_OK;

	if (r->split_count && (r->splits[0].level_count != 1 || r->splits[0].levels[0]))
		return refuse(b, "bench makes arrays only for \"split\": \"[]\"");
	if (r->id_count)
		e = put_source(b, object, &r->ids[0], b->id);
	if (e == ERR_OK && r->type_count)
		e = put_source(b, object, &r->types[0], *b->type ? b->type : "bench");
	if (e == ERR_OK)
		e = dump(object, in_array, &b->body);
	if (e == ERR_OK)
		e = pad(b, object, b->body.len);
	if (e == ERR_OK)
		e = dump(object, in_array, &b->body);
	return e;
}

static enum err find_places(struct bench_event *b)
{
	const char *p = b->body.ptr, *end = p + b->body.len;

	b->place_count = 0;
	while ((p = memmem(p, (size_t)(end - p), b->id, UUID_TEXT_LEN))) {
		if (b->place_count == MAX_PLACES)
			return ERR_TOOBIG;
		b->places[b->place_count++] = (size_t)(p - b->body.ptr);
		p += UUID_TEXT_LEN;
	}
	return ERR_OK;
}

static enum err make_body(struct bench_event *b, struct sign_options *o)
{
	struct signed_request sample;
	json_t *object;
	enum err e = recipe_sign(b->tool, o, &sample, b->info);

	if (e != ERR_OK)
		return e;
	object = json_loadb(sample.body.ptr, sample.body.len, 0, NULL);
	signed_request_done(&sample);
	e = json_is_object(object) ? fill(b, object) : refuse(b, "its sample is no JSON object");
	json_decref(object);
	return e == ERR_OK ? find_places(b) : e;
}

/* ---- headers ---- */

static enum err sign(struct bench_event *b, struct sign_options *o)
{
	struct signed_request made;
	enum err e;

	o->body = buf_str(&b->body);
	e = recipe_sign(b->tool, o, &made, b->info);
	if (e != ERR_OK)
		return e;
	buf_reset(&b->headers);
	for (size_t i = 0; i < made.header_count; i++) {
		buf_add_cstr(&b->headers, made.headers[i]);
		buf_add_cstr(&b->headers, "\r\n");
	}
	buf_reset(&b->target);
	buf_add_str(&b->target, buf_str(&made.target));
	signed_request_done(&made);
	return b->headers.err ? b->headers.err : b->target.err;
}

static bool signs_header(const struct recipe *r, struct str name)
{
	for (size_t i = 0; i < r->part_count; i++)
		if (r->parts[i].kind == RECIPE_PART_SOURCE &&
		    r->parts[i].source.kind == RECIPE_SRC_HEADER &&
		    str_eq(r->parts[i].source.name, name))
			return true;
	return false;
}

static bool is_id_signed(const struct bench_event *b)
{
	const struct recipe *r = b->tool->recipe;

	if (r->scheme != RECIPE_HMAC)
		return false;
	return b->place_count > 0 || (r->id_count && r->ids[0].kind == RECIPE_SRC_HEADER &&
	                              signs_header(r, r->ids[0].name));
}

static enum err make(struct bench_event *b, usec_t wall)
{
	struct sign_options o = {.type = str_of(b->type), .id = str_of(b->id), .now = wall};
	const char *at;
	enum err e = make_body(b, &o);

	if (e == ERR_OK)
		e = sign(b, &o);
	if (e != ERR_OK)
		return e;
	at = memmem(b->headers.ptr, b->headers.len, b->id, UUID_TEXT_LEN);
	b->in_header = at ? (size_t)(at - b->headers.ptr) : NOWHERE;
	b->id_signed = is_id_signed(b);
	b->made = wall;
	return ERR_OK;
}

/* ---- */

static void fresh_id(struct bench_event *b, usec_t wall)
{
	struct uuid u;

	uuid_make(wall, &u);
	uuid_format(&u, b->id);
}

static enum err exchange_id(struct bench_event *b, usec_t wall)
{
	struct sign_options o = {.type = str_of(b->type), .id = str_of(b->id), .now = wall};

	for (size_t i = 0; i < b->place_count; i++)
		memcpy(b->body.ptr + b->places[i], b->id, UUID_TEXT_LEN);
	if (b->id_signed)
		return sign(b, &o);
	if (b->in_header != NOWHERE)
		memcpy(b->headers.ptr + b->in_header, b->id, UUID_TEXT_LEN);
	return ERR_OK;
}

enum err bench_event_new(const struct tool *tool, size_t size, const char *type,
                         struct bench_event **ret, struct err_info *info)
{
	struct bench_event *b = mem_zalloc(sizeof(*b));
	enum err e;

	if (!b)
		return err_set(info, ERR_NOMEM, "%s", err_meaning(ERR_NOMEM));
	*b = (struct bench_event){.tool = tool, .type = type, .size = size, .info = info};
	buf_init(&b->body, MAX_BODY);
	buf_init(&b->headers, MAX_HEADERS);
	buf_init(&b->target, MAX_HEADERS);
	fresh_id(b, clock_wall());
	e = make(b, clock_wall());
	b->info = NULL;
	if (e != ERR_OK) {
		bench_event_free(b);
		return e == ERR_INVAL ? e : err_set(info, e, "%s", err_meaning(e));
	}
	*ret = b;
	return ERR_OK;
}

void bench_event_free(struct bench_event *b)
{
	if (!b)
		return;
	buf_done(&b->body);
	buf_done(&b->headers);
	buf_done(&b->target);
	mem_free(b);
}

size_t bench_event_size(const struct bench_event *b)
{
	return b->body.len;
}

enum err bench_event_next(struct bench_event *b, usec_t wall, struct http_load_request *ret)
{
	enum err e;

	fresh_id(b, wall);
	e = wall - b->made < LIFE && wall >= b->made ? exchange_id(b, wall) : make(b, wall);
	if (e != ERR_OK)
		return e;
	ret->target = buf_str(&b->target);
	ret->headers = buf_str(&b->headers);
	ret->body = buf_str(&b->body);
	return ERR_OK;
}
