/* One place decides how settings become connections, so that serve, migrate and check-config agree.
 */
#include "weir/app/connect.h"

#include <stdlib.h>
#include <string.h>

#include "weir/run/conf.h"

#define MIN_OUTPUT ((size_t)64 << 20)
#define MIN_REPLY  ((size_t)256 << 20)

/* A body and its envelope, and what stands around them. */
static size_t entry_bytes(const struct conf *c)
{
	return 2 * (size_t)c->max_body_size + ((size_t)1 << 20);
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

void connect_pg_options(const struct conf *c, struct pg_options *ret)
{
	*ret = (struct pg_options){
	    .url = c->database_url,
	    .host = c->database_host,
	    .port = c->database_port,
	    .dbname = c->database_name,
	    .user = c->database_user,
	    .password = c->database_password,
	    .sslmode = c->database_ssl_mode,
	    .application_name = c->service_name,
	    .size = (size_t)c->webhook_max_workers,
	};
}

bool connect_names_database(const struct conf *c)
{
	const char *const named[] = {c->database_url,    c->database_host, c->database_name,
	                             c->database_user,   getenv("PGHOST"), getenv("PGDATABASE"),
	                             getenv("PGSERVICE")};

	for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++)
		if (named[i] && named[i][0])
			return true;
	return false;
}

bool connect_has_database(const struct conf *c)
{
	return connect_names_database(c) || (c->roles & ROLE_WORKER);
}

bool connect_wants_redis(const struct conf *c)
{
	return c->webhook_queue_enabled || strcmp(c->redis_addr, CONF_REDIS_ADDR_DEFAULT) != 0;
}

void connect_redis_options(const struct conf *c, const char *name, struct redis_options *ret)
{
	*ret = (struct redis_options){
	    .name = name,
	    .addr = c->redis_addr,
	    .username = c->redis_username,
	    .password = c->redis_password,
	    .db = c->redis_db,
	    .tls = c->redis_tls_enabled,
	    .tls_ca_file = c->redis_tls_ca_file,
	    /* The largest event must fit, or it could be sent but never read. */
	    .max_output = larger(MIN_OUTPUT, entry_bytes(c)),
	    .max_reply = larger(MIN_REPLY, entry_bytes(c)),
	};
}

enum err connect_pg_refusal(const struct pg_pool_stats *s, struct err_info *info)
{
	if (s->refusal == ERR_OK)
		return ERR_OK;
	return err_set(info, ERR_INVAL, "Postgres refuses us (see DATABASE_URL, or %s): %s",
	               s->refusal == ERR_NOTFOUND ? "DATABASE_NAME"
	                                          : "DATABASE_USER and DATABASE_PASSWORD",
	               s->last_error);
}

enum err connect_redis_refusal(const struct conf *c, const struct redis *r, struct err_info *info)
{
	enum err e = redis_connect_result(r);

	if (e != ERR_DENIED && e != ERR_NOTFOUND)
		return ERR_OK;
	return err_set(info, ERR_INVAL, "Redis (%s) refuses us (see %s): %s", c->redis_addr,
	               e == ERR_NOTFOUND ? "REDIS_DB" : "REDIS_USERNAME and REDIS_PASSWORD",
	               redis_last_error(r));
}
