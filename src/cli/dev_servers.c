/* The private Redis and Postgres of `weir dev`, on sockets that only this user (or, under root, the
 * servers' account and root) can reach; set up so that an answered event survives a crash. */
#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "weir/base/str.h"
#include "weir/cli/command.h"
#include "weir/cli/dev.h"

#define INITDB_TIMEOUT (120 * USEC_PER_SEC)
#define START_TIMEOUT  (60 * USEC_PER_SEC)
#define STOP_GRACE     (30 * USEC_PER_SEC)
#define POLL           (20 * USEC_PER_MSEC)
#define HELD_MEMORY    "pre-existing shared memory block"

/* ---- finding them ---- */

static int64_t version_of(const char *path)
{
	struct str rest = str_of(path), part;
	int64_t v = -1;

	while (rest.ptr) {
		part = str_split(&rest, '/');
		if (str_to_int(part, 0, 10000, &v) == ERR_OK)
			return v;
	}
	return v;
}

/* The newest server, or that of `version`, which the data was made with. */
static bool find_postgres(int64_t version, char ret[DEV_PATH])
{
	int64_t best = -1;
	char plain[DEV_PATH];
	glob_t g;

	if (glob("/usr/lib/postgresql/*/bin/postgres", 0, NULL, &g) == 0) {
		for (size_t i = 0; i < g.gl_pathc; i++) {
			int64_t v = version_of(g.gl_pathv[i]);

			if (v > best && (version < 0 || v == version) &&
			    dev_path(ret, "%s", g.gl_pathv[i]) == ERR_OK)
				best = v;
		}
		globfree(&g);
	}
	if (best < 0 && (version >= 0 || !dev_find("postgres", plain)))
		return false;
	if (best < 0 && dev_path(ret, "%s", plain) != ERR_OK)
		return false;
	*strrchr(ret, '/') = '\0';
	return true;
}

static int64_t data_version(const struct dev *d)
{
	char path[DEV_PATH], text[32];
	int64_t v;

	if (dev_path(path, "%s/PG_VERSION", d->postgres.mark) != ERR_OK ||
	    !dev_read(path, text, sizeof(text)))
		return -1;
	text[strcspn(text, "\n")] = '\0';
	return str_to_int(str_of(text), 0, 10000, &v) == ERR_OK ? v : -1;
}

int dev_servers_find(struct dev *d)
{
	int64_t version = data_version(d);

	if (!dev_find("redis-server", d->redis_bin)) {
		cli_error("redis-server is not installed (Debian package redis-server)");
		return CLI_UNREACHABLE;
	}
	if (find_postgres(version, d->postgres_bin))
		return CLI_DONE;
	if (version < 0)
		cli_error("Postgres is not installed (Debian package postgresql-15)");
	else
		cli_error(
		    "the data in %s is of Postgres %d, which is not installed (Debian package "
		    "postgresql-%d)",
		    d->postgres.mark, (int)version, (int)version);
	return CLI_UNREACHABLE;
}

/* ---- Redis ---- */

static int data_dir(const struct dev *d, const char *path)
{
	if ((mkdir(path, 0700) != 0 && errno != EEXIST) ||
	    (d->drop && lchown(path, d->uid, d->gid) != 0)) {
		cli_error("%s: %s", path, strerror(errno));
		return CLI_FAILED;
	}
	return CLI_DONE;
}

static bool redis_answers(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = 1};
	char answer[8];
	bool ok = false;
	int fd;

	if (strlen(path) >= sizeof(addr.sun_path))
		return false;
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 &&
	    send(fd, "PING\r\n", 6, MSG_NOSIGNAL) == 6)
		ok = recv(fd, answer, 7, MSG_WAITALL) == 7 && memcmp(answer, "+PONG\r\n", 7) == 0;
	close(fd);
	return ok;
}

static bool redis_ready(const struct dev *d)
{
	char path[DEV_PATH];

	return dev_path(path, "%s/redis.sock", d->sockets) == ERR_OK && redis_answers(path);
}

static int redis_begin(struct dev *d)
{
	char socket[DEV_PATH];
	const char *argv[] = {"redis-server", "--port", "0", "--unixsocket", socket,
	                      "--unixsocketperm", "700", "--dir", d->redis.mark, "--appendonly",
	                      "yes", "--appendfsync", "always", "--no-appendfsync-on-rewrite", "no",
	                      "--maxmemory-policy", "noeviction", "--save", "", "--daemonize", "no",
	                      /* Its command line stays as it is: that is how an orphan is known. */
	                      "--set-proc-title", "no", NULL};
	struct dev_spawn s = {.path = d->redis_bin, .argv = argv, .cwd = "/", .drop = true};
	int rc = data_dir(d, d->redis.mark);

	if (rc != CLI_DONE)
		return rc;
	if (dev_path(socket, "%s/redis.sock", d->sockets) != ERR_OK)
		return CLI_FAILED;
	return dev_child_start(d, &d->redis, &s) == ERR_OK ? CLI_DONE : CLI_FAILED;
}

/* ---- Postgres ----
 *
 * Its programs look for each other and for their files next to themselves, and know where that is
 * by their name, which therefore is a whole path. */

