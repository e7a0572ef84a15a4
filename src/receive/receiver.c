/* Tickets in, events out. The work itself is intake.c's; here are the route's checks, the wait for
 * the sink, the answers, and everything that is counted or logged. One `pending` stands for a
 * request that waits for the sink; it holds the ticket, so that a client that leaves frees nothing.
 */
#include "weir/receive/receiver.h"

#include <stdio.h>

#include "weir/base/buf.h"
#include "weir/base/list.h"
#include "weir/base/map.h"
#include "weir/base/mem.h"
#include "weir/model/event.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/receive/handshake.h"
#include "weir/receive/intake.h"
#include "weir/receive/split.h"
#include "weir/run/crash_point.h"
#include "weir/run/log.h"

#include "receive_stats_priv.h"

#define MAX_SPLIT_BYTES (64u * 1024 * 1024)
#define MAX_IDLE        1024 /* pendings kept for reuse */
#define ASKED_SHOWN     80   /* bytes of a path that names no tool */
#define ANSWER_MAX      (64 + SPLIT_MAX_ITEMS * (UUID_TEXT_LEN + 3) + UUID_TEXT_LEN)

struct receiver {
	struct receiver_options o;
	struct intake *intake;
	struct receive_stats *stats;
	struct list idle; /* of struct pending */
	size_t in_flight;
	struct buf answer;
};

struct pending_event {
	struct uuid uid;
	struct metric *received; /* counts its type */
};

struct pending {
	struct list_node node;
	struct receiver *r;
	struct http_ticket *ticket; /* a reference */
	struct tool_stats *stats;   /* the receiver's; outlives every request */
	usec_t started;             /* monotonic */
	size_t n;
	struct pending_event one;
	struct pending_event *events; /* &one, or owned where there are several */
};

enum err receiver_new(const struct receiver_options *o, struct receiver **ret)
{
	struct receiver *r = mem_zalloc(sizeof(*r));
	enum err e;

	if (!r)
		return ERR_NOMEM;
	r->o = *o;
	if (!r->o.max_split_bytes)
		r->o.max_split_bytes = MAX_SPLIT_BYTES;
	list_init(&r->idle);
	buf_init(&r->answer, ANSWER_MAX);
	e = intake_new(r->o.max_split_bytes, &r->intake);
	if (e == ERR_OK)
		e = receive_stats_new(o->metrics, &r->stats);
	if (e != ERR_OK) {
		receiver_free(r);
		return e;
	}
	*ret = r;
	return ERR_OK;
}

void receiver_free(struct receiver *r)
{
	struct list_node *n;

	if (!r)
		return;
	while ((n = list_pop_front(&r->idle)))
		mem_free(container_of(n, struct pending, node));
	intake_free(r->intake);
	receive_stats_free(r->stats);
	buf_done(&r->answer);
	mem_free(r);
}

size_t receiver_in_flight(const struct receiver *r)
{
	return r->in_flight;
}

unsigned receiver_retry_after(const struct receiver *r)
{
	return r->o.sink->retry_after(r->o.sink);
}

void receiver_count_refusal(struct receiver *r, enum http_refusal why)
{
	static const enum receive_outcome outcomes[] = {
	    [HTTP_REFUSED_MALFORMED] = RECEIVE_MALFORMED,
	    [HTTP_REFUSED_TOO_LARGE] = RECEIVE_TOO_LARGE,
	    [HTTP_REFUSED_TIMEOUT] = RECEIVE_TIMEOUT,
	    [HTTP_REFUSED_OVERLOAD] = RECEIVE_OVERLOAD,
	};

	/* Who left before the request was whole did not make one. */
	if (why != HTTP_REFUSED_CLIENT_GONE)
		receive_stats_count(receive_stats_unknown(r->stats), outcomes[why]);
}

/* ---- refusals ---- */

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

/* What a refusal says, and to whom. */
struct refusal {
	int status;
	const char *reason;           /* for the log: one word */
	const char *detail;           /* for the sender */
	struct str asked;             /* for the log: the tool that there is not; else empty */
	const char *setting;          /* for the log: what sets the limit; else NULL */
	uint64_t limit;               /* with `setting` */
	usec_t age;                   /* for the log: of a timestamp that was refused; else 0 */
	const char *www_authenticate; /* 401 */
};

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

static void refuse(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                   const struct refusal *f)
{
	unsigned wait = f->status == 503 ? r->o.sink->retry_after(r->o.sink) : 0;
	struct http_reply_header allow = {"Allow", "POST"},
	                         challenge = {"WWW-Authenticate", f->www_authenticate};

	receive_stats_count(stats, outcome_of(f->status));
	log_refusal(t, receive_stats_tool(stats), f);
	http_reply_problem(t, f->status, f->detail, wait,
	                   f->status == 405      ? &allow
	                   : f->www_authenticate ? &challenge
	                                         : NULL);
}

