/* The request as handlers see it. A ticket is one block: headers and head lie inside it unless they
 * are unusually large, so that a request costs no allocation but the body's, and with the pool not
 * even that. It outlives its connection: answering then is a no-op that is counted. */
#include "http_internal.h"

#include "weir/base/mem.h"
#include "weir/run/log.h"

#define BODY_FIRST_BYTES ((size_t)2048)
#define LARGE_BODY       ((size_t)64 * 1024)
#define ALONE_SHARE      8 /* others that take no more than this part of the bound do not count */
#define MEM_LARGE        4 /* eighths of all memory that may be in use besides */
#define MEM_SMALL        6

static struct http_ticket *take_spare(struct http_server *s)
{
	struct list_node *n = list_pop_front(&s->pool);
	struct http_ticket *t;

	if (n)
		return container_of(n, struct http_ticket, node);
	t = mem_alloc(sizeof(*t));
	if (t) {
		t->body = NULL;
		t->body_space = 0;
	}
	return t;
}

void http_ticket_destroy(struct http_ticket *t)
{
	mem_free(t->body);
	mem_free(t);
}

/* A slice of the head, moved to the ticket's copy. What lies elsewhere (a literal) stays. */
static struct str moved(struct str s, const char *from, size_t len, const char *to)
{
	if (s.ptr >= from && s.ptr <= from + len)
		s.ptr = to + (s.ptr - from);
	return s;
}

static void set_request_id(struct http_ticket *t, struct http_server *s)
{
	struct str id;
	struct uuid u;

	if (http_ticket_header(t, STR("X-Request-Id"), &id) > 0 && http_gate_request_id_ok(id)) {
		t->request_id = id;
		return;
	}
	uuid_make(loop_wall(s->loop), &u);
	uuid_format(&u, t->made_id);
	t->request_id = str_n(t->made_id, UUID_TEXT_LEN);
}

/* Where headers and bytes go: inside the ticket, or into one more block. */
static bool place_head(struct http_ticket *t, const struct http_gate_head *h, char **ret_bytes)
{
	size_t table = h->field_count * sizeof(struct http_header);
	size_t bytes = h->len + (h->path_escaped ? h->path.len : 0);

	t->block = NULL;
	t->headers = t->fields;
	*ret_bytes = t->bytes;
	if (h->field_count <= HTTP_TICKET_FIELDS && bytes <= HTTP_TICKET_BYTES)
		return true;
	t->block = mem_alloc(table + bytes);
	t->headers = (struct http_header *)(void *)t->block;
	*ret_bytes = t->block + table;
	return t->block != NULL;
}

static void copy_head(struct http_ticket *t, const char *from, const struct http_gate_head *h,
                      char *to)
{
	memcpy(to, from, h->len);
	t->header_count = h->field_count;
	for (size_t i = 0; i < h->field_count; i++) {
		t->headers[i].name = moved(h->fields[i].name, from, h->len, to);
		t->headers[i].value = moved(h->fields[i].value, from, h->len, to);
	}
	t->method = http_gate_method(h->method);
	t->method_text = moved(h->method, from, h->len, to);
	t->target = moved(h->target, from, h->len, to);
	t->query = moved(h->query, from, h->len, to);
	t->path = moved(h->path, from, h->len, to);
	if (h->path_escaped)
		t->path = str_n(to + h->len, http_gate_unescape(h->path, to + h->len));
}

struct http_ticket *http_ticket_new(struct http_conn *c, const char *bytes,
                                    const struct http_gate_head *h)
{
	struct http_server *s = c->server;
	struct http_ticket *t = take_spare(s);
	char *to;

	if (!t)
		return NULL;
	if (!place_head(t, h, &to)) {
		http_ticket_destroy(t);
		return NULL;
	}
	copy_head(t, bytes, h, to);
	t->server = s;
	t->conn = c;
	t->refs = 1;
	t->answered = t->client_gone = false;
	t->received = loop_wall(s->loop);
	t->max_body = s->opt.max_body;
	t->user = NULL;
	t->share = NULL;
	t->body_len = 0;
	s->body_bytes += t->body_space;
	t->peer_len = c->peer_len;
	memcpy(t->peer, c->peer, c->peer_len);
	set_request_id(t, s);
	list_push_back(&s->tickets, &t->node);
	return t;
}

static void count_body(struct http_ticket *t, size_t space)
{
	if (t->server)
		t->server->body_bytes += space - t->body_space;
	if (t->share)
		t->share->bytes += space - t->body_space;
	t->body_space = space;
}

/* No group holds more than what is still free: one alone takes half, two take a third each, and
 * whoever comes next finds as much. */
static bool leaves_room(const struct http_ticket *t, size_t more)
{
	const struct http_server *s = t->server;
	uint64_t total = s->opt.max_body_total, then = s->body_bytes + more;

	if (!t->share || !t->share->fair || t->share->bytes == t->body_space)
		return true;
	return then <= total && t->share->bytes + more <= total - then;
}

/* Large ones leave a part of it to the small. One alone passes whatever its size, or it never
 * would: sizes are bounded elsewhere. */
