/* Atlassian's tokens: a JWT (RFC 7519) that is signed with the shared secret, HS256 and nothing
 * else, whatever the token itself says, and whose claim `qsh` is a hash over method, path and query
 * of the request. */
#include "weir/base/digest.h"
#include "weir/model/builtin.h"

#include "verify_priv.h"

#define LEEWAY    (30 * USEC_PER_SEC) /* between their clock and ours */
#define TOKEN_MAX VERIFY_SIGNATURE_MAX

enum { HEADER_ALG, HEADER_CRIT, HEADER_COUNT };
enum { CLAIM_EXP, CLAIM_IAT, CLAIM_NBF, CLAIM_QSH, CLAIM_COUNT };

struct token {
	struct str content; /* what is signed */
	struct str header, claims, signature;
	uint8_t mac[PUBKEY_MAX_SIGNATURE];
	uint8_t qsh[DIGEST_MAX_LEN];
	struct json_pick picks[CLAIM_COUNT];
	uint8_t text[TOKEN_MAX]; /* the claims, decoded; `picks` point into it */
};

/* ---- structure ---- */

static bool split_token(struct str text, struct token *t)
{
	struct str rest = text, scheme = str_split(&rest, ' ');

	if (!rest.ptr || !(str_ieq(scheme, STR("JWT")) || str_ieq(scheme, STR("Bearer"))))
		return false;
	text = rest = str_trim(rest);
	t->header = str_split(&rest, '.');
	t->claims = rest.ptr ? str_split(&rest, '.') : STR_NONE;
	t->signature = rest;
	if (!rest.ptr || memchr(rest.ptr, '.', rest.len))
		return false;
	t->content = str_n(text.ptr, t->header.len + 1 + t->claims.len);
	return true;
}

static bool read_json(struct str text, const struct json_paths *paths, uint8_t *out,
                      struct json_pick *picks)
{
	size_t len = 0;

	return base64_decode(text, true, out, TOKEN_MAX, &len) == ERR_OK && len > 0 &&
	       out[0] == '{' && json_scan(str_n(out, len), paths, picks, NULL) == ERR_OK;
}

static bool is_digest(const struct json_pick *p, uint8_t *out)
{
	size_t len = 0;

	return p->kind == JSON_KIND_STRING &&
	       hex_decode(str_n(p->raw.ptr + 1, p->raw.len - 2), out, DIGEST_MAX_LEN, &len) ==
	           ERR_OK &&
	       len == digest_len(DIGEST_SHA256);
}

static enum verify_verdict read_token(struct recipe_input *in, struct str text, struct token *t)
{
	const struct recipe *r = in->recipe;
	struct json_pick head[HEADER_COUNT];
	size_t len = 0;

	if (!split_token(text, t) || !read_json(t->header, r->inner[0], t->text, head) ||
	    !str_eq(head[HEADER_ALG].raw, STR("\"HS256\"")) ||
	    head[HEADER_CRIT].kind != JSON_KIND_ABSENT)
		return VERIFY_ENCODING;
	/* Without padding (RFC 7515, 2). */
	if (memchr(t->signature.ptr, '=', t->signature.len) ||
	    verify_decode(r, t->signature, t->mac, &len) != ERR_OK || len != digest_len(r->hash))
		return VERIFY_ENCODING;
	if (!read_json(t->claims, r->inner[1], t->text, t->picks))
		return VERIFY_ENCODING;
	if (t->picks[CLAIM_QSH].kind == JSON_KIND_ABSENT)
		return VERIFY_PART_MISSING;
	return is_digest(&t->picks[CLAIM_QSH], t->qsh) ? VERIFY_OK : VERIFY_ENCODING;
}

/* ---- time ---- */

static enum verify_verdict read_time(const struct json_pick *p, usec_t *ret)
{
	if (p->kind == JSON_KIND_ABSENT)
		return VERIFY_TS_MISSING;
	return p->kind == JSON_KIND_NUMBER && recipe_parse_ts(RECIPE_SECONDS, p->raw, ret) == ERR_OK
	           ? VERIFY_OK
	           : VERIFY_TS_MALFORMED;
}

/* *ret_skew is set where the token says when it was issued. */
static enum verify_verdict judge_time(const struct token *t, usec_t now, usec_t *ret_age,
                                      usec_t *ret_skew)
{
	usec_t exp, iat, nbf = 0;
	enum verify_verdict v = read_time(&t->picks[CLAIM_EXP], &exp);

	if (v == VERIFY_OK)
		v = read_time(&t->picks[CLAIM_IAT], &iat);
	if (v == VERIFY_OK && t->picks[CLAIM_NBF].kind != JSON_KIND_ABSENT)
		v = read_time(&t->picks[CLAIM_NBF], &nbf);
	if (v != VERIFY_OK)
		return v;
	*ret_skew = now - iat;
	if (nbf > iat)
		iat = nbf;
	v = verify_window(iat, now, USEC_NEVER, LEEWAY, ret_age);
	return v == VERIFY_OK ? verify_window(exp, now, LEEWAY, USEC_NEVER, ret_age) : v;
}

/* ---- qsh ---- */

static enum verify_verdict check_qsh(struct recipe_input *in, const struct token *t)
{
	struct buf *b = recipe_scratch(in);
	enum err e = builtin_jwt_request(in, b);
	uint8_t digest[DIGEST_MAX_LEN];
	struct str text = buf_str(b);

	if (e == ERR_OK)
		e = digest_parts(DIGEST_SHA256, &text, 1, digest);
	if (e != ERR_OK)
		return e == ERR_INVAL ? VERIFY_MALFORMED : VERIFY_NOMEM;
	return digest_equal(digest, t->qsh, digest_len(DIGEST_SHA256)) ? VERIFY_OK : VERIFY_WRONG;
}

enum verify_verdict verify_jwt(struct recipe_input *in, struct verify_result *ret)
{
	struct token t;
	struct str text;
	enum verify_verdict v = verify_find(in, &text), time, qsh;
	usec_t age = 0, skew = 0;

	if (v == VERIFY_OK)
		v = read_token(in, text, &t);
	if (v != VERIFY_OK)
		return v;
	time = judge_time(&t, in->request->now, &age, &skew);
	if (time == VERIFY_TS_MISSING || time == VERIFY_TS_MALFORMED)
		return time;
	qsh = check_qsh(in, &t);
	if (qsh != VERIFY_OK && qsh != VERIFY_WRONG)
		return qsh;
	v = verify_macs(in->recipe, t.mac, &t.content, 1, ret);
	if (v == VERIFY_OK && qsh == VERIFY_OK) {
		ret->timed = true;
		ret->skew = skew;
	}
	if (time != VERIFY_OK && v != VERIFY_NOMEM) {
		ret->age = age;
		return time;
	}
	return v == VERIFY_OK ? qsh : v;
}
