/* Certificates by OpenSSL. Those that need no chain are trusted for where they were fetched from.
 */
#include "weir/base/cert.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <time.h>

#include "pubkey_priv.h"

#define MAX_CHAIN 8

/* The first one, and those behind it in *ret_more (to be freed). NULL: there is none, or no memory.
 */
static X509 *read_all(struct str pem, STACK_OF(X509) * *ret_more)
{
	BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
	X509 *first = bio ? PEM_read_bio_X509(bio, NULL, NULL, PUBKEY_NO_PASSPHRASE) : NULL, *next;
	STACK_OF(X509) *more = first ? sk_X509_new_null() : NULL;

	while (more && sk_X509_num(more) < MAX_CHAIN &&
	       (next = PEM_read_bio_X509(bio, NULL, NULL, PUBKEY_NO_PASSPHRASE)))
		if (sk_X509_push(more, next) <= 0)
			X509_free(next);
	BIO_free(bio);
	ERR_clear_error(); /* of reading on at the end */
	*ret_more = more;
	return first;
}

static enum err judge_dates(X509 *cert, usec_t now, usec_t *ret_until, struct err_info *info)
{
	time_t at = (time_t)(now / USEC_PER_SEC);
	struct tm tm;

	if (X509_cmp_time(X509_get0_notBefore(cert), &at) >= 0)
		return err_set(info, ERR_DENIED, "the certificate is not valid yet");
	if (X509_cmp_time(X509_get0_notAfter(cert), &at) <= 0)
		return err_set(info, ERR_DENIED, "the certificate has expired");
	if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) != 1)
		return err_set(info, ERR_INVAL, "the certificate's end cannot be read");
	*ret_until = (usec_t)timegm(&tm) * USEC_PER_SEC;
	return ERR_OK;
}

static X509_STORE *open_store(const char *ca_file)
{
	X509_STORE *store = X509_STORE_new();
	int ok = 0;

	if (store)
		ok = ca_file && ca_file[0] ? X509_STORE_load_file(store, ca_file)
		                           : X509_STORE_set_default_paths(store);
	if (ok == 1)
		return store;
	X509_STORE_free(store);
	return NULL;
}

static enum err judge_chain(X509 *cert, STACK_OF(X509) * more, usec_t now, const char *ca_file,
                            struct err_info *info)
{
	X509_STORE *store = open_store(ca_file);
	X509_STORE_CTX *ctx = store ? X509_STORE_CTX_new() : NULL;
	enum err e = ERR_NOMEM;

	if (!store)
		e = err_set(info, ERR_DENIED, "the file of authorities cannot be read");
	if (ctx && X509_STORE_CTX_init(ctx, store, cert, more) == 1) {
		X509_STORE_CTX_set_time(ctx, 0, (time_t)(now / USEC_PER_SEC));
		e = X509_verify_cert(ctx) == 1
		        ? ERR_OK
		        : err_set(info, ERR_DENIED, "the certificate is not trusted: %s",
		                  X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
	}
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	return e;
}

enum err cert_judge(struct str pem, usec_t now, bool chain, const char *ca_file, usec_t *ret_until,
                    struct err_info *info)
{
	STACK_OF(X509) *more = NULL;
	X509 *cert = pem.len && pem.len <= 1024 * 1024 ? read_all(pem, &more) : NULL;
	enum err e;

	if (!cert)
		return err_set(info, ERR_INVAL, "it is no certificate in PEM");
	e = more ? judge_dates(cert, now, ret_until, info) : ERR_NOMEM;
	if (e == ERR_OK && chain)
		e = judge_chain(cert, more, now, ca_file, info);
	X509_free(cert);
	sk_X509_pop_free(more, X509_free);
	ERR_clear_error();
	return e;
}

static bool fill(X509 *x, const struct keypair *k, const char *name, usec_t from, usec_t until)
{
	X509_NAME *n = X509_get_subject_name(x);

	return X509_set_version(x, X509_VERSION_3) == 1 &&
	       ASN1_INTEGER_set(X509_get_serialNumber(x), 1) == 1 &&
	       ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(from / USEC_PER_SEC)) &&
	       ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(until / USEC_PER_SEC)) &&
	       X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)name, -1,
	                                  -1, 0) == 1 &&
	       X509_set_issuer_name(x, n) == 1 && X509_set_pubkey(x, k->key) == 1 &&
	       X509_sign(x, k->key, k->kind == PUBKEY_ED25519 ? NULL : EVP_sha256()) > 0;
}

enum err cert_self_signed(const struct keypair *k, const char *name, usec_t from, usec_t until,
                          struct buf *out)
{
	X509 *x = X509_new();
	BIO *bio = BIO_new(BIO_s_mem());
	char *data;
	long len = 0;

	if (x && bio && fill(x, k, name, from, until) && PEM_write_bio_X509(bio, x) == 1)
		len = BIO_get_mem_data(bio, &data);
	if (len > 0)
		buf_add(out, data, (size_t)len);
	BIO_free(bio);
	X509_free(x);
	ERR_clear_error();
	return len > 0 ? out->err : ERR_NOMEM;
}
