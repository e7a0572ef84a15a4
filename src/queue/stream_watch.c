/* One script looks at both streams, so that a look is one round trip and its figures belong
 * together. */
#include "weir/queue/stream_watch.h"

#include <math.h>

#include "weir/base/mem.h"
#include "weir/io/redis.h"
#include "weir/queue/stream_job.h"
#include "weir/queue/stream_names.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define PERIOD            USEC_PER_SEC
#define TIMEOUT           (2 * USEC_PER_SEC)
#define DEFAULT_MAX_BYTES ((uint64_t)2 * 1024 * 1024 * 1024)
#define RETRY_DEFAULT     10
#define RETRY_MAX         300
#define RATE_WEIGHT       0.2 /* of the newest second in the mean */
#define MEMORY_LOOKS      5   /* maxmemory is asked for with every so many */

/* MEMORY USAGE takes a stream's first nodes for all of them. So many of them take Redis a
 * millisecond at most, and more only a stream of over 80 MB has. Old and new entries of such a one
 * may differ, so now and then all its nodes are measured (ten milliseconds for 100,000), and what
 * the sample says is scaled by that from then on. */
#define SAMPLES        "20000"
#define SAMPLE_NODES   20000
#define MEASURE_PERIOD (60 * USEC_PER_SEC)

/* KEYS: streams; the set of tools whose entries wait aside. ARGV: group; nodes to sample; "1" to
 * measure all of them too. Sums over the streams: entries not delivered, pending, the smallest id
 * (its milliseconds) among the oldest pending or else the oldest waiting entry, bytes by the
 * sample, bytes by all (0: not measured), nodes, entries ever added, entries there; those aside and
 * their bytes; and now in milliseconds. A lag that Redis does not know (nil) is taken as what the
 * stream holds besides; so is a group that nobody has made yet. */
static const char look_script[] =
    "local waiting, pending, oldest, sampled, whole, nodes = 0, 0, 0, 0, 0, 0\n"
    "local added, length = 0, 0\n"
    "local function fields(list)\n"
    "  local f = {}\n"
    "  for i = 1, #list, 2 do f[list[i]] = list[i + 1] end\n"
    "  return f\n"
    "end\n"
    "for _, key in ipairs({KEYS[1], KEYS[2]}) do\n"
    "  local stream = redis.pcall('XINFO', 'STREAM', key)\n"
    "  if not stream.err then\n"
    "    stream = fields(stream)\n"
    "    local ours = {pending = 0, ['last-delivered-id'] = '0-0'}\n"
    "    for _, g in ipairs(redis.call('XINFO', 'GROUPS', key)) do\n"
    "      g = fields(g)\n"
    "      if g.name == ARGV[1] then ours = g end\n"
    "    end\n"
    "    local lag = ours.lag or math.max(0, stream.length - ours.pending)\n"
    "    local first\n"
    "    if ours.pending > 0 then\n"
    "      first = redis.call('XPENDING', key, ARGV[1])[2]\n"
    "    elseif lag > 0 then\n"
    "      local e = redis.call('XRANGE', key, '(' .. ours['last-delivered-id'], '+',\n"
    "                           'COUNT', 1)[1]\n"
    "      first = e and e[1]\n"
    "    end\n"
    "    local ms = first and tonumber(string.match(first, '^(%d+)'))\n"
    "    if ms and (oldest == 0 or ms < oldest) then oldest = ms end\n"
    "    waiting = waiting + lag\n"
    "    pending = pending + ours.pending\n"
    "    sampled = sampled + redis.call('MEMORY', 'USAGE', key, 'SAMPLES', ARGV[2])\n"
    "    if ARGV[3] == '1' then\n"
    "      whole = whole + redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0)\n"
    "    end\n"
    "    nodes = nodes + stream['radix-tree-keys']\n"
    "    added = added + stream['entries-added']\n"
    "    length = length + stream.length\n"
    "  end\n"
    "end\n"
    "local aside, aside_bytes = 0, 0\n"
    "for _, tool in ipairs(redis.call('SRANDMEMBER', KEYS[3], 100)) do\n"
    "  local key = KEYS[3] .. ':' .. tool\n"
    "  aside = aside + redis.call('XLEN', key)\n"
    "  aside_bytes = aside_bytes + (redis.call('MEMORY', 'USAGE', key) or 0)\n"
    "end\n"
    "local t = redis.call('TIME')\n"
    "return {waiting, pending, oldest, sampled, whole, nodes, added, length, aside,\n"
    "        aside_bytes,\n"
    "        t[1] * 1000 + math.floor(t[2] / 1000)}\n";

