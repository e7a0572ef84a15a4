/* Never MAXLEN: a length says nothing of what was read. What may go lies below the least, over all
 * groups, of the oldest pending entry or else the one after the last delivered; a stream that no
 * group reads is left alone. Whole nodes of the tree (100 entries, or 4 KiB of them) go first, so
 * many in a call that Redis does not stall; when there are no more, the exact remainder. */
#include "weir/queue/stream_trim.h"

#include <stdio.h>

#include "weir/base/mem.h"
#include "weir/io/redis.h"
#include "weir/queue/stream_job.h"
#include "weir/queue/stream_names.h"
#include "weir/queue/stream_watch.h"
#include "weir/run/log.h"

#define PERIOD       USEC_PER_SEC
#define SOON_ENTRIES 4000
/* Removed by one call and stream at most: Redis stands still for 2 ms. */
#define CALL_ENTRIES 4000
#define MORE_PERIOD  (10 * USEC_PER_MSEC)
#define TIMEOUT      (5 * USEC_PER_SEC)
#define FORGET_IDLE  (3600 * USEC_PER_SEC)
#define FORGET_SHARE 12  /* of it: every five minutes they are looked through … */
#define FORGET_FIRST 360 /* … for the first time after ten seconds */

/* KEYS: streams. ARGV: milliseconds that acknowledged entries stay; our group; most entries of a
 * call. A stream without our group holds entries that it has yet to read, whatever other groups
 * have done. Ids are compared as the decimals that they are: foreign ones may be wider than a
 * number of Lua's is exact. Returns the number trimmed. */
static const char trim_script[] =
    "local function fewer(a, b) return #a < #b or (#a == #b and a < b) end\n"
    "local function less(a, b)\n"
    "  return fewer(a[1], b[1]) or (a[1] == b[1] and fewer(a[2], b[2]))\n"
    "end\n"
    "local function parse(id) return {string.match(id, '^(%d+)-(%d+)$')} end\n"
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
    "      if #first[2] < 16 then first[2] = string.format('%.0f', first[2] + 1) end\n"
    "    end\n"
    "    if f.name == ARGV[2] then ours = true end\n"
    "    if not limit or less(first, limit) then limit = first end\n"
    "  end\n"
    "  if limit and keep > 0 then\n"
    "    local t = redis.call('TIME')\n"
    "    local ms = t[1] * 1000 + math.floor(t[2] / 1000) - keep\n"
    "    local young = {string.format('%.0f', math.max(0, ms)), '0'}\n"
    "    if less(young, limit) then limit = young end\n"
    "  end\n"
    "  if ours and limit[1] ~= '0' then\n"
    "    local id = limit[1] .. '-' .. limit[2]\n"
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
	struct stream_job trim, forget;
	size_t acked; /* since the last trim */
	char keep_ms[24], idle_ms[24];
};

static void on_trimmed(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_trim *t = arg;

	if (err == ERR_OK && reply->integer * 2 >= CALL_ENTRIES)
		stream_job_soon(&t->trim, MORE_PERIOD);
}

static void on_forgotten(void *arg, enum err err, const struct redis_reply *reply)
{
	(void)arg;
	if (err == ERR_OK && reply->integer)
		log_info(LOG_QUEUE, "idle consumers forgotten", LOG_INT("count", reply->integer));
}

/* Past half of the bound, what is done with makes room for what comes. */
static bool pressed(const struct stream_trim *t)
{
	struct stream_figures f;

	stream_watch_get(t->o.watch, &f);
	return f.bytes > f.max_bytes / 2;
}

static void trim(void *arg)
{
	struct stream_trim *t = arg;
	const struct stream_names *n = t->o.names;
	struct str argv[] = {STR("EVAL"), str_of(trim_script), STR("2"), n->keys[0],
	                     n->keys[1],  str_of(t->keep_ms),  n->group, STR_NUMBER(CALL_ENTRIES)};

	if (pressed(t))
		argv[5] = STR("0");
	t->acked = 0;
	stream_job_ask(&t->trim, argv, 8);
}

static void forget(void *arg)
{
	struct stream_trim *t = arg;
	const struct stream_names *n = t->o.names;
	struct str argv[] = {
	    STR("EVAL"), str_of(forget_script), STR("2"),          n->keys[0], n->keys[1],
	    n->group,    n->consumer,           str_of(t->idle_ms)};

	stream_job_ask(&t->forget, argv, 8);
}

static enum err init_job(struct stream_trim *t, struct stream_job *j, const char *what,
                         usec_t period, void (*run)(void *arg), redis_reply_fn answer)
{
	return stream_job_init(j, &(struct stream_job_options){.loop = t->o.loop,
	                                                       .redis = t->o.redis,
	                                                       .what = what,
	                                                       .period = period,
	                                                       .timeout = TIMEOUT,
	                                                       .run = run,
	                                                       .answer = answer,
	                                                       .arg = t});
}

enum err stream_trim_new(const struct stream_trim_options *o, struct stream_trim **ret)
{
	struct stream_trim *t = mem_zalloc(sizeof(*t));
	enum err e;

	if (!t)
		return ERR_NOMEM;
	t->o = *o;
	if (!t->o.forget_idle)
		t->o.forget_idle = FORGET_IDLE;
	snprintf(t->keep_ms, sizeof(t->keep_ms), "%lld", (long long)(o->keep / USEC_PER_MSEC));
	snprintf(t->idle_ms, sizeof(t->idle_ms), "%lld",
	         (long long)(t->o.forget_idle / USEC_PER_MSEC));
	e = init_job(t, &t->trim, "trimming the queue", PERIOD, trim, on_trimmed);
	if (e == ERR_OK)
		e = init_job(t, &t->forget, "looking through the consumers",
		             t->o.forget_idle / FORGET_SHARE, forget, on_forgotten);
	if (e != ERR_OK) {
		stream_trim_free(t);
		return e;
	}
	*ret = t;
	return ERR_OK;
}

void stream_trim_start(struct stream_trim *t)
{
	stream_job_start(&t->trim, PERIOD);
	stream_job_start(&t->forget, t->o.forget_idle / FORGET_FIRST);
}

void stream_trim_stop(struct stream_trim *t)
{
	stream_job_stop(&t->trim);
	stream_job_stop(&t->forget);
}

void stream_trim_free(struct stream_trim *t)
{
	if (!t)
		return;
	stream_job_done(&t->trim);
	stream_job_done(&t->forget);
	mem_free(t);
}

void stream_trim_acked(struct stream_trim *t, size_t n)
{
	t->acked += n;
	if (t->acked >= SOON_ENTRIES)
		stream_job_soon(&t->trim, 0);
}
