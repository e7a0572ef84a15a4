/* What every provider's preset must refuse of a signature: each single bit of it flipped, cut,
 * padded, in another case or encoding, made by another hash or another scheme. Generated over all
 * data files: a new provider is in it by being there. */
#include "mutation_rig.h"

#include <ctype.h>

/* ---- flipped bits ---- */

/* The part of the signature's text that may be written in either case: hex digits, the name of a
 * hash that it begins with, and the words "Basic" and "JWT" (RFC 9110, 11.1). */
static bool case_is_free(const struct probe *p, size_t at)
{
	size_t digits = 2 * digest_len(p->r->hash);

	if (p->r->scheme == RECIPE_BASIC)
		return at < 5;
	if (p->r->scheme == RECIPE_JWT)
		return at < 3;
	if (!has_signature(p->r) || p->r->enc != RECIPE_HEX)
		return false;
	if (p->r->parse == RECIPE_METHOD)
		return true;
	return at >= p->sig.len - (p->r->scheme == RECIPE_HMAC ? digits : 128);
}

static void flip_signature(struct probe *p)
{
	char text[MAX_SIGNATURE];

	memcpy(text, p->sig.ptr, p->sig.len);
	for (size_t i = 0; i < p->sig.len; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			bool same =
			    bit == 5 && isalpha((unsigned char)text[i]) && case_is_free(p, i);

			text[i] ^= (char)(1 << bit);
			if (same)
				accepted_with(p, str_n(text, p->sig.len), "other case");
			else
				refused_with(p, str_n(text, p->sig.len), "flipped signature", i);
			text[i] ^= (char)(1 << bit);
		}
	}
}

/* %2b is %2B in a form, whose fields are signed decoded. */
static bool is_same_escape(const struct probe *p, const char *bytes, size_t i, unsigned bit)
{
	return p->r->scheme == RECIPE_TWILIO && bit == 5 && isalpha((unsigned char)bytes[i]) &&
	       ((i >= 1 && bytes[i - 1] == '%') || (i >= 2 && bytes[i - 2] == '%'));
}

static void flip(struct probe *p, struct str text, const char *what)
{
	char *bytes = (char *)(uintptr_t)text.ptr; /* of the signed request, which is ours */

	for (size_t i = 0; i < text.len; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			if (is_same_escape(p, bytes, i, bit))
				continue;
			bytes[i] ^= (char)(1 << bit);
			refused(p, what, i);
			bytes[i] ^= (char)(1 << bit);
		}
	}
}

/* Of a message of SNS some members are signed, and not the body as it stands. */
static void flip_members(struct probe *p)
{
	static const enum recipe_sns_source members[] = {SNS_TYPE,      SNS_MESSAGE, SNS_MESSAGE_ID,
	                                                 SNS_TIMESTAMP, SNS_TOPIC,   SNS_VERSION};
	struct recipe_input in;

	recipe_input_init(&in);
	recipe_input_bind(&in, p->r, &p->m.req);
	assert_int_equal(recipe_input_scan(&in), ERR_OK);
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		const struct json_pick *pick = &in.picks[p->r->built[members[i]].index];

		assert_true(pick->raw.len > 2);
		flip(p, pick->raw, "flipped member");
	}
	recipe_input_done(&in);
}

static void flip_headers(struct probe *p)
{
	for (size_t i = 0; i < p->m.req.header_count; i++)
		if (signs_header(p->r, p->m.headers[i].name))
			flip(p, p->m.headers[i].value, "flipped header");
}

static void test_flips(void **state)
{
	(void)state;
	for (size_t i = 0; i < probe_count; i++) {
		struct probe *p = &probes[i];

		accepted(p, "as signed");
		flip_signature(p);
		flip_headers(p);
		if (signs_body(p->r))
			flip(p, p->m.req.body, "flipped body");
		if (p->r->scheme == RECIPE_SNS)
			flip_members(p);
		accepted(p, "put back");
	}
}

/* ---- written otherwise ---- */

static void test_case(void **state)
{
	(void)state;
	for (size_t i = 0; i < probe_count; i++) {
		struct probe *p = &probes[i];
		char upper[MAX_SIGNATURE], all[MAX_SIGNATURE];
		bool free_case = has_signature(p->r) && p->r->enc == RECIPE_HEX;

		for (size_t k = 0; k < p->sig.len; k++) {
			all[k] = (char)toupper((unsigned char)p->sig.ptr[k]);
			upper[k] = case_is_free(p, k) ? all[k] : p->sig.ptr[k];
		}
		if (free_case)
			accepted_with(p, str_n(upper, p->sig.len), "upper case");
		if (memcmp(all, upper, p->sig.len) != 0)
			refused_with(p, str_n(all, p->sig.len), "all of it in upper case", 0);
	}
}

