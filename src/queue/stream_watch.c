/* One script looks at both streams, so that a look is one round trip and its figures belong
 * together. */
#include "weir/queue/stream_watch.h"

#include "weir/base/mem.h"
#include "weir/io/redis.h"
#include "weir/queue/stream_names.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define PERIOD            USEC_PER_SEC
#define TIMEOUT           (2 * USEC_PER_SEC)
#define DEFAULT_MAX_BYTES ((uint64_t)2 * 1024 * 1024 * 1024)
#define RETRY_DEFAULT     10
#define RETRY_MAX         300
#define DRAIN_WEIGHT      0.2 /* of the newest second in the mean */

/* Sums over KEYS: entries not delivered, pending, the smallest id (its milliseconds) among the
 * oldest pending or else the oldest waiting entry, bytes, acknowledged so far (-1: Redis does not
 * know); and now in milliseconds. A lag that Redis does not know (nil) is taken as what the stream
 * holds besides; so is a group that nobody has made yet. The bytes are an estimate from the first
 * nodes of each stream; a hundred of them cost little and tell more than the default of five. */
static const char look_script[] =
    "local waiting, pending, oldest, bytes, acked = 0, 0, 0, 0, 0\n"
    "for _, key in ipairs(KEYS) do\n"
    "  bytes = bytes + (redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 100) or 0)\n"
    "  local groups = redis.pcall('XINFO', 'GROUPS', key)\n"
    "  local ours = {pending = 0, ['last-delivered-id'] = '0-0', ['entries-read'] = 0}\n"
    "  for _, g in ipairs(groups.err and {} or groups) do\n"
    "    local f = {}\n"
    "    for i = 1, #g, 2 do f[g[i]] = g[i + 1] end\n"
    "    if f.name == ARGV[1] then ours = f end\n"
    "  end\n"
    "  local lag = ours.lag or math.max(0, redis.call('XLEN', key) - ours.pending)\n"
    "  local first\n"
    "  if ours.pending > 0 then\n"
    "    first = redis.call('XPENDING', key, ARGV[1])[2]\n"
    "  elseif lag > 0 then\n"
    "    local e = redis.call('XRANGE', key, '(' .. ours['last-delivered-id'], '+', 'COUNT', "
    "1)[1]\n"
    "    first = e and e[1]\n"
    "  end\n"
    "  local ms = first and tonumber(string.match(first, '^(%d+)'))\n"
    "  if ms and (oldest == 0 or ms < oldest) then oldest = ms end\n"
    "  waiting = waiting + lag\n"
    "  pending = pending + ours.pending\n"
    "  acked = acked and ours['entries-read'] and acked + ours['entries-read'] - ours.pending\n"
    "end\n"
    "local t = redis.call('TIME')\n"
    "return {waiting, pending, oldest, bytes, acked or -1, t[1] * 1000 + math.floor(t[2] / "
    "1000)}\n";

struct stream_watch {
	struct stream_watch_options o;
	struct loop_timer timer;
	struct stream_figures f;
	uint64_t added;      /* bytes since the last look */
	uint64_t added_then; /* of them, those before the look under way */
	int64_t acked;       /* at the last look; -1: not known */
	usec_t looked;       /* when; monotonic */
	bool waiting, stopped;
	struct metric *depth, *pending, *oldest, *bytes, *max_bytes, *headroom;
};

static struct metric *gauge(struct metric_registry *r, const char *name, const char *help)
{
	return metric_single(
	    r, &(struct metric_spec){.type = METRIC_GAUGE, .name = name, .help = help});
}

static void register_metrics(struct stream_watch *w)
{
	struct metric_registry *r = w->o.metrics;

	w->depth = gauge(r, "webhook_queue_depth",
	                 "Entries not delivered yet plus delivered and not acknowledged.");
	w->pending = gauge(r, "webhook_queue_pending", "Entries delivered and not acknowledged.");
	w->oldest = gauge(r, "webhook_queue_oldest_pending_seconds",
	                  "Age of the oldest entry that is not done.");
	w->bytes = gauge(r, "webhook_queue_bytes", "Memory of the streams in Redis.");
	w->max_bytes =
	    gauge(r, "webhook_queue_max_bytes", "Bound on it; past it ingest answers 503.");
	w->headroom = gauge(r, "webhook_queue_drain_seconds",
	                    "How long the queue takes to empty at the present rate.");
}

static void set_gauges(struct stream_watch *w)
{
	metric_set(w->depth, (double)w->f.depth);
	metric_set(w->pending, (double)w->f.pending);
	metric_set(w->oldest, w->f.oldest_seconds);
	metric_set(w->bytes, (double)w->f.bytes);
	metric_set(w->max_bytes, (double)w->f.max_bytes);
	metric_set(w->headroom, w->f.depth ? stream_watch_retry_after(w) : 0);
}

