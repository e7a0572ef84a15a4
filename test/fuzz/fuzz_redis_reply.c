/* What a server sends, in pieces, as replies and as the entries that the consumer reads from them.
 * The first byte sizes the pieces. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weir/io/redis.h"
#include "weir/io/redis_reader.h"
#include "weir/queue/stream_entry.h"

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

static void walk(const struct redis_reply *r)
{
	struct event_view v;
	struct stream_id id;

	touch(r->str);
	if (stream_entry_read(r, &id, &v) == ERR_OK)
		touch_view(&v);
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
