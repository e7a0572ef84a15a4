/* What the built-in schemes sign, put together from a request. Verification and recipe_sign() both
 * take it from here, so that the two cannot drift apart. */
#ifndef WEIR_MODEL_BUILTIN_H
#define WEIR_MODEL_BUILTIN_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/buf.h"
#include "weir/base/digest.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct recipe_input;

#define BUILTIN_TWILIO_URLS 6

/* One of `urls` and `form` behind it. */
struct twilio_content {
	struct str urls[BUILTIN_TWILIO_URLS]; /* different ones, the likeliest first */
	size_t n;
	struct str form;
};

/* The tool's URL, with the query of the request where that has one, in all spellings that Twilio
 * may have signed. `form`: and the fields of the body. The texts are the input's scratch.
 * ERR_INVAL: the form is malformed, the URLs are there all the same; ERR_NOMEM. */
enum err builtin_twilio(struct recipe_input *in, bool form, struct twilio_content *ret) MUST_CHECK;

/* Atlassian's canonical request, METHOD&path&query, the digest of which is `qsh`: the path below
 * that of the tool's URL, the fields of the query in order. ERR_INVAL: the query is malformed. */
enum err builtin_jwt_request(struct recipe_input *in, struct buf *out) MUST_CHECK;

/* "Key\nValue\n" of what Amazon SNS signs in a message of its type, and the hash of its
 * SignatureVersion. ERR_NOTFOUND: something of it is absent; ERR_INVAL: type or version is unknown.
 */
enum err builtin_sns(struct recipe_input *in, struct buf *out, enum digest_algo *ret) MUST_CHECK;

#define BUILTIN_PAYPAL_PARTS 7

/* id|time|webhook|CRC-32 of the body in decimal, the last one in `crc`. ERR_NOTFOUND: a header is
 * absent. */
enum err builtin_paypal(struct recipe_input *in, struct str webhook, char crc[16],
                        struct str parts[BUILTIN_PAYPAL_PARTS]) MUST_CHECK;

#endif
