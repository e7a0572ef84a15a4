/* Of a form Twilio signs the URL and the fields; of another body the hash, which stands in the
 * URL's query. The URL is tried with its port and without, as Twilio's own libraries do. */
#include "weir/base/digest.h"
#include "weir/model/builtin.h"

#include "verify_priv.h"

static enum verify_verdict check_url(struct recipe_input *in, const uint8_t *mac, struct str form,
                                     struct verify_result *ret)
{
	struct verify_result with = {0}, without = {0};
	struct str parts[BUILTIN_TWILIO_PARTS];
	enum verify_verdict a, b;
	size_t n = builtin_twilio(in, false, form, parts);

	a = verify_macs(in->recipe, mac, parts, n, &without);
	n = builtin_twilio(in, true, form, parts);
	b = verify_macs(in->recipe, mac, parts, n, &with);
	*ret = a == VERIFY_OK ? without : with;
	return a == VERIFY_WRONG ? b : a;
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

/* What is signed behind the URL. Also a body that is no form is read as one: else it would not be
 * covered at all. */
static enum verify_verdict make_form(struct recipe_input *in, struct str *ret)
{
	struct buf *b = recipe_scratch(in);
	enum err e = recipe_add_form(in, in->request->body, b);

	*ret = b->len ? buf_str(b) : STR("");
	return e == ERR_OK ? VERIFY_OK : e == ERR_INVAL ? VERIFY_MALFORMED : VERIFY_NOMEM;
}

enum verify_verdict verify_twilio(struct recipe_input *in, struct verify_result *ret)
{
	const struct recipe *r = in->recipe;
	uint8_t mac[PUBKEY_MAX_SIGNATURE];
	struct str text, hash, form = STR("");
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
	else if (e == ERR_NOTFOUND)
		v = make_form(in, &form);
	else
		v = e == ERR_INVAL ? VERIFY_MALFORMED : VERIFY_NOMEM;
	if (v != VERIFY_OK || (body != VERIFY_OK && body != VERIFY_WRONG))
		return v != VERIFY_OK ? v : body;
	v = check_url(in, mac, form, ret);
	return v == VERIFY_OK ? body : v;
}
