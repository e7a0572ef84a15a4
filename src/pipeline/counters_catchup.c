/* The hashes follow what nobody wrote there, in two ways:
 *
 * Registrations and deletions leave a trace in weir.stale_hashes, in their own transaction. Once a
 * second a run takes the traces page by page under a lease (of several workers each takes others),
 * writes the hashes in one go, and clears what Redis has confirmed. A worker that dies meanwhile
 * leaves its page to the others when the lease ends; a write that failed waits as long.
 *
 * Delivery reports leave none, which would cost their transaction more than it is worth. When Redis
 * was away, or a worker died between the commit and its write, a sweep goes through the batches
 * that changed since the last sweep, by version, which is a time. Redis itself remembers when that
 * was: so what Redis forgets is written anew. A sweep follows each connection to Redis and each
 * failed write, and somebody's once an hour; every ten minutes it is asked whether there was one.
 *
 * Whatever is written, the script in recipient_counters.c lets no older state win. */
#include "recipient_counters_priv.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "columns.h"
#include "weir/base/backoff.h"
#include "weir/base/mem.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"

#define SWEEP_PERIOD  (600 * USEC_PER_SEC)
#define SWEEP_AGE     (3600 * USEC_PER_SEC) /* of the last one, if nothing asks for another */
#define RETRY_MAX     (10 * USEC_PER_SEC)
#define JITTER        0.25
#define LEASE_SECONDS 5
#define DISCARD_MOST  1000
#define SCAN_MOST     5000 /* batches that a page of a sweep looks at */
#define ID_MAX        ((size_t)4096)
/* Between a version and its commit, and from there to Redis, pass seconds; clocks that are set and
 * what a Redis that crashed forgot come on top. */
#define SLACK (300 * USEC_PER_SEC)

#define CLAIMED(name) ", (c.batch)." name "::text"
static const struct pg_stmt claim_stmt = {
    .name = "weir_claim_stale_hashes",
    .sql = "SELECT c.batch_id, c.version::text, c.mark" MESSAGE_BATCH_FIELDS(
        CLAIMED) " FROM weir.claim_stale_hashes($1, " STR_LITERAL(COUNTERS_PAGE) ", " STR_LITERAL(LEASE_SECONDS) ") c",
    .param_count = 1,
    .types = {PG_TEXT},
};
static const struct pg_stmt clear_stmt = {
    .name = "weir_clear_stale_hashes",
    .sql = "SELECT weir.clear_stale_hashes($1, $2, $3)",
    .param_count = 3,
    .types = {PG_TEXT_ARRAY, PG_INT8_ARRAY, PG_BOOL_ARRAY},
};
static const struct pg_stmt clock_stmt = {
    .name = "weir_clock",
    .sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8",
};
static const struct pg_stmt discard_stmt = {
    .name = "weir_discard_stale_hashes",
    .sql = "SELECT weir.discard_stale_hashes($1, " STR_LITERAL(DISCARD_MOST) ")",
    .param_count = 1,
    .types = {PG_INT8},
};
#define SWEEP_LIMITS  STR_LITERAL(COUNTERS_PAGE) ", " STR_LITERAL(SCAN_MOST)
#define CHANGED(name) ", (b.batch)." name "::text"
static const struct pg_stmt since_stmt = {
    .name = "weir_message_batches_since",
    .sql = "SELECT b.scanned_to, (b.batch).version::text, NULL" MESSAGE_BATCH_FIELDS(
        CHANGED) " FROM weir.message_batches_since($1, $2, " SWEEP_LIMITS ") b",
    .param_count = 2,
    .types = {PG_INT8, PG_TEXT},
};

#define CATCHUP_STATES(X)         \
	X(STOPPED, "stopped")     \
	X(WAITING, "waiting")     \
	X(CLAIMING, "claiming")   \
	X(WRITING, "writing")     \
	X(CLEARING, "clearing")   \
	X(OPENING, "opening")     \
	X(RECALLING, "recalling") \
	X(READING, "reading")     \
	X(REWRITING, "rewriting") \
	X(NOTING, "noting")
#define CATCHUP_ENUM(code, name) CATCHUP_##code,
#define CATCHUP_NAME(code, name) name,
enum catchup_state { CATCHUP_STATES(CATCHUP_ENUM) };
static const char *const state_names[] = {CATCHUP_STATES(CATCHUP_NAME)};

enum { COLUMN_ID, COLUMN_MARK, COLUMN_WRITTEN, COLUMN_COUNT };
static const uint32_t elements[] = {PG_TEXT, PG_INT8, PG_BOOL};

struct sweep {
	usec_t at;     /* when the next one is due; monotonic */
	bool wanted;   /* not only because it is time for one */
	bool open;     /* pages remain */
	usec_t clock;  /* the database's when this one began */
	usec_t since;  /* versions that it looks at */
	usec_t retry;  /* how long the next one waits if this one fails */
	struct buf id; /* it came so far */
};

