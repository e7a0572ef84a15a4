/* Asynchronous HTTP/1.1 requests over libcurl, in the loop: connections are kept and reused, names
 * are resolved without blocking, every request has a deadline, and so many run at once, the rest
 * waiting in order. No redirects, no proxies, no cookies, no compression; TLS verifies peer and
 * host name. */
#ifndef WEIR_IO_HTTP_CLIENT_H
#define WEIR_IO_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct http_client;
struct http_request;
struct loop;
struct resolver;

struct http_client_options {
	struct resolver *resolver; /* borrowed; NULL where no host is a name */
	size_t max_active;         /* 0: 64 requests at once */
	size_t max_waiting;        /* 0: 1024 more; past it submits say ERR_FULL */
	usec_t connect_timeout;    /* 0: 5 s, with the TLS handshake */
	const char *ca_file;       /* copied; NULL or "": the system's authorities */
	/* Whether an address may be connected to; asked for each one before a socket to it exists,
	 * whatever name led there. NULL: all. Calls nothing of this client. */
	bool (*may_connect)(void *arg, const struct sockaddr *sa, socklen_t len);
	void *arg;
};

enum err http_client_new(struct loop *l, const struct http_client_options *o,
                         struct http_client **ret) MUST_CHECK;
/* NULL is fine. What is pending is told ERR_CANCELLED before this returns. Not from within a
 * completion. */
void http_client_free(struct http_client *c);

struct http_request_spec {
	const char *method;         /* a token: "POST" */
	const char *url;            /* http or https; userinfo in it is refused */
	const char *const *headers; /* "Name: value", without CR and LF; NULL ends; may be NULL */
	struct str body;            /* borrowed until the completion, or until cancelled */
	usec_t timeout;             /* 0: 30 s; from the submit on, waiting included */
	size_t max_answer;          /* 0: 1 MiB of body */
};

/* Borrowed for the completion. */
struct http_response {
	int status;         /* 0: no answer's head came */
	struct str body;    /* what came of it, at most max_answer */
	struct str headers; /* the last head's lines, without the status line */
	const char *text;   /* why it failed; "" when it did not */
};

/* ERR_OK: a whole answer came, whatever its status (err_of_http_status() judges that). Otherwise:
 *   ERR_UNAVAILABLE  nothing was sent: no such host, no connection, no place before the deadline
 *   ERR_TIMEOUT      sent, or partly so; outcome unknown
 *   ERR_CLOSED       the connection broke; outcome unknown
 *   ERR_PROTO        what came is not HTTP
 *   ERR_TOOBIG       the head is over 64 KiB or the body over max_answer; `res` has what fitted
 *   ERR_DENIED       the certificate is not trusted, or may_connect() refused all addresses
 *   ERR_NOMEM, ERR_CANCELLED (http_client_free)
 * `res` is never NULL. Exactly once, from the loop. */
typedef void (*http_response_fn)(void *arg, enum err err, const struct http_response *res);

/* Anything but ERR_OK: `cb` will not fire; ERR_INVAL (the URL, the method or a header), ERR_FULL,
 * ERR_NOMEM. All of `spec` but the body is copied. `ret` may be NULL. */
enum err http_client_submit(struct http_client *c, const struct http_request_spec *spec,
                            http_response_fn cb, void *arg, struct http_request **ret) MUST_CHECK;
/* After this the completion does not fire. Not for a request whose completion has begun. */
void http_request_cancel(struct http_request *r);

size_t http_client_active(const struct http_client *c);
size_t http_client_waiting(const struct http_client *c);

/* The value of the first header of that name, in any case; STR_NONE when there is none. */
struct str http_response_header(const struct http_response *res, struct str name);

/* What a status says about the request: 2xx ERR_OK; 401, 403, 407 ERR_DENIED; 404, 410
 * ERR_NOTFOUND; 408, 504 ERR_TIMEOUT; 409 ERR_CONFLICT; 413, 414, 431 ERR_TOOBIG; 425 ERR_AGAIN;
 * 429, 507 ERR_FULL; other 4xx ERR_INVAL; other 5xx ERR_UNAVAILABLE; the rest, redirects among it,
 * ERR_PROTO. */
enum err err_of_http_status(int status);

#endif
