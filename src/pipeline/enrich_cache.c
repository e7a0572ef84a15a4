/* Keys are hashes: of one length whatever the provider sends, and no address stands in Redis. A
 * value is the recipient's id, 0 for one that is unknown.
 *
 * The queue lives in the same Redis, which evicts nothing, so the cache must not fill it: a process
 * sets so many keys in the time that they live that at most max_keys of its are there. Half of them
 * may come at once, the other half at the pace at which they expire. */
#include <stdio.h>
#include <string.h>

#include "enrich_priv.h"
#include "weir/base/digest.h"
#include "weir/base/mem.h"

#define KEY_LEN (2 * ENRICH_HASH_LEN)
/* Sets that wait for their answers; more are left out, not queued. */
#define MAX_PENDING 16384

enum err enrich_cache_init(struct enrich_cache *c, const struct enricher_options *o,
                           const char *backend)
{
	struct metric_family *errors = metric_family(
	    o->metrics, &(struct metric_spec){.type = METRIC_COUNTER,
	                                      .name = "webhook_enrich_cache_errors_total",
	                                      .help = "Commands of the recipient cache that Redis "
	                                              "did not carry out, by command.",
	                                      .labels = {"command"}});
	size_t len = strlen(o->key_prefix) + strlen(backend) + sizeof("recipient::");

	*c = (struct enrich_cache){.loop = o->loop,
	                           .redis = o->redis,
	                           .found_ttl = o->found_ttl,
	                           .unknown_ttl = o->unknown_ttl};
	c->get_errors = metric_of(errors, "get", NULL, NULL);
	c->set_errors = metric_of(errors, "set", NULL, NULL);
	c->skipped =
	    metric_plain(o->metrics, METRIC_COUNTER, "webhook_enrich_cache_skipped_total",
	                 "Recipients that were not cached because ENRICH_CACHE_MAX_KEYS are.");
	c->max_room = (double)o->max_keys / 2;
	c->room = c->max_room;
	c->refill = o->found_ttl > 0 ? c->max_room / (double)o->found_ttl : 0;
	c->refilled = loop_now(o->loop);
	c->prefix = mem_alloc(len);
	if (!c->prefix)
		return ERR_NOMEM;
	snprintf(c->prefix, len, "%srecipient:%s:", o->key_prefix, backend);
	return ERR_OK;
}

void enrich_cache_done(struct enrich_cache *c)
{
	mem_free(c->prefix);
}

static void add_key(struct buf *b, const struct enrich_cache *c, const struct enrich_group *g)
{
	char hex[KEY_LEN + 1];

	hex_encode(g->hash, ENRICH_HASH_LEN, hex);
	buf_add_cstr(b, c->prefix);
	buf_add(b, hex, KEY_LEN);
}

/* ---- reading ---- */

enum err enrich_cache_get(struct enrich_cache *c, const struct enrich_group *groups, size_t n,
                          redis_reply_fn cb, void *arg)
{
	size_t key_len = strlen(c->prefix) + KEY_LEN;
	struct str *argv;
	struct buf keys;
	enum err e;

	if (!c->redis || c->stalled || c->found_ttl == 0)
		return ERR_UNAVAILABLE;
	argv = mem_array(n + 1, sizeof(*argv));
	if (!argv)
		return ERR_NOMEM;
	buf_init(&keys, n * key_len);
	for (size_t i = 0; i < n; i++)
		add_key(&keys, c, &groups[i]);
	argv[0] = STR("MGET");
	for (size_t i = 0; i < n && keys.err == ERR_OK; i++)
		argv[i + 1] = str_n(keys.ptr + i * key_len, key_len);
	e = keys.err;
	if (e == ERR_OK)
		e = redis_submit(c->redis, argv, n + 1, 0, cb, arg);
	if (e != ERR_OK)
		metric_inc(c->get_errors);
	buf_done(&keys);
	mem_free(argv);
	return e;
}

void enrich_cache_read(struct enrich_cache *c, enum err err, const struct redis_reply *reply,
                       struct enrich_group *groups, size_t n)
{
	c->stalled = false;
	if (err != ERR_OK || reply->type != REDIS_ARRAY || reply->count != n) {
		metric_inc(c->get_errors);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const struct redis_reply *item = reply->items[i];
		int64_t id;

		/* What is no number of ours is not there. */
		if (item->type == REDIS_STRING &&
		    str_to_int(item->str, 0, INT64_MAX, &id) == ERR_OK)
			groups[i].id = id;
	}
}

/* ---- writing ---- */

static void on_set_done(void *arg, enum err err, const struct redis_reply *reply)
{
	struct enrich_cache *c = arg;

	(void)reply;
	if (err != ERR_OK)
		metric_inc(c->set_errors);
}

/* A key that lives for a shorter time takes less. */
static bool take_room(struct enrich_cache *c, usec_t ttl)
{
	double cost = ttl < c->found_ttl ? (double)ttl / (double)c->found_ttl : 1;
	usec_t now = loop_now(c->loop);

	c->room += (double)(now - c->refilled) * c->refill;
	c->refilled = now;
	if (c->room > c->max_room)
		c->room = c->max_room;
	if (c->room < cost)
		return false;
	c->room -= cost;
	return true;
}

void enrich_cache_set(struct enrich_cache *c, const struct enrich_group *g)
{
	usec_t ttl = g->id > 0 ? c->found_ttl : c->unknown_ttl;
	char value[24], msec[24];
	struct str argv[5];
	struct buf key;

	if (!c->redis || c->stalled || ttl < USEC_PER_MSEC)
		return;
	if (redis_pending(c->redis) > MAX_PENDING || !take_room(c, ttl)) {
		metric_inc(c->skipped);
		return;
	}
	snprintf(value, sizeof(value), "%lld", (long long)g->id);
	snprintf(msec, sizeof(msec), "%lld", (long long)(ttl / USEC_PER_MSEC));
	buf_init(&key, strlen(c->prefix) + KEY_LEN);
	add_key(&key, c, g);
	argv[0] = STR("SET");
	argv[1] = buf_str(&key);
	argv[2] = str_of(value);
	argv[3] = STR("PX");
	argv[4] = str_of(msec);
	if (key.err != ERR_OK || redis_submit(c->redis, argv, 5, 0, on_set_done, c) != ERR_OK)
		metric_inc(c->set_errors);
	buf_done(&key);
}
