/* The way around the queue: events go straight into the pipeline's inlet, and the sender is
 * answered when the database has them. For a weir without a queue, and while the queue's server
 * takes no entries (failover.h decides). */
#ifndef WEIR_QUEUE_DIRECT_H
#define WEIR_QUEUE_DIRECT_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct direct;
struct event_inlet;
struct event_sink;
struct loop;
struct metric_registry;
struct tool;

struct direct_options {
	struct loop *loop;         /* borrowed, like all here */
	struct event_inlet *inlet; /* with remove() */
	struct metric_registry *metrics;
	bool (*connected)(void *arg); /* a connection to the database stands */
	bool (*answers)(void *arg);   /* and was seen to answer lately */
	/* A reference to the tool of an event with EVENT_MARK_REPORTS, which was accepted by it in
	 * this very turn. */
	struct tool *(*tool_of)(void *arg, struct str id);
	void *arg;
	usec_t timeout;    /* from append() to the completion at the latest */
	size_t max_events; /* waiting at a time; past it ERR_FULL */
};

enum err direct_new(const struct direct_options *o, struct direct **ret) MUST_CHECK;
/* No event that came from here may be alive in the pipeline any more. */
void direct_free(struct direct *d);

/* Borrowed. append(): the completion says ERR_OK when each event is stored, was stored before, or
 * is a committed dead letter; ERR_TIMEOUT when that took too long (what was not under way to the
 * database by then is forgotten), ERR_UNAVAILABLE when the pipeline gave an event back,
 * ERR_CANCELLED by direct_close(). At once: ERR_UNAVAILABLE (no database, or closed), ERR_FULL,
 * ERR_NOMEM. */
struct event_sink *direct_sink(struct direct *d);
bool direct_can_store(const struct direct *d);   /* the database is there, as far as one knows */
size_t direct_in_flight(const struct direct *d); /* requests that wait */

/* Tells all that wait ERR_CANCELLED, and takes nothing from now on. */
void direct_close(struct direct *d);

#endif
