/* Algorithms are fetched from OpenSSL at first use and kept for the life of the process, together
 * with one context each; a MAC's context stays keyed and is only restarted. Fetching and keying per
 * request would cost several times the hash of a small body.
 *
 * OpenSSL 3's EVP makes a digest's state anew each time and frees it, which takes as long as the
 * digest of an event's key. The interface that it deprecates runs the same code on state of ours;
 * it serves SHA-256, which nearly everybody signs with. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "weir/base/digest.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "weir/base/mem.h"

static const struct {
	const char *name;
	const char *openssl_name;
	size_t len;
} algos[] = {
    [DIGEST_SHA256] = {"sha256", "SHA256", 32},
    [DIGEST_SHA1] = {"sha1", "SHA1", 20},
    [DIGEST_SHA512] = {"sha512", "SHA512", 64},
};
#define ALGO_COUNT (sizeof(algos) / sizeof(algos[0]))

#define GATHERED 256

struct hasher {
	EVP_MD *md;
	EVP_MD_CTX *ctx;
};

static struct hasher hashers[ALGO_COUNT];
static EVP_MAC *hmac_method;

struct hmac {
	EVP_MAC_CTX *ctx;        /* owned; keyed. NULL: SHA-256 */
	SHA256_CTX inner, outer; /* else unused; either has taken its block of the key in */
	size_t len;              /* of its result */
};

size_t digest_len(enum digest_algo algo)
{
	return algos[algo].len;
}

const char *digest_name(enum digest_algo algo)
{
	return algos[algo].name;
}

/* The library's error queue belongs to the thread: what is left there would be taken for the next
 * TLS call's. All that can fail here is memory. */
static enum err refused(void)
{
	ERR_clear_error();
	return ERR_NOMEM;
}

static enum err get_hasher(enum digest_algo algo, struct hasher **ret)
{
	struct hasher *h = &hashers[algo];

	if (!h->md)
		h->md = EVP_MD_fetch(NULL, algos[algo].openssl_name, NULL);
	if (h->md && !h->ctx)
		h->ctx = EVP_MD_CTX_new();
	if (!h->ctx)
		return refused();
	*ret = h;
	return ERR_OK;
}

/* Parts that are short together go in as one: each call costs as much as a block's digest. False:
 * they are not. */
static bool gather(const struct str *parts, size_t n, char text[GATHERED], size_t *ret_len)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		if (parts[i].len > GATHERED - len)
			return false;
		if (parts[i].len > 0)
			memcpy(text + len, parts[i].ptr, parts[i].len);
		len += parts[i].len;
	}
	*ret_len = len;
	return true;
}

/* Goes on from where `c` is. */
static enum err sha256_rest(SHA256_CTX *c, const struct str *parts, size_t n, uint8_t *out)
{
	bool done = true;

	for (size_t i = 0; i < n; i++)
		done = done && SHA256_Update(c, parts[i].ptr, parts[i].len) == 1;
	return done && SHA256_Final(out, c) == 1 ? ERR_OK : refused();
}

static enum err sha256(const struct str *parts, size_t n, uint8_t *out)
{
	SHA256_CTX c;

	return SHA256_Init(&c) == 1 ? sha256_rest(&c, parts, n, out) : refused();
}

enum err digest_parts(enum digest_algo algo, const struct str *parts, size_t n, uint8_t *out)
{
	char text[GATHERED];
	struct str all = {text, 0};
	struct hasher *h;

	if (n > 1 && gather(parts, n, text, &all.len)) {
		parts = &all;
		n = 1;
	}
	if (algo == DIGEST_SHA256)
		return sha256(parts, n, out);
	if (get_hasher(algo, &h))
		return ERR_NOMEM;
	if (EVP_DigestInit_ex2(h->ctx, h->md, NULL) != 1)
		return refused();
	for (size_t i = 0; i < n; i++) {
		if (EVP_DigestUpdate(h->ctx, parts[i].ptr, parts[i].len) != 1)
			return refused();
	}
	if (EVP_DigestFinal_ex(h->ctx, out, NULL) != 1)
		return refused();
	return ERR_OK;
}