static void take_look(struct stream_watch *w, const struct redis_reply *reply)
{
	int64_t v[6];
	usec_t now = loop_now(w->o.loop);
	double seconds = (double)(now - w->looked) / USEC_PER_SEC;

	for (size_t i = 0; i < 6; i++)
		v[i] = reply->items[i]->integer;
	if (w->f.known && seconds > 0 && w->acked >= 0 && v[4] >= w->acked)
		w->f.drained_per_second +=
		    DRAIN_WEIGHT * ((double)(v[4] - w->acked) / seconds - w->f.drained_per_second);
	w->acked = v[4];
	w->looked = now;
	w->f.known = true;
	w->f.depth = (uint64_t)(v[0] + v[1]);
	w->f.pending = (uint64_t)v[1];
	w->f.oldest_seconds = v[2] && v[5] > v[2] ? (double)(v[5] - v[2]) / 1000.0 : 0;
	w->f.bytes = (uint64_t)v[3];
	w->added -= w->added_then;
	set_gauges(w);
}

static void on_redis_look(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_watch *w = arg;

	w->waiting = false;
	if (w->stopped)
		return;
	if (err == ERR_OK && reply->type == REDIS_ARRAY && reply->count == 6) {
		take_look(w, reply);
		return;
	}
	w->f.known = false;
	log_warn(LOG_QUEUE, "cannot look at the queue", LOG_ERR(err),
	         LOG_SLICE("detail", reply ? reply->str : STR_NONE));
}

/* INFO memory, which is allowed where CONFIG is not. Half of maxmemory is ours; 0 means that Redis
 * has no bound. */
static void on_redis_memory(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_watch *w = arg;
	struct str rest = err == ERR_OK ? reply->str : STR_NONE;
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

static void look(struct stream_watch *w)
{
	const struct stream_names *n = w->o.names;
	struct str argv[] = {STR("EVAL"), str_of(look_script), STR("2"),
	                     n->keys[0],  n->keys[1],          n->group};
	static const struct str ask_memory[] = {{"INFO", 4}, {"memory", 6}};

	if (w->waiting)
		return;
	if (redis_submit(w->o.redis, argv, 6, TIMEOUT, on_redis_look, w) != ERR_OK) {
		w->f.known = false;
		return;
	}
	w->waiting = true;
	w->added_then = w->added;
	if (!w->o.max_bytes && !w->f.known &&
	    redis_submit(w->o.redis, ask_memory, 2, TIMEOUT, on_redis_memory, w) != ERR_OK)
		log_debug(LOG_QUEUE, "maxmemory not asked; the default bound stands");
}

static void on_period(void *arg)
{
	struct stream_watch *w = arg;

	look(w);
	loop_timer_set(&w->timer, PERIOD);
}

enum err stream_watch_new(const struct stream_watch_options *o, struct stream_watch **ret)
{
	struct stream_watch *w = mem_zalloc(sizeof(*w));
	enum err e;

	if (!w)
		return ERR_NOMEM;
	w->o = *o;
	w->f.max_bytes = o->max_bytes ? o->max_bytes : DEFAULT_MAX_BYTES;
	w->acked = -1;
	register_metrics(w);
	e = loop_timer_init(&w->timer, o->loop, on_period, w);
	if (e != ERR_OK) {
		mem_free(w);
		return e;
	}
	*ret = w;
	return ERR_OK;
}

void stream_watch_start(struct stream_watch *w)
{
	loop_timer_set(&w->timer, 0);
}

void stream_watch_stop(struct stream_watch *w)
{
	w->stopped = true;
	loop_timer_stop(&w->timer);
}

void stream_watch_free(struct stream_watch *w)
{
	if (!w)
		return;
	loop_timer_done(&w->timer);
	mem_free(w);
}

void stream_watch_get(const struct stream_watch *w, struct stream_figures *ret)
{
	*ret = w->f;
}

bool stream_watch_admit(struct stream_watch *w, uint64_t extra)
{
	if (w->f.bytes + w->added + extra > w->f.max_bytes)
		return false;
	w->added += extra;
	return true;
}

unsigned stream_watch_retry_after(const struct stream_watch *w)
{
	double seconds = RETRY_DEFAULT;

	if (w->f.known && w->f.drained_per_second >= 1)
		seconds = (double)w->f.depth / w->f.drained_per_second;
	return seconds < 1 ? 1 : seconds > RETRY_MAX ? RETRY_MAX : (unsigned)seconds;
}
