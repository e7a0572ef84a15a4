/* A request that somebody saved: HTTP text, or the log of curl -v. */
#ifndef WEIR_CLI_REQUEST_TEXT_H
#define WEIR_CLI_REQUEST_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/err.h"
#include "weir/base/str.h"
#include "weir/base/clock.h"
#include "weir/io/http_server.h"

struct recipe_request;

#define REQUEST_TEXT_HEADERS 128

/* All slices point into the text. */
struct request_text {
	struct str method, target; /* ptr NULL: the text begins with its headers */
	struct http_header headers[REQUEST_TEXT_HEADERS];
	size_t header_count;
	struct str body; /* what Content-Length says, where that is less than what is there */
	bool has_body;   /* false: a log of curl -v, which has none */
	bool cut;        /* Content-Length says more than there is */
};

/* ERR_INVAL, and `info` names the line. Transfer codings are not undone: such a body is refused. */
enum err request_text_parse(struct str text, struct request_text *ret,
                            struct err_info *info) MUST_CHECK;
/* One header line, "Name: value". ERR_INVAL; ERR_TOOBIG: too many. */
enum err request_text_header(struct request_text *r, struct str line) MUST_CHECK;

/* As if it were received at `now`; without a method it is a POST, without a target one of "/". */
void request_text_request(const struct request_text *r, usec_t now, struct recipe_request *ret);
enum http_method request_text_method(struct str name);

#endif
