/* Requests in order: WAITING for one of max_active places, RESOLVING the host, TRANSFERRING, DONE
 * until the loop has called the completion. The deadline holds over all of it.
 *
 * libcurl could resolve names itself, by a thread; but a transfer that is given up meanwhile waits
 * for that thread, and the loop with it. So the names are ours: what the resolver found is given to
 * libcurl as the only addresses (CURLOPT_RESOLVE), and remembered for half a minute. */
#include "weir/io/http_client.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "http_client_priv.h"
#include "weir/base/mem.h"
#include "weir/io/resolver.h"
#include "weir/run/log.h"

#define DEFAULT_ACTIVE  64
#define DEFAULT_WAITING 1024
#define DEFAULT_CONNECT (5 * USEC_PER_SEC)
#define DEFAULT_TIMEOUT (30 * USEC_PER_SEC)
#define DEFAULT_ANSWER  ((size_t)1 << 20)
#define MAX_HEAD        ((size_t)64 << 10)
#define MAX_NAMES       1024
#define NAME_TTL        (30 * USEC_PER_SEC)

#define REQUEST_NAME(code, name) name,
static const char *const state_names[] = {REQUEST_STATES(REQUEST_NAME)};

/* Where a host was found. */
struct name {
	usec_t until; /* monotonic */
	char entry[]; /* HOST:PORT:ADDRESS,… */
};

void request_set_state(struct http_request *r, enum request_state to)
{
	log_debug(LOG_HTTP, "request", LOG_STR("host", r->parts.host),
	          LOG_STR("from", state_names[r->state]), LOG_STR("to", state_names[to]));
	r->state = to;
}

static struct list *list_of(struct http_request *r)
{
	struct http_client *c = r->client;

	switch (r->state) {
	case REQUEST_WAITING:
		return &c->waiting;
	case REQUEST_RESOLVING:
	case REQUEST_TRANSFERRING:
		return &c->active;
	case REQUEST_DONE:
		break;
	}
	return &c->done;
}

/* No completion, no more time; it is in no list afterwards. */
static void detach(struct http_request *r)
{
	list_remove(list_of(r), &r->node);
	loop_timer_stop(&r->deadline);
	if (r->query)
		resolver_cancel(r->query);
	r->query = NULL;
	transfer_end(r);
}

static void request_free(struct http_request *r)
{
	loop_timer_done(&r->deadline);
	buf_done(&r->answer);
	buf_done(&r->head);
	curl_slist_free_all(r->headers);
	curl_slist_free_all(r->addresses);
	mem_free(r->url);
	mem_free(r->method);
	mem_free(r);
}

void request_finish(struct http_request *r, enum err e, const char *text)
{
	struct http_client *c = r->client;

	detach(r);
	r->err = e;
	if (text)
		snprintf(r->text, sizeof(r->text), "%s", text);
	request_set_state(r, REQUEST_DONE);
	list_push_back(&c->done, &r->node);
	loop_defer(c->loop, &c->done_task);
}

/* ---- names ---- */

static void transfer(struct http_request *r)
{
	enum err e = transfer_start(r);

	if (e == ERR_OK)
		request_set_state(r, REQUEST_TRANSFERRING);
	else
		request_finish(r, e, err_meaning(e));
}

static void transfer_to(struct http_request *r, const char *entry)
{
	r->addresses = curl_slist_append(NULL, entry);
	if (r->addresses)
		transfer(r);
	else
		request_finish(r, ERR_NOMEM, err_meaning(ERR_NOMEM));
}

