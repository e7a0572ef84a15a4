/* Reads the answers on a client's connection, piece by piece: the status, and where the answer
 * ends. Headers and content are thrown away. Pure; the result does not depend on the cuts. */
#ifndef WEIR_IO_HTTP_ANSWER_H
#define WEIR_IO_HTTP_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/buf.h"
#include "weir/base/err.h"
#include "weir/base/str.h"
#include "weir/io/http_body.h"

#define HTTP_ANSWER_HEAD_MAX (64 * 1024)

enum http_answer_state {
	HTTP_ANSWER_HEAD,
	HTTP_ANSWER_LENGTH,  /* content of a known length */
	HTTP_ANSWER_CHUNKED, /* content in chunks */
	HTTP_ANSWER_TO_END,  /* content until the server closes */
	HTTP_ANSWER_DONE,
};

struct http_answer {
	enum http_answer_state state;
	int status;
	bool keep_alive; /* the connection may be used again */
	uint64_t left;   /* bytes of content still to come (HTTP_ANSWER_LENGTH) */
	struct http_dechunk chunks;
	struct buf head; /* owned; what came of a head in pieces */
};

void http_answer_init(struct http_answer *a);
void http_answer_done(struct http_answer *a);
void http_answer_next(struct http_answer *a); /* from here on another answer is read */

/* Takes bytes from the front of *in. ERR_OK: the answer is whole, *in holds what stands behind it.
 * ERR_AGAIN: all was taken, more is needed. ERR_PROTO: not an answer of HTTP/1.x; ERR_TOOBIG: a
 * head over the limit; ERR_NOMEM. Answers 1xx are passed over. */
enum err http_answer_feed(struct http_answer *a, struct str *in) MUST_CHECK;
/* The server closed: true if that ends an answer whose length it did not say. */
bool http_answer_close(struct http_answer *a);

#endif
