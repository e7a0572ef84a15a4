/*   QUEUE    entries are written. Three writes in a row that fail, or a second in which a write was
 *            not answered or no connection stood, end it
 *   DIRECT   events go the direct way, the queue's server is probed
 *   PROVING  the same, but the last probe was good; after five seconds of good ones it is QUEUE
 *   ALONE    there is no queue
 *
 * A write that is under way when the queue is given up keeps waiting for its own answer or
 * deadline; it is not sent a second time, because it may have been done. What could not be written
 * at all (no connection) may go the direct way at once.
 *
 * The five seconds keep a server that comes and goes from being trusted each time. They are not
 * waited for when the database is away as well: then a queue that answered once is the better
 * choice. */
#include "weir/queue/failover.h"

#include "weir/base/list.h"
#include "weir/base/mem.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define MAX_SPARE 1024

#define FAILOVER_STATES(X) X(QUEUE) X(DIRECT) X(PROVING) X(ALONE)
#define FAILOVER_ENUM(s)   FAILOVER_##s,
#define FAILOVER_NAME(s)   #s,
enum failover_state { FAILOVER_STATES(FAILOVER_ENUM) };
static const char *const state_names[] = {FAILOVER_STATES(FAILOVER_NAME)};

#define TO(s) (1u << FAILOVER_##s)
static const unsigned may_follow[] = {
    [FAILOVER_QUEUE] = TO(DIRECT),
    [FAILOVER_DIRECT] = TO(PROVING) | TO(QUEUE),
    [FAILOVER_PROVING] = TO(DIRECT) | TO(QUEUE),
    [FAILOVER_ALONE] = 0,
};

/* An append on its way to the queue. */
struct write {
	struct list_node node;     /* oldest first */
	struct failover *failover; /* borrowed */
	event_sink_done_fn done;
	void *arg;
	usec_t since; /* monotonic */
};

struct failover {
	struct event_sink sink;
	struct failover_options o;
	struct event_sink *direct; /* borrowed; NULL: none */
	enum failover_state state;
	usec_t since;      /* monotonic: this state */
	usec_t mode_since; /* monotonic: this mode */
	usec_t last_up;    /* monotonic: a connection was seen to stand */
	unsigned failed;   /* writes, in a row */
	struct list writes, spare;
	struct loop_timer timer;
	bool probing, stopped;
	struct metric *in_queue, *in_direct;
	struct metric_family *changes;
};

static bool is_direct(enum failover_state s)
{
	return s != FAILOVER_QUEUE;
}

bool failover_direct(const struct failover *f)
{
	return is_direct(f->state);
}

const char *failover_mode(const struct failover *f)
{
	return is_direct(f->state) ? "direct" : "queue";
}

double failover_seconds(const struct failover *f)
{
	return (double)(loop_now(f->o.loop) - f->mode_since) / USEC_PER_SEC;
}

static void show_mode(struct failover *f)
{
	metric_set(f->in_queue, !is_direct(f->state));
	metric_set(f->in_direct, is_direct(f->state));
}

/* `why` is a word of a closed set: a label. */
static void set_state(struct failover *f, enum failover_state to, const char *why)
{
	enum failover_state from = f->state;
	usec_t now = loop_now(f->o.loop);

	if (!(may_follow[from] & 1u << to))
		log_error(LOG_QUEUE, "fail-over in an impossible state",
		          LOG_STR("from", state_names[from]), LOG_STR("to", state_names[to]));
	log_debug(LOG_QUEUE, "fail-over", LOG_STR("from", state_names[from]),
	          LOG_STR("to", state_names[to]), LOG_STR("reason", why));
	f->state = to;
	f->since = now;
	if (is_direct(from) == is_direct(to))
		return;
	f->failed = 0;
	f->last_up = now;
	metric_inc(metric_of(f->changes, failover_mode(f), why, NULL));
	if (is_direct(to))
		log_warn(LOG_QUEUE, "Redis takes no entries: events go straight to the database",
		         LOG_STR("reason", why));
	else
		log_info(LOG_QUEUE, "events go through the queue again", LOG_STR("reason", why),
		         LOG_MSEC("after_ms", now - f->mode_since));
	f->mode_since = now;
	show_mode(f);
}

