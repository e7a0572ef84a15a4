/* Which requests are let in at all: everything that is decided by the head alone, and what each
 * tool may have in flight. */
#ifndef WEIR_RECEIVE_ADMISSION_PRIV_H
#define WEIR_RECEIVE_ADMISSION_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/ip.h"
#include "weir/receive/receiver.h"

#include "receive_stats_priv.h"
#include "refusal_priv.h"

struct tool;

#define ADMISSION_MAX_PROXIES 256

struct admission {
	const struct receiver_options *o; /* borrowed */
	struct receive_stats *stats;      /* borrowed */
	struct ip_net trusted[ADMISSION_MAX_PROXIES];
	size_t trusted_count;
};

/* ERR_INVAL: o->trusted_proxies is no list of networks. */
enum err admission_init(struct admission *a, const struct receiver_options *o,
                        struct receive_stats *stats) MUST_CHECK;

/* Answers and returns false when the request goes no further. Asked at the head and once more when
 * the request is whole, for the tools may be others by then; what counts requests does so once. */
bool admission_ask(struct admission *a, struct http_ticket *t, const struct tool **ret,
                   struct tool_stats **ret_stats);
uint64_t admission_body_limit(const struct admission *a, const struct tool *tool);
/* The sender's address as the log should show it. */
struct str admission_peer(const struct admission *a, struct http_ticket *t);
/* What was admitted before and is refused now counts no more for the tool's rate. */
void admission_refuse(const struct admission *a, struct http_ticket *t, struct tool_stats *stats,
                      const struct refusal *f);

#endif
