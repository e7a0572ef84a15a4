/* An entry that is none of ours (foreign, or of a newer version) must neither stop the queue nor
 * vanish: it becomes an event marked EVENT_MALFORMED whose body is its fields, and ends as a dead
 * letter. */
#include "weir/queue/stream_intake.h"

#include "weir/base/buf.h"
#include "weir/base/clock.h"
#include "weir/base/mem.h"
#include "weir/io/redis.h"
#include "weir/model/event.h"
#include "weir/model/tool.h"
#include "weir/queue/stream_acks.h"
#include "weir/queue/stream_park.h"
#include "weir/run/crash_point.h"
#include "weir/run/log.h"
#include "weir/run/metric.h"

#define FLAG_LARGE 1u /* in event->flags: of the large stream */

#define FORGOTTEN 256 /* a large entry is half forgotten after some 180 others */

struct stream_intake {
	struct event_source source;
	struct stream_intake_options o;
	struct held_set held;
	uint64_t done;
	size_t working;
	size_t entry_bytes;              /* of the main stream: the largest of late; 0: none yet */
	stream_intake_alone_fn on_alone; /* NULL: nobody */
	void *on_alone_arg;
	struct metric *taken, *lost, *malformed, *again;
};

static void settled(struct event_source *s, struct event *const *events,
                    const enum event_fate *fates, size_t n)
{
	struct stream_intake *k = container_of(s, struct stream_intake, source);

	for (size_t i = 0; i < n; i++) {
		struct stream_id id = {events[i]->token[0], events[i]->token[1]};
		enum stream_which stream =
		    events[i]->flags & FLAG_LARGE ? STREAM_LARGE : STREAM_MAIN;

		k->working--;
		k->done += fates[i] != EVENT_RETURNED;
		if (fates[i] == EVENT_RETURNED)
			held_set_remove(&k->held, id, (uint8_t)stream);
		else
			stream_acks_add(k->o.acks, id, stream); /* held until that is confirmed */
		if (events[i]->flags & EVENT_ALONE && k->on_alone)
			k->on_alone(k->on_alone_arg, id, stream, fates[i]);
	}
}

static void on_ack_released(void *arg, struct stream_id id, enum stream_which stream)
{
	struct stream_intake *k = arg;

	held_set_remove(&k->held, id, (uint8_t)stream);
}

static struct metric *counter(struct metric_registry *r, const char *name, const char *help)
{
	return metric_plain(r, METRIC_COUNTER, name, help);
}

enum err stream_intake_new(const struct stream_intake_options *o, struct stream_intake **ret)
{
	struct stream_intake *k = mem_zalloc(sizeof(*k));

	if (!k)
		return ERR_NOMEM;
	k->o = *o;
	k->source.settled = settled;
	held_set_init(&k->held);
	stream_acks_on_release(o->acks, on_ack_released, k);
	k->taken =
	    counter(o->metrics, "webhook_queue_taken_total", "Entries taken from the queue.");
	k->lost = counter(
	    o->metrics, "webhook_queue_lost_total",
	    "Entries that were deleted from the stream before they were done. Must stay 0.");
	k->malformed = counter(o->metrics, "webhook_queue_malformed_total",
	                       "Entries that were no event of weir's.");
	k->again = counter(o->metrics, "webhook_queue_held_again_total",
	                   "Entries that came again while they were held.");
	*ret = k;
	return ERR_OK;
}

void stream_intake_free(struct stream_intake *k)
{
	if (!k)
		return;
	stream_acks_on_release(k->o.acks, NULL, NULL);
	held_set_done(&k->held);
	mem_free(k);
}

size_t stream_intake_room(const struct stream_intake *k)
{
	return k->o.may_take(k->o.arg) ? k->o.inlet->room(k->o.inlet) : 0;
}

static void note_size(struct stream_intake *k, size_t bytes)
{
	k->entry_bytes -= k->entry_bytes / FORGOTTEN;
	if (bytes > k->entry_bytes)
		k->entry_bytes = bytes;
}

size_t stream_intake_fitting(const struct stream_intake *k, size_t bytes, size_t most)
{
	size_t n = 2 * bytes / STREAM_ENTRY_LARGE;

	if (k->entry_bytes > 0 && bytes / k->entry_bytes < n)
		n = bytes / k->entry_bytes;
	n = n < most ? n : most;
	return n ? n : 1;
}

/* Makes the event and puts it in; the id is in the held set already. */
static enum err put(struct stream_intake *k, enum stream_which stream, struct stream_id id,
                    struct event *e)
{
	enum err err;

	e->source = &k->source;
	e->token[0] = id.ms;
	e->token[1] = id.seq;
	if (stream == STREAM_LARGE)
		e->flags |= FLAG_LARGE;
	else
		note_size(k, e->size);
	k->working++;
	err = k->o.inlet->put(k->o.inlet, e);
	if (err == ERR_OK) {
		metric_inc(k->taken);
	} else {
		k->working--;
		event_unref(e);
	}
	return err;
}

