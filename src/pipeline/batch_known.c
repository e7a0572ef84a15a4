/* What becomes of events that are known already: left out before the transaction where the
 * deduplicator knows them, and told from conflicts behind it, where the database does. */
#include <string.h>

#include "batch_priv.h"
#include "weir/base/mem.h"
#include "weir/pipeline/batch_metrics.h"
#include "weir/run/crash_point.h"
#include "weir/run/log.h"

/* ---- before the transaction ---- */

/* Settles those that are known, and leaves the others as the range in work. */
static void settle_known(struct batch *b)
{
	size_t known = 0, left = 0;

	for (size_t i = 0; i < b->n; i++) {
		if (dedup_known(b->question, i))
			b->events[known++] = b->events[i];
		else
			b->aside[left++] = b->events[i];
	}
	memcpy(b->events + known, b->aside, left * sizeof(*b->aside));
	b->now = (struct range){.n = (uint32_t)known};
	batch_fill_fates(b, 0, known, EVENT_DUPLICATE);
	batch_settle(b, known);
	b->now = (struct range){.at = (uint32_t)known, .n = (uint32_t)left};
}

static void on_answered(void *arg)
{
	struct batch *b = arg;

	if (b->state == BATCH_ABANDONED) {
		batch_end(b);
		return;
	}
	settle_known(b);
	batch_enrich(b);
}

void batch_deduplicate(struct batch *b)
{
	if (b->question && dedup_ask(b->question, b->events, b->n)) {
		batch_set_state(b, BATCH_DEDUPLICATING);
		return;
	}
	if (b->question)
		settle_known(b);
	batch_enrich(b);
}

/* ---- behind it ---- */

/* Moves the events that were found so to the end of b->aside's first `*count`. */
static void take_aside(struct batch *b, enum batch_finding which, size_t n, size_t *count)
{
	for (size_t i = 0; i < n; i++) {
		if (b->findings[i] == which)
			b->aside[(*count)++] = b->events[b->now.at + i];
	}
}

static void mark_first(struct batch *b)
{
	size_t count = 0;

	/* Those behind plan.first repeat one of them. */
	take_aside(b, FOUND_STORED, b->plan.first, &count);
	take_aside(b, FOUND_DUPLICATE, b->plan.first, &count);
	deduplicator_mark(b->env->deduplicator, b->ticket, b->aside, count);
}

static void count_layers(struct batch *b)
{
	size_t first = 0, repeated = 0;

	for (size_t i = 0; i < b->plan.first + b->plan.duplicate; i++) {
		if (b->findings[i] == FOUND_DUPLICATE)
			*(i < b->plan.first ? &first : &repeated) += 1;
	}
	deduplicator_count(b->env->deduplicator, DEDUP_BATCH, b->now.n, repeated);
	deduplicator_count(b->env->deduplicator, DEDUP_DATABASE, b->plan.first, first);
}

/* In the order: stored and duplicates, conflicts, nobody's. */
static void sort_found(struct batch *b, size_t n, size_t ends[3])
{
	size_t count = 0, stored;

	take_aside(b, FOUND_STORED, n, &count);
	stored = count;
	take_aside(b, FOUND_DUPLICATE, n, &count);
	ends[0] = count;
	take_aside(b, FOUND_CONFLICT, n, &count);
	ends[1] = count;
	take_aside(b, FOUND_NOBODY, n, &count);
	ends[2] = count;
	memcpy(b->events + b->now.at, b->aside, n * sizeof(*b->aside));
	batch_fill_fates(b, 0, stored, EVENT_STORED);
	batch_fill_fates(b, stored, ends[0] - stored, EVENT_DUPLICATE);
	b->env->stored += stored;
}

static void push_range(struct batch *b, size_t from, size_t to, bool conflict)
{
	if (to > from)
		b->todo[b->todo_count++] = (struct range){
		    .at = (uint32_t)from, .n = (uint32_t)(to - from), .conflict = conflict};
}

void batch_settle_found(struct batch *b)
{
	size_t at = b->now.at, n = b->plan.first + b->plan.duplicate, ends[3];

	CRASH_POINT("committed");
	if (b->env->deduplicator) {
		mark_first(b);
		count_layers(b);
	}
	sort_found(b, n, ends);
	batch_settle(b, ends[0]);
	push_range(b, at + n, at + n + b->plan.later, false);
	push_range(b, at + ends[1], at + ends[2], false);
	push_range(b, at + ends[0], at + ends[1], true);
	batch_next_range(b);
}

/* ---- conflicts ---- */

void batch_dispute(struct batch *b)
{
	const struct pg_call *calls;
	size_t n;
	enum err e = conflict_writer_prepare(b->conflicts, b->events + b->now.at, b->now.n);

	if (e != ERR_OK) {
		batch_fail(b, e, NULL);
		return;
	}
	calls = conflict_writer_calls(b->conflicts, &n);
	batch_submit(b, BATCH_DISPUTING, calls, n, 0);
}

static void tell_conflicts(struct batch *b, size_t dead)
{
	const struct event_view *v = &b->events[b->now.at]->view;

	if (dead > 0)
		log_warn(LOG_PIPELINE,
		         "events that are stored already came with another body: they became"
		         " dead letters",
		         LOG_INT("events", dead), LOG_SLICE("tool", v->tool),
		         LOG_SLICE("type", v->type), LOG_SLICE("event_id", v->id));
	for (size_t i = b->now.at; i < b->now.at + dead; i++)
		batch_metrics_dead(b->env->metrics, b->events[i], ERR_CONFLICT);
}

void batch_step_disputing(struct batch *b, enum err err, const struct pg_outcome *outcome)
{
	size_t at = b->now.at, n = b->now.n, dead = 0, known, all;

	if (err != ERR_OK) {
		batch_fail(b, err, outcome);
		return;
	}
	conflict_writer_findings(b->conflicts, outcome->results, b->events + at, n, b->findings);
	take_aside(b, FOUND_STORED, n, &dead);
	known = dead;
	take_aside(b, FOUND_DUPLICATE, n, &known);
	all = known;
	take_aside(b, FOUND_NOBODY, n, &all);
	memcpy(b->events + at, b->aside, n * sizeof(*b->aside));
	batch_fill_fates(b, 0, dead, EVENT_DEAD);
	batch_fill_fates(b, dead, known - dead, EVENT_DUPLICATE);
	tell_conflicts(b, dead);
	if (b->env->deduplicator) {
		/* Its dead letter is committed: so it is known, with this body, as well. */
		deduplicator_mark(b->env->deduplicator, b->ticket, b->events + at, known);
		deduplicator_count(b->env->deduplicator, DEDUP_DATABASE, known, known - dead);
	}
	batch_settle(b, known);
	push_range(b, at + known, at + n, false);
	batch_next_range(b);
}

/* ---- life ---- */

enum err batch_known_init(struct batch *b)
{
	struct deduplicator *d = b->env->deduplicator;
	enum err e = conflict_writer_new(&b->conflicts);

	b->findings = mem_array(b->env->batch_size, sizeof(*b->findings));
	b->aside = mem_array(b->env->batch_size, sizeof(*b->aside));
	if (e != ERR_OK || !b->findings || !b->aside)
		return ERR_NOMEM;
	return d ? dedup_question_new(d, on_answered, b, &b->question) : ERR_OK;
}

void batch_known_done(struct batch *b)
{
	dedup_question_free(b->question);
	conflict_writer_free(b->conflicts);
	mem_free(b->findings);
	mem_free(b->aside);
}
