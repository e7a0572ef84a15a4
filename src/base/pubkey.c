/* Ed25519 signs a message as a whole, in two passes over it, so its pieces are put together first;
 * the others take them one by one. What OpenSSL finds wrong with a signature is one answer: "not
 * signed by this key". */
#include "weir/base/pubkey.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "weir/base/mem.h"

#include "pubkey_priv.h"

#define MAX_MESSAGE  ((size_t)1024 * 1024 * 1024)
#define RSA_BITS     2048
#define MAX_KEY_TEXT (64 * 1024)

struct pubkey {
	enum pubkey_kind kind;
	EVP_PKEY *key;    /* owned */
	EVP_MD_CTX *ctx;  /* owned */
	struct buf whole; /* Ed25519: the message in one piece */
};

static enum err failed(enum err e)
{
	ERR_clear_error();
	return e;
}

static const EVP_MD *md_of(enum pubkey_kind kind, enum digest_algo hash)
{
	if (kind == PUBKEY_ED25519)
		return NULL;
	if (kind == PUBKEY_ECDSA_P256)
		return EVP_sha256();
	switch (hash) {
	case DIGEST_SHA1:
		return EVP_sha1();
	case DIGEST_SHA256:
		return EVP_sha256();
	case DIGEST_SHA512:
		return EVP_sha512();
	}
	return NULL;
}

/* ---- reading keys ---- */

static EVP_PKEY *read_pem(enum pubkey_form form, struct str text)
{
	BIO *bio = BIO_new_mem_buf(text.ptr, (int)text.len);
	EVP_PKEY *key = NULL;
	X509 *cert;

	if (!bio)
		return NULL;
	if (form == PUBKEY_PEM) {
		key = PEM_read_bio_PUBKEY(bio, NULL, NULL, PUBKEY_NO_PASSPHRASE);
	} else {
		cert = PEM_read_bio_X509(bio, NULL, NULL, PUBKEY_NO_PASSPHRASE);
		key = cert ? X509_get_pubkey(cert) : NULL;
		X509_free(cert);
	}
	BIO_free(bio);
	return key;
}

static EVP_PKEY *read_der(struct str text)
{
	const unsigned char *p = (const unsigned char *)text.ptr;
	EVP_PKEY *key = d2i_PUBKEY(NULL, &p, (long)text.len);

	if (key && p != (const unsigned char *)text.ptr + text.len) {
		EVP_PKEY_free(key);
		return NULL;
	}
	return key;
}

static EVP_PKEY *read_key(enum pubkey_kind kind, enum pubkey_form form, struct str text)
{
	switch (form) {
	case PUBKEY_RAW:
		return kind == PUBKEY_ED25519
		           ? EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL,
		                                         (const unsigned char *)text.ptr, text.len)
		           : NULL;
	case PUBKEY_DER:
		return read_der(text);
	case PUBKEY_PEM:
	case PUBKEY_CERT:
		return read_pem(form, text);
	}
	return NULL;
}

static bool is_p256(const EVP_PKEY *key)
{
	char name[64];
	size_t len;

	return EVP_PKEY_get_group_name(key, name, sizeof(name), &len) == 1 &&
	       str_eq(str_n(name, len), STR("prime256v1"));
}

static bool is_of_kind(const EVP_PKEY *key, enum pubkey_kind kind)
{
	switch (kind) {
	case PUBKEY_ED25519:
		return EVP_PKEY_is_a(key, "ED25519");
	case PUBKEY_ECDSA_P256:
		return EVP_PKEY_is_a(key, "EC") && is_p256(key);
	case PUBKEY_RSA:
		return EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_bits(key) >= PUBKEY_MIN_RSA_BITS;
	}
	return false;
}

enum err pubkey_new(enum pubkey_kind kind, enum pubkey_form form, struct str text,
                    struct pubkey **ret)
{
	struct pubkey *k;
	EVP_PKEY *key;

	if (text.len == 0 || text.len > 64 * 1024)
		return ERR_INVAL;
	key = read_key(kind, form, text);
	if (!key || !is_of_kind(key, kind)) {
		EVP_PKEY_free(key);
		return failed(ERR_INVAL);
	}
	k = mem_zalloc(sizeof(*k));
	if (!k) {
		EVP_PKEY_free(key);
		return ERR_NOMEM;
	}
	k->kind = kind;
	k->key = key;
	buf_init(&k->whole, MAX_MESSAGE);
	k->ctx = EVP_MD_CTX_new();
	if (!k->ctx) {
		pubkey_free(k);
		return failed(ERR_NOMEM);
	}
	*ret = k;
	return ERR_OK;
}

void pubkey_free(struct pubkey *k)
{
	if (!k)
		return;
	EVP_MD_CTX_free(k->ctx);
	EVP_PKEY_free(k->key);
	buf_done(&k->whole);
	mem_free(k);
}

/* ---- verifying ---- */

static enum err join(struct buf *out, const struct str *parts, size_t n)
{
	buf_reset(out);
	for (size_t i = 0; i < n; i++)
		if (buf_add_str(out, parts[i]) != ERR_OK)
			return ERR_NOMEM;
	return ERR_OK;
}

static enum err verify_whole(struct pubkey *k, const struct str *parts, size_t n, struct str sig)
{
	int rc;

