/* The registry finds a child by rendering its label text and hashing that: a microsecond for each
 * event if it were asked each time. So the pipeline keeps children by tool and type, and looks into
 * that cache only where the tool or type differs from the event before. */
#include "weir/pipeline/batch_metrics.h"

#include "weir/base/map.h"
#include "weir/base/mem.h"
#include "weir/run/metric.h"

enum {
	STATUS_STORED,
	STATUS_DUPLICATE,
	STATUS_DEAD,
	STATUS_COUNT,

	/* Pairs of tool and type whose children are kept. The registry bounds the children
	 * themselves; what is beyond is looked up each time. */
	MAX_SERIES = 4096,
	MAX_ATTEMPT = 10, /* of the label `attempt`; later ones are "more" */
};

static const char *const status_names[] = {"stored", "duplicate", "dead"};

/* The children of one tool and type, looked up when the status occurs first. */
struct series {
	struct str tool, type; /* behind this struct */
	struct metric *processed[STATUS_COUNT];
	struct metric *duration[STATUS_COUNT];
};

struct batch_metrics {
	struct map *series;  /* owned; "tool\0type" to an owned series */
	struct series *last; /* events come in runs of one tool and type */
	struct series *spare;
	struct metric_family *processed, *duration, *retries, *dead;
	struct metric *total[STATUS_COUNT];
	struct metric *batch_size, *batch_seconds;
};

static const double batch_sizes[] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000};

/* Finer than METRIC_SECONDS where a lonely event lies, whose way takes about a millisecond. */
static const double durations[] = {.0005, .00075, .001, .0015, .002, .003, .005, .01, .025, .05,
                                   .1,    .25,    .5,   1,     2.5,  5,    10,   30,  60,   300};

/* Labels that senders choose come last, as metric.c wants it. */
static const struct metric_spec processed_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_events_processed_total",
    .help = "Events that a commit settled, by what became of them.",
    .labels = {"status", "tool_id", "event_type"},
};
static const struct metric_spec duration_spec = {
    .type = METRIC_HISTOGRAM,
    .name = "webhook_event_processing_duration_seconds",
    .help = "From the receipt of an event to the commit that settled it.",
    .labels = {"status", "tool_id", "event_type"},
    .buckets = durations,
    .bucket_count = sizeof(durations) / sizeof(durations[0]),
};
static const struct metric_spec total_spec = {
    .type = METRIC_COUNTER,
    .name = "webhooks_processed_total",
    .help = "Events that a commit settled.",
    .labels = {"status"},
};
static const struct metric_spec retries_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_retry_attempts_total",
    .help = "Batches that were tried again.",
    .labels = {"reason", "attempt"},
};
static const struct metric_spec dead_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_dlq_entries_total",
    .help = "Events that became dead letters.",
    .labels = {"reason", "event_type"},
};
static const struct metric_spec batch_size_spec = {
    .type = METRIC_HISTOGRAM,
    .name = "webhook_batch_size",
    .help = "Events in a batch.",
    .buckets = batch_sizes,
    .bucket_count = sizeof(batch_sizes) / sizeof(batch_sizes[0]),
};
static const struct metric_spec batch_seconds_spec = {
    .type = METRIC_HISTOGRAM,
    .name = "webhook_processing_duration_seconds",
    .help = "From the start of a batch to its last commit.",
};

/* ---- series ---- */

static struct series *new_series(struct str tool, struct str type)
{
	struct series *s = mem_zalloc(sizeof(*s) + tool.len + type.len);
	char *text = (char *)(s + 1);

	if (!s)
		return NULL;
	if (tool.len > 0)
		memcpy(text, tool.ptr, tool.len);
	if (type.len > 0)
		memcpy(text + tool.len, type.ptr, type.len);
	s->tool = str_n(text, tool.len);
	s->type = str_n(text + tool.len, type.len);
	return s;
}

/* Keeps it for the next event only. */
static struct series *spare_series(struct batch_metrics *m, struct str tool, struct str type)
{
	mem_free(m->spare);
	m->spare = new_series(tool, type);
	return m->spare;
}

static struct series *find_series(struct batch_metrics *m, const struct event_view *v)
{
	char bytes[2 * EVENT_TEXT_MAX + 1];
	struct str key = {bytes, v->tool.len + 1 + v->type.len};
	struct series *s;

