/* What explain.c and explain_content.c share. */
#ifndef WEIR_CLI_EXPLAIN_PRIV_H
#define WEIR_CLI_EXPLAIN_PRIV_H

#include "weir/cli/explain.h"

#define LABEL "%-11s " /* of every line */

/* What is signed, in pieces. */
struct content {
	struct str parts[RECIPE_MAX_PARTS];
	size_t n;
	enum digest_algo hash;
	char crc[16];
	bool by_secret; /* it differs from secret to secret */
};

/* The content of one signature, or group of them; for the secret at `i` in the recipe. Its pieces
 * are good until the next call. false: it cannot be put together; *ret_missing is what is not there
 * or malformed, NULL where that is the body as a whole. */
bool explain_content(struct explain *x, struct str sig, size_t i, struct content *ret,
                     const struct recipe_source **ret_missing);

#endif
