/* Signatures are gathered first, with their encodings checked; then the timestamp is judged; then
 * MACs are compared. The timestamp's verdict is kept until the MACs were computed all the same, so
 * that the time an answer takes does not tell which of the two was wrong. Each group of signatures
 * costs a MAC per key over the body, so their number is bounded. */
#include "weir/receive/verify.h"

#include <string.h>

#include "weir/model/recipe.h"

#include "verify_priv.h"

struct candidate {
	uint8_t bytes[PUBKEY_MAX_SIGNATURE];
	size_t len;
	enum digest_algo hash;
};

struct check {
	struct recipe_input *in;
	const struct recipe *r;
	const struct recipe_source *source; /* of the signature at hand */
	struct candidate *candidates;       /* VERIFY_MAX_SIGS; those of the group at hand */
	size_t n;                           /* of candidates */
	size_t total;  /* signatures seen in the request, also badly written ones */
	size_t groups; /* signature headers, or groups in them */
	bool matched;
	size_t secret;
	usec_t age; /* of the timestamp that was out of bounds */
	bool timed; /* a signature fits, and `skew` is how far its timestamp is off */
	usec_t skew;
	enum verify_verdict worst; /* why the first group that failed did */
};

static const struct {
	int status;
	const char *reason;
	const char *detail;
} verdicts[] = {
#define VERIFY_ROW(code, status, reason, detail) [code] = {status, reason, detail},
    VERIFY_LIST(VERIFY_ROW)
#undef VERIFY_ROW
};

int verify_status(enum verify_verdict v)
{
	return verdicts[v].status;
}

const char *verify_reason(enum verify_verdict v)
{
	return verdicts[v].reason;
}

const char *verify_detail(enum verify_verdict v)
{
	return verdicts[v].detail;
}

/* ---- signatures ---- */

enum err verify_decode(const struct recipe *r, struct str text, uint8_t *out, size_t *ret_len)
{
	bool url = r->enc == RECIPE_BASE64URL;

	if (r->enc == RECIPE_HEX)
		return hex_decode(text, out, PUBKEY_MAX_SIGNATURE, ret_len);
	if (!base64_is_exact(text, url))
		return ERR_INVAL;
	return base64_decode(text, url, out, PUBKEY_MAX_SIGNATURE, ret_len);
}

static bool has_right_length(const struct recipe *r, const struct candidate *k)
{
	if (r->scheme == RECIPE_HMAC)
		return k->len == digest_len(k->hash);
	return r->scheme == RECIPE_ED25519 ? k->len == 64 : k->len > 0;
}

/* Reads the signatures of one group. Badly written ones are left out; only if nothing else is there
 * is that the verdict. */
static enum verify_verdict gather(struct check *c, struct str sig)
{
	struct str rest = recipe_signatures(c->r, sig), text;
	enum digest_algo hash;

	c->n = 0;
	while (recipe_next_signature(c->r, &rest, &text, &hash)) {
		struct candidate *k = &c->candidates[c->n];

		if (c->total++ == VERIFY_MAX_SIGS)
			return VERIFY_OVERSIZED;
		k->hash = hash;
		k->len = 0;
		if (verify_decode(c->r, text, k->bytes, &k->len) == ERR_OK &&
		    has_right_length(c->r, k))
			c->n++;
	}
	return c->n ? VERIFY_OK : VERIFY_ENCODING;
}

/* ---- timestamp ---- */

enum verify_verdict verify_window(usec_t ts, usec_t now, usec_t past, usec_t future,
                                  usec_t *ret_age)
{
	if (ts <= now ? now - ts <= past : ts - now <= future)
		return VERIFY_OK;
	*ret_age = now - ts;
	return ts < now ? VERIFY_STALE : VERIFY_FUTURE;
}

enum verify_verdict verify_time(struct recipe_input *in, struct str sig, usec_t *ret_age)
{
	const struct recipe *r = in->recipe;
	struct str text;
	usec_t ts;
	enum err e;

	if (!r->has_ts)
		return VERIFY_OK;
	e = recipe_fetch(in, &r->ts, sig, &text);
	if (e == ERR_NOTFOUND)
		return VERIFY_TS_MISSING;
	if (e != ERR_OK)
		return e == ERR_NOMEM ? VERIFY_NOMEM : VERIFY_MALFORMED;
	if (recipe_parse_ts(r->unit, text, &ts) != ERR_OK)
		return VERIFY_TS_MALFORMED;
	if (!r->enforce)
		return VERIFY_OK;
	return verify_window(ts, in->request->now, r->past, r->future, ret_age);
}

/* ---- MAC, or public key ---- */

/* All keys and all signatures, as with MACs. Nothing here is secret but which key it was. */
static enum verify_verdict compare_public(struct check *c, const struct str *parts, size_t n)
{
	bool matched = false;

