/* Signatures of the built-in schemes. */
#include "weir/model/builtin.h"

#include "sign_priv.h"

/* A body that is no form is signed by its hash in the query. */
static enum err add_body_hash(struct signer *s)
{
	uint8_t digest[DIGEST_MAX_LEN];
	char hex[2 * DIGEST_MAX_LEN + 1];
	struct str body = buf_str(&s->out->body);
	enum err e = digest_parts(DIGEST_SHA256, &body, 1, digest);

	if (e != ERR_OK)
		return e;
	hex_encode(digest, digest_len(DIGEST_SHA256), hex);
	return buf_addf(&s->out->target, "?bodySHA256=%s", hex);
}

enum err sign_twilio(struct signer *s, struct buf *out)
{
	bool form = str_starts(s->content_type, STR("application/x-www-form-urlencoded"));
	struct twilio_content content;
	enum err e = form ? ERR_OK : add_body_hash(s);
	struct draft *d = NULL;

	if (e == ERR_OK)
		e = sign_open_draft(s, &d);
	if (e != ERR_OK)
		return e;
	e = builtin_twilio(&d->in, form, &content);
	if (e == ERR_OK)
		e = sign_add(s, s->r->hash, (struct str[]){content.urls[0], content.form}, 2, out);
	else if (e == ERR_INVAL)
		e = sign_refuse(s, "the body is no form");
	sign_close_draft(d);
	return e;
}

static enum err add_base64(struct buf *out, struct str s)
{
	return base64_encode(out, s.ptr, s.len, true);
}

/* {"alg":"HS256"}.{claims}, each in base64url, and the digest of the request among the claims. */
static enum err add_claims(struct signer *s, struct recipe_input *in, struct buf *out)
{
	long long now = (long long)(s->o->now / USEC_PER_SEC);
	uint8_t digest[DIGEST_MAX_LEN];
	char hex[2 * DIGEST_MAX_LEN + 1];
	struct buf *b = recipe_scratch(in), claims;
	enum err e = builtin_jwt_request(in, b);
	struct str text = buf_str(b);

	if (e == ERR_OK)
		e = digest_parts(DIGEST_SHA256, &text, 1, digest);
	if (e != ERR_OK)
		return e;
	hex_encode(digest, digest_len(DIGEST_SHA256), hex);
	buf_init(&claims, SIGN_MAX_HEADER);
	buf_addf(&claims, "{\"iss\":\"weir\",\"iat\":%lld,\"exp\":%lld,\"qsh\":\"%s\"}", now,
	         now + 180, hex);
	e = claims.err;
	if (e == ERR_OK)
		e = add_base64(out, STR("{\"typ\":\"JWT\",\"alg\":\"HS256\"}"));
	if (e == ERR_OK)
		e = buf_add_char(out, '.');
	if (e == ERR_OK)
		e = add_base64(out, buf_str(&claims));
	buf_done(&claims);
	return e;
}

enum err sign_jwt(struct signer *s, struct buf *out)
{
	struct draft *d;
	struct buf token;
	struct str text;
	enum err e = sign_open_draft(s, &d);

	if (e != ERR_OK)
		return e;
	buf_init(&token, SIGN_MAX_HEADER);
	e = add_claims(s, &d->in, &token);
	buf_add_cstr(out, "JWT ");
	buf_add_str(out, buf_str(&token));
	buf_add_char(out, '.');
	text = buf_str(&token);
	if (e == ERR_OK)
		e = sign_add(s, s->r->hash, &text, 1, out);
	buf_done(&token);
	sign_close_draft(d);
	return e;
}

/* ---- by certificates ---- */

/* A URL at which the recipe's pin looks for certificates, of its first pattern. */
static void add_cert_url(const struct signer *s, const char *name, struct buf *out)
{
	struct str host = s->r->certs.hosts[0];

	buf_add_cstr(out, "https://");
	while (host.len) {
		bool region = str_starts(host, STR("{region}"));
		size_t n = region ? 8 : 1;

		if (region)
			buf_add_cstr(out, "eu-west-1");
		else
			buf_add_char(out, host.ptr[0] == '*' ? 'x' : host.ptr[0]);
		host = str_n(host.ptr + n, host.len - n);
	}
	buf_add_str(out, s->r->certs.prefix);
	buf_add_cstr(out, name);
	buf_add_str(out, s->r->certs.suffix);
}

size_t sign_built_in_placeholder(const struct signer *s, struct str text, struct buf *out)
{
	if (s->r->scheme != RECIPE_SNS)
		return 0;
	if (str_starts(text, STR("TOPIC%"))) {
		buf_add(out, s->r->secrets[0].bytes, s->r->secrets[0].len);
		return 6;
	}
	if (!str_starts(text, STR("CERT_URL%")))
		return 0;
	add_cert_url(s, "SimpleNotificationService-17", out);
	return 9;
}

enum err sign_built_in_headers(struct signer *s)
{
	const struct recipe_source *built = s->r->built;
	struct buf url;
	enum err e;

	if (s->r->scheme != RECIPE_PAYPAL)
		return ERR_OK;
	buf_init(&url, PIN_MAX_URL);
	add_cert_url(s, "CERT-weir", &url);
	e = url.err;
	if (e == ERR_OK)
		e = sign_set(s, &built[PAYPAL_ID], str_of(s->id_text));
	if (e == ERR_OK)
		e = sign_set(s, &built[PAYPAL_ALGO], STR("SHA256withRSA"));
	if (e == ERR_OK)
		e = sign_set(s, &built[PAYPAL_CERT_URL], buf_str(&url));
	buf_done(&url);
	return e;
}

enum err sign_sns(struct signer *s, struct buf *out)
{
	enum digest_algo hash;
	struct draft *d;
	struct str text;
	struct buf *b;
	enum err e = sign_open_draft(s, &d);

	if (e != ERR_OK)
		return e;
	b = recipe_scratch(&d->in);
	e = builtin_sns(&d->in, b, &hash);
	text = buf_str(b);
	if (e == ERR_OK)
		e = sign_add(s, hash, &text, 1, out);
	else if (e != ERR_NOMEM)
		e = sign_refuse(s, "the body is no message of SNS");
	sign_close_draft(d);
	return e;
}

enum err sign_paypal(struct signer *s, struct buf *out)
{
	struct str parts[BUILTIN_PAYPAL_PARTS],
	    webhook = {s->r->secrets[0].bytes, s->r->secrets[0].len};
	struct draft *d;
	char crc[16];
	enum err e = sign_open_draft(s, &d);

	if (e != ERR_OK)
		return e;
	e = builtin_paypal(&d->in, webhook, crc, parts);
	if (e == ERR_OK)
		e = sign_add(s, s->r->hash, parts, BUILTIN_PAYPAL_PARTS, out);
	sign_close_draft(d);
	return e;
}
