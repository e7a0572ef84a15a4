/* Errors are judged by what they say of the content, not of the weather: only what the database
 * refuses to hold is given up at once. */
#include "weir/pipeline/verdict.h"

#include "weir/base/backoff.h"

static const struct backoff quick_backoff = {
    .initial = 50 * USEC_PER_MSEC, .max = 400 * USEC_PER_MSEC, .multiplier = 2, .jitter = 0.5};
static const struct backoff slow_backoff = {
    .initial = 500 * USEC_PER_MSEC, .max = 5 * USEC_PER_SEC, .multiplier = 2, .jitter = 0.5};

enum verdict verdict_of(enum err e)
{
	switch (e) {
	case ERR_DATA:
	case ERR_INVAL:
	case ERR_TOOBIG:
	case ERR_TOOL:
		return VERDICT_DATA;
	case ERR_NOTABLE:
		return VERDICT_HEAL;
	case ERR_DENIED:
	case ERR_BUG:
		return VERDICT_CONFIG;
	case ERR_CANCELLED:
		return VERDICT_RETURN;
	case ERR_AGAIN:
	case ERR_FULL:
	case ERR_TIMEOUT:
	case ERR_CLOSED:
	case ERR_UNAVAILABLE:
	case ERR_PROTO:
	case ERR_NOTFOUND:
	case ERR_CONFLICT:
	case ERR_IO:
		return VERDICT_SUSPECT;
	case ERR_OK:
	case ERR_NOMEM:
	case ERR_COUNT:
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
