/* SNS and PayPal: the signature is an RSA key's, and the key that of a certificate that lies where
 * the request says. So the URL is judged like a signature's part, and everything else that can be
 * wrong is found before anything is fetched. */
#include "weir/base/pubkey.h"
#include "weir/model/builtin.h"
#include "weir/receive/cert_store.h"

#include "verify_priv.h"

struct signature {
	uint8_t bytes[PUBKEY_MAX_SIGNATURE];
	size_t len;
	struct str url; /* of the certificate */
};

static enum verify_verdict of_fetch(enum err e)
{
	if (e == ERR_OK)
		return VERIFY_OK;
	if (e == ERR_NOTFOUND)
		return VERIFY_PART_MISSING;
	return e == ERR_NOMEM ? VERIFY_NOMEM : VERIFY_ENCODING;
}

static enum verify_verdict read_signature(struct recipe_input *in, size_t url_at,
                                          struct signature *s)
{
	const struct recipe *r = in->recipe;
	struct str text;
	enum verify_verdict v = verify_find(in, &text);

	if (v != VERIFY_OK)
		return v;
	if (verify_decode(r, text, s->bytes, &s->len) != ERR_OK || s->len == 0)
		return VERIFY_ENCODING;
	v = of_fetch(recipe_fetch(in, &r->built[url_at], STR_NONE, &s->url));
	if (v == VERIFY_OK && !pin_allows(&r->certs, s->url))
		return VERIFY_CERT_URL;
	return v;
}

/* Only for a request of which nothing else is wrong. */
static enum verify_verdict find_key(struct recipe_input *in, struct cert_store *certs,
                                    const struct signature *s, struct verify_result *ret,
                                    struct pubkey **ret_key)
{
	enum err e =
	    certs ? cert_store_find(certs, s->url, in->recipe->cert_chain, ret_key) : ERR_NOTFOUND;

	if (e == ERR_OK)
		return VERIFY_OK;
	ret->cert_url = s->url;
	ret->cert_chain = in->recipe->cert_chain;
	return VERIFY_CERT;
}

static enum verify_verdict check(struct pubkey *key, enum digest_algo hash, const struct str *parts,
                                 size_t n, const struct signature *s)
{
	enum err e = pubkey_verify(key, hash, parts, n, str_n(s->bytes, s->len));

	return e == ERR_OK ? VERIFY_OK : e == ERR_NOMEM ? VERIFY_NOMEM : VERIFY_WRONG;
}

/* ---- SNS ---- */

static bool is_topic(const struct recipe *r, struct str arn, struct verify_result *ret)
{
	for (size_t s = 0; s < r->secret_count; s++) {
		if (!str_eq(arn, str_n(r->secrets[s].bytes, r->secrets[s].len)))
			continue;
		ret->secret = r->secrets[s].index;
		return true;
	}
	return false;
}

enum verify_verdict verify_sns(struct recipe_input *in, struct cert_store *certs,
                               struct verify_result *ret)
{
	struct buf *b = recipe_scratch(in);
	struct pubkey *key;
	struct signature s;
	enum digest_algo hash;
	struct str topic, content;
	enum verify_verdict v = read_signature(in, SNS_CERT_URL, &s);

	if (v == VERIFY_OK)
		v = of_fetch(builtin_sns(in, b, &hash));
	if (v == VERIFY_OK)
		v = of_fetch(recipe_fetch(in, &in->recipe->built[SNS_TOPIC], STR_NONE, &topic));
	if (v == VERIFY_OK)
		v = verify_time(in, STR_NONE, &ret->age);
	if (v == VERIFY_OK && !is_topic(in->recipe, topic, ret))
		v = VERIFY_WRONG;
	if (v == VERIFY_OK)
		v = find_key(in, certs, &s, ret, &key);
	if (v != VERIFY_OK)
		return v;
	content = buf_str(b);
	return check(key, hash, &content, 1, &s);
}

/* ---- PayPal ---- */

enum verify_verdict verify_paypal(struct recipe_input *in, struct cert_store *certs,
                                  struct verify_result *ret)
{
	const struct recipe *r = in->recipe;
	struct str parts[BUILTIN_PAYPAL_PARTS], algo;
	struct signature s;
	struct pubkey *key;
	char crc[16];
	enum verify_verdict v = read_signature(in, PAYPAL_CERT_URL, &s), found = VERIFY_WRONG;

	if (v == VERIFY_OK)
		v = of_fetch(recipe_fetch(in, &r->built[PAYPAL_ALGO], STR_NONE, &algo));
	if (v == VERIFY_OK && !str_ieq(algo, STR("SHA256withRSA")))
		v = VERIFY_ENCODING;
	if (v == VERIFY_OK)
		v = of_fetch(builtin_paypal(in, STR(""), crc, parts));
	if (v == VERIFY_OK)
		v = verify_time(in, STR_NONE, &ret->age);
	if (v == VERIFY_OK)
		v = find_key(in, certs, &s, ret, &key);
	for (size_t i = 0; v == VERIFY_OK && i < r->secret_count; i++) {
		v = of_fetch(
		    builtin_paypal(in, str_n(r->secrets[i].bytes, r->secrets[i].len), crc, parts));
		if (v == VERIFY_OK)
			v = check(key, r->hash, parts, BUILTIN_PAYPAL_PARTS, &s);
		if (v == VERIFY_OK) {
			ret->secret = r->secrets[i].index;
			return v;
		}
		if (v == VERIFY_WRONG)
			v = VERIFY_OK; /* the next one may fit */
	}
	return v == VERIFY_OK ? found : v;
}
