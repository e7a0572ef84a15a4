/* Where the listeners are, as the settings say it. */
#ifndef WEIR_APP_ENDPOINT_H
#define WEIR_APP_ENDPOINT_H

#include <stdint.h>

#include "weir/base/err.h"

struct conf;

#define ENDPOINT_HOST_MAX 256

struct endpoint {
	char host[ENDPOINT_HOST_MAX]; /* "" : all addresses */
	uint16_t port;
};

enum err endpoint_ingest(const struct conf *c, struct endpoint *ret) MUST_CHECK;
/* HEALTH_SERVER_HOST/PORT when a port is given there, else HEALTH_ENDPOINT. */
enum err endpoint_health(const struct conf *c, struct endpoint *ret) MUST_CHECK;
enum err endpoint_admin(const struct conf *c, struct endpoint *ret) MUST_CHECK;
/* "http://HOST:PORT" as a client on this machine reaches it: wildcards become loopback. */
#define ENDPOINT_URL_MAX (ENDPOINT_HOST_MAX + 24)
void endpoint_url(const struct endpoint *e, char out[ENDPOINT_URL_MAX]);

#endif
