/* Attempt number to delay: exponential, capped, with jitter in proportion. Pure arithmetic. */
#ifndef WEIR_BASE_BACKOFF_H
#define WEIR_BASE_BACKOFF_H

#include "weir/base/clock.h"

struct backoff {
	usec_t initial;    /* delay of the first retry */
	usec_t max;        /* cap, before jitter */
	double multiplier; /* >= 1 */
	double jitter;     /* 0..1: the delay is drawn from [d*(1-jitter), d] */
};

/* `attempt` counts from 0. Never negative, never above `max`. */
usec_t backoff_delay(const struct backoff *b, unsigned attempt);
/* Drawn from [delay*(1-jitter), delay]: processes that started together do not stay together. */
usec_t backoff_jitter(usec_t delay, double jitter);

#endif
