/* One-letter fields: an entry's names cost as much as its values otherwise. */
#include "weir/queue/stream_entry.h"

#include <stdio.h>

#include "weir/base/buf.h"
#include "weir/io/redis.h"

#define VERSION    "1"
#define DEDUP_NONE "none"
#define NUMBER_LEN 20 /* of 64 bits at most */

#define MALFORMED_MAX (8 * 1024 * 1024)

/* What Redis spends on an entry besides its bytes: lengths, the id, its share of the tree. */
#define ENTRY_OVERHEAD 96

static size_t add(struct str *argv, size_t n, const char *field, struct str value)
{
	argv[n++] = str_n(field, 1);
	argv[n++] = value;
	return n;
}

/* Empty where the default holds, or an id makes it meaningless. */
static struct str dedup_text(const struct event_view *v, struct stream_entry_scratch *s)
{
	int len;

	if (v->id.len || v->dedup_window == 0 || v->dedup_window == EVENT_DEDUP_WINDOW)
		return STR_NONE;
	if (v->dedup_window == EVENT_DEDUP_NONE)
		return STR(DEDUP_NONE);
	len = snprintf(s->window, sizeof(s->window), "%lld",
	               (long long)(v->dedup_window / USEC_PER_MSEC));
	return str_n(s->window, (size_t)len);
}

static enum err read_dedup(struct str s, usec_t *ret)
{
	int64_t msec;
	enum err e;

	if (str_eq(s, STR(DEDUP_NONE))) {
		*ret = EVENT_DEDUP_NONE;
		return ERR_OK;
	}
	e = str_to_int(s, 1, EVENT_DEDUP_WINDOW_MAX / USEC_PER_MSEC, &msec);
	if (e == ERR_OK)
		*ret = msec * USEC_PER_MSEC;
	return e;
}

/* Letters that we do not know are a newer weir's, and mean nothing here. */
static unsigned read_marks(struct str s)
{
	unsigned marks = 0;

	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] == 'r')
			marks |= EVENT_MARK_REPORTS;
		if (s.ptr[i] == 'x')
			marks |= EVENT_MARK_GIVEN_UP;
	}
	return marks & EVENT_MARK_REPORTS ? marks : 0;
}

/* By hand, since every event needs three of them. */
static char *put_number(char *at, uint64_t v)
{
	static const char pairs[] = "00010203040506070809"
	                            "10111213141516171819"
	                            "20212223242526272829"
	                            "30313233343536373839"
	                            "40414243444546474849"
	                            "50515253545556575859"
	                            "60616263646566676869"
	                            "70717273747576777879"
	                            "80818283848586878889"
	                            "90919293949596979899";
	char digits[NUMBER_LEN];
	size_t n = sizeof(digits);

	for (; v >= 10; v /= 100) {
		n -= 2;
		memcpy(digits + n, pairs + 2 * (v % 100), 2);
	}
	if (v > 0 || n == sizeof(digits))
		digits[--n] = (char)('0' + v);
	memcpy(at, digits + n, sizeof(digits) - n);
	return at + sizeof(digits) - n;
}

size_t stream_entry_argv(const struct event_view *v, struct str key, struct stream_entry_scratch *s,
                         struct str *argv)
{
	size_t n = 0;
	struct str dedup = dedup_text(v, s);
	char *end = put_number(s->received, (uint64_t)v->received);

	uuid_format(&v->uid, s->uid);
	argv[n++] = STR("XADD");
	argv[n++] = key;
	argv[n++] = STR("*");
	n = add(argv, n, "v", STR(VERSION));
	n = add(argv, n, "u", str_n(s->uid, UUID_TEXT_LEN));
	n = add(argv, n, "t", v->tool);
	n = add(argv, n, "y", v->type);
	n = add(argv, n, "r", str_n(s->received, (size_t)(end - s->received)));
	if (v->id.len)
		n = add(argv, n, "k", v->id);
	if (dedup.len)
		n = add(argv, n, "d", dedup);
	if (v->marks & EVENT_MARK_REPORTS)
		n = add(argv, n, "m", STR("r"));
	if (v->headers.len)
		n = add(argv, n, "h", v->headers);
	if (v->content_type.len)
		n = add(argv, n, "c", v->content_type);
	if (v->traceparent.len)
		n = add(argv, n, "p", v->traceparent);
	n = add(argv, n, "b", v->body);
	if (v->envelope.len)
		n = add(argv, n, "n", v->envelope);
	if (v->content.len)
		n = add(argv, n, "s", v->content);
	return n;
}

size_t stream_entry_bytes(const struct event_view *v)
{
	return ENTRY_OVERHEAD + v->tool.len + v->type.len + v->id.len + v->headers.len +
	       v->content_type.len + v->traceparent.len + v->body.len + v->envelope.len +
	       v->content.len;
}

static enum err take_half(struct str *s, uint64_t *ret)
{
	size_t before = s->len;

	if (str_take_number(s, ret) != ERR_OK || before - s->len > NUMBER_LEN)
		return ERR_INVAL;
	return ERR_OK;
}

enum err stream_id_parse(struct str s, struct stream_id *ret)
{
	struct stream_id id;

	if (take_half(&s, &id.ms) != ERR_OK || s.len == 0 || *s.ptr != '-')
		return ERR_INVAL;
	s = str_n(s.ptr + 1, s.len - 1);
	if (take_half(&s, &id.seq) != ERR_OK || s.len > 0)
		return ERR_INVAL;
	*ret = id;
	return ERR_OK;
}

