/* SNS and PayPal: the signature is an RSA key's, and the key that of a certificate that lies where
 * the request says. So the URL is judged like a signature's part, and everything else that can be
 * wrong is found before anything is fetched. But for the time: whether it is the sender's or ours
 * that is wrong, only an authentic request tells, and who wants a certificate fetched writes the
 * right time as easily. */
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

static bool is_untimely(enum verify_verdict time)
{
	return time == VERIFY_STALE || time == VERIFY_FUTURE;
}

/* The verdict of a request whose signature's is `v` and whose timestamp's is `time`. Without a
 * store no certificate will come, and the time is all that can be said. */
static enum verify_verdict conclude(struct recipe_input *in, const struct cert_store *certs,
                                    enum verify_verdict time, enum verify_verdict v,
                                    struct verify_result *ret)
{
	if (v == VERIFY_OK)
		ret->timed = verify_skew(in, STR_NONE, &ret->skew);
	if (is_untimely(time) &&
	    (v == VERIFY_OK || v == VERIFY_WRONG || (v == VERIFY_CERT && !certs)))
		return time;
	ret->age = 0;
	return v;
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
	enum verify_verdict v = read_signature(in, SNS_CERT_URL, &s), time = VERIFY_OK;

	if (v == VERIFY_OK)
		v = of_fetch(builtin_sns(in, b, &hash));
	if (v == VERIFY_OK)
		v = of_fetch(recipe_fetch(in, &in->recipe->built[SNS_TOPIC], STR_NONE, &topic));
	if (v == VERIFY_OK)
		time = verify_time(in, STR_NONE, &ret->age);
	if (time != VERIFY_OK && !is_untimely(time))
		return time;
	if (v == VERIFY_OK && !is_topic(in->recipe, topic, ret))
		v = VERIFY_WRONG;
	if (v == VERIFY_OK)
		v = find_key(in, certs, &s, ret, &key);
	if (v == VERIFY_OK) {
		content = buf_str(b);
		v = check(key, hash, &content, 1, &s);
	}
	return conclude(in, certs, time, v, ret);
}

/* ---- PayPal ---- */

/* One of the webhook's ids must be the one that was signed. */
static enum verify_verdict check_ids(struct recipe_input *in, struct pubkey *key,
                                     const struct signature *s, struct verify_result *ret)
{
	const struct recipe *r = in->recipe;
	struct str parts[BUILTIN_PAYPAL_PARTS];
	char crc[16];

	for (size_t i = 0; i < r->secret_count; i++) {
		struct str id = str_n(r->secrets[i].bytes, r->secrets[i].len);
		enum verify_verdict v = of_fetch(builtin_paypal(in, id, crc, parts));

		if (v == VERIFY_OK)
			v = check(key, r->hash, parts, BUILTIN_PAYPAL_PARTS, s);
		if (v == VERIFY_OK)
			ret->secret = r->secrets[i].index;
		if (v != VERIFY_WRONG)
			return v;
	}
	return VERIFY_WRONG;
}

enum verify_verdict verify_paypal(struct recipe_input *in, struct cert_store *certs,
                                  struct verify_result *ret)
{
	const struct recipe *r = in->recipe;
	struct str algo;
	struct signature s;
	struct pubkey *key;
	char crc[16];
	struct str parts[BUILTIN_PAYPAL_PARTS];
	enum verify_verdict v = read_signature(in, PAYPAL_CERT_URL, &s), time = VERIFY_OK;

	if (v == VERIFY_OK)
		v = of_fetch(recipe_fetch(in, &r->built[PAYPAL_ALGO], STR_NONE, &algo));
	if (v == VERIFY_OK && !str_ieq(algo, STR("SHA256withRSA")))
		v = VERIFY_ENCODING;
	if (v == VERIFY_OK)
		v = of_fetch(builtin_paypal(in, STR(""), crc, parts));
	if (v == VERIFY_OK)
		time = verify_time(in, STR_NONE, &ret->age);
	if (time != VERIFY_OK && !is_untimely(time))
		return time;
	if (v == VERIFY_OK)
		v = find_key(in, certs, &s, ret, &key);
	if (v == VERIFY_OK)
		v = check_ids(in, key, &s, ret);
	return conclude(in, certs, time, v, ret);
}