static void test_cut_and_padded(void **state)
{
	static const char *const behind[] = {"=",    "==",   "0",   "00", "A",
	                                     "AA==", "AAAA", "%00", "\n"};
	static const char *const before[] = {"0", "00", "A", "=", "0x", "\"", "AAAA"};
	char text[MAX_SIGNATURE + 16];

	(void)state;
	for (size_t i = 0; i < probe_count; i++) {
		struct probe *p = &probes[i];

		for (size_t n = 0; n < p->sig.len; n++) {
			refused_with(p, str_n(p->sig.ptr, n), "cut at the end", n);
			refused_with(p, str_n(p->sig.ptr + n + 1, p->sig.len - n - 1),
			             "cut in front", n);
		}
		for (size_t k = 0; k < sizeof(behind) / sizeof(behind[0]); k++) {
			snprintf(text, sizeof(text), "%.*s%s", (int)p->sig.len, p->sig.ptr,
			         behind[k]);
			if (p->r->scheme != RECIPE_BASIC || behind[k][0] != '\n')
				refused_with(p, str_of(text), "padded", k);
		}
		for (size_t k = 0; k < sizeof(before) / sizeof(before[0]); k++) {
			snprintf(text, sizeof(text), "%s%.*s", before[k], (int)p->sig.len,
			         p->sig.ptr);
			refused_with(p, str_of(text), "padded in front", k);
		}
		/* In lists each of them stands for itself. */
		if (p->r->parse == RECIPE_KV || p->r->parse == RECIPE_LIST)
			continue;
		snprintf(text, sizeof(text), "%.*s%.*s", (int)p->sig.len, p->sig.ptr,
		         (int)p->sig.len, p->sig.ptr);
		refused_with(p, str_of(text), "twice", 0);
	}
}

/* ---- other schemes ---- */

static size_t encoded_len(enum recipe_enc enc, size_t bytes)
{
	if (enc == RECIPE_HEX)
		return 2 * bytes;
	return enc == RECIPE_BASE64 ? (bytes + 2) / 3 * 4 : (bytes * 4 + 2) / 3;
}

static void add_encoded(struct buf *out, enum recipe_enc enc, const uint8_t *bytes, size_t len)
{
	char hex[2 * PUBKEY_MAX_SIGNATURE + 1];

	if (enc == RECIPE_HEX) {
		hex_encode(bytes, len, hex);
		buf_add_cstr(out, hex);
	} else {
		assert_int_equal(base64_encode(out, bytes, len, enc == RECIPE_BASE64URL), ERR_OK);
	}
}

/* The bytes behind what stands in front of the signature, in another encoding, and without what
 * stands in front. `own` bytes are the signature itself. */
static void try_bytes(struct probe *p, size_t front, const uint8_t *bytes, size_t len, bool own)
{
	struct buf out;

	buf_init(&out, MAX_SIGNATURE);
	for (enum recipe_enc enc = RECIPE_HEX; enc <= RECIPE_BASE64URL; enc++) {
		buf_reset(&out);
		buf_add(&out, p->sig.ptr, front);
		add_encoded(&out, enc, bytes, len);
		if (!own || enc != p->r->enc)
			refused_with(p, buf_str(&out), own ? "encoding" : "hash", enc);
		if (front)
			refused_with(p, str_n(out.ptr + front, out.len - front), "bare", enc);
	}
	buf_done(&out);
}

static struct recipe_input render_input;

static void other_hashes(struct probe *p, size_t front)
{
	struct str parts[RECIPE_MAX_PARTS], key;
	const struct recipe_part *missing;
	uint8_t mac[DIGEST_MAX_LEN];
	size_t n = 0;

	recipe_input_init(&render_input);
	recipe_input_bind(&render_input, p->r, &p->m.req);
	assert_int_equal(recipe_render(&render_input, p->sig, parts, &n, &missing), ERR_OK);
	key = str_n(p->r->secrets[0].bytes, p->r->secrets[0].len);
	for (enum digest_algo h = DIGEST_SHA256; h <= DIGEST_SHA512; h++) {
		struct hmac *keyed;

		assert_int_equal(hmac_new(h, key, &keyed), ERR_OK);
		assert_int_equal(hmac_parts(keyed, parts, n, mac), ERR_OK);
		try_bytes(p, front, mac, digest_len(h), h == p->r->hash);
		hmac_free(keyed);
		/* No key at all, and the key in front of what is signed. */
		assert_int_equal(digest_parts(h, parts, n, mac), ERR_OK);
		try_bytes(p, front, mac, digest_len(h), false);
		memmove(parts + 1, parts, n * sizeof(parts[0]));
		parts[0] = key;
		assert_int_equal(digest_parts(h, parts, n + 1, mac), ERR_OK);
		try_bytes(p, front, mac, digest_len(h), false);
		memmove(parts, parts + 1, n * sizeof(parts[0]));
	}
	recipe_input_done(&render_input);
}

