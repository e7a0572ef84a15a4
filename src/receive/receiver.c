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

#include "receiver_priv.h"

#define MAX_SPLIT_BYTES (64u * 1024 * 1024)
#define MAX_IDLE        1024 /* pendings kept for reuse */
#define ANSWER_MAX      (64 + SPLIT_MAX_ITEMS * (UUID_TEXT_LEN + 3) + UUID_TEXT_LEN)

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
	int status;                   /* of the answer when the sink took them */
	bool claimed;                 /* `token` is the request's */
	struct once_key token;
};

static void on_collect(void *arg)
{
	struct receiver *r = arg;

	silence_look(r->silence, NULL);
}

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
	list_init(&r->resting);
	buf_init(&r->answer, ANSWER_MAX);
	e = intake_new(r->o.max_split_bytes, &r->intake);
	if (e == ERR_OK)
		e = once_new(&(struct once_options){o->redis, o->redis_prefix}, &r->once);
	if (e == ERR_OK)
		e = receive_stats_new(o->metrics, &r->stats);
	if (e == ERR_OK)
		e = admission_init(&r->admission, &r->o, r->stats);
	if (e == ERR_OK)
		e = silence_new(&r->o, r->stats, &r->silence);
	if (e == ERR_OK)
		e = metric_on_collect(o->metrics, on_collect, r);
	if (e == ERR_OK && o->loop)
		e = loop_timer_init(&r->turn, o->loop, on_receiver_turn, r);
	if (e != ERR_OK) {
		receiver_free(r);
		return e;
	}
	intake_use_certs(r->intake, o->certs);
	intake_set_slice(r->intake, o->loop ? RECEIVER_SLICE : 0);
	*ret = r;
	return ERR_OK;
}

void receiver_free(struct receiver *r)
{
	struct list_node *n;

	if (!r)
		return;
	receiver_drop_resting(r);
	loop_timer_done(&r->turn);
	while ((n = list_pop_front(&r->idle)))
		mem_free(container_of(n, struct pending, node));
	intake_free(r->intake);
	once_free(r->once);
	silence_free(r->silence);
	receive_stats_free(r->stats);
	buf_done(&r->answer);
	mem_free(r);
}

struct secret_use receiver_secret_use(struct receiver *r, struct str tool, const char *fingerprint)
{
	return receive_stats_use(receive_stats_of(r->stats, tool), fingerprint);
}

size_t receiver_in_flight(const struct receiver *r)
{
	return r->in_flight;
}

size_t receiver_report_silence(struct receiver *r, struct buf *details)
{
	return silence_look(r->silence, details);
}

unsigned receiver_retry_after(const struct receiver *r)
{
	return r->o.sink->retry_after(r->o.sink);
}

struct str receiver_asked(struct str path)
{
	struct str prefix = STR(RECEIVER_PREFIX);

	if (!str_starts(path, prefix))
		return STR("");
	return str_n(path.ptr + prefix.len, path.len - prefix.len);
}

static struct tool_stats *stats_at(struct receiver *r, struct str path)
{
	const struct tools *tools = r->o.tools(r->o.tools_arg);
	const struct tool *tool = tools ? tools_find(tools, receiver_asked(path)) : NULL;

	return tool ? receive_stats_of(r->stats, tool->id) : receive_stats_unknown(r->stats);
}

void receiver_count_refusal(struct receiver *r, enum http_refusal why, struct str path)
{
	static const enum receive_outcome outcomes[] = {
	    [HTTP_REFUSED_MALFORMED] = RECEIVE_MALFORMED,
	    [HTTP_REFUSED_TOO_LARGE] = RECEIVE_TOO_LARGE,
	    [HTTP_REFUSED_TIMEOUT] = RECEIVE_TIMEOUT,
	    [HTTP_REFUSED_OVERLOAD] = RECEIVE_OVERLOAD,
	};

	/* Who left before the request was whole did not make one. */
	if (why != HTTP_REFUSED_CLIENT_GONE)
		receive_stats_count(stats_at(r, path), outcomes[why]);
}

void receiver_refuse(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                     const struct refusal *f)
{
	admission_refuse(&r->admission, t, stats, f);
}

void receiver_refuse_sink(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                          enum err e)
{
	struct refusal f = refusal_sink(e);

	receiver_refuse(r, t, stats, &f);
}

