/* A batch works through ranges of its events, one transaction for each range. At first there is one
 * range; a transaction that the database refuses for what it contains is cut in halves until the
 * offender is alone, and each half that commits is settled at once. So mates of a poison event wait
 * for some round trips, not for its fate.
 *
 *   DEDUPLICATING  Redis is asked which events are known; those are settled at once
 *   ENRICHING      recipients of delivery reports are looked up
 *   SEEKING        is one of those that were delivered before a dead letter already?
 *   STORING        the transaction is under way
 *   LOOKING_UP     committed, but some keys were held already: by whom, and with which body?
 *   DISPUTING      dead letters of events whose key is held with another body are under way
 *   HEALING        a partition was missing: have the partitions made
 *   PROBING        it failed for a reason that may pass: could another event be stored?
 *   WAITING        for the next try, by a timer
 *   BURYING        the dead letter of a single event is under way
 *   ABANDONED      the events were given back while something was under way
 *
 * Every try is idempotent, because keys are claimed in the transaction that inserts the events. So
 * an unknown outcome is no special case: it is tried again, and what was committed shows as ours.
 */
#include "weir/pipeline/batch.h"

#include "batch_priv.h"
#include "weir/base/mem.h"
#include "weir/pipeline/batch_metrics.h"
#include "weir/pipeline/recipient_counters.h"
#include "weir/pipeline/recipient_reports.h"
#include "weir/run/crash_point.h"
#include "weir/run/log.h"

/* One lost race, and so many transactions claim keys the careful way. */
#define CAREFUL_AFTER_RACE 1000

#define BATCH_NAME(code, name) name,
static const char *const state_names[] = {BATCH_STATES(BATCH_NAME)};

/* Which states may follow; bits of enum batch_state. */
#define TO(state) (1u << BATCH_##state)
#define NEXT_RANGE \
	(TO(SEEKING) | TO(STORING) | TO(DISPUTING) | TO(WAITING) | TO(BURYING) | TO(IDLE))
static const unsigned may_follow[] = {
    [BATCH_IDLE] = NEXT_RANGE | TO(DEDUPLICATING) | TO(ENRICHING),
    [BATCH_DEDUPLICATING] = NEXT_RANGE | TO(ENRICHING) | TO(ABANDONED),
    [BATCH_ENRICHING] = NEXT_RANGE | TO(ABANDONED),
    [BATCH_SEEKING] = NEXT_RANGE | TO(ABANDONED),
    [BATCH_STORING] = NEXT_RANGE | TO(LOOKING_UP) | TO(HEALING) | TO(PROBING) | TO(ABANDONED),
    [BATCH_LOOKING_UP] = NEXT_RANGE | TO(ABANDONED),
    [BATCH_DISPUTING] = NEXT_RANGE | TO(HEALING) | TO(PROBING) | TO(ABANDONED),
    [BATCH_HEALING] = NEXT_RANGE | TO(PROBING) | TO(ABANDONED),
    [BATCH_PROBING] = NEXT_RANGE | TO(ABANDONED),
    [BATCH_WAITING] = NEXT_RANGE,
    [BATCH_BURYING] = NEXT_RANGE | TO(ABANDONED),
    [BATCH_ABANDONED] = TO(IDLE),
};

void batch_set_state(struct batch *b, enum batch_state to)
{
	if (!(may_follow[b->state] & 1u << to))
		log_error(LOG_PIPELINE, "a batch in an impossible state",
		          LOG_STR("from", state_names[b->state]), LOG_STR("to", state_names[to]));
	log_debug(LOG_PIPELINE, "batch", LOG_STR("from", state_names[b->state]),
	          LOG_STR("to", state_names[to]), LOG_INT("events", b->now.n));
	b->state = to;
}

void batch_end(struct batch *b)
{
	loop_timer_stop(&b->timer);
	event_unref(b->lent);
	b->lent = NULL;
	batch_updater_reset(b->updater);
	conflict_writer_reset(b->conflicts);
	batch_graves_reset(b);
	batch_set_state(b, BATCH_IDLE);
	b->env->changed(b->env->arg, b);
}

/* ---- ranges ---- */

void batch_next_range(struct batch *b)
{
	if (b->todo_count == 0) {
		usec_t took = loop_now(b->env->loop) - b->started;

		b->now = (struct range){0};
		batch_metrics_batch(b->env->metrics, b->n, took);
		batch_end(b);
		return;
	}
	b->now = b->todo[--b->todo_count];
	if (b->now.tries > b->round)
		batch_wait(b);
	else
		batch_run_range(b);
}

void batch_fill_fates(struct batch *b, size_t from, size_t n, enum event_fate fate)
{
	for (size_t i = from; i < from + n; i++)
		b->fates[b->now.at + i] = fate;
}

void batch_settle(struct batch *b, size_t n)
{
	if (n > 0)
		b->env->settled(b->env->arg, b->events + b->now.at, b->fates + b->now.at, n);
}