/* Made apart and renamed when whole, so that a start that was cut short leaves no half cluster. */
static int initdb(struct dev *d)
{
	char bin[DEV_PATH], fresh[DEV_PATH], log[DEV_PATH], sql[DEV_PATH];
	const char *init[] = {
	    bin, "-D", fresh, "-U", "weir", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", NULL};
	const char *single[] = {bin, "--single", "-D", fresh, "postgres", NULL};
	struct dev_spawn s = {.path = bin, .argv = init, .cwd = "/", .drop = true};
	int rc;

	if (dev_path(fresh, "%s.new", d->postgres.mark) != ERR_OK ||
	    dev_path(log, "%s/initdb.log", d->dir) != ERR_OK ||
	    dev_path(sql, "%s/initdb.sql", d->dir) != ERR_OK ||
	    dev_path(bin, "%s/initdb", d->postgres_bin) != ERR_OK ||
	    dev_write(sql, 0600, "CREATE DATABASE weir;\n") != ERR_OK)
		return CLI_FAILED;
	dev_remove_tree(fresh);
	rc = data_dir(d, fresh);
	if (rc == CLI_DONE)
		rc = dev_child_run(d, "initdb", log, &s, INITDB_TIMEOUT);
	if (rc == CLI_DONE && dev_path(bin, "%s/postgres", d->postgres_bin) != ERR_OK)
		rc = CLI_FAILED;
	s.argv = single;
	s.input = sql;
	if (rc == CLI_DONE)
		rc = dev_child_run(d, "postgres --single", log, &s, INITDB_TIMEOUT);
	unlink(sql);
	if (rc == CLI_DONE && rename(fresh, d->postgres.mark) != 0) {
		cli_error("%s: %s", d->postgres.mark, strerror(errno));
		rc = CLI_FAILED;
	}
	return rc == CLI_DONE ? CLI_DONE : CLI_FAILED;
}

static int postgres_begin(struct dev *d)
{
	char bin[DEV_PATH];
	const char *argv[] = {bin,
	                      "-D",
	                      d->postgres.mark,
	                      "-k",
	                      d->sockets,
	                      "-p",
	                      "5432",
	                      "-c",
	                      "listen_addresses=",
	                      "-c",
	                      "unix_socket_permissions=0700",
	                      "-c",
	                      "fsync=on",
	                      "-c",
	                      "full_page_writes=on",
	                      "-c",
	                      "log_checkpoints=off",
	                      "-c",
	                      "dynamic_shared_memory_type=mmap",
	                      NULL};
	struct dev_spawn s = {.path = bin, .argv = argv, .cwd = "/", .drop = true};

	if (dev_path(bin, "%s/postgres", d->postgres_bin) != ERR_OK)
		return CLI_FAILED;
	return dev_child_start(d, &d->postgres, &s) == ERR_OK ? CLI_DONE : CLI_FAILED;
}

/* As pg_ctl does: the postmaster writes its state into the eighth line of postmaster.pid. */
static bool postgres_ready(const struct dev *d)
{
	char path[DEV_PATH], text[2048];
	struct str rest, line = STR_NONE;
	int64_t pid;

	if (dev_path(path, "%s/postmaster.pid", d->postgres.mark) != ERR_OK ||
	    !dev_read(path, text, sizeof(text)))
		return false;
	rest = str_of(text);
	line = str_split(&rest, '\n');
	if (str_to_int(str_trim(line), 1, INT32_MAX, &pid) != ERR_OK || pid != d->postgres.pid)
		return false;
	for (int i = 2; i <= 8 && rest.ptr; i++)
		line = str_split(&rest, '\n');
	return str_eq(str_trim(line), STR("ready"));
}

/* The last workers of a killed postmaster may hold its memory for a moment. */
static bool memory_held(const struct dev *d)
{
	char text[8192];

	return dev_read(d->postgres.log, text, sizeof(text)) && strstr(text, HELD_MEMORY);
}

/* ---- both ---- */

static int await(struct dev *d)
{
	usec_t end = clock_mono() + START_TIMEOUT;
	bool redis = false, postgres = false;

	while (!redis || !postgres) {
		if (dev_child_reap(&d->redis)) {
			dev_child_explain(&d->redis);
			return CLI_UNREACHABLE;
		}
		if (dev_child_reap(&d->postgres)) {
			if (!memory_held(d) || clock_mono() >= end) {
				dev_child_explain(&d->postgres);
				return CLI_UNREACHABLE;
			}
			if (postgres_begin(d) != CLI_DONE)
				return CLI_FAILED;
		}
		if (clock_mono() >= end) {
			cli_error("the servers are not ready after %d s, see %s/*.log",
			          (int)(START_TIMEOUT / USEC_PER_SEC), d->dir);
			return CLI_UNREACHABLE;
		}
		redis = redis || redis_ready(d);
		postgres = postgres || postgres_ready(d);
		if ((!redis || !postgres) && dev_wait(POLL) == DEV_STOP)
			return CLI_FAILED;
	}
	return CLI_DONE;
}

int dev_servers_start(struct dev *d)
{
	char version[DEV_PATH];
	int rc = CLI_DONE;

	if (dev_path(version, "%s/PG_VERSION", d->postgres.mark) != ERR_OK)
		return CLI_FAILED;
	if (access(version, F_OK) != 0) {
		printf("making a database in %s\n", d->postgres.mark);
		rc = initdb(d);
	}
	if (rc == CLI_DONE)
		rc = redis_begin(d);
	if (rc == CLI_DONE)
		rc = postgres_begin(d);
	return rc == CLI_DONE ? await(d) : rc;
}

void dev_servers_stop(struct dev *d)
{
	dev_child_stop(&d->helper, STOP_GRACE);
	dev_child_stop(&d->redis, STOP_GRACE);
	dev_child_stop(&d->postgres, STOP_GRACE);
}
