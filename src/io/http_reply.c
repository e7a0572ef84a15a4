/* Answers. All of them are put together here, status line included, so that the gate's refusals and
 * the handlers' answers look alike and nothing in them depends on what a client sent. */
#include "http_internal.h"

#include "weir/run/log.h"

#define BODY_COPIED  ((size_t)4096) /* smaller bodies are written in one piece with the head */
#define PROBLEM_TYPE "application/problem+json"

static const char *const method_names[] = {
    [HTTP_GET] = "GET",     [HTTP_HEAD] = "HEAD",          [HTTP_POST] = "POST",
    [HTTP_PUT] = "PUT",     [HTTP_DELETE] = "DELETE",      [HTTP_OPTIONS] = "OPTIONS",
    [HTTP_PATCH] = "PATCH", [HTTP_METHOD_OTHER] = "OTHER",
};

const char *http_method_name(enum http_method m)
{
	return m <= HTTP_METHOD_OTHER ? method_names[m] : "?";
}

const char *http_status_text(int status)
{
	static const struct {
		int status;
		const char *text;
	} texts[] = {
	    {200, "OK"},
	    {202, "Accepted"},
	    {204, "No Content"},
	    {201, "Created"},
	    {301, "Moved Permanently"},
	    {302, "Found"},
	    {304, "Not Modified"},
	    {307, "Temporary Redirect"},
	    {400, "Bad Request"},
	    {401, "Unauthorized"},
	    {403, "Forbidden"},
	    {404, "Not Found"},
	    {405, "Method Not Allowed"},
	    {406, "Not Acceptable"},
	    {408, "Request Timeout"},
	    {409, "Conflict"},
	    {410, "Gone"},
	    {411, "Length Required"},
	    {412, "Precondition Failed"},
	    {413, "Content Too Large"},
	    {414, "URI Too Long"},
	    {415, "Unsupported Media Type"},
	    {417, "Expectation Failed"},
	    {422, "Unprocessable Content"},
	    {429, "Too Many Requests"},
	    {431, "Request Header Fields Too Large"},
	    {500, "Internal Server Error"},
	    {501, "Not Implemented"},
	    {502, "Bad Gateway"},
	    {503, "Service Unavailable"},
	    {504, "Gateway Timeout"},
	    {505, "HTTP Version Not Supported"},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (texts[i].status == status)
			return texts[i].text;
	return "Unknown";
}

struct answer {
	int status;
	const char *content_type; /* may be NULL */
	struct str body;
	const struct http_reply_header *headers; /* ends with a NULL name; may be NULL */
	struct str request_id;
	bool no_body; /* HEAD: the length is told, the body is not */
};

static bool is_bodyless(int status)
{
	return status == 204 || status == 304 || status < 200;
}

static void add_header(struct buf *out, const char *name, struct str value)
{
	buf_add_cstr(out, name);
	buf_add(out, ": ", 2);
	buf_add_str(out, value);
	buf_add(out, "\r\n", 2);
}

static void add_own_headers(struct buf *out, const struct http_reply_header *h)
{
	for (; h && h->name; h++) {
		if (http_gate_is_token(str_of(h->name)) && http_gate_is_value(str_of(h->value)))
			add_header(out, h->name, str_of(h->value));
		else
			log_error(LOG_HTTP, "a header of an answer is not sendable",
			          LOG_STR("name", h->name));
	}
}

static void format_head(struct buf *out, const struct answer *a, const struct http_conn *c)
{
	buf_reset(out);
	buf_add(out, "HTTP/1.1 ", 9);
	buf_add_int(out, a->status);
	buf_add_char(out, ' ');
	buf_add_cstr(out, http_status_text(a->status));
	buf_add(out, "\r\n", 2);
	if (a->content_type) /* with 204, too: there are senders who want to see one */
		add_header(out, "Content-Type", str_of(a->content_type));
	if (!is_bodyless(a->status)) {
		buf_add_cstr(out, "Content-Length: ");
		buf_add_int(out, (int64_t)a->body.len);
		buf_add(out, "\r\n", 2);
	}
	add_header(out, "X-Request-Id", a->request_id);
	add_own_headers(out, a->headers);
	if (!c->keep)
		add_header(out, "Connection", STR("close"));
	else if (c->http10)
		add_header(out, "Connection", STR("keep-alive"));
	buf_add(out, "\r\n", 2);
}

static void send_answer(struct http_conn *c, const struct answer *a)
{
	struct http_server *s = c->server;
	struct str body = a->no_body || is_bodyless(a->status) ? STR_NONE : a->body;

	/* Where the body was not read the next request cannot be found. */
	if (!c->whole || s->draining)
		c->keep = false;
	format_head(&s->out, a, c);
	if (body.len <= BODY_COPIED) {
		buf_add_str(&s->out, body);
		body = STR_NONE;
	}
	http_conn_detach_ticket(c, false);
	if (s->out.err != ERR_OK) {
		log_error(LOG_HTTP, "an answer could not be made", LOG_ERR(s->out.err));
		http_conn_close(c);
		return;
	}
	http_conn_send(c, buf_str(&s->out), body);
}

void http_reply(struct http_ticket *t, int status, const char *content_type, struct str body,
                const struct http_reply_header *headers)
{
	struct answer a = {.status = status,
	                   .content_type = content_type,
	                   .body = body,
	                   .headers = headers,
	                   .request_id = t->request_id,
	                   .no_body = t->method == HTTP_HEAD};

	if (t->answered) {
		log_error(LOG_HTTP, "a request was answered twice", LOG_INT("status", status),
		          LOG_SLICE("request_id", t->request_id));
		return;
	}
	t->answered = true;
	if (t->conn)
		send_answer(t->conn, &a);
	else if (t->server)
		t->server->late_replies++;
}

/* RFC 9457; without memory the answer goes out without a document. */
static struct str format_problem(struct buf *out, int status, const char *detail,
                                 struct str request_id)
{
	buf_reset(out);
	buf_add_cstr(out, "{\"type\":\"about:blank\",\"title\":");
	buf_add_json(out, str_of(http_status_text(status)));
	buf_addf(out, ",\"status\":%d,\"detail\":", status);
	buf_add_json(out, str_of(detail));
	buf_add_cstr(out, ",\"instance\":");
	buf_add_json(out, request_id);
	buf_add_cstr(out, "}\n");
	return out->err == ERR_OK ? buf_str(out) : STR_NONE;
}

/* Fills `h`, which has room for three. */
static void problem_headers(struct http_reply_header *h, char *seconds, size_t space,
                            unsigned retry_after, const struct http_reply_header *more)
{
	if (retry_after) {
		snprintf(seconds, space, "%u", retry_after);
		*h++ = (struct http_reply_header){"Retry-After", seconds};
	}
	if (more)
		*h++ = *more;
	*h = (struct http_reply_header){NULL, NULL};
}

void http_reply_problem(struct http_ticket *t, int status, const char *detail, unsigned retry_after,
                        const struct http_reply_header *more)
{
	struct http_reply_header headers[3];
	struct str body = STR_NONE;
	char seconds[16];

	problem_headers(headers, seconds, sizeof(seconds), retry_after, more);
	if (t->server)
		body = format_problem(&t->server->text, status, detail, t->request_id);
	http_reply(t, status, PROBLEM_TYPE, body, headers);
}

void http_conn_tell_refusal(struct http_conn *c, enum http_refusal why, int status,
                            const char *detail, struct str request_id)
{
	struct http_server *s = c->server;
	struct http_refused r = {.why = why,
	                         .status = status,
	                         .detail = detail,
	                         .peer = str_n(c->peer, c->peer_len),
	                         .request_id = request_id};

	if (c->ticket) {
		r.path = c->ticket->path;
		r.limit = status == 413 ? c->ticket->max_body : 0;
		r.limit_lowered = c->ticket->max_body < s->opt.max_body;
	}
	if (s->on_refusal)
		s->on_refusal(s->arg, &r);
}

void http_conn_refuse(struct http_conn *c, enum http_refusal why, int status, const char *detail,
                      unsigned retry_after)
{
	struct http_server *s = c->server;
	struct http_reply_header headers[3];
	char made_id[HTTP_REQUEST_ID_MAX], seconds[16];
	struct answer a = {.status = status, .content_type = PROBLEM_TYPE, .headers = headers};
	size_t id_len = UUID_TEXT_LEN;
	struct uuid u;

	if (c->ticket) {
		/* the ticket may go with the answer, its id has to stay until it is written */
		c->ticket->answered = true;
		a.no_body = c->ticket->method == HTTP_HEAD;
		id_len = c->ticket->request_id.len;
		memcpy(made_id, c->ticket->request_id.ptr, id_len);
	} else {
		uuid_make(loop_wall(s->loop), &u);
		uuid_format(&u, made_id);
	}
	a.request_id = str_n(made_id, id_len);
	http_conn_tell_refusal(c, why, status, detail, a.request_id);
	c->keep = false;
	c->client_end = false;
	problem_headers(headers, seconds, sizeof(seconds), retry_after, NULL);
	a.body = format_problem(&s->text, status, detail, a.request_id);
	send_answer(c, &a);
}
