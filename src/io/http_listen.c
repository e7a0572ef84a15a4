/* Address to listening socket. Numeric addresses only: a name could resolve to anything, block, or
 * change. evhtp's own bind is not used: it takes "localhost" for 255.255.255.255 and knows no
 * sockets that serve both families. */
#include "http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct address {
	struct sockaddr_storage sa;
	socklen_t len;
	bool both; /* IPv4 too, on an IPv6 socket */
};

static void any_address(struct address *a, int family, uint16_t port)
{
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a->sa;
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a->sa;

	memset(a, 0, sizeof(*a));
	if (family == AF_INET6) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		a->len = sizeof(*v6);
		a->both = true;
	} else {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		a->len = sizeof(*v4);
	}
}

const char *http_server_address(const char *host)
{
	return strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
}

static enum err parse_host(const char *host, uint16_t port, struct address *ret,
                           struct err_info *info)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC,
	                         .ai_socktype = SOCK_STREAM,
	                         .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
	struct addrinfo *found;
	struct in_addr v4;
	char service[8];

	host = http_server_address(host);
	if (host[0] == '\0' || strcmp(host, "::") == 0) {
		any_address(ret, AF_INET6, port);
		return ERR_OK;
	}
	snprintf(service, sizeof(service), "%u", port);
	/* getaddrinfo would also take "1.2.3" and "0x7f.1" */
	if ((!strchr(host, ':') && inet_pton(AF_INET, host, &v4) != 1) ||
	    getaddrinfo(host, service, &hints, &found) != 0)
		return err_set(info, ERR_INVAL,
		               "cannot listen on \"%s\": not an IP address (names other than "
		               "localhost are not looked up)",
		               host);
	memset(ret, 0, sizeof(*ret));
	memcpy(&ret->sa, found->ai_addr, found->ai_addrlen);
	ret->len = found->ai_addrlen;
	freeaddrinfo(found);
	return ERR_OK;
}

enum err http_server_check(const char *host, uint16_t port, struct err_info *info)
{
	struct address a;

	return parse_host(host, port, &a, info);
}

/* A taken port may be free at the next start; the others are matters of configuration. */
static enum err bind_failed(const char *host, uint16_t port, int why, struct err_info *info)
{
	const char *text = why == EADDRINUSE      ? "another program has this port"
	                   : why == EADDRNOTAVAIL ? "this machine has no such address"
	                   : why == EACCES        ? "ports below 1024 take a privilege"
	                                          : strerror(why);
	enum err e = why == EADDRNOTAVAIL || why == EACCES ? ERR_INVAL : ERR_IO;

	return err_set(info, e,
	               strchr(host, ':') ? "cannot listen on [%s]:%u: %s"
	                                 : "cannot listen on %s:%u: %s",
	               host, port, text);
}

/* Accepted sockets inherit TCP_NODELAY and SO_KEEPALIVE. */
static bool set_options(int fd, const struct address *a, bool reuseport)
{
	int on = 1, v6only = !a->both;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) != 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)
		return false;
	if (reuseport && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0)
		return false;
	return a->sa.ss_family != AF_INET6 ||
	       setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)) == 0;
}

/* The descriptor, or -1 with errno. */
static int bind_socket(const struct address *a, bool reuseport)
{
	int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int saved;

	if (fd < 0)
		return -1;
	if (set_options(fd, a, reuseport) && bind(fd, (const struct sockaddr *)&a->sa, a->len) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static uint16_t bound_port(int fd)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof(sa);

	if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0)
		return 0;
	return ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
	                                      : ((struct sockaddr_in *)&sa)->sin_port);
}

enum err http_listen(const struct http_server_options *o, int *ret_fd, uint16_t *ret_port,
                     struct err_info *info)
{
	const char *host = o->host ? o->host : "";
	struct address a;
	enum err e = parse_host(host, o->port, &a, info);
	int fd;

	if (e != ERR_OK)
		return e;
	fd = bind_socket(&a, o->reuseport);
	if (fd < 0 && host[0] == '\0' && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) {
		any_address(&a, AF_INET, o->port);
		fd = bind_socket(&a, o->reuseport);
	}
	if (fd < 0)
		return bind_failed(host, o->port, errno, info);
	*ret_fd = fd;
	*ret_port = bound_port(fd);
	return ERR_OK;
}