	for (size_t s = 0; s < c->r->secret_count; s++) {
		for (size_t i = 0; i < c->n; i++) {
			const struct candidate *k = &c->candidates[i];
			enum err e = pubkey_verify(c->r->secrets[s].pub, c->r->hash, parts, n,
			                           str_n(k->bytes, k->len));

			if (e == ERR_NOMEM)
				return VERIFY_NOMEM;
			if (e == ERR_OK && !matched) {
				matched = true;
				c->secret = c->r->secrets[s].index;
			}
		}
	}
	return matched ? VERIFY_OK : VERIFY_WRONG;
}

/* The first key that fits, taken without a branch: no time tells which one it was. */
static void note_match(bool fits, size_t at, bool *matched, size_t *secret)
{
	size_t take = (size_t)0 - (size_t)(fits & !*matched);

	*secret = (at & take) | (*secret & ~take);
	*matched |= fits;
}

/* Compares all keys with all signatures; the first key that fits counts as the one that did. */
static enum verify_verdict compare_macs(struct check *c, const struct str *parts, size_t part_count)
{
	bool matched = false;
	size_t secret = 0;

	for (size_t s = 0; s < c->r->secret_count; s++) {
		uint8_t mac[RECIPE_HASHES][DIGEST_MAX_LEN];
		unsigned have = 0;

		for (size_t i = 0; i < c->n; i++) {
			enum digest_algo h = c->candidates[i].hash;

			if (!(have & 1u << h) && hmac_parts(c->r->secrets[s].macs[h], parts,
			                                    part_count, mac[h]) != ERR_OK)
				return VERIFY_NOMEM;
			have |= 1u << h;
			note_match(digest_equal(mac[h], c->candidates[i].bytes, digest_len(h)),
			           c->r->secrets[s].index, &matched, &secret);
		}
	}
	if (!matched)
		return VERIFY_WRONG;
	c->secret = secret;
	return VERIFY_OK;
}

enum verify_verdict verify_macs(const struct recipe *r, const uint8_t *mac, const struct str *parts,
                                size_t n, struct verify_result *ret)
{
	bool matched = false;
	size_t secret = ret->secret;

	for (size_t s = 0; s < r->secret_count; s++) {
		uint8_t real[DIGEST_MAX_LEN];

		if (hmac_parts(r->secrets[s].macs[r->hash], parts, n, real) != ERR_OK)
			return VERIFY_NOMEM;
		note_match(digest_equal(real, mac, digest_len(r->hash)), r->secrets[s].index,
		           &matched, &secret);
	}
	ret->secret = secret;
	return matched ? VERIFY_OK : VERIFY_WRONG;
}

bool verify_skew(struct recipe_input *in, struct str sig, usec_t *ret)
{
	const struct recipe *r = in->recipe;
	struct str text;
	usec_t ts;

	if (!r->has_ts || !r->enforce || recipe_fetch(in, &r->ts, sig, &text) != ERR_OK ||
	    recipe_parse_ts(r->unit, text, &ts) != ERR_OK)
		return false;
	*ret = in->request->now - ts;
	return true;
}

/* One signature header, or one group of it. */
static enum verify_verdict check_group(struct check *c, struct str sig)
{
	struct str parts[RECIPE_MAX_PARTS];
	const struct recipe_part *missing;
	size_t n = 0;
	enum verify_verdict v = gather(c, sig), time, mac;
	enum err e;

	if (v != VERIFY_OK)
		return v;
	time = verify_time(c->in, sig, &c->age);
	if (time == VERIFY_NOMEM || time == VERIFY_MALFORMED || time == VERIFY_TS_MISSING)
		return time;
	e = recipe_render(c->in, sig, parts, &n, &missing);
	if (e != ERR_OK)
		return e == ERR_NOTFOUND ? VERIFY_PART_MISSING
		       : e == ERR_INVAL  ? VERIFY_MALFORMED
		                         : VERIFY_NOMEM;
	mac = recipe_is_asymmetric(c->r->scheme) ? compare_public(c, parts, n)
	                                         : compare_macs(c, parts, n);
	if (mac == VERIFY_OK && verify_skew(c->in, sig, &c->skew))
		c->timed = true;
	return time != VERIFY_OK && mac != VERIFY_NOMEM ? time : mac;
}

static void check_header(struct check *c, struct str sig)
{
	struct str rest = sig;

	while (rest.ptr) {
		struct str group = c->r->group ? str_split(&rest, c->r->group) : rest;
		enum verify_verdict v;

		if (!c->r->group)
			rest = STR_NONE;
		v = c->groups++ < VERIFY_MAX_GROUPS ? check_group(c, group) : VERIFY_OVERSIZED;
		if (v == VERIFY_OK)
			c->matched = true;
		else if (c->worst == VERIFY_OK)
			c->worst = v;
		if (v == VERIFY_OVERSIZED)
			return;
	}
}

/* ---- schemes ---- */

enum verify_verdict verify_find(struct recipe_input *in, struct str *ret)
{
	enum err e = recipe_fetch(in, &in->recipe->sigs[0], STR_NONE, ret);