static bool is_literal(const char *host)
{
	unsigned char bytes[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

static void add_address(struct buf *b, const struct sockaddr_storage *sa)
{
	char text[INET6_ADDRSTRLEN];
	bool v6 = sa->ss_family == AF_INET6;
	const void *from = v6 ? (const void *)&((const struct sockaddr_in6 *)sa)->sin6_addr
	                      : (const void *)&((const struct sockaddr_in *)sa)->sin_addr;

	if (inet_ntop(sa->ss_family, from, text, sizeof(text)))
		buf_addf(b, v6 ? "[%s]" : "%s", text);
}

/* Not remembering is no failure. */
static void remember(struct http_client *c, const char *authority, const struct buf *entry)
{
	struct name *n;

	if (map_count(c->names) >= MAX_NAMES)
		return;
	n = mem_alloc(sizeof(*n) + entry->len + 1);
	if (!n)
		return;
	n->until = loop_now(c->loop) + NAME_TTL;
	memcpy(n->entry, entry->ptr, entry->len + 1);
	mem_free(map_remove(c->names, str_of(authority)));
	if (map_add(c->names, str_of(authority), n) != ERR_OK)
		mem_free(n);
}

static void on_resolved(void *arg, enum err err, const struct resolver_addr *addrs, size_t n)
{
	struct http_request *r = arg;
	struct buf entry;

	r->query = NULL;
	if (err != ERR_OK) {
		snprintf(r->text, sizeof(r->text), "%.100s: %s", r->parts.host,
		         err == ERR_NOTFOUND ? "no such host" : "the name servers do not answer");
		request_finish(r, err == ERR_NOMEM ? err : ERR_UNAVAILABLE, NULL);
		return;
	}
	buf_init(&entry, 4096);
	buf_addf(&entry, "%s:", r->parts.authority);
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			buf_add_char(&entry, ',');
		add_address(&entry, &addrs[i].sa);
	}
	if (entry.err == ERR_OK) {
		remember(r->client, r->parts.authority, &entry);
		transfer_to(r, entry.ptr);
	} else {
		request_finish(r, entry.err, err_meaning(entry.err));
	}
	buf_done(&entry);
}

static void resolve(struct http_request *r)
{
	struct http_client *c = r->client;
	struct name *n = map_get(c->names, str_of(r->parts.authority));
	enum err e;

	if (is_literal(r->parts.host)) {
		transfer(r);
		return;
	}
	if (n && n->until > loop_now(c->loop)) {
		transfer_to(r, n->entry);
		return;
	}
	if (n)
		mem_free(map_remove(c->names, str_of(r->parts.authority)));
	e = c->o.resolver ? resolver_submit(c->o.resolver, r->parts.host, r->parts.port,
	                                    on_resolved, r, &r->query)
	                  : ERR_INVAL;
	if (e != ERR_OK)
		request_finish(r, e, "the host's name cannot be resolved");
}

/* ---- the order of requests ---- */

static void pump(struct http_client *c)
{
	while (c->active.count < c->o.max_active && c->waiting.count > 0) {
		struct http_request *r =
		    container_of(list_pop_front(&c->waiting), struct http_request, node);

		request_set_state(r, REQUEST_RESOLVING);
		list_push_back(&c->active, &r->node);
		resolve(r);
	}
}

static void tell(struct http_request *r)
{
	struct http_response res = {.status = r->status,
	                            .body = buf_str(&r->answer),
	                            .headers = buf_str(&r->head),
	                            .text = r->err == ERR_OK ? "" : r->text};

	r->cb(r->arg, r->err, &res);
	request_free(r);
}

static void on_done(void *arg)
{
	struct http_client *c = arg;

	/* What these submit is told in a later turn. */
	for (size_t left = c->done.count; left > 0 && c->done.count > 0; left--)
		tell(container_of(list_pop_front(&c->done), struct http_request, node));
	if (c->done.count > 0)
		loop_defer(c->loop, &c->done_task);
	pump(c);
}

static void on_deadline(void *arg)
{
	struct http_request *r = arg;

	switch (r->state) {
	case REQUEST_WAITING:
		request_finish(r, ERR_UNAVAILABLE, "other requests took all the time there was");
		return;
	case REQUEST_RESOLVING:
		request_finish(r, ERR_UNAVAILABLE, "the host's name was not resolved in time");
		return;
	case REQUEST_TRANSFERRING:
		if (transfer_sent(r))
			request_finish(r, ERR_TIMEOUT, "not answered in time");
		else
			request_finish(r, ERR_UNAVAILABLE, "no connection in time");
		return;
	case REQUEST_DONE:
		return;
	}
}

static bool is_clean(const char *s)
{
	return !s[strcspn(s, "\r\n")];
}

static enum err add_header(struct http_request *r, const char *line)
{
	struct curl_slist *more = is_clean(line) ? curl_slist_append(r->headers, line) : NULL;

	if (!more)
		return is_clean(line) ? ERR_NOMEM : ERR_INVAL;
	r->headers = more;
	return ERR_OK;
}

/* libcurl waits for "100 Continue" unless told otherwise, and calls every body a form. */
static enum err add_headers(struct http_request *r, const char *const *lines)
{
	bool typed = false;
	enum err e = add_header(r, "Expect:");

	for (const char *const *h = lines; e == ERR_OK && h && *h; h++) {
		typed = typed || strncasecmp(*h, "Content-Type:", 13) == 0;
		e = add_header(r, *h);
	}
	return e == ERR_OK && !typed ? add_header(r, "Content-Type:") : e;
}

static enum err fill(struct http_request *r, const struct http_request_spec *s)
{
	struct err_info info;
	enum err e = ERR_INVAL;

	if (!*s->method || s->method[strspn(s->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")])
		return ERR_INVAL;
	if (!is_clean(s->url) || http_url_parse(s->url, &r->parts, &info) != ERR_OK ||
	    r->parts.has_userinfo)
		return ERR_INVAL;
	r->url = mem_strdup(s->url);
	r->method = mem_strdup(s->method);
	e = r->url && r->method ? add_headers(r, s->headers) : ERR_NOMEM;
	if (e == ERR_OK)
		e = loop_timer_init(&r->deadline, r->client->loop, on_deadline, r);
	return e;
}

enum err http_client_submit(struct http_client *c, const struct http_request_spec *spec,
                            http_response_fn cb, void *arg, struct http_request **ret)
{
	struct http_request *r;
	enum err e;

	if (c->active.count + c->waiting.count >= c->o.max_active + c->o.max_waiting)
		return ERR_FULL;
	r = mem_zalloc(sizeof(*r));
	if (!r)
		return ERR_NOMEM;
	r->client = c;
	r->cb = cb;
	r->arg = arg;
	r->body = spec->body;
	buf_init(&r->answer, spec->max_answer ? spec->max_answer : DEFAULT_ANSWER);
	buf_init(&r->head, MAX_HEAD);
	e = fill(r, spec);
	if (e != ERR_OK) {
		request_free(r);
		return e;
	}
	loop_timer_set(&r->deadline, spec->timeout ? spec->timeout : DEFAULT_TIMEOUT);
	list_push_back(&c->waiting, &r->node);
	if (ret)
		*ret = r;
	pump(c);
	return ERR_OK;
}

void http_request_cancel(struct http_request *r)
{
	struct http_client *c = r->client;

	detach(r);
	request_free(r);
	loop_defer(c->loop, &c->done_task); /* there may be a place now */
}

size_t http_client_active(const struct http_client *c)
{
	return c->active.count;
}

size_t http_client_waiting(const struct http_client *c)
{
	return c->waiting.count;
}

/* ---- life ---- */

/* A callback of libcurl had no memory; its requests would wait for their deadlines. */
static void on_starved(void *arg)
{
	struct http_client *c = arg;
	struct list_node *n = c->active.head.next;

	while (n != &c->active.head) {
		struct http_request *r = container_of(n, struct http_request, node);

		n = n->next;
		if (r->starved)
			request_finish(r, ERR_NOMEM, err_meaning(ERR_NOMEM));
	}
}

enum err http_client_new(struct loop *l, const struct http_client_options *o,
                         struct http_client **ret)
{
	struct http_client *c = mem_zalloc(sizeof(*c));
	enum err e = ERR_NOMEM;

	if (!c)
		return ERR_NOMEM;
	c->loop = l;
	c->o = *o;
	c->o.max_active = o->max_active ? o->max_active : DEFAULT_ACTIVE;
	c->o.max_waiting = o->max_waiting ? o->max_waiting : DEFAULT_WAITING;
	c->o.connect_timeout = o->connect_timeout ? o->connect_timeout : DEFAULT_CONNECT;
	list_init(&c->waiting);
	list_init(&c->active);
	list_init(&c->done);
	loop_task_init(&c->done_task, on_done, c);
	loop_task_init(&c->starved_task, on_starved, c);
	if (o->ca_file && *o->ca_file)
		c->ca_file = mem_strdup(o->ca_file);
	if ((!o->ca_file || !*o->ca_file || c->ca_file) && map_new(&c->names) == ERR_OK)
		e = transfer_init(c);
	if (e != ERR_OK) {
		http_client_free(c);
		return e;
	}
	*ret = c;
	return ERR_OK;
}

static void cancel_all(struct list *l)
{
	while (l->count > 0)
		request_finish(container_of(list_front(l), struct http_request, node),
		               ERR_CANCELLED, "the client was stopped");
}

void http_client_free(struct http_client *c)
{
	if (!c)
		return;
	c->o.max_active = c->o.max_waiting = 0; /* completions cannot submit */
	cancel_all(&c->active);
	cancel_all(&c->waiting);
	on_done(c);
	transfer_done(c);
	loop_cancel(c->loop, &c->done_task);
	loop_cancel(c->loop, &c->starved_task);
	map_free(c->names, mem_free);
	mem_free(c->ca_file);
	mem_free(c);
}

/* ---- reading answers ---- */

struct str http_response_header(const struct http_response *res, struct str name)
{
	struct str rest = res->headers;

	while (rest.len > 0) {
		struct str line = str_split(&rest, '\n'), value = line;
		struct str found = str_split(&value, ':');

		if (!value.ptr || !str_ieq(found, name))
			continue;
		if (value.len > 0 && value.ptr[value.len - 1] == '\r')
			value.len--;
		return str_trim(value);
	}
	return STR_NONE;
}

enum err err_of_http_status(int status)
{
	static const struct {
		int status;
		enum err err;
	} special[] = {{401, ERR_DENIED},   {403, ERR_DENIED},  {404, ERR_NOTFOUND},
	               {407, ERR_DENIED},   {408, ERR_TIMEOUT}, {409, ERR_CONFLICT},
	               {410, ERR_NOTFOUND}, {413, ERR_TOOBIG},  {414, ERR_TOOBIG},
	               {425, ERR_AGAIN},    {429, ERR_FULL},    {431, ERR_TOOBIG},
	               {504, ERR_TIMEOUT},  {507, ERR_FULL}};

	for (size_t i = 0; i < sizeof(special) / sizeof(*special); i++) {
		if (special[i].status == status)
			return special[i].err;
	}
	if (status >= 200 && status < 300)
		return ERR_OK;
	if (status >= 400 && status < 500)
		return ERR_INVAL;
	return status >= 500 && status < 600 ? ERR_UNAVAILABLE : ERR_PROTO;
}
