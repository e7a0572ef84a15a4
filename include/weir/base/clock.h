/* Clocks. Deadlines use the monotonic clock, only timestamps and replay windows use the wall clock.
 * All times are microseconds in int64_t (`usec_t`). */
#ifndef WEIR_BASE_CLOCK_H
#define WEIR_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

typedef int64_t usec_t;
#define USEC_PER_MSEC ((usec_t)1000)
#define USEC_PER_SEC  ((usec_t)1000000)
#define USEC_NEVER    INT64_MAX

usec_t clock_mono(void); /* since some start */
usec_t clock_wall(void); /* since 1970-01-01 UTC */

/* Tests only: replace the sources; NULL restores the real one. */
void clock_set_source(usec_t (*mono)(void), usec_t (*wall)(void));

/* RFC 3339 in UTC with milliseconds, "2026-01-31T10:20:30.123Z". `out` needs 25 bytes. */
#define CLOCK_RFC3339_LEN 25
void clock_rfc3339(usec_t wall, char out[CLOCK_RFC3339_LEN]);

#endif
