/* Is the request from whom it says it is? In this order: structure, timestamp, MAC. Every key is
 * tried against every signature, and a stale request costs as much as a fresh one. */
#ifndef WEIR_RECEIVE_VERIFY_H
#define WEIR_RECEIVE_VERIFY_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct cert_store;
struct recipe_input;

#define VERIFY_SIGNATURE_MAX 4096 /* bytes of a signature header or token */
#define VERIFY_MAX_GROUPS    8    /* signature headers, or groups in one */
#define VERIFY_MAX_SIGS      16   /* signatures in one request */

/* One text for the sender whatever it was: nobody shall learn which part of a guess was right. */
#define VERIFY_REFUSED "the signature is wrong, or its time is over"
/* X(code, HTTP status, reason for logs, detail for the sender) */
#define VERIFY_LIST(X)                                                                      \
	X(VERIFY_OK, 200, "ok", "")                                                         \
	X(VERIFY_DOUBLED, 400, "header_doubled",                                            \
	  "a header that the verification reads came more "                                 \
	  "than once")                                                                      \
	X(VERIFY_MALFORMED, 400, "field_malformed",                                         \
	  "a form or query field that the verification reads is malformed or came twice")   \
	X(VERIFY_NOT_JSON, 400, "body_not_json",                                            \
	  "the body is not valid JSON, which the verification needs")                       \
	X(VERIFY_MISSING, 401, "signature_missing", "the signature is missing")             \
	X(VERIFY_PART_MISSING, 401, "signed_part_missing",                                  \
	  "a header or field that is part of the signed content is missing")                \
	X(VERIFY_OVERSIZED, 401, "signature_oversized", "the signature is too long")        \
	X(VERIFY_ENCODING, 401, "signature_encoding",                                       \
	  "the signature is not written in the expected form")                              \
	X(VERIFY_TS_MISSING, 401, "timestamp_missing", "the timestamp is missing")          \
	X(VERIFY_TS_MALFORMED, 401, "timestamp_malformed", "the timestamp is malformed")    \
	X(VERIFY_CERT_URL, 401, "certificate_url",                                          \
	  "the certificate's URL is not one of the provider's")                             \
	X(VERIFY_CERT, 503, "certificate_missing",                                          \
	  "the certificate of the signature could not be fetched now; send it again later") \
	X(VERIFY_STALE, 401, "timestamp_stale", VERIFY_REFUSED)                             \
	X(VERIFY_FUTURE, 401, "timestamp_future", VERIFY_REFUSED)                           \
	X(VERIFY_WRONG, 401, "signature_wrong", VERIFY_REFUSED)                             \
	X(VERIFY_NOMEM, 503, "no_memory", "out of memory")

#define VERIFY_ENUM(code, status, reason, detail) code,
enum verify_verdict { VERIFY_LIST(VERIFY_ENUM) VERIFY_COUNT };
#undef VERIFY_ENUM

int verify_status(enum verify_verdict v);
const char *verify_reason(enum verify_verdict v); /* for logs */
const char *verify_detail(enum verify_verdict v); /* for the sender; tells no secrets */

struct verify_result {
	size_t secret; /* VERIFY_OK: index of the one that matched; 0 without verification */
	usec_t age;    /* VERIFY_STALE, _FUTURE: of the timestamp; negative: it lies ahead */
	/* VERIFY_CERT: what to fetch; see cert_store_wait(). Valid until the next bind. */
	struct str cert_url;
	bool cert_chain;
	/* The signature fits and covers a timestamp, be it stale: so far the sender's clock is
	 * behind ours, the request's way included. */
	bool timed;
	usec_t skew;
};

/* `in` is bound to the request. */
enum verify_verdict verify_request(struct recipe_input *in, struct verify_result *ret);
/* The same with certificates; without a store (NULL) signatures that need one are VERIFY_CERT. */
enum verify_verdict verify_request_by(struct recipe_input *in, struct cert_store *certs,
                                      struct verify_result *ret);

#endif
