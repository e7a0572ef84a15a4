/* Settings to libpq's parameters. The connection string is taken apart here, for two reasons: a
 * host name must not reach libpq, which would resolve it and block the loop; and of several hosts
 * each gets a deadline of its own, which libpq's asynchronous interface does not give them. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "pg_priv.h"
#include "weir/base/buf.h"
#include "weir/base/mem.h"

void pg_reason(char out[PG_REASON_LEN], const char *message)
{
	size_t n = 0;

	for (const char *m = message ? message : ""; *m && n < PG_REASON_LEN - 1; m++) {
		bool blank = *m == '\n' || *m == '\t' || *m == ' ';

		if (!blank)
			out[n++] = *m;
		else if (n && out[n - 1] != ' ')
			out[n++] = ' ';
	}
	while (n && out[n - 1] == ' ')
		n--;
	out[n] = '\0';
}

static enum err add_pair(struct pg_conninfo *ci, const char *key, const char *value)
{
	struct pg_pair *p = &ci->pairs[ci->pair_count];

	if (!value || !*value)
		return ERR_OK;
	if (ci->pair_count == PG_MAX_PAIRS)
		return ERR_TOOBIG;
	p->key = mem_strdup(key);
	p->value = mem_strdup(value);
	ci->pair_count++; /* done() frees what there is of it */
	return p->key && p->value ? ERR_OK : ERR_NOMEM;
}

static const PQconninfoOption *option_of(const PQconninfoOption *opts, const char *key)
{
	for (; opts && opts->keyword; opts++)
		if (strcmp(opts->keyword, key) == 0)
			return opts;
	return NULL;
}

static const char *value_of(const PQconninfoOption *opts, const char *key)
{
	const PQconninfoOption *o = option_of(opts, key);

	return o && o->val ? o->val : "";
}

/* What weir prefers to libpq's own defaults, where neither the URL nor the environment says
 * otherwise. GSS would talk to a key server while the loop waits; a standby cannot store. */
static enum err add_defaults(struct pg_conninfo *ci, const PQconninfoOption *given,
                             const PQconninfoOption *env)
{
	static const char *const ours[][2] = {
	    {"gssencmode", "disable"}, {"target_session_attrs", "read-write"},
	    {"keepalives_idle", "30"}, {"keepalives_interval", "10"},
	    {"keepalives_count", "3"}, {"tcp_user_timeout", "30000"},
	    {"connect_timeout", "5"}, /* of blocking connections only */
	};

	for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++) {
		const PQconninfoOption *e = option_of(env, ours[i][0]);
		enum err err;

		if (*value_of(given, ours[i][0]) || (e && e->envvar && getenv(e->envvar)))
			continue;
		err = add_pair(ci, ours[i][0], ours[i][1]);
		if (err != ERR_OK)
			return err;
	}
	return ERR_OK;
}

static bool is_address(const char *name)
{
	unsigned char raw[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, name, raw) == 1 || inet_pton(AF_INET6, name, raw) == 1 ||
	       strchr(name, '%');
}

/* The i-th of a comma-separated list, as a copy. */
static char *nth_of(const char *list, size_t i)
{
	struct str rest = str_of(list), item = STR_NONE;

	for (size_t k = 0; k <= i && rest.ptr; k++)
		item = str_split(&rest, ',');
	return mem_dup(item.ptr ? item.ptr : "", item.len);
}

static size_t count_of(const char *list)
{
	size_t n = 1;

	for (; *list; list++)
		n += *list == ',';
	return n;
}

/* libpq finds a bad port only when it connects. */
static bool is_port(const char *port)
{
	int64_t n;

	return !*port || str_to_int(str_of(port), 1, 65535, &n) == ERR_OK;
}

static enum err add_hosts(struct pg_conninfo *ci, const char *host, const char *addr,
                          const char *port, struct err_info *info)
{
	size_t n = count_of(*addr ? addr : host), ports = count_of(port);

	if (n > PG_MAX_HOSTS)
		return err_set(info, ERR_INVAL, "at most %d database hosts", PG_MAX_HOSTS);
	if ((*addr && *host && count_of(host) != n) || (ports != 1 && ports != n))
		return err_set(info, ERR_INVAL,
		               "host, hostaddr and port of the database differ in number");
	for (size_t i = 0; i < n; i++) {
		struct pg_host *h = &ci->hosts[i];

		h->name = nth_of(host, i);
		h->addr = nth_of(addr, i);
		h->port = nth_of(port, ports == 1 ? 0 : i);
		ci->host_count++;
		if (!h->name || !h->addr || !h->port)
			return err_set(info, ERR_NOMEM, "out of memory");
		if (!is_port(h->port))
			return err_set(info, ERR_INVAL, "a port of the database is not 1 to 65535");
		h->unknown = !*h->addr && *h->name && *h->name != '/' && *h->name != '@' &&
		             !is_address(h->name);
	}
	return ERR_OK;
}

