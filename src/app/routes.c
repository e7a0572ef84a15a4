/* Paths match exactly; 404 goes before 405; where GET is allowed, HEAD is. The table is small
 * enough to be walked. */
#include "weir/app/routes.h"

#include "weir/app/admin.h"
#include "weir/base/buf.h"
#include "weir/base/mem.h"
#include "weir/model/tool.h"
#include "weir/observe/health.h"
#include "weir/receive/receiver.h"
#include "weir/run/log.h"
#include "weir/run/metric.h"

#define MAX_PAGE       (8 * 1024 * 1024)
#define MAX_OTHER_BODY 65536 /* nothing but webhooks has a use for a body */
#define JSON_TYPE      "application/json"

struct routes {
	struct routes_options o;
	struct buf page;                /* reused for every page */
	struct metric_family *refusals; /* borrowed from the registry */
};

struct route {
	const char *path;
	unsigned listeners;
	void (*serve)(struct routes *r, struct http_ticket *t);
};

static void reply_page(struct routes *r, struct http_ticket *t, enum err e, int status,
                       const char *type)
{
	static const struct http_reply_header no_store[] = {{"Cache-Control", "no-store"},
	                                                    {NULL, NULL}};

	if (e != ERR_OK)
		http_reply_problem(t, 503, "out of memory for this page", 1, NULL);
	else
		http_reply(t, status, type, buf_str(&r->page), no_store);
}

static void serve_service(struct routes *r, struct http_ticket *t)
{
	reply_page(r, t, health_render_service(r->o.health, &r->page), 200, JSON_TYPE);
}

static void serve_health(struct routes *r, struct http_ticket *t)
{
	int status = 503;
	enum err e = health_render(r->o.health, &r->page, &status);

	reply_page(r, t, e, status, JSON_TYPE);
}

static void serve_ready(struct routes *r, struct http_ticket *t)
{
	int status = 503;
	enum err e = health_render_ready(r->o.health, &r->page, &status);

	reply_page(r, t, e, status, JSON_TYPE);
}

static void serve_live(struct routes *r, struct http_ticket *t)
{
	reply_page(r, t, buf_add_cstr(&r->page, "{\"status\":\"ok\"}"), 200, JSON_TYPE);
}

/* Whether one of the Accept header's media ranges is application/json by name. */
static bool wants_json(struct http_ticket *t)
{
	struct str query = http_ticket_query(t), accept = STR_NONE;

	while (query.ptr)
		if (str_eq(str_split(&query, '&'), STR("format=json")))
			return true;
	if (http_ticket_header(t, STR("accept"), &accept) == 0)
		return false;
	while (accept.ptr) {
		struct str range = str_split(&accept, ',');

		if (str_ieq(str_trim(str_split(&range, ';')), STR(JSON_TYPE)))
			return true;
	}
	return false;
}

static void serve_metrics(struct routes *r, struct http_ticket *t)
{
	if (wants_json(t))
		reply_page(r, t,
		           buf_add_cstr(&r->page,
		                        "{\"total_processing_count\":0,\"average_duration\":0,"
		                        "\"success_rate\":0,\"changes_detection_rate\":0,"
		                        "\"currently_processing\":false}"),
		           200, JSON_TYPE);
	else
		reply_page(r, t, metric_render(r->o.metrics, &r->page), 200, METRIC_CONTENT_TYPE);
}

#define BOTH (LISTENER_INGEST | LISTENER_HEALTH)

static const struct route table[] = {
    {"/", LISTENER_INGEST, serve_service}, {"/health", BOTH, serve_health},
    {"/health/live", BOTH, serve_live},    {"/health/ready", BOTH, serve_ready},
    {"/health/simple", BOTH, serve_live},  {"/metrics", BOTH, serve_metrics},
};

static const struct route *find(const struct routes *r, enum listener at, struct str path)
{
	unsigned mask = at;

	if (at == LISTENER_INGEST && r->o.webhooks_only)
		return NULL;
	if (at == LISTENER_HEALTH && r->o.health_serves_all)
		mask = BOTH;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		if ((table[i].listeners & mask) && str_eq(path, str_of(table[i].path)))
			return &table[i];
	return NULL;
}

static bool is_webhook(const struct routes_at *at, const struct http_ticket *t)
{
	return at->listener == LISTENER_INGEST && at->routes->o.receiver &&
	       str_starts(http_ticket_path(t), STR(RECEIVER_PREFIX));
}

void routes_on_head(void *arg, struct http_ticket *t)
{
	struct routes_at *at = arg;

	if (at->listener == LISTENER_ADMIN)
		admin_head(at->routes->o.admin, t);
	else if (is_webhook(at, t))
		receiver_head(at->routes->o.receiver, t);
	else
		http_ticket_limit_body(t, MAX_OTHER_BODY);
}

/* A provider that was given a wrong path would otherwise leave no trace here. */
static void refuse(struct routes *r, struct http_ticket *t, int status, const char *reason,
                   const char *detail, const struct http_reply_header *more)
{
	struct str path = http_ticket_path(t), method = http_ticket_method_text(t);

	metric_inc(metric_of(r->refusals, reason, NULL, NULL));
	log_set_correlation(http_ticket_request_id(t));
	log_info(LOG_HTTP, "request refused", LOG_STR("reason", reason), LOG_INT("status", status),
	         LOG_SLICE("method", str_n(method.ptr, method.len < 20 ? method.len : 20)),
	         LOG_SLICE("path", str_n(path.ptr, path.len < 200 ? path.len : 200)),
	         LOG_SLICE("peer", http_ticket_peer(t)));
	log_set_correlation(STR_NONE);
	http_reply_problem(t, status, detail, 0, more);
}

