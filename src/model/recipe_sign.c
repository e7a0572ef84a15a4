/* The other side of verification: what the provider would send. The signed content comes from the
 * very template that verification renders, over a request made up here, so that the two cannot
 * drift apart. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "weir/base/id.h"
#include "weir/base/mem.h"
#include "weir/model/provider.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"

#include "sign_priv.h"

enum err sign_refuse(struct signer *s, const char *why)
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

	buf_init(&quoted, SIGN_MAX_HEADER);
	if (buf_add_json(&quoted, s) == ERR_OK)
		buf_add(out, quoted.ptr + 1, quoted.len - 2);
	else
		out->err = ERR_NOMEM;
	buf_done(&quoted);
}

/* "ID%…", behind a percent sign: writes what it stands for, and returns how many bytes it took. 0:
 * it is no placeholder. */
static size_t add_placeholder(struct signer *s, struct str text, struct buf *out)
{
	static const struct {
		struct str name;
		enum recipe_unit unit;
	} times[] = {
	    {{"S%", 2}, RECIPE_SECONDS}, {{"MS%", 3}, RECIPE_MSECONDS}, {{"ISO%", 4}, RECIPE_ISO}};
	char time[40];

	if (str_starts(text, STR("ID%"))) {
		add_escaped(out, s->id);
		return 3;
	}
	if (str_starts(text, STR("TYPE%"))) {
		add_escaped(out, s->type);
		return 5;
	}
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		if (!str_starts(text, times[i].name))
			continue;
		format_time(time, sizeof(time), times[i].unit, s->o->now);
		buf_add_cstr(out, time);
		return times[i].name.len;
	}
	return sign_built_in_placeholder(s, text, out);
}

static void fill_sample(struct signer *s, struct str text, struct buf *out)
{
	while (text.len) {
		const char *mark = memchr(text.ptr, '%', text.len);
		size_t plain = mark ? (size_t)(mark - text.ptr) : text.len, used = 0;

		buf_add(out, text.ptr, plain);
		text = str_n(text.ptr + plain, text.len - plain);
		if (mark) {
			used = add_placeholder(s, str_n(text.ptr + 1, text.len - 1), out);
			if (used == 0)
				buf_add_char(out, '%');
			text = str_n(text.ptr + 1 + used, text.len - 1 - used);
		}
	}
}

/* Of a tool without a preset. */
static const char plain_sample[] = "{\"id\":\"%ID%\",\"type\":\"%TYPE%\",\"timestamp\":\"%ISO%\","
                                   "\"data\":{\"water_cm\":117}}";

static enum err make_body(struct signer *s)
{
	struct str type = provider_text(s->provider, "sample", "type"),
	           content_type = provider_text(s->provider, "sample", "content_type"),
	           rest = provider_text(s->provider, "sample", "body");
	struct buf *out = &s->out->body;

	s->id = s->o->id.len ? s->o->id : str_of(s->id_text);
	s->type = s->o->type.len ? s->o->type : type.len ? type : STR("test.event");
	s->content_type = content_type.len ? content_type : STR("application/json");
	if (s->o->body.ptr)
		return buf_add_str(out, s->o->body);
	if (!s->provider)
		rest = str_of(plain_sample);
	fill_sample(s, rest, out);
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
	if (s->n == SIGN_MAX_MADE)
		return NULL;
	s->names[s->n] = name;
	buf_init(&s->values[s->n], SIGN_MAX_HEADER);
	return &s->values[s->n++];
}

enum err sign_set(struct signer *s, const struct recipe_source *src, struct str value)
{
	struct buf *b;

	if (src->kind != RECIPE_SRC_HEADER || header_of(s, src->name))
		return ERR_OK;
	b = make_header(s, src->name);
	return b ? buf_add_str(b, value) : ERR_TOOBIG;
}

/* Into the first header of the list, if there is one. */
static enum err set_first_header(struct signer *s, const struct recipe_source *list, size_t n,
                                 struct str value)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].kind == RECIPE_SRC_HEADER)
			return list[i].joined ? ERR_OK : sign_set(s, &list[i], value);
	return ERR_OK;
}

static enum err make_headers(struct signer *s)
{
	const struct recipe *r = s->r;
	enum err e = ERR_OK;

	if (r->has_ts)
		e = sign_set(s, &r->ts, str_of(s->ts));
	if (e == ERR_OK)
		e = set_first_header(s, r->ids, r->id_count, s->id);
	if (e == ERR_OK)
		e = set_first_header(s, r->types, r->type_count, s->type);
	if (e == ERR_OK)
		e = sign_built_in_headers(s);
	for (size_t i = 0; i < r->part_count && e == ERR_OK; i++)
		if (r->parts[i].kind == RECIPE_PART_SOURCE)
			e = sign_set(s, &r->parts[i].source, str_of(s->id_text));
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
	char hex[2 * PUBKEY_MAX_SIGNATURE + 1];

