/* What each scheme signs, from the functions that its verification takes it from. */
#include "explain_priv.h"

#include <string.h>

#include "weir/model/builtin.h"

static bool rendered(struct explain *x, struct str sig, struct content *c,
                     const struct recipe_source **ret_missing)
{
	const struct recipe_part *missing = NULL;

	if (recipe_render(x->in, sig, c->parts, &c->n, &missing) == ERR_OK)
		return true;
	*ret_missing = missing && missing->kind == RECIPE_PART_TS       ? &x->r->ts
	               : missing && missing->kind == RECIPE_PART_SOURCE ? &missing->source
	                                                                : NULL;
	return false;
}

/* Whether a secret of the tool makes this signature of the content. */
static bool fits(const struct recipe *r, struct str sig, const struct str parts[2])
{
	uint8_t mac[DIGEST_MAX_LEN], given[DIGEST_MAX_LEN];
	size_t len, want = digest_len(r->hash);

	if (base64_decode(sig, false, given, sizeof(given), &len) != ERR_OK || len != want)
		return false;
	for (size_t i = 0; i < r->secret_count; i++)
		if (hmac_parts(r->secrets[i].macs[r->hash], parts, 2, mac) == ERR_OK &&
		    digest_equal(mac, given, want))
			return true;
	return false;
}

/* Of the spellings of the URL the one that was signed, else the likeliest. */
static bool of_twilio(struct explain *x, struct str sig, struct content *c)
{
	struct twilio_content content;
	struct str hash;
	enum err e = recipe_fetch(x->in, &x->r->built[TWILIO_BODY_HASH], STR_NONE, &hash);

	if (e == ERR_OK || e == ERR_NOTFOUND)
		e = builtin_twilio(x->in, e == ERR_NOTFOUND, &content);
	if (e != ERR_OK)
		return false;
	c->n = 2;
	c->parts[1] = content.form;
	c->parts[0] = content.urls[0];
	for (size_t i = 1; i < content.n && !fits(x->r, sig, c->parts); i++)
		c->parts[0] = content.urls[i];
	if (!fits(x->r, sig, c->parts))
		c->parts[0] = content.urls[0];
	return true;
}

/* Of the token: the two parts in front of its signature. */
static bool of_jwt(struct str sig, struct content *c)
{
	struct str rest = sig;

	(void)str_split(&rest, ' ');
	rest = rest.ptr ? str_trim(rest) : STR("");
	while (rest.len && rest.ptr[rest.len - 1] != '.')
		rest.len--;
	rest.len -= rest.len > 0;
	c->parts[0] = rest;
	c->n = 1;
	return rest.len > 0;
}

static bool of_sns(struct explain *x, struct content *c)
{
	struct buf *b = recipe_scratch(x->in);

	if (builtin_sns(x->in, b, &c->hash) != ERR_OK)
		return false;
	c->parts[0] = buf_str(b);
	c->n = 1;
	return true;
}

static bool of_paypal(struct explain *x, size_t i, struct content *c)
{
	const struct recipe_secret *s = &x->r->secrets[i];

	c->n = BUILTIN_PAYPAL_PARTS;
	c->by_secret = true;
	return builtin_paypal(x->in, str_n(s->bytes, s->len), c->crc, c->parts) == ERR_OK;
}

bool explain_content(struct explain *x, struct str sig, size_t i, struct content *ret,
                     const struct recipe_source **ret_missing)
{
	memset(ret, 0, sizeof(*ret));
	ret->hash = x->r->hash;
	*ret_missing = NULL;
	switch (x->r->scheme) {
	case RECIPE_HMAC:
	case RECIPE_ED25519:
	case RECIPE_ECDSA_P256:
	case RECIPE_RSA_PKCS1:
		return rendered(x, sig, ret, ret_missing);
	case RECIPE_TWILIO:
		return of_twilio(x, sig, ret);
	case RECIPE_JWT:
		return of_jwt(sig, ret);
	case RECIPE_SNS:
		return of_sns(x, ret);
	case RECIPE_PAYPAL:
		return of_paypal(x, i, ret);
	case RECIPE_TOKEN:
	case RECIPE_BASIC:
	case RECIPE_NONE:
		break;
	}
	return false;
}
