/* The coding of a request's body (Content-Encoding). */
#ifndef WEIR_RECEIVE_CODING_PRIV_H
#define WEIR_RECEIVE_CODING_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include "weir/base/buf.h"
#include "weir/base/gzip.h"
#include "weir/io/http_server.h"
#include "weir/receive/intake.h"

enum body_coding { CODING_NONE, CODING_GZIP, CODING_OTHER };

/* OTHER also where there are several, or several headers. */
enum body_coding coding_of(const struct http_header *headers, size_t n);

/* A request's decoding. Its memory is used again for the next. */
struct decoder {
	struct buf plain;
	struct http_header *headers; /* owned: the request's without Content-Encoding */
	size_t header_count, space;
	struct gzip_stream *stream; /* owned; NULL: none is under way */
};

void decoder_init(struct decoder *d);
void decoder_done(struct decoder *d);
void decoder_shrink(struct decoder *d, size_t kept); /* gives back what is larger */

/* Begins to decode `body` into d->plain, at most `max` bytes, and puts the other headers into
 * d->headers. `body` is borrowed until the verdict is another than GZIP_MORE. */
enum gzip_verdict decoder_start(struct decoder *d, struct str body, uint64_t max,
                                const struct http_header *headers, size_t n) MUST_CHECK;
/* Some bytes more; 0: all. */
enum gzip_verdict decoder_step(struct decoder *d, size_t bytes) MUST_CHECK;
/* What is answered where it is not GZIP_OK. */
int coding_status(enum gzip_verdict v);
const char *coding_reason(enum gzip_verdict v);
const char *coding_detail(enum gzip_verdict v);
enum intake_limit coding_limit(enum gzip_verdict v);

#endif
