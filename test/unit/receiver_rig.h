/* The receiver between a ticket and a sink that are both made up: what a test of it stands on. To
 * be included by one file of a test. */
#ifndef WEIR_TEST_RECEIVER_RIG_H
#define WEIR_TEST_RECEIVER_RIG_H

#include "fake_ticket.h"
#include "torture.h"

#include "weir/base/buf.h"
#include "weir/model/event.h"
#include "weir/receive/receiver.h"
#include "weir/run/log.h"
#include "weir/run/metric.h"

#include <fcntl.h>
#include <unistd.h>

/* ---- the sink ---- */

struct fake_sink {
	struct event_sink sink;
	enum err refuse;
	size_t calls, n;
	char ids[256];
	struct uuid first;
	event_sink_done_fn done;
	void *arg;
};

static inline enum err fake_append(struct event_sink *s, const struct event_view *events, size_t n,
                                   event_sink_done_fn done, void *arg)
{
	struct fake_sink *f = (struct fake_sink *)s;

	f->calls++;
	if (f->refuse != ERR_OK)
		return f->refuse;
	f->n = n;
	f->ids[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		strncat(f->ids, events[i].id.ptr, events[i].id.len);
		strcat(f->ids, "|");
	}
	f->first = events[0].uid;
	f->done = done;
	f->arg = arg;
	return ERR_OK;
}

static inline unsigned fake_retry_after(const struct event_sink *s)
{
	(void)s;
	return 7;
}

/* ---- the scene ---- */

struct scene {
	struct tools *tools;
	struct fake_sink sink;
	struct metric_registry *registry;
	struct receiver *receiver;
};

static const struct tools *current_tools(void *arg)
{
	return ((struct scene *)arg)->tools;
}

static const char tools_text[] =
    "{\"tools\":[{\"id\":\"gh\",\"preset\":\"github\",\"secrets\":[\"old\",\"new\"]},"
    "{\"id\":\"open\",\"auth\":\"none\",\"max_body\":10,\"recipe\":{\"id\":\"json:id\","
    "\"type\":\"json:type\"}},"
    "{\"id\":\"big\",\"auth\":\"none\",\"max_body\":\"1GiB\",\"recipe\":{\"type\":\"json:t\"}},"
    "{\"id\":\"ses\",\"preset\":\"ses\",\"secrets\":[\"topic\"]},"
    "{\"id\":\"mg\",\"preset\":\"mailgun\",\"secrets\":[\"k\"]},"
    "{\"id\":\"list\",\"auth\":\"none\",\"recipe\":{\"split\":\"[]\",\"id\":\"json:id\"}},"
    "{\"id\":\"slow\",\"auth\":\"none\",\"rate\":\"30/m\",\"burst\":2,\"expect_every\":\"10m\"},"
    "{\"id\":\"slowgh\",\"preset\":\"github\",\"secrets\":[\"old\"],\"rate\":\"1/h\"},"
    "{\"id\":\"few\",\"auth\":\"none\",\"max_in_flight\":2},"
    "{\"id\":\"near\",\"auth\":\"none\",\"allow_from\":[\"198.51.100.0/24\",\"2001:db8::/32\"]},"
    "{\"id\":\"zip\",\"auth\":\"none\",\"gzip\":true},"
    "{\"id\":\"typed\",\"auth\":\"none\",\"content_types\":[\"application/*+json\",\"text/"
    "*\",\"application/json\"]}]}";

/* `loop`: large requests take several turns of it; NULL: there are none. */
static inline enum err scene_make_in(struct scene *s, struct loop *loop)
{
	struct receiver_options o = {.loop = loop,
	                             .tools = current_tools,
	                             .tools_arg = s,
	                             .sink = &s->sink.sink,
	                             .max_body = loop ? 16 << 20 : 1000,
	                             .trusted_proxies = "10.0.0.0/8"};
	enum err e;

	memset(s, 0, sizeof(*s));
	s->sink.sink = (struct event_sink){fake_append, fake_retry_after};
	e = tools_parse(str_of(tools_text), "f", &s->tools, NULL);
	if (e == ERR_OK)
		e = metric_registry_new(&s->registry);
	o.metrics = s->registry;
	return e == ERR_OK ? receiver_new(&o, &s->receiver) : e;
}

static inline enum err scene_make(struct scene *s)
{
	return scene_make_in(s, NULL);
}

static inline void scene_done(struct scene *s)
{
	receiver_free(s->receiver);
	metric_registry_free(s->registry);
	tools_unref(s->tools);
}

static struct scene scene;
static int null_fd; /* where the log goes */

static inline int setup(void **state)
{
	(void)state;
	return scene_make(&scene) == ERR_OK ? 0 : -1;
}

static inline int teardown(void **state)
{
	(void)state;
	assert_int_equal(receiver_in_flight(scene.receiver), 0);
	scene_done(&scene);
	return 0;
}

static inline void sink_done(enum err e)
{
	event_sink_done_fn done = scene.sink.done;

	assert_non_null(done);
	scene.sink.done = NULL;
	done(scene.sink.arg, e);
}

/* Does /metrics hold this line? */
static inline void counted(const char *line)
{
	struct buf out;

	buf_init(&out, 1 << 20);
	assert_int_equal(metric_render(scene.registry, &out), ERR_OK);
	if (!strstr(out.ptr, line))
		fail_msg("no %s in %s", line, out.ptr);
	buf_done(&out);
}

static inline void head_and_handle(struct http_ticket *t)
{
	receiver_head(scene.receiver, t);
	if (!t->answers)
		receiver_handle(scene.receiver, t);
}

/* ---- memory ---- */

static inline void scenario(const char *path, const char *body)
{
	struct scene s;
	struct http_ticket t;

	if (scene_make(&s) == ERR_OK) {
		for (int i = 0; i < 2; i++) {
			s.sink.done = NULL;
			ticket_init(&t, path, body);
			t.peer = "10.0.0.1";
			made_header(&t.made, "X-Forwarded-For", "198.51.100.7");
			receiver_head(s.receiver, &t);
			if (!t.answers)
				receiver_handle(s.receiver, &t);
			if (s.sink.done)
				s.sink.done(s.sink.arg, ERR_OK);
			assert_int_equal(t.answers, 1);
			assert_true(t.status == 200 || t.status == 503);
		}
	}
	scene_done(&s);
}

#endif
