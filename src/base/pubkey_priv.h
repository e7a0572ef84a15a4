/* What pubkey.c and cert.c share. */
#ifndef WEIR_BASE_PUBKEY_PRIV_H
#define WEIR_BASE_PUBKEY_PRIV_H

#include <openssl/evp.h>

#include "weir/base/pubkey.h"

/* What PEM is read with. Without it OpenSSL would ask on the terminal for the passphrase of a text
 * that calls itself encrypted, and the loop would wait. */
#define PUBKEY_NO_PASSPHRASE ((void *)(uintptr_t) "")

struct keypair {
	enum pubkey_kind kind;
	EVP_PKEY *key; /* owned */
};

#endif
