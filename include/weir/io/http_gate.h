/* The gate's parser: the head of an HTTP/1.x request, checked as strictly as RFC 9112 allows, so
 * that weir and whatever stands before it can never disagree where a request ends. Pure: bytes in,
 * verdict out; no allocation, no state.
 *
 * The verdict depends on complete lines only and is found from left to right, so it is the same
 * however the bytes were cut into pieces: as long as it is HTTP_GATE_MORE call again with all bytes
 * so far, best when a line feed came or the limit is reached. */
#ifndef WEIR_IO_HTTP_GATE_H
#define WEIR_IO_HTTP_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"
#include "weir/base/str.h"
#include "weir/io/http_server.h"

#define HTTP_GATE_MAX_FIELDS 256  /* most headers that any limit can allow */
#define HTTP_GATE_MAX_LINE   8192 /* bytes of a request line without its CRLF */
#define HTTP_GATE_MAX_BLANK  8    /* CRLFs skipped before a request line */

enum http_gate_verdict {
	HTTP_GATE_MORE,   /* the head is not whole yet */
	HTTP_GATE_WHOLE,  /* valid; `head` is filled */
	HTTP_GATE_REFUSED /* `head->status`, `->why` and `->detail` say so */
};

struct http_gate_limits {
	size_t max_bytes;  /* of the head, blank lines before it included */
	size_t max_fields; /* at most HTTP_GATE_MAX_FIELDS */
};

/* All slices point into the bytes given. */
struct http_gate_head {
	size_t len; /* bytes up to the body */
	struct str method;
	struct str target;
	struct str path;  /* raw; "/" where an absolute target has none */
	struct str query; /* behind '?', ptr NULL without one */
	bool path_escaped;
	bool http11;
	bool keep_alive;
	bool chunked;
	bool expect_continue;
	bool has_length;
	uint64_t length; /* Content-Length; 0 without one */
	size_t field_count;
	struct http_header fields[HTTP_GATE_MAX_FIELDS];
	/* refused */
	enum http_refusal why;
	int status;
	const char *detail; /* static */
};

enum http_gate_verdict http_gate_parse(const char *p, size_t len,
                                       const struct http_gate_limits *lim,
                                       struct http_gate_head *head) MUST_CHECK;

/* Undoes the escapes of a path that passed the gate; writes at most path.len bytes, returns how
 * many. */
size_t http_gate_unescape(struct str path, char *out);

enum http_method http_gate_method(struct str name);

/* [A-Za-z0-9._-]{1,128}: what we take over from a client's X-Request-Id. */
#define HTTP_REQUEST_ID_MAX 128
bool http_gate_request_id_ok(struct str id);

/* Character classes of RFC 9110, shared with the trailers' check. */
bool http_gate_is_token(struct str s); /* not empty */
bool http_gate_is_value(struct str s); /* no control character but the tab; may be empty */

#endif
