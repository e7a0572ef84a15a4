/* Paths and small files for `weir dev`. Paths live in fixed arrays: there are a dozen of them, and
 * one that does not fit could not name a socket or a data folder anyway. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "weir/base/str.h"
#include "weir/cli/command.h"
#include "weir/cli/dev.h"

#define USUAL_FOLDERS "/usr/local/bin:/usr/bin:/bin:/usr/sbin"

enum err dev_path(char out[DEV_PATH], const char *fmt, ...)
{
	char text[DEV_PATH];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(text)) {
		cli_error("a path is too long: %.60s…", text);
		return ERR_TOOBIG;
	}
	memcpy(out, text, (size_t)n + 1);
	return ERR_OK;
}

static bool write_all(int fd, const char *p, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

enum err dev_write(const char *path, mode_t mode, const char *text)
{
	char fresh[DEV_PATH];
	bool ok;
	int fd;

	if (dev_path(fresh, "%s.new", path) != ERR_OK)
		return ERR_TOOBIG;
	fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	ok = fd >= 0 && write_all(fd, text, strlen(text));
	if (fd >= 0)
		ok = close(fd) == 0 && ok;
	if (ok && rename(fresh, path) == 0)
		return ERR_OK;
	cli_error("%s: %s", path, strerror(errno));
	return ERR_IO;
}

bool dev_read(const char *path, char *out, size_t space)
{
	size_t len = 0;
	ssize_t n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	while (len + 1 < space && (n = read(fd, out + len, space - 1 - len)) > 0)
		len += (size_t)n;
	close(fd);
	out[len] = '\0';
	return n >= 0;
}

static int on_tree_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

void dev_remove_tree(const char *path)
{
	if (nftw(path, on_tree_entry, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
		cli_error("%s could not be removed: %s", path, strerror(errno));
}

static bool find_in(const char *folders, const char *name, char ret[DEV_PATH])
{
	struct str rest = str_of(folders);

	while (rest.ptr) {
		struct str one = str_split(&rest, ':');
		char path[DEV_PATH];

		/* Only absolute folders: the servers change their working folder. */
		if (one.len == 0 || one.ptr[0] != '/' || one.len + strlen(name) + 2 > sizeof(path))
			continue;
		snprintf(path, sizeof(path), "%.*s/%s", (int)one.len, one.ptr, name);
		if (access(path, X_OK) == 0) {
			memcpy(ret, path, sizeof(path));
			return true;
		}
	}
	return false;
}

bool dev_find(const char *name, char ret[DEV_PATH])
{
	const char *path = getenv("PATH");

	return (path && find_in(path, name, ret)) || find_in(USUAL_FOLDERS, name, ret);
}
