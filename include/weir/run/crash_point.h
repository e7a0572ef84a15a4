/* Named places where a test build can be made to die as by kill -9, to show that nothing is lost
 * there. WEIR_CRASH_AT=NAME[:N] in the environment ends the process when it passes NAME for the
 * N-th time (1). Outside of test builds (WEIR_TEST) nothing of it exists.
 *
 *   verified   a request is authentic, nothing was sent to Redis
 *   added      Redis has confirmed the entry, the sender has no answer yet
 *   read       entries were read and are pending, none is in the pipeline
 *   sent       a batch's own transaction is on its way, its outcome is not known
 *   committed  the batch is committed, nothing is acknowledged
 *   acked      Redis has the acknowledgements, we do not know it yet
 *   buried     a dead letter is committed, its entry is not acknowledged
 *
 * WEIR_CRASH_ON=TYPE ends it whenever a batch begins to work on an event of that type: a poison
 * event. */
#ifndef WEIR_RUN_CRASH_POINT_H
#define WEIR_RUN_CRASH_POINT_H

#include "weir/base/str.h"

#ifdef WEIR_TEST
void crash_point(const char *name);
#define CRASH_POINT(name) crash_point(name)
void crash_on(struct str event_type);
#define CRASH_ON(event_type) crash_on(event_type)
#else
#define CRASH_POINT(name)    ((void)0)
#define CRASH_ON(event_type) ((void)0)
#endif

#endif
