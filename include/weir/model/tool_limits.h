/* What a tool takes in, and from whom: the members of a tool that need no look at the signature.
 *
 *   rate           requests a second, minute or hour: "100/s", "6000/m", "10000/h"
 *   burst          how many may come at once (what comes in a second, at least 1)
 *   max_in_flight  requests that are being received or wait for their answer
 *   content_types  media types; "*" stands for any subtype, "*+json" for any with that suffix
 *   allow_from     networks of senders, "192.0.2.0/24", "2001:db8::/32"
 *   expect_every   a duration; a tool without an event for so long is silent
 *   gzip           (boolean) bodies may come with Content-Encoding: gzip
 *   signed_encoding  "sent" (default): the signature is over the bytes as sent; "decoded": over
 *                  what they decode to */
#ifndef WEIR_MODEL_TOOL_LIMITS_H
#define WEIR_MODEL_TOOL_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/ip.h"
#include "weir/base/str.h"
#include "weir/base/token_bucket.h"

#define TOOL_MAX_NETWORKS      256
#define TOOL_MAX_CONTENT_TYPES 32

struct tool_limits {
	struct token_rate rate; /* per_second 0: none */
	size_t max_in_flight;   /* 0: none */
	struct str *types;      /* owned, with their texts; lower case */
	size_t type_count;      /* 0: all */
	struct ip_net *nets;    /* owned */
	size_t net_count;       /* 0: all */
	usec_t expect_every;    /* 0: whenever */
	bool gzip;
	bool signed_decoded;
};

/* Whether the media type of a Content-Type header (empty: there is none) is among the tool's. */
bool tool_limits_take_type(const struct tool_limits *l, struct str content_type);

#endif
