/* The bounds of the sets in Redis. They are counted every few seconds, and earlier where much was
 * added; what is too much goes shard by shard, from the oldest slot on, so that giving up costs a
 * part of the hits and not all of them. Several workers care for the same sets without knowing of
 * each other: to unlink what is gone does no harm.
 *
 * Where Redis runs short of memory these sets are the first to go, since the queue needs it: slot
 * by slot, and nothing is added until there is room again. */
#include <stdlib.h>
#include <string.h>

#include "dedup_priv.h"
#include "weir/io/redis.h"
#include "weir/run/log.h"
#include "weir/run/metric.h"

#define PERIOD       (5 * USEC_PER_SEC)
#define PERIOD_SHORT USEC_PER_SEC
#define SHORT_FOR    (30 * USEC_PER_SEC) /* unless Redis says that it has room before */
#define SHARE        32 /* of max_keys: so many additions, and it is time to count */
/* Slots that are unlinked when they are over: further ones back than one turn, for weirs that were
 * away meanwhile. */
#define OLD_SLOTS 3

bool dedup_care_short(const struct dedup_sets *s)
{
	return loop_now(s->o.loop) < s->short_until;
}

/* ---- giving up ---- */

static void unlink_set(struct dedup_sets *s, unsigned slot, unsigned shard)
{
	const struct str argv[] = {STR("UNLINK"), str_of(s->names[slot][shard])};

	/* Should it not get there, the next care finds the set again. */
	(void)!redis_submit(s->o.redis, argv, 2, 0, NULL, NULL);
	s->cards[slot][shard] = 0;
	if (slot == 0)
		s->expires[shard] = false;
}

void dedup_care_unlink_old(struct dedup_sets *s)
{
	char name[DEDUP_NAME_MAX];

	for (unsigned i = 0; i < OLD_SLOTS; i++) {
		for (unsigned k = 0; k < DEDUP_SHARDS; k++) {
			size_t len = dedup_sets_name(s, s->slot - DEDUP_SLOTS - i, k, name);
			const struct str argv[] = {STR("UNLINK"), {name, len}};

			(void)!redis_submit(s->o.redis, argv, 2, 0, NULL, NULL);
		}
	}
}

static size_t total(const struct dedup_sets *s)
{
	size_t n = 0;

	for (unsigned i = 0; i < DEDUP_SLOTS; i++)
		for (unsigned k = 0; k < DEDUP_SHARDS; k++)
			n += s->cards[i][k];
	return n;
}

static void keep_limit(struct dedup_sets *s)
{
	/* Room for what comes before the next count. */
	size_t limit = s->o.max_keys - s->o.max_keys / 16, n = total(s), gone = 0;

	for (unsigned i = DEDUP_SLOTS; i > 0; i--) {
		for (unsigned k = 0; k < DEDUP_SHARDS && n > limit; k++) {
			n -= s->cards[i - 1][k];
			gone += s->cards[i - 1][k];
			if (s->cards[i - 1][k] > 0)
				unlink_set(s, i - 1, k);
		}
	}
	if (gone == 0)
		return;
	metric_add(s->over_limit, (double)gone);
	log_debug(LOG_PIPELINE, "deduplication keys over DEDUP_MAX_KEYS", LOG_INT("keys", gone));
}

/* The oldest slot that holds anything. */
static void give_memory_back(struct dedup_sets *s)
{
	size_t gone = 0;

	for (unsigned i = DEDUP_SLOTS; i > 0 && gone == 0; i--) {
		for (unsigned k = 0; k < DEDUP_SHARDS; k++) {
			gone += s->cards[i - 1][k];
			if (s->cards[i - 1][k] > 0)
				unlink_set(s, i - 1, k);
		}
	}
	if (gone == 0)
		return;
	metric_add(s->for_memory, (double)gone);
	log_warn(LOG_PIPELINE, "Redis is short of memory: deduplication keys are given up",
	         LOG_INT("keys", gone));
}

/* ---- counting ---- */

static void judge(struct dedup_sets *s)
{
	bool scarce = dedup_care_short(s);

	if (!s->spoiled && s->slot == s->cared_slot) {
		if (scarce)
			give_memory_back(s);
		keep_limit(s);
		metric_set(s->keys, (double)total(s));
	}
	loop_timer_set(&s->care, scarce ? PERIOD_SHORT : PERIOD);
}

