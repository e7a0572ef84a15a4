/* A rate limit: a bucket that fills at a steady rate up to its burst; each unit of work takes one
 * token. The rate is named at each call, so that it may change under a bucket that stays. */
#ifndef WEIR_BASE_TOKEN_BUCKET_H
#define WEIR_BASE_TOKEN_BUCKET_H

#include <stdbool.h>

#include "weir/base/clock.h"

/* All zero is a bucket that was never asked; it is full. */
struct token_bucket {
	double tokens;
	usec_t at; /* monotonic, when `tokens` was right; 0: never asked */
};

struct token_rate {
	double per_second; /* over 0 */
	double burst;      /* at least 1 */
};

/* False: there is no whole token; `*ret_wait` is how long until there is one. */
bool token_bucket_take(struct token_bucket *b, const struct token_rate *r, usec_t now,
                       usec_t *ret_wait);
/* Back into the bucket, for work that was not done after all. */
void token_bucket_give(struct token_bucket *b);

#endif
