/* A batch works through ranges of its events, one transaction for each range. At first there is one
 * range; a transaction that the database refuses for what it contains is cut in halves until the
 * offender is alone, and each half that commits is settled at once. So mates of a poison event wait
 * for some round trips, not for its fate.
 *
 *   STORING     the transaction is under way
 *   LOOKING_UP  committed, but some keys were held already: by whom?
 *   HEALING     a partition was missing: have the partitions made
 *   PROBING     it failed for a reason that may pass: does the database answer at all?
 *   WAITING     for the next try, by a timer
 *   BURYING     the dead letter of a single event is under way
 *   ABANDONED   the events were given back while a transaction was under way
 *
 * Every try is idempotent, because keys are claimed in the transaction that inserts the events. So
 * an unknown outcome is no special case: it is tried again, and what was committed shows as ours.
 */
#include "weir/pipeline/batch.h"

#include <endian.h>
#include <stdio.h>

#include "weir/base/mem.h"
#include "weir/io/pg.h"
#include "weir/pipeline/batch_metrics.h"
#include "weir/pipeline/dead_writer.h"
#include "weir/pipeline/verdict.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"

enum {
	MAX_RANGES = 40, /* halving 2^32 events, and some left for later at each cut */
	/* So often in a row a range fails while the database answers: then it is suspected. */
	STRIKES_TO_SPLIT = 3,
	STRIKES_TO_BURY = 10,
	/* One lost race, and so many transactions claim keys the careful way. */
	CAREFUL_AFTER_RACE = 1000,
};

#define PROBE_TIMEOUT (5 * USEC_PER_SEC)
#define HEAL_TIMEOUT  (15 * USEC_PER_SEC)

static const struct pg_stmt probe_stmt = {.name = "weir_probe", .sql = "SELECT 1"};
static const struct pg_stmt heal_stmt = {
    .name = "weir_heal",
    .sql = "SELECT weir.ensure_event_partitions($1)",
    .param_count = 1,
    .types = {PG_INT4},
};

#define BATCH_STATES(X)             \
	X(IDLE, "idle")             \
	X(STORING, "storing")       \
	X(LOOKING_UP, "looking up") \
	X(HEALING, "healing")       \
	X(PROBING, "probing")       \
	X(WAITING, "waiting")       \
	X(BURYING, "burying")       \
	X(ABANDONED, "abandoned")
#define BATCH_ENUM(code, name) BATCH_##code,
#define BATCH_NAME(code, name) name,
enum batch_state { BATCH_STATES(BATCH_ENUM) };
static const char *const state_names[] = {BATCH_STATES(BATCH_NAME)};

struct range {
	size_t at, n;
};

struct batch {
	struct batch_env *env; /* borrowed */
	enum batch_state state;
	struct event **events;  /* owned array of references */
	enum event_fate *fates; /* owned */
	size_t n;               /* events when it started */
	struct range now;       /* in work */
	struct batch_plan plan; /* of it */
	struct range todo[MAX_RANGES];
	size_t todo_count;
	unsigned tries;       /* failures of this range in a row */
	unsigned strikes;     /* of them, those while the database answered */
	uint64_t stored_then; /* env->stored when the batch started */
	bool healed;          /* partitions were made for this range */
	bool escape;          /* its dead letter was refused as it was */
	enum verdict verdict; /* of the latest failure, and why: */
	enum err why;
	char sqlstate[6];
	char message[256];
	usec_t started;
	struct loop_timer timer;
	struct batch_updater *updater; /* owned */
	struct dead_writer *dead;      /* owned */
	struct event *lent;            /* reference: the dead letter under way points into it */
	int32_t heal_days;             /* big endian */
	struct pg_param heal_param;
	struct pg_call small; /* the probe, or the healing */
};

static void on_pg_done(void *arg, enum err err, const struct pg_outcome *outcome);
static void run_range(struct batch *b);

