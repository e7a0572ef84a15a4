/* Answers a provider's handshake, where the tool's recipe has one that fits the request. */
#ifndef WEIR_RECEIVE_HANDSHAKE_H
#define WEIR_RECEIVE_HANDSHAKE_H

#include "weir/base/buf.h"
#include "weir/io/http_server.h"
#include "weir/model/handshake.h"

struct recipe_input;

/* The first handshake whose conditions hold; NULL: none, the request is a webhook. `in` is bound.
 * Fails for want of memory only: nobody knows then what the request is. */
enum err handshake_find(struct recipe_input *in, enum http_method method,
                        const struct handshake **ret) MUST_CHECK;

enum handshake_verdict {
	HANDSHAKE_OK,
	HANDSHAKE_TOKEN, /* the token is missing or wrong: 403 */
	HANDSHAKE_VALUE, /* a value is missing, or not one that may be echoed: 400 */
	HANDSHAKE_NOMEM,
};

struct handshake_answer {
	struct buf body;
	struct buf headers[HANDSHAKE_MAX_HEADERS];
};

/* The URL that is to be fetched, once the request was verified; where there is none to fetch,
 * `*ret` stays. HANDSHAKE_VALUE: it is missing, or not of a host that is allowed. */
enum handshake_verdict handshake_fetch(struct recipe_input *in, const struct handshake *h,
                                       struct str *ret);

void handshake_answer_init(struct handshake_answer *a);
void handshake_answer_done(struct handshake_answer *a);

/* After the verification, where the handshake asks for one. `verify_token` is the tool's. */
enum handshake_verdict handshake_make(struct recipe_input *in, const struct handshake *h,
                                      struct str verify_token, struct handshake_answer *ret);

#endif
