/* The other side of verification: what the provider would send. The signed content comes from the
 * very template that verification renders, over a request made up here, so that the two cannot
 * drift apart. */
#include <stdio.h>
#include <string.h>

#include "weir/base/id.h"
#include "weir/base/mem.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"

#include "preset_priv.h"

#define MAX_BODY   (64 * 1024 * 1024)
#define MAX_HEADER 70000
#define MAX_MADE   (SIGN_MAX_HEADERS - 2)

struct signer {
	const struct tool *tool;
	const struct recipe *r;
	const struct sign_options *o;
	struct err_info *info;
	struct str id, type, content_type;
	char ts[40], id_text[UUID_TEXT_LEN + 1];
	struct str names[MAX_MADE]; /* borrowed of the recipe */
	struct buf values[MAX_MADE];
	size_t n;
	struct signed_request *out;
};

static enum err refuse(struct signer *s, const char *why)
{
	return err_set(s->info, ERR_INVAL, "tool \"%s\" cannot be signed for: %s", s->tool->id.ptr,
	               why);
}

static void format_time(char *out, size_t space, enum recipe_unit unit, usec_t now)
{
	switch (unit) {
	case RECIPE_SECONDS:
		snprintf(out, space, "%lld", (long long)(now / USEC_PER_SEC));
		return;
	case RECIPE_MSECONDS:
		snprintf(out, space, "%lld", (long long)(now / USEC_PER_MSEC));
		return;
	case RECIPE_ISO:
		clock_rfc3339(now, out);
		return;
	}
}

/* ---- body ---- */

/* Samples are JSON, so what goes into their strings is escaped. */
static void add_escaped(struct buf *out, struct str s)
{
	struct buf quoted;

	buf_init(&quoted, MAX_HEADER);
	if (buf_add_json(&quoted, s) == ERR_OK)
		buf_add(out, quoted.ptr + 1, quoted.len - 2);
	else
		out->err = ERR_NOMEM;
	buf_done(&quoted);
}

static void add_placeholder(struct signer *s, struct str name, struct buf *out)
{
	char text[40];
	enum recipe_unit unit = RECIPE_ISO;

	if (str_eq(name, STR("ID"))) {
		add_escaped(out, s->id);
		return;
	}
	if (str_eq(name, STR("TYPE"))) {
		add_escaped(out, s->type);
		return;
	}
	if (!str_eq(name, STR("ISO")))
		unit = str_eq(name, STR("MS")) ? RECIPE_MSECONDS : RECIPE_SECONDS;
	format_time(text, sizeof(text), unit, s->o->now);
	buf_add_cstr(out, text);
}

static enum err make_body(struct signer *s)
{
	const struct sample *sample = sample_find(s->tool->preset);
	struct buf *out = &s->out->body;
	struct str rest = str_of(sample->body);

	s->id = s->o->id.len ? s->o->id : str_of(s->id_text);
	s->type = s->o->type.len ? s->o->type : str_of(sample->type);
	s->content_type = str_of(sample->content_type);
	if (s->o->body.ptr)
		return buf_add_str(out, s->o->body);
	while (rest.ptr) {
		buf_add_str(out, str_split(&rest, '%'));
		if (rest.ptr)
			add_placeholder(s, str_split(&rest, '%'), out);
	}
	return out->err;
}

/* ---- headers ---- */

static struct buf *header_of(struct signer *s, struct str name)
{
	for (size_t i = 0; i < s->n; i++)
		if (str_eq(s->names[i], name))
			return &s->values[i];
	return NULL;
}

/* A header whose value is still to be written; NULL when there are too many. */
static struct buf *make_header(struct signer *s, struct str name)
{
	if (s->n == MAX_MADE)
		return NULL;
	s->names[s->n] = name;
	buf_init(&s->values[s->n], MAX_HEADER);
	return &s->values[s->n++];
}

static enum err set_header(struct signer *s, const struct recipe_source *src, struct str value)
{
	struct buf *b;

	if (src->kind != RECIPE_SRC_HEADER || header_of(s, src->name))
		return ERR_OK;
	b = make_header(s, src->name);
	return b ? buf_add_str(b, value) : ERR_TOOBIG;
}

static enum err make_headers(struct signer *s)
{
	const struct recipe *r = s->r;
	enum err e = ERR_OK;

