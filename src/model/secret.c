/* Secrets come from the environment, from files, or, for tests, from the tools file itself. Their
 * text lives no longer than it takes to key the MACs. Only regular files are read: a pipe could
 * block the loop at a reload. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "weir/base/mem.h"

#include "tool_priv.h"

#define SECRET_MAX 65536 /* bytes in a file */

static enum err read_fd(struct loader *l, const char *member, const char *path, int fd, char **ret,
                        size_t *ret_len)
{
	struct stat st;
	size_t len = 0;
	char *text;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > SECRET_MAX)
		return tool_bad(l, member, "\"%s\" is no regular file of at most 64 KiB", path);
	text = mem_alloc(SECRET_MAX + 1);
	if (!text)
		return ERR_NOMEM;
	while (len < SECRET_MAX) {
		ssize_t n = read(fd, text + len, SECRET_MAX - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			mem_wipe_free(text, SECRET_MAX + 1);
			return tool_bad(l, member, "cannot read \"%s\": %s", path, strerror(errno));
		}
		if (n == 0)
			break;
		len += (size_t)n;
	}
	/* Editors and `echo` end files with a newline that is not meant. */
	if (len && text[len - 1] == '\n')
		len--;
	if (len && text[len - 1] == '\r')
		len--;
	text[len] = '\0';
	*ret = text;
	*ret_len = len;
	return ERR_OK;
}

static enum err from_file(struct loader *l, const char *member, const char *path, char **ret,
                          size_t *ret_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	enum err e;

	if (fd < 0)
		return tool_bad(l, member, "cannot open \"%s\": %s", path, strerror(errno));
	/* Noted before it is read: what changes in between is then seen as a change. */
	e = l->tool ? tool_note_file(l->tool, path, fd) : ERR_OK;
	if (e == ERR_OK)
		e = read_fd(l, member, path, fd, ret, ret_len);
	close(fd);
	return e;
}

static enum err keep_text(const char *text, char **ret, size_t *ret_len)
{
	*ret = mem_strdup(text);
	*ret_len = strlen(text);
	return *ret ? ERR_OK : ERR_NOMEM;
}

/* The table is in the database's backups, and the secret would be as well. */
static enum err refuse_literal(struct loader *l, const char *where)
{
	return tool_bad(l, where,
	                "must be {\"env\": \"NAME\"} or {\"file\": \"PATH\"} here; a secret is "
	                "not stored in the table");
}

static enum err from_object(struct loader *l, const char *where, const json_t *o, char **ret,
                            size_t *ret_len)
{
	static const char *const ways[] = {"env", "file", "value"};
	const json_t *v = NULL;
	const char *text, *env;
	size_t way = 3;

	for (size_t i = 0; i < 3; i++) {
		if (!json_object_get(o, ways[i]))
			continue;
		if (v)
			return tool_bad(l, where, "has both \"%s\" and \"%s\"", ways[way], ways[i]);
		v = json_object_get(o, ways[i]);
		way = i;
	}
	if (!json_is_string(v) && !l->no_literals)
		return tool_bad(l, where,
		                "must be {\"env\": \"NAME\"}, {\"file\": \"PATH\"} or "
		                "{\"value\": \"TEXT\"}");
	if (!json_is_string(v) || (way == 2 && l->no_literals))
		return refuse_literal(l, where);
	text = json_string_value(v);
	if (way == 1)
		return from_file(l, where, text, ret, ret_len);
	if (way == 2)
		return keep_text(text, ret, ret_len);
	env = getenv(text);
	if (!env)
		return tool_bad(l, where, "the environment variable \"%s\" is not set", text);
	return keep_text(env, ret, ret_len);
}

static enum err check_secret_members(struct loader *l, const char *where, const json_t *o,
                                     enum recipe_key *form)
{
	const json_t *f = json_object_get(o, "form");
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)o, name, v)
	{
		if (strcmp(name, "env") != 0 && strcmp(name, "file") != 0 &&
		    strcmp(name, "value") != 0 && strcmp(name, "form") != 0)
			return tool_bad(l, where,
			                "no such member: %s; allowed are env, file, value, "
			                "form",
			                name);
	}
	if (f &&
	    (!json_is_string(f) || recipe_key_form(str_of(json_string_value(f)), form) != ERR_OK))
		return tool_bad(l, where, "form must be %s", RECIPE_KEY_FORMS);
	return ERR_OK;
}

static enum err read_text(struct loader *l, const char *where, const json_t *v,
                          enum recipe_key *form, char **ret, size_t *ret_len)
{
	enum err e;

	if (json_is_string(v) && l->no_literals)
		return refuse_literal(l, where);
	if (json_is_string(v))
		return keep_text(json_string_value(v), ret, ret_len);
	e = check_secret_members(l, where, v, form);
	return e == ERR_OK ? from_object(l, where, v, ret, ret_len) : e;
}

enum err secret_read(struct loader *l, const char *member, const json_t *v, char **ret,
                     size_t *ret_len)
{
	enum recipe_key form = RECIPE_KEY_RAW;
	enum err e;

	if (json_object_get(v, "form"))
		return tool_bad(l, member, "no such member: form; allowed are env, file, value");
	e = read_text(l, member, v, &form, ret, ret_len);
	if (e != ERR_OK || *ret_len)
		return e;
	mem_wipe_free(*ret, 0);
	return tool_bad(l, member, "is empty");
}

static enum err read_one(struct loader *l, size_t i, const json_t *v, enum recipe_key form,
                         struct secret_list *s)
{
	char where[32], *text = NULL;
	size_t len = 0;
	enum err e;

	snprintf(where, sizeof(where), "secrets[%zu]", i);
	if (s->n == RECIPE_MAX_SECRETS)
		return tool_bad(l, "secrets", "more than %d", RECIPE_MAX_SECRETS);
	e = read_text(l, where, v, &form, &text, &len);
	if (e != ERR_OK)
		return e;
	s->owned[s->n] = text;
	s->texts[s->n++] = (struct recipe_secret_text){form, {text, len}};
	return len ? ERR_OK : tool_bad(l, where, "is empty");
}

enum err secrets_read(struct loader *l, const json_t *list, enum recipe_key form,
                      struct secret_list *ret)
{
	const json_t *v;
	enum err e = ERR_OK;
	size_t i;

	ret->n = 0;
	if (!list)
		return ERR_OK;
	if (!json_is_array(list) || json_array_size(list) == 0)
		return tool_bad(l, "secrets", "must be a list with at least one secret");
	json_array_foreach(list, i, v)
	{
		e = tool_take(l, read_one(l, i, v, form, ret));
		if (e != ERR_OK)
			break;
	}
	if (e != ERR_OK)
		secrets_done(ret);
	return e;
}

void secrets_done(struct secret_list *s)
{
	for (size_t i = 0; i < s->n; i++)
		mem_wipe_free(s->owned[i], s->texts[i].text.len);
	s->n = 0;
}