enum {
	LOOK_WAITING,
	LOOK_PENDING,
	LOOK_OLDEST,
	LOOK_SAMPLED,
	LOOK_WHOLE,
	LOOK_NODES,
	LOOK_ADDED,
	LOOK_LENGTH,
	LOOK_ASIDE,
	LOOK_ASIDE_BYTES,
	LOOK_NOW,
	LOOK_COUNT
};

struct stream_watch {
	struct stream_watch_options o;
	struct stream_job job;
	struct stream_figures f;
	uint64_t added;      /* bytes since the last look */
	uint64_t added_then; /* of them, those before the latest look */
	uint64_t look;       /* number of the next look */
	uint64_t seen;       /* looks below this number have told what they saw */
	int64_t entries;     /* ever added, at the last look */
	usec_t looked;       /* when; monotonic */
	double scale;        /* of the sample's bytes to all */
	int64_t nodes;       /* at the last look */
	int64_t measured;    /* nodes when all were measured last */
	usec_t measured_at;  /* monotonic */
	unsigned looks;
	struct metric *depth, *pending, *aside, *oldest, *bytes, *max_bytes, *drain, *headroom,
	    *in_rate, *out_rate;
};

static struct metric *gauge(struct metric_registry *r, const char *name, const char *help)
{
	return metric_plain(r, METRIC_GAUGE, name, help);
}

static void register_metrics(struct stream_watch *w)
{
	struct metric_registry *r = w->o.metrics;

	w->depth = gauge(r, "webhook_queue_depth",
	                 "Entries not delivered yet, delivered and not acknowledged, or aside.");
	w->pending = gauge(r, "webhook_queue_pending", "Entries delivered and not acknowledged.");
	w->aside = gauge(r, "webhook_queue_aside",
	                 "Delivery reports that wait for a worker that knows their tool.");
	w->oldest = gauge(r, "webhook_queue_oldest_pending_seconds",
	                  "Age of the oldest entry that is not done.");
	w->bytes = gauge(r, "webhook_queue_bytes", "Memory of the streams in Redis.");
	w->max_bytes =
	    gauge(r, "webhook_queue_max_bytes", "Bound on it; past it ingest answers 503.");
	w->drain = gauge(r, "webhook_queue_drain_seconds",
	                 "How long the queue takes to empty at the present rate.");
	w->headroom = gauge(r, "webhook_queue_headroom_seconds",
	                    "When the queue reaches its bound if it grows on as it does; +Inf "
	                    "while it does not.");
	w->in_rate =
	    gauge(r, "webhook_queue_in_per_second", "Entries added, a mean over some ten seconds.");
	w->out_rate = gauge(r, "webhook_queue_out_per_second",
	                    "Entries done by the whole group, a mean over some ten seconds.");
}

static void set_gauges(struct stream_watch *w)
{
	metric_set(w->depth, (double)w->f.depth);
	metric_set(w->pending, (double)w->f.pending);
	metric_set(w->aside, (double)w->f.aside);
	metric_set(w->oldest, w->f.oldest_seconds);
	metric_set(w->bytes, (double)w->f.bytes);
	metric_set(w->max_bytes, (double)w->f.max_bytes);
	metric_set(w->drain, w->f.depth ? stream_watch_retry_after(w) : 0);
	metric_set(w->headroom, w->f.headroom_seconds);
	metric_set(w->in_rate, w->f.added_per_second);
	metric_set(w->out_rate, w->f.drained_per_second);
}

