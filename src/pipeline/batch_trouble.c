/* What becomes of a range that failed, by its verdict:
 *
 *   DATA      cut in halves; alone, it is buried
 *   SUSPECT   could another event be stored now? Then it is a strike. Three strikes cut a range in
 *             halves, ten bury a single event, if there is evidence besides: that something else
 *             was stored since the batch started. Without that the event goes back into the buffer,
 *             behind the others. If nothing can be stored it is the weather: wait and try again
 *   CONFIG    the same
 *   HEAL      make the partitions, and run again; where that did not help, as CONFIG
 *   RETRY     wait and try again
 *   RETURN    give everything back
 *
 * A single event with strikes lets the batch's other ranges go first, and such events wait
 * together, not one after the other. So does one whose dead letter is refused as well: it is tried
 * from the start, as it may have become storable. But where nobody knows whether a dead letter was
 * written, the event must be buried and nothing else, or it stood in both tables. */
#include <endian.h>
#include <stdio.h>

#include "batch_priv.h"
#include "weir/pipeline/batch_metrics.h"
#include "weir/run/crash_point.h"
#include "weir/run/log.h"

enum { STRIKES_TO_SPLIT = 3, STRIKES_TO_BURY = 10 };

#define PROBE_TIMEOUT (5 * USEC_PER_SEC)
#define HEAL_TIMEOUT  (15 * USEC_PER_SEC)

/* Whether an ordinary event could be stored now; leaves none. More than SELECT 1, which works on a
 * full disk, on a server that takes no writes and beside a locked table. The body is large and
 * random, so that it takes space. */
static const struct pg_stmt probe_stmt = {
    .name = "weir_probe",
    .sql = "DO $$ BEGIN INSERT INTO weir.events (uid, tool, event_type, received_at, body)"
           " SELECT gen_random_uuid(), 'weir', 'probe', now(),"
           " decode(string_agg(md5(random()::text), ''), 'hex') FROM generate_series(1, 512);"
           " RAISE EXCEPTION USING ERRCODE = 'WE000';"
           " EXCEPTION WHEN SQLSTATE 'WE000' THEN NULL; END $$",
};
static const struct pg_stmt heal_stmt = {
    .name = "weir_heal",
    .sql = "SELECT weir.ensure_event_partitions($1)",
    .param_count = 1,
    .types = {PG_INT4},
};

static void note_failure(struct batch *b, enum err err, const struct pg_outcome *outcome)
{
	const struct pg_failure *f = outcome ? &outcome->failure : NULL;

	b->why = err;
	b->verdict = verdict_of(err);
	snprintf(b->sqlstate, sizeof(b->sqlstate), "%s", f ? f->sqlstate : "");
	snprintf(b->message, sizeof(b->message), "%s",
	         f && f->message ? f->message : err_meaning(err));
	b->now.tries++;
	for (size_t i = b->now.at; i < b->now.at + b->now.n; i++) {
		b->events[i]->attempts++;
		if (b->events[i]->first_failed == 0)
			b->events[i]->first_failed = loop_wall(b->env->loop);
	}
}

void batch_wait(struct batch *b)
{
	unsigned tries = b->now.tries;
	usec_t delay = verdict_delay(tries, b->env->quick_retries);

	log_warn(LOG_PIPELINE, "a batch is tried again", LOG_INT("attempt", tries),
	         LOG_INT("events", b->now.n), LOG_MSEC("in_ms", delay), LOG_ERR(b->why),
	         LOG_STR("sqlstate", b->sqlstate), LOG_STR("message", b->message));
	batch_metrics_retry(b->env->metrics, tries, b->why);
	b->round = tries;
	batch_set_state(b, BATCH_WAITING);
	loop_timer_set(&b->timer, delay);
	b->env->changed(b->env->arg, b);
}

void batch_fail_lightly(struct batch *b, enum err err, const struct pg_outcome *outcome)
{
	note_failure(b, err, outcome);
	if (b->verdict == VERDICT_RETURN)
		batch_return(b);
	else
		batch_wait(b);
}

/* ---- halves ---- */

static void split(struct batch *b)
{
	struct range r = b->now;
	uint32_t half = r.n / 2;

	log_warn(LOG_PIPELINE, "a batch is cut in halves", LOG_INT("events", r.n), LOG_ERR(b->why),
	         LOG_STR("sqlstate", b->sqlstate), LOG_STR("message", b->message));
	b->todo[b->todo_count++] =
	    (struct range){.at = r.at + half, .n = r.n - half, .conflict = r.conflict};
	b->todo[b->todo_count++] = (struct range){.at = r.at, .n = half, .conflict = r.conflict};
	batch_next_range(b);
}

/* Behind all that the batch has still to do. */
static void postpone(struct batch *b)
{
	memmove(b->todo + 1, b->todo, b->todo_count * sizeof(*b->todo));
	b->todo[0] = b->now;
	b->todo_count++;
	batch_next_range(b);
}

