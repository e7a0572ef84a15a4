/* Requests that cannot be judged at once: a certificate has to be fetched first, Redis has to say
 * whose a token is, or there is too much of it for one turn of the loop. What was read of a request
 * is gone by then, the ticket is not: it is run again, from the start or, where that costs much,
 * from what its trip remembers. And what a handshake wants fetched, for which nobody waits. */
#include <stdio.h>

#include "weir/base/mem.h"
#include "weir/io/http_client.h"
#include "weir/model/pin.h"
#include "weir/model/tool.h"
#include "weir/receive/verify.h"
#include "weir/run/log.h"
#include "weir/run/metric.h"

#include "receive_stats_priv.h"
#include "receiver_priv.h"

#define FETCH_DEADLINE (10 * USEC_PER_SEC)
#define FETCH_MAX      (64 * 1024)

struct waiting {
	struct list_node node; /* in receiver.resting */
	struct cert_wait cert;
	struct receiver *r;
	struct http_ticket *ticket; /* a reference */
	struct tool_stats *stats;
	struct trip trip;
};

void trip_done(struct trip *trip)
{
	intake_rest_free(trip->rest);
	tool_unref(trip->tool);
	trip->rest = NULL;
	trip->tool = NULL;
}

/* Without what the trip owns. */
static struct waiting *waiting_new(struct receiver *r, struct http_ticket *t,
                                   struct tool_stats *stats, const struct trip *trip)
{
	struct waiting *w = mem_zalloc(sizeof(*w));

	if (!w)
		return NULL;
	w->r = r;
	w->stats = stats;
	w->trip = *trip;
	w->trip.rest = NULL;
	w->trip.tool = NULL;
	w->ticket = http_ticket_ref(t);
	r->in_flight++;
	return w;
}

/* The wait has begun: what the trip owns goes with it. */
static void move_trip(struct waiting *w, struct trip *trip)
{
	w->trip.rest = trip->rest;
	w->trip.tool = trip->tool;
	trip->rest = NULL;
	trip->tool = NULL;
}

static void waiting_free(struct waiting *w)
{
	trip_done(&w->trip);
	w->r->in_flight--;
	http_ticket_unref(w->ticket);
	mem_free(w);
}

/* ---- certificates ---- */

static void refuse_cert(struct receiver *r, struct http_ticket *t, struct tool_stats *stats)
{
	receiver_refuse(r, t, stats,
	                &(struct refusal){.status = verify_status(VERIFY_CERT),
	                                  .reason = verify_reason(VERIFY_CERT),
	                                  .detail = verify_detail(VERIFY_CERT),
	                                  .unavailable = true});
}

static void on_cert(void *arg, enum err e)
{
	struct waiting *w = arg;

	w->trip.has_waited = true;
	if (e == ERR_OK)
		receiver_run(w->r, w->ticket, &w->trip);
	else
		refuse_cert(w->r, w->ticket, w->stats);
	waiting_free(w);
}

void receiver_wait_cert(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                        const struct intake_result *in, struct trip *trip)
{
	struct waiting *w = NULL;
	enum err e = ERR_UNAVAILABLE;

	if (r->o.certs && !trip->has_waited) {
		w = waiting_new(r, t, stats, trip);
		e = w ? ERR_OK : ERR_NOMEM;
	}
	if (e == ERR_OK) {
		w->cert.fn = on_cert;
		w->cert.arg = w;
		e = cert_store_wait(r->o.certs, in->cert_url, in->cert_chain, &w->cert);
	}
	if (e == ERR_OK) {
		move_trip(w, trip);
		return;
	}
	refuse_cert(r, t, stats);
	if (w)
		waiting_free(w);
}

/* ---- tokens ---- */

static void refuse_token(struct receiver *r, struct http_ticket *t, struct tool_stats *stats,
                         const char *challenge, enum err e)
{
	struct refusal f = refusal_reused(challenge);

	if (e == ERR_CONFLICT)
		receiver_refuse(r, t, stats, &f);
	else
		receiver_refuse_sink(r, t, stats, e);
}

static void on_claimed(void *arg, enum err e)
{
	struct waiting *w = arg;

	if (e == ERR_OK) {
		w->trip.claimed = true;
		receiver_run(w->r, w->ticket, &w->trip);
	} else {
		refuse_token(w->r, w->ticket, w->stats, w->trip.challenge, e);
	}
	waiting_free(w);
}

bool receiver_claim(struct receiver *r, struct http_ticket *t, const struct tool *tool,
                    struct tool_stats *stats, const struct intake_result *in, struct trip *trip)
{
	struct waiting *w;
	enum err e;