	if (s->r->enc == RECIPE_HEX) {
		hex_encode(mac, len, hex);
		buf_add_cstr(out, hex);
	} else if (base64_encode(out, mac, len, s->r->enc == RECIPE_BASE64URL) != ERR_OK) {
		out->err = ERR_NOMEM;
	}
}

/* ---- a request to sign ---- */

enum err sign_open_draft(struct signer *s, struct draft **ret)
{
	struct draft *d = mem_zalloc(sizeof(*d));

	if (!d)
		return ERR_NOMEM;
	snprintf(d->target, sizeof(d->target), "/webhooks/%s", s->tool->id.ptr);
	d->req.method = STR("POST");
	d->req.target = str_of(d->target);
	if (s->out->target.len)
		d->req.query = str_n(s->out->target.ptr + 1, s->out->target.len - 1);
	d->req.body = buf_str(&s->out->body);
	d->req.now = s->o->now;
	d->req.headers = d->headers;
	for (size_t i = 0; i < s->n; i++)
		d->headers[d->req.header_count++] =
		    (struct http_header){s->names[i], buf_str(&s->values[i])};
	recipe_input_init(&d->in);
	recipe_input_bind(&d->in, s->r, &d->req);
	*ret = d;
	return ERR_OK;
}

void sign_close_draft(struct draft *d)
{
	recipe_input_done(&d->in);
	mem_free(d);
}

/* The signature's bytes into `out`. */
static enum err sign_parts(struct signer *s, enum digest_algo hash, const struct str *parts,
                           size_t n, struct buf *out)
{
	uint8_t mac[DIGEST_MAX_LEN];
	enum err e;

	if (!recipe_has_macs(s->r->scheme))
		return s->o->key ? keypair_sign(s->o->key, hash, parts, n, out)
		                 : sign_refuse(s, "its signature needs the sender's private key");
	e = hmac_parts(s->r->secrets[0].macs[hash], parts, n, mac);
	return e == ERR_OK ? buf_add(out, mac, digest_len(hash)) : e;
}

static enum err make_mac(struct signer *s, struct str sig, struct buf *out)
{
	struct str parts[RECIPE_MAX_PARTS];
	const struct recipe_part *missing;
	struct draft *d;
	size_t n = 0;
	enum err e = sign_open_draft(s, &d);

	if (e != ERR_OK)
		return e;
	e = recipe_render(&d->in, sig, parts, &n, &missing);
	if (e == ERR_OK)
		e = sign_parts(s, s->r->hash, parts, n, out);
	else if (e != ERR_NOMEM)
		e = sign_refuse(s, "the body lacks something that its recipe signs");
	sign_close_draft(d);
	return e;
}

enum err sign_add(struct signer *s, enum digest_algo hash, const struct str *parts, size_t n,
                  struct buf *out)
{
	struct buf sig;
	enum err e;

	buf_init(&sig, PUBKEY_MAX_SIGNATURE);
	e = sign_parts(s, hash, parts, n, &sig);
	if (e == ERR_OK && s->o->bad)
		sig.ptr[sig.len - 1] ^= 1;
	if (e == ERR_OK)
		add_encoded(s, (const uint8_t *)sig.ptr, sig.len, out);
	buf_done(&sig);
	return e == ERR_OK ? out->err : e;
}

static enum err sign_content(struct signer *s, struct buf *out)
{
	struct buf sig;
	enum err e;

	add_sig_keys(s, out);
	if (out->err)
		return out->err;
	buf_init(&sig, PUBKEY_MAX_SIGNATURE);
	e = make_mac(s, out->len ? buf_str(out) : STR(""), &sig);
	if (e == ERR_OK) {
		if (s->o->bad)
			sig.ptr[sig.len - 1] ^= 1;
		add_sig_prefix(s->r, out);
		add_encoded(s, (const uint8_t *)sig.ptr, sig.len, out);
		e = out->err;
	}
	buf_done(&sig);
	return e;
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

	buf_init(&plain, SIGN_MAX_HEADER);
	buf_add(&plain, secret->bytes, secret->len);
	if (s->o->bad)
		buf_add_char(&plain, 'x');
	buf_add_cstr(out, "Basic ");
	e = plain.err ? plain.err : base64_encode(out, plain.ptr, plain.len, false);
	mem_wipe_free(plain.ptr, plain.space);
	return e;
}

