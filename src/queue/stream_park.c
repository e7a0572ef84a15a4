/* Putting aside, putting back and giving up are scripts: an entry is in one place at any time, and
 * what an entry carries about its wait (w) and its marks (m) is rewritten by Redis alone, with one
 * clock for all. Each adds first and removes then: an addition that Redis refuses for want of
 * memory ends the script before anything was removed.
 *
 * Where nobody knows a tool, its entries cost a look at their first one now and then, however many
 * they are. A worker without the tool and one that has it may play ball with an entry; it ends when
 * the latter reads it, and each throw takes a look. */
#include "weir/queue/stream_park.h"

#include <stdio.h>

#include "weir/base/mem.h"
#include "weir/io/redis.h"
#include "weir/model/tool.h"
#include "weir/queue/stream_job.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define PERIOD    (10 * USEC_PER_SEC)
#define MOST_WAIT (24 * 3600 * USEC_PER_SEC)
#define TIMEOUT   (5 * USEC_PER_SEC)
/* Put back by one call: Redis stands still for some 2 ms. */
#define CALL_ENTRIES 200
#define MORE_PERIOD  (100 * USEC_PER_MSEC)

enum {
	LOOKS_TO_GIVE_UP = 30,
	CALL_IDS = 100,
	MAX_WAITING = 10 * 1000, /* ids of entries to be put aside */
};

/* The fields of weir have one letter; of a name that comes twice the last one counts, as when an
 * entry is read. */
#define COMMON                                                                     \
	"local function fields(list)\n"                                            \
	"  local f = {}\n"                                                         \
	"  for i = 1, #list, 2 do\n"                                               \
	"    if #list[i] == 1 then f[list[i]] = list[i + 1] end\n"                 \
	"  end\n"                                                                  \
	"  return f\n"                                                             \
	"end\n"                                                                    \
	"local function add(key, f)\n"                                             \
	"  local argv = {}\n"                                                      \
	"  for k, v in pairs(f) do argv[#argv + 1] = k; argv[#argv + 1] = v end\n" \
	"  redis.call('XADD', key, '*', unpack(argv))\n"                           \
	"end\n"                                                                    \
	"local t = redis.call('TIME')\n"                                           \
	"local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"                      \
	"local function waited(f)\n"                                               \
	"  local w = string.match(f.w or '', '^%d+$')\n"                           \
	"  return w and math.max(0, now - w) or 0\n"                               \
	"end\n"

/* KEYS: stream, the set of tools. ARGV: group, ids. Returns how many were put aside: those that are
 * still pending. */
static const char park_script[] =
    COMMON "local n = 0\n"
           "for i = 2, #ARGV do\n"
           "  local id = ARGV[i]\n"
           "  local e = redis.call('XRANGE', KEYS[1], id, id)[1]\n"
           "  if e and #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) == 1 then\n"
           "    local f = fields(e[2])\n"
           "    f.w = string.format('%.0f', now - waited(f))\n"
           "    add(KEYS[2] .. ':' .. f.t, f)\n"
           "    redis.call('SADD', KEYS[2], f.t)\n"
           "    redis.call('XACK', KEYS[1], ARGV[1], id)\n"
           "    n = n + 1\n"
           "  end\n"
           "end\n"
           "return n\n";

/* KEYS: the set. Returns tools, and behind each for how long its first entry has waited, in ms. */
static const char look_script[] =
    COMMON "local found = {}\n"
           "for _, tool in ipairs(redis.call('SRANDMEMBER', KEYS[1], 1000)) do\n"
           "  local e = redis.call('XRANGE', KEYS[1] .. ':' .. tool, '-', '+', 'COUNT', 1)[1]\n"
           "  if e then\n"
           "    found[#found + 1] = tool\n"
           "    found[#found + 1] = waited(fields(e[2]))\n"
           "  else\n"
           "    redis.call('SREM', KEYS[1], tool)\n"
           "  end\n"
           "end\n"
           "return found\n";

/* KEYS: the set, the main stream, the one for large entries. ARGV: tool, most entries, least wait
 * in ms of those that are given up, or '' to give none up; bytes past which an entry is large.
 * Returns 1 if some were put back and others are left, else 0. */
