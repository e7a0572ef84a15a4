/* Errors are judged by what they say of the content, not of the weather: only what the database
 * refuses to hold is given up at once. */
#include "weir/pipeline/verdict.h"

#include "weir/base/backoff.h"

static const struct backoff quick_backoff = {
    .initial = 50 * USEC_PER_MSEC, .max = 400 * USEC_PER_MSEC, .multiplier = 2, .jitter = 0.5};
static const struct backoff slow_backoff = {
    .initial = 500 * USEC_PER_MSEC, .max = 5 * USEC_PER_SEC, .multiplier = 2, .jitter = 0.5};

/* What base/err.h says of the error, seen from a batch: its events are always waited for, so that
 * nothing is dropped here but by those who give the batch back. */
enum verdict verdict_of(enum err e)
{
	switch (err_fate(e)) {
	case FATE_RETRY:
		if (e == ERR_NOMEM)
			return VERDICT_RETRY;
		return e == ERR_NOTABLE ? VERDICT_HEAL : VERDICT_SUSPECT;
	case FATE_DEAD:
		return VERDICT_DATA;
	case FATE_STOP:
		return VERDICT_CONFIG;
	case FATE_DROP:
		return e == ERR_CANCELLED ? VERDICT_RETURN : VERDICT_SUSPECT;
	case FATE_DONE:
		break;
	}
	return VERDICT_RETRY;
}

usec_t verdict_delay(unsigned tries, unsigned quick)
{
	if (tries <= quick)
		return backoff_delay(&quick_backoff, tries - 1);
	return backoff_delay(&slow_backoff, tries - 1 - quick);
}