static void serve(struct routes_at *at, struct http_ticket *t)
{
	const struct route *route = find(at->routes, at->listener, http_ticket_path(t));
	enum http_method m = http_ticket_method(t);

	if (!route) {
		refuse(at->routes, t, 404, "not_found", "there is nothing at this path", NULL);
	} else if (m == HTTP_METHOD_OTHER) {
		refuse(at->routes, t, 501, "method", "this method is not implemented", NULL);
	} else if (m != HTTP_GET && m != HTTP_HEAD) {
		refuse(at->routes, t, 405, "method", "this path is read with GET",
		       &(struct http_reply_header){"Allow", "GET, HEAD"});
	} else {
		buf_reset(&at->routes->page);
		route->serve(at->routes, t);
	}
}

void routes_on_request(void *arg, struct http_ticket *t)
{
	struct routes_at *at = arg;

	if (at->listener == LISTENER_ADMIN)
		admin_handle(at->routes->o.admin, t);
	else if (is_webhook(at, t))
		receiver_handle(at->routes->o.receiver, t);
	else
		serve(at, t);
}

unsigned routes_retry_after(void *arg)
{
	struct routes_at *at = arg;

	return at->routes->o.receiver ? receiver_retry_after(at->routes->o.receiver) : 1;
}

static const char *refusal_name(enum http_refusal why)
{
	switch (why) {
	case HTTP_REFUSED_MALFORMED:
		return "malformed";
	case HTTP_REFUSED_TOO_LARGE:
		return "too_large";
	case HTTP_REFUSED_TIMEOUT:
		return "timeout";
	case HTTP_REFUSED_OVERLOAD:
		return "overload";
	case HTTP_REFUSED_CLIENT_GONE:
		return "client_gone";
	}
	return "?";
}

/* Cut: until the tool was looked up, anybody may write anything there. */
static struct str tool_of(struct str path)
{
	struct str asked = receiver_asked(path);

	return asked.len > TOOL_ID_MAX ? str_n(asked.ptr, TOOL_ID_MAX) : asked;
}

/* What an operator would change; "" where nothing can be set. */
static const char *setting_of(const struct http_refused *r)
{
	switch (r->status) {
	case 408:
		return "HEADER_TIMEOUT, BODY_TIMEOUT";
	case 413:
		if (!r->limit_lowered)
			return "MAX_BODY_SIZE";
		return tool_of(r->path).len ? "max_body" : "";
	case 503:
		return "MAX_CONNECTIONS, MAX_MEMORY";
	}
	return "";
}

static void log_refused(const struct http_refused *r, const char *reason)
{
	static struct log_site site = {.component = LOG_HTTP, .level = LOG_LEVEL_WARN};
	struct log_field fields[] = {LOG_STR("reason", reason),
	                             LOG_INT("status", r->status),
	                             LOG_STR("detail", r->detail),
	                             LOG_SLICE("peer", r->peer),
	                             {.kind = LOG_END},
	                             {.kind = LOG_END},
	                             {.kind = LOG_END},
	                             {.kind = LOG_END}};
	struct str tool = tool_of(r->path);
	const char *setting = setting_of(r);
	size_t n = 4;

	if (!log_enabled(site.component, site.level))
		return;
	if (tool.len)
		fields[n++] = LOG_SLICE("tool", tool);
	if (r->limit)
		fields[n++] = LOG_INT("limit", r->limit);
	if (*setting)
		fields[n++] = LOG_STR("setting", setting);
	log_write(&site, "request refused", fields);
}

void routes_on_refusal(void *arg, const struct http_refused *r)
{
	struct routes_at *at = arg;
	const char *reason = refusal_name(r->why);

	metric_inc(metric_of(at->routes->refusals, reason, NULL, NULL));
	if (at->listener == LISTENER_INGEST && at->routes->o.receiver &&
	    r->why != HTTP_REFUSED_CLIENT_GONE &&
	    (r->path.len == 0 || str_starts(r->path, STR(RECEIVER_PREFIX))))
		receiver_count_refusal(at->routes->o.receiver, r->why, r->path);
	log_set_correlation(r->request_id);
	if (!r->status)
		log_debug(LOG_HTTP, "client left", LOG_STR("detail", r->detail),
		          LOG_SLICE("peer", r->peer));
	else
		log_refused(r, reason);
	log_set_correlation(STR_NONE);
}

enum err routes_new(const struct routes_options *o, struct routes **ret)
{
	struct routes *r = mem_zalloc(sizeof(*r));

	if (!r)
		return ERR_NOMEM;
	r->o = *o;
	buf_init(&r->page, MAX_PAGE);
	r->refusals = metric_family(
	    o->metrics, &(struct metric_spec){
	                    .type = METRIC_COUNTER,
	                    .name = "webhook_http_refusals_total",
	                    .help = "Requests that the HTTP gate or the routes refused, or lost.",
	                    .labels = {"reason"},
	                });
	*ret = r;
	return ERR_OK;
}

void routes_free(struct routes *r)
{
	if (!r)
		return;
	buf_done(&r->page);
	mem_free(r);
}
