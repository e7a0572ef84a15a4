/* A request that is judged in several turns, between them. */
#ifndef WEIR_RECEIVE_INTAKE_PRIV_H
#define WEIR_RECEIVE_INTAKE_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/receive/intake.h"

#include "coding_priv.h"

struct intake_rest {
	struct decoder decoder;
	bool coded;                /* the body is the decoder's */
	enum gzip_verdict decoded; /* with `coded` */
	bool verified;
	size_t secret; /* these are as in intake_result */
	bool timed;
	usec_t skew;
};

#endif
