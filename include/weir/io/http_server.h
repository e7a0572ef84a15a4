/* HTTP/1.1 server: libevhtp behind a gate that checks the raw bytes first (DESIGN 9). This is the
 * only module that knows evhtp.
 *
 * A ticket stands for one request. It separates the client from the work: the handler may answer at
 * once or keep a reference and answer later; when the client has left meanwhile, the answer is a
 * no-op that is counted. Refusals of malformed requests are answered by the gate itself and never
 * reach a handler. */
#ifndef WEIR_IO_HTTP_SERVER_H
#define WEIR_IO_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct loop;
struct http_server;
struct http_ticket;

enum http_method {
	HTTP_GET,
	HTTP_HEAD,
	HTTP_POST,
	HTTP_PUT,
	HTTP_DELETE,
	HTTP_OPTIONS,
	HTTP_PATCH,
	HTTP_METHOD_OTHER
};
const char *http_method_name(enum http_method m);
const char *http_status_text(int status);

struct http_header {
	struct str name;  /* as sent */
	struct str value; /* trimmed; bytes as sent (obs-text possible, never NUL, CR, LF) */
};

/* Why the gate refused, or how a request ended without a handler's answer; for counters. */
enum http_refusal {
	HTTP_REFUSED_MALFORMED,   /* 400, 417, 501, 505 */
	HTTP_REFUSED_TOO_LARGE,   /* 413, 414, 431 */
	HTTP_REFUSED_TIMEOUT,     /* 408 */
	HTTP_REFUSED_OVERLOAD,    /* 503: connections, memory */
	HTTP_REFUSED_CLIENT_GONE, /* left before the request was whole or answered */
};

struct http_server_options {
	const char *name; /* for logs */
	const char *host; /* numeric or "localhost" (127.0.0.1); "" and "::" serve IPv4 too */
	uint16_t port;    /* 0: any free one, see http_server_port() */
	bool reuseport;
	size_t max_connections;  /* 0: 4096 */
	size_t max_header_bytes; /* 0: 32 KiB, request line included */
	size_t max_headers;      /* 0: 100 */
	uint64_t max_body;       /* bytes; a head handler may lower it per request */
	/* Bytes of all bodies in memory at once; past it 503; 0: 256 MiB. A body whose length is
	 * told counts from its head on, so that what was begun can be finished. */
	uint64_t max_body_total;
	/* Seconds for the Retry-After of such a 503; gets the handlers' argument. NULL: 1. */
	unsigned (*retry_after)(void *arg);
	usec_t header_timeout; /* 0: 10 s, absolute, from the request's first byte */
	usec_t body_timeout;   /* 0: 30 s, absolute, from the end of the head */
	usec_t idle_timeout;   /* 0: 60 s without a request */
	usec_t write_timeout;  /* 0: 30 s for a reply to be taken */
};

/* Called when the head was found valid, before any body byte is read. It may answer (http_reply):
 * then the body is not read, and the connection closes after the answer unless the whole body had
 * come along with the head. It may lower the body limit (http_ticket_limit_body). May be NULL. */
typedef void (*http_head_fn)(void *arg, struct http_ticket *t);
/* Called when the request is whole. The ticket is borrowed: take a reference to answer later. A
 * handler that neither answers nor takes a reference causes a 500. */
typedef void (*http_request_fn)(void *arg, struct http_ticket *t);
/* Every refusal by the gate, for counters and logs; everything is borrowed. */
struct http_refused {
	enum http_refusal why;
	int status; /* 0: the client left */
	const char *detail;
	struct str peer;
	struct str request_id; /* as answered; empty where the client left before it had one */
	struct str path;       /* decoded; empty where the head was not whole */
	uint64_t limit;        /* with 413: bytes, else 0 */
	bool limit_lowered;    /* by the head handler: it is not the server's own */
};
typedef void (*http_refusal_fn)(void *arg, const struct http_refused *r);

enum err http_server_new(struct loop *l, const struct http_server_options *o, http_head_fn on_head,
                         http_request_fn on_request, http_refusal_fn on_refusal, void *arg,
                         struct http_server **ret, struct err_info *info) MUST_CHECK;