/* ERR_TOOL: without its tool it must not be stored, and that is not known here. */
static enum err make_known(struct stream_intake *k, const struct event_view *v, struct event **ret)
{
	bool needs = v->marks & EVENT_MARK_REPORTS;
	struct tool *tool = needs ? stream_park_tool(k->o.park, v->tool) : NULL;
	enum err e;

	if (needs && !tool && !(v->marks & EVENT_MARK_GIVEN_UP))
		return ERR_TOOL;
	e = event_make(v, ret);
	if (e != ERR_OK) {
		tool_unref(tool);
		return e;
	}
	(*ret)->tool = tool;
	if (needs && !tool)
		(*ret)->flags |= EVENT_GIVEN_UP;
	if (v->marks & EVENT_MARK_WAITED)
		(*ret)->flags |= EVENT_AGAIN;
	return ERR_OK;
}

static enum err make(struct stream_intake *k, const struct redis_reply *entry, struct stream_id id,
                     const struct event_view *v, enum err read, struct event **ret)
{
	enum err e;

	if (read == ERR_OK)
		return make_known(k, v, ret);
	metric_inc(k->malformed);
	log_error(LOG_QUEUE, "an entry is no event of ours; it becomes a dead letter",
	          LOG_INT("id_ms", id.ms), LOG_INT("id_seq", id.seq));
	e = stream_entry_make_malformed(entry, id, ret);
	if (e == ERR_OK)
		(*ret)->flags |= EVENT_MALFORMED;
	return e;
}

static enum err take_one(struct stream_intake *k, enum stream_which stream,
                         const struct redis_reply *entry, bool again)
{
	struct stream_id id;
	struct event_view v;
	struct event *event;
	enum err read = stream_entry_read(entry, &id, &v), e;

	if (read == ERR_PROTO)
		return ERR_OK; /* no id: nothing that could be acknowledged */
	if (read == ERR_NOTFOUND) {
		stream_intake_lost(k, stream, 1);
		stream_acks_add(k->o.acks, id, stream);
		return ERR_OK;
	}
	e = held_set_add(&k->held, id, (uint8_t)stream);
	if (e == ERR_CONFLICT) {
		metric_inc(k->again);
		return ERR_OK;
	}
	if (e != ERR_OK)
		return e;
	e = make(k, entry, id, &v, read, &event);
	if (e == ERR_OK && again)
		event->flags |= EVENT_AGAIN;
	if (e == ERR_OK)
		e = put(k, stream, id, event);
	if (e != ERR_OK)
		held_set_remove(&k->held, id, (uint8_t)stream);
	if (e != ERR_TOOL)
		return e;
	stream_intake_park(k, id, stream);
	return ERR_OK;
}

enum err stream_intake_take(struct stream_intake *k, enum stream_which stream,
                            const struct redis_reply *entries, bool again)
{
	enum err e = ERR_OK;

	if (entries->count > 0)
		CRASH_POINT("read");
	for (size_t i = 0; i < entries->count && e == ERR_OK; i++)
		e = take_one(k, stream, entries->items[i], again);
	return e;
}

enum err stream_intake_take_alone(struct stream_intake *k, enum stream_which stream,
                                  const struct redis_reply *entry, bool condemned,
                                  struct event **ret)
{
	struct stream_id id;
	struct event_view v;
	struct event *event;
	enum err read = stream_entry_read(entry, &id, &v), e;

	if (read == ERR_PROTO || read == ERR_NOTFOUND)
		return read;
	if (read == ERR_OK && condemned)
		v.marks = 0; /* nothing is done with it that needs its tool */
	e = make(k, entry, id, &v, read, &event);
	if (e != ERR_OK)
		return e;
	event->flags |= EVENT_ALONE | EVENT_AGAIN;
	if (condemned)
		event->flags |= EVENT_CONDEMNED;
	event_ref(event);
	e = put(k, stream, id, event);
	if (e == ERR_OK)
		*ret = event;
	else
		event_unref(event);
	return e;
}

void stream_intake_park(struct stream_intake *k, struct stream_id id, enum stream_which stream)
{
	stream_park_add(k->o.park, id, stream);
}

void stream_intake_on_alone(struct stream_intake *k, stream_intake_alone_fn fn, void *arg)
{
	k->on_alone = fn;
	k->on_alone_arg = arg;
}

enum err stream_intake_hold(struct stream_intake *k, struct stream_id id, enum stream_which stream)
{
	return held_set_add(&k->held, id, (uint8_t)stream);
}

void stream_intake_let_go(struct stream_intake *k, struct stream_id id, enum stream_which stream)
{
	held_set_remove(&k->held, id, (uint8_t)stream);
}

void stream_intake_lost(struct stream_intake *k, enum stream_which stream, size_t n)
{
	if (!n)
		return;
	metric_add(k->lost, (double)n);
	log_error(LOG_QUEUE, "entries were deleted from the stream before they were done",
	          LOG_INT("count", n),
	          LOG_STR("stream", stream == STREAM_LARGE ? "large" : "main"));
}

uint64_t stream_intake_done(const struct stream_intake *k)
{
	return k->done;
}

size_t stream_intake_working(const struct stream_intake *k)
{
	return k->working;
}

const struct held_set *stream_intake_held(const struct stream_intake *k)
{
	return &k->held;
}
