/* One XADD an event; the events of one request in MULTI/EXEC. The memory of an append that was
 * confirmed serves the next one. */
#include "weir/queue/stream_producer.h"

#include "weir/base/list.h"
#include "weir/base/mem.h"
#include "weir/io/redis.h"
#include "weir/model/event.h"
#include "weir/queue/stream_entry.h"
#include "weir/queue/stream_names.h"
#include "weir/queue/stream_watch.h"

/* A sender waits; the shortest patience among providers is a second, the usual one ten. */
#define TIMEOUT   (2 * USEC_PER_SEC)
#define MAX_SPARE 1024

struct append {
	struct list_node node;
	struct stream_producer *producer; /* borrowed */
	event_sink_done_fn done;
	void *arg;
};

struct stream_producer {
	struct event_sink sink;
	struct stream_producer_options o;
	struct list spare;
	size_t in_flight;
};

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

static void on_redis_added(void *arg, enum err err, const struct redis_reply *reply)
{
	struct append *a = arg;
	event_sink_done_fn done = a->done;
	void *done_arg = a->arg;

	(void)reply;
	a->producer->in_flight--;
	append_give(a);
	done(done_arg, err);
}

static struct str key_of(const struct stream_producer *p, const struct event_view *v)
{
	return p->o.names
	    ->keys[stream_entry_bytes(v) > STREAM_ENTRY_LARGE ? STREAM_LARGE : STREAM_MAIN];
}

static enum err submit_one(struct stream_producer *p, const struct event_view *v, struct append *a)
{
	struct stream_entry_scratch scratch;
	struct str argv[STREAM_ENTRY_ARGS];
	size_t argc = stream_entry_argv(v, key_of(p, v), &scratch, argv);

	return redis_submit(p->o.redis, argv, argc, TIMEOUT, on_redis_added, a);
}

static enum err submit_all(struct stream_producer *p, const struct event_view *events, size_t n,
                           struct append *a)
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
	e = redis_submit_multi(p->o.redis, cmds, n, TIMEOUT, on_redis_added, a);
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
	struct append *a;
	size_t bytes = 0;
	enum err e;

	if (!redis_up(p->o.redis))
		return ERR_UNAVAILABLE;
	for (size_t i = 0; i < n; i++)
		bytes += stream_entry_bytes(&events[i]);
	if (!stream_watch_admit(p->o.watch, bytes))
		return ERR_FULL;
	a = append_take(p, done, arg);
	if (!a)
		return ERR_NOMEM;
	e = n == 1 ? submit_one(p, events, a) : submit_all(p, events, n, a);
	if (e == ERR_OK)
		p->in_flight++;
	else
		append_give(a);
	return e;
}

static unsigned sink_retry_after(const struct event_sink *s)
{
	const struct stream_producer *p = container_of(s, struct stream_producer, sink);

	return redis_up(p->o.redis) ? stream_watch_retry_after(p->o.watch) : 5;
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
