/* Tickets made up by a test: in place of those functions of io/http_server that the receive room
 * calls. To be included by one file of a test. */
#ifndef WEIR_TEST_FAKE_TICKET_H
#define WEIR_TEST_FAKE_TICKET_H

#include "recipe_util.h"

struct http_ticket {
	enum http_method method;
	struct made made;
	struct str path;
	uint64_t limit;
	unsigned refs;
	bool dropped; /* its body */
	bool gone;
	void *user;
	struct http_share *share;
	const char *peer; /* NULL: 192.0.2.1 */
	unsigned answers;
	int status;
	unsigned retry_after;
	char more[128], text[2048];
};

enum http_method http_ticket_method(const struct http_ticket *t)
{
	return t->method;
}

struct str http_ticket_method_text(const struct http_ticket *t)
{
	return t->made.req.method;
}

struct str http_ticket_path(const struct http_ticket *t)
{
	return t->path;
}

struct str http_ticket_target(const struct http_ticket *t)
{
	return t->path;
}

struct str http_ticket_query(const struct http_ticket *t)
{
	return t->made.req.query;
}

struct str http_ticket_body(const struct http_ticket *t)
{
	return t->made.req.body;
}

struct str http_ticket_peer(const struct http_ticket *t)
{
	return t->peer ? str_of(t->peer) : STR("192.0.2.1");
}

struct str http_ticket_request_id(const struct http_ticket *t)
{
	(void)t;
	return STR("req-1");
}

usec_t http_ticket_received(const struct http_ticket *t)
{
	return t->made.req.now;
}

size_t http_ticket_header_count(const struct http_ticket *t)
{
	return t->made.req.header_count;
}

const struct http_header *http_ticket_headers(const struct http_ticket *t)
{
	return t->made.headers;
}

size_t http_ticket_header(const struct http_ticket *t, struct str name, struct str *ret_value)
{
	size_t n = 0;

	for (size_t i = 0; i < t->made.req.header_count; i++)
		if (str_ieq(t->made.headers[i].name, name) && n++ == 0)
			*ret_value = t->made.headers[i].value;
	return n;
}

void http_ticket_limit_body(struct http_ticket *t, uint64_t max_body)
{
	t->limit = max_body;
}

void http_ticket_join(struct http_ticket *t, struct http_share *share)
{
	if (t->share)
		return;
	t->share = share;
	share->tickets++;
}

/* As the server does when a request ends. */
static inline void ticket_end(struct http_ticket *t)
{
	if (t->share)
		t->share->tickets--;
	t->share = NULL;
}

void http_ticket_set_user(struct http_ticket *t, void *user)
{
	t->user = user;
}

void *http_ticket_user(const struct http_ticket *t)
{
	return t->user;
}

struct http_ticket *http_ticket_ref(struct http_ticket *t)
{
	t->refs++;
	return t;
}

void http_ticket_unref(struct http_ticket *t)
{
	assert_true(t->refs > 0);
	t->refs--;
}

bool http_ticket_client_gone(const struct http_ticket *t)
{
	return t->gone;
}

void http_ticket_drop_body(struct http_ticket *t)
{
	t->dropped = true;
}

void http_reply(struct http_ticket *t, int status, const char *content_type, struct str body,
                const struct http_reply_header *headers)
{
	(void)headers;
	assert_string_equal(content_type, "application/json");
	t->answers++;
	t->status = status;
	snprintf(t->text, sizeof(t->text), "%.*s", (int)body.len, body.ptr);
}

void http_reply_problem(struct http_ticket *t, int status, const char *detail, unsigned retry_after,
                        const struct http_reply_header *more)
{
	t->answers++;
	t->status = status;
	t->retry_after = retry_after;
	snprintf(t->text, sizeof(t->text), "%s", detail);
	snprintf(t->more, sizeof(t->more), "%s%s%s", more ? more->name : "", more ? ": " : "",
	         more ? more->value : "");
}

static inline void ticket_init(struct http_ticket *t, const char *path, const char *body)
{
	memset(t, 0, sizeof(*t));
	made_init(&t->made, body);
	t->made.req.headers = t->made.headers;
	t->path = str_of(path);
	t->method = HTTP_POST;
}

#endif