static void test_other_schemes(void **state)
{
	static const uint8_t zero[64];
	static const uint8_t null_ecdsa[] = {0x30, 6, 2, 1, 0, 2, 1, 0};
	uint8_t bytes[PUBKEY_MAX_SIGNATURE];
	size_t len;

	(void)state;
	for (size_t i = 0; i < probe_count; i++) {
		struct probe *p = &probes[i];
		size_t front = 0;

		if (!has_signature(p->r))
			continue;
		if (p->r->scheme != RECIPE_ECDSA_P256)
			front = p->sig.len - encoded_len(p->r->enc, p->r->scheme == RECIPE_HMAC
			                                                ? digest_len(p->r->hash)
			                                                : 64);
		if (p->r->scheme == RECIPE_HMAC) {
			other_hashes(p, front);
			refused_with(p, str_n(p->r->secrets[0].bytes, p->r->secrets[0].len),
			             "the secret itself", 0);
		} else {
			struct str text = str_n(p->sig.ptr + front, p->sig.len - front);

			assert_int_equal(
			    p->r->enc == RECIPE_HEX
			        ? hex_decode(text, bytes, sizeof(bytes), &len)
			        : base64_decode(text, false, bytes, sizeof(bytes), &len),
			    ERR_OK);
			try_bytes(p, front, bytes, len, true);
			try_bytes(p, front, null_ecdsa, sizeof(null_ecdsa), false);
		}
		try_bytes(p, front, zero, sizeof(zero), false);
		try_bytes(p, front, zero, 0, false);
	}
}

/* Ed25519 signatures have one form only: S + L, which some libraries take, is refused. */
static void test_malleable(void **state)
{
	static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,
	                                  0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
	                                  0,    0,    0,    0,    0,    0,    0,    0,
	                                  0,    0,    0,    0,    0,    0,    0,    0x10};
	uint8_t bytes[64];
	size_t len, found = 0;

	(void)state;
	for (size_t i = 0; i < probe_count; i++) {
		struct probe *p = &probes[i];
		size_t front = p->sig.len - encoded_len(p->r->enc, 64);
		struct str text = str_n(p->sig.ptr + front, p->sig.len - front);
		unsigned carry = 0;
		struct buf out;

		if (p->r->scheme != RECIPE_ED25519)
			continue;
		found++;
		assert_int_equal(p->r->enc == RECIPE_HEX
		                     ? hex_decode(text, bytes, sizeof(bytes), &len)
		                     : base64_decode(text, false, bytes, sizeof(bytes), &len),
		                 ERR_OK);
		for (size_t k = 0; k < 32; k++) {
			carry += bytes[32 + k] + (unsigned)order[k];
			bytes[32 + k] = (uint8_t)carry;
			carry >>= 8;
		}
		buf_init(&out, MAX_SIGNATURE);
		buf_add(&out, p->sig.ptr, front);
		add_encoded(&out, p->r->enc, bytes, 64);
		refused_with(p, buf_str(&out), "S + L", 0);
		buf_done(&out);
	}
	assert_true(found >= 2);
}

/* Whether `p` says itself by which of several hashes it was signed, and `q` used one of them. */
static bool is_same_scheme(const struct recipe *p, const struct recipe *q)
{
	return p->parse == RECIPE_METHOD && q->scheme == RECIPE_HMAC && q->part_count == 1 &&
	       signs_body(q);
}

/* What another provider's scheme makes of the same body with the same secret. */
static void test_swapped_schemes(void **state)
{
	size_t swapped = 0;

	(void)state;
	for (size_t i = 0; i < probe_count; i++) {
		for (size_t k = 0; k < probe_count; k++) {
			struct probe *p = &probes[i], *q = &probes[k];
			struct sign_options o = {.now = NOW,
			                         .id = STR("event-17"),
			                         .body = p->m.req.body,
			                         .key = q->s.key};
			struct err_info info;
			struct signed_request foreign;
			struct probe other = {.r = q->r};

			if (recipe_sign(subject_tool(&q->s), &o, &foreign, &info) != ERR_OK)
				continue; /* its signature stands in a body of its own */
			made_of_signed(&other.m, &foreign);
			find_signature(&other);
			if (i != k && other.sig.len && !str_ieq(other.sig, p->sig) &&
			    !is_same_scheme(p->r, q->r)) {
				refused_with(p, other.sig, q->s.name, 0);
				swapped++;
			}
			signed_request_done(&foreign);
		}
	}
	assert_true(swapped > 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_flips),          cmocka_unit_test(test_case),
	    cmocka_unit_test(test_cut_and_padded), cmocka_unit_test(test_other_schemes),
	    cmocka_unit_test(test_malleable),      cmocka_unit_test(test_swapped_schemes),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
