/* Bodies that call themselves gzip. Whatever they are, no more comes out than is allowed, and what
 * is found whole is found whole again, with a limit of just its size. The first byte is the limit,
 * in steps of 64 KiB. */
#include <stdint.h>
#include <stdlib.h>

#include "weir/base/gzip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEP ((size_t)64 * 1024)

/* In steps it comes to the same. */
static enum gzip_verdict decode_in_steps(struct str in, size_t max, struct buf *out)
{
	struct gzip_stream *g = NULL;
	enum gzip_verdict v = gzip_stream_new(in, max, out, &g);

	while (v == GZIP_MORE)
		v = gzip_stream_step(g, 1);
	gzip_stream_free(g);
	return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t max = size ? (data[0] % 32) * STEP : 0, len;
	struct str in = str_n(data + (size ? 1 : 0), size ? size - 1 : 0);
	enum gzip_verdict v;
	struct buf out;

	buf_init(&out, 34 * STEP);
	v = gzip_decode(in, max, &out);
	len = out.len;
	if (len > max + STEP || (v == GZIP_OK && len > max))
		abort();
	if (decode_in_steps(in, max, &out) != v || out.len != len)
		abort();
	if (v == GZIP_OK && gzip_decode(in, len, &out) != GZIP_OK)
		abort();
	if (v == GZIP_OK && len && gzip_decode(in, len - 1, &out) != GZIP_TOO_LARGE)
		abort();
	buf_done(&out);
	return 0;
}