	if (!in->once || trip->claimed)
		return true;
	trip->token = in->token;
	trip->challenge = refusal_challenge(tool);
	w = waiting_new(r, t, stats, trip);
	e = w ? once_claim(r->once, &in->token, in->token_age, on_claimed, w) : ERR_NOMEM;
	trip->claimed = e == ERR_OK;
	if (e == ERR_AGAIN) {
		move_trip(w, trip);
		return false;
	}
	if (w)
		waiting_free(w);
	if (e != ERR_OK)
		refuse_token(r, t, stats, trip->challenge, e);
	return e == ERR_OK;
}

/* ---- turns ---- */

void on_receiver_turn(void *arg)
{
	struct receiver *r = arg;
	struct list_node *n = list_pop_front(&r->resting);
	struct waiting *w;

	if (!n)
		return;
	w = container_of(n, struct waiting, node);
	if (http_ticket_client_gone(w->ticket)) {
		waiting_free(w);
	} else if (!intake_rest_step(w->trip.rest, RECEIVER_SLICE)) {
		list_push_back(&r->resting, &w->node);
	} else {
		if (!intake_rest_needs_body(w->trip.rest))
			http_ticket_drop_body(w->ticket);
		receiver_run(r, w->ticket, &w->trip);
		waiting_free(w);
	}
	if (r->resting.count)
		loop_timer_set(&r->turn, 0);
}

void receiver_wait_turn(struct receiver *r, struct http_ticket *t, const struct tool *tool,
                        struct tool_stats *stats, struct intake_rest *rest, const struct trip *trip)
{
	struct waiting *w = waiting_new(r, t, stats, trip);

	if (!w) {
		intake_rest_free(rest);
		receiver_refuse_sink(r, t, stats, ERR_NOMEM);
		return;
	}
	w->trip.rest = rest;
	w->trip.tool = tool_ref(tool);
	w->trip.stats = stats;
	list_push_back(&r->resting, &w->node);
	if (!loop_timer_armed(&r->turn))
		loop_timer_set(&r->turn, 0);
}

void receiver_drop_resting(struct receiver *r)
{
	struct list_node *n;

	while ((n = list_pop_front(&r->resting))) {
		struct waiting *w = container_of(n, struct waiting, node);

		receiver_refuse_sink(r, w->ticket, w->stats, ERR_CLOSED);
		waiting_free(w);
	}
}

/* ---- what a handshake wants fetched ---- */

struct fetching {
	struct receiver *r;
	char tool[TOOL_ID_MAX + 1];
};

static const struct metric_spec confirmations_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_confirmations_total",
    .help = "Subscriptions that were confirmed by fetching a URL, by outcome.",
    .labels = {"tool_id", "outcome"},
    .max_children = 20000,
};

static void on_fetched(void *arg, enum err e, const struct http_response *res)
{
	struct fetching *f = arg;
	bool good = e == ERR_OK && res->status >= 200 && res->status < 300;
	struct metric_family *family = metric_family(f->r->o.metrics, &confirmations_spec);

	metric_inc(metric_of(family, f->tool, good ? "ok" : "failed", NULL));
	if (good)
		log_info(LOG_RECEIVE, "subscription confirmed", LOG_STR("tool", f->tool));
	else if (e != ERR_CANCELLED)
		log_warn(LOG_RECEIVE,
		         "a subscription could not be confirmed; have its confirmation sent again",
		         LOG_STR("tool", f->tool), LOG_INT("status", res->status),
		         LOG_STR("why", res->text));
	mem_free(f);
}

enum err receiver_fetch(struct receiver *r, struct str tool, struct str url)
{
	struct http_request_spec spec = {
	    .method = "GET", .timeout = FETCH_DEADLINE, .max_answer = FETCH_MAX};
	char text[PIN_MAX_URL + 1];
	struct fetching *f;
	enum err e;

	if (!r->o.http || url.len > PIN_MAX_URL)
		return ERR_UNAVAILABLE;
	f = mem_zalloc(sizeof(*f));
	if (!f)
		return ERR_NOMEM;
	f->r = r;
	snprintf(f->tool, sizeof(f->tool), "%.*s", (int)tool.len, tool.ptr);
	memcpy(text, url.ptr, url.len);
	text[url.len] = '\0';
	spec.url = text;
	e = http_client_submit(r->o.http, &spec, on_fetched, f, NULL);
	if (e != ERR_OK)
		mem_free(f);
	return e == ERR_INVAL ? ERR_UNAVAILABLE : e;
}
