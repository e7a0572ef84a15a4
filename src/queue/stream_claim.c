/* XAUTOCLAIM walks a group's pending entries with a cursor, some at a time. Held entries are
 * refreshed with XCLAIM … JUSTID, which resets their idle time and does not count as a delivery. */
#include "weir/queue/stream_claim.h"

#include <stdio.h>

#include "weir/base/mem.h"
#include "weir/base/rnd.h"
#include "weir/io/redis.h"
#include "weir/queue/stream_job.h"
#include "weir/queue/stream_names.h"
#include "weir/queue/stream_page.h"
#include "weir/queue/stream_intake.h"
#include "weir/run/log.h"
#include "weir/run/metric.h"

#define MIN_IDLE      (60 * USEC_PER_SEC)
#define PERIOD        (10 * USEC_PER_SEC)
#define CLAIM_COUNT   100
#define REFRESH_COUNT 1000
#define TIMEOUT       (5 * USEC_PER_SEC)
#define CURSOR_MAX    STREAM_ID_TEXT

struct stream_claim {
	struct stream_claim_options o;
	struct stream_job claim, refresh;
	enum stream_which stream; /* being walked */
	char cursor[CURSOR_MAX];
	char min_idle_ms[24], allowed[24];
	struct metric *claimed;
};

/* ---- what idle consumers left ---- */

static void walk(struct stream_claim *c)
{
	const struct stream_names *n = c->o.names;
	size_t room = stream_intake_room(c->o.intake),
	       most = room < CLAIM_COUNT ? room : CLAIM_COUNT;
	char count[24];
	struct str argv[] = {STR("EVAL"),
	                     str_of(stream_page_claim),
	                     STR("1"),
	                     n->keys[c->stream],
	                     n->group,
	                     n->consumer,
	                     str_of(c->min_idle_ms),
	                     str_of(c->cursor),
	                     STR_NONE,
	                     str_of(c->allowed)};

	if (!c->o.may_claim(c->o.arg) || room == 0)
		return;
	most = c->stream == STREAM_LARGE
	           ? 1
	           : stream_intake_fitting(c->o.intake, c->o.read_bytes, most);
	argv[8] = str_n(count, (size_t)snprintf(count, sizeof(count), "%zu", most));
	stream_job_ask(&c->claim, argv, 10);
}

/* The next entries of this stream, or the next stream, or the end of the walk. */
static void walk_on(struct stream_claim *c, struct str cursor)
{
	bool finished = cursor.len >= CURSOR_MAX || str_eq(cursor, STR("0-0"));

	if (finished && c->stream == STREAM_LARGE)
		return;
	if (finished)
		c->stream = STREAM_LARGE;
	snprintf(c->cursor, sizeof(c->cursor), "%.*s", finished ? 3 : (int)cursor.len,
	         finished ? "0-0" : cursor.ptr);
	walk(c);
}

static void on_claimed(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_claim *c = arg;
	struct stream_page page;
	size_t n;

	if (err != ERR_OK || stream_page_read(reply, &page) != ERR_OK)
		return;
	n = page.entries->count + page.often->count;
	if (n) {
		metric_add(c->claimed, (double)n);
		log_info(LOG_QUEUE, "claimed what an idle consumer left", LOG_INT("entries", n));
	}
	if (stream_page_take(&page, c->stream, c->o.intake, c->o.alone) == ERR_OK)
		walk_on(c, page.cursor);
}

static void on_claim(void *arg)
{
	struct stream_claim *c = arg;

	c->stream = STREAM_MAIN;
	snprintf(c->cursor, sizeof(c->cursor), "0-0");
	walk(c);
}

/* ---- refreshing what we hold ---- */

static void on_refreshed(void *arg, enum err err, const struct redis_reply *reply)
{
	(void)arg;
	(void)err;
	(void)reply;
}

struct refresh {
	char texts[REFRESH_COUNT][STREAM_ID_TEXT];
	struct str argv[REFRESH_COUNT + 8];
	size_t count;
	bool let_go; /* they are to look as if they had been idle for long */
};