static enum err add_url(struct pg_conninfo *ci, const PQconninfoOption *given,
                        const PQconninfoOption *env, const struct pg_options *o,
                        struct err_info *info)
{
	const char *where[3] = {"host", "hostaddr", "port"};

	for (const PQconninfoOption *g = given; g->keyword; g++) {
		bool place = false;
		enum err err;

		for (size_t i = 0; i < 3; i++)
			place = place || strcmp(g->keyword, where[i]) == 0;
		if (place)
			continue;
		err = add_pair(ci, g->keyword, g->val);
		if (err != ERR_OK)
			return err_set(info, err, "out of memory");
	}
	if (add_pair(ci, "fallback_application_name", o->application_name) != ERR_OK)
		return err_set(info, ERR_NOMEM, "out of memory");
	for (size_t i = 0; i < 3; i++)
		where[i] = *value_of(given, where[i]) ? value_of(given, where[i])
		                                      : value_of(env, where[i]);
	return add_hosts(ci, where[0], where[1], where[2], info);
}

static enum err add_parts(struct pg_conninfo *ci, const PQconninfoOption *env,
                          const struct pg_options *o, struct err_info *info)
{
	const char *host = o->host && *o->host ? o->host : value_of(env, "host");
	const char *addr = o->host && *o->host ? "" : value_of(env, "hostaddr");
	struct buf port;
	enum err err;

	if (add_pair(ci, "dbname", o->dbname) != ERR_OK ||
	    add_pair(ci, "user", o->user) != ERR_OK ||
	    add_pair(ci, "password", o->password) != ERR_OK ||
	    add_pair(ci, "sslmode", o->sslmode) != ERR_OK ||
	    add_pair(ci, "application_name", o->application_name) != ERR_OK)
		return err_set(info, ERR_NOMEM, "out of memory");
	buf_init(&port, 32);
	if (o->port > 0)
		(void)buf_add_int(&port, o->port);
	else
		(void)buf_add_cstr(&port, value_of(env, "port"));
	err = port.err == ERR_OK ? add_hosts(ci, host, addr, port.ptr ? port.ptr : "", info)
	                         : err_set(info, ERR_NOMEM, "out of memory");
	buf_done(&port);
	return err;
}

enum err pg_conninfo_init(struct pg_conninfo *ci, const struct pg_options *o, struct err_info *info)
{
	PQconninfoOption *given = NULL, *env = PQconndefaults();
	enum err err = ERR_OK;

	memset(ci, 0, sizeof(*ci));
	if (!env)
		return err_set(info, ERR_NOMEM, "libpq's defaults cannot be read");
	if (o->url && *o->url) {
		/* libpq's message would quote the string, and with it perhaps the password. */
		given = PQconninfoParse(o->url, NULL);
		if (!given)
			err = err_set(info, ERR_INVAL,
			              "not a connection string; allowed is "
			              "postgres://user:password@host:port/dbname?option=value");
	}
	if (err == ERR_OK && add_pair(ci, "client_encoding", "UTF8") != ERR_OK)
		err = err_set(info, ERR_NOMEM, "out of memory");
	if (err == ERR_OK)
		err = given ? add_url(ci, given, env, o, info) : add_parts(ci, env, o, info);
	if (err == ERR_OK && add_defaults(ci, given, env) != ERR_OK)
		err = err_set(info, ERR_NOMEM, "out of memory");
	PQconninfoFree(given);
	PQconninfoFree(env);
	if (err != ERR_OK)
		pg_conninfo_done(ci);
	return err;
}

enum err pg_options_check(const struct pg_options *o, struct err_info *info)
{
	struct pg_conninfo ci;
	enum err e = pg_conninfo_init(&ci, o, info);

	if (e == ERR_OK)
		pg_conninfo_done(&ci);
	return e;
}

void pg_conninfo_params(const struct pg_conninfo *ci, const struct pg_host *h, const char *addr,
                        struct pg_params *ret)
{
	size_t n = 0;

	for (; n < ci->pair_count; n++) {
		ret->keys[n] = ci->pairs[n].key;
		ret->values[n] = ci->pairs[n].value;
	}
	ret->keys[n] = "host";
	ret->values[n++] = h->name;
	ret->keys[n] = "hostaddr";
	ret->values[n++] = *addr ? addr : h->addr;
	ret->keys[n] = "port";
	ret->values[n++] = h->port;
	ret->keys[n] = ret->values[n] = NULL;
}

void pg_conninfo_done(struct pg_conninfo *ci)
{
	for (size_t i = 0; i < ci->pair_count; i++) {
		char *value = ci->pairs[i].value;

		mem_free(ci->pairs[i].key);
		mem_wipe_free(value, value ? strlen(value) : 0);
	}
	for (size_t i = 0; i < ci->host_count; i++) {
		mem_free(ci->hosts[i].name);
		mem_free(ci->hosts[i].addr);
		mem_free(ci->hosts[i].port);
	}
	memset(ci, 0, sizeof(*ci));
}
