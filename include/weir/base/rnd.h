/* Randomness from the operating system, in a small pool so that an id does not cost a system call.
 * Tests may seed it; then it is a reproducible sequence. */
#ifndef WEIR_BASE_RND_H
#define WEIR_BASE_RND_H

#include <stddef.h>
#include <stdint.h>

void rnd_bytes(void *out, size_t len);
uint64_t rnd_u64(void);
uint64_t rnd_below(uint64_t n); /* 0 .. n-1 without bias; n > 0 */
void rnd_seed(uint64_t seed);   /* tests only; 0 returns to the real source */

#endif