size_t stream_id_format(struct stream_id id, char out[STREAM_ID_TEXT])
{
	char *at = put_number(out, id.ms);

	*at++ = '-';
	at = put_number(at, id.seq);
	*at = '\0';
	return (size_t)(at - out);
}

/* Which fields an entry must have. */
enum {
	SEEN_VERSION = 1,
	SEEN_UID = 2,
	SEEN_TOOL = 4,
	SEEN_TYPE = 8,
	SEEN_RECEIVED = 16,
	SEEN_BODY = 32,
	SEEN_ALL = 63
};

static enum err take_field(char field, struct str value, struct event_view *v, unsigned *seen)
{
	switch (field) {
	case 'v':
		*seen |= SEEN_VERSION;
		return str_eq(value, STR(VERSION)) ? ERR_OK : ERR_INVAL;
	case 'u':
		*seen |= SEEN_UID;
		return uuid_parse(value, &v->uid);
	case 't':
		*seen |= SEEN_TOOL;
		v->tool = value;
		break;
	case 'y':
		*seen |= SEEN_TYPE;
		v->type = value;
		break;
	case 'r':
		*seen |= SEEN_RECEIVED;
		return str_to_int(value, 0, EVENT_RECEIVED_MAX, &v->received);
	case 'k':
		v->id = value;
		break;
	case 'd':
		return read_dedup(value, &v->dedup_window);
	case 'm':
		v->marks = (v->marks & EVENT_MARK_WAITED) | read_marks(value);
		break;
	case 'w':
		v->marks |= EVENT_MARK_WAITED;
		break;
	case 'h':
		v->headers = value;
		break;
	case 'c':
		v->content_type = value;
		break;
	case 'p':
		v->traceparent = value;
		break;
	case 'b':
		*seen |= SEEN_BODY;
		v->body = value;
		break;
	case 'n':
		v->envelope = value;
		break;
	case 's':
		v->content = value;
		return value.len == EVENT_CONTENT_LEN ? ERR_OK : ERR_INVAL;
	default:
		break;
	}
	return ERR_OK;
}

/* What goes into text columns must be what Postgres takes: anybody may write to a stream. */
static bool storable(struct str s)
{
	return s.len <= EVENT_TEXT_MAX + 128 && str_is_text(s);
}

static bool plausible(const struct event_view *v)
{
	return storable(v->tool) && storable(v->type) && storable(v->id) &&
	       storable(v->content_type) && storable(v->traceparent) && v->tool.len > 0 &&
	       str_is_utf8(v->headers);
}

enum err stream_entry_read(const struct redis_reply *entry, struct stream_id *ret_id,
                           struct event_view *ret_view)
{
	struct event_view v = {.received = 0};
	const struct redis_reply *fields;
	unsigned seen = 0;

	if (entry->type != REDIS_ARRAY || entry->count != 2 ||
	    entry->items[0]->type != REDIS_STRING ||
	    stream_id_parse(entry->items[0]->str, ret_id) != ERR_OK)
		return ERR_PROTO;
	fields = entry->items[1];
	if (fields->type == REDIS_NIL)
		return ERR_NOTFOUND;
	if (fields->type != REDIS_ARRAY || fields->count % 2)
		return ERR_INVAL;
	for (size_t i = 0; i < fields->count; i += 2) {
		const struct redis_reply *name = fields->items[i], *value = fields->items[i + 1];

		if (name->type != REDIS_STRING || value->type != REDIS_STRING)
			return ERR_INVAL;
		if (name->str.len == 1 &&
		    take_field(name->str.ptr[0], value->str, &v, &seen) != ERR_OK)
			return ERR_INVAL;
	}
	if (seen != SEEN_ALL || !plausible(&v))
		return ERR_INVAL;
	*ret_view = v;
	return ERR_OK;
}

/* ---- what is no event of ours ---- */

/* ["field","value",…] whatever they are. */
static void dump_fields(const struct redis_reply *fields, struct buf *out)
{
	buf_add_char(out, '[');
	for (size_t i = 0; fields && i < fields->count; i++) {
		if (i)
			buf_add_char(out, ',');
		buf_add_json(out, fields->items[i]->str);
	}
	buf_add_char(out, ']');
}

enum err stream_entry_make_malformed(const struct redis_reply *entry, struct stream_id id,
                                     struct event **ret)
{
	char id_text[STREAM_ID_TEXT];
	struct event_view v = {.tool = STR("weir"),
	                       .type = STR("malformed_entry"),
	                       .content_type = STR("application/json")};
	struct buf body;
	enum err e;

	v.id = str_n(id_text, stream_id_format(id, id_text));
	/* Foreign ids may be as wide as 64 bits. */
	v.received = id.ms < EVENT_RECEIVED_MAX / USEC_PER_MSEC ? (usec_t)id.ms * USEC_PER_MSEC
	                                                        : EVENT_RECEIVED_MAX;
	/* The same entry gives the same uid, so that its dead letter is written once however often
	 * it comes. */
	uuid_of(id.ms, id.seq, &v.uid);
	buf_init(&body, MALFORMED_MAX);
	dump_fields(entry->items[1], &body);
	if (body.err == ERR_TOOBIG) {
		buf_reset(&body);
		buf_add_cstr(&body, "[\"(longer than 8 MiB)\"]");
	}
	e = body.err;
	v.body = buf_str(&body);
	if (e == ERR_OK)
		e = event_make(&v, ret);
	buf_done(&body);
	return e;
}
