/* Each check is the parser that the start itself uses, so the two cannot disagree. */
#include "weir/app/preflight.h"

#include <stdio.h>
#include <string.h>

#include "weir/app/connect.h"
#include "weir/app/endpoint.h"
#include "weir/base/ip.h"
#include "weir/io/clickhouse.h"
#include "weir/io/http_server.h"
#include "weir/io/net.h"
#include "weir/io/pg.h"
#include "weir/model/tool.h"
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

/* However they are written. */
static bool same_host(const char *a, const char *b)
{
	struct ip_addr x, y;

	a = http_server_address(a);
	b = http_server_address(b);
	if (ip_parse(str_of(a), &x) != ERR_OK || ip_parse(str_of(b), &y) != ERR_OK)
		return strcmp(a, b) == 0;
	return memcmp(&x, &y, sizeof(x)) == 0;
}

/* Listeners of one process on one address would take each other's requests (SO_REUSEPORT). */
static enum err check_apart(const struct endpoint *a, const struct endpoint *b, const char *setting,
                            const char *other, struct err_info *info)
{
	if (a->port != b->port || a->port == 0)
		return ERR_OK;
	if (!same_host(a->host, b->host) && !everywhere(a->host) && !everywhere(b->host))
		return ERR_OK;
	return err_set(info, ERR_INVAL, "%s=%u: the %s has this port already; give each its own",
	               setting, a->port, other);
}

static enum err check_ingest(const struct conf *c, struct err_info *info)
{
	struct endpoint at;
	struct err_info why = {0};

	if (endpoint_ingest(c, &at) != ERR_OK)
		return err_set(info, ERR_INVAL, "HOST=%.60s…: too long for an address", c->host);
	if (http_server_check(at.host, at.port, &why) != ERR_OK)
		return prefixed(info, "HOST", c->host, &why);
	return ERR_OK;
}

static enum err check_health(const struct conf *c, struct err_info *info)
{
	struct endpoint at, ingest;
	struct err_info why = {0};

	if (endpoint_health(c, &at) != ERR_OK)
		return err_set(info, ERR_INVAL, "HEALTH_ENDPOINT=%.60s: not HOST:PORT",
		               c->health_endpoint);
	if (http_server_check(at.host, at.port, &why) != ERR_OK)
		return c->health_server_port
		           ? prefixed(info, "HEALTH_SERVER_HOST", c->health_server_host, &why)
		           : prefixed(info, "HEALTH_ENDPOINT", c->health_endpoint, &why);
	if (endpoint_ingest(c, &ingest) != ERR_OK)
		return ERR_OK; /* which check_ingest says */
	return check_apart(&ingest, &at, "PORT",
	                   c->health_server_port ? "health listener (HEALTH_SERVER_PORT)"
	                                         : "health listener (HEALTH_ENDPOINT)",
	                   info);
}

static enum err check_admin(const struct conf *c, struct err_info *info)
{
	struct endpoint at, other;
	struct err_info why = {0};
	enum err e = ERR_OK;

	if (!c->admin_token[0] && !c->admin_read_token[0])
		return ERR_OK;
	if (strcmp(c->admin_token, c->admin_read_token) == 0)
		return err_set(info, ERR_INVAL,
		               "ADMIN_READ_TOKEN: is the same as ADMIN_TOKEN, so who may read may "
		               "change; give each its own");
	if (endpoint_admin(c, &at) != ERR_OK)
		return err_set(info, ERR_INVAL, "ADMIN_ADDR=%.60s: not HOST:PORT", c->admin_addr);
	if (http_server_check(at.host, at.port, &why) != ERR_OK)
		return prefixed(info, "ADMIN_ADDR", c->admin_addr, &why);
	if (endpoint_ingest(c, &other) == ERR_OK)
		e = check_apart(&at, &other, "ADMIN_ADDR", "ingest listener (HOST, PORT)", info);
	if (e == ERR_OK && endpoint_health(c, &other) == ERR_OK)
		e = check_apart(&at, &other, "ADMIN_ADDR", "health listener (HEALTH_ENDPOINT)",
		                info);
	return e;
}

static enum err check_roles(const struct conf *c, struct err_info *info)
{
	if (c->roles & (ROLE_INGEST | ROLE_WORKER))
		return ERR_OK;
	return err_set(info, ERR_INVAL,
	               "ROLES: of these roles none has work in this version; name ingest, worker "
	               "or both");
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

static enum err check_clickhouse(const struct conf *c, struct err_info *info)
{
	struct clickhouse_options o = {.url = c->clickhouse_url, .ca_file = c->clickhouse_ca_file};
	struct err_info why = {0};

	if (!c->clickhouse_url[0] || clickhouse_check(&o, &why) == ERR_OK)
		return ERR_OK;
	return err_set(info, why.code, "CLICKHOUSE_URL, CLICKHOUSE_CA_FILE: %s", why.text);
}

enum err preflight(const struct conf *c, struct err_sink *sink, struct err_info *info)
{
	static enum err (*const checks[])(const struct conf *c, struct err_info *info) = {
	    check_roles, check_ingest,   check_health,    check_admin,
	    check_redis, check_postgres, check_clickhouse};
	enum err e = ERR_OK;

	for (size_t i = 0; i < sizeof(checks) / sizeof(*checks) && e == ERR_OK; i++)
		e = err_sink_take(sink, checks[i](c, info), info);
	return e;
}

enum err preflight_tool(const struct conf *c, const char *label, const struct tool *t,
                        struct err_info *info)
{
	char line[24] = "";

	if (t->max_body <= c->max_body_size)
		return ERR_OK;
	if (t->max_body_line)
		snprintf(line, sizeof(line), ":%zu", t->max_body_line);
	return err_set(info, ERR_INVAL,
	               "%s%s: tool \"%s\": max_body: %llu bytes are over MAX_BODY_SIZE (%llu)",
	               label, line, t->id.ptr, (unsigned long long)t->max_body,
	               (unsigned long long)c->max_body_size);
}

enum err preflight_tools(const struct conf *c, const struct tools *t, struct err_sink *sink,
                         struct err_info *info)
{
	enum err e = ERR_OK;

	for (size_t i = 0; i < tools_count(t) && e == ERR_OK; i++) {
		e = preflight_tool(c, c->tools_file, tools_at(t, i), info);
		e = err_sink_take(sink, e, info);
	}
	return e;
}
