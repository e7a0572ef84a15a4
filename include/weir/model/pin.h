/* URLs that a request names and that are fetched all the same, because the host is one that was
 * written down beforehand: certificates of signatures, confirmations of subscriptions. */
#ifndef WEIR_MODEL_PIN_H
#define WEIR_MODEL_PIN_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/str.h"

#define PIN_MAX_HOSTS 8
#define PIN_MAX_URL   2048

struct pin {
	struct str hosts[PIN_MAX_HOSTS]; /* patterns */
	size_t host_count;
	struct str prefix, suffix; /* of the path; may be empty */
	bool query;                /* one is allowed */
};

/* HOST or HOST:PORT in lower case. A label "*" stands for any one label, "{region}" for one like
 * eu-west-1 (and not for one like s3-eu-west-1, below which anybody can have a name). */
bool pin_is_pattern(struct str s);
/* An https URL whose host is one of the pin's, letter for letter, without userinfo or fragment, and
 * whose path has no ".." and nothing that needs an escape. */
bool pin_allows(const struct pin *p, struct str url);

#endif
