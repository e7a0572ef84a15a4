/* What the adapters count of themselves, as metrics: set whenever somebody collects. */
#ifndef WEIR_APP_ADAPTER_METRICS_H
#define WEIR_APP_ADAPTER_METRICS_H

#include "weir/base/err.h"

struct adapter_metrics;
struct http_server;
struct metric_registry;
struct pg_pool;
struct redis;
struct stream_acks;

/* To be freed after the last collection; the registry knows of it until then. */
enum err adapter_metrics_new(struct metric_registry *r, struct adapter_metrics **ret) MUST_CHECK;
void adapter_metrics_free(struct adapter_metrics *m); /* NULL is fine */

/* What is added is borrowed, and must outlive the last collection. Names are literals. */
void adapter_metrics_add_redis(struct adapter_metrics *m, const char *connection,
                               const struct redis *r);
void adapter_metrics_add_http(struct adapter_metrics *m, const char *listener,
                              const struct http_server *s);
void adapter_metrics_set_pool(struct adapter_metrics *m, const struct pg_pool *p);
void adapter_metrics_set_acks(struct adapter_metrics *m, const struct stream_acks *a);

#endif