	if (key.len > sizeof(bytes))
		return spare_series(m, v->tool, v->type);
	if (v->tool.len > 0)
		memcpy(bytes, v->tool.ptr, v->tool.len);
	bytes[v->tool.len] = '\0';
	if (v->type.len > 0)
		memcpy(bytes + v->tool.len + 1, v->type.ptr, v->type.len);
	s = map_get(m->series, key);
	if (s)
		return s;
	if (map_count(m->series) >= MAX_SERIES)
		return spare_series(m, v->tool, v->type);
	s = new_series(v->tool, v->type);
	if (s && map_add(m->series, key, s) != ERR_OK) {
		mem_free(s);
		return NULL;
	}
	return s;
}

/* NULL without memory: then this event is not counted. */
static struct series *series_of(struct batch_metrics *m, const struct event_view *v)
{
	if (!m->last || !str_eq(m->last->type, v->type) || !str_eq(m->last->tool, v->tool)) {
		m->last = NULL;
		m->last = find_series(m, v);
	}
	return m->last;
}

static void look_up(struct batch_metrics *m, struct series *s, int status)
{
	const struct str values[] = {str_of(status_names[status]), s->tool, s->type};

	s->processed[status] = metric_child(m->processed, values);
	s->duration[status] = metric_child(m->duration, values);
}

/* ---- counting ---- */

/* -1: nothing to count. */
static int status_of(enum event_fate fate)
{
	switch (fate) {
	case EVENT_STORED:
		return STATUS_STORED;
	case EVENT_DUPLICATE:
		return STATUS_DUPLICATE;
	case EVENT_DEAD:
		return STATUS_DEAD;
	case EVENT_RETURNED:
		break;
	}
	return -1;
}

void batch_metrics_settled(struct batch_metrics *m, struct event *const *events,
                           const enum event_fate *fates, size_t n, usec_t wall)
{
	for (size_t i = 0; i < n; i++) {
		const struct event_view *v = &events[i]->view;
		usec_t took = wall > v->received ? wall - v->received : 0;
		int status = status_of(fates[i]);
		struct series *s;

		event_prefetch_next(events, i, n);
		if (status < 0)
			continue;
		metric_inc(m->total[status]);
		s = series_of(m, v);
		if (!s)
			continue;
		if (!s->processed[status])
			look_up(m, s, status);
		metric_inc(s->processed[status]);
		metric_observe(s->duration[status], (double)took / (double)USEC_PER_SEC);
	}
}

void batch_metrics_batch(struct batch_metrics *m, size_t events, usec_t duration)
{
	metric_observe(m->batch_size, (double)events);
	metric_observe(m->batch_seconds, (double)duration / (double)USEC_PER_SEC);
}

void batch_metrics_retry(struct batch_metrics *m, unsigned attempt, enum err why)
{
	static const char *const names[MAX_ATTEMPT + 1] = {"1", "2", "3", "4",  "5",   "6",
	                                                   "7", "8", "9", "10", "more"};
	unsigned i = attempt > 0 ? attempt - 1 : 0;

	metric_inc(
	    metric_of(m->retries, err_name(why), names[i < MAX_ATTEMPT ? i : MAX_ATTEMPT], NULL));
}

void batch_metrics_dead(struct batch_metrics *m, const struct event *e, enum err why)
{
	const struct str values[] = {str_of(err_name(why)), e->view.type};

	metric_inc(metric_child(m->dead, values));
}

/* ---- life ---- */

enum err batch_metrics_new(struct metric_registry *r, struct batch_metrics **ret)
{
	struct batch_metrics *m = mem_zalloc(sizeof(*m));

	if (!m)
		return ERR_NOMEM;
	if (map_new(&m->series) != ERR_OK) {
		mem_free(m);
		return ERR_NOMEM;
	}
	m->processed = metric_family(r, &processed_spec);
	m->duration = metric_family(r, &duration_spec);
	m->retries = metric_family(r, &retries_spec);
	m->dead = metric_family(r, &dead_spec);
	m->batch_size = metric_single(r, &batch_size_spec);
	m->batch_seconds = metric_single(r, &batch_seconds_spec);
	for (int i = 0; i < STATUS_COUNT; i++)
		m->total[i] = metric_of(metric_family(r, &total_spec), status_names[i], NULL, NULL);
	*ret = m;
	return ERR_OK;
}

void batch_metrics_free(struct batch_metrics *m)
{
	if (!m)
		return;
	map_free(m->series, mem_free);
	mem_free(m->spare);
	mem_free(m);
}