/* Which states may follow; bits of enum batch_state. */
#define TO(state) (1u << BATCH_##state)
static const unsigned may_follow[] = {
    [BATCH_IDLE] = TO(STORING) | TO(WAITING) | TO(BURYING) | TO(IDLE),
    [BATCH_STORING] = TO(STORING) | TO(LOOKING_UP) | TO(HEALING) | TO(PROBING) | TO(WAITING) |
                      TO(BURYING) | TO(ABANDONED) | TO(IDLE),
    [BATCH_LOOKING_UP] = TO(STORING) | TO(PROBING) | TO(WAITING) | TO(ABANDONED) | TO(IDLE),
    [BATCH_HEALING] = TO(STORING) | TO(PROBING) | TO(WAITING) | TO(ABANDONED) | TO(IDLE),
    [BATCH_PROBING] = TO(STORING) | TO(WAITING) | TO(BURYING) | TO(ABANDONED) | TO(IDLE),
    [BATCH_WAITING] = TO(STORING) | TO(WAITING) | TO(BURYING) | TO(IDLE),
    [BATCH_BURYING] = TO(STORING) | TO(BURYING) | TO(WAITING) | TO(ABANDONED) | TO(IDLE),
    [BATCH_ABANDONED] = TO(IDLE),
};

static void set_state(struct batch *b, enum batch_state to)
{
	if (!(may_follow[b->state] & 1u << to))
		log_error(LOG_PIPELINE, "a batch in an impossible state",
		          LOG_STR("from", state_names[b->state]), LOG_STR("to", state_names[to]));
	log_debug(LOG_PIPELINE, "batch", LOG_STR("from", state_names[b->state]),
	          LOG_STR("to", state_names[to]), LOG_INT("events", b->now.n));
	b->state = to;
}

/* ---- ranges ---- */

static void fresh_range(struct batch *b, struct range r)
{
	b->now = r;
	b->tries = 0;
	b->strikes = 0;
	b->healed = false;
	b->escape = false;
}

static void end(struct batch *b)
{
	loop_timer_stop(&b->timer);
	b->todo_count = 0;
	b->now.n = 0;
	event_unref(b->lent);
	b->lent = NULL;
	batch_updater_reset(b->updater);
	set_state(b, BATCH_IDLE);
	b->env->changed(b->env->arg, b);
}

static void next_range(struct batch *b)
{
	if (b->todo_count == 0) {
		usec_t took = loop_now(b->env->loop) - b->started;

		batch_metrics_batch(b->env->metrics, b->n, took);
		end(b);
		return;
	}
	fresh_range(b, b->todo[--b->todo_count]);
	run_range(b);
}

static void settle(struct batch *b, size_t at, size_t n)
{
	if (n > 0)
		b->env->settled(b->env->arg, b->events + at, b->fates + at, n);
}

static void fill_fates(struct batch *b, size_t at, size_t n, enum event_fate fate)
{
	for (size_t i = at; i < at + n; i++)
		b->fates[i] = fate;
}

/* The transaction is committed, and the fates of plan.first are known. */
static void committed(struct batch *b)
{
	size_t done = b->plan.first + b->plan.duplicate;
	struct range later = {b->now.at + done, b->plan.later};

	fill_fates(b, b->now.at + b->plan.first, b->plan.duplicate, EVENT_DUPLICATE);
	b->env->stored += b->plan.first;
	settle(b, b->now.at, done);
	if (later.n == 0) {
		next_range(b);
		return;
	}
	fresh_range(b, later);
	run_range(b);
}

static void split(struct batch *b)
{
	size_t half = b->now.n / 2;

	log_warn(LOG_PIPELINE, "a batch is cut in halves", LOG_INT("events", b->now.n),
	         LOG_ERR(b->why), LOG_STR("sqlstate", b->sqlstate), LOG_STR("message", b->message));
	b->todo[b->todo_count++] = (struct range){b->now.at + half, b->now.n - half};
	fresh_range(b, (struct range){b->now.at, half});
	run_range(b);
}

