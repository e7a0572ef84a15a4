/* What the receiver counts. Look-ups are done once per tool and type and then kept. */
#ifndef WEIR_RECEIVE_RECEIVE_STATS_PRIV_H
#define WEIR_RECEIVE_RECEIVE_STATS_PRIV_H

#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"
#include "weir/base/token_bucket.h"
#include "weir/io/http_server.h"
#include "weir/receive/receiver.h"
#include "weir/run/metric.h"

struct receive_stats;
struct tool_stats; /* one tool's; lives as long as the receive_stats, also past a reload */

/* The closed set of webhooks_received_total{outcome}. */
#define RECEIVE_OUTCOMES(X)                     \
	X(RECEIVE_ACCEPTED, "accepted")         \
	X(RECEIVE_MALFORMED, "malformed")       \
	X(RECEIVE_UNAUTHORIZED, "unauthorized") \
	X(RECEIVE_UNKNOWN_TOOL, "unknown_tool") \
	X(RECEIVE_TOO_LARGE, "too_large")       \
	X(RECEIVE_RATE_LIMITED, "rate_limited") \
	X(RECEIVE_OVERLOAD, "overload")         \
	X(RECEIVE_UNAVAILABLE, "unavailable")   \
	X(RECEIVE_TIMEOUT, "timeout")

#define RECEIVE_ENUM(code, name) code,
enum receive_outcome { RECEIVE_OUTCOMES(RECEIVE_ENUM) RECEIVE_OUTCOME_COUNT };
#undef RECEIVE_ENUM

enum err receive_stats_new(struct metric_registry *registry, struct receive_stats **ret) MUST_CHECK;
void receive_stats_free(struct receive_stats *s);

/* Never NULL: without memory for a tool's own, the unknown tool's. */
struct tool_stats *receive_stats_of(struct receive_stats *s, struct str tool);
struct tool_stats *receive_stats_unknown(struct receive_stats *s); /* tool_id "-" */
struct str receive_stats_tool(const struct tool_stats *t);

void receive_stats_count(struct tool_stats *t, enum receive_outcome outcome);
void receive_stats_refused(struct tool_stats *t, const char *reason); /* of a closed set */
void receive_stats_secret(struct receive_stats *s, struct tool_stats *t, size_t position,
                          const char *fingerprint, usec_t wall);
struct secret_use receive_stats_use(const struct tool_stats *t, const char *fingerprint);
/* An event of the tool was accepted now: monotonic, and by the wall clock. */
void receive_stats_event(struct receive_stats *s, struct tool_stats *t, usec_t now, usec_t wall);
/* By how much a signed timestamp lies behind our clock. */
void receive_stats_skew(struct receive_stats *s, struct tool_stats *t, usec_t skew);
void receive_stats_latency(struct receive_stats *s, usec_t usec);
/* The counter of a tool's events of a type; past 200 types of the tool that of "other". */
struct metric *receive_stats_type(struct receive_stats *s, struct tool_stats *t, struct str type);

/* What is kept of a tool besides counters, likewise past a reload. */
struct token_bucket *receive_stats_bucket(struct tool_stats *t);
struct http_share *receive_stats_share(struct tool_stats *t);

struct tool_pulse {
	usec_t since;          /* monotonic: of the last event, or when the tool was first seen */
	struct metric *silent; /* NULL until somebody looked */
};
struct tool_pulse *receive_stats_pulse(struct tool_stats *t);
/* `*pos` starts at 0; NULL at the end. */
struct tool_stats *receive_stats_next(const struct receive_stats *s, size_t *pos);

#endif
