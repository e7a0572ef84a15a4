/* Tokens first, then the path, then the method: who has no token learns nothing, not even what
 * paths there are. All that the head tells is refused at the head, before a body is read. */
#include <stdio.h>
#include <unistd.h>

#include "weir/app/admin_request.h"
#include "weir/app/tool_json.h"
#include "weir/base/digest.h"
#include "weir/base/mem.h"
#include "weir/run/conf.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#include "admin_priv.h"

#define PAGE_MAX   ((size_t)16 * 1024 * 1024)
#define PAGE_KEPT  ((size_t)256 * 1024)
#define SMALL_BODY 4096
#define JSON_TYPE  "application/json"

enum access { ACCESS_NONE, ACCESS_READ, ACCESS_CHANGE };

/* ---- answers ---- */

static void count(struct admin *a, struct http_ticket *t, int status)
{
	char text[12];

	snprintf(text, sizeof(text), "%d", status);
	metric_inc(metric_of(a->requests, http_method_name(http_ticket_method(t)), text, NULL));
}

void admin_reply_json(struct admin *a, struct http_ticket *t, int status, const char *etag)
{
	struct http_reply_header headers[] = {
	    {"Cache-Control", "no-store"}, {etag ? "ETag" : NULL, etag}, {NULL, NULL}};

	if (a->page.err != ERR_OK) {
		admin_problem(a, t, 503, "out of memory for this answer");
		return;
	}
	count(a, t, status);
	http_reply(t, status, JSON_TYPE, buf_str(&a->page), headers);
}

void admin_problem(struct admin *a, struct http_ticket *t, int status, const char *detail)
{
	count(a, t, status);
	http_reply_problem(t, status, detail, status == 503 ? 1 : 0, NULL);
}

static void problem_with(struct admin *a, struct http_ticket *t, int status, const char *detail,
                         const char *header, const char *value)
{
	struct http_reply_header more = {header, value};

	count(a, t, status);
	http_reply_problem(t, status, detail, 0, &more);
}

void admin_add_process(const struct admin *a, struct buf *out)
{
	char host[256] = "";

	if (gethostname(host, sizeof(host) - 1) != 0)
		host[0] = '\0';
	buf_add_cstr(out, ",\"process\":{\"host\":");
	buf_add_json(out, str_of(host));
	buf_addf(out, ",\"pid\":%ld", (long)getpid());
	tool_json_time(out, "started_at", a->started);
	buf_add_char(out, '}');
}

/* ---- who may ---- */

/* Hashes are compared, so neither length nor prefix of the token shows in the time. */
static bool is_token(struct str given, const char *token)
{
	uint8_t ours[DIGEST_MAX_LEN], theirs[DIGEST_MAX_LEN];
	struct str want = str_of(token);

	return digest_parts(DIGEST_SHA256, &given, 1, theirs) == ERR_OK &&
	       digest_parts(DIGEST_SHA256, &want, 1, ours) == ERR_OK &&
	       digest_equal(ours, theirs, digest_len(DIGEST_SHA256)) && want.len > 0;
}

static enum access access_of(const struct admin *a, struct http_ticket *t, bool *ret_given)
{
	struct str value = STR_NONE, token = STR_NONE;
	size_t n = http_ticket_header(t, STR("authorization"), &value);
	bool change, read;

	*ret_given = n > 0;
	if (n == 1)
		token = admin_read_bearer(value);
	if (!token.ptr)
		return ACCESS_NONE;
	change = is_token(token, a->o.conf->admin_token);
	read = is_token(token, a->o.conf->admin_read_token);
	return change ? ACCESS_CHANGE : read ? ACCESS_READ : ACCESS_NONE;
}

static bool is_read(const struct http_ticket *t)
{
	return http_ticket_method(t) == HTTP_GET || http_ticket_method(t) == HTTP_HEAD;
}

static bool authorize(struct admin *a, struct http_ticket *t)
{
	bool given;
	enum access have = access_of(a, t, &given);

	if (have == ACCESS_CHANGE || (have == ACCESS_READ && is_read(t)))
		return true;
	log_set_correlation(http_ticket_request_id(t));
	log_warn(LOG_HTTP, "admin request refused",
	         LOG_STR("reason", have == ACCESS_READ ? "read_token"
	                           : given             ? "wrong_token"
	                                               : "no_token"),
	         LOG_SLICE("method", http_ticket_method_text(t)),
	         LOG_SLICE("path", http_ticket_path(t)), LOG_SLICE("peer", http_ticket_peer(t)));
	log_set_correlation(STR_NONE);
	if (have == ACCESS_READ)
		problem_with(a, t, 403, "this token may only read", "WWW-Authenticate",
		             "Bearer realm=\"weir\", error=\"insufficient_scope\"");
	else
		problem_with(a, t, 401,
		             given ? "the token is wrong"
		                   : "a bearer token is needed (ADMIN_TOKEN or ADMIN_READ_TOKEN)",
		             "WWW-Authenticate",
		             given ? "Bearer realm=\"weir\", error=\"invalid_token\""
		                   : "Bearer realm=\"weir\"");
	return false;
}

