/* One blocking HTTP request with libcurl, for commands that run without a loop (healthcheck,
 * send-test). Never used while the loop turns. */
#ifndef WEIR_IO_HTTP_CALL_H
#define WEIR_IO_HTTP_CALL_H

#include <stddef.h>

#include "weir/base/buf.h"
#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct http_call {
	const char *method; /* "GET", "POST" */
	const char *url;
	const char *const *headers; /* "Name: value"; NULL ends; may be NULL */
	struct str body;
	usec_t timeout;
};

/* ERR_UNAVAILABLE when the server cannot be reached, ERR_TIMEOUT, ERR_INVAL for a bad URL. On
 * ERR_OK
 * `*ret_status` is the status and `answer` holds the body, cut at the buffer's cap. */
enum err http_call_run(const struct http_call *c, int *ret_status, struct buf *answer,
                       struct err_info *info) MUST_CHECK;

#endif
