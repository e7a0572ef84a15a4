/* Metric registry with Prometheus text output. A family has a name, a help text and label names;
 * its children are the label combinations. Children are looked up once and kept by the caller, so
 * that counting is one addition. Label values are bounded: past `max_children` a look-up gives the
 * child whose values are "other" in the last label. Look-ups never fail: without memory they give a
 * child that counts into nothing. */
#ifndef WEIR_RUN_METRIC_H
#define WEIR_RUN_METRIC_H

#include <stddef.h>
#include <stdint.h>

#include "weir/base/buf.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

#define METRIC_MAX_LABELS 3

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric; /* one child: one time series, or one histogram */
struct metric_family;
struct metric_registry;

struct metric_spec {
	enum metric_type type;
	const char *name;                      /* literal; counters end in _total */
	const char *help;                      /* literal */
	const char *labels[METRIC_MAX_LABELS]; /* literals; NULL ends */
	const double *buckets; /* histograms: ascending upper bounds, NULL for METRIC_SECONDS */
	size_t bucket_count;
	size_t max_children; /* 0: 200 */
};

extern const double METRIC_SECONDS[]; /* .001 … 60 */
extern const size_t METRIC_SECONDS_COUNT;

enum err metric_registry_new(struct metric_registry **ret) MUST_CHECK;
void metric_registry_free(struct metric_registry *r);

/* The same spec twice gives the same family. Families live as long as the registry. Never NULL. */
struct metric_family *metric_family(struct metric_registry *r, const struct metric_spec *spec);
/* The child with these label values, made at first sight. As many values as the family has labels.
 */
struct metric *metric_child(struct metric_family *f, const struct str *values);
struct metric *metric_of(struct metric_family *f, const char *v0, const char *v1, const char *v2);
/* A family without labels and its only child in one. */
struct metric *metric_single(struct metric_registry *r, const struct metric_spec *spec);
/* The same for the common case. Texts are borrowed for good: literals. */
struct metric *metric_plain(struct metric_registry *r, enum metric_type type, const char *name,
                            const char *help);

void metric_add(struct metric *m, double v); /* counters take v >= 0 only */
void metric_inc(struct metric *m);
void metric_set(struct metric *m, double v);                   /* gauges */
void metric_observe(struct metric *m, double v);               /* histograms */
void metric_observe_n(struct metric *m, double v, uint64_t n); /* n equal observations */
double metric_get(const struct metric *m);     /* counters and gauges; a histogram's sum */
uint64_t metric_count(const struct metric *m); /* a histogram's count */

/* Called before each rendering, to set gauges that are computed. At most 16. */
enum err metric_on_collect(struct metric_registry *r, void (*fn)(void *arg), void *arg) MUST_CHECK;

/* Prometheus text format 0.0.4. */
enum err metric_render(struct metric_registry *r, struct buf *out) MUST_CHECK;
#define METRIC_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

#endif
