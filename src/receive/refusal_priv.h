/* A refusal, and what becomes of it: an answer, a count and a line in the log. */
#ifndef WEIR_RECEIVE_REFUSAL_PRIV_H
#define WEIR_RECEIVE_REFUSAL_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/io/http_server.h"

#include "receive_stats_priv.h"

struct intake_result;
struct token_rate;
struct tool;

#define REFUSAL_TEXT_MAX 200

struct refusal {
	int status;
	const char *reason;            /* for the log and a counter: a word; static */
	const char *detail;            /* for the sender */
	unsigned retry_after;          /* seconds; 0: none, with 503 the sink's */
	struct http_reply_header more; /* one that the status asks for; name NULL: none */
	struct str asked;              /* for the log: the tool that there is not; else empty */
	const char *setting;           /* for the log: what would allow it; NULL: nothing */
	uint64_t limit;                /* for the log; 0: none */
	const struct token_rate *rate; /* for the log: the limit, if it is one; else NULL */
	usec_t age;                    /* for the log: of a timestamp that was refused; else 0 */
	usec_t tolerance;              /* with `age` */
	bool unavailable; /* a 5xx because of what is behind us, not of too much to do */
};

/* `peer` is the sender's address as far as it is known. */
void refusal_send(const struct refusal *f, struct http_ticket *t, struct tool_stats *stats,
                  struct str peer);

/* Those whose texts are made; `text` is the room for it. */
struct refusal refusal_unknown(struct str asked, char text[REFUSAL_TEXT_MAX]);
/* It is a tool of the table, which this process has not read yet or cannot use. */
struct refusal refusal_unready(struct str asked);
struct refusal refusal_large(uint64_t limit, bool of_tool, char text[REFUSAL_TEXT_MAX]);
/* The token of a signature was used with another body: for the sender one as wrong as any. */
struct refusal refusal_reused(const char *challenge);
/* For WWW-Authenticate of the tool's 401s; a literal. */
const char *refusal_challenge(const struct tool *tool);
/* The sink did not take it, or does not know. Senders must try again: a fault of ours is no 4xx. */
struct refusal refusal_sink(enum err e);
/* `limit` is the body's, `of_tool` whether it is the tool's own. */
struct refusal refusal_content(const struct tool *tool, const struct intake_result *in,
                               uint64_t limit, bool of_tool);

#endif
