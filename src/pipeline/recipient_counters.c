/* Two processes may write the states of the same batch in another order than they were committed
 * in. So a state bears the version that its row's lock gave it, and the script, which runs alone,
 * lets no older one win. */
#include "weir/pipeline/recipient_counters.h"

#include <stdio.h>

#include "weir/base/buf.h"
#include "weir/base/mem.h"
#include "weir/base/str.h"
#include "weir/io/pg.h"
#include "weir/io/redis.h"
#include "weir/run/log.h"
#include "weir/run/metric.h"

#define FIELD_NAME(name) name,
static const char *const fields[] = {MESSAGE_BATCH_FIELDS(FIELD_NAME)};
#define FIELDS  (sizeof(fields) / sizeof(fields[0]))
#define KEY_MAX 1024

/* Columns of the statement's answer before the fields. */
enum { ID, VERSION, COMPLETED_NOW, FIRST_FIELD };

/* KEYS: the hash. ARGV: milliseconds that it stays, version, field, value, … Returns whether it was
 * written. */
static const char script[] = "local had = redis.call('HGET', KEYS[1], 'version')\n"
                             "if had and tonumber(had) >= tonumber(ARGV[2]) then return 0 end\n"
                             "redis.call('HSET', KEYS[1], 'version', ARGV[2], unpack(ARGV, 3))\n"
                             "redis.call('PEXPIRE', KEYS[1], ARGV[1])\n"
                             "return 1\n";

struct recipient_counters {
	struct redis *redis; /* borrowed; may be NULL */
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

static void on_redis_written(void *arg, enum err err, const struct redis_reply *reply)
{
	struct recipient_counters *c = arg;

	if (err != ERR_OK)
		metric_inc(c->failed);
	else
		metric_inc(reply->integer ? c->written : c->outdated);
}

static void write_one(struct recipient_counters *c, const struct pg_result *r, size_t row)
{
	struct str argv[6 + 2 * FIELDS] = {STR("EVAL"), str_of(script), STR("1")};
	size_t n = 3;

	c->key.len = c->prefix_len;
	if (buf_add_str(&c->key, pg_value(r, row, ID)) != ERR_OK) {
		c->key.err = ERR_OK;
		metric_inc(c->failed);
		return;
	}
	argv[n++] = buf_str(&c->key);
	argv[n++] = str_of(c->ttl_ms);
	argv[n++] = pg_value(r, row, VERSION);
	for (size_t i = 0; i < FIELDS; i++) {
		struct str value = pg_value(r, row, FIRST_FIELD + i);

		argv[n++] = str_of(fields[i]);
		argv[n++] = value.ptr ? value : STR("");
	}
	if (redis_submit(c->redis, argv, n, 0, on_redis_written, c) != ERR_OK)
		metric_inc(c->failed);
}

void recipient_counters_write(struct recipient_counters *c, const struct pg_result *changed)
{
	for (size_t i = 0; i < pg_rows(changed); i++) {
		struct str now = pg_value(changed, i, COMPLETED_NOW);

		if (now.len == 1 && now.ptr[0]) {
			log_info(LOG_PIPELINE, "a message batch is complete",
			         LOG_SLICE("batch", pg_value(changed, i, ID)));
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
	*ret = c;
	return ERR_OK;
}

void recipient_counters_close(struct recipient_counters *c)
{
	c->redis = NULL;
}

void recipient_counters_free(struct recipient_counters *c)
{
	if (!c)
		return;
	buf_done(&c->key);
	mem_free(c);
}
