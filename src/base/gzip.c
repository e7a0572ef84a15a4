/* zlib, a piece of output at a time: the limits are looked at between the pieces, so a bomb costs
 * no more than what it may be at most. Its memory comes from mem_alloc, like all of ours. */
#include "weir/base/gzip.h"

#include <limits.h>
#include <zlib.h>

#include "weir/base/mem.h"

#define PIECE      ((size_t)64 * 1024)
#define GZIP_ONLY  16 /* added to the window's bits: no zlib or raw data */
#define MAX_WINDOW 15

static void *get(void *arg, unsigned n, unsigned size)
{
	(void)arg;
	return mem_alloc((size_t)n * size);
}

static void give(void *arg, void *p)
{
	(void)arg;
	mem_free(p);
}

static bool is_gzip(struct str s)
{
	return s.len >= 3 && memcmp(s.ptr, "\x1f\x8b\x08", 3) == 0;
}

/* Room for a piece, unless the process's memory is short. */
static enum gzip_verdict make_room(struct buf *out)
{
	size_t grows = out->space - out->len > PIECE ? 0 : out->space + PIECE;

	if (grows && !mem_fits(grows, 8))
		return GZIP_NOMEM;
	if (buf_reserve(out, PIECE) != ERR_OK)
		return out->err == ERR_NOMEM ? GZIP_NOMEM : GZIP_TOO_LARGE;
	return GZIP_OK;
}

static bool over_ratio(const z_stream *z)
{
	return z->total_out > GZIP_RATIO_FLOOR && z->total_out / GZIP_MAX_RATIO > z->total_in;
}

static enum gzip_verdict judge_end(const z_stream *z, const struct buf *out)
{
	if (z->avail_in)
		return GZIP_TRAILING;
	return is_gzip(buf_str(out)) ? GZIP_NESTED : GZIP_OK;
}

static enum gzip_verdict inflate_all(z_stream *z, uint64_t max, struct buf *out)
{
	for (;;) {
		enum gzip_verdict v = make_room(out);
		size_t had = out->len;
		int rc;

		if (v != GZIP_OK)
			return v;
		z->next_out = (Bytef *)(out->ptr + had);
		z->avail_out = PIECE;
		rc = inflate(z, Z_NO_FLUSH);
		out->len = had + PIECE - z->avail_out;
		if (out->len > max)
			return GZIP_TOO_LARGE;
		if (over_ratio(z))
			return GZIP_RATIO;
		if (rc == Z_STREAM_END)
			return judge_end(z, out);
		if (rc == Z_MEM_ERROR)
			return GZIP_NOMEM;
		if (rc != Z_OK && rc != Z_BUF_ERROR)
			return GZIP_MALFORMED;
		if (z->avail_in == 0 && z->avail_out > 0)
			return GZIP_TRUNCATED;
	}
}

enum gzip_verdict gzip_decode(struct str in, uint64_t max, struct buf *out)
{
	z_stream z = {.zalloc = get, .zfree = give};
	enum gzip_verdict v;

	buf_reset(out);
	if (in.len == 0)
		return GZIP_TRUNCATED;
	if (in.len > UINT_MAX)
		return GZIP_TOO_LARGE;
	z.next_in = (Bytef *)(uintptr_t)in.ptr;
	z.avail_in = (unsigned)in.len;
	if (inflateInit2(&z, MAX_WINDOW + GZIP_ONLY) != Z_OK)
		return GZIP_NOMEM;
	v = inflate_all(&z, max, out);
	inflateEnd(&z);
	return v;
}
