/* Digests, keyed MACs, encodings and comparison in constant time, over OpenSSL 3. What can be done
 * once is (fetching, keying): for each request it would cost more than the hash. */
#ifndef WEIR_BASE_DIGEST_H
#define WEIR_BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/buf.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

enum digest_algo { DIGEST_SHA256, DIGEST_SHA1, DIGEST_SHA512 };
#define DIGEST_MAX_LEN 64

size_t digest_len(enum digest_algo algo); /* bytes */
const char *digest_name(enum digest_algo algo);

/* One digest over the concatenation of `parts`. `out` needs digest_len() bytes. */
enum err digest_parts(enum digest_algo algo, const struct str *parts, size_t n,
                      uint8_t *out) MUST_CHECK;

/* A keyed HMAC; the key is set once. Not for use by two callers at a time. */
struct hmac;
enum err hmac_new(enum digest_algo algo, struct str key, struct hmac **ret) MUST_CHECK;
void hmac_free(struct hmac *h);
enum err hmac_parts(struct hmac *h, const struct str *parts, size_t n, uint8_t *out) MUST_CHECK;

bool digest_equal(const void *a, const void *b, size_t len); /* constant time */

/* Encodings. Decoders accept the exact alphabet only, write *ret_len on success, and return
 * ERR_INVAL (alphabet, padding, length) or ERR_TOOBIG (does not fit `space`). */
void hex_encode(const uint8_t *p, size_t len, char *out); /* 2*len bytes and a NUL */
enum err hex_decode(struct str s, uint8_t *out, size_t space, size_t *ret_len) MUST_CHECK;
/* url: the URL alphabet without padding. */
enum err base64_encode(struct buf *out, const void *p, size_t len, bool url) MUST_CHECK;
/* url: the URL alphabet, padding optional; else the standard alphabet, padding required. */
enum err base64_decode(struct str s, bool url, uint8_t *out, size_t space,
                       size_t *ret_len) MUST_CHECK;
/* Whether a text that decodes is the only one of its length that does so to the same bytes: the
 * bits of its last letter that stand for nothing are zero. */
bool base64_is_exact(struct str s, bool url);

#endif
