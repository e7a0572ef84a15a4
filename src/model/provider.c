/* A file is parsed whenever somebody asks for it: at reloads, and by commands. */
#include "weir/model/provider.h"

#include <jansson.h>
#include <string.h>

#define NAMES_MAX 2048

size_t provider_count(void)
{
	size_t n = 0;

	while (provider_files[n].name)
		n++;
	return n;
}

const char *provider_name(size_t i)
{
	return provider_files[i].name;
}

static const struct provider_file *find(const char *name)
{
	for (const struct provider_file *f = provider_files; f->name; f++)
		if (strcmp(f->name, name) == 0)
			return f;
	return NULL;
}

const char *provider_known(const char *name)
{
	const struct provider_file *f = find(name);

	return f ? f->name : NULL;
}

const char *provider_names(void)
{
	static char names[NAMES_MAX];
	size_t len = 0;

	for (const struct provider_file *f = provider_files; f->name; f++) {
		size_t n = strlen(f->name);

		if (len + n + 3 > sizeof(names))
			break;
		if (len > 0)
			memcpy(names + len, ", ", 2);
		len += len > 0 ? 2 : 0;
		memcpy(names + len, f->name, n + 1);
		len += n;
	}
	return names;
}

enum err provider_load(const char *name, struct json_t **ret)
{
	const struct provider_file *f = find(name);

	if (!f)
		return ERR_NOTFOUND;
	*ret = json_loads(f->text, JSON_REJECT_DUPLICATES, NULL);
	return *ret ? ERR_OK : ERR_NOMEM;
}

struct str provider_text(const struct json_t *p, const char *member, const char *inner)
{
	const json_t *v = json_object_get(p, member);

	if (inner)
		v = json_object_get(v, inner);
	return json_is_string(v) ? str_n(json_string_value(v), json_string_length(v)) : STR("");
}
