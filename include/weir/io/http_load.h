/* A load of HTTP requests over keep-alive connections, and what came back: for `weir bench`. It
 * runs a loop of its own and returns when it is over, like http_call_run(); never used while
 * another loop turns. */
#ifndef WEIR_IO_HTTP_LOAD_H
#define WEIR_IO_HTTP_LOAD_H

#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/histogram.h"
#include "weir/base/str.h"

#define HTTP_LOAD_MAX_CONNECTIONS 10000

/* Slices are borrowed until the next one is asked for. */
struct http_load_request {
	struct str target;  /* stands behind the URL: "" or "?token=…" */
	struct str headers; /* lines, each with its CRLF; without Host and Content-Length */
	struct str body;
};

/* Why a request has no answer. */
#define HTTP_LOAD_FAILURES(X)           \
	X(HTTP_LOAD_CONNECT, "connect") \
	X(HTTP_LOAD_CLOSED, "closed")   \
	X(HTTP_LOAD_TIMEOUT, "timeout") \
	X(HTTP_LOAD_BAD_ANSWER, "bad_answer")

#define HTTP_LOAD_ENUM(code, name) code,
enum http_load_failure { HTTP_LOAD_FAILURES(HTTP_LOAD_ENUM) HTTP_LOAD_FAILURE_COUNT };
#undef HTTP_LOAD_ENUM
const char *http_load_failure_name(enum http_load_failure f);

struct http_load_result {
	uint64_t sent;
	uint64_t answered;
	uint64_t unsent;        /* with a rate: were due, but no connection was free */
	uint64_t statuses[600]; /* answers by status */
	uint64_t failures[HTTP_LOAD_FAILURE_COUNT];
	char failure_text[192];   /* of the latest failure */
	usec_t elapsed;           /* from the first connection until the last answer */
	struct histogram latency; /* µs. With a rate: from when the request was due */
};

struct http_load_options {
	const char *url; /* http or https, with a path */
	const char *method;
	size_t connections;
	double rate; /* requests a second, sent when they are due; 0: as fast as answers come */
	usec_t duration;
	usec_t timeout; /* of one answer, and of one attempt to connect */
	enum err (*next)(void *arg, struct http_load_request *ret); /* ends the load if it fails */
	/* Once a second, for people who wait; may be NULL. */
	void (*progress)(void *arg, const struct http_load_result *so_far, usec_t elapsed);
	void *arg;
};

/* ERR_UNAVAILABLE when no connection came about, ERR_INVAL for a bad URL. SIGINT and SIGTERM end
 * the load early, which is no error. Large: not for the stack of a small thread. */
enum err http_load_run(const struct http_load_options *o, struct http_load_result *ret,
                       struct err_info *info) MUST_CHECK;

#endif
