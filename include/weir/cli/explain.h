/* What the verification of one request saw: where the signature stands, what the timestamp means,
 * what exactly is signed, which step failed. For terminals. */
#ifndef WEIR_CLI_EXPLAIN_H
#define WEIR_CLI_EXPLAIN_H

#include <stdbool.h>

#include "weir/model/recipe.h"
#include "weir/receive/verify.h"

struct cert_store;
struct tool;

struct explain {
	const struct tool *tool; /* borrowed, as the request */
	const struct recipe *r;
	const struct recipe_request *req;
	struct recipe_input *in;  /* owned */
	struct cert_store *certs; /* borrowed; NULL: none */
	enum verify_verdict verdict;
	struct verify_result result;
};

/* Verifies, with the certificates of `certs`. ERR_NOMEM. */
enum err explain_open(struct explain *x, const struct tool *tool, const struct recipe_request *req,
                      struct cert_store *certs) MUST_CHECK;
void explain_close(struct explain *x);
void explain_print(struct explain *x);
/* Writes the signed bytes as they are to stdout. false: nothing is signed, or it cannot be put
 * together. */
bool explain_raw(struct explain *x);
int explain_status(const struct explain *x); /* that a sender would be answered with */

#endif
