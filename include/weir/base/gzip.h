/* Decodes a gzip body that somebody unknown sent: one member, whole, and nothing behind it. Memory
 * is bounded by the caller's limit, whatever the data say. */
#ifndef WEIR_BASE_GZIP_H
#define WEIR_BASE_GZIP_H

#include <stdint.h>

#include "weir/base/buf.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

#define GZIP_MAX_RATIO   100
#define GZIP_RATIO_FLOOR (1u << 20) /* bytes decoded before the ratio counts */

enum gzip_verdict {
	GZIP_OK,
	GZIP_MALFORMED, /* no gzip, or its check sum is wrong */
	GZIP_TRUNCATED,
	GZIP_TRAILING,  /* something stands behind the first member */
	GZIP_NESTED,    /* what came out is gzip again */
	GZIP_TOO_LARGE, /* over `max` bytes */
	GZIP_RATIO,     /* over GZIP_MAX_RATIO times as large as what came */
	GZIP_NOMEM,
	GZIP_MORE, /* of a stream: not done yet */
};

/* `out` is emptied first; it needs a cap over `max`. Where it is not GZIP_OK its content is
 * undefined. It is done at one go, some 4 ms for each MiB that comes out. Of data that are over a
 * limit no more is decoded than up to it. */
enum gzip_verdict gzip_decode(struct str in, uint64_t max, struct buf *out) MUST_CHECK;

/* The same in pieces. `in` and `out` are borrowed until it is freed. */
struct gzip_stream;
enum gzip_verdict gzip_stream_new(struct str in, uint64_t max, struct buf *out,
                                  struct gzip_stream **ret) MUST_CHECK;
/* Decodes some `bytes` more (rounded up to 64 KiB). GZIP_MORE, or the verdict, behind which there
 * are no more calls. */
enum gzip_verdict gzip_stream_step(struct gzip_stream *g, size_t bytes) MUST_CHECK;
void gzip_stream_free(struct gzip_stream *g); /* NULL is fine */

#endif
