/* Look-ups that fail close the gate for a while, longer each time. When that is over, one look-up
 * is let through to see; the others pass by until it is back. */
#include <stdio.h>
#include <string.h>

#include "enrich_priv.h"
#include "weir/base/backoff.h"
#include "weir/pipeline/recipient_lookup.h"
#include "weir/run/log.h"

#define OUTCOMES 64 /* look-ups that the success rate is of */

static const struct backoff pause_backoff = {
    .initial = 2 * USEC_PER_SEC, .max = 15 * USEC_PER_SEC, .multiplier = 2.0, .jitter = 0.2};

void enrich_gate_init(struct enrich_gate *g, const struct enricher_options *o, const char *backend)
{
	struct metric_registry *r = o->metrics;
	struct metric_family *paused = metric_family(
	    r,
	    &(struct metric_spec){.type = METRIC_GAUGE,
	                          .name = "webhook_enrich_paused",
	                          .help = "1 while look-ups of recipients pause after a failure.",
	                          .labels = {"backend"}});
	struct metric_family *seconds =
	    metric_family(r, &(struct metric_spec){.type = METRIC_HISTOGRAM,
	                                           .name = "webhook_enrich_lookup_duration_seconds",
	                                           .help = "How long look-ups of recipients took.",
	                                           .labels = {"backend"}});

	*g = (struct enrich_gate){.loop = o->loop, .backend = backend};
	g->lookups = metric_family(
	    r, &(struct metric_spec){.type = METRIC_COUNTER,
	                             .name = "webhook_enrich_lookups_total",
	                             .help = "Look-ups of recipients by backend and result.",
	                             .labels = {"backend", "status"}});
	g->ok = metric_of(g->lookups, backend, err_name(ERR_OK), NULL);
	g->seconds = metric_of(seconds, backend, NULL, NULL);
	g->paused = metric_of(paused, backend, NULL, NULL);
}

bool enrich_gate_open(struct enrich_gate *g)
{
	if (g->failures == 0)
		return true;
	if (g->trying || loop_now(g->loop) < g->closed_until)
		return false;
	g->trying = true;
	return true;
}

static void note_success(struct enrich_gate *g)
{
	if (g->failures > 0)
		log_info(LOG_PIPELINE, "recipients are found again", LOG_STR("backend", g->backend),
		         LOG_INT("reports_without", g->without));
	g->failures = 0;
	g->trying = false;
	g->without = 0;
	metric_set(g->paused, 0);
}

static void note_failure(struct enrich_gate *g, enum err err, const char *text, usec_t asked)
{
	bool tried = g->trying && asked >= g->closed_until;

	snprintf(g->last_error, sizeof(g->last_error), "%s: %s", err_name(err), text);
	/* Others that began before it closed say nothing new. */
	if (g->failures > 0 && !tried)
		return;
	g->closed_until = loop_now(g->loop) + backoff_delay(&pause_backoff, g->failures);
	g->trying = false;
	metric_set(g->paused, 1);
	if (g->failures++ == 0)
		log_warn(LOG_PIPELINE, "recipients cannot be looked up; events go on without",
		         LOG_STR("backend", g->backend), LOG_ERR(err), LOG_STR("message", text));
}

void enrich_gate_note(struct enrich_gate *g, enum err err, const char *text, usec_t asked)
{
	if (err == ERR_CANCELLED) {
		g->trying = false; /* we are stopping */
		return;
	}
	g->outcomes = g->outcomes << 1 | (err == ERR_OK);
	g->outcome_count += g->outcome_count < OUTCOMES;
	metric_inc(err == ERR_OK ? g->ok : metric_of(g->lookups, g->backend, err_name(err), NULL));
	metric_observe(g->seconds, (double)(loop_now(g->loop) - asked) / USEC_PER_SEC);
	if (err == ERR_OK)
		note_success(g);
	else
		note_failure(g, err, text, asked);
}

static unsigned worked(const struct enrich_gate *g)
{
	unsigned n = 0;

	for (unsigned i = 0; i < g->outcome_count; i++)
		n += g->outcomes >> i & 1;
	return n;
}

bool enrich_gate_report(const struct enrich_gate *g, struct buf *details)
{
	if (g->outcome_count > 0)
		buf_addf(details, "\"success_rate\":%.3f", (double)worked(g) / g->outcome_count);
	else
		buf_add_cstr(details, "\"success_rate\":null");
	buf_addf(details, ",\"paused\":%s", g->failures > 0 ? "true" : "false");
	if (g->failures > 0) {
		buf_add_cstr(details, ",\"error\":");
		buf_add_json(details, str_of(g->last_error));
	}
	return g->failures == 0;
}