/* ---- the dead ---- */

void batch_bury(struct batch *b)
{
	const struct event *e = b->events[b->now.at];
	struct dead_reason why = {b->why, b->sqlstate, b->message, e->attempts, b->now.escape};

	/* What refused the statement for many (conflict_writer.c) says nothing of the event. */
	if (b->now.conflict)
		why = (struct dead_reason){ERR_CONFLICT, "",
		                           "this event is stored already, with another body",
		                           e->attempts, b->now.escape};
	if (dead_writer_prepare(b->dead, e, &why) != ERR_OK)
		batch_wait(b);
	else
		batch_submit(b, BATCH_BURYING, dead_writer_call(b->dead), 1, 0);
}

static void buried(struct batch *b)
{
	const struct event *e = b->events[b->now.at];

	CRASH_POINT("buried");
	log_error(LOG_PIPELINE, "an event became a dead letter", LOG_SLICE("tool", e->view.tool),
	          LOG_SLICE("type", e->view.type), LOG_ERR(b->why),
	          LOG_STR("sqlstate", b->sqlstate), LOG_STR("message", b->message));
	batch_metrics_dead(b->env->metrics, e, b->now.conflict ? ERR_CONFLICT : b->why);
	batch_fill_fates(b, 0, 1, EVENT_DEAD);
	batch_settle(b, 1);
	batch_next_range(b);
}

/* UNAVAILABLE: a server that ends may say so between the commit and its answer. */
static bool outcome_unknown(enum err err)
{
	return err == ERR_TIMEOUT || err == ERR_CLOSED || err == ERR_UNAVAILABLE;
}

void batch_step_burying(struct batch *b, enum err err)
{
	if (err == ERR_OK) {
		buried(b);
	} else if (err == ERR_CANCELLED) {
		batch_return(b);
	} else if (verdict_of(err) == VERDICT_DATA && !b->now.escape) {
		b->now.escape = true;
		batch_bury(b);
	} else {
		b->now.tries++;
		b->now.doubtful |= outcome_unknown(err);
		b->now.refused = verdict_of(err) == VERDICT_DATA;
		if (b->now.refused && !b->now.doubtful)
			postpone(b);
		else
			batch_wait(b);
	}
}

/* ---- suspects ---- */

static void probe(struct batch *b)
{
	b->small = (struct pg_call){.stmt = &probe_stmt};
	batch_submit(b, BATCH_PROBING, &b->small, 1, PROBE_TIMEOUT);
}

static void convict(struct batch *b)
{
	if (b->env->stored != b->stored_then) {
		batch_bury(b);
		return;
	}
	b->env->put_back(b->env->arg, b->events[b->now.at]);
	batch_next_range(b);
}

void batch_step_probing(struct batch *b, enum err err)
{
	struct range *r = &b->now;

	if (err == ERR_CANCELLED) {
		batch_return(b);
		return;
	}
	r->strikes = err == ERR_OK ? r->strikes + 1 : 0;
	if (r->n > 1 && r->strikes >= STRIKES_TO_SPLIT)
		split(b);
	else if (r->strikes >= STRIKES_TO_BURY)
		convict(b);
	else if (r->n == 1 && r->strikes > 0)
		postpone(b);
	else
		batch_wait(b);
}

/* ---- what is missing ---- */

static void heal(struct batch *b)
{
	if (b->now.healed) {
		b->now.healed = false;
		probe(b);
		return;
	}
	b->now.healed = true;
	b->heal_days = (int32_t)htobe32((uint32_t)b->env->partition_days);
	b->heal_param = (struct pg_param){&b->heal_days, sizeof(b->heal_days)};
	b->small = (struct pg_call){&heal_stmt, &b->heal_param};
	log_warn(LOG_PIPELINE, "a partition is missing and is made");
	batch_submit(b, BATCH_HEALING, &b->small, 1, HEAL_TIMEOUT);
}

void batch_step_healing(struct batch *b, enum err err, const struct pg_outcome *outcome)
{
	if (err == ERR_OK) {
		batch_run_range(b);
	} else if (err == ERR_CANCELLED) {
		batch_return(b);
	} else {
		note_failure(b, ERR_NOTABLE, outcome);
		b->now.healed = false;
		probe(b);
	}
}

/* ---- the judgement ---- */

void batch_fail(struct batch *b, enum err err, const struct pg_outcome *outcome)
{
	note_failure(b, err, outcome);
	switch (b->verdict) {
	case VERDICT_DATA:
		if (b->now.n > 1)
			split(b);
		else
			batch_bury(b);
		return;
	case VERDICT_HEAL:
		heal(b);
		return;
	case VERDICT_SUSPECT:
	case VERDICT_CONFIG:
		probe(b);
		return;
	case VERDICT_RETRY:
		batch_wait(b);
		return;
	case VERDICT_RETURN:
		batch_return(b);
		return;
	}
}