static EVP_MAC_CTX *new_mac_ctx(enum digest_algo algo, struct str key)
{
	char name[8];
	OSSL_PARAM params[2] = {OSSL_PARAM_END, OSSL_PARAM_END};
	EVP_MAC_CTX *ctx;

	if (!hmac_method)
		hmac_method = EVP_MAC_fetch(NULL, "HMAC", NULL);
	ctx = hmac_method ? EVP_MAC_CTX_new(hmac_method) : NULL;
	if (!ctx)
		return NULL;
	memcpy(name, algos[algo].openssl_name, strlen(algos[algo].openssl_name) + 1);
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0);
	/* A NULL key would mean "keep the key". */
	if (EVP_MAC_init(ctx, (const unsigned char *)(key.len ? key.ptr : ""), key.len, params) !=
	    1) {
		EVP_MAC_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

/* RFC 2104, section 2, up to where the text comes in: a block of the key, each byte with `pad`. */
static bool key_sha256(SHA256_CTX *c, const uint8_t key[SHA256_CBLOCK], uint8_t pad)
{
	uint8_t block[SHA256_CBLOCK];
	bool done;

	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = key[i] ^ pad;
	done = SHA256_Init(c) == 1 && SHA256_Update(c, block, sizeof(block)) == 1;
	OPENSSL_cleanse(block, sizeof(block));
	return done;
}

static bool key_hmac_sha256(struct hmac *h, struct str key)
{
	uint8_t block[SHA256_CBLOCK] = {0};
	SHA256_CTX c;
	bool done = SHA256_Init(&c) == 1;

	if (key.len > sizeof(block))
		done = done && sha256_rest(&c, &key, 1, block) == ERR_OK;
	else if (key.len)
		memcpy(block, key.ptr, key.len);
	done = done && key_sha256(&h->inner, block, 0x36) && key_sha256(&h->outer, block, 0x5c);
	OPENSSL_cleanse(block, sizeof(block));
	OPENSSL_cleanse(&c, sizeof(c));
	return done;
}

enum err hmac_new(enum digest_algo algo, struct str key, struct hmac **ret)
{
	struct hmac *h = mem_zalloc(sizeof(*h));

	if (!h)
		return ERR_NOMEM;
	h->len = algos[algo].len;
	if (algo != DIGEST_SHA256)
		h->ctx = new_mac_ctx(algo, key);
	if (algo == DIGEST_SHA256 ? !key_hmac_sha256(h, key) : !h->ctx) {
		mem_wipe_free(h, sizeof(*h));
		return refused();
	}
	*ret = h;
	return ERR_OK;
}

void hmac_free(struct hmac *h)
{
	if (!h)
		return;
	EVP_MAC_CTX_free(h->ctx);
	mem_wipe_free(h, sizeof(*h));
}

static enum err hmac_sha256(const struct hmac *h, const struct str *parts, size_t n, uint8_t *out)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];
	struct str inner = str_n(digest, sizeof(digest));
	SHA256_CTX c = h->inner;
	enum err e = sha256_rest(&c, parts, n, digest);

	if (e != ERR_OK)
		return e;
	c = h->outer;
	return sha256_rest(&c, &inner, 1, out);
}

enum err hmac_parts(struct hmac *h, const struct str *parts, size_t n, uint8_t *out)
{
	size_t len;

	if (!h->ctx)
		return hmac_sha256(h, parts, n, out);
	if (EVP_MAC_init(h->ctx, NULL, 0, NULL) != 1)
		return refused();
	for (size_t i = 0; i < n; i++) {
		if (EVP_MAC_update(h->ctx, (const unsigned char *)parts[i].ptr, parts[i].len) != 1)
			return refused();
	}
	if (EVP_MAC_final(h->ctx, out, &len, h->len) != 1)
		return refused();
	return ERR_OK;
}

bool digest_equal(const void *a, const void *b, size_t len)
{
	return len == 0 || CRYPTO_memcmp(a, b, len) == 0;
}

void hex_encode(const uint8_t *p, size_t len, char *out)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		*out++ = hex[p[i] >> 4];
		*out++ = hex[p[i] & 15];
	}
	*out = '\0';
}

/* The values of digits, plus one; 0: it is none. Tables, so that no branch depends on what is read:
 * a processor that learns the digits of the right signature would read a guess faster that begins
 * like it. */
