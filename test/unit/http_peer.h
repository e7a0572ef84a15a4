/* A small HTTP server in a process of its own, for tests of clients: what it does stands in the
 * path, what it saw is shared with the test. */
#ifndef WEIR_TEST_HTTP_PEER_H
#define WEIR_TEST_HTTP_PEER_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "torture.h"

#define PEER_CONNS 64

struct peer_seen {
	volatile int connections, requests, open, most_open, most_bytes;
	char last[4096]; /* the last request, its body too */
};

struct peer_conn {
	int fd;
	size_t len;
	char in[1 << 19];
};

static struct {
	pid_t pid;
	uint16_t port;
	struct peer_seen *seen;
	/* A whole request; writes what it wants to fd. False: close it. NULL: peer_answer. */
	bool (*answer)(int fd, const char *request, const char *body);
} peer;

static inline void peer_send(int fd, const char *s, size_t n)
{
	while (n > 0) {
		ssize_t k = send(fd, s, n, MSG_NOSIGNAL);

		if (k <= 0)
			return;
		s += k;
		n -= (size_t)k;
	}
}

static inline void peer_say(int fd, const char *s)
{
	peer_send(fd, s, strlen(s));
}

static inline void peer_reply(int fd, int status, const char *more, const char *body)
{
	char head[512];
	int n = snprintf(head, sizeof(head), "HTTP/1.1 %d Text\r\n%sContent-Length: %zu\r\n\r\n",
	                 status, more, strlen(body));

	peer_send(fd, head, (size_t)n);
	peer_say(fd, body);
}

static inline bool peer_is(const char *request, const char *path)
{
	const char *p = strchr(request, ' ') + 1;

	return strncmp(p, path, strlen(path)) == 0;
}

static inline bool peer_answer(int fd, const char *request, const char *body)
{
	static char large[200000];

	memset(large, 'x', sizeof(large) - 1);
	if (peer_is(request, "/hang"))
		return true;
	if (peer_is(request, "/close"))
		return false;
	if (peer_is(request, "/echo"))
		peer_reply(fd, 200, "X-Thing:  a b \r\n", body);
	else if (peer_is(request, "/half"))
		peer_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
	else if (peer_is(request, "/garbage"))
		peer_say(fd, "SSH-2.0 no\r\n\r\n");
	else if (peer_is(request, "/redirect"))
		peer_reply(fd, 302, "Location: /echo\r\n", "");
	else if (peer_is(request, "/large"))
		peer_reply(fd, 200, "", large + sizeof(large) - 1 - 2000);
	else if (peer_is(request, "/interim"))
		peer_say(fd, "HTTP/1.1 100 Continue\r\nX-Thing: no\r\n\r\n"
		             "HTTP/1.1 200 OK\r\nX-Thing: yes\r\nContent-Length: 0\r\n\r\n");
	else if (peer_is(request, "/head")) {
		peer_say(fd, "HTTP/1.1 200 OK\r\nX-Large: ");
		peer_send(fd, large, 90000);
		peer_say(fd, "\r\nContent-Length: 0\r\n\r\n");
	} else
		peer_reply(fd, 503, "Retry-After: 7\r\n", "busy");
	return !peer_is(request, "/half") && !peer_is(request, "/garbage");
}

/* False: the connection is over. */
static inline bool peer_read(struct peer_conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->len, sizeof(c->in) - 1 - c->len, MSG_DONTWAIT);
	char *end, *length;
	size_t body = 0, whole;

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	c->len += (size_t)n;
	c->in[c->len] = '\0';
	end = strstr(c->in, "\r\n\r\n");
	if (!end)
		return true;
	length = strcasestr(c->in, "\r\ncontent-length:");
	if (length && length < end)
		body = strtoul(length + 17, NULL, 10);
	whole = (size_t)(end + 4 - c->in) + body;
	if (c->len < whole)
		return true;
	snprintf(peer.seen->last, sizeof(peer.seen->last), "%s", c->in);
	peer.seen->requests++;
	if (whole > (size_t)peer.seen->most_bytes)
		peer.seen->most_bytes = (int)whole;
	c->len = 0;
	return (peer.answer ? peer.answer : peer_answer)(c->fd, c->in, end + 4);
}

static inline void peer_accept(struct peer_conn *conns, int listener)
{
	int fd = accept(listener, NULL, NULL);

	for (int i = 0; fd >= 0 && i < PEER_CONNS; i++) {
		if (conns[i].fd >= 0)
			continue;
		conns[i].fd = fd;
		conns[i].len = 0;
		peer.seen->connections++;
		if (++peer.seen->open > peer.seen->most_open)
			peer.seen->most_open = peer.seen->open;
		return;
	}
}

static inline void peer_serve(int listener)
{
	static struct peer_conn conns[PEER_CONNS];
	struct pollfd fds[PEER_CONNS + 1];

	for (int i = 0; i < PEER_CONNS; i++)
		conns[i].fd = -1;
	for (;;) {
		for (int i = 0; i < PEER_CONNS; i++)
			fds[i] = (struct pollfd){.fd = conns[i].fd, .events = POLLIN};
		fds[PEER_CONNS] = (struct pollfd){.fd = listener, .events = POLLIN};
		if (poll(fds, PEER_CONNS + 1, -1) < 0)
			_exit(1);
		for (int i = 0; i < PEER_CONNS; i++) {
			if (!fds[i].revents || peer_read(&conns[i]))
				continue;
			close(conns[i].fd);
			conns[i].fd = -1;
			peer.seen->open--;
		}
		if (fds[PEER_CONNS].revents)
			peer_accept(conns, listener);
	}
}

static inline void peer_start(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	peer.seen = mmap(NULL, sizeof(*peer.seen), PROT_READ | PROT_WRITE,
	                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (peer.seen == MAP_FAILED || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 ||
	    listen(fd, 64) != 0 || getsockname(fd, (struct sockaddr *)&sa, &len) != 0)
		abort();
	peer.port = ntohs(sa.sin_port);
	fflush(NULL);
	peer.pid = fork();
	if (peer.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		peer_serve(fd);
	}
	close(fd);
}

/* Waits until the peer has noticed that all its clients left, and begins to count anew. */
static inline void peer_forget(void)
{
	for (int i = 0; peer.seen->open > 0 && i < 10000; i++)
		poll(NULL, 0, 1);
	assert_int_equal(peer.seen->open, 0);
	memset(peer.seen, 0, sizeof(*peer.seen));
}

static inline void peer_end(void)
{
	kill(peer.pid, SIGKILL);
	waitpid(peer.pid, NULL, 0);
	munmap(peer.seen, sizeof(*peer.seen));
}

#endif
