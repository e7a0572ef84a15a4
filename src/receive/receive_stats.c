/* Counters of a tool stay when a reload drops the tool: requests in flight still point to them, and
 * a counter that vanished would look like a restart. Tools come from configuration, so their number
 * is bounded; event types come from outside, so theirs is bounded here, per tool. */
#include "receive_stats_priv.h"

#include <stdio.h>
#include <string.h>

#include "weir/base/map.h"
#include "weir/base/mem.h"
#include "weir/model/tool.h"

#define MAX_TYPES    200
#define MAX_CHILDREN 100000

#define MAX_SECRETS (2 * TOOL_MAX_SECRETS) /* a tool's, and those that it had before */

struct secret_stats {
	char fingerprint[TOOL_FINGERPRINT];
	size_t position;
	struct metric *hits, *used;
	uint64_t matches; /* 0: there is none here */
	usec_t last;
};

struct tool_stats {
	struct metric *outcomes[RECEIVE_OUTCOME_COUNT];
	struct metric_family *refusals; /* borrowed */
	struct secret_stats secrets[MAX_SECRETS];
	struct map *types; /* of struct metric, borrowed */
	struct metric *other;
	struct metric *last_event, *skew; /* NULL until first used */
	struct tool_pulse pulse;
	struct token_bucket bucket;
	struct http_share share;
	char *id; /* owned */
};

struct receive_stats {
	struct metric_family *requests, *refusals, *events, *secret_hits, *secret_used,
	    *last_events, *skews;
	struct metric *latency;
	struct map *tools; /* of struct tool_stats, owned */
	struct tool_stats *unknown;
};

static const struct metric_spec requests_spec = {
    .type = METRIC_COUNTER,
    .name = "webhooks_received_total",
    .help = "HTTP requests to /webhooks by how they ended.",
    .labels = {"tool_id", "outcome"},
    .max_children = MAX_CHILDREN,
};
static const struct metric_spec refusals_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_refusals_total",
    .help = "Webhooks that were refused, by the reason that the log names.",
    .labels = {"tool_id", "reason"},
    .max_children = MAX_CHILDREN,
};
static const struct metric_spec events_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_events_received_total",
    .help = "Events that the queue (or the buffer) took.",
    .labels = {"event_type", "tool_id"},
    .max_children = MAX_CHILDREN,
};
static const struct metric_spec secrets_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_secret_matches_total",
    .help = "Verified requests by which of the tool's secrets (counted from 0) fitted.",
    .labels = {"tool_id", "secret", "fingerprint"},
    .max_children = MAX_CHILDREN,
};
static const struct metric_spec secret_used_spec = {
    .type = METRIC_GAUGE,
    .name = "webhook_secret_last_use_timestamp_seconds",
    .help = "When a secret of the tool last fitted.",
    .labels = {"tool_id", "secret", "fingerprint"},
    .max_children = MAX_CHILDREN,
};
static const struct metric_spec last_event_spec = {
    .type = METRIC_GAUGE,
    .name = "webhook_tool_last_event_timestamp_seconds",
    .help = "When this process last accepted an event of the tool.",
    .labels = {"tool_id"},
    .max_children = MAX_CHILDREN,
};
static const struct metric_spec skew_spec = {
    .type = METRIC_GAUGE,
    .name = "webhook_signature_skew_seconds",
    .help = "By how much the last validly signed timestamp lay behind this host's clock.",
    .labels = {"tool_id"},
    .max_children = MAX_CHILDREN,
};
static const struct metric_spec latency_spec = {
    .type = METRIC_HISTOGRAM,
    .name = "webhook_receive_duration_seconds",
    .help = "From the whole request to the answer that its events are durable.",
};

static void tool_stats_free(void *value)
{
	struct tool_stats *t = value;

	map_free(t->types, NULL);
	mem_free(t->id);
	mem_free(t);
}

static struct tool_stats *tool_stats_new(struct receive_stats *s, struct str id)
{
	static const char *const names[] = {
#define RECEIVE_NAME(code, name) name,
	    RECEIVE_OUTCOMES(RECEIVE_NAME)
#undef RECEIVE_NAME
	};
	struct tool_stats *t = mem_zalloc(sizeof(*t));

	if (!t)
		return NULL;
	t->id = mem_dup(id.ptr, id.len);
	if (!t->id || map_new(&t->types) != ERR_OK) {
		mem_free(t->id);
		mem_free(t);
		return NULL;
	}
	t->pulse.since = clock_mono();
	t->refusals = s->refusals;
	for (size_t i = 0; i < RECEIVE_OUTCOME_COUNT; i++)
		t->outcomes[i] = metric_of(s->requests, t->id, names[i], NULL);
	return t;
}

enum err receive_stats_new(struct metric_registry *registry, struct receive_stats **ret)
{
	struct receive_stats *s = mem_zalloc(sizeof(*s));

