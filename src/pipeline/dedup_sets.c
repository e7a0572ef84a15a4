/* Keys in Redis: one set for each slot of time and shard. A slot is half as long as keys are to be
 * remembered; new keys go to the present one, and it and the two before are asked. So a key stays
 * for one to one and a half times as long, and forgetting is one UNLINK. Shards keep single sets
 * small enough for Redis to grow them without a pause, and are what is given up where there are too
 * many keys (dedup_care.c).
 *
 * Reading has a deadline that does not cost the connection, which others use as well: the question
 * goes on without the answer, and nothing more is asked until that came after all. */
#include <stdio.h>
#include <string.h>

#include "dedup_priv.h"
#include "weir/base/mem.h"
#include "weir/io/redis.h"
#include "weir/run/log.h"
#include "weir/run/metric.h"

#define LOOK_DEADLINE (250 * USEC_PER_MSEC)
#define QUIET         USEC_PER_SEC /* nothing is asked for so long after an error */

/* ---- in trouble ---- */

void dedup_sets_trouble(struct dedup_sets *s, enum err err, struct str detail)
{
	metric_inc(metric_of(s->errors, err_name(err), NULL, NULL));
	s->quiet_until = loop_now(s->o.loop) + QUIET;
	if (s->in_trouble || err == ERR_CANCELLED)
		return;
	s->in_trouble = true;
	log_warn(LOG_PIPELINE, "deduplication goes on without Redis", LOG_ERR(err),
	         LOG_SLICE("detail", detail));
}

static void in_order(struct dedup_sets *s)
{
	if (!s->in_trouble)
		return;
	s->in_trouble = false;
	log_info(LOG_PIPELINE, "deduplication uses Redis again");
}

static bool usable(const struct dedup_sets *s)
{
	return !s->stopped && s->epoch[0] && redis_up(s->o.redis) &&
	       loop_now(s->o.loop) >= s->quiet_until;
}

bool dedup_sets_well(const struct dedup_sets *s)
{
	return usable(s) && s->late == 0;
}

/* ---- names ---- */

size_t dedup_sets_name(const struct dedup_sets *s, int64_t slot, unsigned shard,
                       char out[DEDUP_NAME_MAX])
{
	return (size_t)snprintf(out, DEDUP_NAME_MAX, "%swebhook_dedup:%s:%lld:%lld:%u", s->prefix,
	                        s->epoch, (long long)(s->length / USEC_PER_SEC), (long long)slot,
	                        shard);
}

void dedup_sets_turn(struct dedup_sets *s)
{
	int64_t slot = loop_wall(s->o.loop) / s->length;

	if (slot == s->slot)
		return;
	s->slot = slot;
	for (unsigned i = 0; i < DEDUP_SLOTS; i++)
		for (unsigned k = 0; k < DEDUP_SHARDS; k++)
			(void)dedup_sets_name(s, slot - i, k, s->names[i][k]);
	memset(s->expires, 0, sizeof(s->expires));
	dedup_care_unlink_old(s);
}

void dedup_sets_set_epoch(struct dedup_sets *s, struct str epoch)
{
	snprintf(s->epoch, sizeof(s->epoch), "%.*s", (int)epoch.len, epoch.ptr);
	s->slot = -1;
}

/* ---- by shard ---- */

static unsigned shard_of(const struct dedup_member *m)
{
	return m->bytes[0] % DEDUP_SHARDS;
}

static void sort_by_shard(struct dedup_look *k)
{
	uint32_t next[DEDUP_SHARDS];

	memset(k->from, 0, sizeof(k->from));
	for (size_t i = 0; i < k->n; i++)
		k->from[shard_of(&k->members[i]) + 1]++;
	for (unsigned s = 0; s < DEDUP_SHARDS; s++) {
		k->from[s + 1] += k->from[s];
		next[s] = k->from[s];
	}
	for (size_t i = 0; i < k->n; i++)
		k->order[next[shard_of(&k->members[i])]++] = (uint32_t)i;
}