static const char unpark_script[] =
    COMMON "local key = KEYS[1] .. ':' .. ARGV[1]\n"
           "local n, bytes = 0, 0\n"
           "while n < tonumber(ARGV[2]) and bytes < 1048576 do\n"
           "  local e = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]\n"
           "  if not e then break end\n"
           "  local f, size = fields(e[2]), 0\n"
           "  if ARGV[3] ~= '' then\n"
           "    if waited(f) < tonumber(ARGV[3]) then break end\n"
           "    f.m = (f.m or 'r') .. 'x'\n"
           "  end\n"
           "  for _, v in pairs(f) do size = size + #v end\n"
           "  add(size > tonumber(ARGV[4]) and KEYS[3] or KEYS[2], f)\n"
           "  redis.call('XDEL', key, e[1])\n"
           "  n, bytes = n + 1, bytes + size\n"
           "end\n"
           "if redis.call('XLEN', key) > 0 then return n > 0 and 1 or 0 end\n"
           "redis.call('DEL', key)\n"
           "redis.call('SREM', KEYS[1], ARGV[1])\n"
           "return 0\n";

struct ids {
	struct stream_id *at; /* owned */
	size_t count, space;
};

struct stream_park {
	struct stream_park_options o;
	struct stream_job look;
	struct ids waiting[STREAM_COUNT];
	struct loop_task flush;
	unsigned looks; /* in a row, see stream_park.h */
	char most_wait_ms[24];
	struct metric *parked;
};

/* ---- putting aside ---- */

static void on_redis_parked(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_park *p = arg;

	if (err != ERR_OK) {
		log_debug(LOG_QUEUE, "entries were not put aside", LOG_ERR(err));
		return;
	}
	metric_add(p->parked, (double)reply->integer);
	if (reply->integer)
		log_warn(
		    LOG_QUEUE,
		    "delivery reports of a tool that is not known here wait for a worker that "
		    "has it with its recipient mapping: weirs of one group need the same tools",
		    LOG_INT("entries", reply->integer));
}

static enum err send_some(struct stream_park *p, enum stream_which stream)
{
	struct ids *w = &p->waiting[stream];
	const struct stream_names *names = p->o.names;
	char texts[CALL_IDS][STREAM_ID_TEXT];
	struct str argv[CALL_IDS + 6] = {STR("EVAL"),         str_of(park_script), STR("2"),
	                                 names->keys[stream], names->parked,       names->group};
	size_t n = w->count < CALL_IDS ? w->count : CALL_IDS;
	enum err e;

	for (size_t i = 0; i < n; i++)
		argv[6 + i] = str_n(texts[i], stream_id_format(w->at[w->count - 1 - i], texts[i]));
	e = redis_submit(p->o.redis, argv, 6 + n, TIMEOUT, on_redis_parked, p);
	w->count -= n;
	return e;
}

static void on_flush(void *arg)
{
	struct stream_park *p = arg;

	for (enum stream_which s = STREAM_MAIN; s < STREAM_COUNT; s++) {
		while (p->waiting[s].count)
			if (send_some(p, s) != ERR_OK)
				p->waiting[s].count = 0; /* they stay pending */
	}
}

void stream_park_add(struct stream_park *p, struct stream_id id, enum stream_which stream)
{
	struct ids *w = &p->waiting[stream];

	if (w->count == w->space) {
		size_t space = w->space ? w->space * 2 : CALL_IDS;
		void *at = space <= MAX_WAITING ? mem_realloc(w->at, space * sizeof(*w->at)) : NULL;

		if (!at)
			return;
		w->at = at;
		w->space = space;
	}
	w->at[w->count++] = id;
	loop_defer(p->o.loop, &p->flush);
}

/* ---- looking ---- */

