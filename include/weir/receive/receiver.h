/* POST /webhooks/{tool}: from an HTTP ticket to the event sink and back. Verifies over the raw
 * bytes, finds id and type, splits arrays, cleans what will be stored as text, appends all events
 * of the request to the sink in one call, and answers when the sink says that they are durable. */
#ifndef WEIR_RECEIVE_RECEIVER_H
#define WEIR_RECEIVE_RECEIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"
#include "weir/io/http_server.h"

struct buf;
struct cert_store;
struct event_sink;
struct http_client;
struct loop;
struct metric_registry;
struct redis;
struct tools;
struct receiver;

#define RECEIVER_PREFIX "/webhooks/"

/* Which tool a path asks for; empty: none, or it is no webhook's. */
struct str receiver_asked(struct str path);

struct receiver_options {
	/* Borrowed; large requests are judged in several of its turns. NULL: in one go. */
	struct loop *loop;
	/* The set in force now; borrowed until the calling function returns. */
	const struct tools *(*tools)(void *arg);
	/* Whether a tool that is not in the set may be one all the same (it could not be read yet):
	 * then it is a 503. May be NULL. */
	bool (*may_exist)(void *tools_arg, struct str id);
	void *tools_arg;
	struct event_sink *sink;         /* borrowed */
	struct metric_registry *metrics; /* borrowed */
	uint64_t max_body;               /* bytes; tools can have a smaller limit */
	const char *trusted_proxies;     /* networks, see ip_nets_parse(); NULL: none */
	uint64_t max_split_bytes;        /* 0: 64 MiB; what the events of one request may take */
	/* Borrowed; NULL: none, what needs them is answered with 503. They are to be freed before
	 * the receiver, which is told then, the store after the client. */
	struct http_client *http;
	struct cert_store *certs;
	/* Where tokens that are good for one body are known to all processes; borrowed, to be freed
	 * before. NULL: in memory. */
	struct redis *redis;
	const char *redis_prefix; /* copied */
};

enum err receiver_new(const struct receiver_options *o, struct receiver **ret) MUST_CHECK;
/* Nothing may be in flight in the sink any more. */
void receiver_free(struct receiver *r);

/* To be called with every ticket whose path starts with RECEIVER_PREFIX, at the head (refuses what
 * the head alone is enough for before a body is read, and lowers the body limit) and when it is
 * whole. */
void receiver_head(struct receiver *r, struct http_ticket *t);
void receiver_handle(struct receiver *r, struct http_ticket *t);

/* For the gate's refusals on /webhooks (413, 408, 400 …), so that `webhooks_received_total` counts
 * every request. `path` is empty where the gate did not get so far: tool_id is "-" then. */
void receiver_count_refusal(struct receiver *r, enum http_refusal why, struct str path);

/* How many tools have had no event for longer than they should (`expect_every`); adds the members
 * of a health component's details. */
size_t receiver_report_silence(struct receiver *r, struct buf *details);
/* Seconds that a sender should wait whom we cannot take now. */
unsigned receiver_retry_after(const struct receiver *r);
/* What verified with one of a tool's secrets, in this process. */
struct secret_use {
	uint64_t matches;
	usec_t last; /* wall clock; 0: never */
};
struct secret_use receiver_secret_use(struct receiver *r, struct str tool, const char *fingerprint);

size_t receiver_in_flight(const struct receiver *r); /* waiting for the sink */

#endif