	if (r->has_ts)
		e = set_header(s, &r->ts, str_of(s->ts));
	if (e == ERR_OK && r->id_count)
		e = set_header(s, &r->ids[0], s->id);
	if (e == ERR_OK && r->type_count)
		e = set_header(s, &r->types[0], s->type);
	for (size_t i = 0; i < r->part_count && e == ERR_OK; i++)
		if (r->parts[i].kind == RECIPE_PART_SOURCE)
			e = set_header(s, &r->parts[i].source, str_of(s->id_text));
	return e;
}

/* ---- signature ---- */

/* What stands before the signature in its header: the keys that the template wants. */
static void add_sig_keys(struct signer *s, struct buf *out)
{
	const struct recipe *r = s->r;

	if (r->parse == RECIPE_FIRST_IS_TS) {
		buf_add_cstr(out, s->ts);
		buf_add_char(out, r->sep);
		return;
	}
	if (r->parse != RECIPE_KV)
		return;
	if (r->has_ts && r->ts.kind == RECIPE_SRC_SIG) {
		buf_add_str(out, r->ts.name);
		buf_addf(out, "=%s%c", s->ts, r->sep);
	}
	for (size_t i = 0; i < r->part_count; i++) {
		const struct recipe_source *src = &r->parts[i].source;

		if (r->parts[i].kind != RECIPE_PART_SOURCE || src->kind != RECIPE_SRC_SIG ||
		    (r->has_ts && r->ts.kind == RECIPE_SRC_SIG && str_eq(src->name, r->ts.name)))
			continue;
		buf_add_str(out, src->name);
		buf_addf(out, "=%s%c", s->id_text, r->sep);
	}
}

static void add_sig_prefix(const struct recipe *r, struct buf *out)
{
	switch (r->parse) {
	case RECIPE_PLAIN:
	case RECIPE_LIST:
		buf_add_str(out, r->prefix);
		break;
	case RECIPE_METHOD:
		buf_addf(out, "%s=", digest_name(r->hash));
		break;
	case RECIPE_KV:
		buf_add_str(out, r->prefix);
		buf_add_char(out, '=');
		break;
	case RECIPE_FIRST_IS_TS:
		break;
	}
}

static void add_encoded(struct signer *s, const uint8_t *mac, size_t len, struct buf *out)
{
	char hex[2 * DIGEST_MAX_LEN + 1];

	if (s->r->enc == RECIPE_HEX) {
		hex_encode(mac, len, hex);
		buf_add_cstr(out, hex);
	} else if (base64_encode(out, mac, len, s->r->enc == RECIPE_BASE64URL) != ERR_OK) {
		out->err = ERR_NOMEM;
	}
}

static enum err make_mac(struct signer *s, struct str sig, uint8_t *mac)
{
	struct http_header headers[MAX_MADE];
	char target[TOOL_ID_MAX + 16];
	struct recipe_request req = {.method = STR("POST")};
	struct recipe_input *in = mem_alloc(sizeof(*in));
	struct str parts[RECIPE_MAX_PARTS];
	const struct recipe_part *missing;
	size_t n = 0;
	enum err e;

	if (!in)
		return ERR_NOMEM;
	snprintf(target, sizeof(target), "/webhooks/%s", s->tool->id.ptr);
	req.target = str_of(target);
	req.body = buf_str(&s->out->body);
	req.now = s->o->now;
	req.headers = headers;
	for (size_t i = 0; i < s->n; i++)
		headers[req.header_count++] =
		    (struct http_header){s->names[i], buf_str(&s->values[i])};
	recipe_input_init(in);
	recipe_input_bind(in, s->r, &req);
	e = recipe_render(in, sig, parts, &n, &missing);
	if (e == ERR_OK)
		e = hmac_parts(s->r->secrets[0].macs[s->r->hash], parts, n, mac);
	else if (e != ERR_NOMEM)
		e = refuse(s, "the body lacks something that its recipe signs");
	recipe_input_done(in);
	mem_free(in);
	return e;
}

static enum err sign_hmac(struct signer *s, struct buf *out)
{
	uint8_t mac[DIGEST_MAX_LEN];
	enum err e;

	add_sig_keys(s, out);
	if (out->err)
		return out->err;
	e = make_mac(s, out->len ? buf_str(out) : STR(""), mac);
	if (e != ERR_OK)
		return e;
	if (s->o->bad)
		mac[0] ^= 1;
	add_sig_prefix(s->r, out);
	add_encoded(s, mac, digest_len(s->r->hash), out);
	return out->err;
}

