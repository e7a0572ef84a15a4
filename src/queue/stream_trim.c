/* Never MAXLEN: a length says nothing of what was read. What may go lies below the least, over all
 * groups, of the oldest pending entry or else the one after the last delivered; a stream that no
 * group reads is left alone. Whole nodes of the tree (100 entries, or 4 KiB of them) go first, so
 * many in a call that Redis does not stall; when there are no more, the exact remainder. */
#include "weir/queue/stream_trim.h"

#include <stdio.h>

#include "weir/base/mem.h"
#include "weir/io/redis.h"
#include "weir/queue/stream_names.h"
#include "weir/queue/stream_watch.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"

#define PERIOD         USEC_PER_SEC
#define SOON_ENTRIES   10000
#define CALL_ENTRIES   20000 /* removed by one call and stream at most */
#define MORE_PERIOD    (50 * USEC_PER_MSEC)
#define TEXT(n)        #n
#define NUMBER(n)      TEXT(n)
#define TIMEOUT        (5 * USEC_PER_SEC)
#define FORGET_PERIODS 300 /* how often consumers are looked through: five minutes */
#define FORGET_FIRST   10
#define FORGET_IDLE_MS "3600000" /* an hour */

/* KEYS: streams. ARGV: milliseconds that acknowledged entries stay; our group; most entries of a
 * call. A stream without our group holds entries that it has yet to read, whatever other groups
 * have done. Returns the number trimmed. */
static const char trim_script[] =
    "local function less(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end\n"
    "local function parse(id)\n"
    "  local ms, seq = string.match(id, '^(%d+)-(%d+)$')\n"
    "  return {tonumber(ms), tonumber(seq)}\n"
    "end\n"
    "local trimmed = 0\n"
    "local keep, most = tonumber(ARGV[1]), tonumber(ARGV[3])\n"
    "for _, key in ipairs(KEYS) do\n"
    "  local groups = redis.pcall('XINFO', 'GROUPS', key)\n"
    "  local limit, ours\n"
    "  for _, g in ipairs(groups.err and {} or groups) do\n"
    "    local f = {}\n"
    "    for i = 1, #g, 2 do f[g[i]] = g[i + 1] end\n"
    "    local first\n"
    "    if f.pending > 0 then\n"
    "      first = parse(redis.call('XPENDING', key, f.name)[2])\n"
    "    else\n"
    "      first = parse(f['last-delivered-id'])\n"
    "      first[2] = first[2] + 1\n"
    "    end\n"
    "    if f.name == ARGV[2] then ours = true end\n"
    "    if not limit or less(first, limit) then limit = first end\n"
    "  end\n"
    "  if limit and keep > 0 then\n"
    "    local t = redis.call('TIME')\n"
    "    local young = {t[1] * 1000 + math.floor(t[2] / 1000) - keep, 0}\n"
    "    if less(young, limit) then limit = young end\n"
    "  end\n"
    "  if ours and limit[1] > 0 then\n"
    "    local id = string.format('%.0f-%.0f', limit[1], limit[2])\n"
    "    local n = redis.call('XTRIM', key, 'MINID', '~', id, 'LIMIT', most)\n"
    "    if n * 2 < most then n = n + redis.call('XTRIM', key, 'MINID', id) end\n"
    "    trimmed = trimmed + n\n"
    "  end\n"
    "end\n"
    "return trimmed\n";

/* KEYS: streams. ARGV: group, own consumer, idle milliseconds. Returns the number forgotten. */
static const char forget_script[] =
    "local gone = 0\n"
    "for _, key in ipairs(KEYS) do\n"
    "  local consumers = redis.pcall('XINFO', 'CONSUMERS', key, ARGV[1])\n"
    "  for _, c in ipairs(consumers.err and {} or consumers) do\n"
    "    local f = {}\n"
    "    for i = 1, #c, 2 do f[c[i]] = c[i + 1] end\n"
    "    if f.pending == 0 and f.idle > tonumber(ARGV[3]) and f.name ~= ARGV[2] then\n"
    "      redis.call('XGROUP', 'DELCONSUMER', key, ARGV[1], f.name)\n"
    "      gone = gone + 1\n"
    "    end\n"
    "  end\n"
    "end\n"
    "return gone\n";

