/* What becomes of a batch that met an error, and how long it waits for its next try. */
#ifndef WEIR_PIPELINE_VERDICT_H
#define WEIR_PIPELINE_VERDICT_H

#include "weir/base/clock.h"
#include "weir/base/err.h"

enum verdict {
	VERDICT_RETRY,   /* our own trouble: as long as it takes */
	VERDICT_SUSPECT, /* the database's; if it goes on while others are stored, it is the event
	                  */
	VERDICT_CONFIG,  /* as SUSPECT, and somebody has to put it right */
	VERDICT_HEAL,    /* make what is missing; if that does not help, as CONFIG */
	VERDICT_DATA,    /* this very content is refused */
	VERDICT_RETURN,  /* we are stopping */
};

/* err_fate(), refined to what a batch can do about it. Nothing else decides between retry and dead
 * letter. */
enum verdict verdict_of(enum err e);

/* Before the next try after `tries` (1 and more) failures in a row: some tens of milliseconds for
 * the first `quick` ones, then up to 5 s. With jitter. */
usec_t verdict_delay(unsigned tries, unsigned quick);

#endif
