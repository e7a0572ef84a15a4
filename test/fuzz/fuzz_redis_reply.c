/* What a server sends, in pieces, as replies, as the entries that the consumer reads from them (or
 * as the dead letters that foreign ones become), as pages of entries and as what it tells of its
 * settings. The first byte sizes the pieces. */
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weir/app/durability_rules.h"
#include "weir/io/redis.h"
#include "weir/io/redis_reader.h"
#include "weir/queue/stream_entry.h"
#include "weir/queue/stream_page.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile size_t sink;

/* Every byte that a slice claims must be there. */
static void touch(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		sink += (unsigned char)s.ptr[i];
}

static void touch_view(const struct event_view *v)
{
	const struct str all[] = {v->tool,         v->type,        v->id,   v->headers,
	                          v->content_type, v->traceparent, v->body, v->envelope};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		touch(all[i]);
	if (!str_is_utf8(v->tool) || memchr(v->tool.ptr, 0, v->tool.len))
		abort();
	if (v->received < 0 || v->received > EVENT_RECEIVED_MAX)
		abort();
	if (v->dedup_window < EVENT_DEDUP_NONE || v->dedup_window > EVENT_DEDUP_WINDOW_MAX)
		abort();
}

/* Its fields are JSON, and twice the same makes the same event. */
static void check_malformed(const struct redis_reply *r, struct stream_id id)
{
	struct event *e, *again;
	json_t *fields;

	if (stream_entry_make_malformed(r, id, &e) != ERR_OK ||
	    stream_entry_make_malformed(r, id, &again) != ERR_OK)
		abort();
	touch_view(&e->view);
	fields = json_loadb(e->view.body.ptr, e->view.body.len, JSON_ALLOW_NUL, NULL);
	if (!json_is_array(fields))
		abort();
	json_decref(fields);
	if (memcmp(&e->view.uid, &again->view.uid, sizeof(e->view.uid)) != 0 ||
	    !str_eq(e->view.body, again->view.body))
		abort();
	event_unref(e);
	event_unref(again);
}

static void check_page(const struct redis_reply *r)
{
	struct stream_page page;

	if (stream_page_read(r, &page) != ERR_OK)
		return;
	touch(page.cursor);
	sink += page.entries->count + page.deleted->count + page.often->count;
}

static void check_settings(const struct redis_reply *r)
{
	struct durability_finding f[DURABILITY_COUNT] = {{.value = ""}};
	struct buf text;

	durability_judge_redis(r, r->str, "it does not say", f);
	buf_init(&text, 1 << 16);
	for (int s = 0; s < DURABILITY_COUNT; s++)
		durability_print(&f[s], (enum durability_setting)s, &text);
	if (text.err != ERR_OK)
		abort();
	buf_done(&text);
}

static void walk(const struct redis_reply *r)
{
	struct event_view v;
	struct stream_id id;
	enum err e = stream_entry_read(r, &id, &v);

	touch(r->str);
	if (e == ERR_OK)
		touch_view(&v);
	if (e == ERR_INVAL)
		check_malformed(r, id);
	check_page(r);
	check_settings(r);
	for (size_t i = 0; i < r->count; i++)
		walk(r->items[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t piece = size ? data[0] + 1u : 1;
	const struct redis_reply *reply;
	struct redis_reader *r;
	enum err e = ERR_AGAIN;

	if (redis_reader_new(1 << 20, &r) != ERR_OK)
		return 0;
	for (size_t at = 1; at < size && e == ERR_AGAIN; at += piece) {
		e = redis_reader_feed(r, data + at, piece < size - at ? piece : size - at);
		if (e == ERR_OK)
			while ((e = redis_reader_next(r, &reply)) == ERR_OK)
				walk(reply);
	}
	redis_reader_free(r);
	return 0;
}