struct stream_trim {
	struct stream_trim_options o;
	struct loop_timer timer;
	size_t acked; /* since the last trim */
	unsigned periods;
	bool waiting, stopped;
	char keep_ms[24];
};

static void on_redis_trimmed(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_trim *t = arg;

	t->waiting = false;
	if (t->stopped)
		return;
	if (err != ERR_OK)
		log_warn(LOG_QUEUE, "cannot trim the queue", LOG_ERR(err),
		         LOG_SLICE("detail", reply ? reply->str : STR_NONE));
	else if (reply->integer * 2 >= CALL_ENTRIES)
		loop_timer_set(&t->timer, MORE_PERIOD);
}

static void on_redis_forgotten(void *arg, enum err err, const struct redis_reply *reply)
{
	(void)arg;
	if (err != ERR_OK)
		log_debug(LOG_QUEUE, "cannot look through the consumers", LOG_ERR(err));
	else if (reply->integer)
		log_info(LOG_QUEUE, "idle consumers forgotten", LOG_INT("count", reply->integer));
}

/* Past half of the bound, what is done with makes room for what comes. */
static bool pressed(const struct stream_trim *t)
{
	struct stream_figures f;

	stream_watch_get(t->o.watch, &f);
	return f.bytes > f.max_bytes / 2;
}

static void trim(struct stream_trim *t)
{
	const struct stream_names *n = t->o.names;
	struct str argv[] = {STR("EVAL"), str_of(trim_script), STR("2"), n->keys[0],
	                     n->keys[1],  str_of(t->keep_ms),  n->group, STR(NUMBER(CALL_ENTRIES))};

	if (t->waiting || t->stopped)
		return;
	if (pressed(t))
		argv[5] = STR("0");
	t->acked = 0;
	t->waiting = redis_submit(t->o.redis, argv, 8, TIMEOUT, on_redis_trimmed, t) == ERR_OK;
}

static void forget(struct stream_trim *t)
{
	const struct stream_names *n = t->o.names;
	struct str argv[] = {
	    STR("EVAL"), str_of(forget_script), STR("2"),           n->keys[0], n->keys[1],
	    n->group,    n->consumer,           STR(FORGET_IDLE_MS)};

	if (redis_submit(t->o.redis, argv, 8, TIMEOUT, on_redis_forgotten, t) != ERR_OK)
		log_debug(LOG_QUEUE, "consumers not looked through: no connection");
}

static void on_period(void *arg)
{
	struct stream_trim *t = arg;

	trim(t);
	if (t->periods++ % FORGET_PERIODS == FORGET_FIRST)
		forget(t);
	loop_timer_set(&t->timer, PERIOD);
}

enum err stream_trim_new(const struct stream_trim_options *o, struct stream_trim **ret)
{
	struct stream_trim *t = mem_zalloc(sizeof(*t));
	enum err e;

	if (!t)
		return ERR_NOMEM;
	t->o = *o;
	snprintf(t->keep_ms, sizeof(t->keep_ms), "%lld", (long long)(o->keep / USEC_PER_MSEC));
	e = loop_timer_init(&t->timer, o->loop, on_period, t);
	if (e != ERR_OK) {
		mem_free(t);
		return e;
	}
	*ret = t;
	return ERR_OK;
}

void stream_trim_start(struct stream_trim *t)
{
	loop_timer_set(&t->timer, PERIOD);
}

void stream_trim_stop(struct stream_trim *t)
{
	t->stopped = true;
	loop_timer_stop(&t->timer);
}

void stream_trim_free(struct stream_trim *t)
{
	if (!t)
		return;
	loop_timer_done(&t->timer);
	mem_free(t);
}

void stream_trim_acked(struct stream_trim *t, size_t n)
{
	t->acked += n;
	if (t->acked >= SOON_ENTRIES)
		trim(t);
}