	if (!s)
		return ERR_NOMEM;
	s->requests = metric_family(registry, &requests_spec);
	s->refusals = metric_family(registry, &refusals_spec);
	s->events = metric_family(registry, &events_spec);
	s->secret_hits = metric_family(registry, &secrets_spec);
	s->secret_used = metric_family(registry, &secret_used_spec);
	s->last_events = metric_family(registry, &last_event_spec);
	s->skews = metric_family(registry, &skew_spec);
	s->latency = metric_single(registry, &latency_spec);
	if (map_new(&s->tools) == ERR_OK)
		s->unknown = tool_stats_new(s, STR("-"));
	if (!s->unknown) {
		receive_stats_free(s);
		return ERR_NOMEM;
	}
	*ret = s;
	return ERR_OK;
}

void receive_stats_free(struct receive_stats *s)
{
	if (!s)
		return;
	map_free(s->tools, tool_stats_free);
	if (s->unknown)
		tool_stats_free(s->unknown);
	mem_free(s);
}

struct tool_stats *receive_stats_unknown(struct receive_stats *s)
{
	return s->unknown;
}

struct tool_stats *receive_stats_of(struct receive_stats *s, struct str tool)
{
	struct tool_stats *t = map_get(s->tools, tool);

	if (t)
		return t;
	t = tool_stats_new(s, tool);
	if (!t)
		return s->unknown;
	if (map_add(s->tools, tool, t) != ERR_OK) {
		tool_stats_free(t);
		return s->unknown;
	}
	return t;
}

struct str receive_stats_tool(const struct tool_stats *t)
{
	return str_of(t->id);
}

void receive_stats_count(struct tool_stats *t, enum receive_outcome outcome)
{
	metric_inc(t->outcomes[outcome]);
}

void receive_stats_refused(struct tool_stats *t, const char *reason)
{
	metric_inc(metric_of(t->refusals, t->id, reason, NULL));
}

/* A secret is known by its fingerprint, for its position changes when another one goes. The one
 * that was not used for the longest time makes room. */
static struct secret_stats *secret_of(struct receive_stats *s, struct tool_stats *t,
                                      size_t position, const char *fingerprint)
{
	struct secret_stats *oldest = &t->secrets[0];
	char text[24];

	for (size_t i = 0; i < MAX_SECRETS; i++) {
		struct secret_stats *one = &t->secrets[i];

		if (one->matches && one->position == position &&
		    strcmp(one->fingerprint, fingerprint) == 0)
			return one;
		if (one->last < oldest->last)
			oldest = one;
	}
	snprintf(text, sizeof(text), "%zu", position);
	*oldest = (struct secret_stats){
	    .position = position,
	    .hits = metric_of(s->secret_hits, t->id, text, fingerprint),
	    .used = metric_of(s->secret_used, t->id, text, fingerprint),
	};
	memcpy(oldest->fingerprint, fingerprint, TOOL_FINGERPRINT);
	return oldest;
}

void receive_stats_secret(struct receive_stats *s, struct tool_stats *t, size_t position,
                          const char *fingerprint, usec_t wall)
{
	struct secret_stats *one = secret_of(s, t, position, fingerprint);

	one->matches++;
	one->last = wall;
	metric_inc(one->hits);
	metric_set(one->used, (double)one->last / USEC_PER_SEC);
}

struct secret_use receive_stats_use(const struct tool_stats *t, const char *fingerprint)
{
	struct secret_use use = {0};

	for (size_t i = 0; i < MAX_SECRETS; i++) {
		const struct secret_stats *one = &t->secrets[i];

		if (!one->matches || strcmp(one->fingerprint, fingerprint) != 0)
			continue;
		use.matches += one->matches;
		use.last = one->last > use.last ? one->last : use.last;
	}
	return use;
}

void receive_stats_event(struct receive_stats *s, struct tool_stats *t, usec_t now, usec_t wall)
{
	t->pulse.since = now;
	if (!t->last_event)
		t->last_event = metric_of(s->last_events, t->id, NULL, NULL);
	metric_set(t->last_event, (double)wall / USEC_PER_SEC);
}

void receive_stats_skew(struct receive_stats *s, struct tool_stats *t, usec_t skew)
{
	if (!t->skew)
		t->skew = metric_of(s->skews, t->id, NULL, NULL);
	metric_set(t->skew, (double)skew / USEC_PER_SEC);
}

struct token_bucket *receive_stats_bucket(struct tool_stats *t)
{
	return &t->bucket;
}

struct http_share *receive_stats_share(struct tool_stats *t)
{
	return &t->share;
}

struct tool_pulse *receive_stats_pulse(struct tool_stats *t)
{
	return &t->pulse;
}

struct tool_stats *receive_stats_next(const struct receive_stats *s, size_t *pos)
{
	return map_next(s->tools, pos, NULL);
}

void receive_stats_latency(struct receive_stats *s, usec_t usec)
{
	metric_observe(s->latency, (double)usec / USEC_PER_SEC);
}

struct metric *receive_stats_type(struct receive_stats *s, struct tool_stats *t, struct str type)
{
	struct metric *m = map_get(t->types, type);
	struct str labels[] = {type, str_of(t->id)};

	if (m)
		return m;
	if (map_count(t->types) < MAX_TYPES) {
		m = metric_child(s->events, labels);
		if (map_add(t->types, type, m) == ERR_OK)
			return m;
	}
	if (!t->other) {
		labels[0] = STR("other");
		t->other = metric_child(s->events, labels);
	}
	return t->other;
}
