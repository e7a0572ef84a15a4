/* Templates become answers piece by piece; each value is judged before it is used. */
#include "weir/receive/handshake.h"

#include "weir/base/digest.h"
#include "weir/model/pin.h"
#include "weir/model/recipe.h"

#define ANSWER_MAX (4 * HANDSHAKE_ECHO_MAX)

/* ERR_NOTFOUND: it does not hold. */
static enum err look(struct recipe_input *in, const struct handshake_condition *w)
{
	struct str text;
	enum err e = recipe_fetch(in, &w->source, STR_NONE, &text);

	if (e == ERR_OK)
		return !w->value.ptr || str_eq(text, w->value) ? ERR_OK : ERR_NOTFOUND;
	return e == ERR_NOMEM ? e : ERR_NOTFOUND;
}

enum err handshake_find(struct recipe_input *in, enum http_method method,
                        const struct handshake **ret)
{
	const struct recipe *r = in->recipe;

	for (size_t i = 0; i < r->hand_count; i++) {
		const struct handshake *h = &r->hands[i];
		enum err e = ERR_OK;

		if (h->method != method)
			continue;
		for (size_t k = 0; k < h->when_count && e == ERR_OK; k++)
			e = look(in, &h->when[k]);
		if (e == ERR_NOMEM)
			return e;
		if (e == ERR_OK) {
			*ret = h;
			return ERR_OK;
		}
	}
	*ret = NULL;
	return ERR_OK;
}

enum handshake_verdict handshake_fetch(struct recipe_input *in, const struct handshake *h,
                                       struct str *ret)
{
	struct str url;
	enum err e;

	if (!h->hosts.host_count)
		return HANDSHAKE_OK;
	e = recipe_fetch(in, &h->fetch, STR_NONE, &url);
	if (e != ERR_OK || !pin_allows(&h->hosts, url))
		return e == ERR_NOMEM ? HANDSHAKE_NOMEM : HANDSHAKE_VALUE;
	*ret = url;
	return HANDSHAKE_OK;
}

/* Hashes are compared: neither length nor prefix of the token shows in the time. */
static enum handshake_verdict check_token(struct recipe_input *in, const struct handshake *h,
                                          struct str wanted)
{
	uint8_t a[DIGEST_MAX_LEN], b[DIGEST_MAX_LEN];
	struct str shown;
	enum err e;

	if (!h->has_token)
		return HANDSHAKE_OK;
	if (wanted.len == 0)
		return HANDSHAKE_TOKEN;
	e = recipe_fetch(in, &h->token, STR_NONE, &shown);
	if (e != ERR_OK)
		return e == ERR_NOMEM ? HANDSHAKE_NOMEM : HANDSHAKE_TOKEN;
	if (digest_parts(DIGEST_SHA256, &shown, 1, a) != ERR_OK ||
	    digest_parts(DIGEST_SHA256, &wanted, 1, b) != ERR_OK)
		return HANDSHAKE_NOMEM;
	return digest_equal(a, b, digest_len(DIGEST_SHA256)) ? HANDSHAKE_OK : HANDSHAKE_TOKEN;
}

static bool may_be_echoed(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] < 0x20 || s.ptr[i] > 0x7e || s.ptr[i] == '<' || s.ptr[i] == '>')
			return false;
	return s.len > 0 && s.len <= HANDSHAKE_ECHO_MAX;
}

static bool may_be_signed(struct str s)
{
	static const char marks[] = "._~+/=-";

	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
		    !memchr(marks, c, sizeof(marks) - 1))
			return false;
	}
	return s.len > 0 && s.len <= HANDSHAKE_SIGNED_MAX;
}

static enum handshake_verdict add_hmac(const struct recipe *r, struct str value, struct buf *out)
{
	uint8_t mac[DIGEST_MAX_LEN];
	char hex[2 * DIGEST_MAX_LEN + 1];
	struct hmac *h;
	enum err e;

	if (!may_be_signed(value))
		return HANDSHAKE_VALUE;
	e = hmac_new(DIGEST_SHA256, str_n(r->secrets[0].bytes, r->secrets[0].len), &h);
	if (e != ERR_OK)
		return HANDSHAKE_NOMEM;
	e = hmac_parts(h, &value, 1, mac);
	hmac_free(h);
	if (e != ERR_OK)
		return HANDSHAKE_NOMEM;
	hex_encode(mac, digest_len(DIGEST_SHA256), hex);
	buf_add_cstr(out, hex);
	return HANDSHAKE_OK;
}

/* Into a JSON string that the template has opened. */
static enum handshake_verdict add_escaped(struct str value, struct buf *out)
{
	struct buf quoted;

	buf_init(&quoted, ANSWER_MAX * 2);
	if (buf_add_json(&quoted, value) == ERR_OK)
		buf_add(out, quoted.ptr + 1, quoted.len - 2);
	else
		out->err = ERR_NOMEM;
	buf_done(&quoted);
	return HANDSHAKE_OK;
}

static enum handshake_verdict add_part(struct recipe_input *in, const struct handshake_part *p,
                                       bool json, struct buf *out)
{
	struct str value;
	enum err e;

	if (p->literal.ptr) {
		buf_add_str(out, p->literal);
		return HANDSHAKE_OK;
	}
	e = recipe_fetch(in, &p->source, STR_NONE, &value);
	if (e != ERR_OK)
		return e == ERR_NOMEM ? HANDSHAKE_NOMEM : HANDSHAKE_VALUE;
	if (p->hmac)
		return add_hmac(in->recipe, value, out);
	if (!may_be_echoed(value))
		return HANDSHAKE_VALUE;
	if (json)
		return add_escaped(value, out);
	buf_add_str(out, value);
	return HANDSHAKE_OK;
}

static enum handshake_verdict render(struct recipe_input *in, const struct handshake_template *t,
                                     bool json, struct buf *out)
{
	enum handshake_verdict v = HANDSHAKE_OK;

	buf_reset(out);
	for (size_t i = 0; i < t->n && v == HANDSHAKE_OK; i++)
		v = add_part(in, &t->parts[i], json, out);
	return v == HANDSHAKE_OK && out->err ? HANDSHAKE_NOMEM : v;
}

enum handshake_verdict handshake_make(struct recipe_input *in, const struct handshake *h,
                                      struct str verify_token, struct handshake_answer *ret)
{
	enum handshake_verdict v = check_token(in, h, verify_token);

	if (v == HANDSHAKE_OK)
		v = render(in, &h->body, h->json, &ret->body);
	for (size_t i = 0; i < h->header_count && v == HANDSHAKE_OK; i++)
		v = render(in, &h->headers[i].value, false, &ret->headers[i]);
	return v;
}

void handshake_answer_init(struct handshake_answer *a)
{
	buf_init(&a->body, ANSWER_MAX);
	for (size_t i = 0; i < HANDSHAKE_MAX_HEADERS; i++)
		buf_init(&a->headers[i], ANSWER_MAX);
}

void handshake_answer_done(struct handshake_answer *a)
{
	buf_done(&a->body);
	for (size_t i = 0; i < HANDSHAKE_MAX_HEADERS; i++)
		buf_done(&a->headers[i]);
}
