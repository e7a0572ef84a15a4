/* Certificates and keys as they come from a URL, from a tool's entry or from a file. Whatever the
 * text is, it is judged without anybody being asked for a passphrase; a key that was read verifies
 * or refuses, and a private one signs what its public half takes. The first byte chooses kind and
 * form. max_len=8192 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weir/base/buf.h"
#include "weir/base/cert.h"
#include "weir/base/pubkey.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW (1800000000 * USEC_PER_SEC)

enum { PRIVATE = PUBKEY_CERT + 1, CERT, CHOICES };

static void must(bool holds)
{
	if (!holds)
		abort();
}

static const struct str message[] = {{"1731705121", 10}, {".{}", 3}};

/* With a text that is no signature, and with one that may be. */
static void use(struct pubkey *k, struct str text)
{
	struct str tail = text.len > 64 ? str_n(text.ptr + text.len - 64, 64) : text;
	enum err e;

	must(pubkey_verify(k, DIGEST_SHA256, message, 2, STR("no signature")) == ERR_DENIED);
	must(pubkey_verify(k, DIGEST_SHA256, message, 2, STR("")) == ERR_DENIED);
	e = pubkey_verify(k, DIGEST_SHA1, message, 2, tail);
	must(e == ERR_OK || e == ERR_DENIED);
}

static void public_key(enum pubkey_kind kind, enum pubkey_form form, struct str text)
{
	struct pubkey *k = NULL;
	enum err e = pubkey_new(kind, form, text, &k);

	must(e == ERR_OK ? k != NULL : e == ERR_INVAL && !k);
	if (e == ERR_OK)
		use(k, text);
	pubkey_free(k);
}

/* Halves that do not belong together are a file's fault, which no signature may hide. */
static void private_key(enum pubkey_kind kind, struct str text)
{
	enum pubkey_form form = kind == PUBKEY_ED25519 ? PUBKEY_RAW : PUBKEY_DER;
	struct keypair *p = NULL, *again = NULL;
	struct pubkey *k = NULL;
	struct buf public, written, sig;

	if (keypair_read(kind, text, &p) != ERR_OK)
		return;
	buf_init(&public, 1 << 16);
	buf_init(&written, 1 << 16);
	buf_init(&sig, PUBKEY_MAX_SIGNATURE);
	if (keypair_public(p, form, &public) == ERR_OK &&
	    pubkey_new(kind, form, buf_str(&public), &k) == ERR_OK &&
	    keypair_sign(p, DIGEST_SHA256, message, 2, &sig) == ERR_OK) {
		enum err e = pubkey_verify(k, DIGEST_SHA256, message, 2, buf_str(&sig));

		must(e == ERR_OK || e == ERR_DENIED);
		must(e == ERR_OK || kind != PUBKEY_ED25519);
	}
	if (keypair_write(p, &written) == ERR_OK)
		must(keypair_read(kind, buf_str(&written), &again) == ERR_OK);
	pubkey_free(k);
	keypair_free(p);
	keypair_free(again);
	buf_done(&public);
	buf_done(&written);
	buf_done(&sig);
}

static void certificate(enum pubkey_kind kind, struct str text)
{
	struct err_info info = {0}, chained = {0};
	struct pubkey *k = NULL;
	usec_t until = 0, later = 0;
	enum err e = cert_judge(text, NOW, false, NULL, &until, &info);

	must(e == ERR_OK || e == ERR_DENIED || e == ERR_INVAL);
	must(e == ERR_OK ? until > NOW : info.text[0] != '\0' && until == 0);
	/* There is no authority in an empty file. */
	must(cert_judge(text, NOW, true, "/dev/null", &later, &chained) != ERR_OK);
	if (e != ERR_INVAL)
		return;
	/* What is no certificate has no key. */
	if (pubkey_new(kind, PUBKEY_CERT, text, &k) == ERR_OK)
		must(strstr(info.text, "end cannot be read") != NULL);
	pubkey_free(k);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum pubkey_kind kinds[] = {PUBKEY_ED25519, PUBKEY_ECDSA_P256, PUBKEY_RSA};
	enum pubkey_kind kind;
	struct str text;
	char *copy;

	if (size == 0)
		return 0;
	/* A block of its own, so that a byte too many is noticed. */
	copy = malloc(size);
	must(copy != NULL);
	memcpy(copy, data + 1, size - 1);
	text = str_n(copy, size - 1);
	kind = kinds[data[0] / CHOICES % 3];
	switch (data[0] % CHOICES) {
	case PRIVATE:
		private_key(kind, text);
		break;
	case CERT:
		certificate(kind, text);
		break;
	default:
		public_key(kind, (enum pubkey_form)(data[0] % CHOICES), text);
		break;
	}
	free(copy);
	return 0;
}
