/* Public-key signatures over OpenSSL 3's EVP: Ed25519 (RFC 8032), ECDSA on P-256 with SHA-256 (the
 * signature as DER, as senders write it), RSA with PKCS #1 v1.5 padding. Keys are read once and
 * kept. */
#ifndef WEIR_BASE_PUBKEY_H
#define WEIR_BASE_PUBKEY_H

#include <stddef.h>
#include <stdint.h>

#include "weir/base/buf.h"
#include "weir/base/digest.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

enum pubkey_kind { PUBKEY_ED25519, PUBKEY_ECDSA_P256, PUBKEY_RSA };

/* How a key is written. */
enum pubkey_form {
	PUBKEY_RAW,  /* the bytes themselves: 32 of Ed25519 */
	PUBKEY_DER,  /* SubjectPublicKeyInfo */
	PUBKEY_PEM,  /* the same with -----BEGIN PUBLIC KEY----- */
	PUBKEY_CERT, /* a PEM certificate's key; the certificate is not judged */
};

#define PUBKEY_MAX_SIGNATURE 1024 /* bytes: RSA of 8192 bits */
#define PUBKEY_MIN_RSA_BITS  1024

struct pubkey;

/* ERR_INVAL: no key of this kind, or an RSA key of less than PUBKEY_MIN_RSA_BITS; ERR_NOMEM. */
enum err pubkey_new(enum pubkey_kind kind, enum pubkey_form form, struct str text,
                    struct pubkey **ret) MUST_CHECK;
void pubkey_free(struct pubkey *k);

/* ERR_OK: the signature is right; ERR_DENIED: it is not; ERR_NOMEM. `hash` is of meaning for RSA
 * alone. Not for two callers at a time. */
enum err pubkey_verify(struct pubkey *k, enum digest_algo hash, const struct str *parts, size_t n,
                       struct str signature) MUST_CHECK;

/* ---- throw-away pairs, to sign as a provider would ---- */

struct keypair;

enum err keypair_new(enum pubkey_kind kind, struct keypair **ret) MUST_CHECK;
void keypair_free(struct keypair *k);
/* The public half: PUBKEY_RAW (Ed25519), PUBKEY_DER or PUBKEY_PEM. */
enum err keypair_public(const struct keypair *k, enum pubkey_form form, struct buf *out) MUST_CHECK;
/* As a file keeps it: PKCS #8 in PEM. ERR_INVAL: no private key of this kind. */
enum err keypair_read(enum pubkey_kind kind, struct str pem, struct keypair **ret) MUST_CHECK;
enum err keypair_write(const struct keypair *k, struct buf *out) MUST_CHECK;
enum err keypair_sign(struct keypair *k, enum digest_algo hash, const struct str *parts, size_t n,
                      struct buf *out) MUST_CHECK;

#endif