static void give_back_rest(struct batch *b)
{
	fill_fates(b, b->now.at, b->now.n, EVENT_RETURNED);
	settle(b, b->now.at, b->now.n);
	while (b->todo_count > 0) {
		struct range r = b->todo[--b->todo_count];

		fill_fates(b, r.at, r.n, EVENT_RETURNED);
		settle(b, r.at, r.n);
	}
	b->now.n = 0;
}

/* ---- failures ---- */

static void note_failure(struct batch *b, enum err err, const struct pg_outcome *outcome)
{
	const struct pg_failure *f = outcome ? &outcome->failure : NULL;

	b->why = err;
	b->verdict = verdict_of(err);
	snprintf(b->sqlstate, sizeof(b->sqlstate), "%s", f ? f->sqlstate : "");
	snprintf(b->message, sizeof(b->message), "%s",
	         f && f->message ? f->message : err_meaning(err));
	for (size_t i = b->now.at; i < b->now.at + b->now.n; i++)
		b->events[i]->attempts++;
}

static void wait_for_next_try(struct batch *b)
{
	usec_t delay = verdict_delay(b->tries, b->env->quick_retries);

	log_warn(LOG_PIPELINE, "a batch is tried again", LOG_INT("attempt", b->tries),
	         LOG_INT("events", b->now.n), LOG_MSEC("in_ms", delay), LOG_ERR(b->why),
	         LOG_STR("sqlstate", b->sqlstate), LOG_STR("message", b->message));
	batch_metrics_retry(b->env->metrics, b->tries, b->why);
	set_state(b, BATCH_WAITING);
	loop_timer_set(&b->timer, delay);
	b->env->changed(b->env->arg, b);
}

static void submit(struct batch *b, enum batch_state state, const struct pg_call *calls, size_t n,
                   usec_t timeout)
{
	enum err e = pg_submit(b->env->pool, calls, n, timeout, on_pg_done, b);

	if (e == ERR_OK) {
		set_state(b, state);
		return;
	}
	note_failure(b, e, NULL);
	if (b->verdict == VERDICT_RETURN) {
		give_back_rest(b);
		end(b);
		return;
	}
	b->tries++;
	wait_for_next_try(b);
}

static void probe(struct batch *b)
{
	b->tries++;
	b->small = (struct pg_call){.stmt = &probe_stmt};
	submit(b, BATCH_PROBING, &b->small, 1, PROBE_TIMEOUT);
}

static void heal(struct batch *b)
{
	if (b->healed) {
		b->healed = false;
		probe(b);
		return;
	}
	b->healed = true;
	b->heal_days = (int32_t)htobe32((uint32_t)b->env->partition_days);
	b->heal_param = (struct pg_param){&b->heal_days, sizeof(b->heal_days)};
	b->small = (struct pg_call){&heal_stmt, &b->heal_param};
	log_warn(LOG_PIPELINE, "a partition is missing and is made");
	submit(b, BATCH_HEALING, &b->small, 1, HEAL_TIMEOUT);
}

static void bury(struct batch *b)
{
	const struct event *e = b->events[b->now.at];
	struct dead_reason why = {b->why, b->sqlstate, b->message, e->attempts, b->escape};

	if (dead_writer_prepare(b->dead, e, &why) != ERR_OK) {
		b->tries++;
		wait_for_next_try(b);
		return;
	}
	submit(b, BATCH_BURYING, dead_writer_call(b->dead), 1, 0);
}

static void judge(struct batch *b, enum err err, const struct pg_outcome *outcome)
{
	note_failure(b, err, outcome);
	switch (b->verdict) {
	case VERDICT_DATA:
		if (b->now.n > 1)
			split(b);
		else
			bury(b);
		return;
	case VERDICT_HEAL:
		heal(b);
		return;
	case VERDICT_SUSPECT:
	case VERDICT_CONFIG:
		probe(b);
		return;
	case VERDICT_RETRY:
		b->tries++;
		wait_for_next_try(b);
		return;
	case VERDICT_RETURN:
		give_back_rest(b);
		end(b);
		return;
	}
}

/* ---- steps ---- */

