/* Read events stay on for good, write events are on only while somebody has bytes that the socket
 * did not take: a busy connection costs no epoll_ctl. OpenSSL works on the socket directly; when it
 * wants to write in order to read, the write event is switched on for it. */
#include "weir/io/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "weir/base/mem.h"
#include "weir/io/resolver.h"
#include "weir/run/loop.h"

#define KEEPALIVE_IDLE     30 /* seconds */
#define KEEPALIVE_INTERVAL 10
#define KEEPALIVE_COUNT    3

struct net_tls {
	SSL_CTX *ctx; /* owned */
};

enum net_phase { NET_CONNECTING, NET_SHAKING, NET_OPEN, NET_BROKEN };

struct net {
	struct loop *loop;                      /* borrowed */
	int fd;                                 /* owned */
	SSL *ssl;                               /* owned; NULL: plain */
	struct event *read_event, *write_event; /* owned */
	net_fn fn;
	void *arg;
	enum net_phase phase;
	bool want_write; /* the user's wish */
	bool ssl_wants_write;
	bool write_on;
	bool busy, gone; /* net_free came while the event function ran: step_writable frees it */
	char error[192];
};

/* ---- TLS context ---- */

static enum err tls_error(struct err_info *info, const char *what)
{
	char text[160];

	ERR_error_string_n(ERR_peek_last_error(), text, sizeof(text));
	ERR_clear_error();
	return err_set(info, ERR_INVAL, "%s: %s", what, text);
}

/* In words: OpenSSL's own text names its source lines. */
static enum err ca_error(struct err_info *info, const char *file)
{
	FILE *f = fopen(file, "re");
	int why = errno;

	ERR_clear_error();
	if (!f)
		return err_set(info, ERR_INVAL, "cannot be read: %s", strerror(why));
	fclose(f);
	return err_set(info, ERR_INVAL,
	               "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)");
}

enum err net_tls_new(const char *ca_file, struct net_tls **ret, struct err_info *info)
{
	struct net_tls *t = mem_zalloc(sizeof(*t));
	bool own_ca = ca_file && *ca_file;

	if (!t)
		return err_set(info, ERR_NOMEM, "out of memory");
	t->ctx = SSL_CTX_new(TLS_client_method());
	if (!t->ctx || SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION) != 1)
		goto fail;
	if (own_ca && SSL_CTX_load_verify_locations(t->ctx, ca_file, NULL) != 1) {
		net_tls_free(t);
		return ca_error(info, ca_file);
	}
	if (!own_ca && SSL_CTX_set_default_verify_paths(t->ctx) != 1)
		goto fail;
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(t->ctx,
	                 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	*ret = t;
	return ERR_OK;
fail:
	net_tls_free(t);
	return tls_error(info, "TLS");
}

void net_tls_free(struct net_tls *t)
{
	if (!t)
		return;
	SSL_CTX_free(t->ctx);
	mem_free(t);
}

/* ---- events ---- */

static void set_error(struct net *n, const char *what)
{
	if (!n->error[0])
		snprintf(n->error, sizeof(n->error), "%s", what);
}

static void update_write(struct net *n)
{
	bool want = n->phase == NET_CONNECTING || n->want_write || n->ssl_wants_write;

	if (want == n->write_on)
		return;
	if ((want ? event_add(n->write_event, NULL) : event_del(n->write_event)) == 0)
		n->write_on = want;
}

static void fail(struct net *n)
{
	n->phase = NET_BROKEN;
	n->fn(n->arg, NET_FAILED);
}

/* False: the stream is broken. *ret_again: it must wait for the socket. */
static bool judge_ssl(struct net *n, int rc, bool *ret_again)
{
	int why = SSL_get_error(n->ssl, rc);
	char text[160];

	*ret_again = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
	n->ssl_wants_write = why == SSL_ERROR_WANT_WRITE;
	if (*ret_again)
		return true;
	if (why == SSL_ERROR_ZERO_RETURN)
		set_error(n, "closed by the server");
	else if (SSL_get_verify_result(n->ssl) != X509_V_OK)
		set_error(n, X509_verify_cert_error_string(SSL_get_verify_result(n->ssl)));
	else if (ERR_peek_error()) {
		ERR_error_string_n(ERR_get_error(), text, sizeof(text));
		set_error(n, text);
	} else
		set_error(n, errno ? strerror(errno) : "connection lost");
	ERR_clear_error();
	return false;
}

static void step_shaking(struct net *n)
{
	bool again = false;
	int rc;

	errno = 0;
	ERR_clear_error();
	rc = SSL_do_handshake(n->ssl);
	if (rc == 1) {
		n->ssl_wants_write = false;
		n->phase = NET_OPEN;
		update_write(n);
		n->fn(n->arg, NET_UP);
	} else if (!judge_ssl(n, rc, &again)) {
		fail(n);
	} else {
		update_write(n);
	}
}