static enum err sign_with_scheme(struct signer *s, struct buf *out)
{
	switch (s->r->scheme) {
	case RECIPE_HMAC:
	case RECIPE_ED25519:
	case RECIPE_ECDSA_P256:
	case RECIPE_RSA_PKCS1:
		return sign_content(s, out);
	case RECIPE_TOKEN:
		return sign_token(s, out);
	case RECIPE_BASIC:
		return sign_basic(s, out);
	case RECIPE_TWILIO:
		return sign_twilio(s, out);
	case RECIPE_JWT:
		return sign_jwt(s, out);
	case RECIPE_SNS:
		return sign_sns(s, out);
	case RECIPE_PAYPAL:
		return sign_paypal(s, out);
	case RECIPE_NONE:
		break;
	}
	return ERR_BUG;
}

/* The signature is part of the body, where the sample has a place for it. */
static enum err sign_in_body(struct signer *s)
{
	static const char mark[] = "%SIGNATURE%";
	struct buf *body = &s->out->body, whole, sig;
	const char *at = body->len ? memmem(body->ptr, body->len, mark, sizeof(mark) - 1) : NULL;
	enum err e;

	if (!at)
		return sign_refuse(s, "its signature stands inside the body");
	buf_init(&whole, SIGN_MAX_BODY);
	buf_init(&sig, SIGN_MAX_HEADER);
	e = sign_with_scheme(s, &sig);
	if (e == ERR_OK) {
		size_t before = (size_t)(at - body->ptr), behind = before + sizeof(mark) - 1;

		buf_add(&whole, body->ptr, before);
		add_escaped(&whole, buf_str(&sig));
		buf_add(&whole, body->ptr + behind, body->len - behind);
		e = whole.err;
	}
	buf_done(&sig);
	buf_done(body);
	*body = whole;
	return e;
}

/* Tokens in the query are written as they are: they are chosen to need no escapes. */
static enum err make_signature(struct signer *s)
{
	const struct recipe_source *src = &s->r->sigs[0];
	struct buf *out = &s->out->target;

	if (s->r->scheme == RECIPE_NONE)
		return s->o->bad ? sign_refuse(s, "it has no signature that could be spoiled")
		                 : ERR_OK;
	if (src->kind == RECIPE_SRC_JSON)
		return sign_in_body(s);
	if (src->kind == RECIPE_SRC_HEADER)
		out = make_header(s, src->name);
	else if (src->kind == RECIPE_SRC_QUERY && s->r->scheme == RECIPE_TOKEN)
		buf_addf(out, "?%s=", src->name.ptr);
	else
		return sign_refuse(s, "its signature stands inside the body or the URL");
	if (!out)
		return sign_refuse(s, "it has too many headers");
	return sign_with_scheme(s, out);
}

/* ---- all of it ---- */

static enum err add_line(struct signed_request *out, struct str name, struct str value)
{
	struct buf line;
	enum err e;

	buf_init(&line, SIGN_MAX_HEADER);
	buf_add_str(&line, name);
	buf_add_cstr(&line, ": ");
	buf_add_str(&line, value);
	e = line.err;
	if (e == ERR_OK)
		out->headers[out->header_count++] = buf_take(&line, NULL);
	buf_done(&line);
	return e;
}

static enum err make_lines(struct signer *s)
{
	enum err e = add_line(s->out, STR("Content-Type"), s->content_type);

	for (size_t i = 0; i < s->n && e == ERR_OK; i++)
		e = add_line(s->out, s->names[i], buf_str(&s->values[i]));
	return e;
}

/* Whose sample is sent; without a preset *ret stays NULL. */
static enum err sample_of(const struct tool *t, json_t **ret)
{
	const char *name = t->recipe->format == RECIPE_CLOUDEVENTS ? "cloudevents" : t->preset;

	return name[0] ? provider_load(name, ret) : ERR_OK;
}

enum err recipe_sign(const struct tool *t, const struct sign_options *o, struct signed_request *ret,
                     struct err_info *info)
{
	struct signed_request out = {.header_count = 0};
	struct signer s = {.tool = t, .r = t->recipe, .o = o, .info = info, .out = &out};
	struct uuid u;
	enum err e;

	buf_init(&out.body, SIGN_MAX_BODY);
	buf_init(&out.target, SIGN_MAX_HEADER);
	uuid_make(o->now, &u);
	uuid_format(&u, s.id_text);
	format_time(s.ts, sizeof(s.ts), t->recipe->unit, o->now);
	e = sample_of(t, &s.provider);
	if (e == ERR_OK)
		e = make_body(&s);
	if (e == ERR_OK)
		e = make_headers(&s);
	if (e == ERR_OK)
		e = make_signature(&s);
	if (e == ERR_OK)
		e = make_lines(&s);
	for (size_t i = 0; i < s.n; i++)
		buf_done(&s.values[i]);
	json_decref(s.provider);
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
