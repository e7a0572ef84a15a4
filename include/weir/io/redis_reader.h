/* hiredis's reply parser building `struct redis_reply` trees in an arena. Private to io/redis,
 * its tests and its fuzz target. */
#ifndef WEIR_IO_REDIS_READER_H
#define WEIR_IO_REDIS_READER_H

#include <stddef.h>

#include "weir/base/err.h"

struct redis_reader;
struct redis_reply;

/* A reply of more than `max_bytes` (0: 256 MiB) breaks the stream. */
enum err redis_reader_new(size_t max_bytes, struct redis_reader **ret) MUST_CHECK;
void redis_reader_free(struct redis_reader *r);

/* Where the next bytes are to be written, `most` at most, which redis_reader_filled() then says
 * were `len`. Valid until the next call. */
enum err redis_reader_space(struct redis_reader *r, size_t most, char **ret) MUST_CHECK;
enum err redis_reader_filled(struct redis_reader *r, size_t len) MUST_CHECK;
/* Both at once, for bytes that stand elsewhere. */
enum err redis_reader_feed(struct redis_reader *r, const void *p, size_t len) MUST_CHECK;
/* ERR_OK with the next reply, which is valid until the next call; ERR_AGAIN when more bytes are
 * needed; ERR_PROTO, ERR_TOOBIG and ERR_NOMEM end the connection. */
enum err redis_reader_next(struct redis_reader *r, const struct redis_reply **ret) MUST_CHECK;
const char *redis_reader_error(const struct redis_reader *r);

#endif