static bool direct_up(const struct failover *f)
{
	return f->direct && f->o.direct_up(f->o.arg);
}

/* ---- writing to the queue ---- */

static void note_failure(struct failover *f)
{
	if (f->state == FAILOVER_QUEUE && f->direct && ++f->failed >= FAILOVER_WRITES)
		set_state(f, FAILOVER_DIRECT, "failed_writes");
}

static bool tells_on_redis(enum err e)
{
	return e != ERR_NOMEM && e != ERR_CANCELLED;
}

static struct write *write_take(struct failover *f)
{
	struct list_node *n = list_pop_front(&f->spare);

	return n ? container_of(n, struct write, node) : mem_zalloc(sizeof(struct write));
}

static void write_give(struct failover *f, struct write *w)
{
	if (f->spare.count < MAX_SPARE)
		list_push_front(&f->spare, &w->node);
	else
		mem_free(w);
}

static void on_written(void *arg, enum err err)
{
	struct write *w = arg;
	struct failover *f = w->failover;
	event_sink_done_fn done = w->done;
	void *done_arg = w->arg;

	list_remove(&f->writes, &w->node);
	write_give(f, w);
	if (err == ERR_OK)
		f->failed = 0;
	else if (tells_on_redis(err))
		note_failure(f);
	done(done_arg, err);
}

static enum err through_queue(struct failover *f, const struct event_view *events, size_t n,
                              event_sink_done_fn done, void *arg)
{
	struct write *w = write_take(f);
	enum err e;

	if (!w)
		return ERR_NOMEM;
	*w = (struct write){.failover = f, .done = done, .arg = arg, .since = loop_now(f->o.loop)};
	e = f->o.queue->append(f->o.queue, events, n, on_written, w);
	if (e == ERR_OK)
		list_push_back(&f->writes, &w->node);
	else
		write_give(f, w);
	return e;
}

/* ---- the sink ---- */

/* The queue does not wait for the end of its probation when there is nothing else. */
static bool queue_is_better(const struct failover *f)
{
	return f->state == FAILOVER_PROVING && !direct_up(f);
}

static enum err sink_append(struct event_sink *s, const struct event_view *events, size_t n,
                            event_sink_done_fn done, void *arg)
{
	struct failover *f = container_of(s, struct failover, sink);
	enum err e;

	if (queue_is_better(f))
		set_state(f, FAILOVER_QUEUE, "database_down");
	if (f->state == FAILOVER_QUEUE) {
		e = through_queue(f, events, n, done, arg);
		if (e != ERR_UNAVAILABLE)
			return e;
		note_failure(f); /* nothing was sent: another way may be taken */
	}
	return f->direct ? f->direct->append(f->direct, events, n, done, arg) : ERR_UNAVAILABLE;
}

static unsigned sink_retry_after(const struct event_sink *s)
{
	const struct failover *f = container_of(s, struct failover, sink);
	const struct event_sink *of = is_direct(f->state) ? f->direct : f->o.queue;

	return of ? of->retry_after(of) : 1;
}

/* ---- looking at the queue's server ---- */

static void on_probed(void *arg, enum err err)
{
	struct failover *f = arg;

	f->probing = false;
	if (f->stopped || !is_direct(f->state))
		return;
	if (err != ERR_OK) {
		if (f->state == FAILOVER_PROVING)
			set_state(f, FAILOVER_DIRECT, "probe");
		return;
	}
	if (f->state == FAILOVER_DIRECT)
		set_state(f, FAILOVER_PROVING, "probe");
	else if (loop_now(f->o.loop) - f->since >= FAILOVER_PROVE)
		set_state(f, FAILOVER_QUEUE, "recovered");
}

