/* gzip data for tests: real ones by zlib, and bombs. */
#ifndef WEIR_TEST_GZIP_MAKE_H
#define WEIR_TEST_GZIP_MAKE_H

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "weir/base/str.h"

/* `plain` `times` over, in one member; malloc'ed. */
static inline struct str gzip_make(struct str plain, size_t times)
{
	z_stream z = {0};
	size_t space = 1024 + 2 * plain.len + plain.len * times / 100;
	char *out = malloc(space);

	if (!out || deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		abort();
	z.next_out = (Bytef *)out;
	z.avail_out = (unsigned)space;
	for (size_t i = 0; i < times; i++) {
		z.next_in = (Bytef *)(uintptr_t)plain.ptr;
		z.avail_in = (unsigned)plain.len;
		if (deflate(&z, Z_NO_FLUSH) != Z_OK)
			abort();
	}
	if (deflate(&z, Z_FINISH) != Z_STREAM_END)
		abort();
	deflateEnd(&z);
	return str_n(out, z.total_out);
}

#endif
