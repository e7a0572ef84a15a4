/* Takes the chunked framing off a body (RFC 9112, section 7.1). Pure, fed piece by piece, and the
 * result does not depend on the cuts. Extensions are skipped, trailers are checked and thrown away;
 * both within bounds. */
#ifndef WEIR_IO_HTTP_BODY_H
#define WEIR_IO_HTTP_BODY_H

#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"
#include "weir/base/str.h"

#define HTTP_CHUNK_EXT_MAX     4096 /* bytes of extensions in one body */
#define HTTP_CHUNK_TRAILER_MAX 8192 /* bytes of all trailers */

#define HTTP_CHUNK_STATES(X)                         \
	X(HTTP_CHUNK_SIZE, "size")                   \
	X(HTTP_CHUNK_EXT_BLANK, "ext_blank")         \
	X(HTTP_CHUNK_EXT, "ext")                     \
	X(HTTP_CHUNK_SIZE_LF, "size_lf")             \
	X(HTTP_CHUNK_DATA, "data")                   \
	X(HTTP_CHUNK_DATA_CR, "data_cr")             \
	X(HTTP_CHUNK_DATA_LF, "data_lf")             \
	X(HTTP_CHUNK_TRAILER, "trailer")             \
	X(HTTP_CHUNK_TRAILER_NAME, "trailer_name")   \
	X(HTTP_CHUNK_TRAILER_VALUE, "trailer_value") \
	X(HTTP_CHUNK_TRAILER_LF, "trailer_lf")       \
	X(HTTP_CHUNK_END_LF, "end_lf")               \
	X(HTTP_CHUNK_DONE, "done")

#define HTTP_CHUNK_ENUM(code, name) code,
enum http_chunk_state { HTTP_CHUNK_STATES(HTTP_CHUNK_ENUM) HTTP_CHUNK_STATE_COUNT };
#undef HTTP_CHUNK_ENUM
const char *http_chunk_state_name(enum http_chunk_state s);

struct http_dechunk {
	enum http_chunk_state state;
	uint64_t limit; /* most bytes of content */
	uint64_t total; /* of all chunks announced so far */
	uint64_t left;  /* of this chunk; while its size is read, the size so far */
	unsigned digits;
	size_t ext_bytes, trailer_bytes;
};

void http_dechunk_init(struct http_dechunk *d, uint64_t limit);

/* Takes bytes from the front of *in. ERR_OK: a piece of content is in *ret_data, call again.
 * ERR_AGAIN: all of *in was taken, more is needed. ERR_NOTFOUND: the body has ended, *in holds what
 * stands behind it. ERR_INVAL: bad framing. ERR_TOOBIG: the content would pass the limit, or
 * extensions or trailers pass theirs. */
enum err http_dechunk_next(struct http_dechunk *d, struct str *in, struct str *ret_data) MUST_CHECK;

#endif
