/* How far a timestamp is off and what the sender asked for tell an operator what is wrong; a forger
 * need not know it: details for the log and texts for the sender are kept apart. */
#include "refusal_priv.h"

#include <math.h>
#include <stdio.h>

#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/base/gzip.h"
#include "weir/base/token_bucket.h"
#include "weir/receive/intake.h"
#include "weir/receive/split.h"
#include "weir/receive/verify.h"
#include "weir/run/log.h"

#define ASKED_SHOWN 80 /* bytes of a path that names no tool */
#define RATE_TEXT   64
#define FIELDS      11

static enum receive_outcome outcome_of(const struct refusal *f)
{
	if (f->unavailable)
		return RECEIVE_UNAVAILABLE;
	switch (f->status) {
	case 401:
	case 403:
		return RECEIVE_UNAUTHORIZED;
	case 404:
		return RECEIVE_UNKNOWN_TOOL;
	case 413:
		return RECEIVE_TOO_LARGE;
	case 429:
		return RECEIVE_RATE_LIMITED;
	case 503:
		return RECEIVE_OVERLOAD;
	}
	return RECEIVE_MALFORMED;
}

/* A site logs so many lines a second: a flood of one kind of refusal must not hide the others. */
static struct log_site *site_of(int status)
{
#define SITE(code, lvl)                                          \
	{                                                        \
		code,                                            \
		{                                                \
			.component = LOG_RECEIVE, .level = (lvl) \
		}                                                \
	}
	static struct {
		int status;
		struct log_site site;
	} sites[] = {
	    SITE(401, LOG_LEVEL_INFO), SITE(403, LOG_LEVEL_INFO), SITE(404, LOG_LEVEL_INFO),
	    SITE(405, LOG_LEVEL_INFO), SITE(413, LOG_LEVEL_INFO), SITE(415, LOG_LEVEL_INFO),
	    SITE(429, LOG_LEVEL_INFO), SITE(500, LOG_LEVEL_WARN), SITE(503, LOG_LEVEL_WARN),
	    SITE(400, LOG_LEVEL_INFO), /* the last: for what else there is */
	};
#undef SITE
	size_t i = 0;

	while (i + 1 < sizeof(sites) / sizeof(sites[0]) && sites[i].status != status)
		i++;
	return &sites[i].site;
}

/* As it was written: in the unit in which it is a whole number. */
static const char *rate_text(const struct token_rate *rate, char text[RATE_TEXT])
{
	static const struct {
		char unit;
		double seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}};
	size_t i = 0;

	while (i < 2 && fabs(rate->per_second * units[i].seconds -
	                     nearbyint(rate->per_second * units[i].seconds)) > 1e-6)
		i++;
	snprintf(text, RATE_TEXT, "%.0f/%c, burst %.0f", rate->per_second * units[i].seconds,
	         units[i].unit, rate->burst);
	return text;
}

static void log_refusal(const struct refusal *f, struct http_ticket *t, struct str tool,
                        struct str peer)
{
	struct log_site *site = site_of(f->status);
	struct log_field fields[FIELDS] = {LOG_SLICE("tool", tool), LOG_INT("status", f->status),
	                                   LOG_STR("reason", f->reason)};
	char rate[RATE_TEXT];
	size_t n = 3;

	if (!log_enabled(site->component, site->level))
		return;
	if (f->asked.len)
		fields[n++] = LOG_SLICE("asked", f->asked);
	if (f->limit)
		fields[n++] = LOG_INT("limit", f->limit);
	if (f->rate)
		fields[n++] = LOG_STR("limit", rate_text(f->rate, rate));
	if (f->setting)
		fields[n++] = LOG_STR("setting", f->setting);
	if (f->age) {
		fields[n++] = LOG_INT("age_seconds", f->age / USEC_PER_SEC);
		fields[n++] = LOG_INT("tolerance_seconds", f->tolerance / USEC_PER_SEC);
	}
	fields[n++] = LOG_SLICE("peer", peer);
	fields[n] = (struct log_field){.kind = LOG_END};
	log_set_correlation(http_ticket_request_id(t));
	log_write(site, "refused", fields);
	log_set_correlation(STR_NONE);
}