static size_t count_in(const struct dedup_look *k, unsigned shard)
{
	return k->from[shard + 1] - k->from[shard];
}

/* COMMAND set member…; gives argc. */
static size_t command_for(struct dedup_sets *s, const char *command, unsigned slot, unsigned shard,
                          const struct dedup_look *k)
{
	size_t argc = 0;

	s->argv[argc++] = str_of(command);
	s->argv[argc++] = str_of(s->names[slot][shard]);
	for (uint32_t i = k->from[shard]; i < k->from[shard + 1]; i++)
		s->argv[argc++] = str_n((const char *)k->members[k->order[i]].bytes, EVENT_KEY_LEN);
	return argc;
}

/* ---- looking ---- */

static void finish_look(struct dedup_look *k)
{
	k->waiting = false;
	loop_timer_stop(&k->deadline);
	k->done(k->arg);
}

static void on_deadline(void *arg)
{
	struct dedup_look *k = arg;

	k->sets->late += k->open;
	dedup_sets_trouble(k->sets, ERR_TIMEOUT, STR("no answer in time"));
	finish_look(k);
}

static void take_members(struct dedup_look *k, unsigned shard, const struct redis_reply *reply)
{
	size_t n = count_in(k, shard);

	for (size_t i = 0; i < n && i < reply->count; i++) {
		if (reply->items[i]->integer == 1)
			k->known[k->order[k->from[shard] + i]] = true;
	}
}

static void on_redis_members(void *arg, enum err err, const struct redis_reply *reply)
{
	struct dedup_part *part = arg;
	struct dedup_look *k = part->look;

	k->open--;
	if (!k->waiting) {
		k->sets->late--;
		return;
	}
	if (err == ERR_OK && reply->type == REDIS_ARRAY) {
		take_members(k, part->shard, reply);
		in_order(k->sets);
	} else {
		dedup_sets_trouble(k->sets, err != ERR_OK ? err : ERR_PROTO,
		                   reply ? reply->str : STR_NONE);
	}
	if (k->open == 0)
		finish_look(k);
}

bool dedup_look_start(struct dedup_look *k)
{
	struct dedup_sets *s = k->sets;

	if (k->n == 0 || k->open > 0 || !dedup_sets_well(s))
		return false;
	dedup_sets_turn(s);
	sort_by_shard(k);
	memset(k->known, 0, k->n * sizeof(*k->known));
	for (unsigned slot = 0; slot < DEDUP_SLOTS; slot++) {
		for (unsigned shard = 0; shard < DEDUP_SHARDS; shard++) {
			size_t argc;
			enum err e;

			if (count_in(k, shard) == 0)
				continue;
			argc = command_for(s, "SMISMEMBER", slot, shard, k);
			e = redis_submit(s->o.redis, s->argv, argc, 0, on_redis_members,
			                 &k->parts[shard]);
			if (e == ERR_OK)
				k->open++;
			else
				dedup_sets_trouble(s, e, STR_NONE);
		}
	}
	k->waiting = k->open > 0;
	if (k->waiting)
		loop_timer_set(&k->deadline, LOOK_DEADLINE);
	return k->waiting;
}

enum err dedup_look_init(struct dedup_look *k, struct dedup_sets *s, size_t space,
                         void (*done)(void *arg), void *arg)
{
	*k = (struct dedup_look){.sets = s, .space = space, .done = done, .arg = arg};
	for (unsigned i = 0; i < DEDUP_SHARDS; i++)
		k->parts[i] = (struct dedup_part){k, i};
	k->members = mem_array(space, sizeof(*k->members));
	k->known = mem_array(space, sizeof(*k->known));
	k->order = mem_array(space, sizeof(*k->order));
	if (!k->members || !k->known || !k->order)
		return ERR_NOMEM;
	return loop_timer_init(&k->deadline, s->o.loop, on_deadline, k);
}

void dedup_look_done(struct dedup_look *k)
{
	loop_timer_done(&k->deadline);
	mem_free(k->members);
	mem_free(k->known);
	mem_free(k->order);
	*k = (struct dedup_look){0};
}

