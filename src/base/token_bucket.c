/* Tokens are reckoned from the time that passed, when somebody asks: no timer runs. */
#include "weir/base/token_bucket.h"

#include <math.h>

static void fill(struct token_bucket *b, const struct token_rate *r, usec_t now)
{
	if (b->at == 0)
		b->tokens = r->burst;
	else if (now > b->at)
		b->tokens += (double)(now - b->at) / USEC_PER_SEC * r->per_second;
	if (b->tokens > r->burst)
		b->tokens = r->burst;
	if (now > b->at)
		b->at = now;
}

bool token_bucket_take(struct token_bucket *b, const struct token_rate *r, usec_t now,
                       usec_t *ret_wait)
{
	fill(b, r, now);
	if (b->tokens >= 1) {
		b->tokens -= 1;
		return true;
	}
	*ret_wait = (usec_t)ceil((1 - b->tokens) / r->per_second * USEC_PER_SEC);
	return false;
}

/* Never over the burst: that is seen to when somebody takes. */
void token_bucket_give(struct token_bucket *b)
{
	b->tokens += 1;
}