void receiver_head(struct receiver *r, struct http_ticket *t)
{
	const struct tool *tool;
	struct tool_stats *stats;

	if (admission_ask(&r->admission, t, &tool, &stats))
		http_ticket_limit_body(t, admission_body_limit(&r->admission, tool));
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

static void answer(struct receiver *r, struct http_ticket *t, int status,
                   const struct pending_event *events, size_t n)
{
	struct buf *out = &r->answer;

	buf_reset(out);
	if (status == 204) {
		http_reply(t, status, "application/json", STR(""), NULL);
		return;
	}
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
	http_reply(t, status, "application/json",
	           out->err ? STR("{\"status\":\"accepted\"}") : buf_str(out), NULL);
}

/* Of this turn, where there is one. */
static usec_t wall_now(const struct receiver *r)
{
	return r->o.loop ? loop_wall(r->o.loop) : clock_wall();
}

static void on_sink_done(void *arg, enum err e)
{
	struct pending *p = arg;
	struct receiver *r = p->r;
	usec_t now;

	r->in_flight--;
	CRASH_POINT("added");
	if (p->claimed) /* when nobody knows, it stays this body's */
		once_settle(r->once, &p->token, e == ERR_OK || e == ERR_TIMEOUT || e == ERR_CLOSED);
	if (e == ERR_OK) {
		now = clock_mono();
		receive_stats_count(p->stats, RECEIVE_ACCEPTED);
		receive_stats_event(r->stats, p->stats, now, wall_now(r));
		for (size_t i = 0; i < p->n; i++)
			metric_inc(p->events[i].received);
		receive_stats_latency(r->stats, now - p->started);
		answer(r, p->ticket, p->status, p->events, p->n);
	} else {
		receiver_refuse_sink(r, p->ticket, p->stats, e);
	}
	http_ticket_unref(p->ticket);
	pending_put(p);
}

static void append(struct receiver *r, struct http_ticket *t, struct tool_stats *stats, int status,
                   const struct intake_result *in, struct trip *trip)
{
	struct pending *p = pending_get(r, in->n);
	enum err e;

	CRASH_POINT("verified");
	if (!p) {
		receiver_refuse_sink(r, t, stats, ERR_NOMEM);
		return;
	}
	p->stats = stats;
	p->status = status;
	p->started = trip->started;
	p->claimed = trip->claimed;
	p->token = trip->token;
	for (size_t i = 0; i < in->n; i++)
		p->events[i] = (struct pending_event){
		    in->events[i].uid, receive_stats_type(r->stats, stats, in->events[i].type)};
	p->ticket = http_ticket_ref(t);
	r->in_flight++;
	trip->claimed = false; /* the sink may be done before it returns */
	e = r->o.sink->append(r->o.sink, in->events, in->n, on_sink_done, p);
	if (e == ERR_OK) {
		http_ticket_drop_body(t); /* the sink has its own copy */
		return;
	}
	r->in_flight--;
	trip->claimed = p->claimed;
	receiver_refuse_sink(r, t, stats, e);
	http_ticket_unref(p->ticket);
	pending_put(p);
}

/* No browser is to take what is repeated here for a page. */
static void answer_handshake(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                             const struct intake_result *in)
{
	struct http_reply_header headers[HANDSHAKE_MAX_HEADERS + 2] = {
	    {"X-Content-Type-Options", "nosniff"}};
	const struct handshake *h = in->hand;
	size_t n = 1;
	enum err e =
	    in->fetch.len ? receiver_fetch(r, receive_stats_tool(stats), in->fetch) : ERR_OK;

	if (e != ERR_OK) {
		receiver_refuse_sink(r, t, stats, e);
		return;
	}
	for (size_t i = 0; i < h->header_count; i++)
		headers[n++] =
		    (struct http_reply_header){h->headers[i].name.ptr, in->answer->headers[i].ptr};
	receive_stats_count(stats, RECEIVE_ACCEPTED);
	log_set_correlation(http_ticket_request_id(t));
	log_info(LOG_RECEIVE, "handshake answered", LOG_SLICE("tool", receive_stats_tool(stats)),
	         LOG_SLICE("method", http_ticket_method_text(t)), LOG_INT("status", h->status),
	         LOG_SLICE("peer", admission_peer(&r->admission, t)));
	log_set_correlation(STR_NONE);
	http_reply(t, h->status, h->json ? "application/json" : "text/plain; charset=utf-8",
	           buf_str(&in->answer->body), headers);
}

static void log_accepted(const struct receiver *r, struct http_ticket *t, const struct tool *tool,
                         const struct intake_result *in)
{
	if (!log_enabled(LOG_RECEIVE, LOG_LEVEL_DEBUG))
		return;
	log_set_correlation(http_ticket_request_id(t));
	log_debug(LOG_RECEIVE, "verified", LOG_SLICE("tool", tool->id), LOG_INT("events", in->n),
	          LOG_SLICE("type", in->n ? in->events[0].type : STR("")),
	          LOG_SLICE("event_id", in->n ? in->events[0].id : STR("")),
	          LOG_INT("secret", in->secret),
	          LOG_SLICE("peer", admission_peer(&r->admission, t)));
	log_set_correlation(STR_NONE);
}

/* It may have changed while the body came, or the gate has none for this path. */
static bool fits(struct receiver *r, struct http_ticket *t, const struct tool *tool,
                 struct tool_stats *stats)
{
	uint64_t limit = admission_body_limit(&r->admission, tool);
	char text[REFUSAL_TEXT_MAX];
	struct refusal f;

	if (http_ticket_body(t).len <= limit)
		return true;
	f = refusal_large(limit, limit < r->o.max_body, text);
	receiver_refuse(r, t, stats, &f);
	return false;
}

static void judge(struct receiver *r, struct http_ticket *t, const struct tool *tool,
                  struct tool_stats *stats, struct intake_rest *rest, struct intake_result *ret)
{
	struct recipe_request req = {.method = http_ticket_method_text(t),
	                             .target = http_ticket_target(t),
	                             .query = http_ticket_query(t),
	                             .body = http_ticket_body(t),
	                             .headers = http_ticket_headers(t),
	                             .header_count = http_ticket_header_count(t),
	                             .now = http_ticket_received(t)};

	intake_set_max_body(r->intake, admission_body_limit(&r->admission, tool));
	if (rest)
		intake_continue(r->intake, tool, http_ticket_method(t), &req, req.now, rest, ret);
	else
		intake_run(r->intake, tool, http_ticket_method(t), &req, req.now, ret);
	if (ret->timed)
		receive_stats_skew(r->stats, stats, ret->skew);
}

static bool find_tool(struct receiver *r, struct http_ticket *t, const struct trip *trip,
                      const struct tool **ret, struct tool_stats **ret_stats)
{
	if (trip->rest) {
		*ret = trip->tool;
		*ret_stats = trip->stats;
		return true;
	}
	return admission_ask(&r->admission, t, ret, ret_stats) && fits(r, t, *ret, *ret_stats);
}

static void go(struct receiver *r, struct http_ticket *t, struct trip *trip)
{
	const struct tool *tool;
	struct tool_stats *stats;
	struct intake_result in;
	struct refusal f;
	uint64_t limit;

	if (!find_tool(r, t, trip, &tool, &stats))
		return;
	judge(r, t, tool, stats, trip->rest, &in);
	if (in.rest) {
		receiver_wait_turn(r, t, tool, stats, in.rest, trip);
		return;
	}
	if (in.cert_url.ptr) {
		receiver_wait_cert(r, t, stats, &in, trip);
		return;
	}
	if (in.status != 200) {
		limit = admission_body_limit(&r->admission, tool);
		f = refusal_content(tool, &in, limit, limit < r->o.max_body);
		receiver_refuse(r, t, stats, &f);
		return;
	}
	if (in.hand) {
		answer_handshake(r, t, stats, &in);
		return;
	}
	if (!receiver_claim(r, t, tool, stats, &in, trip))
		return;
	if (tool->recipe->secret_count)
		receive_stats_secret(r->stats, stats, in.secret, tool->fingerprints[in.secret],
		                     wall_now(r));
	log_accepted(r, t, tool, &in);
	if (in.n) {
		append(r, t, stats, tool->recipe->status, &in, trip);
	} else {
		receive_stats_count(stats, RECEIVE_ACCEPTED);
		answer(r, t, tool->recipe->status, NULL, 0);
		if (trip->claimed)
			once_settle(r->once, &trip->token, true);
		trip->claimed = false;
	}
}

void receiver_run(struct receiver *r, struct http_ticket *t, struct trip *trip)
{
	go(r, t, trip);
	intake_release(r->intake);
	if (trip->claimed)
		once_settle(r->once, &trip->token, false);
	trip_done(trip);
}

void receiver_handle(struct receiver *r, struct http_ticket *t)
{
	struct trip trip = {.started = clock_mono()};

	receiver_run(r, t, &trip);
}
