/* The pieces of an http or https URL that a client of a socket needs. */
#ifndef WEIR_IO_HTTP_URL_H
#define WEIR_IO_HTTP_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/err.h"

struct http_url {
	bool tls;
	bool has_userinfo;   /* it is in none of the pieces */
	char host[256];      /* for the resolver and for TLS: an IPv6 address without brackets */
	char authority[272]; /* for the Host header: HOST[:PORT] */
	char target[4096];   /* path and query */
	uint16_t port;
};

enum err http_url_parse(const char *text, struct http_url *ret, struct err_info *info) MUST_CHECK;
/* The same URL without userinfo, and the userinfo decoded; "" where there is none. The strings are
 * the caller's (mem_free). ERR_INVAL, also when there is no memory. */
enum err http_url_take_userinfo(const char *text, char **ret_url, char **ret_user,
                                char **ret_password, struct err_info *info) MUST_CHECK;

#endif