static void give_back_rest(struct batch *b)
{
	for (;;) {
		batch_fill_fates(b, 0, b->now.n, EVENT_RETURNED);
		batch_settle(b, b->now.n);
		b->now = (struct range){0};
		if (b->todo_count == 0)
			return;
		b->now = b->todo[--b->todo_count];
	}
}

void batch_return(struct batch *b)
{
	give_back_rest(b);
	batch_end(b);
}

/* ---- steps ---- */

static void look_up(struct batch *b)
{
	const struct pg_call *lookup;
	enum err e = batch_updater_lookup(b->updater, &lookup);

	if (e == ERR_OK)
		batch_submit(b, BATCH_LOOKING_UP, lookup, 1, 0);
	else
		batch_fail_lightly(b, e, NULL);
}

static void step_storing(struct batch *b, enum err err, const struct pg_outcome *outcome)
{
	const struct pg_result *changed;

	if (err == ERR_DATA && batch_updater_lost_race(b->updater, &outcome->failure)) {
		b->env->races = CAREFUL_AFTER_RACE;
		batch_run_range(b);
		return;
	}
	if (err != ERR_OK) {
		batch_fail(b, err, outcome);
		return;
	}
	changed = batch_updater_counters(b->updater, outcome->results);
	if (changed && b->env->counters)
		recipient_counters_write(b->env->counters, changed);
	if (batch_updater_all_new(b->updater, outcome->results)) {
		batch_updater_findings(b->updater, NULL, b->events + b->now.at, b->findings);
		batch_settle_found(b);
		return;
	}
	look_up(b);
}

/* A look-up that fails is nothing worse than not knowing: the whole range is tried again. */
static void step_looking_up(struct batch *b, enum err err, const struct pg_outcome *outcome)
{
	if (err != ERR_OK) {
		batch_fail_lightly(b, err, outcome);
		return;
	}
	batch_updater_findings(b->updater, outcome->results, b->events + b->now.at, b->findings);
	batch_settle_found(b);
}

static void on_pg_done(void *arg, enum err err, const struct pg_outcome *outcome)
{
	struct batch *b = arg;

	switch (b->state) {
	case BATCH_SEEKING:
		batch_step_seeking(b, err, outcome);
		return;
	case BATCH_STORING:
		step_storing(b, err, outcome);
		return;
	case BATCH_LOOKING_UP:
		step_looking_up(b, err, outcome);
		return;
	case BATCH_DISPUTING:
		batch_step_disputing(b, err, outcome);
		return;
	case BATCH_HEALING:
		batch_step_healing(b, err, outcome);
		return;
	case BATCH_PROBING:
		batch_step_probing(b, err);
		return;
	case BATCH_BURYING:
		batch_step_burying(b, err);
		return;
	case BATCH_ABANDONED:
		batch_end(b);
		return;
	case BATCH_IDLE:
	case BATCH_DEDUPLICATING:
	case BATCH_ENRICHING:
	case BATCH_WAITING:
		return;
	}
}

static void on_pg_copied(void *arg)
{
	struct batch *b = arg;

	batch_updater_sent(b->updater);
}

void batch_submit(struct batch *b, enum batch_state state, const struct pg_call *calls, size_t n,
                  usec_t timeout)
{
	bool first_try = state == BATCH_STORING && b->now.tries == 0;
	enum err e =
	    first_try ? pg_submit_bulk(b->env->pool, calls, n, timeout, on_pg_copied, on_pg_done, b)
	              : pg_submit(b->env->pool, calls, n, timeout, on_pg_done, b);

	if (e == ERR_OK)
		batch_set_state(b, state);
	else if (state == BATCH_BURYING) /* what it is buried for stays noted */
		batch_step_burying(b, e);
	else
		batch_fail_lightly(b, e, NULL);
}

/* What the queue found unfit is judged like an event that the database refused. NULL: all are fit.
 */
static const struct pg_outcome *unfit(const struct batch *b, enum err *ret_err)
{
	static const struct pg_outcome malformed = {
	    .failure = {.message = "the queue's entry is no event that this weir knows"}};
	static const struct pg_outcome condemned = {
	    .failure = {.message = "processes died while they worked on this event alone"}};
	static const struct pg_outcome given_up = {
	    .failure = {.message =
	                    "it reports a delivery, and no weir of the group has had its tool "
	                    "with a recipient mapping for QUEUE_TOOL_WAIT: give all of them "
	                    "that tool, then send the event again"}};

	*ret_err = ERR_DATA;
	for (size_t i = b->now.at; i < b->now.at + b->now.n; i++) {
		if (b->events[i]->flags & EVENT_MALFORMED)
			return &malformed;
		if (b->events[i]->flags & EVENT_CONDEMNED)
			return &condemned;
		if (b->events[i]->flags & EVENT_GIVEN_UP) {
			*ret_err = ERR_TOOL;
			return &given_up;
		}
		CRASH_ON(b->events[i]->view.type);
	}
	return NULL;
}

