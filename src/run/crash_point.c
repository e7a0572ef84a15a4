/* The process kills itself, so that nothing runs afterwards: no handler, no flush, no sanitizer. */
#include "weir/run/crash_point.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weir/base/str.h"

#ifdef WEIR_TEST
static struct {
	bool read;
	struct str name; /* in the environment; empty: none */
	int64_t left;
} wanted;

static void read_wanted(void)
{
	const char *text = getenv("WEIR_CRASH_AT");
	const char *colon = text ? strchr(text, ':') : NULL;

	wanted.read = true;
	wanted.left = 1;
	if (!text)
		return;
	wanted.name = str_n(text, colon ? (size_t)(colon - text) : strlen(text));
	if (colon && str_to_int(str_of(colon + 1), 1, INT64_MAX, &wanted.left) != ERR_OK)
		wanted.left = 1;
}

void crash_point(const char *name)
{
	if (!wanted.read)
		read_wanted();
	if (!str_eq(wanted.name, str_of(name)) || --wanted.left > 0)
		return;
	kill(getpid(), SIGKILL);
}

void crash_on(struct str event_type)
{
	const char *poison = getenv("WEIR_CRASH_ON");

	if (poison && str_eq(event_type, str_of(poison)))
		kill(getpid(), SIGKILL);
}
#else
/* No empty translation unit in C11. */
typedef int crash_point_is_for_tests;
#endif
