/* Of a form Twilio signs the URL and the fields; of another body the hash, which stands in the
 * URL's query. The URL is tried in all the spellings that Twilio's own library tries. */
#include "weir/base/digest.h"
#include "weir/model/builtin.h"

#include "verify_priv.h"

/* All spellings are tried, also behind one that fits: the time tells nothing. */
static enum verify_verdict check_urls(const struct recipe *r, const uint8_t *mac,
                                      const struct twilio_content *c, struct verify_result *ret)
{
	enum verify_verdict verdict = VERIFY_WRONG;

	for (size_t i = 0; i < c->n; i++) {
		struct str parts[2] = {c->urls[i], c->form};
		struct verify_result found = {0};
		enum verify_verdict v = verify_macs(r, mac, parts, 2, &found);

		if (v == VERIFY_NOMEM)
			return v;
		if (v != VERIFY_OK || verdict == VERIFY_OK)
			continue;
		verdict = VERIFY_OK;
		*ret = found;
	}
	return verdict;
}

/* The hash that the query names must be the body's. */
static enum verify_verdict check_body(struct recipe_input *in, struct str hash)
{
	uint8_t named[DIGEST_MAX_LEN], real[DIGEST_MAX_LEN];
	size_t len = 0, want = digest_len(DIGEST_SHA256);

	if (hex_decode(hash, named, sizeof(named), &len) != ERR_OK || len != want)
		return VERIFY_ENCODING;
	if (digest_parts(DIGEST_SHA256, &in->request->body, 1, real) != ERR_OK)
		return VERIFY_NOMEM;
	return digest_equal(named, real, want) ? VERIFY_OK : VERIFY_WRONG;
}

enum verify_verdict verify_twilio(struct recipe_input *in, struct verify_result *ret)
{
	const struct recipe *r = in->recipe;
	uint8_t mac[PUBKEY_MAX_SIGNATURE];
	struct twilio_content content;
	struct str text, hash;
	enum verify_verdict v = verify_find(in, &text), body = VERIFY_OK;
	size_t len = 0;
	enum err e;

	if (v != VERIFY_OK)
		return v;
	if (verify_decode(r, text, mac, &len) != ERR_OK || len != digest_len(r->hash))
		return VERIFY_ENCODING;
	e = recipe_fetch(in, &r->built[TWILIO_BODY_HASH], STR_NONE, &hash);
	if (e == ERR_OK)
		body = check_body(in, hash);
	if (body != VERIFY_OK && body != VERIFY_WRONG)
		return body;
	/* Also a body that is no form is read as one: else it would not be covered at all. */
	if (e == ERR_OK || e == ERR_NOTFOUND)
		e = builtin_twilio(in, e == ERR_NOTFOUND, &content);
	if (e != ERR_OK)
		return e == ERR_INVAL ? VERIFY_MALFORMED : VERIFY_NOMEM;
	v = check_urls(r, mac, &content, ret);
	return v == VERIFY_OK ? body : v;
}
