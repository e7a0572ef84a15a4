/* The boot id is in the consumer's name because a container restarts with the same host name and
 * the same pid. */
#include "weir/queue/stream_names.h"

#include <stdio.h>
#include <unistd.h>

#include "weir/base/mem.h"
#include "weir/base/rnd.h"

#define NAME_MAX_LEN 512

static void default_consumer(char *out, size_t size)
{
	char host[128] = "host";

	if (gethostname(host, sizeof(host) - 1) != 0)
		host[0] = '\0';
	snprintf(out, size, "%s-%ld-%08lx", host, (long)getpid(),
	         (unsigned long)(rnd_u64() & 0xffffffff));
}

/* Appends a string with its NUL; returns it as a slice. */
static struct str put(char **at, char *end, const char *a, const char *b, const char *c)
{
	char *start = *at;
	int n = snprintf(start, (size_t)(end - start), "%s%s%s", a, b, c);

	*at = start + n + 1;
	return str_n(start, (size_t)n);
}

enum err stream_names_init(struct stream_names *n, const char *prefix, const char *stream,
                           const char *group, const char *consumer)
{
	char made[NAME_MAX_LEN];
	size_t total = 3 * (strlen(prefix) + strlen(stream)) + strlen(group) + strlen(consumer) +
	               2 * NAME_MAX_LEN;
	char *at, *end;

	n->text = at = mem_zalloc(total);
	if (!at)
		return ERR_NOMEM;
	end = at + total;
	default_consumer(made, sizeof(made));
	n->keys[STREAM_MAIN] = put(&at, end, prefix, stream, "");
	n->keys[STREAM_LARGE] = put(&at, end, prefix, stream, ":large");
	n->parked = put(&at, end, prefix, stream, ":parked");
	n->group = put(&at, end, group, "", "");
	n->consumer = put(&at, end, *consumer ? consumer : made, "", "");
	n->process = put(&at, end, made, "", "");
	return ERR_OK;
}

void stream_names_done(struct stream_names *n)
{
	mem_free(n->text);
	n->text = NULL;
}
