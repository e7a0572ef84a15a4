/* Two processes may write the states of the same batch in another order than they were committed
 * in. So a state bears the version that its row's lock gave it, and the script, which runs alone,
 * lets no older one win. */
#include "weir/pipeline/recipient_counters.h"

#include <stdio.h>

#include "recipient_counters_priv.h"
#include "weir/base/buf.h"
#include "weir/base/mem.h"
#include "weir/base/str.h"
#include "weir/io/pg.h"
#include "weir/run/log.h"
#include "weir/run/metric.h"

#define FIELD_NAME(name) name,
static const char *const fields[] = {MESSAGE_BATCH_FIELDS(FIELD_NAME)};
#define FIELDS  (sizeof(fields) / sizeof(fields[0]))
#define KEY_MAX 1024

/* Of a batch that is gone the version stays for a moment, so that no write that is still on its way
 * brings the hash back. */
#define GONE_TTL_MS "60000"

/* KEYS: the hash. ARGV: milliseconds that it stays, version, field, value, …; without fields it
 * goes. Returns enum counters_answer. */
static const char script[] =
    "local had = tonumber(redis.call('HGET', KEYS[1], 'version') or '') or -1\n"
    "if had > tonumber(ARGV[2]) then return 0 end\n"
    "if had == tonumber(ARGV[2]) then return 2 end\n"
    "if not ARGV[3] then redis.call('DEL', KEYS[1]) end\n"
    "redis.call('HSET', KEYS[1], 'version', ARGV[2], unpack(ARGV, 3))\n"
    "redis.call('PEXPIRE', KEYS[1], ARGV[1])\n"
    "return 1\n";

struct recipient_counters {
	struct redis *redis;              /* borrowed; may be NULL */
	struct counters_catchup *catchup; /* owned */
	size_t in_flight;                 /* commits' writes that Redis has not answered */
	struct buf key;
	size_t prefix_len;
	char ttl_ms[24];
	struct metric *completed, *written, *outdated, *failed;
};

static const struct metric_spec writes_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_message_batch_hash_writes_total",
    .help = "Counters of message batches written to their hashes in Redis.",
    .labels = {"outcome"},
};

enum err recipient_counters_send(struct recipient_counters *c, const struct pg_result *r,
                                 size_t row, redis_reply_fn cb, void *arg)
{
	struct str argv[6 + 2 * FIELDS] = {STR("EVAL"), str_of(script), STR("1")};
	bool gone = !pg_value(r, row, COUNTERS_FIRST_FIELD).ptr;
	enum err e = ERR_OK;
	size_t n = 3;

	if (!c->redis)
		return ERR_UNAVAILABLE;
	c->key.len = c->prefix_len;
	e = buf_add_str(&c->key, pg_value(r, row, COUNTERS_ID));
	c->key.err = ERR_OK;
	if (e != ERR_OK)
		return e;
	argv[n++] = buf_str(&c->key);
	argv[n++] = gone ? STR(GONE_TTL_MS) : str_of(c->ttl_ms);
	argv[n++] = pg_value(r, row, COUNTERS_VERSION);
	for (size_t i = 0; i < FIELDS && !gone; i++) {
		struct str value = pg_value(r, row, COUNTERS_FIRST_FIELD + i);

		argv[n++] = str_of(fields[i]);
		argv[n++] = value.ptr ? value : STR("");
	}
	return redis_submit(c->redis, argv, n, 0, cb, arg);
}

void recipient_counters_caught(struct recipient_counters *c, enum err err,
                               const struct redis_reply *reply)
{
	if (err != ERR_OK)
		metric_inc(c->failed);
	else if (reply->integer == COUNTERS_WRITTEN)
		metric_inc(c->written);
}

/* What Redis refuses for good (the key holds something else) is not tried again. */
static void note_failure(struct recipient_counters *c, enum err err)
{
	metric_inc(c->failed);
	if (err_fate(err) != FATE_DEAD)
		counters_catchup_missed(c->catchup);
}

static void on_redis_written(void *arg, enum err err, const struct redis_reply *reply)
{
	struct recipient_counters *c = arg;

	c->in_flight--;
	if (err != ERR_OK)
		note_failure(c, err);
	else
		metric_inc(reply->integer == COUNTERS_OUTDATED ? c->outdated : c->written);
}

static void write_one(struct recipient_counters *c, const struct pg_result *r, size_t row)
{
	enum err e = recipient_counters_send(c, r, row, on_redis_written, c);

	if (e == ERR_OK)
		c->in_flight++;
	else
		note_failure(c, e);
}

void recipient_counters_write(struct recipient_counters *c, const struct pg_result *changed)
{
	for (size_t i = 0; i < pg_rows(changed); i++) {
		struct str now = pg_value(changed, i, COUNTERS_THIRD);

		if (now.len == 1 && now.ptr[0]) {
			log_info(LOG_PIPELINE, "a message batch is complete",
			         LOG_SLICE("batch", pg_value(changed, i, COUNTERS_ID)));
			metric_inc(c->completed);
		}
		if (c->redis)
			write_one(c, changed, i);
	}
}

enum err recipient_counters_new(const struct recipient_counters_options *o,
                                struct recipient_counters **ret)
{
	struct recipient_counters *c = mem_zalloc(sizeof(*c));
	struct metric_family *writes;

	if (!c)
		return ERR_NOMEM;
	c->redis = o->redis;
	snprintf(c->ttl_ms, sizeof(c->ttl_ms), "%lld", (long long)(o->ttl / USEC_PER_MSEC));
	buf_init(&c->key, KEY_MAX + strlen(o->prefix));
	buf_addf(&c->key, "%smessage_batch:", o->prefix);
	if (c->key.err != ERR_OK) {
		recipient_counters_free(c);
		return ERR_NOMEM;
	}
	c->prefix_len = c->key.len;
	writes = metric_family(o->metrics, &writes_spec);
	c->completed =
	    metric_plain(o->metrics, METRIC_COUNTER, "webhook_message_batches_completed_total",
	                 "Message batches whose last recipient a delivery report made final.");
	c->written = metric_of(writes, "written", NULL, NULL);
	c->outdated = metric_of(writes, "outdated", NULL, NULL);
	c->failed = metric_of(writes, "failed", NULL, NULL);
	if (counters_catchup_new(o, c, &c->catchup) != ERR_OK) {
		recipient_counters_free(c);
		return ERR_NOMEM;
	}
	*ret = c;
	return ERR_OK;
}

void recipient_counters_start(struct recipient_counters *c)
{
	counters_catchup_start(c->catchup);
}

void recipient_counters_stop(struct recipient_counters *c)
{
	counters_catchup_stop(c->catchup);
}

void recipient_counters_on_redis(struct recipient_counters *c, bool up)
{
	if (up)
		counters_catchup_on_redis(c->catchup);
}

bool recipient_counters_idle(const struct recipient_counters *c)
{
	return c->in_flight == 0;
}

void recipient_counters_close(struct recipient_counters *c)
{
	if (!c)
		return;
	recipient_counters_stop(c);
	c->redis = NULL;
}

void recipient_counters_free(struct recipient_counters *c)
{
	if (!c)
		return;
	counters_catchup_free(c->catchup);
	buf_done(&c->key);
	mem_free(c);
}