/* ---- what there is ---- */

typedef void (*admin_fn)(struct admin *a, struct http_ticket *t, struct str rest);

struct admin_route {
	struct str path; /* ends with '/': a name follows */
	const char *allow;
	admin_fn get, put, del;
};

static void serve_openapi(struct admin *a, struct http_ticket *t, struct str rest)
{
	(void)rest;
	buf_add_cstr(&a->page, openapi_json);
	admin_reply_json(a, t, 200, NULL);
}

static const struct admin_route routes[] = {
    {{ADMIN_OPENAPI, sizeof(ADMIN_OPENAPI) - 1}, "GET, HEAD", serve_openapi, NULL, NULL},
    {{ADMIN_TOOLS, sizeof(ADMIN_TOOLS) - 1}, "GET, HEAD", admin_list_tools, NULL, NULL},
    {{ADMIN_TOOL, sizeof(ADMIN_TOOL) - 1},
     "GET, HEAD, PUT, DELETE",
     admin_get_tool,
     admin_put_tool,
     admin_delete_tool},
};

static const struct admin_route *find(struct str path, struct str *ret_rest)
{
	for (size_t i = 0; i < sizeof(routes) / sizeof(*routes); i++)
		if (admin_path_fits(path, routes[i].path, ret_rest))
			return &routes[i];
	return NULL;
}

static admin_fn method_of(const struct admin_route *r, enum http_method m)
{
	return m == HTTP_GET || m == HTTP_HEAD ? r->get
	       : m == HTTP_PUT                 ? r->put
	       : m == HTTP_DELETE              ? r->del
	                                       : NULL;
}

static bool is_json(struct http_ticket *t)
{
	struct str type = STR_NONE;

	return http_ticket_header(t, STR("content-type"), &type) == 1 && admin_is_json(type);
}

/* NULL: it was refused. */
static admin_fn admit(struct admin *a, struct http_ticket *t, struct str *ret_rest)
{
	enum http_method m = http_ticket_method(t);
	const struct admin_route *r;
	admin_fn fn;

	if (!authorize(a, t))
		return NULL;
	r = find(http_ticket_path(t), ret_rest);
	if (!r) {
		admin_problem(a, t, 404, "there is nothing at this path");
		return NULL;
	}
	fn = method_of(r, m);
	if (!fn && m == HTTP_METHOD_OTHER) {
		admin_problem(a, t, 501, "this method is not implemented");
	} else if (!fn) {
		problem_with(a, t, 405, "this path has no such method", "Allow", r->allow);
	} else if (m == HTTP_PUT && !is_json(t)) {
		admin_problem(a, t, 415, "the body must be application/json");
		return NULL;
	} else if (!is_read(t) && !admin_may_change(a, t, *ret_rest)) {
		return NULL;
	}
	return fn;
}

void admin_head(struct admin *a, struct http_ticket *t)
{
	struct str rest;

	if (admit(a, t, &rest))
		http_ticket_limit_body(t, http_ticket_method(t) == HTTP_PUT ? ADMIN_MAX_BODY
		                                                            : SMALL_BODY);
}

void admin_handle(struct admin *a, struct http_ticket *t)
{
	struct str rest;
	admin_fn fn = admit(a, t, &rest);

	if (!fn)
		return;
	if (a->page.space > PAGE_KEPT) {
		buf_done(&a->page);
		buf_init(&a->page, PAGE_MAX);
	}
	buf_reset(&a->page);
	fn(a, t, rest);
}

/* ---- life ---- */

enum err admin_new(const struct admin_options *o, struct admin **ret)
{
	struct admin *a = mem_zalloc(sizeof(*a));

	if (!a)
		return ERR_NOMEM;
	a->o = *o;
	a->started = loop_wall(o->loop);
	buf_init(&a->page, PAGE_MAX);
	a->requests =
	    metric_family(o->metrics, &(struct metric_spec){.type = METRIC_COUNTER,
	                                                    .name = "webhook_admin_requests_total",
	                                                    .help = "Requests to the admin API.",
	                                                    .labels = {"method", "status"}});
	*ret = a;
	return ERR_OK;
}

void admin_free(struct admin *a)
{
	if (!a)
		return;
	buf_done(&a->page);
	mem_free(a);
}