/* The sink did not take it, or does not know. Senders must try again: a fault of ours is no 4xx. */
static void refuse_sink(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                        enum err e)
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

/* ---- the route ---- */

/* What the path asks for; empty when it is no webhook's. */
static struct str asked_tool(struct http_ticket *t)
{
	struct str path = http_ticket_path(t), prefix = STR(RECEIVER_PREFIX);

	if (!str_starts(path, prefix))
		return STR("");
	return str_n(path.ptr + prefix.len, path.len - prefix.len);
}

static void refuse_unknown(struct receiver *r, struct http_ticket *t, struct str asked)
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

static uint64_t body_limit(const struct receiver *r, const struct tool *tool)
{
	return tool->max_body && tool->max_body < r->o.max_body ? tool->max_body : r->o.max_body;
}

/* The limit may have changed while the body came, or the gate has none for this path. */
static void refuse_large(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
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
	case RECIPE_NONE:
		break;
	}
	return "Webhook-Signature realm=\"webhooks\"";
}

static void refuse_content(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
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

static bool is_encoded(struct http_ticket *t)
{
	struct str value = STR_NONE;
	size_t n = http_ticket_header(t, STR("content-encoding"), &value);

	return n > 1 || (n == 1 && value.len && !str_ieq(value, STR("identity")));
}

/* Everything that the head alone tells; answers and returns false when the request goes no further.
 */
static bool admit(struct receiver *r, struct http_ticket *t, const struct tool **ret,
                  struct tool_stats **ret_stats)
{
	const struct tools *tools = r->o.tools(r->o.tools_arg);
	struct str asked = asked_tool(t);
	const struct tool *tool = tools ? tools_find(tools, asked) : NULL;
	struct tool_stats *stats;

	if (!tool) {
		refuse_unknown(r, t, asked);
		return false;
	}
	stats = receive_stats_of(r->stats, tool->id);
	if (http_ticket_method(t) != HTTP_POST &&
	    !recipe_takes_method(tool->recipe, http_ticket_method(t))) {
		refuse(r, t, stats,
		       &(struct refusal){.status = 405,
		                         .reason = "method",
		                         .detail = "webhooks are sent by POST"});
		return false;
	}
	if (is_encoded(t)) {
		refuse(
		    r, t, stats,
		    &(struct refusal){.status = 415,
		                      .reason = "content_encoding",
		                      .detail = "the body must come without a content encoding"});
		return false;
	}
	*ret = tool;
	*ret_stats = stats;
	return true;
}

void receiver_head(struct receiver *r, struct http_ticket *t)
{
	const struct tool *tool;
	struct tool_stats *stats;

	if (admit(r, t, &tool, &stats))
		http_ticket_limit_body(t, body_limit(r, tool));
}

/* ---- waiting for the sink ---- */

static struct pending *pending_get(struct receiver *r, size_t n)
{
	struct list_node *node = list_pop_front(&r->idle);
	struct pending *p =
	    node ? container_of(node, struct pending, node) : mem_zalloc(sizeof(*p));

	if (!p)
		return NULL;
	p->r = r;
	p->n = n;
	p->events = n > 1 ? mem_array(n, sizeof(*p->events)) : &p->one;
	if (!p->events) {
		mem_free(p);
		return NULL;
	}
	return p;
}

static void pending_put(struct pending *p)
{
	struct receiver *r = p->r;

	if (p->events != &p->one)
		mem_free(p->events);
	if (r->idle.count < MAX_IDLE)
		list_push_front(&r->idle, &p->node);
	else
		mem_free(p);
}

static void add_uid(struct buf *out, const struct uuid *u)
{
	char text[UUID_TEXT_LEN + 1];

	uuid_format(u, text);
	buf_add_char(out, '"');
	buf_add(out, text, UUID_TEXT_LEN);
	buf_add_char(out, '"');
}

static void answer(struct receiver *r, struct http_ticket *t, const struct pending_event *events,
                   size_t n)
{
	struct buf *out = &r->answer;

	buf_reset(out);
	buf_add_str(out, STR("{\"status\":\"accepted\",\"id\":"));
	if (n)
		add_uid(out, &events[0].uid);
	else
		buf_add_str(out, STR("null"));
	buf_add_str(out, STR(",\"ids\":["));
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_add_char(out, ',');
		add_uid(out, &events[i].uid);
	}
	buf_add_str(out, STR("]}"));
	/* The events are stored: an answer without its list is still the right one. */
	http_reply(t, 200, "application/json",
	           out->err ? STR("{\"status\":\"accepted\"}") : buf_str(out), NULL);
}

