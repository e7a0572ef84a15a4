/* A private Postgres for tests: its own data below /tmp, a unix socket only, gone with the test.
 * As root the server runs as `postgres` or `nobody`, because it refuses to run as root. */
#ifndef WEIR_TEST_PG_SERVER_H
#define WEIR_TEST_PG_SERVER_H

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "private_server.h"
#include "weir/io/pg.h"

struct pg_server {
	char dir[64];  /* socket, log and data; also what `host` takes */
	char bin[256]; /* where initdb and postgres are */
	uid_t uid;
	gid_t gid;
	pid_t pid; /* 0 when not running */
};

/* The child's half of a fork: drop root, send output to the log, run. Called by its whole name:
 * initdb looks for postgres beside itself. */
static inline void pg_server_exec(const struct pg_server *s, const char *prog, char *argv[])
{
	char path[512], log[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", s->bin, prog);
	snprintf(log, sizeof(log), "%s/log", s->dir);
	if (geteuid() == 0 && (setgid(s->gid) != 0 || setuid(s->uid) != 0))
		_exit(126);
	prctl(PR_SET_PDEATHSIG, SIGQUIT);
	umask(077);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0 || chdir(s->dir) != 0)
		_exit(126);
	unsetenv("LD_PRELOAD");
	argv[0] = path;
	execv(path, argv);
	_exit(127);
}

static inline pid_t pg_server_spawn(const struct pg_server *s, const char *prog, char *argv[])
{
	pid_t pid = fork();

	if (pid == 0)
		pg_server_exec(s, prog, argv);
	return pid;
}

static inline bool pg_server_find(struct pg_server *s)
{
	glob_t g;
	bool found = false;

	if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &g) == 0) {
		const char *last = g.gl_pathv[g.gl_pathc - 1];

		snprintf(s->bin, sizeof(s->bin), "%.*s", (int)(strrchr(last, '/') - last), last);
		found = true;
	}
	globfree(&g);
	return found;
}

static inline bool pg_server_owner(struct pg_server *s)
{
	struct passwd *pw;

	s->uid = geteuid();
	s->gid = getegid();
	if (s->uid != 0)
		return true;
	pw = getpwnam("postgres");
	if (!pw)
		pw = getpwnam("nobody");
	if (!pw)
		return false;
	s->uid = pw->pw_uid;
	s->gid = pw->pw_gid;
	return true;
}

static inline struct pg_options pg_server_options(const struct pg_server *s)
{
	return (struct pg_options){.url = "",
	                           .host = s->dir,
	                           .dbname = "postgres",
	                           .user = "weir",
	                           .password = "",
	                           .sslmode = "",
	                           .application_name = "weir-test",
	                           .size = 2};
}

/* Starts postgres on data that exists; waits until it answers. */
static inline bool pg_server_up(struct pg_server *s)
{
	char data[80], info[128];
	char *argv[] = {"postgres",
	                "-D",
	                data,
	                "-k",
	                s->dir,
	                "-c",
	                "listen_addresses=",
	                "-c",
	                "fsync=off",
	                "-c",
	                "max_connections=40",
	                "-c",
	                "shared_buffers=32MB",
	                NULL};

	snprintf(data, sizeof(data), "%s/data", s->dir);
	snprintf(info, sizeof(info), "host=%s dbname=postgres user=weir", s->dir);
	s->pid = pg_server_spawn(s, "postgres", argv);
	for (int i = 0; s->pid > 0 && i < 1000; i++) {
		if (PQping(info) == PQPING_OK)
			return true;
		if (waitpid(s->pid, NULL, WNOHANG) == s->pid)
			break;
		private_server_nap(20);
	}
	fprintf(stderr, "postgres did not come up; see %s/log\n", s->dir);
	s->pid = 0;
	return false;
}

static inline void pg_server_signal(const struct pg_server *s, int signo)
{
	private_server_signal(s->pid, signo);
}

/* SIGINT is a fast shutdown, SIGQUIT an immediate one (like a crash). */
static inline void pg_server_down(struct pg_server *s, int signo)
{
	private_server_down(&s->pid, signo);
}

/* False, with the reason on stderr, when there is no Postgres to start: skip the test. */
static inline bool pg_server_start(struct pg_server *s)
{
	char data[80];
	char *argv[] = {"initdb", "-D", data,   "-A",         "trust", "-U",
	                "weir",   "-E", "UTF8", "--locale=C", "-N",    "--no-instructions",
	                NULL};
	int status = -1;
	pid_t pid;

	memset(s, 0, sizeof(*s));
	if (!pg_server_find(s) || !pg_server_owner(s)) {
		fprintf(stderr, "SKIPPED: no Postgres server is installed here\n");
		return false;
	}
	snprintf(s->dir, sizeof(s->dir), "/tmp/weir-pg-XXXXXX");
	if (!mkdtemp(s->dir) || chown(s->dir, s->uid, s->gid) != 0 || chmod(s->dir, 0755) != 0)
		return false;
	snprintf(data, sizeof(data), "%s/data", s->dir);
	pid = pg_server_spawn(s, "initdb", argv);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "initdb failed; see %s/log\n", s->dir);
		return false;
	}
	return pg_server_up(s);
}

/* Stops the server and removes its files. */
static inline void pg_server_remove(struct pg_server *s)
{
	pg_server_down(s, SIGQUIT);
	private_server_clear(s->dir);
}

/* Runs SQL over a connection of its own; false (and the message on stderr) on failure. */
static inline bool pg_server_sql(const struct pg_server *s, const char *sql)
{
	char info[128];
	PGconn *c;
	PGresult *r;
	bool ok;

	snprintf(info, sizeof(info), "host=%s dbname=postgres user=weir", s->dir);
	c = PQconnectdb(info);
	r = PQexec(c, sql);
	ok = PQresultStatus(r) == PGRES_COMMAND_OK || PQresultStatus(r) == PGRES_TUPLES_OK;
	if (!ok)
		fprintf(stderr, "%s: %s", sql, PQerrorMessage(c));
	PQclear(r);
	PQfinish(c);
	return ok;
}

#endif
