/* Figures of the process itself: memory, descriptors, CPU, the loop's lag. */
#ifndef WEIR_OBSERVE_PROCESS_H
#define WEIR_OBSERVE_PROCESS_H

#include "weir/base/clock.h"
#include "weir/base/err.h"

struct loop;
struct metric_registry;
struct process_watch;

/* Registers process_* and webhook_memory_*, webhook_loop_* and observes the loop's turns. */
enum err process_watch_new(struct loop *l, struct metric_registry *r,
                           struct process_watch **ret) MUST_CHECK;
void process_watch_free(struct process_watch *w);

struct process_figures {
	double memory_alloc_mb;
	double resident_mb;
	int open_fds;
	double loop_lag_ms; /* the worst of the last ten seconds */
	usec_t uptime;
};
void process_watch_get(struct process_watch *w, struct process_figures *ret);

#endif
