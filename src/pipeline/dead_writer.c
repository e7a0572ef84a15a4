/* What killed the event may be one of its own texts, and then the dead letter cannot bear it
 * either. So there is a second form that any database takes: ASCII only, without headers. The body
 * is bytes and always whole.
 *
 * An event that is stored gets none: processes may have died behind its commit. */
#include "weir/pipeline/dead_writer.h"

#include <endian.h>

#include "weir/base/buf.h"
#include "weir/base/mem.h"
#include "weir/io/pg.h"
#include "weir/model/event.h"

#define MESSAGE_MAX ((size_t)2048)
/* Four escaped texts and the message, each byte as \xHH. */
#define TEXT_MAX ((5 * EVENT_TEXT_MAX + MESSAGE_MAX) * 4)

enum {
	DEAD_UID,
	DEAD_TOOL,
	DEAD_TYPE,
	DEAD_ID,
	DEAD_CLASS,
	DEAD_SQLSTATE,
	DEAD_MESSAGE,
	DEAD_ATTEMPTS,
	DEAD_RECEIVED,
	DEAD_HEADERS,
	DEAD_CONTENT_TYPE,
	DEAD_BODY,
	DEAD_ENVELOPE,
	DEAD_TRACEPARENT,
	DEAD_STAGE,
	DEAD_FIRST,
	DEAD_COUNT
};
static const struct pg_stmt dead_stmt = {
    .name = "weir_bury",
    .sql =
        "INSERT INTO weir.dead_letters (uid, tool, event_type, event_id, stage, error_class,"
        " sqlstate, message, attempts, received_at, headers, content_type, body, envelope,"
        " traceparent, first_at) SELECT $1, $2, $3, $4, $15, $5, $6, $7, $8, $9, $10, $11, $12,"
        " $13, $14, least($16, now()) WHERE NOT EXISTS (SELECT FROM weir.events e WHERE e.uid = $1)"
        " ON CONFLICT DO NOTHING",
    .param_count = DEAD_COUNT,
    .types = {PG_UUID, PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_INT4,
              PG_TIMESTAMPTZ, PG_JSON, PG_TEXT, PG_BYTEA, PG_BYTEA, PG_TEXT, PG_TEXT,
              PG_TIMESTAMPTZ},
};

struct dead_writer {
	struct pg_param params[DEAD_COUNT];
	struct pg_call call;
	struct buf text; /* what had to be escaped; params point into it */
	bool escape;
	uint64_t received; /* big endian, as are all here */
	uint64_t first;
	uint32_t attempts;
};

static struct pg_param text_param(struct str s)
{
	return (struct pg_param){s.len > 0 ? s.ptr : "", s.len};
}

static struct pg_param param_or_null(struct str s)
{
	return (struct pg_param){s.len > 0 ? s.ptr : NULL, s.len};
}

/* As printable ASCII; the buffer was reserved, so it does not move. */
static struct str escaped(struct dead_writer *w, struct str s, size_t max)
{
	size_t start = w->text.len;

	for (size_t i = 0; i < s.len && i < max; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c >= ' ' && c < 0x7f)
			(void)buf_add_char(&w->text, (char)c);
		else
			(void)buf_addf(&w->text, "\\x%02x", c);
	}
	return str_n(w->text.ptr + start, w->text.len - start);
}

static struct str clean(struct dead_writer *w, struct str s)
{
	return w->escape ? escaped(w, s, EVENT_TEXT_MAX) : s;
}

/* The server's text may quote the very bytes that it refused. */
static struct str clean_message(struct dead_writer *w, struct str s)
{
	if (s.len > MESSAGE_MAX || !str_is_utf8(s))
		return escaped(w, s, MESSAGE_MAX);
	return clean(w, s);
}

static void set_texts(struct dead_writer *w, const struct event_view *v,
                      const struct dead_reason *why)
{
	struct pg_param *p = w->params;

	p[DEAD_TOOL] = text_param(clean(w, v->tool));
	p[DEAD_TYPE] = text_param(clean(w, v->type));
	p[DEAD_ID] = text_param(clean(w, v->id));
	p[DEAD_CLASS] = text_param(str_of(err_name(why->err)));
	p[DEAD_SQLSTATE] = param_or_null(str_of(why->sqlstate));
	p[DEAD_MESSAGE] = text_param(clean_message(w, str_of(why->message)));
	p[DEAD_HEADERS] = w->escape ? (struct pg_param){NULL, 0} : param_or_null(v->headers);
	p[DEAD_CONTENT_TYPE] = param_or_null(clean(w, v->content_type));
	p[DEAD_TRACEPARENT] =
	    w->escape ? (struct pg_param){NULL, 0} : param_or_null(v->traceparent);
}

enum err dead_writer_prepare(struct dead_writer *w, const struct event *e,
                             const struct dead_reason *why)
{
	const struct event_view *v = &e->view;
	struct pg_param *p = w->params;

	buf_reset(&w->text);
	if (buf_reserve(&w->text, TEXT_MAX) != ERR_OK)
		return ERR_NOMEM;
	w->escape = why->escape;
	w->received = htobe64((uint64_t)(v->received - PG_EPOCH_USEC));
	w->first = htobe64((uint64_t)(e->first_failed - PG_EPOCH_USEC));
	w->attempts = htobe32(why->attempts);
	set_texts(w, v, why);
	p[DEAD_STAGE] = text_param(e->flags & (EVENT_MALFORMED | EVENT_CONDEMNED | EVENT_GIVEN_UP)
	                               ? STR("queue")
	                               : STR("store"));
	p[DEAD_UID] = (struct pg_param){v->uid.bytes, sizeof(v->uid.bytes)};
	p[DEAD_ATTEMPTS] = (struct pg_param){&w->attempts, sizeof(w->attempts)};
	p[DEAD_RECEIVED] = (struct pg_param){&w->received, sizeof(w->received)};
	if (e->first_failed)
		p[DEAD_FIRST] = (struct pg_param){&w->first, sizeof(w->first)};
	else
		p[DEAD_FIRST] = (struct pg_param){NULL, 0};
	p[DEAD_BODY] = text_param(v->body);
	p[DEAD_ENVELOPE] = param_or_null(v->envelope);
	w->call = (struct pg_call){&dead_stmt, p};
	return w->text.err;
}

const struct pg_call *dead_writer_call(const struct dead_writer *w)
{
	return &w->call;
}

enum err dead_writer_new(struct dead_writer **ret)
{
	struct dead_writer *w = mem_zalloc(sizeof(*w));

	if (!w)
		return ERR_NOMEM;
	buf_init(&w->text, TEXT_MAX);
	*ret = w;
	return ERR_OK;
}

void dead_writer_free(struct dead_writer *w)
{
	if (!w)
		return;
	buf_done(&w->text);
	mem_free(w);
}