static void on_sink_done(void *arg, enum err e)
{
	struct pending *p = arg;
	struct receiver *r = p->r;

	r->in_flight--;
	CRASH_POINT("added");
	if (e == ERR_OK) {
		receive_stats_count(p->stats, RECEIVE_ACCEPTED);
		for (size_t i = 0; i < p->n; i++)
			metric_inc(p->events[i].received);
		receive_stats_latency(r->stats, clock_mono() - p->started);
		answer(r, p->ticket, p->events, p->n);
	} else {
		refuse_sink(r, p->ticket, p->stats, e);
	}
	http_ticket_unref(p->ticket);
	pending_put(p);
}

static void append(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                   const struct intake_result *in, usec_t started)
{
	struct pending *p = pending_get(r, in->n);
	enum err e;

	CRASH_POINT("verified");
	if (!p) {
		refuse_sink(r, t, stats, ERR_NOMEM);
		return;
	}
	p->stats = stats;
	p->started = started;
	for (size_t i = 0; i < in->n; i++)
		p->events[i] = (struct pending_event){
		    in->events[i].uid, receive_stats_type(r->stats, stats, in->events[i].type)};
	p->ticket = http_ticket_ref(t);
	r->in_flight++;
	e = r->o.sink->append(r->o.sink, in->events, in->n, on_sink_done, p);
	if (e == ERR_OK) {
		http_ticket_drop_body(t); /* the sink has its own copy */
		return;
	}
	r->in_flight--;
	refuse_sink(r, t, stats, e);
	http_ticket_unref(p->ticket);
	pending_put(p);
}

/* No browser is to take what is repeated here for a page. */
static void answer_handshake(struct http_ticket *t, struct tool_stats *stats,
                             const struct intake_result *in)
{
	struct http_reply_header headers[HANDSHAKE_MAX_HEADERS + 2] = {
	    {"X-Content-Type-Options", "nosniff"}};
	const struct handshake *h = in->hand;
	size_t n = 1;

	for (size_t i = 0; i < h->header_count; i++)
		headers[n++] =
		    (struct http_reply_header){h->headers[i].name.ptr, in->answer->headers[i].ptr};
	receive_stats_count(stats, RECEIVE_ACCEPTED);
	log_set_correlation(http_ticket_request_id(t));
	log_info(LOG_RECEIVE, "handshake answered", LOG_SLICE("tool", receive_stats_tool(stats)),
	         LOG_SLICE("method", http_ticket_method_text(t)), LOG_INT("status", h->status),
	         LOG_SLICE("peer", http_ticket_peer(t)));
	log_set_correlation(STR_NONE);
	http_reply(t, h->status, h->json ? "application/json" : "text/plain; charset=utf-8",
	           buf_str(&in->answer->body), headers);
}

static void log_accepted(struct http_ticket *t, const struct tool *tool,
                         const struct intake_result *in)
{
	if (!log_enabled(LOG_RECEIVE, LOG_LEVEL_DEBUG))
		return;
	log_set_correlation(http_ticket_request_id(t));
	log_debug(LOG_RECEIVE, "verified", LOG_SLICE("tool", tool->id), LOG_INT("events", in->n),
	          LOG_SLICE("type", in->n ? in->events[0].type : STR("")),
	          LOG_SLICE("event_id", in->n ? in->events[0].id : STR("")),
	          LOG_INT("secret", in->secret), LOG_SLICE("peer", http_ticket_peer(t)));
	log_set_correlation(STR_NONE);
}

void receiver_handle(struct receiver *r, struct http_ticket *t)
{
	usec_t started = clock_mono();
	const struct tool *tool;
	struct tool_stats *stats;
	struct intake_result in;
	struct recipe_request req;

	if (!admit(r, t, &tool, &stats))
		return;
	req = (struct recipe_request){.method = http_ticket_method_text(t),
	                              .target = http_ticket_target(t),
	                              .query = http_ticket_query(t),
	                              .body = http_ticket_body(t),
	                              .headers = http_ticket_headers(t),
	                              .header_count = http_ticket_header_count(t),
	                              .now = http_ticket_received(t)};
	if (req.body.len > body_limit(r, tool)) {
		refuse_large(r, t, stats, tool);
		return;
	}
	intake_run(r->intake, tool, http_ticket_method(t), &req, req.now, &in);
	if (in.status != 200) {
		refuse_content(r, t, stats, tool, &in);
		return;
	}
	if (in.hand) {
		answer_handshake(t, stats, &in);
		return;
	}
	if (tool->recipe->secret_count)
		receive_stats_secret(r->stats, stats, in.secret);
	log_accepted(t, tool, &in);
	if (in.n) {
		append(r, t, stats, &in, started);
	} else {
		receive_stats_count(stats, RECEIVE_ACCEPTED);
		answer(r, t, NULL, 0);
	}
}
