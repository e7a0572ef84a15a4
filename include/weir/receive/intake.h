/* A request becomes events, without HTTP around it: verify, identify, split, sanitise. Everything
 * made for one request lives in the intake's own memory, which is used again for the next. */
#ifndef WEIR_RECEIVE_INTAKE_H
#define WEIR_RECEIVE_INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"
#include "weir/io/http_server.h"
#include "weir/model/event.h"
#include "weir/receive/once.h"

struct cert_store;
struct handshake;
struct handshake_answer;
struct intake;
struct intake_rest;
struct recipe_request;
struct tool;

/* What allows no more than it does; see receive/refusal for what the log says of it. */
enum intake_limit {
	INTAKE_LIMIT_NONE,
	INTAKE_LIMIT_BODY,   /* what it decodes to */
	INTAKE_LIMIT_RATIO,  /* GZIP_MAX_RATIO */
	INTAKE_LIMIT_EVENTS, /* SPLIT_MAX_ITEMS */
	INTAKE_LIMIT_ID,     /* the tool requires one */
};

/* How a request ended here. `status` 200: there are `n` events (0 for an empty array). */
struct intake_result {
	int status;
	const char *reason;              /* for logs: one word; static */
	const char *detail;              /* for the sender; static */
	enum intake_limit limit;         /* that it was refused by */
	const struct event_view *events; /* valid until the next request, or intake_release() */
	size_t n;
	size_t secret; /* index of the secret that verified it */
	usec_t age;    /* of a timestamp that was refused, negative when it lies ahead; else 0 */
	bool timed;    /* a valid signature covers a timestamp; also where that was refused */
	usec_t skew;   /* with `timed`: by how much it lies behind `now` */
	/* With status 200: it was a handshake, to be answered so; no events. Else NULL. */
	const struct handshake *hand;
	const struct handshake_answer *answer; /* valid until the next request */
	struct str fetch; /* a URL that the handshake wants fetched; or empty */
	/* With status 503: a certificate that would help; or empty. See cert_store_wait(). */
	struct str cert_url;
	bool cert_chain;
	/* Not NULL: this much was enough for one turn, and there is no verdict yet. It is the
	 * caller's now; see intake_continue(). */
	struct intake_rest *rest;
	bool once; /* its token must be free, or this body's: see receive/once.h */
	struct once_key token;
	usec_t token_age; /* how long it must be remembered */
};

/* `max_split_bytes`: what the events of one request, envelopes included, may take. */
enum err intake_new(uint64_t max_split_bytes, struct intake **ret) MUST_CHECK;
void intake_free(struct intake *k);
/* Most bytes that a body may decode to, for the tool at hand; 26 MiB before. */
void intake_set_max_body(struct intake *k, uint64_t max);
/* From now on large requests are judged in more turns than one, of which none decodes more than so
 * many bytes. 0, as at first: all at one go. */
void intake_set_slice(struct intake *k, size_t bytes);
/* Without certificates (NULL) signatures that need one are a 503. */
void intake_use_certs(struct intake *k, struct cert_store *certs);

/* `received` is when the head of the request was whole. Each event gets a uid. Other methods than
 * POST are for handshakes: without one that fits it is a 405. */
void intake_run(struct intake *k, const struct tool *t, enum http_method method,
                const struct recipe_request *req, usec_t received, struct intake_result *ret);

/* What was found out of a request so far. It borrows the request's headers, and until it is ready
 * its body. */
bool intake_rest_step(struct intake_rest *rest, size_t slice); /* true: it is ready */
bool intake_rest_needs_body(const struct intake_rest *rest);   /* of one that is ready */
void intake_rest_free(struct intake_rest *rest);               /* NULL is fine */
/* intake_run() from there on, of the same tool and request. `rest` is borrowed, until
 * intake_release(); it may be continued again. */
void intake_continue(struct intake *k, const struct tool *t, enum http_method method,
                     const struct recipe_request *req, usec_t received, struct intake_rest *rest,
                     struct intake_result *ret);
/* Nothing of the last result is needed any more: what a large request took is given back. */
void intake_release(struct intake *k);

#endif
