/* How the receiver says no: the answer, its counter and its line in the log. */
#include <stdio.h>

#include "weir/model/event.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/run/log.h"

#include "receive_stats_priv.h"
#include "receiver_priv.h"

#define ASKED_SHOWN 80 /* bytes of a path that names no tool */

static enum receive_outcome outcome_of(int status)
{
	switch (status) {
	case 401:
	case 403:
		return RECEIVE_UNAUTHORIZED;
	case 404:
		return RECEIVE_UNKNOWN_TOOL;
	case 413:
		return RECEIVE_TOO_LARGE;
	case 503:
		return RECEIVE_OVERLOAD;
	}
	return RECEIVE_MALFORMED;
}

/* How far a timestamp is off tells an operator of a wrong clock; a forger need not know it. */
static void log_refusal(struct http_ticket *t, struct str tool, const struct refusal *f)
{
	struct str peer = http_ticket_peer(t);

	log_set_correlation(http_ticket_request_id(t));
	if (f->status >= 500)
		log_warn(LOG_RECEIVE, "refused", LOG_SLICE("tool", tool),
		         LOG_INT("status", f->status), LOG_STR("reason", f->reason),
		         LOG_SLICE("peer", peer));
	else if (f->asked.len)
		log_info(LOG_RECEIVE, "refused", LOG_SLICE("tool", tool),
		         LOG_INT("status", f->status), LOG_STR("reason", f->reason),
		         LOG_SLICE("asked", f->asked), LOG_SLICE("peer", peer));
	else if (f->setting)
		log_info(LOG_RECEIVE, "refused", LOG_SLICE("tool", tool),
		         LOG_INT("status", f->status), LOG_STR("reason", f->reason),
		         LOG_INT("limit", f->limit), LOG_STR("setting", f->setting),
		         LOG_SLICE("peer", peer));
	else if (f->age)
		log_info(LOG_RECEIVE, "refused", LOG_SLICE("tool", tool),
		         LOG_INT("status", f->status), LOG_STR("reason", f->reason),
		         LOG_INT("age_seconds", f->age / USEC_PER_SEC), LOG_SLICE("peer", peer));
	else
		log_info(LOG_RECEIVE, "refused", LOG_SLICE("tool", tool),
		         LOG_INT("status", f->status), LOG_STR("reason", f->reason),
		         LOG_SLICE("peer", peer));
	log_set_correlation(STR_NONE);
}

void refuse(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
            const struct refusal *f)
{
	unsigned wait = f->status == 503 ? r->o.sink->retry_after(r->o.sink) : 0;
	struct http_reply_header allow = {"Allow", "POST"},
	                         challenge = {"WWW-Authenticate", f->www_authenticate};

	receive_stats_count(stats, f->unavailable ? RECEIVE_UNAVAILABLE : outcome_of(f->status));
	log_refusal(t, receive_stats_tool(stats), f);
	http_reply_problem(t, f->status, f->detail, wait,
	                   f->status == 405      ? &allow
	                   : f->www_authenticate ? &challenge
	                                         : NULL);
}

void refuse_sink(struct receiver *r, struct http_ticket *t, struct tool_stats *stats, enum err e)
{
	bool bug = e == ERR_BUG || e == ERR_INVAL || e == ERR_DATA || e == ERR_TOOBIG;
	bool full = e == ERR_FULL || e == ERR_NOMEM || e == ERR_AGAIN;
	int status = bug ? 500 : 503;

	receive_stats_count(stats, full ? RECEIVE_OVERLOAD : RECEIVE_UNAVAILABLE);
	log_refusal(t, receive_stats_tool(stats),
	            &(struct refusal){.status = status, .reason = err_name(e)});
	http_reply_problem(t, status,
	                   bug    ? "the event could not be stored"
	                   : full ? "too many events are waiting; send it again later"
	                          : "the event could not be stored now; send it again later",
	                   bug ? 0 : r->o.sink->retry_after(r->o.sink), NULL);
}

void refuse_unknown(struct receiver *r, struct http_ticket *t, struct str asked)
{
	char text[64 + ASKED_SHOWN];
	bool cut = asked.len > ASKED_SHOWN;

	if (cut)
		asked.len = ASKED_SHOWN;
	snprintf(text, sizeof(text), "there is no tool \"%.*s%s\"", (int)asked.len,
	         asked.len ? asked.ptr : "", cut ? "..." : "");
	refuse(r, t, receive_stats_unknown(r->stats),
	       &(struct refusal){
	           .status = 404, .reason = "unknown_tool", .detail = text, .asked = asked});
}

void refuse_unready(struct receiver *r, struct http_ticket *t, struct str asked)
{
	refuse(r, t, receive_stats_unknown(r->stats),
	       &(struct refusal){.status = 503,
	                         .unavailable = true,
	                         .reason = "tool_not_ready",
	                         .detail = "the tool is not ready here; send it again later",
	                         .asked = asked});
}

uint64_t body_limit(const struct receiver *r, const struct tool *tool)
{
	return tool->max_body && tool->max_body < r->o.max_body ? tool->max_body : r->o.max_body;
}

void refuse_large(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                  const struct tool *tool)
{
	uint64_t limit = body_limit(r, tool);
	char text[80];

	snprintf(text, sizeof(text), "the body is over the limit of %llu bytes",
	         (unsigned long long)limit);
	refuse(r, t, stats,
	       &(struct refusal){.status = 413,
	                         .reason = "body_too_large",
	                         .detail = text,
	                         .setting = limit < r->o.max_body ? "max_body" : "MAX_BODY_SIZE",
	                         .limit = limit});
}

/* RFC 9110 wants a challenge with every 401. Only basic has a registered scheme. */
static const char *challenge_of(const struct tool *tool)
{
	switch (tool->recipe->scheme) {
	case RECIPE_BASIC:
		return "Basic realm=\"webhooks\", charset=\"UTF-8\"";
	case RECIPE_TOKEN:
		return "Webhook-Token realm=\"webhooks\"";
	case RECIPE_HMAC:
	case RECIPE_ED25519:
	case RECIPE_ECDSA_P256:
	case RECIPE_RSA_PKCS1:
	case RECIPE_TWILIO:
	case RECIPE_JWT:
	case RECIPE_SNS:
	case RECIPE_PAYPAL:
	case RECIPE_NONE:
		break;
	}
	return "Webhook-Signature realm=\"webhooks\"";
}

void refuse_content(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                    const struct tool *tool, const struct intake_result *in)
{
	refuse(
	    r, t, stats,
	    &(struct refusal){.status = in->status,
	                      .reason = in->reason,
	                      .detail = in->detail,
	                      .age = in->age,
	                      .www_authenticate = in->status == 401 ? challenge_of(tool) : NULL});
}