static void step_connecting(struct net *n)
{
	socklen_t len = sizeof(int);
	int error = 0;

	if (getsockopt(n->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error) {
		set_error(n, strerror(error));
		fail(n);
		return;
	}
	n->phase = n->ssl ? NET_SHAKING : NET_OPEN;
	update_write(n);
	if (n->ssl)
		step_shaking(n);
	else
		n->fn(n->arg, NET_UP);
}

static void on_event_read(evutil_socket_t fd, short what, void *arg)
{
	struct net *n = arg;

	(void)fd;
	(void)what;
	if (n->phase == NET_SHAKING)
		step_shaking(n);
	else if (n->phase == NET_OPEN)
		n->fn(n->arg, NET_READABLE);
}

static void step_writable(struct net *n)
{
	bool for_ssl = n->ssl_wants_write;

	n->ssl_wants_write = false;
	n->busy = true;
	if (for_ssl)
		n->fn(n->arg, NET_READABLE);
	if (!n->gone && n->phase == NET_OPEN && n->want_write)
		n->fn(n->arg, NET_WRITABLE);
	n->busy = false;
	if (n->gone)
		mem_free(n);
	else
		update_write(n);
}

static void on_event_write(evutil_socket_t fd, short what, void *arg)
{
	struct net *n = arg;

	(void)fd;
	(void)what;
	switch (n->phase) {
	case NET_CONNECTING:
		step_connecting(n);
		break;
	case NET_SHAKING:
		step_shaking(n);
		break;
	case NET_OPEN:
		step_writable(n);
		break;
	case NET_BROKEN:
		break;
	}
}

/* ---- life ---- */

static void tune(int fd, int family)
{
	int on = 1, idle = KEEPALIVE_IDLE, interval = KEEPALIVE_INTERVAL, count = KEEPALIVE_COUNT;

	if (family == AF_UNIX)
		return;
	/* Without these the connection is slower or notices a dead peer later; it still works. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

static bool is_address(const char *host)
{
	struct in6_addr a;

	return inet_pton(AF_INET, host, &a) == 1 || inet_pton(AF_INET6, host, &a) == 1;
}

static enum err start_tls(struct net *n, struct net_tls *tls, const char *host,
                          struct err_info *info)
{
	X509_VERIFY_PARAM *param;

	n->ssl = SSL_new(tls->ctx);
	if (!n->ssl || SSL_set_fd(n->ssl, n->fd) != 1)
		return tls_error(info, "TLS");
	SSL_set_connect_state(n->ssl);
	param = SSL_get0_param(n->ssl);
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (is_address(host))
		return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1 ? ERR_OK
		                                                       : tls_error(info, host);
	if (SSL_set_tlsext_host_name(n->ssl, host) != 1 ||
	    X509_VERIFY_PARAM_set1_host(param, host, 0) != 1)
		return tls_error(info, host);
	return ERR_OK;
}

enum err net_connect(struct loop *l, const struct resolver_addr *addr, struct net_tls *tls,
                     const char *host, net_fn fn, void *arg, struct net **ret,
                     struct err_info *info)
{
	struct net *n = mem_zalloc(sizeof(*n));
	enum err e = ERR_NOMEM;

	if (!n)
		return err_set(info, ERR_NOMEM, "out of memory");
	*n = (struct net){.loop = l, .fn = fn, .arg = arg};
	n->fd = socket(addr->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (n->fd < 0) {
		e = err_set(info, ERR_IO, "socket: %s", strerror(errno));
		goto fail;
	}
	tune(n->fd, addr->sa.ss_family);
	e = tls ? start_tls(n, tls, host, info) : ERR_OK;
	if (e != ERR_OK)
		goto fail;
	if (connect(n->fd, (const struct sockaddr *)&addr->sa, addr->len) != 0 &&
	    errno != EINPROGRESS && errno != EAGAIN) {
		e = err_set(info, ERR_UNAVAILABLE, "%s", strerror(errno));
		goto fail;
	}
	e = err_set(info, ERR_NOMEM, "out of memory");
	n->read_event = event_new(loop_base(l), n->fd, EV_READ | EV_PERSIST, on_event_read, n);
	n->write_event = event_new(loop_base(l), n->fd, EV_WRITE | EV_PERSIST, on_event_write, n);
	if (!n->read_event || !n->write_event || event_add(n->read_event, NULL) != 0)
		goto fail;
	update_write(n);
	*ret = n;
	return ERR_OK;
fail:
	net_free(n);
	return e;
}

void net_free(struct net *n)
{
	if (!n)
		return;
	if (n->read_event)
		event_free(n->read_event);
	if (n->write_event)
		event_free(n->write_event);
	SSL_free(n->ssl);
	if (n->fd >= 0)
		close(n->fd);
	n->gone = true;
	if (!n->busy)
		mem_free(n);
}

/* ---- bytes ---- */

static ssize_t moved(struct net *n, ssize_t rc)
{
	if (rc > 0)
		return rc;
	if (rc < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	set_error(n, rc == 0 ? "closed by the server" : strerror(errno));
	return -1;
}

static ssize_t moved_ssl(struct net *n, int rc)
{
	bool again;

	if (rc > 0)
		return rc;
	if (!judge_ssl(n, rc, &again))
		return -1;
	update_write(n);
	return 0;
}

ssize_t net_read(struct net *n, void *p, size_t len)
{
	errno = 0;
	if (!n->ssl)
		return moved(n, recv(n->fd, p, len, 0));
	ERR_clear_error();
	return moved_ssl(n, SSL_read(n->ssl, p, len > INT32_MAX ? INT32_MAX : (int)len));
}

ssize_t net_write(struct net *n, const void *p, size_t len)
{
	errno = 0;
	if (len == 0)
		return 0;
	if (!n->ssl)
		return moved(n, send(n->fd, p, len, MSG_NOSIGNAL));
	ERR_clear_error();
	return moved_ssl(n, SSL_write(n->ssl, p, len > INT32_MAX ? INT32_MAX : (int)len));
}

void net_want_write(struct net *n, bool want)
{
	n->want_write = want;
	update_write(n);
}

const char *net_error(const struct net *n)
{
	return n->error[0] ? n->error : "connection lost";
}