struct counters_catchup {
	struct recipient_counters_options o;
	enum catchup_state state;
	bool stopping;
	bool told; /* that the database refuses us */
	struct loop_timer timer;
	struct counters_page page;        /* what is being written */
	struct buf columns[COLUMN_COUNT]; /* of a page that was claimed */
	struct buf claimed_id;            /* the run came so far */
	usec_t claimed_at;                /* end of the latest run; monotonic */
	struct sweep sweep;
	char *note_key; /* owned */
	struct pg_param params[COLUMN_COUNT];
	struct pg_call calls[2];
	uint64_t number; /* big endian, a parameter */
};

static void claim(struct counters_catchup *u);
static void read_page(struct counters_catchup *u);

static void set_state(struct counters_catchup *u, enum catchup_state to)
{
	if (u->state == to)
		return;
	log_debug(LOG_PIPELINE, "catching up with message batches",
	          LOG_STR("from", state_names[u->state]), LOG_STR("to", state_names[to]));
	u->state = to;
}

static bool ready(const struct counters_catchup *u)
{
	return u->o.ready(u->o.arg) && (!u->o.redis || redis_up(u->o.redis));
}

static void rest(struct counters_catchup *u)
{
	set_state(u, CATCHUP_WAITING);
	loop_timer_set(&u->timer, backoff_jitter(u->o.look, JITTER));
}

/* True: stopped, and what was under way is over. */
static bool halted(struct counters_catchup *u)
{
	if (u->stopping)
		set_state(u, CATCHUP_STOPPED);
	return u->stopping;
}

/* ---- a page, from the database to Redis ---- */

static void page_written(void *arg);

static void write_page(struct counters_catchup *u, const struct pg_result *r,
                       enum catchup_state state)
{
	set_state(u, state);
	if (!counters_page_write(&u->page, r))
		page_written(u);
}

static enum err keep_id(struct buf *id, const struct pg_result *r)
{
	size_t n = pg_rows(r);

	if (n == 0)
		return ERR_OK;
	buf_reset(id);
	return buf_add_str(id, pg_value(r, n - 1, COUNTERS_ID));
}

static struct pg_param text_param(const struct buf *b)
{
	return (struct pg_param){b->len ? b->ptr : "", b->len};
}

/* ---- sweeps ---- */

static void sweep_failed(struct counters_catchup *u)
{
	struct sweep *s = &u->sweep;

	s->open = false;
	s->wanted = true;
	s->at = loop_now(u->o.loop) + backoff_jitter(s->retry, JITTER);
	s->retry = s->retry * 2 < RETRY_MAX ? s->retry * 2 : RETRY_MAX;
	rest(u);
}

/* What was missed meanwhile may stand in a page that was read already. */
static void sweep_done(struct counters_catchup *u)
{
	struct sweep *s = &u->sweep;

	s->open = false;
	s->at = loop_now(u->o.loop) + backoff_jitter(s->wanted ? s->retry : SWEEP_PERIOD, JITTER);
	if (!s->wanted)
		s->retry = u->o.look;
	rest(u);
}

static void want_sweep(struct counters_catchup *u, usec_t delay)
{
	usec_t at = loop_now(u->o.loop) + delay;

	if (!u->sweep.wanted || at < u->sweep.at)
		u->sweep.at = at;
	u->sweep.wanted = true;
}

static void on_noted(void *arg, enum err err, const struct redis_reply *reply)
{
	struct counters_catchup *u = arg;

	(void)reply;
	if (halted(u))
		return;
	if (err != ERR_OK)
		sweep_failed(u);
	else
		sweep_done(u);
}

static void note_sweep(struct counters_catchup *u)
{
	char clock[24], msec[24];
	struct str argv[] = {STR("SET"), str_of(u->note_key), STR_NONE, STR("PX"), STR_NONE};

	snprintf(clock, sizeof(clock), "%lld", (long long)u->sweep.clock);
	snprintf(msec, sizeof(msec), "%lld", (long long)(u->o.ttl / USEC_PER_MSEC));
	argv[2] = str_of(clock);
	argv[4] = str_of(msec);
	set_state(u, CATCHUP_NOTING);
	if (redis_submit(u->o.redis, argv, 5, 0, on_noted, u) != ERR_OK)
		sweep_failed(u);
}

static void page_rewritten(struct counters_catchup *u)
{
	if (u->page.lost)
		sweep_failed(u);
	else if (u->page.rows == 0 && u->sweep.wanted)
		sweep_failed(u); /* Redis came anew, or did not take something: what is there? */
	else if (u->page.rows == 0)
		note_sweep(u);
	else if (loop_now(u->o.loop) - u->claimed_at >= u->o.look)
		claim(u);
	else
		read_page(u);
}