	if (e == ERR_OK)
		return ret->len > VERIFY_SIGNATURE_MAX ? VERIFY_OVERSIZED : VERIFY_OK;
	if (e == ERR_NOTFOUND)
		return VERIFY_MISSING;
	return e == ERR_NOMEM ? VERIFY_NOMEM : VERIFY_MALFORMED;
}

typedef void (*signature_fn)(struct check *c, struct str text);

/* Calls `fn` for every place of the recipe where a signature stands. */
static enum verify_verdict each_signature(struct check *c, signature_fn fn)
{
	size_t found = 0;

	for (size_t i = 0; i < c->r->sig_count; i++) {
		struct str text;
		enum err e = recipe_fetch(c->in, &c->r->sigs[i], STR_NONE, &text);

		if (e == ERR_NOMEM)
			return VERIFY_NOMEM;
		if (e == ERR_INVAL)
			return VERIFY_MALFORMED;
		if (e != ERR_OK)
			continue;
		found++;
		if (text.len > VERIFY_SIGNATURE_MAX)
			return VERIFY_OVERSIZED;
		c->source = &c->r->sigs[i];
		fn(c, text);
	}
	if (!found)
		return VERIFY_MISSING;
	if (c->matched && c->worst != VERIFY_NOMEM)
		return VERIFY_OK;
	return c->worst;
}

/* Hashes are compared, not texts: neither length nor prefix of the secret shows in the time. */
static void compare_token(struct check *c, struct str token)
{
	uint8_t digest[DIGEST_MAX_LEN];
	bool matched = false;
	size_t secret = 0;

	if (digest_parts(DIGEST_SHA256, &token, 1, digest) != ERR_OK) {
		c->worst = VERIFY_NOMEM;
		return;
	}
	for (size_t s = 0; s < c->r->secret_count; s++)
		note_match(digest_equal(digest, c->r->secrets[s].digest, digest_len(DIGEST_SHA256)),
		           c->r->secrets[s].index, &matched, &secret);
	if (matched) {
		c->matched = true;
		c->secret = secret;
	} else if (c->worst == VERIFY_OK) {
		c->worst = VERIFY_WRONG;
	}
}

/* The prefix is a header's ("Bearer "); elsewhere the token stands alone. */
static void check_token(struct check *c, struct str text)
{
	size_t skip = c->source->kind == RECIPE_SRC_HEADER ? c->r->prefix.len : 0;

	if (skip && !str_starts(text, c->r->prefix)) {
		c->worst = VERIFY_ENCODING;
		return;
	}
	compare_token(c, (struct str){text.ptr + skip, text.len - skip});
}

static void check_basic(struct check *c, struct str text)
{
	uint8_t plain[VERIFY_SIGNATURE_MAX];
	struct str scheme = str_split(&text, ' ');
	size_t len = 0;

	if (!text.ptr || !str_ieq(scheme, STR("basic")) ||
	    base64_decode(str_trim(text), false, plain, sizeof(plain), &len) != ERR_OK) {
		c->worst = VERIFY_ENCODING;
		return;
	}
	compare_token(c, str_n(plain, len));
}

enum verify_verdict verify_request(struct recipe_input *in, struct verify_result *ret)
{
	return verify_request_by(in, NULL, ret);
}

enum verify_verdict verify_request_by(struct recipe_input *in, struct cert_store *certs,
                                      struct verify_result *ret)
{
	struct candidate candidates[VERIFY_MAX_SIGS]; /* not zeroed: they are 16 KiB */
	struct check c = {.in = in, .r = in->recipe, .candidates = candidates};
	enum verify_verdict v = VERIFY_OK;

	*ret = (struct verify_result){.secret = 0};
	if (in->doubled)
		return VERIFY_DOUBLED;
	if (c.r->auth_json && recipe_input_scan(in) != ERR_OK)
		return VERIFY_NOT_JSON;
	switch (c.r->scheme) {
	case RECIPE_HMAC:
	case RECIPE_ED25519:
	case RECIPE_ECDSA_P256:
	case RECIPE_RSA_PKCS1:
		v = each_signature(&c, check_header);
		break;
	case RECIPE_TOKEN:
		v = each_signature(&c, check_token);
		break;
	case RECIPE_BASIC:
		v = each_signature(&c, check_basic);
		break;
	case RECIPE_TWILIO:
		return verify_twilio(in, ret);
	case RECIPE_JWT:
		return verify_jwt(in, ret);
	case RECIPE_SNS:
		return verify_sns(in, certs, ret);
	case RECIPE_PAYPAL:
		return verify_paypal(in, certs, ret);
	case RECIPE_NONE:
		break;
	}
	if (v != VERIFY_STALE && v != VERIFY_FUTURE) /* another group's */
		c.age = 0;
	*ret = (struct verify_result){
	    .secret = c.secret, .age = c.age, .timed = c.timed, .skew = c.skew};
	return v;
}
