/* Gives back what only the start needed. */
#ifndef WEIR_RUN_FOOTPRINT_H
#define WEIR_RUN_FOOTPRINT_H

#include <stddef.h>

/* Drops the resident pages of libraries that nobody wrote to; those that are in use come back from
 * the page cache at the next touch. Also returns free heap. Returns the bytes dropped, 0 when /proc
 * is not there. Costs about a millisecond: for the end of the start only. */
size_t footprint_trim(void);

#endif
