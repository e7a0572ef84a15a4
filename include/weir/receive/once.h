/* Tokens that authenticate one body only (Mailgun signs a token, not the body): the first body that
 * comes with one and is accepted owns it, any other is refused. Remembered as long as the token is
 * worth anything, in this process and, where Redis is up, for all of them. */
#ifndef WEIR_RECEIVE_ONCE_H
#define WEIR_RECEIVE_ONCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct once;
struct redis;

#define ONCE_MAX     100000 /* tokens in memory; past it the oldest is forgotten */
#define ONCE_KEY_LEN 16     /* of a SHA-256; Redis holds as many of them as come in a window */

struct once_key {
	uint8_t token[ONCE_KEY_LEN]; /* of the tool and its token */
	uint8_t body[ONCE_KEY_LEN];
};

struct once_options {
	struct redis *redis; /* borrowed; NULL: memory alone */
	const char *prefix;  /* of its keys there; copied; NULL or "": none */
};

enum err once_key_make(struct str tool, struct str token, struct str body,
                       struct once_key *ret) MUST_CHECK;

enum err once_new(const struct once_options *o, struct once **ret) MUST_CHECK;
/* After redis_free(), which tells who still waits. NULL is fine. */
void once_free(struct once *s);

/* ERR_OK: it is the caller's, who must once_settle() it; ERR_CONFLICT: another body has it;
 * ERR_CANCELLED: Redis is being closed. */
typedef void (*once_fn)(void *arg, enum err e);

/* The same as a return value where it is known at once; ERR_AGAIN: `fn` will be called, exactly
 * once, from the loop; ERR_NOMEM: neither. */
enum err once_claim(struct once *s, const struct once_key *k, usec_t age, once_fn fn,
                    void *arg) MUST_CHECK;
/* What became of the request. Not accepted: the token is free again, unless another request with
 * this body has it too. */
void once_settle(struct once *s, const struct once_key *k, bool accepted);

size_t once_count(const struct once *s);

#endif
