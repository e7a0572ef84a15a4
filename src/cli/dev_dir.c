/* The folder of `weir dev`. Its lock is a flock: it vanishes with the process, so there is no stale
 * lock to reason about. Whoever holds it may take every weir, Redis and Postgres that runs on this
 * folder's data for an orphan. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "weir/base/digest.h"
#include "weir/base/str.h"
#include "weir/cli/command.h"
#include "weir/cli/dev.h"

#define TEMP_NAME   "/tmp/weir-dev-XXXXXX"
#define TEMP_GLOB   "/tmp/weir-dev-??????"
#define SWEEP_GRACE (10 * USEC_PER_SEC)

static int complain(const char *path)
{
	cli_error("%s: %s", path, strerror(errno));
	return CLI_FAILED;
}

/* ---- the folder and its lock ---- */

static int refuse_second(const struct dev *d)
{
	char path[DEV_PATH], holder[256] = "";

	if (dev_path(path, "%s/lock", d->dir) == ERR_OK)
		(void)dev_read(path, holder, sizeof(holder));
	holder[strcspn(holder, "\n")] = '\0';
	cli_error("another `weir dev` runs in %s%s%s; stop it, or take --dir for another folder",
	          d->dir, *holder ? " with process id " : "", holder);
	return CLI_FAILED;
}

static int take_lock(struct dev *d)
{
	char path[DEV_PATH], text[32];
	int n;

	if (dev_path(path, "%s/lock", d->dir) != ERR_OK)
		return CLI_FAILED;
	d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (d->lock_fd < 0)
		return complain(path);
	if (flock(d->lock_fd, LOCK_EX | LOCK_NB) != 0)
		return errno == EWOULDBLOCK ? refuse_second(d) : complain(path);
	n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(d->lock_fd, 0) != 0 || pwrite(d->lock_fd, text, (size_t)n, 0) != n)
		return complain(path);
	return CLI_DONE;
}

/* Removes a temporary folder whose owner was killed: it is ours, and its lock is free. */
static void sweep_temp(const char *dir)
{
	char path[DEV_PATH];
	struct stat st;
	int fd;

	if (lstat(dir, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
	    dev_path(path, "%s/lock", dir) != ERR_OK)
		return;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		dev_remove_tree(dir);
	close(fd);
}

static int make_temp(struct dev *d)
{
	glob_t g;

	if (glob(TEMP_GLOB, 0, NULL, &g) == 0) {
		for (size_t i = 0; i < g.gl_pathc; i++)
			sweep_temp(g.gl_pathv[i]);
		globfree(&g);
	}
	if (dev_path(d->dir, TEMP_NAME) != ERR_OK || !mkdtemp(d->dir))
		return complain(TEMP_NAME);
	d->ephemeral = true;
	/* The servers' account may pass through. */
	return chmod(d->dir, 0711) == 0 ? CLI_DONE : complain(d->dir);
}

static int make_dir(struct dev *d, const char *dir)
{
	char real[PATH_MAX];

	if (!dir) {
		if (make_temp(d) != CLI_DONE)
			return CLI_FAILED;
		dir = d->dir;
	} else if (mkdir(dir, 0755) != 0 && errno != EEXIST) {
		return complain(dir);
	}
	if (!realpath(dir, real))
		return complain(dir);
	if (strchr(real, '\n')) {
		cli_error("a folder with a line break in its name will not do");
		return CLI_FAILED;
	}
	if (dev_path(d->dir, "%s", real) != ERR_OK ||
	    dev_path(d->shown, "%s", d->ephemeral ? real : dir) != ERR_OK)
		return CLI_FAILED;
	return CLI_DONE;
}

/* ---- the account of the servers ---- */

/* Postgres refuses to run as root. Data that exists says whose it is. */
static int choose_account(struct dev *d)
{
	static const char *const names[] = {"postgres", "nobody"};
	char path[DEV_PATH];
	struct passwd *pw = NULL;
	struct stat st;

	d->uid = geteuid();
	d->gid = getegid();
	if (d->uid != 0)
		return CLI_DONE;
	d->drop = true;
	if (dev_path(path, "%s/data/postgres", d->dir) != ERR_OK)
		return CLI_FAILED;
	if (stat(path, &st) == 0 && st.st_uid != 0) {
		d->uid = st.st_uid;
		d->gid = st.st_gid;
		return CLI_DONE;
	}
	for (size_t i = 0; !pw && i < 2; i++)
		pw = getpwnam(names[i]);
	if (!pw || pw->pw_uid == 0) {
		cli_error("Postgres does not run as root, and there is neither a user postgres nor "
		          "nobody to run it as");
		return CLI_FAILED;
	}
	d->uid = pw->pw_uid;
	d->gid = pw->pw_gid;
	return CLI_DONE;
}

/* May the servers' account walk through every folder above and including `path`? */
static bool passable(const struct dev *d, const char *path)
{
	char part[DEV_PATH];
	struct stat st;

	if (!d->drop)
		return true;
	for (size_t len = 1;; len++) {
		if (path[len] != '/' && path[len] != '\0')
			continue;
		if (dev_path(part, "%.*s", (int)len, path) != ERR_OK || stat(part, &st) != 0)
			return false;
		if (!(st.st_mode & S_IXOTH) && !(st.st_uid == d->uid && (st.st_mode & S_IXUSR)))
			return false;
		if (path[len] == '\0')
			return true;
	}
}

/* ---- where data and sockets go ---- */

/* A folder that is ours alone, whoever made it. */
static int own_dir(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) != 0 && errno != EEXIST)
		return complain(path);
	if (lstat(path, &st) != 0)
		return complain(path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid()) {
		cli_error("%s is not a folder of this user", path);
		return CLI_FAILED;
	}
	return chmod(path, mode) == 0 ? CLI_DONE : complain(path);
}

