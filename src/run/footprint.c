/* Linking some forty libraries and running their constructors touches several megabytes of code and
 * tables that a running weir never looks at again. They stay resident, since nothing asks for the
 * memory. A mapping counts only if it is file-backed, read-only and without a page of its own:
 * relocated tables are read-only too by then, and dropping those would lose the relocations. */
#include "weir/run/footprint.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct mapping {
	uintptr_t start, end;
	bool library; /* file-backed, readable, not writable */
	size_t anonymous_kb;
	size_t resident_kb;
};

/* "start-end perms offset device inode path"; false: no such line. */
static bool parse_head(const char *line, struct mapping *ret)
{
	char *end;
	struct mapping m = {.start = strtoul(line, &end, 16)};

	if (end == line || *end != '-')
		return false;
	m.end = strtoul(end + 1, &end, 16);
	m.library = end[0] == ' ' && end[1] == 'r' && end[2] == '-' && end[4] == 'p' &&
	            strchr(end, '/') != NULL;
	*ret = m;
	return true;
}

static size_t drop(const struct mapping *m)
{
	if (!m->library || m->anonymous_kb || m->end <= m->start)
		return 0;
	if (madvise((void *)m->start, m->end - m->start, MADV_DONTNEED) != 0)
		return 0;
	return m->resident_kb * 1024;
}

size_t footprint_trim(void)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	struct mapping m = {0};
	char line[4352];
	size_t dropped = 0;

	malloc_trim(0);
	while (f && fgets(line, sizeof(line), f)) {
		struct mapping next;

		if (parse_head(line, &next)) {
			dropped += drop(&m);
			m = next;
		} else if (strncmp(line, "Rss:", 4) == 0) {
			m.resident_kb = strtoul(line + 4, NULL, 10);
		} else if (strncmp(line, "Anonymous:", 10) == 0) {
			m.anonymous_kb = strtoul(line + 10, NULL, 10);
		}
	}
	dropped += drop(&m);
	if (f)
		fclose(f);
	return dropped;
}
