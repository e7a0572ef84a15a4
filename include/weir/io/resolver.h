/* Names to addresses without blocking the loop (evdns: /etc/hosts and /etc/resolv.conf). */
#ifndef WEIR_IO_RESOLVER_H
#define WEIR_IO_RESOLVER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "weir/base/err.h"

struct loop;
struct resolver;
struct resolver_query;

struct resolver_addr {
	struct sockaddr_storage sa;
	socklen_t len;
};

/* `addrs` are borrowed for the call; n is 0 unless err is ERR_OK. */
typedef void (*resolver_fn)(void *arg, enum err err, const struct resolver_addr *addrs, size_t n);

enum err resolver_new(struct loop *l, struct resolver **ret) MUST_CHECK;
/* NULL is fine. Callbacks of open queries do not fire any more. Not from within a callback. */
void resolver_free(struct resolver *r);
/* Tests only: other files than /etc/hosts and /etc/resolv.conf; literals, or outlive `r`. */
void resolver_set_files(struct resolver *r, const char *hosts, const char *resolv_conf);

/* Completes exactly once, from the loop, within 10 s: ERR_NOTFOUND (no such name), ERR_TIMEOUT,
 * ERR_UNAVAILABLE (no name server answers properly). Literal addresses and names of the hosts file
 * need no server. */
enum err resolver_submit(struct resolver *r, const char *host, uint16_t port, resolver_fn cb,
                         void *arg, struct resolver_query **ret) MUST_CHECK;
/* After this the callback does not fire. Not for a query whose callback has fired. */
void resolver_cancel(struct resolver_query *q);

#endif