	if (join(&k->whole, parts, n) != ERR_OK)
		return ERR_NOMEM;
	rc = EVP_DigestVerify(k->ctx, (const unsigned char *)sig.ptr, sig.len,
	                      (const unsigned char *)(k->whole.len ? k->whole.ptr : ""),
	                      k->whole.len);
	if (k->whole.space > 64 * 1024) {
		buf_done(&k->whole);
		buf_init(&k->whole, MAX_MESSAGE);
	}
	return rc == 1 ? ERR_OK : failed(ERR_DENIED);
}

enum err pubkey_verify(struct pubkey *k, enum digest_algo hash, const struct str *parts, size_t n,
                       struct str sig)
{
	if (sig.len == 0 || sig.len > PUBKEY_MAX_SIGNATURE)
		return ERR_DENIED;
	EVP_MD_CTX_reset(k->ctx);
	if (EVP_DigestVerifyInit(k->ctx, NULL, md_of(k->kind, hash), NULL, k->key) != 1)
		return failed(ERR_NOMEM);
	if (k->kind == PUBKEY_ED25519)
		return verify_whole(k, parts, n, sig);
	for (size_t i = 0; i < n; i++)
		if (parts[i].len && EVP_DigestVerifyUpdate(k->ctx, parts[i].ptr, parts[i].len) != 1)
			return failed(ERR_NOMEM);
	return EVP_DigestVerifyFinal(k->ctx, (const unsigned char *)sig.ptr, sig.len) == 1
	           ? ERR_OK
	           : failed(ERR_DENIED);
}

/* ---- throw-away pairs ---- */

enum err keypair_new(enum pubkey_kind kind, struct keypair **ret)
{
	struct keypair *k = mem_zalloc(sizeof(*k));

	if (!k)
		return ERR_NOMEM;
	k->kind = kind;
	switch (kind) {
	case PUBKEY_ED25519:
		k->key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
		break;
	case PUBKEY_ECDSA_P256:
		k->key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
		break;
	case PUBKEY_RSA:
		k->key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)RSA_BITS);
		break;
	}
	if (!k->key) {
		mem_free(k);
		return failed(ERR_NOMEM);
	}
	*ret = k;
	return ERR_OK;
}

void keypair_free(struct keypair *k)
{
	if (!k)
		return;
	EVP_PKEY_free(k->key);
	mem_free(k);
}

static enum err add_bio(BIO *bio, bool written, struct buf *out)
{
	char *data;
	long len = written ? BIO_get_mem_data(bio, &data) : 0;

	return len > 0 ? buf_add(out, data, (size_t)len) : failed(ERR_NOMEM);
}

enum err keypair_public(const struct keypair *k, enum pubkey_form form, struct buf *out)
{
	unsigned char raw[32];
	size_t len = sizeof(raw);
	enum err e;
	BIO *bio;

	if (form == PUBKEY_RAW)
		return EVP_PKEY_get_raw_public_key(k->key, raw, &len) == 1 ? buf_add(out, raw, len)
		                                                           : failed(ERR_INVAL);
	bio = BIO_new(BIO_s_mem());
	if (!bio)
		return failed(ERR_NOMEM);
	if (form == PUBKEY_DER)
		e = add_bio(bio, i2d_PUBKEY_bio(bio, k->key) == 1, out);
	else if (form == PUBKEY_PEM)
		e = add_bio(bio, PEM_write_bio_PUBKEY(bio, k->key) == 1, out);
	else
		e = ERR_INVAL;
	BIO_free(bio);
	return e;
}

enum err keypair_read(enum pubkey_kind kind, struct str pem, struct keypair **ret)
{
	struct keypair *k = mem_zalloc(sizeof(*k));
	BIO *bio = k && pem.len <= MAX_KEY_TEXT ? BIO_new_mem_buf(pem.ptr, (int)pem.len) : NULL;

	if (!bio) {
		mem_free(k);
		return k ? failed(ERR_INVAL) : ERR_NOMEM;
	}
	k->kind = kind;
	k->key = PEM_read_bio_PrivateKey(bio, NULL, NULL, PUBKEY_NO_PASSPHRASE);
	BIO_free(bio);
	if (!k->key || !is_of_kind(k->key, kind)) {
		keypair_free(k);
		return failed(ERR_INVAL);
	}
	*ret = k;
	return ERR_OK;
}

enum err keypair_write(const struct keypair *k, struct buf *out)
{
	BIO *bio = BIO_new(BIO_s_secmem());
	enum err e;

	if (!bio)
		return failed(ERR_NOMEM);
	e = add_bio(bio, PEM_write_bio_PKCS8PrivateKey(bio, k->key, NULL, NULL, 0, NULL, NULL) == 1,
	            out);
	BIO_free(bio);
	return e;
}

enum err keypair_sign(struct keypair *k, enum digest_algo hash, const struct str *parts, size_t n,
                      struct buf *out)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char sig[PUBKEY_MAX_SIGNATURE];
	size_t len = sizeof(sig);
	struct buf whole;
	enum err e = ERR_NOMEM;

	buf_init(&whole, MAX_MESSAGE);
	if (ctx && join(&whole, parts, n) == ERR_OK &&
	    EVP_DigestSignInit(ctx, NULL, md_of(k->kind, hash), NULL, k->key) == 1 &&
	    EVP_DigestSign(ctx, sig, &len, (const unsigned char *)(whole.len ? whole.ptr : ""),
	                   whole.len) == 1)
		e = buf_add(out, sig, len);
	EVP_MD_CTX_free(ctx);
	buf_done(&whole);
	return e == ERR_OK ? e : failed(e);
}
