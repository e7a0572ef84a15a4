/* Remembers 16-byte digests for a while: a bounded set whose members leave when they are `ttl` old,
 * or earlier when there are too many, the oldest first. Grows with what it holds, up to some 50
 * bytes a member. */
#ifndef WEIR_BASE_TTL_CACHE_H
#define WEIR_BASE_TTL_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"

#define TTL_CACHE_KEY_LEN 16

struct ttl_cache;

/* `max` members at most, 1 or more. */
enum err ttl_cache_new(size_t max, usec_t ttl, struct ttl_cache **ret) MUST_CHECK;
void ttl_cache_free(struct ttl_cache *c);

bool ttl_cache_has(const struct ttl_cache *c, const uint8_t key[TTL_CACHE_KEY_LEN], usec_t now);
/* `now` never goes back. A member that is there keeps its age. Without memory for more, the oldest
 * member makes room. */
void ttl_cache_add(struct ttl_cache *c, const uint8_t key[TTL_CACHE_KEY_LEN], usec_t now);
void ttl_cache_clear(struct ttl_cache *c);
size_t ttl_cache_count(const struct ttl_cache *c); /* with those that expired and did not leave */

#endif