static void mean(double *rate, double now)
{
	*rate += RATE_WEIGHT * ((now > 0 ? now : 0) - *rate);
}

/* What was added and is not there any more was done. A stream that was deleted begins anew. */
static void take_rates(struct stream_watch *w, const int64_t *v, double seconds)
{
	int64_t added = v[LOOK_ADDED] - w->entries;
	int64_t depth = v[LOOK_WAITING] + v[LOOK_PENDING] + v[LOOK_ASIDE];

	if (!w->f.known || added < 0 || seconds <= 0)
		return;
	mean(&w->f.added_per_second, (double)added / seconds);
	mean(&w->f.drained_per_second, (double)(added - (depth - (int64_t)w->f.depth)) / seconds);
}

static void take_bytes(struct stream_watch *w, const int64_t *v)
{
	if (v[LOOK_NODES] <= SAMPLE_NODES) {
		w->scale = 1;
		w->measured = 0;
	} else if (v[LOOK_WHOLE] > 0 && v[LOOK_SAMPLED] > 0) {
		w->scale = (double)v[LOOK_WHOLE] / (double)v[LOOK_SAMPLED];
		w->measured = v[LOOK_NODES];
		w->measured_at = loop_now(w->o.loop);
	}
	w->f.bytes = (uint64_t)((double)v[LOOK_SAMPLED] * w->scale) + (uint64_t)v[LOOK_ASIDE_BYTES];
	w->nodes = v[LOOK_NODES];
}

/* Bytes left by the rate at which they go: entries that come less those that are done, times what
 * an entry takes. */
static double headroom(const struct stream_watch *w, int64_t entries)
{
	double growth = w->f.added_per_second - w->f.drained_per_second;
	double left = (double)w->f.max_bytes - (double)w->f.bytes;

	if (left <= 0)
		return 0;
	if (entries == 0 || growth < 0.5)
		return INFINITY;
	return left / (growth * (double)w->f.bytes / (double)entries);
}

static void take_look(struct stream_watch *w, const struct redis_reply *reply)
{
	int64_t v[LOOK_COUNT];
	usec_t now = loop_now(w->o.loop);

	for (size_t i = 0; i < LOOK_COUNT; i++)
		v[i] = reply->items[i]->integer;
	take_rates(w, v, (double)(now - w->looked) / USEC_PER_SEC);
	take_bytes(w, v);
	w->entries = v[LOOK_ADDED];
	w->looked = now;
	w->f.known = true;
	w->f.depth = (uint64_t)(v[LOOK_WAITING] + v[LOOK_PENDING] + v[LOOK_ASIDE]);
	w->f.aside = (uint64_t)v[LOOK_ASIDE];
	w->f.pending = (uint64_t)v[LOOK_PENDING];
	w->f.oldest_seconds = v[LOOK_OLDEST] && v[LOOK_NOW] > v[LOOK_OLDEST]
	                          ? (double)(v[LOOK_NOW] - v[LOOK_OLDEST]) / 1000.0
	                          : 0;
	w->added -= w->added_then;
	w->added_then = 0;
	w->seen = w->look;
	w->f.headroom_seconds = headroom(w, v[LOOK_LENGTH]);
	set_gauges(w);
}

/* INFO memory, which is allowed where CONFIG is not. Half of maxmemory is ours; 0 means that Redis
 * has no bound. */
static void take_memory(struct stream_watch *w, struct str info)
{
	struct str rest = info;
	int64_t bytes;

	while (rest.ptr) {
		struct str value = str_split(&rest, '\n');
		struct str name = str_split(&value, ':');

		if (value.len > 0 && value.ptr[value.len - 1] == '\r')
			value.len--;
		if (!str_eq(name, STR("maxmemory")) || str_to_int(value, 0, INT64_MAX, &bytes))
			continue;
		w->f.max_bytes = bytes > 1 ? (uint64_t)bytes / 2 : DEFAULT_MAX_BYTES;
	}
}