/* The same name for the same folder, at every start. */
static int elsewhere(const struct dev *d, const char *top, char ret[DEV_PATH])
{
	uint8_t digest[DIGEST_MAX_LEN];
	char hex[2 * DIGEST_MAX_LEN + 1];
	struct str dir = str_of(d->dir);

	if (digest_parts(DIGEST_SHA256, &dir, 1, digest) != ERR_OK)
		return CLI_FAILED;
	hex_encode(digest, 6, hex);
	if (dev_path(ret, "%s/weir-dev-%u-%s", top, (unsigned)geteuid(), hex) != ERR_OK)
		return CLI_FAILED;
	return own_dir(ret, 0711);
}

static int place_data(struct dev *d)
{
	char link[DEV_PATH], real[PATH_MAX], away[DEV_PATH];
	struct stat st;

	if (dev_path(link, "%s/data", d->dir) != ERR_OK)
		return CLI_FAILED;
	if (lstat(link, &st) != 0 && passable(d, d->dir)) {
		if (mkdir(link, 0711) != 0)
			return complain(link);
	} else if (stat(link, &st) != 0 || !realpath(link, real) || !passable(d, real)) {
		int rc = elsewhere(d, "/var/tmp", away);

		if (rc != CLI_DONE)
			return rc;
		if (lstat(link, &st) == 0 && S_ISDIR(st.st_mode) && rmdir(link) != 0) {
			cli_error("%s holds data, but user id %u cannot get there", link,
			          (unsigned)d->uid);
			return CLI_FAILED;
		}
		if (unlink(link) != 0 && errno != ENOENT)
			return complain(link);
		if (symlink(away, link) != 0)
			return complain(link);
	}
	if (!realpath(link, real))
		return complain(link);
	return dev_path(d->data, "%s", real) == ERR_OK ? CLI_DONE : CLI_FAILED;
}

static bool good_for_sockets(const char *path)
{
	/* Postgres takes a comma for the next host, and people paste the path into a shell. */
	return strlen(path) <= DEV_SOCKET_DIR_MAX &&
	       path[strspn(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
	                         "./-")] == '\0';
}

static int place_sockets(struct dev *d)
{
	char path[DEV_PATH];
	int rc;

	if (dev_path(path, "%s/run", d->data) != ERR_OK)
		return CLI_FAILED;
	if (!good_for_sockets(path)) {
		d->sockets_apart = true;
		rc = elsewhere(d, "/tmp", path);
		if (rc == CLI_DONE)
			rc = dev_path(path, "%s/run", path) == ERR_OK ? CLI_DONE : CLI_FAILED;
		if (rc != CLI_DONE)
			return rc;
	}
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return complain(path);
	if (d->drop && lchown(path, d->uid, d->gid) != 0)
		return complain(path);
	return dev_path(d->sockets, "%s", path) == ERR_OK ? CLI_DONE : CLI_FAILED;
}

