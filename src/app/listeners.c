/* Each listener is the same HTTP server with another mask of the one route table. */
#include "weir/app/listeners.h"

#include "weir/app/adapter_metrics.h"
#include "weir/app/admin.h"
#include "weir/app/endpoint.h"
#include "weir/base/mem.h"
#include "weir/run/conf.h"

#define ADMIN_CONNECTIONS 64

struct listeners {
	struct listeners_options o;
	struct routes *routes; /* owned, like all below */
	struct admin *admin;   /* NULL: no token is set, like its server */
	struct routes_at at_ingest, at_health, at_admin;
	struct http_server *ingest; /* NULL without a receiver */
	struct http_server *health;
	struct http_server *admin_server;
};

static enum err open_one(struct listeners *l, const char *name, const struct endpoint *at,
                         struct routes_at *routes, struct http_server **ret, struct err_info *info)
{
	const struct conf *c = l->o.conf;
	bool admin = routes->listener == LISTENER_ADMIN;
	struct http_server_options o = {.name = name,
	                                .host = at->host,
	                                .port = at->port,
	                                .reuseport = true,
	                                .max_connections =
	                                    admin ? ADMIN_CONNECTIONS : l->o.max_connections,
	                                .max_body = admin ? ADMIN_MAX_BODY : c->max_body_size,
	                                .max_body_total = c->max_memory / 8 * 3,
	                                .retry_after = routes_retry_after,
	                                .header_timeout = c->header_timeout,
	                                .body_timeout = c->body_timeout,
	                                .idle_timeout = c->idle_timeout,
	                                .write_timeout = c->write_timeout};
	enum err e = http_server_new(l->o.loop, &o, routes_on_head, routes_on_request,
	                             routes_on_refusal, routes, ret, info);

	if (e == ERR_OK)
		adapter_metrics_add_http(l->o.adapters, name, *ret);
	return e;
}

/* Says which setting it was that gave a listener an address it cannot have. */
static enum err name_setting(struct err_info *info, enum err e, const char *setting)
{
	struct err_info why = *info;

	if (e == ERR_OK || !why.text[0])
		return e;
	return err_set(info, e, "%s: %.300s", setting, why.text);
}

static enum err make_routes(struct listeners *l)
{
	const struct conf *c = l->o.conf;
	struct admin_options a = {.conf = c,
	                          .loop = l->o.loop,
	                          .metrics = l->o.metrics,
	                          .store = l->o.store,
	                          .table = l->o.table,
	                          .receiver = l->o.receiver};
	struct routes_options o = {.metrics = l->o.metrics,
	                           .health = l->o.health,
	                           .receiver = l->o.receiver,
	                           .webhooks_only =
	                               c->ingest_endpoints == INGEST_ENDPOINTS_WEBHOOKS,
	                           .health_serves_all = c->health_server_port != 0};
	enum err e = ERR_OK;

	if (c->admin_token[0] || c->admin_read_token[0])
		e = admin_new(&a, &l->admin);
	o.admin = l->admin;
	return e == ERR_OK ? routes_new(&o, &l->routes) : e;
}

static enum err open_all(struct listeners *l, struct err_info *info)
{
	const struct conf *c = l->o.conf;
	struct endpoint ingest, health, admin;
	enum err e = ERR_OK;

	if (endpoint_ingest(c, &ingest) != ERR_OK || endpoint_health(c, &health) != ERR_OK ||
	    endpoint_admin(c, &admin) != ERR_OK)
		return err_set(info, ERR_INVAL,
		               "HOST, HEALTH_ENDPOINT or ADMIN_ADDR: too long for a host name");
	l->at_ingest = (struct routes_at){l->routes, LISTENER_INGEST};
	l->at_health = (struct routes_at){l->routes, LISTENER_HEALTH};
	l->at_admin = (struct routes_at){l->routes, LISTENER_ADMIN};
	if (l->o.receiver)
		e = name_setting(info,
		                 open_one(l, "ingest", &ingest, &l->at_ingest, &l->ingest, info),
		                 "HOST, PORT");
	if (e == ERR_OK)
		e = name_setting(
		    info, open_one(l, "health", &health, &l->at_health, &l->health, info),
		    c->health_server_port ? "HEALTH_SERVER_HOST, _PORT" : "HEALTH_ENDPOINT");
	if (e == ERR_OK && l->admin)
		e = name_setting(info,
		                 open_one(l, "admin", &admin, &l->at_admin, &l->admin_server, info),
		                 "ADMIN_ADDR");
	return e;
}

enum err listeners_new(const struct listeners_options *o, struct listeners **ret,
                       struct err_info *info)
{
	struct listeners *l = mem_zalloc(sizeof(*l));
	enum err e;

	if (!l)
		return ERR_NOMEM;
	l->o = *o;
	e = make_routes(l);
	if (e == ERR_OK)
		e = open_all(l, info);
	if (e != ERR_OK) {
		listeners_close(l);
		listeners_free(l);
		return e;
	}
	*ret = l;
	return ERR_OK;
}

void listeners_drain(struct listeners *l)
{
	if (l->ingest)
		http_server_drain(l->ingest);
	if (l->admin_server)
		http_server_drain(l->admin_server);
}

bool listeners_idle(const struct listeners *l)
{
	return (!l->ingest || http_server_idle(l->ingest)) &&
	       (!l->admin_server || http_server_idle(l->admin_server));
}

void listeners_close(struct listeners *l)
{
	if (!l)
		return;
	http_server_free(l->ingest);
	http_server_free(l->health);
	http_server_free(l->admin_server);
	l->ingest = l->health = l->admin_server = NULL;
}

void listeners_free(struct listeners *l)
{
	if (!l)
		return;
	routes_free(l->routes);
	admin_free(l->admin);
	mem_free(l);
}

uint16_t listeners_port(const struct listeners *l, enum listener which)
{
	const struct http_server *s = which == LISTENER_INGEST   ? l->ingest
	                              : which == LISTENER_HEALTH ? l->health
	                                                         : l->admin_server;

	return s ? http_server_port(s) : 0;
}

size_t listeners_active_requests(const struct listeners *l)
{
	struct http_server_stats s;

	if (!l->ingest)
		return 0;
	http_server_stats(l->ingest, &s);
	return s.active_requests;
}
