/* What the pieces of the receiver share. */
#ifndef WEIR_RECEIVE_RECEIVER_PRIV_H
#define WEIR_RECEIVE_RECEIVER_PRIV_H

#include "weir/base/buf.h"
#include "weir/base/list.h"
#include "weir/receive/cert_store.h"
#include "weir/receive/intake.h"
#include "weir/receive/once.h"
#include "weir/receive/receiver.h"

struct tool;
struct tool_stats;

struct receiver {
	struct receiver_options o;
	struct intake *intake;
	struct once *once;
	struct receive_stats *stats;
	struct list idle; /* of struct pending */
	size_t in_flight;
	struct buf answer;
};

/* What a refusal says, and to whom. */
struct refusal {
	int status;
	bool unavailable;             /* with 503: it is not for want of room */
	const char *reason;           /* for the log: one word */
	const char *detail;           /* for the sender */
	struct str asked;             /* for the log: the tool that there is not; else empty */
	const char *setting;          /* for the log: what sets the limit; else NULL */
	uint64_t limit;               /* with `setting` */
	usec_t age;                   /* for the log: of a timestamp that was refused; else 0 */
	const char *www_authenticate; /* 401 */
};

/* What a request has behind it when it is run again. */
struct trip {
	usec_t started;  /* monotonic */
	bool has_waited; /* for a certificate; once is enough */
	bool claimed;    /* `token` is the request's; who ends it settles that */
	struct once_key token;
};

/* Judges the request and goes on with it as far as that can be done now. */
void receiver_run(struct receiver *r, struct http_ticket *t, struct trip *trip);
/* Runs it again when the certificate is there, or refuses it. */
void receiver_wait_cert(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                        const struct intake_result *in, const struct trip *trip);
/* False: it was refused, or will be run again. */
bool receiver_claim(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                    const struct intake_result *in, struct trip *trip);
/* Begins to fetch what a handshake named; the outcome is logged and counted. */
enum err receiver_fetch(struct receiver *r, struct str tool, struct str url) MUST_CHECK;

void refuse(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
            const struct refusal *f);
/* The sink did not take it, or does not know. Senders must try again: a fault of ours is no 4xx. */
void refuse_sink(struct receiver *r, struct http_ticket *t, struct tool_stats *stats, enum err e);
void refuse_unknown(struct receiver *r, struct http_ticket *t, struct str asked);
/* It is a tool of the table, which this process has not read yet or cannot use. */
void refuse_unready(struct receiver *r, struct http_ticket *t, struct str asked);
/* The limit may have changed while the body came, or the gate has none for this path. */
void refuse_large(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                  const struct tool *tool);
void refuse_content(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                    const struct tool *tool, const struct intake_result *in);
uint64_t body_limit(const struct receiver *r, const struct tool *tool);

#endif
