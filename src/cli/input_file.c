/* Read to the end, whatever it is: a pipe has no size. */
#include "weir/cli/input_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "weir/cli/command.h"
#include "weir/model/recipe.h"

#define CHUNK 65536

static enum err read_fd(int fd, struct buf *out)
{
	for (;;) {
		ssize_t n;

		if (out->len == out->cap && out->cap > 0)
			return ERR_TOOBIG;
		if (buf_reserve(out, out->cap - out->len < CHUNK ? out->cap - out->len : CHUNK) !=
		    ERR_OK)
			return out->err;
		n = read(fd, out->ptr + out->len,
		         out->cap - out->len < CHUNK ? out->cap - out->len : CHUNK);
		if (n == 0)
			return ERR_OK;
		if (n < 0 && errno != EINTR)
			return ERR_IO;
		out->len += n > 0 ? (size_t)n : 0;
	}
}

enum err input_file_read(const char *path, struct buf *out, struct err_info *info)
{
	bool standard = strcmp(path, "-") == 0;
	int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	enum err e;

	if (fd < 0)
		return err_set(info, ERR_NOTFOUND, "cannot open %s: %s", path, strerror(errno));
	e = read_fd(fd, out);
	if (e == ERR_TOOBIG)
		e = err_set(info, e, "%s is longer than %zu bytes", path, out->cap - 1);
	else if (e != ERR_OK)
		e = err_set(info, e, "cannot read %s: %s", path, strerror(errno));
	if (!standard)
		close(fd);
	return e;
}

int cli_read_file(const char *path, struct buf *out)
{
	struct err_info info = {0};

	if (input_file_read(path, out, &info) == ERR_OK)
		return CLI_DONE;
	cli_error("%s", info.text);
	return CLI_FAILED;
}

bool cli_take_time(void *arg, const char *value)
{
	usec_t *at = arg;

	return recipe_parse_ts(RECIPE_SECONDS, str_of(value), at) == ERR_OK ||
	       recipe_parse_ts(RECIPE_ISO, str_of(value), at) == ERR_OK;
}
