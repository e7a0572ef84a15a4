/* Each check is the parser that the start itself uses, so the two cannot disagree. */
#include "weir/app/preflight.h"

#include <string.h>

#include "weir/app/connect.h"
#include "weir/app/endpoint.h"
#include "weir/io/http_server.h"
#include "weir/io/net.h"
#include "weir/io/pg.h"
#include "weir/run/conf.h"

static enum err prefixed(struct err_info *info, const char *setting, const char *value,
                         const struct err_info *why)
{
	return err_set(info, why->code, "%s=%s: %s", setting, value, why->text);
}

static bool everywhere(const char *host)
{
	return !*host || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

/* Listeners of one process on one address would take each other's requests (SO_REUSEPORT). */
static enum err check_apart(const struct endpoint *a, const struct endpoint *b,
                            struct err_info *info)
{
	if (a->port != b->port || a->port == 0)
		return ERR_OK;
	if (strcmp(a->host, b->host) != 0 && !everywhere(a->host) && !everywhere(b->host))
		return ERR_OK;
	return err_set(info, ERR_INVAL,
	               "PORT=%u: the health listener (HEALTH_ENDPOINT) has this port already; give "
	               "each its own",
	               a->port);
}

static enum err check_listeners(const struct conf *c, struct err_info *info)
{
	struct endpoint ingest, health;
	struct err_info why = {0};

	if (endpoint_ingest(c, &ingest) != ERR_OK)
		return err_set(info, ERR_INVAL, "HOST=%.60s…: too long for an address", c->host);
	if (endpoint_health(c, &health) != ERR_OK)
		return err_set(info, ERR_INVAL, "HEALTH_ENDPOINT=%.60s: not HOST:PORT",
		               c->health_endpoint);
	if (http_server_check(ingest.host, ingest.port, &why) != ERR_OK)
		return prefixed(info, "HOST", c->host, &why);
	if (http_server_check(health.host, health.port, &why) != ERR_OK)
		return c->health_server_port
		           ? prefixed(info, "HEALTH_SERVER_HOST", c->health_server_host, &why)
		           : prefixed(info, "HEALTH_ENDPOINT", c->health_endpoint, &why);
	return check_apart(&ingest, &health, info);
}

static enum err check_redis(const struct conf *c, struct err_info *info)
{
	struct net_tls *tls;
	struct err_info why = {0};

	if (!c->redis_tls_enabled)
		return ERR_OK;
	if (net_tls_new(c->redis_tls_ca_file, &tls, &why) != ERR_OK)
		return prefixed(info, "REDIS_TLS_CA_FILE", c->redis_tls_ca_file, &why);
	net_tls_free(tls);
	return ERR_OK;
}

static enum err check_postgres(const struct conf *c, struct err_info *info)
{
	struct pg_options o;
	struct err_info why = {0};
	const char *setting =
	    c->database_url[0] ? "DATABASE_URL" : "DATABASE_HOST, _PORT, _NAME, _USER, _SSL_MODE";

	connect_pg_options(c, &o);
	if (pg_options_check(&o, &why) == ERR_OK)
		return ERR_OK;
	return err_set(info, why.code, "%s: %s", setting, why.text);
}

enum err preflight(const struct conf *c, struct err_info *info)
{
	enum err e = ERR_OK;

	if (!(c->roles & (ROLE_INGEST | ROLE_WORKER)))
		return err_set(info, ERR_INVAL,
		               "ROLES: of these roles none has work in this version; name ingest, "
		               "worker or both");
	e = check_listeners(c, info);
	if (e == ERR_OK)
		e = check_redis(c, info);
	return e == ERR_OK ? check_postgres(c, info) : e;
}