static void answered(struct dedup_sets *s, enum err err)
{
	s->spoiled |= err != ERR_OK;
	s->open--;
	if (s->open == 0 && !s->stopped)
		judge(s);
}

static void on_redis_counted(void *arg, enum err err, const struct redis_reply *reply)
{
	struct dedup_count *c = arg;

	if (err == ERR_OK && reply->integer >= 0)
		c->sets->cards[c->slot][c->shard] = (size_t)reply->integer;
	answered(c->sets, err);
}

static uint64_t figure(struct str info, const char *name)
{
	const char *at = memmem(info.ptr, info.len, name, strlen(name));

	/* The text goes on behind the figure, so strtoull() stops within it. */
	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void on_redis_info(void *arg, enum err err, const struct redis_reply *reply)
{
	struct dedup_sets *s = arg;

	if (err == ERR_OK && reply->type == REDIS_STRING && reply->str.len > 0) {
		uint64_t used = figure(reply->str, "\nused_memory:");
		uint64_t most = figure(reply->str, "\nmaxmemory:");

		if (most > 0 && used > most / 10 * 9)
			s->short_until = loop_now(s->o.loop) + SHORT_FOR;
		else if (most == 0 || used < most / 10 * 8)
			s->short_until = 0;
	}
	/* Some do not let us ask; then a refused addition has to tell. */
	answered(s, ERR_OK);
}

static void submit(struct dedup_sets *s, const struct str *argv, redis_reply_fn cb, void *arg)
{
	if (redis_submit(s->o.redis, argv, 2, 0, cb, arg) == ERR_OK)
		s->open++;
	else
		s->spoiled = true;
}

void dedup_care_on_timer(void *arg)
{
	struct dedup_sets *s = arg;
	const struct str info[] = {STR("INFO"), STR("memory")};

	if (s->open > 0)
		return;
	loop_timer_set(&s->care, PERIOD);
	if (s->stopped || !s->epoch[0] || s->late > 0 || !redis_up(s->o.redis))
		return;
	dedup_sets_turn(s);
	/* Another worker may have unlinked a set, and with it its expiry. */
	memset(s->expires, 0, sizeof(s->expires));
	s->added = 0;
	s->spoiled = false;
	s->cared_slot = s->slot;
	submit(s, info, on_redis_info, s);
	for (unsigned i = 0; i < DEDUP_SLOTS; i++) {
		for (unsigned k = 0; k < DEDUP_SHARDS; k++) {
			const struct str scard[] = {STR("SCARD"), str_of(s->names[i][k])};

			submit(s, scard, on_redis_counted, &s->counts[i][k]);
		}
	}
}

void dedup_care_added(struct dedup_sets *s, size_t n)
{
	s->added += n;
	if (s->added > s->o.max_keys / SHARE && s->open == 0)
		loop_timer_set(&s->care, 0);
}

void dedup_care_out_of_memory(struct dedup_sets *s)
{
	if (!dedup_care_short(s) && s->open == 0 && !s->stopped)
		loop_timer_set(&s->care, 0);
	s->short_until = loop_now(s->o.loop) + SHORT_FOR;
}

/* ---- life ---- */

static const struct metric_spec evicted_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_dedup_evicted_keys_total",
    .help = "Deduplication keys that Redis gave up before their time.",
    .labels = {"reason"},
};

void dedup_care_init(struct dedup_sets *s)
{
	struct metric_family *evicted = metric_family(s->o.metrics, &evicted_spec);

	s->keys = metric_plain(s->o.metrics, METRIC_GAUGE, "webhook_dedup_redis_keys",
	                       "Deduplication keys in Redis at the last count.");
	s->over_limit = metric_of(evicted, "limit", NULL, NULL);
	s->for_memory = metric_of(evicted, "memory", NULL, NULL);
	for (unsigned i = 0; i < DEDUP_SLOTS; i++)
		for (unsigned k = 0; k < DEDUP_SHARDS; k++)
			s->counts[i][k] = (struct dedup_count){s, i, k};
}
