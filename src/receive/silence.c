/* Nothing runs on a timer: whether a tool is silent is reckoned when somebody asks. A tool that a
 * reload brought is waited for from the first look after it. */
#include "silence_priv.h"

#include "weir/base/mem.h"
#include "weir/model/tool.h"

#define SHOWN 50 /* tools that are named; all are counted */

struct silence {
	const struct receiver_options *o; /* borrowed */
	struct receive_stats *stats;      /* borrowed */
	struct metric_family *silent;
};

static const struct metric_spec silent_spec = {
    .type = METRIC_GAUGE,
    .name = "webhook_tool_silent",
    .help = "1 while a tool has had no event for longer than its expect_every.",
    .labels = {"tool_id"},
    .max_children = TOOL_MAX_COUNT,
};

enum err silence_new(const struct receiver_options *o, struct receive_stats *stats,
                     struct silence **ret)
{
	struct silence *s = mem_zalloc(sizeof(*s));

	if (!s)
		return ERR_NOMEM;
	s->o = o;
	s->stats = stats;
	s->silent = metric_family(o->metrics, &silent_spec);
	silence_look(s, NULL);
	*ret = s;
	return ERR_OK;
}

void silence_free(struct silence *s)
{
	mem_free(s);
}

static void add_tool(struct buf *out, size_t nth, const struct tool *t, usec_t since)
{
	char when[CLOCK_RFC3339_LEN];

	if (!out || nth >= SHOWN)
		return;
	clock_rfc3339(since, when);
	buf_addf(out, "%s{\"tool\":", nth ? "," : "");
	buf_add_json(out, t->id);
	buf_addf(out, ",\"since\":\"%s\",\"expect_every_seconds\":%.0f}", when,
	         (double)t->limits.expect_every / USEC_PER_SEC);
}

/* Those that are expected no more, or are gone. */
static void clear_others(struct silence *s, const struct tools *tools)
{
	struct tool_stats *stats;
	size_t pos = 0;

	while ((stats = receive_stats_next(s->stats, &pos))) {
		struct tool_pulse *p = receive_stats_pulse(stats);
		const struct tool *t = tools ? tools_find(tools, receive_stats_tool(stats)) : NULL;

		if (p->silent && (!t || !t->limits.expect_every))
			metric_set(p->silent, 0);
	}
}

size_t silence_look(struct silence *s, struct buf *out)
{
	const struct tools *tools = s->o->tools(s->o->tools_arg);
	usec_t mono = clock_mono(), wall = clock_wall();
	size_t silent = 0;

	if (out)
		buf_add_cstr(out, "\"silent\":[");
	for (size_t i = 0; tools && i < tools_count(tools); i++) {
		const struct tool *t = tools_at(tools, i);
		struct tool_pulse *p;
		usec_t quiet;

		if (!t->limits.expect_every)
			continue;
		p = receive_stats_pulse(receive_stats_of(s->stats, t->id));
		if (!p->silent)
			p->silent = metric_of(s->silent, t->id.ptr, NULL, NULL);
		quiet = mono - p->since;
		metric_set(p->silent, quiet > t->limits.expect_every);
		if (quiet > t->limits.expect_every)
			add_tool(out, silent++, t, wall - quiet);
	}
	clear_others(s, tools);
	if (out)
		buf_addf(out, "],\"silent_count\":%zu", silent);
	return silent;
}