static void begin_sweep(struct counters_catchup *u, usec_t last)
{
	struct sweep *s = &u->sweep;

	if (!s->wanted && last > 0 && last <= s->clock && s->clock - last < SWEEP_AGE) {
		sweep_done(u);
		return;
	}
	s->since = s->clock - u->o.ttl;
	if (last > 0 && last <= s->clock && last - SLACK > s->since)
		s->since = last - SLACK;
	s->wanted = false;
	s->open = true;
	buf_reset(&s->id);
	read_page(u);
}

static void on_recalled(void *arg, enum err err, const struct redis_reply *reply)
{
	struct counters_catchup *u = arg;
	int64_t last = 0;

	if (halted(u))
		return;
	if (err != ERR_OK) {
		sweep_failed(u);
		return;
	}
	if (reply->type != REDIS_STRING || str_to_int(reply->str, 0, INT64_MAX, &last) != ERR_OK)
		last = 0;
	begin_sweep(u, last);
}

static void recall(struct counters_catchup *u)
{
	struct str argv[] = {STR("GET"), str_of(u->note_key)};

	set_state(u, CATCHUP_RECALLING);
	if (redis_submit(u->o.redis, argv, 2, 0, on_recalled, u) != ERR_OK)
		sweep_failed(u);
}

/* ---- the database ---- */

static void on_pg_done(void *arg, enum err err, const struct pg_outcome *o);

static bool submit(struct counters_catchup *u, enum catchup_state state, size_t n)
{
	set_state(u, state);
	return pg_submit(u->o.pool, u->calls, n, 0, on_pg_done, u) == ERR_OK;
}

static void number_param(struct counters_catchup *u, int64_t n)
{
	u->number = htobe64((uint64_t)n);
	u->params[0] = (struct pg_param){&u->number, sizeof(u->number)};
}

static void claim(struct counters_catchup *u)
{
	u->params[0] = text_param(&u->claimed_id);
	u->calls[0] = (struct pg_call){&claim_stmt, u->params};
	if (!submit(u, CATCHUP_CLAIMING, 1))
		rest(u);
}

static void open_sweep(struct counters_catchup *u)
{
	number_param(u, u->o.ttl / USEC_PER_MSEC);
	u->calls[0] = (struct pg_call){&clock_stmt, NULL};
	u->calls[1] = (struct pg_call){&discard_stmt, u->params};
	if (!submit(u, CATCHUP_OPENING, 2))
		sweep_failed(u);
}

static void read_page(struct counters_catchup *u)
{
	number_param(u, u->sweep.since);
	u->params[1] = text_param(&u->sweep.id);
	u->calls[0] = (struct pg_call){&since_stmt, u->params};
	if (!submit(u, CATCHUP_READING, 1))
		sweep_failed(u);
}

/* No more traces. */
static void run_done(struct counters_catchup *u)
{
	u->claimed_at = loop_now(u->o.loop);
	buf_reset(&u->claimed_id);
	if (u->sweep.open)
		read_page(u);
	else if (u->claimed_at >= u->sweep.at)
		open_sweep(u);
	else
		rest(u);
}

static void run_failed(struct counters_catchup *u)
{
	buf_reset(&u->claimed_id);
	if (u->sweep.open)
		sweep_failed(u);
	else
		rest(u);
}

static void step_claiming(struct counters_catchup *u, const struct pg_result *r)
{
	struct buf *c = u->columns;
	size_t n = pg_rows(r);

	if (n == 0) {
		run_done(u);
		return;
	}
	columns_begin(c, elements, COLUMN_COUNT);
	for (size_t i = 0; i < n; i++) {
		column_add_text(&c[COLUMN_ID], pg_value(r, i, COUNTERS_ID));
		column_add_int64(&c[COLUMN_MARK], pg_int8(r, i, COUNTERS_THIRD));
	}
	if (keep_id(&u->claimed_id, r) != ERR_OK)
		run_failed(u);
	else
		write_page(u, r, CATCHUP_WRITING);
}

static void clear_page(struct counters_catchup *u)
{
	size_t written = 0;

	for (size_t i = 0; i < u->page.rows; i++) {
		const uint8_t yes = u->page.rows_written[i];

		pg_array_add(&u->columns[COLUMN_WRITTEN], &yes, sizeof(yes));
		written += yes;
	}
	u->calls[0] = (struct pg_call){&clear_stmt, u->params};
	if (written == 0 ||
	    columns_end(u->columns, u->params, COLUMN_COUNT, u->page.rows) != ERR_OK ||
	    !submit(u, CATCHUP_CLEARING, 1))
		run_failed(u);
}

static void step_cleared(struct counters_catchup *u)
{
	if (u->page.lost)
		run_failed(u);
	else if (u->page.rows < COUNTERS_PAGE)
		run_done(u);
	else
		claim(u);
}