static enum err sign_token(struct signer *s, struct buf *out)
{
	const struct recipe_secret *secret = &s->r->secrets[0];

	buf_add_str(out, s->r->prefix);
	buf_add(out, secret->bytes, secret->len);
	if (s->o->bad)
		buf_add_char(out, 'x');
	return out->err;
}

static enum err sign_basic(struct signer *s, struct buf *out)
{
	const struct recipe_secret *secret = &s->r->secrets[0];
	struct buf plain;
	enum err e;

	buf_init(&plain, MAX_HEADER);
	buf_add(&plain, secret->bytes, secret->len);
	if (s->o->bad)
		buf_add_char(&plain, 'x');
	buf_add_cstr(out, "Basic ");
	e = plain.err ? plain.err : base64_encode(out, plain.ptr, plain.len, false);
	mem_wipe_free(plain.ptr, plain.space);
	return e;
}

/* Tokens in the query are written as they are: they are chosen to need no escapes. */
static enum err make_signature(struct signer *s)
{
	const struct recipe_source *src = &s->r->sigs[0];
	struct buf *out = &s->out->target;

	if (s->r->scheme == RECIPE_NONE)
		return s->o->bad ? refuse(s, "it has no signature that could be spoiled") : ERR_OK;
	if (src->kind == RECIPE_SRC_HEADER)
		out = make_header(s, src->name);
	else if (src->kind == RECIPE_SRC_QUERY && s->r->scheme == RECIPE_TOKEN)
		buf_addf(out, "?%s=", src->name.ptr);
	else
		return refuse(s, "its signature stands inside the body or the URL");
	if (!out)
		return refuse(s, "it has too many headers");
	switch (s->r->scheme) {
	case RECIPE_HMAC:
		return sign_hmac(s, out);
	case RECIPE_TOKEN:
		return sign_token(s, out);
	case RECIPE_BASIC:
		return sign_basic(s, out);
	case RECIPE_NONE:
		break;
	}
	return ERR_BUG;
}

/* ---- all of it ---- */

static enum err add_line(struct signed_request *out, struct str name, struct str value)
{
	struct buf line;

	buf_init(&line, MAX_HEADER);
	buf_add_str(&line, name);
	buf_add_cstr(&line, ": ");
	buf_add_str(&line, value);
	if (line.err) {
		buf_done(&line);
		return line.err;
	}
	out->headers[out->header_count] = buf_take(&line, NULL);
	if (!out->headers[out->header_count])
		return ERR_NOMEM;
	out->header_count++;
	return ERR_OK;
}

static enum err make_lines(struct signer *s)
{
	enum err e = add_line(s->out, STR("Content-Type"), s->content_type);

	for (size_t i = 0; i < s->n && e == ERR_OK; i++)
		e = add_line(s->out, s->names[i], buf_str(&s->values[i]));
	return e;
}

enum err recipe_sign(const struct tool *t, const struct sign_options *o, struct signed_request *ret,
                     struct err_info *info)
{
	struct signed_request out = {.header_count = 0};
	struct signer s = {.tool = t, .r = t->recipe, .o = o, .info = info, .out = &out};
	struct uuid u;
	enum err e;

	buf_init(&out.body, MAX_BODY);
	buf_init(&out.target, MAX_HEADER);
	uuid_make(o->now, &u);
	uuid_format(&u, s.id_text);
	format_time(s.ts, sizeof(s.ts), t->recipe->unit, o->now);
	e = make_body(&s);
	if (e == ERR_OK)
		e = make_headers(&s);
	if (e == ERR_OK)
		e = make_signature(&s);
	if (e == ERR_OK)
		e = make_lines(&s);
	for (size_t i = 0; i < s.n; i++)
		buf_done(&s.values[i]);
	if (e != ERR_OK) {
		signed_request_done(&out);
		return e == ERR_INVAL ? e : err_set(info, e, "%s", err_meaning(e));
	}
	*ret = out;
	return ERR_OK;
}

void signed_request_done(struct signed_request *s)
{
	for (size_t i = 0; i < s->header_count; i++)
		mem_free(s->headers[i]);
	buf_done(&s->body);
	buf_done(&s->target);
	memset(s, 0, sizeof(*s));
}
