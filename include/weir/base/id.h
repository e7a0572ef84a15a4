/* UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then a counter within the
 * millisecond (method 1 of section 6.2), then random bits; strictly increasing within a process. */
#ifndef WEIR_BASE_ID_H
#define WEIR_BASE_ID_H

#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct uuid {
	uint8_t bytes[16];
};

#define UUID_TEXT_LEN 36

void uuid_make(usec_t wall, struct uuid *ret);
/* The same arguments give the same one: of the form of a UUIDv7, with no randomness in it. Only the
 * lower 62 bits of `number` count. */
void uuid_of(uint64_t msec, uint64_t number, struct uuid *ret);
void uuid_format(const struct uuid *u, char out[UUID_TEXT_LEN + 1]); /* lower case, with a NUL */
enum err uuid_parse(struct str s, struct uuid *ret) MUST_CHECK;

#endif
