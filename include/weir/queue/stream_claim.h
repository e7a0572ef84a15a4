/* Takes over what idle consumers left behind, and keeps what we hold ourselves from looking idle.
 */
#ifndef WEIR_QUEUE_STREAM_CLAIM_H
#define WEIR_QUEUE_STREAM_CLAIM_H

#include <stdbool.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"

struct loop;
struct metric_registry;
struct redis;
struct stream_alone;
struct stream_claim;
struct stream_intake;
struct stream_names;

struct stream_claim_options {
	struct loop *loop; /* borrowed, like all here */
	struct redis *redis;
	const struct stream_names *names;
	struct stream_intake *intake;
	struct stream_alone *alone;
	struct metric_registry *metrics;
	unsigned max_deliveries; /* what was delivered more often runs alone */
	usec_t min_idle;         /* an entry is up for taking after this; 0: 60 s */
	size_t read_bytes;       /* most bytes in one claim, but for a single large entry */
	usec_t period;           /* how often it is looked for; 0: 10 s, jittered */
	/* Nobody claims while its own database is away: it could only hold what others can store.
	 */
	bool (*may_claim)(void *arg);
	void *arg;
};

enum err stream_claim_new(const struct stream_claim_options *o,
                          struct stream_claim **ret) MUST_CHECK;
void stream_claim_start(struct stream_claim *c);
void stream_claim_stop(struct stream_claim *c);
/* This process ends with entries that it could not do: to the others they look idle for long enough
 * from now on, so that they need not wait. */
void stream_claim_let_go(struct stream_claim *c);
void stream_claim_free(struct stream_claim *c); /* once the connection has told its completions */

#endif