/* What stands for `host` when it is listened on: localhost is 127.0.0.1. */
const char *http_server_address(const char *host);
/* Whether an address can be listened on at all: its form, not whether it is free. */
enum err http_server_check(const char *host, uint16_t port, struct err_info *info) MUST_CHECK;
uint16_t http_server_port(const struct http_server *s);
/* Takes what stands in the accept queue, then closes the listener. Requests in flight go on; every
 * answer from now on says Connection: close. Idle connections are closed after half a second: their
 * clients may be sending just now and are to get an answer, not a reset. */
void http_server_drain(struct http_server *s);
/* No request in flight, no reply unsent; while draining also: the listener is closed and no
 * connection could bring another request. */
bool http_server_idle(const struct http_server *s);
/* From the loop, not from a callback of this server. Tickets that are still held stay valid. */
void http_server_free(struct http_server *s);

struct http_server_stats {
	size_t connections, active_requests;
	uint64_t body_bytes; /* of all bodies in memory */
	uint64_t requests, late_replies;
};
void http_server_stats(const struct http_server *s, struct http_server_stats *ret);

/* ---- ticket: everything below is valid as long as a reference is held ---- */
struct http_ticket *http_ticket_ref(struct http_ticket *t);
void http_ticket_unref(struct http_ticket *t);

enum http_method http_ticket_method(const struct http_ticket *t);
struct str http_ticket_method_text(const struct http_ticket *t);
struct str http_ticket_path(const struct http_ticket *t);   /* decoded once; no NUL */
struct str http_ticket_target(const struct http_ticket *t); /* as sent, with the query */
struct str http_ticket_query(const struct http_ticket *t);  /* behind '?', raw */
struct str http_ticket_body(const struct http_ticket *t);   /* contiguous, de-chunked */
struct str http_ticket_peer(const struct http_ticket *t);   /* "192.0.2.1" */
struct str http_ticket_request_id(const struct http_ticket *t);
usec_t http_ticket_received(const struct http_ticket *t); /* wall clock, when the head was whole */
size_t http_ticket_header_count(const struct http_ticket *t);
const struct http_header *http_ticket_headers(const struct http_ticket *t);
/* Number of headers of that name (any case); the first one's value goes to *ret_value. Trailers
 * never count. */
size_t http_ticket_header(const struct http_ticket *t, struct str name, struct str *ret_value);
void http_ticket_limit_body(struct http_ticket *t, uint64_t max_body);
/* The body is not needed any more: gives its memory back if it is large. http_ticket_body() is
 * empty then. */
void http_ticket_drop_body(struct http_ticket *t);
/* Requests that share their luck, such as those to one place: how many there are and what their
 * bodies take. All zero at first. With `fair` their bodies together never take more than what is
 * still free of max_body_total, so that one group cannot use up what others need; a group's only
 * request is never refused for that. The share outlives its tickets, and leaving it is the tickets'
 * own business, at their end. */
struct http_share {
	size_t tickets;
	uint64_t bytes;
	bool fair;
};
void http_ticket_join(struct http_ticket *t, struct http_share *share); /* the first one counts */
/* A mark for the handler's own use, NULL at first. */
void http_ticket_set_user(struct http_ticket *t, void *user);
void *http_ticket_user(const struct http_ticket *t);

struct http_reply_header {
	const char *name;
	const char *value;
};
/* Exactly one answer per ticket: a second one is a bug and ignored with an error in the log. Adds
 * Content-Length, X-Request-Id and, where due, Connection: close. The body is copied; for HEAD it
 * is left out. `headers` ends with a NULL name, may be NULL. */
void http_reply(struct http_ticket *t, int status, const char *content_type, struct str body,
                const struct http_reply_header *headers);
/* application/problem+json (RFC 9457): type about:blank, title, status, detail, instance (the
 * request id). `retry_after` seconds, 0: none. `more` is one further header that the status asks
 * for (405: Allow, 401: WWW-Authenticate), or NULL. */
void http_reply_problem(struct http_ticket *t, int status, const char *detail, unsigned retry_after,
                        const struct http_reply_header *more);
bool http_ticket_answered(const struct http_ticket *t);
bool http_ticket_client_gone(const struct http_ticket *t);

#endif
