/* Events come in runs of one tool, so the mapping is looked up where the tool differs from the one
 * before, and the metrics' children only where an outcome differs too. */
#include "weir/pipeline/recipient_reports.h"

#include "weir/base/mem.h"
#include "weir/model/event.h"
#include "weir/model/recipient.h"
#include "weir/model/tool.h"
#include "weir/run/metric.h"

struct recipient_reports_reader {
	struct recipient_maps maps;
	struct recipient_reader *reader; /* owned */
	struct metric_family *counted;
};

static const struct metric_spec counted_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_delivery_reports_total",
    .help = "Events of tools with a recipient mapping, by what was read from them.",
    .labels = {"outcome", "tool_id"},
    .max_children = 1000,
};

/* A run of events with the same tool. */
struct run {
	struct str tool;
	const struct tool *held; /* see event->tool */
	const struct recipient_map *map;
	uint64_t counts[RECIPIENT_OUTCOMES];
};

static void count(const struct recipient_reports_reader *r, struct run *run)
{
	for (int o = 0; o < RECIPIENT_OUTCOMES; o++) {
		struct str values[] = {str_of(recipient_outcome_word((enum recipient_outcome)o)),
		                       run->tool};

		if (run->counts[o] > 0)
			metric_add(metric_child(r->counted, values), (double)run->counts[o]);
		run->counts[o] = 0;
	}
}

static enum err read_event(struct recipient_reports_reader *r, struct run *run, struct event *e)
{
	enum recipient_outcome outcome;
	enum err err = ERR_OK;

	if (!run->tool.ptr || run->held != e->tool || !str_eq(run->tool, e->view.tool)) {
		count(r, run);
		run->tool = e->view.tool;
		run->held = e->tool;
		run->map = e->tool ? e->tool->recipient : r->maps.of(r->maps.arg, e->view.tool);
	}
	if (run->map) {
		err = recipient_read(r->reader, run->map, &e->view, &e->reports, &outcome);
		if (err == ERR_OK)
			run->counts[outcome]++;
	}
	e->reports_read = err == ERR_OK;
	return err;
}

enum err recipient_reports_read(struct recipient_reports_reader *r, struct event *const *events,
                                size_t n)
{
	struct run run = {.tool = STR_NONE};
	enum err e = ERR_OK;

	if (!r->maps.of)
		return ERR_OK;
	for (size_t i = 0; i < n && e == ERR_OK; i++) {
		event_prefetch_next(events, i, n);
		if (!events[i]->reports_read)
			e = read_event(r, &run, events[i]);
	}
	count(r, &run);
	return e;
}

enum err recipient_reports_reader_new(struct metric_registry *metrics,
                                      const struct recipient_maps *maps,
                                      struct recipient_reports_reader **ret)
{
	struct recipient_reports_reader *r = mem_zalloc(sizeof(*r));

	if (!r)
		return ERR_NOMEM;
	r->maps = *maps;
	r->counted = metric_family(metrics, &counted_spec);
	if (recipient_reader_new(&r->reader) != ERR_OK) {
		mem_free(r);
		return ERR_NOMEM;
	}
	*ret = r;
	return ERR_OK;
}

void recipient_reports_reader_free(struct recipient_reports_reader *r)
{
	if (!r)
		return;
	recipient_reader_free(r->reader);
	mem_free(r);
}
