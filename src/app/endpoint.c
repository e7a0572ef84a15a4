/* Addresses from settings; the syntax was checked when the settings were read. */
#include "weir/app/endpoint.h"

#include <stdio.h>
#include <string.h>

#include "weir/base/str.h"
#include "weir/run/conf.h"

static enum err set(struct endpoint *ret, struct str host, int64_t port)
{
	struct endpoint e = {.port = (uint16_t)port};

	if (host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
		host = str_n(host.ptr + 1, host.len - 2);
	if (host.len >= sizeof(e.host))
		return ERR_INVAL;
	if (host.len)
		memcpy(e.host, host.ptr, host.len);
	*ret = e;
	return ERR_OK;
}

enum err endpoint_ingest(const struct conf *c, struct endpoint *ret)
{
	return set(ret, str_of(c->host), c->port);
}

static enum err set_pair(struct endpoint *ret, const char *pair)
{
	const char *colon = strrchr(pair, ':');
	int64_t port;

	if (!colon || str_to_int(str_of(colon + 1), 0, 65535, &port) != ERR_OK)
		return ERR_INVAL;
	return set(ret, str_n(pair, (size_t)(colon - pair)), port);
}

enum err endpoint_health(const struct conf *c, struct endpoint *ret)
{
	if (c->health_server_port)
		return set(ret, str_of(c->health_server_host), c->health_server_port);
	return set_pair(ret, c->health_endpoint);
}

enum err endpoint_admin(const struct conf *c, struct endpoint *ret)
{
	return set_pair(ret, c->admin_addr);
}

void endpoint_url(const struct endpoint *e, char out[ENDPOINT_URL_MAX])
{
	const char *host = e->host;

	if (!*host || strcmp(host, "0.0.0.0") == 0)
		host = "127.0.0.1";
	if (strcmp(host, "::") == 0)
		host = "::1";
	snprintf(out, ENDPOINT_URL_MAX, strchr(host, ':') ? "http://[%s]:%u" : "http://%s:%u", host,
	         (unsigned)e->port);
}
