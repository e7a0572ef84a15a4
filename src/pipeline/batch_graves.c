/* An event is in the database once: as an event, or as a dead letter. Within a process the range
 * remembers that a burial is in doubt (batch_trouble.c), and the event is buried and nothing else.
 * A process that dies between a burial's commit and the acknowledgement takes that knowledge along;
 * its entry is delivered again, and may be storable by then, when what refused it is gone. So what
 * was delivered before is looked for among the dead letters first, and what is found there is done.
 * The other way round, a dead letter is not written of what is stored (dead_writer.c).
 *
 * Only what comes again pays for this. A burial that the server is still at work on while the entry
 * comes again is not seen; the server would have to hang in that one statement for longer than a
 * start or QUEUE_CLAIM_IDLE takes. */
#include "batch_priv.h"
#include "columns.h"
#include "weir/base/mem.h"
#include "weir/run/log.h"

/* One row for each event, in the array's order. */
static const struct pg_stmt seek_stmt = {
    .name = "weir_seek_graves",
    .sql = "SELECT (SELECT d.id FROM weir.dead_letters d WHERE d.uid = i.uid"
           " AND d.stage <> 'deliver') FROM (SELECT unnest($1) AS uid) i",
    .param_count = 1,
    .types = {PG_UUID_ARRAY},
};

struct graves {
	struct buf uids;
	struct pg_param param;
	struct pg_call call;
};

bool batch_has_returned(const struct batch *b)
{
	for (size_t i = b->now.at; i < b->now.at + b->now.n; i++)
		if (b->events[i]->flags & EVENT_AGAIN)
			return true;
	return false;
}

void batch_seek_graves(struct batch *b)
{
	static const uint32_t element = PG_UUID;
	struct graves *g = b->graves;
	enum err e;

	columns_begin(&g->uids, &element, 1);
	for (size_t i = b->now.at; i < b->now.at + b->now.n; i++)
		pg_array_add(&g->uids, b->events[i]->view.uid.bytes,
		             sizeof(b->events[i]->view.uid.bytes));
	e = columns_end(&g->uids, &g->param, 1, b->now.n);
	if (e != ERR_OK) {
		batch_fail_lightly(b, e, NULL);
		return;
	}
	g->call = (struct pg_call){&seek_stmt, &g->param};
	batch_submit(b, BATCH_SEEKING, &g->call, 1, 0);
}

/* The buried ones first; returns how many. */
static size_t sort_buried(struct batch *b, const struct pg_result *r)
{
	size_t at = b->now.at, n = b->now.n, dead = 0, left = 0;

	for (size_t i = 0; i < n; i++) {
		struct event *e = b->events[at + i];

		e->flags &= ~EVENT_AGAIN;
		if (pg_value(r, i, 0).len > 0)
			b->events[at + dead++] = e;
		else
			b->aside[left++] = e;
	}
	memcpy(b->events + at + dead, b->aside, left * sizeof(*b->aside));
	return dead;
}

/* Not to know is no reason to store it: it is asked again. */
void batch_step_seeking(struct batch *b, enum err err, const struct pg_outcome *outcome)
{
	size_t dead;

	if (err != ERR_OK) {
		batch_fail_lightly(b, err, outcome);
		return;
	}
	dead = sort_buried(b, outcome->results[0]);
	if (dead > 0)
		log_warn(LOG_PIPELINE, "events came again that are dead letters already",
		         LOG_INT("events", dead));
	batch_fill_fates(b, 0, dead, EVENT_DEAD);
	batch_settle(b, dead);
	b->now.at += (uint32_t)dead;
	b->now.n -= (uint32_t)dead;
	batch_prepared(b);
}

enum err batch_graves_init(struct batch *b)
{
	b->graves = mem_zalloc(sizeof(*b->graves));
	if (!b->graves)
		return ERR_NOMEM;
	columns_init(&b->graves->uids, 1);
	return ERR_OK;
}

void batch_graves_reset(struct batch *b)
{
	columns_trim(&b->graves->uids, 1);
}

void batch_graves_done(struct batch *b)
{
	if (!b->graves)
		return;
	columns_done(&b->graves->uids, 1);
	mem_free(b->graves);
}