static void on_answer(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_watch *w = arg;

	if (err == ERR_OK && reply->type == REDIS_ARRAY && reply->count == LOOK_COUNT)
		take_look(w, reply);
	else if (err == ERR_OK && reply->type == REDIS_STRING)
		take_memory(w, reply->str);
	else
		w->f.known = false;
}

static bool measure_all(const struct stream_watch *w)
{
	return w->nodes > SAMPLE_NODES && (w->nodes > w->measured / 2 * 3 ||
	                                   loop_now(w->o.loop) - w->measured_at >= MEASURE_PERIOD);
}

static void on_period(void *arg)
{
	struct stream_watch *w = arg;
	const struct stream_names *n = w->o.names;
	struct str argv[] = {STR("EVAL"), str_of(look_script), STR("3"),
	                     n->keys[0],  n->keys[1],          n->parked,
	                     n->group,    STR(SAMPLES),        STR("0")};
	static const struct str ask_memory[] = {{"INFO", 4}, {"memory", 6}};

	if (measure_all(w))
		argv[8] = STR("1");
	w->added_then = w->added;
	w->look++;
	if (!w->o.max_bytes && (!w->f.known || w->looks++ % MEMORY_LOOKS == 0))
		stream_job_ask(&w->job, ask_memory, 2);
	stream_job_ask(&w->job, argv, 9);
}

enum err stream_watch_new(const struct stream_watch_options *o, struct stream_watch **ret)
{
	struct stream_watch *w = mem_zalloc(sizeof(*w));
	enum err e;

	if (!w)
		return ERR_NOMEM;
	w->o = *o;
	w->f.max_bytes = o->max_bytes ? o->max_bytes : DEFAULT_MAX_BYTES;
	w->f.headroom_seconds = INFINITY;
	w->scale = 1;
	register_metrics(w);
	e = stream_job_init(&w->job, &(struct stream_job_options){.loop = o->loop,
	                                                          .redis = o->redis,
	                                                          .what = "looking at the queue",
	                                                          .period = PERIOD,
	                                                          .timeout = TIMEOUT,
	                                                          .run = on_period,
	                                                          .answer = on_answer,
	                                                          .arg = w});
	if (e != ERR_OK) {
		mem_free(w);
		return e;
	}
	*ret = w;
	return ERR_OK;
}

void stream_watch_start(struct stream_watch *w)
{
	stream_job_start(&w->job, 0);
}

void stream_watch_stop(struct stream_watch *w)
{
	stream_job_stop(&w->job);
}

void stream_watch_free(struct stream_watch *w)
{
	if (!w)
		return;
	stream_job_done(&w->job);
	mem_free(w);
}

void stream_watch_get(const struct stream_watch *w, struct stream_figures *ret)
{
	*ret = w->f;
}

bool stream_watch_admit(struct stream_watch *w, uint64_t extra, struct stream_watch_share *ret)
{
	if (w->f.bytes + w->added + extra > w->f.max_bytes)
		return false;
	w->added += extra;
	*ret = (struct stream_watch_share){extra, w->look};
	return true;
}

void stream_watch_take_back(struct stream_watch *w, const struct stream_watch_share *s)
{
	if (s->look < w->seen)
		return; /* counted no longer */
	w->added -= s->bytes;
	if (s->look < w->look)
		w->added_then -= s->bytes;
}

unsigned stream_watch_retry_after(const struct stream_watch *w)
{
	double seconds = RETRY_DEFAULT;

	if (w->f.known && w->f.depth == 0)
		return 1;
	if (w->f.known && w->f.drained_per_second >= 1)
		seconds = (double)w->f.depth / w->f.drained_per_second;
	return seconds < 1 ? 1 : seconds > RETRY_MAX ? RETRY_MAX : (unsigned)seconds;
}
