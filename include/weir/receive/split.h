/* One request that carries several events: the arrays that the recipe's `split` names are opened
 * and each element is an event, its exact bytes the body.
 *
 * The envelope is the request with its items cut out: everything outside the arrays byte for byte,
 * and in their place an empty array "[]". Where arrays lie in arrays ("entry[].changes[]"), an
 * item's envelope holds the one outer element that it came from: putting the item back between the
 * brackets gives the request as it would have been with this item alone; the items of one envelope,
 * joined by commas in order of their ids in the answer, give the array again. */
#ifndef WEIR_RECEIVE_SPLIT_H
#define WEIR_RECEIVE_SPLIT_H

#include <stddef.h>
#include <stdint.h>

#include "weir/base/buf.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct recipe;

#define SPLIT_MAX_ITEMS 10000

struct split_item {
	struct str body; /* points into the request */
	size_t envelope; /* offset and length in split.envelopes */
	size_t envelope_len;
};

struct split {
	struct split_item *items; /* owned, reused */
	size_t n, space;
	struct buf envelopes;
	uint64_t bytes; /* of all items, each with its envelope */
	uint64_t max_bytes;
};

void split_init(struct split *s, uint64_t max_bytes);
void split_done(struct split *s);

/* By the first of the recipe's paths whose arrays are all there. ERR_INVAL: the body is no JSON;
 * ERR_NOTFOUND: each path misses an array where it says that one is. ERR_TOOBIG: more than
 * SPLIT_MAX_ITEMS, more than max_bytes, or nested too deep. */
enum err split_request(struct split *s, const struct recipe *r, struct str body) MUST_CHECK;

#endif
