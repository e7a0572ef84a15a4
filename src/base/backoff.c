/* Doubles keep the growth free of overflow: past the cap they are only compared, never converted.
 */
#include "weir/base/backoff.h"

#include <math.h>

#include "weir/base/rnd.h"

static usec_t full_delay(const struct backoff *b, unsigned attempt)
{
	double factor = pow(b->multiplier > 1 ? b->multiplier : 1, attempt);
	double delay = (double)b->initial * factor;

	if (b->initial <= 0 || b->max <= 0)
		return 0;
	return delay < (double)b->max ? (usec_t)delay : b->max;
}

usec_t backoff_jitter(usec_t delay, double jitter)
{
	double part = jitter > 0 ? (double)delay * jitter : 0;
	usec_t spread = part < (double)delay ? (usec_t)part : delay;

	return delay - (usec_t)rnd_below((uint64_t)spread + 1);
}

usec_t backoff_delay(const struct backoff *b, unsigned attempt)
{
	return backoff_jitter(full_delay(b, attempt), b->jitter);
}
