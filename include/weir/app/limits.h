/* Descriptors: raises the soft limit to the hard one, and says how many client connections fit
 * beside our own. Memory: sets the bound, and gives back to the system what is free. */
#ifndef WEIR_APP_LIMITS_H
#define WEIR_APP_LIMITS_H

#include <stddef.h>

#include "weir/base/err.h"
#include "weir/run/loop.h"

struct conf;

/* MAX_CONNECTIONS, or less where the descriptors do not suffice (then it warns). Clients must never
 * take the descriptors with which weir reaches its own servers. */
size_t limits_connections(const struct conf *c);

struct limits_memory {
	struct loop_timer trim;
};
enum err limits_memory_init(struct limits_memory *m, struct loop *l, size_t bytes) MUST_CHECK;
void limits_memory_done(struct limits_memory *m); /* safe on a zeroed one */

#endif
