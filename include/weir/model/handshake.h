/* Handshakes: requests by which a provider asks whether the receiver wants its webhooks, and which
 * are answered and not stored. The member `hand` of a recipe is a list of them:
 *
 *   when     conditions that all must hold: "method=GET" (POST where none is named; HEAD, OPTIONS),
 *            "json:PATH=VALUE", "header:NAME=VALUE", "query:NAME=VALUE", or without "=VALUE": it is
 *            there
 *   verify   true: only after the request was verified as any other is. false: anybody may ask
 *   token    a source whose text must be the tool's `verify_token`, compared in constant time
 *   status   of the answer, 200 to 204
 *   type     text/plain (default) or application/json
 *   headers  names and templates
 *   body     template: {json:P}, {query:N}, {header:N}, {form:N}, and {hmac:SOURCE}, the hex
 *            HMAC-SHA256 of that value by the tool's first secret; "{{" is a brace. In JSON what
 *            stands outside of braces is written as it is, so "{\"a\":\"{json:a}\"}" needs no
 *            doubling: a brace that begins no source is a brace
 *   fetch    a source whose text is a URL that is fetched once, by GET, after the request was
 *            verified: the confirmation of a subscription (SNS). The handshake is answered at once
 *   hosts    with fetch: patterns of the hosts that it may be on, see model/pin.h
 *
 * What an answer echoes is bounded so that it can be used for nothing else (OWASP: reflected XSS;
 * signing oracles): values are printable ASCII without < and >, at most HANDSHAKE_ECHO_MAX bytes,
 * and in JSON they are escaped besides; what is to be signed consists of [A-Za-z0-9._~+/=-],
 * HANDSHAKE_SIGNED_MAX bytes at most, and comes from a verified request. */
#ifndef WEIR_MODEL_HANDSHAKE_H
#define WEIR_MODEL_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/str.h"
#include "weir/model/recipe.h"

#define HANDSHAKE_MAX_CONDITIONS 6
#define HANDSHAKE_MAX_PARTS      12
#define HANDSHAKE_MAX_HEADERS    4
#define HANDSHAKE_ECHO_MAX       4096
#define HANDSHAKE_SIGNED_MAX     256

struct handshake_condition {
	struct recipe_source source;
	struct str value; /* ptr NULL: it only has to be there */
};

struct handshake_part {
	struct str literal; /* ptr NULL: the source's text */
	struct recipe_source source;
	bool hmac;
};

struct handshake_template {
	struct handshake_part parts[HANDSHAKE_MAX_PARTS];
	size_t n;
};

struct handshake_header {
	struct str name; /* NUL-terminated */
	struct handshake_template value;
};

/* Compiled; part of its recipe, which owns all texts. */
struct handshake {
	enum http_method method;
	struct handshake_condition when[HANDSHAKE_MAX_CONDITIONS];
	size_t when_count;
	bool verify;
	bool has_token;
	struct recipe_source token;
	int status;
	bool json; /* type */
	struct handshake_header headers[HANDSHAKE_MAX_HEADERS];
	size_t header_count;
	struct handshake_template body;
	struct recipe_source fetch; /* of meaning where `hosts` has any */
	struct pin hosts;
};

/* Whether the recipe has a handshake by this method. */
bool recipe_takes_method(const struct recipe *r, enum http_method m);

#endif
