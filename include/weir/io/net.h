/* A non-blocking byte stream to one address: TCP, unix socket, or TLS over TCP. For protocols whose
 * parser is ours to feed. Whoever uses it has its own deadlines. */
#ifndef WEIR_IO_NET_H
#define WEIR_IO_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "weir/base/err.h"

struct loop;
struct net;
struct net_tls;
struct resolver_addr;

/* A TLS client context: TLS 1.2 at least, peer and host name are verified. `ca_file` "" or NULL
 * takes the system's store. */
enum err net_tls_new(const char *ca_file, struct net_tls **ret, struct err_info *info) MUST_CHECK;
void net_tls_free(struct net_tls *t);

enum net_event { NET_UP, NET_READABLE, NET_WRITABLE, NET_FAILED };
typedef void (*net_fn)(void *arg, enum net_event ev);

/* Starts to connect; events come from the loop. NET_UP once, then NET_READABLE whenever there may
 * be bytes, NET_WRITABLE while net_want_write() is on, or NET_FAILED (see net_error) at any time.
 * `tls` NULL: plain. `host` is the name that the certificate must bear; borrowed for the call. */
enum err net_connect(struct loop *l, const struct resolver_addr *addr, struct net_tls *tls,
                     const char *host, net_fn fn, void *arg, struct net **ret,
                     struct err_info *info) MUST_CHECK;
void net_free(struct net *n); /* may be called from the event function */

/* Bytes moved; 0: not now; -1: the stream is broken or at its end, see net_error. */
ssize_t net_read(struct net *n, void *p, size_t len);
ssize_t net_write(struct net *n, const void *p, size_t len);
void net_want_write(struct net *n, bool want);
const char *net_error(const struct net *n);

#endif
