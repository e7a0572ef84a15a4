/* Descriptors: raises the soft limit to the hard one, and says how many client connections fit
 * beside our own. */
#ifndef WEIR_APP_LIMITS_H
#define WEIR_APP_LIMITS_H

#include <stddef.h>

struct conf;

/* MAX_CONNECTIONS, or less where the descriptors do not suffice (then it warns). Clients must never
 * take the descriptors with which weir reaches its own servers. */
size_t limits_connections(const struct conf *c);

#endif