static void refresh_send(struct stream_claim *c, struct refresh *f, enum stream_which stream)
{
	const struct stream_names *n = c->o.names;

	if (!f->count)
		return;
	f->argv[0] = STR("XCLAIM");
	f->argv[1] = n->keys[stream];
	f->argv[2] = n->group;
	f->argv[3] = n->consumer;
	f->argv[4] = STR("0");
	if (f->let_go) {
		f->argv[5 + f->count++] = STR("IDLE");
		f->argv[5 + f->count++] = str_of(c->min_idle_ms);
	}
	f->argv[5 + f->count] = STR("JUSTID");
	stream_job_ask(&c->refresh, f->argv, f->count + 6);
	f->count = 0;
}

static void refresh_stream(struct stream_claim *c, struct refresh *f, enum stream_which stream)
{
	struct held h;
	size_t pos = 0;

	f->count = 0;
	while (held_set_next(stream_intake_held(c->o.intake), &pos, &h)) {
		if (h.stream != stream)
			continue;
		f->argv[5 + f->count] =
		    str_n(f->texts[f->count], stream_id_format(h.id, f->texts[f->count]));
		if (++f->count == REFRESH_COUNT)
			refresh_send(c, f, stream);
	}
	refresh_send(c, f, stream);
}

static void refresh_all(struct stream_claim *c, bool let_go)
{
	struct refresh *f;

	if (!stream_intake_held(c->o.intake)->count)
		return;
	f = mem_alloc(sizeof(*f));
	if (!f)
		return; /* a third of the time is gone, two are left */
	f->let_go = let_go;
	refresh_stream(c, f, STREAM_MAIN);
	refresh_stream(c, f, STREAM_LARGE);
	mem_free(f);
}

static void on_refresh(void *arg)
{
	refresh_all(arg, false);
}

/* ---- life ---- */

static enum err init_jobs(struct stream_claim *c)
{
	struct stream_job_options jo = {.loop = c->o.loop,
	                                .redis = c->o.redis,
	                                .what = "claiming idle entries",
	                                .period = c->o.period,
	                                .jitter = true,
	                                .timeout = TIMEOUT,
	                                .run = on_claim,
	                                .answer = on_claimed,
	                                .arg = c};
	enum err e = stream_job_init(&c->claim, &jo);

	jo.what = "refreshing held entries";
	jo.period = c->o.min_idle / 3;
	jo.jitter = false;
	jo.run = on_refresh;
	jo.answer = on_refreshed;
	return e == ERR_OK ? stream_job_init(&c->refresh, &jo) : e;
}

enum err stream_claim_new(const struct stream_claim_options *o, struct stream_claim **ret)
{
	struct stream_claim *c = mem_zalloc(sizeof(*c));
	enum err e;

	if (!c)
		return ERR_NOMEM;
	c->o = *o;
	c->o.min_idle = o->min_idle ? o->min_idle : MIN_IDLE;
	c->o.period = o->period ? o->period : PERIOD;
	snprintf(c->min_idle_ms, sizeof(c->min_idle_ms), "%lld",
	         (long long)(c->o.min_idle / USEC_PER_MSEC));
	snprintf(c->allowed, sizeof(c->allowed), "%u", o->max_deliveries);
	c->claimed = metric_plain(o->metrics, METRIC_COUNTER, "webhook_queue_claimed_total",
	                          "Entries taken over from idle consumers.");
	e = init_jobs(c);
	if (e != ERR_OK) {
		stream_claim_free(c);
		return e;
	}
	*ret = c;
	return ERR_OK;
}

void stream_claim_start(struct stream_claim *c)
{
	stream_job_start(&c->claim, (usec_t)rnd_below((uint64_t)c->o.period));
	stream_job_start(&c->refresh, c->o.min_idle / 3);
}

void stream_claim_stop(struct stream_claim *c)
{
	stream_job_stop(&c->claim);
}

void stream_claim_let_go(struct stream_claim *c)
{
	refresh_all(c, true);
}

void stream_claim_free(struct stream_claim *c)
{
	if (!c)
		return;
	stream_job_done(&c->claim);
	stream_job_done(&c->refresh);
	mem_free(c);
}