#define AT(c, value) [c] = (value) + 1
#define TEN(c, value)                                                                   \
	AT(c, value), AT(c + 1, value + 1), AT(c + 2, value + 2), AT(c + 3, value + 3), \
	    AT(c + 4, value + 4), AT(c + 5, value + 5), AT(c + 6, value + 6),           \
	    AT(c + 7, value + 7), AT(c + 8, value + 8), AT(c + 9, value + 9)
#define SIX(c, value)                                                                   \
	AT(c, value), AT(c + 1, value + 1), AT(c + 2, value + 2), AT(c + 3, value + 3), \
	    AT(c + 4, value + 4), AT(c + 5, value + 5)
#define LETTERS(c, value) TEN(c, value), TEN(c + 10, value + 10), SIX(c + 20, value + 20)

static const uint8_t hex_values[256] = {TEN('0', 0), SIX('a', 10), SIX('A', 10)};
static const uint8_t base64_values[2][256] = {
    {LETTERS('A', 0), LETTERS('a', 26), TEN('0', 52), AT('+', 62), AT('/', 63)},
    {LETTERS('A', 0), LETTERS('a', 26), TEN('0', 52), AT('-', 62), AT('_', 63)}};

static int hex_value(char c)
{
	return hex_values[(uint8_t)c] - 1;
}

enum err hex_decode(struct str s, uint8_t *out, size_t space, size_t *ret_len)
{
	int high, low;

	if (s.len % 2)
		return ERR_INVAL;
	if (s.len / 2 > space)
		return ERR_TOOBIG;
	for (size_t i = 0; i < s.len; i += 2) {
		high = hex_value(s.ptr[i]);
		low = hex_value(s.ptr[i + 1]);
		if (high < 0 || low < 0)
			return ERR_INVAL;
		out[i / 2] = (uint8_t)(high << 4 | low);
	}
	*ret_len = s.len / 2;
	return ERR_OK;
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

enum err base64_encode(struct buf *out, const void *p, size_t len, bool url)
{
	const char *digits = base64_digits + (url ? 64 : 0);
	const uint8_t *from = p;
	char text[4];
	uint32_t bits;
	size_t n;

	for (size_t i = 0; i < len; i += 3) {
		n = len - i < 3 ? len - i : 3;
		bits = (uint32_t)from[i] << 16;
		bits |= n > 1 ? (uint32_t)from[i + 1] << 8 : 0;
		bits |= n > 2 ? from[i + 2] : 0;
		text[0] = digits[bits >> 18];
		text[1] = digits[bits >> 12 & 63];
		text[2] = n > 1 ? digits[bits >> 6 & 63] : '=';
		text[3] = n > 2 ? digits[bits & 63] : '=';
		if (buf_add(out, text, url ? n + 1 : 4))
			return out->err;
	}
	return out->err;
}

static int base64_value(char c, bool url)
{
	return base64_values[url][(uint8_t)c] - 1;
}

/* Cuts the padding off; with any, or where it is required, the length must be whole quartets. */
static enum err cut_padding(struct str *s, bool url)
{
	size_t all = s->len;

	while (s->len && all - s->len < 2 && s->ptr[s->len - 1] == '=')
		s->len--;
	if ((!url || s->len != all) && all % 4)
		return ERR_INVAL;
	return s->len % 4 == 1 ? ERR_INVAL : ERR_OK;
}

enum err base64_decode(struct str s, bool url, uint8_t *out, size_t space, size_t *ret_len)
{
	uint32_t bits = 0;
	size_t len;
	int value, have = 0;

	if (cut_padding(&s, url))
		return ERR_INVAL;
	len = s.len / 4 * 3 + s.len % 4 * 3 / 4;
	if (len > space)
		return ERR_TOOBIG;
	for (size_t i = 0; i < s.len; i++) {
		value = base64_value(s.ptr[i], url);
		if (value < 0)
			return ERR_INVAL;
		bits = bits << 6 | (uint32_t)value;
		have += 6;
		if (have >= 8) {
			have -= 8;
			*out++ = (uint8_t)(bits >> have);
		}
	}
	*ret_len = len;
	return ERR_OK;
}

bool base64_is_exact(struct str s, bool url)
{
	int last =
	    cut_padding(&s, url) == ERR_OK && s.len ? base64_value(s.ptr[s.len - 1], url) : 0;

	return !(s.len % 4 == 2 && last & 15) && !(s.len % 4 == 3 && last & 3);
}