static void probe(struct failover *f)
{
	enum err e;

	if (f->probing)
		return;
	f->probing = true;
	e = f->o.probe(f->o.arg, on_probed, f);
	if (e != ERR_OK)
		on_probed(f, e);
}

/* The oldest write's time without an answer; writes of an earlier trust do not count. */
static usec_t silent_for(const struct failover *f, usec_t now)
{
	struct list_node *n = list_front(&f->writes);
	usec_t since = n ? container_of(n, struct write, node)->since : now;

	return now - (since > f->since ? since : f->since);
}

static void watch(struct failover *f)
{
	usec_t now = loop_now(f->o.loop);

	if (f->o.queue_up(f->o.arg))
		f->last_up = now;
	if (!f->direct)
		return;
	if (silent_for(f, now) >= FAILOVER_SILENCE)
		set_state(f, FAILOVER_DIRECT, "no_answer");
	else if (now - f->last_up >= FAILOVER_SILENCE)
		set_state(f, FAILOVER_DIRECT, "no_connection");
}

static void on_period(void *arg)
{
	struct failover *f = arg;

	if (queue_is_better(f))
		set_state(f, FAILOVER_QUEUE, "database_down");
	switch (f->state) {
	case FAILOVER_QUEUE:
		watch(f);
		break;
	case FAILOVER_DIRECT:
	case FAILOVER_PROVING:
		probe(f);
		break;
	case FAILOVER_ALONE:
		return;
	}
	loop_timer_set(&f->timer, FAILOVER_PERIOD);
}

/* ---- life ---- */

static void register_metrics(struct failover *f)
{
	struct metric_family *mode = metric_family(
	    f->o.metrics, &(struct metric_spec){.type = METRIC_GAUGE,
	                                        .name = "webhook_ingest_mode",
	                                        .help = "1 for the way that accepted events take: "
	                                                "the queue, or direct to the database.",
	                                        .labels = {"mode"}});

	f->in_queue = metric_of(mode, "queue", NULL, NULL);
	f->in_direct = metric_of(mode, "direct", NULL, NULL);
	f->changes = metric_family(
	    f->o.metrics, &(struct metric_spec){.type = METRIC_COUNTER,
	                                        .name = "webhook_ingest_mode_changes_total",
	                                        .help = "Changes of webhook_ingest_mode.",
	                                        .labels = {"mode", "reason"}});
}

enum err failover_new(const struct failover_options *o, struct failover **ret)
{
	struct failover *f = mem_zalloc(sizeof(*f));
	enum err e;

	if (!f)
		return ERR_NOMEM;
	f->o = *o;
	f->sink = (struct event_sink){sink_append, sink_retry_after};
	f->state = o->queue ? FAILOVER_QUEUE : FAILOVER_ALONE;
	f->since = f->mode_since = f->last_up = loop_now(o->loop);
	list_init(&f->writes);
	list_init(&f->spare);
	register_metrics(f);
	show_mode(f);
	e = loop_timer_init(&f->timer, o->loop, on_period, f);
	if (e != ERR_OK) {
		mem_free(f);
		return e;
	}
	*ret = f;
	return ERR_OK;
}

void failover_start(struct failover *f)
{
	f->last_up = loop_now(f->o.loop);
	loop_timer_set(&f->timer, 0);
}

void failover_stop(struct failover *f)
{
	f->stopped = true;
	loop_timer_stop(&f->timer);
}

void failover_set_direct(struct failover *f, struct event_sink *direct)
{
	f->direct = direct;
}

struct event_sink *failover_sink(struct failover *f)
{
	return &f->sink;
}

void failover_free(struct failover *f)
{
	struct list_node *n;

	if (!f)
		return;
	loop_timer_done(&f->timer);
	while ((n = list_pop_front(&f->spare)))
		mem_free(container_of(n, struct write, node));
	mem_free(f);
}
