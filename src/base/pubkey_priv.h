/* What pubkey.c and cert.c share. */
#ifndef WEIR_BASE_PUBKEY_PRIV_H
#define WEIR_BASE_PUBKEY_PRIV_H

#include <openssl/evp.h>

#include "weir/base/pubkey.h"

struct keypair {
	enum pubkey_kind kind;
	EVP_PKEY *key; /* owned */
};

#endif