static int name_files(struct dev *d)
{
	bool ok = dev_path(d->conf, "%s/weir.conf", d->dir) == ERR_OK &&
	          dev_path(d->tools, "%s/tools.json", d->dir) == ERR_OK &&
	          dev_path(d->redis.mark, "%s/redis", d->data) == ERR_OK &&
	          dev_path(d->redis.pid_file, "%s/redis.pid", d->dir) == ERR_OK &&
	          dev_path(d->redis.log, "%s/redis.log", d->dir) == ERR_OK &&
	          dev_path(d->postgres.mark, "%s/postgres", d->data) == ERR_OK &&
	          dev_path(d->postgres.pid_file, "%s/postgres.pid", d->dir) == ERR_OK &&
	          dev_path(d->postgres.log, "%s/postgres.log", d->dir) == ERR_OK &&
	          dev_path(d->serve.mark, "%s", d->conf) == ERR_OK &&
	          dev_path(d->serve.pid_file, "%s/serve.pid", d->dir) == ERR_OK;

	return ok ? CLI_DONE : CLI_FAILED;
}

int dev_dir_open(struct dev *d, const char *dir)
{
	int rc = make_dir(d, dir);

	if (rc == CLI_DONE)
		rc = take_lock(d);
	if (rc == CLI_DONE)
		rc = choose_account(d);
	if (rc == CLI_DONE)
		rc = place_data(d);
	if (rc == CLI_DONE)
		rc = place_sockets(d);
	if (rc == CLI_DONE)
		rc = name_files(d);
	return rc;
}

void dev_dir_close(struct dev *d)
{
	/* Only who holds the lock may remove anything. */
	if (d->sockets_apart && d->sockets[0]) {
		dev_remove_tree(d->sockets);
		*strrchr(d->sockets, '/') = '\0';
		rmdir(d->sockets);
	}
	if (d->ephemeral && d->dir[0])
		dev_remove_tree(d->dir);
	if (d->lock_fd >= 0)
		close(d->lock_fd);
	d->lock_fd = -1;
}

/* ---- orphans ---- */

static pid_t read_pid(const char *path)
{
	char text[64];
	int64_t pid;

	if (!dev_read(path, text, sizeof(text)))
		return 0;
	text[strcspn(text, "\n")] = '\0';
	return str_to_int(str_of(text), 2, INT_MAX, &pid) == ERR_OK ? (pid_t)pid : 0;
}

static bool gone_within(pid_t pid, const char *mark, usec_t grace)
{
	usec_t end = clock_mono() + grace;

	while (dev_pid_is(pid, mark)) {
		if (clock_mono() >= end)
			return false;
		(void)dev_wait(20 * USEC_PER_MSEC);
	}
	return true;
}

static int sweep_one(const struct dev_child *c, pid_t pid)
{
	if (!dev_pid_is(pid, c->mark))
		return CLI_DONE;
	cli_error("ending %s (process id %d) of a former run", c->name, (int)pid);
	kill(pid, SIGCONT);
	kill(pid, c->death_signal);
	if (gone_within(pid, c->mark, SWEEP_GRACE))
		return CLI_DONE;
	kill(pid, SIGKILL);
	if (gone_within(pid, c->mark, SWEEP_GRACE))
		return CLI_DONE;
	cli_error("process id %d does not end", (int)pid);
	return CLI_FAILED;
}

static int sweep_child(const struct dev_child *c)
{
	int rc = sweep_one(c, read_pid(c->pid_file));

	if (rc == CLI_DONE && unlink(c->pid_file) != 0 && errno != ENOENT)
		return complain(c->pid_file);
	return rc;
}

/* Postgres refuses to start while postmaster.pid names a living process, even one that got the
 * number by chance. */
static int sweep_postmaster(const struct dev *d)
{
	char path[DEV_PATH];
	int rc;

	if (dev_path(path, "%s/postgres/postmaster.pid", d->data) != ERR_OK)
		return CLI_FAILED;
	rc = sweep_one(&d->postgres, read_pid(path));
	if (rc == CLI_DONE && unlink(path) != 0 && errno != ENOENT)
		return complain(path);
	return rc;
}

int dev_dir_sweep(struct dev *d)
{
	int rc = sweep_child(&d->serve);

	if (rc == CLI_DONE)
		rc = sweep_child(&d->redis);
	if (rc == CLI_DONE)
		rc = sweep_child(&d->postgres);
	if (rc == CLI_DONE)
		rc = sweep_postmaster(d);
	return rc;
}