/* ---- adding ---- */

static void on_redis_added(void *arg, enum err err, const struct redis_reply *reply)
{
	struct dedup_sets *s = arg;

	if (err == ERR_FULL) {
		metric_inc(metric_of(s->errors, err_name(err), NULL, NULL));
		dedup_care_out_of_memory(s);
	} else if (err != ERR_OK) {
		dedup_sets_trouble(s, err, reply ? reply->str : STR_NONE);
	}
}

/* Weir unlinks sets that are over; this is for those that no weir comes to. */
static void set_expiry(struct dedup_sets *s, unsigned shard)
{
	char text[32];
	usec_t at = (s->slot + DEDUP_SLOTS + 1) * s->length;
	struct str argv[] = {STR("EXPIREAT"), str_of(s->names[0][shard]), {text, 0}};

	if (s->expires[shard])
		return;
	argv[2].len = (size_t)snprintf(text, sizeof(text), "%lld", (long long)(at / USEC_PER_SEC));
	s->expires[shard] =
	    redis_submit(s->o.redis, argv, sizeof(argv) / sizeof(*argv), 0, NULL, NULL) == ERR_OK;
}

static void add_some(struct dedup_sets *s, const struct dedup_member *members, size_t n)
{
	struct dedup_look *k = &s->adding;

	memcpy(k->members, members, n * sizeof(*members));
	k->n = n;
	sort_by_shard(k);
	for (unsigned shard = 0; shard < DEDUP_SHARDS; shard++) {
		size_t argc;
		enum err e;

		if (count_in(k, shard) == 0)
			continue;
		argc = command_for(s, "SADD", 0, shard, k);
		e = redis_submit(s->o.redis, s->argv, argc, 0, on_redis_added, s);
		if (e != ERR_OK)
			dedup_sets_trouble(s, e, STR_NONE);
		else
			set_expiry(s, shard);
	}
}

void dedup_sets_add(struct dedup_sets *s, const struct dedup_member *members, size_t n)
{
	if (n == 0 || !usable(s) || dedup_care_short(s))
		return;
	dedup_sets_turn(s);
	for (size_t at = 0; at < n; at += s->adding.space)
		add_some(s, members + at, n - at < s->adding.space ? n - at : s->adding.space);
	dedup_care_added(s, n);
}

/* ---- life ---- */

static const struct metric_spec errors_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_dedup_errors_total",
    .help = "Questions and additions to the deduplication sets in Redis that failed.",
    .labels = {"reason"},
};

void dedup_sets_start(struct dedup_sets *s)
{
	loop_timer_set(&s->care, 0);
}

void dedup_sets_stop(struct dedup_sets *s)
{
	s->stopped = true;
	loop_timer_stop(&s->care);
}

enum err dedup_sets_new(const struct dedup_sets_options *o, struct dedup_sets **ret)
{
	struct dedup_sets *s = mem_zalloc(sizeof(*s));

	if (!s)
		return ERR_NOMEM;
	s->o = *o;
	s->o.key_prefix = NULL;
	s->slot = -1;
	s->length = o->ttl / 2 > USEC_PER_SEC ? o->ttl / 2 : USEC_PER_SEC;
	snprintf(s->prefix, sizeof(s->prefix), "%s", o->key_prefix ? o->key_prefix : "");
	s->errors = metric_family(o->metrics, &errors_spec);
	dedup_care_init(s);
	s->argv = mem_array(o->batch_size + 2, sizeof(*s->argv));
	if (!s->argv || dedup_look_init(&s->adding, s, o->batch_size, NULL, NULL) != ERR_OK ||
	    loop_timer_init(&s->care, o->loop, dedup_care_on_timer, s) != ERR_OK) {
		dedup_sets_free(s);
		return ERR_NOMEM;
	}
	*ret = s;
	return ERR_OK;
}

void dedup_sets_free(struct dedup_sets *s)
{
	if (!s)
		return;
	loop_timer_done(&s->care);
	dedup_look_done(&s->adding);
	mem_free(s->argv);
	mem_free(s);
}