static void put_back(struct stream_park *p, struct str tool, bool give_up)
{
	const struct stream_names *n = p->o.names;
	struct str argv[] = {STR("EVAL"),
	                     str_of(unpark_script),
	                     STR("3"),
	                     n->parked,
	                     n->keys[STREAM_MAIN],
	                     n->keys[STREAM_LARGE],
	                     tool,
	                     STR_NUMBER(CALL_ENTRIES),
	                     give_up ? str_of(p->most_wait_ms) : STR(""),
	                     STR_NUMBER(STREAM_ENTRY_LARGE)};

	if (give_up)
		log_error(LOG_QUEUE,
		          "delivery reports waited in vain for a worker that knows their tool; "
		          "they become dead letters",
		          LOG_SLICE("tool", tool));
	stream_job_ask(&p->look, argv, sizeof(argv) / sizeof(*argv));
}

struct tool *stream_park_tool(struct stream_park *p, struct str id)
{
	return p->o.tool_of(p->o.arg, id);
}

static bool knows(struct stream_park *p, struct str id)
{
	struct tool *t = stream_park_tool(p, id);

	tool_unref(t);
	return t != NULL;
}

static void take_look(struct stream_park *p, const struct redis_reply *reply)
{
	int64_t most_ms = p->o.most_wait / USEC_PER_MSEC;

	p->looks++;
	for (size_t i = 0; i + 1 < reply->count; i += 2) {
		struct str tool = reply->items[i]->str;

		if (knows(p, tool))
			put_back(p, tool, false);
		else if (reply->items[i + 1]->integer >= most_ms && p->looks > LOOKS_TO_GIVE_UP)
			put_back(p, tool, true);
	}
}

/* Of a look, or of putting back. */
static void on_answer(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_park *p = arg;

	if (err != ERR_OK) {
		p->looks = 0;
		return;
	}
	if (reply->type == REDIS_ARRAY)
		take_look(p, reply);
	else if (reply->integer)
		stream_job_soon(&p->look, MORE_PERIOD);
}

static void on_period(void *arg)
{
	struct stream_park *p = arg;
	struct str argv[] = {STR("EVAL"), str_of(look_script), STR("1"), p->o.names->parked};

	if (p->o.may_look(p->o.arg))
		stream_job_ask(&p->look, argv, 4);
	else
		p->looks = 0;
}

void stream_park_tools_changed(struct stream_park *p)
{
	p->looks = 0;
	stream_job_soon(&p->look, 0);
}

/* ---- life ---- */

enum err stream_park_new(const struct stream_park_options *o, struct stream_park **ret)
{
	struct stream_park *p = mem_zalloc(sizeof(*p));

	if (!p)
		return ERR_NOMEM;
	p->o = *o;
	p->o.period = o->period ? o->period : PERIOD;
	p->o.most_wait = o->most_wait ? o->most_wait : MOST_WAIT;
	snprintf(p->most_wait_ms, sizeof(p->most_wait_ms), "%lld",
	         (long long)(p->o.most_wait / USEC_PER_MSEC));
	p->parked = metric_plain(o->metrics, METRIC_COUNTER, "webhook_queue_parked_total",
	                         "Delivery reports that were put aside because their tool is not "
	                         "known here; a worker that knows it takes them.");
	loop_task_init(&p->flush, on_flush, p);
	if (stream_job_init(&p->look,
	                    &(struct stream_job_options){.loop = o->loop,
	                                                 .redis = o->redis,
	                                                 .what = "looking at what is put aside",
	                                                 .period = p->o.period,
	                                                 .jitter = true,
	                                                 .timeout = TIMEOUT,
	                                                 .run = on_period,
	                                                 .answer = on_answer,
	                                                 .arg = p}) != ERR_OK) {
		mem_free(p);
		return ERR_NOMEM;
	}
	*ret = p;
	return ERR_OK;
}

void stream_park_start(struct stream_park *p)
{
	stream_job_start(&p->look, p->o.period / 2);
}

void stream_park_stop(struct stream_park *p)
{
	stream_job_stop(&p->look);
}

void stream_park_free(struct stream_park *p)
{
	if (!p)
		return;
	loop_cancel(p->o.loop, &p->flush);
	stream_job_done(&p->look);
	for (enum stream_which s = STREAM_MAIN; s < STREAM_COUNT; s++)
		mem_free(p->waiting[s].at);
	mem_free(p);
}
