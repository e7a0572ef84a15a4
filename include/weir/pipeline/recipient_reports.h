/* Reads the delivery reports of a batch's events, once for each event, by the mapping of its tool.
 * Counts what comes of it. */
#ifndef WEIR_PIPELINE_RECIPIENT_REPORTS_H
#define WEIR_PIPELINE_RECIPIENT_REPORTS_H

#include <stddef.h>

#include "weir/base/err.h"
#include "weir/base/str.h"

struct event;
struct metric_registry;
struct recipient_map;
struct recipient_reports_reader;

struct recipient_maps {
	/* The mapping of a tool, borrowed for the call; NULL: none. `of` NULL: no tool has one. */
	const struct recipient_map *(*of)(void *arg, struct str tool);
	void *arg;
};

enum err recipient_reports_reader_new(struct metric_registry *metrics,
                                      const struct recipient_maps *maps,
                                      struct recipient_reports_reader **ret) MUST_CHECK;
void recipient_reports_reader_free(struct recipient_reports_reader *r);

/* Fills in event->reports where that was not done yet. ERR_NOMEM: not all were read; call again
 * later. */
enum err recipient_reports_read(struct recipient_reports_reader *r, struct event *const *events,
                                size_t n) MUST_CHECK;

#endif