void refusal_send(const struct refusal *f, struct http_ticket *t, struct tool_stats *stats,
                  struct str peer)
{
	receive_stats_count(stats, outcome_of(f));
	receive_stats_refused(stats, f->reason);
	log_refusal(f, t, receive_stats_tool(stats), peer);
	http_reply_problem(t, f->status, f->detail, f->retry_after, f->more.name ? &f->more : NULL);
}

static struct str shown(struct str asked)
{
	return asked.len > ASKED_SHOWN ? str_n(asked.ptr, ASKED_SHOWN) : asked;
}

struct refusal refusal_unready(struct str asked)
{
	return (struct refusal){.status = 503,
	                        .unavailable = true,
	                        .reason = "tool_not_ready",
	                        .detail = "the tool is not ready here; send it again later",
	                        .asked = shown(asked)};
}

struct refusal refusal_unknown(struct str asked, char text[REFUSAL_TEXT_MAX])
{
	bool cut = asked.len > ASKED_SHOWN;

	asked = shown(asked);
	snprintf(text, REFUSAL_TEXT_MAX, "there is no tool \"%.*s%s\"", (int)asked.len,
	         asked.len ? asked.ptr : "", cut ? "..." : "");
	return (struct refusal){
	    .status = 404, .reason = "unknown_tool", .detail = text, .asked = asked};
}

static const char *body_setting(bool of_tool)
{
	return of_tool ? "max_body" : "MAX_BODY_SIZE";
}

struct refusal refusal_large(uint64_t limit, bool of_tool, char text[REFUSAL_TEXT_MAX])
{
	snprintf(text, REFUSAL_TEXT_MAX, "the body is over the limit of %llu bytes",
	         (unsigned long long)limit);
	return (struct refusal){.status = 413,
	                        .reason = "body_too_large",
	                        .detail = text,
	                        .setting = body_setting(of_tool),
	                        .limit = limit};
}

struct refusal refusal_sink(enum err e)
{
	bool bug = e == ERR_BUG || err_fate(e) == FATE_DEAD;
	bool full = e == ERR_FULL || e == ERR_NOMEM || e == ERR_AGAIN;

	return (struct refusal){
	    .status = bug ? 500 : 503,
	    .reason = err_name(e),
	    .detail = bug    ? "the event could not be stored"
	              : full ? "too many events are waiting; send it again later"
	                     : "the event could not be stored now; send it again later",
	    .setting = e == ERR_FULL ? "QUEUE_MAX_BYTES, MAX_MEMORY" : NULL,
	    .unavailable = !full};
}

/* RFC 9110 wants a challenge with every 401. Only basic has a registered scheme. */
const char *refusal_challenge(const struct tool *tool)
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

struct refusal refusal_reused(const char *challenge)
{
	return (struct refusal){.status = 401,
	                        .reason = "token_reused",
	                        .detail = VERIFY_REFUSED,
	                        .more = {"WWW-Authenticate", challenge}};
}

/* A timestamp out of its window, and what of a body is too much, or too little. */
static void add_limits(struct refusal *f, const struct tool *tool, enum intake_limit which,
                       uint64_t limit, bool of_tool)
{
	if (f->age) {
		f->tolerance = f->age > 0 ? tool->recipe->past : tool->recipe->future;
		f->setting = f->age > 0 ? "past" : "future";
	}
	switch (which) {
	case INTAKE_LIMIT_NONE:
		return;
	case INTAKE_LIMIT_BODY:
		f->limit = limit;
		f->setting = body_setting(of_tool);
		return;
	case INTAKE_LIMIT_RATIO:
		f->limit = GZIP_MAX_RATIO;
		return;
	case INTAKE_LIMIT_EVENTS:
		f->limit = SPLIT_MAX_ITEMS;
		return;
	case INTAKE_LIMIT_ID:
		f->setting = "require_id";
		return;
	}
}

struct refusal refusal_content(const struct tool *tool, const struct intake_result *in,
                               uint64_t limit, bool of_tool)
{
	struct refusal f = {
	    .status = in->status, .reason = in->reason, .detail = in->detail, .age = in->age};

	add_limits(&f, tool, in->limit, limit, of_tool);
	if (in->status == 401)
		f.more = (struct http_reply_header){"WWW-Authenticate", refusal_challenge(tool)};
	if (in->status == 405)
		f.more = (struct http_reply_header){"Allow", "POST"};
	return f;
}