static void step_storing(struct batch *b, enum err err, const struct pg_outcome *outcome)
{
	size_t calls;
	const struct pg_call *lookup;

	if (err == ERR_DATA && batch_updater_lost_race(b->updater, &outcome->failure)) {
		b->env->races = CAREFUL_AFTER_RACE;
		run_range(b);
		return;
	}
	if (err != ERR_OK) {
		judge(b, err, outcome);
		return;
	}
	if (batch_updater_all_new(b->updater, outcome->results)) {
		fill_fates(b, b->now.at, b->plan.first, EVENT_STORED);
		committed(b);
		return;
	}
	lookup = batch_updater_lookup(b->updater, &calls);
	submit(b, BATCH_LOOKING_UP, lookup, calls, 0);
}

/* A look-up that fails is nothing worse than not knowing: the whole range is tried again. */
static void step_looking_up(struct batch *b, enum err err, const struct pg_outcome *outcome)
{
	if (err == ERR_OK) {
		batch_updater_fates(b->updater, outcome->results, b->events + b->now.at,
		                    b->fates + b->now.at);
		committed(b);
		return;
	}
	note_failure(b, err, outcome);
	if (b->verdict == VERDICT_RETURN) {
		give_back_rest(b);
		end(b);
		return;
	}
	b->tries++;
	wait_for_next_try(b);
}

static void step_healing(struct batch *b, enum err err, const struct pg_outcome *outcome)
{
	if (err == ERR_OK) {
		run_range(b);
		return;
	}
	if (err != ERR_CANCELLED)
		err = ERR_NOTABLE;
	b->healed = true;
	judge(b, err, outcome);
}

/* A single event that fails again and again while the database answers. What looks like a fault of
 * the set-up kills no event as long as nothing else could be stored either: then it goes behind the
 * others, which may show that it is the event after all. */
static void convict(struct batch *b)
{
	if (b->verdict == VERDICT_SUSPECT || b->env->stored != b->stored_then) {
		bury(b);
		return;
	}
	b->env->put_back(b->env->arg, b->events[b->now.at]);
	next_range(b);
}

static void step_probing(struct batch *b, enum err err)
{
	if (err == ERR_CANCELLED) {
		give_back_rest(b);
		end(b);
		return;
	}
	b->strikes = err == ERR_OK ? b->strikes + 1 : 0;
	if (b->now.n > 1 && b->strikes >= STRIKES_TO_SPLIT)
		split(b);
	else if (b->strikes >= STRIKES_TO_BURY)
		convict(b);
	else
		wait_for_next_try(b);
}

static void step_burying(struct batch *b, enum err err)
{
	struct event *e = b->events[b->now.at];

	if (err == ERR_OK) {
		log_error(LOG_PIPELINE, "an event became a dead letter",
		          LOG_SLICE("tool", e->view.tool), LOG_SLICE("type", e->view.type),
		          LOG_ERR(b->why), LOG_STR("sqlstate", b->sqlstate),
		          LOG_STR("message", b->message));
		batch_metrics_dead(b->env->metrics, e, b->why);
		fill_fates(b, b->now.at, 1, EVENT_DEAD);
		settle(b, b->now.at, 1);
		next_range(b);
		return;
	}
	if (err == ERR_CANCELLED) {
		give_back_rest(b);
		end(b);
		return;
	}
	if (verdict_of(err) == VERDICT_DATA && !b->escape) {
		b->escape = true;
		bury(b);
		return;
	}
	b->tries++;
	wait_for_next_try(b);
}

static void on_pg_done(void *arg, enum err err, const struct pg_outcome *outcome)
{
	struct batch *b = arg;

	switch (b->state) {
	case BATCH_STORING:
		step_storing(b, err, outcome);
		return;
	case BATCH_LOOKING_UP:
		step_looking_up(b, err, outcome);
		return;
	case BATCH_HEALING:
		step_healing(b, err, outcome);
		return;
	case BATCH_PROBING:
		step_probing(b, err);
		return;
	case BATCH_BURYING:
		step_burying(b, err);
		return;
	case BATCH_ABANDONED:
		end(b);
		return;
	case BATCH_IDLE:
	case BATCH_WAITING:
		return;
	}
}