static void page_written(void *arg)
{
	struct counters_catchup *u = arg;

	if (halted(u))
		return;
	if (u->state == CATCHUP_WRITING)
		clear_page(u);
	else
		page_rewritten(u);
}

static void step_opening(struct counters_catchup *u, const struct pg_result *clock)
{
	u->sweep.clock = pg_int8(clock, 0, 0);
	if (u->o.redis) {
		recall(u);
		return;
	}
	u->sweep.wanted = false;
	sweep_done(u);
}

static void step_reading(struct counters_catchup *u, const struct pg_result *r)
{
	if (keep_id(&u->sweep.id, r) != ERR_OK)
		sweep_failed(u);
	else
		write_page(u, r, CATCHUP_REWRITING);
}

static void pg_failed(struct counters_catchup *u, enum err err, const char *message)
{
	if ((err == ERR_NOTABLE || err_fate(err) == FATE_STOP) && !u->told) {
		u->told = true;
		log_warn(LOG_PIPELINE, "hashes of message batches cannot be brought up to date",
		         LOG_ERR(err), LOG_STR("detail", message));
	}
	if (u->state == CATCHUP_CLAIMING || u->state == CATCHUP_CLEARING)
		run_failed(u);
	else
		sweep_failed(u);
}

static void on_pg_done(void *arg, enum err err, const struct pg_outcome *o)
{
	struct counters_catchup *u = arg;

	if (halted(u))
		return;
	if (err != ERR_OK) {
		pg_failed(u, err, o->failure.message);
		return;
	}
	u->told = false;
	switch (u->state) {
	case CATCHUP_CLAIMING:
		step_claiming(u, o->results[0]);
		return;
	case CATCHUP_CLEARING:
		step_cleared(u);
		return;
	case CATCHUP_OPENING:
		step_opening(u, o->results[0]);
		return;
	case CATCHUP_READING:
		step_reading(u, o->results[0]);
		return;
	case CATCHUP_STOPPED:
	case CATCHUP_WAITING:
	case CATCHUP_WRITING:
	case CATCHUP_RECALLING:
	case CATCHUP_REWRITING:
	case CATCHUP_NOTING:
		return;
	}
}

/* ---- life ---- */

static void on_timer(void *arg)
{
	struct counters_catchup *u = arg;

	if (!ready(u))
		rest(u);
	else if (u->o.redis)
		claim(u);
	else
		run_done(u);
}

void counters_catchup_missed(struct counters_catchup *u)
{
	want_sweep(u, u->sweep.retry);
}

/* What was there before may be there no more. */
void counters_catchup_on_redis(struct counters_catchup *u)
{
	u->sweep.retry = u->o.look;
	want_sweep(u, 0);
	if (u->state == CATCHUP_WAITING)
		loop_timer_set(&u->timer, backoff_jitter(u->o.look / 4, JITTER));
}

void counters_catchup_start(struct counters_catchup *u)
{
	u->stopping = false;
	if (u->state == CATCHUP_STOPPED)
		rest(u);
}

void counters_catchup_stop(struct counters_catchup *u)
{
	u->stopping = true;
	if (u->state != CATCHUP_WAITING)
		return;
	loop_timer_stop(&u->timer);
	set_state(u, CATCHUP_STOPPED);
}

enum err counters_catchup_new(const struct recipient_counters_options *o,
                              struct recipient_counters *counters, struct counters_catchup **ret)
{
	struct counters_catchup *u = mem_zalloc(sizeof(*u));
	size_t len = strlen(o->prefix) + sizeof("message_batches:swept");

	if (!u)
		return ERR_NOMEM;
	u->o = *o;
	u->o.look = o->look ? o->look : USEC_PER_SEC;
	counters_page_init(&u->page, counters, page_written, u);
	u->sweep.retry = u->o.look;
	u->sweep.wanted = true;
	columns_init(u->columns, COLUMN_COUNT);
	buf_init(&u->claimed_id, ID_MAX);
	buf_init(&u->sweep.id, ID_MAX);
	u->note_key = mem_alloc(len);
	if (!u->note_key || loop_timer_init(&u->timer, o->loop, on_timer, u) != ERR_OK) {
		counters_catchup_free(u);
		return ERR_NOMEM;
	}
	snprintf(u->note_key, len, "%smessage_batches:swept", o->prefix);
	*ret = u;
	return ERR_OK;
}

void counters_catchup_free(struct counters_catchup *u)
{
	if (!u)
		return;
	loop_timer_done(&u->timer);
	columns_done(u->columns, COLUMN_COUNT);
	buf_done(&u->claimed_id);
	buf_done(&u->sweep.id);
	mem_free(u->note_key);
	mem_free(u);
}
