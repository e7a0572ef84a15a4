/* One XADD an event; the events of one request in MULTI/EXEC. The memory of an append that was
 * confirmed serves the next one.
 *
 * Redis reads 16 KiB of a connection at a time. Where it syncs its append-only file once for all
 * that it read in a turn, what is gathered beyond that goes to the next connection: with several of
 * them a sync covers several times as many events. Where it does not, one is better: it answers
 * after each 16 KiB, and works on the next while we pass the answers on. */
#include "weir/queue/stream_producer.h"

#include "weir/base/list.h"
#include "weir/base/mem.h"
#include "weir/io/redis.h"
#include "weir/model/event.h"
#include "weir/queue/stream_entry.h"
#include "weir/queue/stream_names.h"
#include "weir/queue/stream_watch.h"

/* A sender waits; the shortest patience among providers is a second, the usual one ten. */
#define TIMEOUT       (2 * USEC_PER_SEC)
#define PROBE_TIMEOUT USEC_PER_SEC
#define MEM_EIGHTHS   7 /* of all memory: past that nothing more is taken in */
#define MAX_SPARE     1024
#define RETRY_DOWN    5           /* seconds: reconnects come at least that often */
#define READ_SIZE     (14 * 1024) /* of Redis's 16 KiB, less one event of some size */

struct append {
	struct list_node node;
	struct stream_producer *producer; /* borrowed */
	event_sink_done_fn done;
	void *arg;
	struct stream_watch_share share; /* of the bound */
};

struct stream_producer {
	struct event_sink sink;
	struct stream_producer_options o;
	struct list spare;
	size_t in_flight;
	size_t turn; /* the connection that was used last */
};

bool stream_producer_up(const struct stream_producer *p)
{
	for (size_t i = 0; i < p->o.redis_count; i++)
		if (redis_up(p->o.redis[i]))
			return true;
	return false;
}

static struct append *append_take(struct stream_producer *p, event_sink_done_fn done, void *arg)
{
	struct list_node *n = list_pop_front(&p->spare);
	struct append *a = n ? container_of(n, struct append, node) : mem_zalloc(sizeof(*a));

	if (a)
		*a = (struct append){.producer = p, .done = done, .arg = arg};
	return a;
}

static void append_give(struct append *a)
{
	struct stream_producer *p = a->producer;

	if (p->spare.count < MAX_SPARE)
		list_push_front(&p->spare, &a->node);
	else
		mem_free(a);
}

/* Unlike a connection that was lost meanwhile, an error reply says so. */
static bool written_nothing(enum err e)
{
	return e != ERR_OK && e != ERR_CLOSED && e != ERR_TIMEOUT && e != ERR_CANCELLED;
}

static void on_redis_added(void *arg, enum err err, const struct redis_reply *reply)
{
	struct append *a = arg;
	event_sink_done_fn done = a->done;
	void *done_arg = a->arg;

	(void)reply;
	a->producer->in_flight--;
	if (written_nothing(err))
		stream_watch_take_back(a->producer->o.watch, &a->share);
	append_give(a);
	done(done_arg, err);
}

static struct str key_of(const struct stream_producer *p, const struct event_view *v)
{
	return p->o.names
	    ->keys[stream_entry_bytes(v) > STREAM_ENTRY_LARGE ? STREAM_LARGE : STREAM_MAIN];
}

/* The connection to use: the same one, where Redis syncs until it has gathered what is read at a
 * time. NULL: all are down. */
static struct redis *choose(struct stream_producer *p)
{
	bool spread = !p->o.syncs || p->o.syncs(p->o.arg);
	struct redis *up = NULL;

	for (size_t i = 0; i < p->o.redis_count; i++) {
		size_t at = (p->turn + i) % p->o.redis_count;
		struct redis *r = p->o.redis[at];

		if (!redis_up(r))
			continue;
		if (!spread || redis_unsent(r) < READ_SIZE) {
			p->turn = at;
			return r;
		}
		up = up ? up : r;
	}
	return up;
}

static enum err submit_one(struct redis *r, struct stream_producer *p, const struct event_view *v,
                           struct append *a)
{
	struct stream_entry_scratch scratch;
	struct str argv[STREAM_ENTRY_ARGS];
	size_t argc = stream_entry_argv(v, key_of(p, v), &scratch, argv);

	return redis_submit(r, argv, argc, TIMEOUT, on_redis_added, a);
}