/* What was no event in the queue is judged like an event that the database refused. */
static bool has_malformed(const struct batch *b)
{
	for (size_t i = b->now.at; i < b->now.at + b->now.n; i++)
		if (b->events[i]->flags & EVENT_MALFORMED)
			return true;
	return false;
}

static void run_range(struct batch *b)
{
	static const struct pg_outcome malformed = {
	    .failure = {.message = "the queue's entry is no event that this weir knows"}};
	const struct pg_call *calls;
	size_t n;
	bool in_race = b->env->races > 0;
	enum err e = batch_updater_prepare(b->updater, &b->env->dedup, in_race,
	                                   b->events + b->now.at, b->now.n, &b->plan);

	b->env->races -= in_race;
	if (e != ERR_OK || has_malformed(b)) {
		judge(b, e != ERR_OK ? e : ERR_DATA, e != ERR_OK ? NULL : &malformed);
		return;
	}
	calls = batch_updater_store(b->updater, &n);
	submit(b, BATCH_STORING, calls, n, 0);
}

static void on_timer(void *arg)
{
	run_range(arg);
}

/* ---- the processor's side ---- */

void batch_run(struct batch *b, struct event *const *events, size_t n)
{
	memcpy(b->events, events, n * sizeof(*events));
	b->n = n;
	b->started = loop_now(b->env->loop);
	b->stored_then = b->env->stored;
	b->todo_count = 0;
	fresh_range(b, (struct range){0, n});
	run_range(b);
}

bool batch_idle(const struct batch *b)
{
	return b->state == BATCH_IDLE;
}

bool batch_working(const struct batch *b)
{
	return b->state != BATCH_IDLE && b->state != BATCH_WAITING && b->state != BATCH_ABANDONED;
}

bool batch_parked(const struct batch *b)
{
	return b->state == BATCH_WAITING && b->now.n == 1 && b->todo_count == 0 && b->strikes > 0;
}

/* With some spread: all that wait are woken by the same news. */
void batch_wake(struct batch *b)
{
	if (b->state == BATCH_WAITING && b->strikes == 0)
		loop_timer_set(&b->timer, verdict_delay(1, 1));
}

void batch_give_back(struct batch *b)
{
	if (b->state == BATCH_IDLE || b->state == BATCH_ABANDONED)
		return;
	if (b->state == BATCH_BURYING)
		b->lent = event_ref(b->events[b->now.at]);
	give_back_rest(b);
	if (b->state == BATCH_WAITING)
		end(b);
	else
		set_state(b, BATCH_ABANDONED);
}

enum err batch_new(struct batch_env *env, struct batch **ret)
{
	struct batch *b = mem_zalloc(sizeof(*b));

	if (!b)
		return ERR_NOMEM;
	b->env = env;
	b->events = mem_array(env->batch_size, sizeof(struct event *));
	b->fates = mem_array(env->batch_size, sizeof(*b->fates));
	if (!b->events || !b->fates || batch_updater_new(&b->updater) != ERR_OK ||
	    dead_writer_new(&b->dead) != ERR_OK ||
	    loop_timer_init(&b->timer, env->loop, on_timer, b) != ERR_OK) {
		batch_free(b);
		return ERR_NOMEM;
	}
	*ret = b;
	return ERR_OK;
}

static void drop_range(struct batch *b, struct range r)
{
	for (size_t i = r.at; i < r.at + r.n; i++)
		event_unref(b->events[i]);
}

void batch_free(struct batch *b)
{
	if (!b)
		return;
	drop_range(b, b->now);
	while (b->todo_count > 0)
		drop_range(b, b->todo[--b->todo_count]);
	event_unref(b->lent);
	loop_timer_done(&b->timer);
	batch_updater_free(b->updater);
	dead_writer_free(b->dead);
	mem_free(b->events);
	mem_free(b->fates);
	mem_free(b);
}