static bool may_grow(const struct http_ticket *t, size_t more)
{
	const struct http_server *s = t->server;
	uint64_t others = s->body_bytes - t->body_space, total = s->opt.max_body_total;
	bool large = t->body_space + more > LARGE_BODY;

	if (others <= total / ALONE_SHARE)
		return true;
	if (!leaves_room(t, more))
		return false;
	if (s->body_bytes + more > (large ? total - total / ALONE_SHARE : total))
		return false;
	/* While it grows there may be two of it. */
	return mem_fits(t->body_space + more, large ? MEM_LARGE : MEM_SMALL);
}

enum err http_ticket_body_reserve(struct http_ticket *t, size_t total, bool exact)
{
	size_t space = t->body_space;
	char *grown;

	if (total <= space)
		return ERR_OK;
	space = space < BODY_FIRST_BYTES / 2 ? BODY_FIRST_BYTES : space * 2;
	if (space < total || (exact && total > HTTP_TICKET_POOL_BODY))
		space = total;
	if (!may_grow(t, space - t->body_space))
		return ERR_FULL;
	grown = mem_realloc(t->body, space);
	if (!grown)
		return ERR_NOMEM;
	count_body(t, space);
	t->body = grown;
	return ERR_OK;
}

void http_ticket_drop_body(struct http_ticket *t)
{
	t->body_len = 0;
	if (t->body_space <= HTTP_TICKET_POOL_BODY)
		return;
	count_body(t, 0);
	mem_free(t->body);
	t->body = NULL;
}

void http_ticket_join(struct http_ticket *t, struct http_share *share)
{
	if (t->share)
		return;
	t->share = share;
	share->tickets++;
	share->bytes += t->body_space;
}

static void leave_share(struct http_ticket *t)
{
	if (!t->share)
		return;
	t->share->tickets--;
	t->share->bytes -= t->body_space;
	t->share = NULL;
}

static void ticket_free(struct http_ticket *t)
{
	struct http_server *s = t->server;

	leave_share(t);
	mem_free(t->block);
	t->block = NULL;
	if (!s) {
		http_ticket_destroy(t);
		return;
	}
	list_remove(&s->tickets, &t->node);
	s->body_bytes -= t->body_space;
	if (s->pool.count >= HTTP_TICKET_POOL) {
		http_ticket_destroy(t);
		return;
	}
	if (t->body_space > HTTP_TICKET_POOL_BODY) {
		mem_free(t->body);
		t->body = NULL;
		t->body_space = 0;
	}
	list_push_front(&s->pool, &t->node);
}

struct http_ticket *http_ticket_ref(struct http_ticket *t)
{
	t->refs++;
	return t;
}

void http_ticket_unref(struct http_ticket *t)
{
	if (t->refs > 1) {
		t->refs--;
		return;
	}
	if (!t->answered && t->conn) {
		log_error(LOG_HTTP, "a request was given up without an answer",
		          LOG_SLICE("path", t->path), LOG_SLICE("request_id", t->request_id));
		http_reply_problem(t, 500, "the request was not answered", 0, NULL);
	}
	ticket_free(t);
}

enum http_method http_ticket_method(const struct http_ticket *t)
{
	return t->method;
}

struct str http_ticket_method_text(const struct http_ticket *t)
{
	return t->method_text;
}

struct str http_ticket_path(const struct http_ticket *t)
{
	return t->path;
}

struct str http_ticket_target(const struct http_ticket *t)
{
	return t->target;
}

struct str http_ticket_query(const struct http_ticket *t)
{
	return t->query;
}

struct str http_ticket_body(const struct http_ticket *t)
{
	return str_n(t->body, t->body_len);
}

struct str http_ticket_peer(const struct http_ticket *t)
{
	return str_n(t->peer, t->peer_len);
}

struct str http_ticket_request_id(const struct http_ticket *t)
{
	return t->request_id;
}

usec_t http_ticket_received(const struct http_ticket *t)
{
	return t->received;
}

size_t http_ticket_header_count(const struct http_ticket *t)
{
	return t->header_count;
}

const struct http_header *http_ticket_headers(const struct http_ticket *t)
{
	return t->headers;
}

size_t http_ticket_header(const struct http_ticket *t, struct str name, struct str *ret_value)
{
	size_t found = 0;

	for (size_t i = 0; i < t->header_count; i++) {
		if (!str_ieq(t->headers[i].name, name))
			continue;
		if (found++ == 0)
			*ret_value = t->headers[i].value;
	}
	return found;
}

void http_ticket_limit_body(struct http_ticket *t, uint64_t max_body)
{
	if (max_body < t->max_body)
		t->max_body = max_body;
}

void http_ticket_set_user(struct http_ticket *t, void *user)
{
	t->user = user;
}

void *http_ticket_user(const struct http_ticket *t)
{
	return t->user;
}

bool http_ticket_answered(const struct http_ticket *t)
{
	return t->answered;
}

bool http_ticket_client_gone(const struct http_ticket *t)
{
	return t->client_gone;
}