void batch_run_range(struct batch *b)
{
	const struct pg_call *calls;
	size_t n;
	bool in_race = b->env->races > 0;
	enum err e;
	const struct pg_outcome *why_not = unfit(b, &e);

	if (b->now.doubtful) {
		batch_bury(b);
		return;
	}
	if (b->env->deduplicator)
		b->ticket = deduplicator_ticket(b->env->deduplicator);
	if (b->now.conflict) {
		batch_dispute(b);
		return;
	}
	if (why_not) {
		batch_fail(b, e, why_not);
		return;
	}
	if (batch_has_returned(b)) {
		batch_seek_graves(b);
		return;
	}
	e = recipient_reports_read(b->env->reports, b->events + b->now.at, b->now.n);
	if (e == ERR_OK)
		e = batch_updater_prepare(b->updater, in_race, b->events + b->now.at, b->now.n,
		                          &b->plan);
	b->env->races -= in_race;
	if (e != ERR_OK) {
		batch_fail(b, e, NULL);
		return;
	}
	calls = batch_updater_store(b->updater, &n);
	if (b->now.n == 1)
		b->events[b->now.at]->flags |= EVENT_SENT;
	batch_submit(b, BATCH_STORING, calls, n, 0);
}

static void on_timer(void *arg)
{
	batch_run_range(arg);
}

/* ---- the processor's side ---- */

void batch_run(struct batch *b, struct event *const *events, size_t n)
{
	enum err e;

	memcpy(b->events, events, n * sizeof(*events));
	b->n = n;
	b->started = loop_now(b->env->loop);
	b->stored_then = b->env->stored;
	b->round = 0;
	b->now = (struct range){.n = (uint32_t)n};
	if (n == 1 && unfit(b, &e)) /* nothing that may kill is done with it */
		batch_run_range(b);
	else
		batch_deduplicate(b);
}

void batch_prepared(struct batch *b)
{
	if (b->now.n > 0)
		batch_run_range(b);
	else
		batch_next_range(b);
}

bool batch_idle(const struct batch *b)
{
	return b->state == BATCH_IDLE;
}

bool batch_working(const struct batch *b)
{
	return b->state != BATCH_IDLE && b->state != BATCH_WAITING && b->state != BATCH_ABANDONED;
}

bool batch_waiting(const struct batch *b)
{
	return b->state == BATCH_WAITING;
}

bool batch_parked(const struct batch *b)
{
	return b->state == BATCH_WAITING && b->now.n == 1 && (b->now.strikes > 0 || b->now.refused);
}

/* With some spread: all that wait are woken by the same news. */
void batch_wake(struct batch *b)
{
	if (b->state == BATCH_WAITING && b->now.strikes == 0)
		loop_timer_set(&b->timer, verdict_delay(1, 1));
}

void batch_give_back(struct batch *b)
{
	if (b->state == BATCH_IDLE || b->state == BATCH_ABANDONED)
		return;
	if (b->state == BATCH_WAITING) {
		batch_return(b);
		return;
	}
	if (b->state == BATCH_BURYING)
		b->lent = event_ref(b->events[b->now.at]);
	if (b->state == BATCH_ENRICHING)
		enricher_forget(b->enrichment);
	give_back_rest(b);
	batch_set_state(b, BATCH_ABANDONED);
}

enum err batch_new(struct batch_env *env, struct batch **ret)
{
	struct batch *b = mem_zalloc(sizeof(*b));

	if (!b)
		return ERR_NOMEM;
	b->env = env;
	b->events = mem_array(env->batch_size, sizeof(struct event *));
	b->fates = mem_array(env->batch_size, sizeof(*b->fates));
	b->todo = mem_array(env->batch_size, sizeof(*b->todo));
	if (!b->events || !b->fates || !b->todo ||
	    batch_updater_new(env->params, &b->updater) != ERR_OK ||
	    dead_writer_new(&b->dead) != ERR_OK || batch_known_init(b) != ERR_OK ||
	    batch_enrich_init(b) != ERR_OK || batch_graves_init(b) != ERR_OK ||
	    loop_timer_init(&b->timer, env->loop, on_timer, b) != ERR_OK) {
		batch_free(b);
		return ERR_NOMEM;
	}
	*ret = b;
	return ERR_OK;
}

static void drop_range(struct batch *b, const struct range *r)
{
	for (size_t i = r->at; i < r->at + r->n; i++)
		event_unref(b->events[i]);
}

void batch_free(struct batch *b)
{
	if (!b)
		return;
	drop_range(b, &b->now);
	while (b->todo_count > 0)
		drop_range(b, &b->todo[--b->todo_count]);
	event_unref(b->lent);
	loop_timer_done(&b->timer);
	batch_updater_free(b->updater);
	dead_writer_free(b->dead);
	batch_known_done(b);
	batch_graves_done(b);
	enrich_question_free(b->enrichment);
	mem_free(b->todo);
	mem_free(b->events);
	mem_free(b->fates);
	mem_free(b);
}