static enum err submit_all(struct redis *r, struct stream_producer *p,
                           const struct event_view *events, size_t n, struct append *a)
{
	struct stream_entry_scratch *scratch = mem_array(n, sizeof(*scratch));
	struct str *argv = mem_array(n, sizeof(*argv) * STREAM_ENTRY_ARGS);
	struct redis_command *cmds = mem_array(n, sizeof(*cmds));
	enum err e = ERR_NOMEM;

	if (!scratch || !argv || !cmds)
		goto out;
	for (size_t i = 0; i < n; i++) {
		struct str *mine = argv + i * STREAM_ENTRY_ARGS;

		cmds[i].argc =
		    stream_entry_argv(&events[i], key_of(p, &events[i]), &scratch[i], mine);
		cmds[i].argv = mine;
	}
	e = redis_submit_multi(r, cmds, n, TIMEOUT, on_redis_added, a);
out:
	mem_free(scratch);
	mem_free(argv);
	mem_free(cmds);
	return e;
}

static enum err sink_append(struct event_sink *s, const struct event_view *events, size_t n,
                            event_sink_done_fn done, void *arg)
{
	struct stream_producer *p = container_of(s, struct stream_producer, sink);
	struct redis *r = choose(p);
	struct append *a;
	struct stream_watch_share share;
	size_t bytes = 0;
	enum err e;

	if (!r)
		return ERR_UNAVAILABLE;
	for (size_t i = 0; i < n; i++)
		bytes += stream_entry_bytes(&events[i]);
	/* One at a time always passes, or the largest never would where memory is small. */
	if (p->in_flight > 0 && !mem_fits(bytes, MEM_EIGHTHS))
		return ERR_FULL;
	if (!stream_watch_admit(p->o.watch, bytes, &share))
		return ERR_FULL;
	a = append_take(p, done, arg);
	if (!a) {
		stream_watch_take_back(p->o.watch, &share);
		return ERR_NOMEM;
	}
	a->share = share;
	e = n == 1 ? submit_one(r, p, events, a) : submit_all(r, p, events, n, a);
	if (e == ERR_OK) {
		p->in_flight++;
	} else {
		stream_watch_take_back(p->o.watch, &share);
		append_give(a);
	}
	return e;
}

/* ---- probing ---- */

/* An id that no stream takes: Redis refuses it for that after all else was checked (memory, the
 * append-only file, being a replica, permissions), and nothing is written. That very refusal is the
 * good answer, so a script keeps it from looking like trouble; every other one is passed on. */
static const char probe_script[] =
    "local r = redis.pcall('XADD', KEYS[1], '0-0', 'v', '1')\n"
    "local refusal = 'ERR The ID specified in XADD must be greater than 0-0'\n"
    "if type(r) == 'table' and r.err and string.sub(r.err, 1, #refusal) == refusal then\n"
    "  return redis.status_reply('OK')\n"
    "end\n"
    "return r\n";

static void on_redis_probed(void *arg, enum err err, const struct redis_reply *reply)
{
	struct append *a = arg;
	event_sink_done_fn done = a->done;
	void *done_arg = a->arg;

	append_give(a);
	if (err == ERR_OK && reply->type != REDIS_STATUS)
		err = ERR_PROTO;
	done(done_arg, err);
}

enum err stream_producer_probe(struct stream_producer *p, event_sink_done_fn done, void *arg)
{
	const struct str argv[] = {STR("EVAL"), str_of(probe_script), STR("1"),
	                           p->o.names->keys[STREAM_MAIN]};
	struct redis *r = choose(p);
	struct append *a = r ? append_take(p, done, arg) : NULL;
	enum err e;

	if (!a)
		return r ? ERR_NOMEM : ERR_UNAVAILABLE;
	e = redis_submit(r, argv, sizeof(argv) / sizeof(argv[0]), PROBE_TIMEOUT, on_redis_probed,
	                 a);
	if (e != ERR_OK)
		append_give(a);
	return e;
}

static unsigned sink_retry_after(const struct event_sink *s)
{
	const struct stream_producer *p = container_of(s, struct stream_producer, sink);

	return stream_producer_up(p) ? stream_watch_retry_after(p->o.watch) : RETRY_DOWN;
}

enum err stream_producer_new(const struct stream_producer_options *o, struct stream_producer **ret)
{
	struct stream_producer *p = mem_zalloc(sizeof(*p));

	if (!p)
		return ERR_NOMEM;
	p->o = *o;
	p->sink = (struct event_sink){sink_append, sink_retry_after};
	list_init(&p->spare);
	*ret = p;
	return ERR_OK;
}

void stream_producer_free(struct stream_producer *p)
{
	struct list_node *n;

	if (!p)
		return;
	while ((n = list_pop_front(&p->spare)))
		mem_free(container_of(n, struct append, node));
	mem_free(p);
}

struct event_sink *stream_producer_sink(struct stream_producer *p)
{
	return &p->sink;
}

size_t stream_producer_in_flight(const struct stream_producer *p)
{
	return p->in_flight;
}
