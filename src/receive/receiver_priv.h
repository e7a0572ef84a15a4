/* What the pieces of the receiver share. */
#ifndef WEIR_RECEIVE_RECEIVER_PRIV_H
#define WEIR_RECEIVE_RECEIVER_PRIV_H

#include "weir/base/buf.h"
#include "weir/base/list.h"
#include "weir/receive/cert_store.h"
#include "weir/receive/intake.h"
#include "weir/receive/once.h"
#include "weir/receive/receiver.h"
#include "weir/run/loop.h"

#include "admission_priv.h"
#include "refusal_priv.h"
#include "silence_priv.h"

#define RECEIVER_SLICE ((size_t)256 * 1024) /* decoded in a turn: a millisecond */

struct tool;
struct tool_stats;

struct receiver {
	struct receiver_options o;
	struct intake *intake;
	struct once *once;
	struct receive_stats *stats;
	struct admission admission;
	struct silence *silence;
	struct list idle; /* of struct pending */
	size_t in_flight;
	struct buf answer;
	struct list resting; /* requests that take several turns; one has a slice in each */
	struct loop_timer turn;
};

/* What a request has behind it when it is run again. */
struct trip {
	usec_t started;  /* monotonic */
	bool has_waited; /* for a certificate; once is enough */
	bool claimed;    /* `token` is the request's; who ends it settles that */
	struct once_key token;
	const char *challenge; /* with `token`: for a 401; a literal */
	/* Owned, NULL: none. What is known of it already, and the tool that it was found out with,
	 * whatever became of that meanwhile. */
	struct intake_rest *rest;
	struct tool *tool;
	struct tool_stats *stats; /* of that tool */
};

void trip_done(struct trip *trip); /* all but the token */

/* Judges the request and goes on with it as far as that can be done now. */
void receiver_run(struct receiver *r, struct http_ticket *t, struct trip *trip);
/* Runs it again when the certificate is there, or refuses it. */
void receiver_wait_cert(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                        const struct intake_result *in, struct trip *trip);
/* Goes on with it in later turns. */
void receiver_wait_turn(struct receiver *r, struct http_ticket *t, const struct tool *tool,
                        struct tool_stats *stats, struct intake_rest *rest,
                        const struct trip *trip);
void receiver_drop_resting(struct receiver *r);
void on_receiver_turn(void *arg);
/* False: it was refused, or will be run again. */
bool receiver_claim(struct receiver *r, struct http_ticket *t, const struct tool *tool,
                    struct tool_stats *stats, const struct intake_result *in, struct trip *trip);
/* Begins to fetch what a handshake named; the outcome is logged and counted. */
enum err receiver_fetch(struct receiver *r, struct str tool, struct str url) MUST_CHECK;

void receiver_refuse(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                     const struct refusal *f);
void receiver_refuse_sink(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                          enum err e);

#endif
