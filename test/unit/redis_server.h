/* A private redis-server for tests: its own folder below /tmp, a unix socket, and TCP only where a
 * test asks for it. Gone with the test. */
#ifndef WEIR_TEST_REDIS_SERVER_H
#define WEIR_TEST_REDIS_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "private_server.h"

#define REDIS_MAX_ARGS 48

struct redis_server {
	char dir[64];
	char sock[96];
	char addr[128]; /* unix:/… */
	pid_t pid;      /* 0 when not running */
};

/* A port of the loopback that is free just now. */
static inline int redis_server_free_port(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = 0;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0 &&
	    getsockname(fd, (struct sockaddr *)&sin, &len) == 0)
		port = ntohs(sin.sin_port);
	close(fd);
	return port;
}

static inline int redis_server_dial(const struct redis_server *s)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", s->sock);
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Blocking, over a connection of its own: sends inline commands, each with a line end, and gives
 * the start of what comes back. */
static inline bool redis_server_say(const struct redis_server *s, const char *lines, char *reply,
                                    size_t size)
{
	int fd = redis_server_dial(s);
	ssize_t n = -1;

	if (fd < 0)
		return false;
	if (write(fd, lines, strlen(lines)) == (ssize_t)strlen(lines))
		n = read(fd, reply, size - 1);
	reply[n > 0 ? n : 0] = '\0';
	close(fd);
	return n > 0;
}

static inline void redis_server_exec(const struct redis_server *s, const char *const *extra)
{
	char log[96];
	const char *argv[REDIS_MAX_ARGS] = {"redis-server",
	                                    "--port",
	                                    "0",
	                                    "--unixsocket",
	                                    s->sock,
	                                    "--dir",
	                                    s->dir,
	                                    "--save",
	                                    "",
	                                    "--daemonize",
	                                    "no",
	                                    "--appendonly",
	                                    "no",
	                                    "--loglevel",
	                                    "warning",
	                                    "--enable-debug-command",
	                                    "yes"};
	size_t n = 17;
	int fd;

	while (extra && *extra && n < REDIS_MAX_ARGS - 1)
		argv[n++] = *extra++;
	snprintf(log, sizeof(log), "%s/log", s->dir);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
		_exit(126);
	unsetenv("LD_PRELOAD");
	execvp(argv[0], (char *const *)argv);
	_exit(127);
}

/* Starts the server with further arguments (NULL-ended; may be NULL), on what lies in its folder.
 * True once it takes connections. */
static inline bool redis_server_up(struct redis_server *s, const char *const *extra)
{
	s->pid = fork();
	if (s->pid == 0)
		redis_server_exec(s, extra);
	for (int i = 0; s->pid > 0 && i < 1000; i++) {
		int fd = redis_server_dial(s);

		if (fd >= 0) {
			close(fd);
			return true;
		}
		if (waitpid(s->pid, NULL, WNOHANG) == s->pid)
			break;
		private_server_nap(5);
	}
	s->pid = 0;
	return false;
}

static inline void redis_server_signal(const struct redis_server *s, int signo)
{
	private_server_signal(s->pid, signo);
}

static inline void redis_server_down(struct redis_server *s, int signo)
{
	private_server_down(&s->pid, signo);
}

/* False, with the reason on stderr, when there is no redis-server to start: skip the test. */
static inline bool redis_server_start(struct redis_server *s, const char *const *extra)
{
	memset(s, 0, sizeof(*s));
	snprintf(s->dir, sizeof(s->dir), "/tmp/weir-redis-XXXXXX");
	if (!mkdtemp(s->dir))
		return false;
	snprintf(s->sock, sizeof(s->sock), "%s/sock", s->dir);
	snprintf(s->addr, sizeof(s->addr), "unix:%s", s->sock);
	if (redis_server_up(s, extra))
		return true;
	fprintf(stderr, "SKIPPED: no redis-server could be started here; see %s/log\n", s->dir);
	return false;
}

static inline void redis_server_remove(struct redis_server *s)
{
	redis_server_down(s, SIGKILL);
	private_server_clear(s->dir);
}

#endif
