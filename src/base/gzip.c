/* zlib, a piece of output at a time: the limits are looked at between the pieces, so a bomb costs
 * no more than what it may be at most. Its memory comes from mem_alloc, like all of ours. */
#include "weir/base/gzip.h"

#include <limits.h>
#include <zlib.h>

#include "weir/base/mem.h"

#define PIECE      ((size_t)64 * 1024)
#define GROWTH     8  /* room grows to the length told when so many times less is needed */
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

struct gzip_stream {
	z_stream z;
	uint64_t max;
	size_t told;     /* how much it will be by its own account, and no more than `max` */
	struct buf *out; /* borrowed */
	bool begun;
};

/* The last four bytes of a member say how long it is. They may lie, so no more is made of them than
 * that room grows up to there at a step, when a part of it has come already. */
static size_t length_told(struct str in, uint64_t max)
{
	uint64_t n = 0;

	for (size_t i = 1; i <= 4 && in.len >= 4; i++)
		n = n << 8 | (uint8_t)in.ptr[in.len - i];
	return (size_t)(n < max ? n : max);
}

/* Room for a piece, unless the process's memory is short. */
static enum gzip_verdict make_room(struct gzip_stream *g)
{
	struct buf *out = g->out;
	size_t more = PIECE;

	if (out->space - out->len > PIECE)
		return GZIP_OK;
	if (g->told > out->len + PIECE && g->told / GROWTH <= out->len + PIECE)
		more = g->told + PIECE - out->len;
	if (!mem_fits(more > out->space ? more : out->space, 8))
		return GZIP_NOMEM;
	if (buf_reserve(out, more) != ERR_OK)
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

static enum gzip_verdict inflate_piece(struct gzip_stream *g)
{
	enum gzip_verdict v = make_room(g);
	struct buf *out = g->out;
	z_stream *z = &g->z;
	size_t had = out->len;
	int rc;

	if (v != GZIP_OK)
		return v;
	z->next_out = (Bytef *)(out->ptr + had);
	z->avail_out = PIECE;
	rc = inflate(z, Z_NO_FLUSH);
	out->len = had + PIECE - z->avail_out;
	if (out->len > g->max)
		return GZIP_TOO_LARGE;
	if (over_ratio(z))
		return GZIP_RATIO;
	if (rc == Z_STREAM_END)
		return judge_end(z, out);
	if (rc == Z_MEM_ERROR)
		return GZIP_NOMEM;
	if (rc != Z_OK && rc != Z_BUF_ERROR)
		return GZIP_MALFORMED;
	return z->avail_in == 0 && z->avail_out > 0 ? GZIP_TRUNCATED : GZIP_MORE;
}

static enum gzip_verdict begin(struct gzip_stream *g, struct str in, uint64_t max, struct buf *out)
{
	*g = (struct gzip_stream){.z = {.zalloc = get, .zfree = give}, .max = max, .out = out};
	buf_reset(out);
	if (in.len == 0)
		return GZIP_TRUNCATED;
	if (in.len > UINT_MAX)
		return GZIP_TOO_LARGE;
	g->told = length_told(in, max);
	g->z.next_in = (Bytef *)(uintptr_t)in.ptr;
	g->z.avail_in = (unsigned)in.len;
	if (inflateInit2(&g->z, MAX_WINDOW + GZIP_ONLY) != Z_OK)
		return GZIP_NOMEM;
	g->begun = true;
	return GZIP_MORE;
}

static void end(struct gzip_stream *g)
{
	if (g->begun)
		inflateEnd(&g->z);
	g->begun = false;
}

enum gzip_verdict gzip_decode(struct str in, uint64_t max, struct buf *out)
{
	struct gzip_stream g;
	enum gzip_verdict v = begin(&g, in, max, out);

	while (v == GZIP_MORE)
		v = inflate_piece(&g);
	end(&g);
	return v;
}

enum gzip_verdict gzip_stream_new(struct str in, uint64_t max, struct buf *out,
                                  struct gzip_stream **ret)
{
	struct gzip_stream *g = mem_alloc(sizeof(*g));
	enum gzip_verdict v = g ? begin(g, in, max, out) : GZIP_NOMEM;

	if (v == GZIP_MORE)
		*ret = g;
	else
		mem_free(g);
	return v;
}

enum gzip_verdict gzip_stream_step(struct gzip_stream *g, size_t bytes)
{
	enum gzip_verdict v = GZIP_MORE;

	for (size_t done = 0; v == GZIP_MORE && done < bytes; done += PIECE)
		v = inflate_piece(g);
	return v;
}

void gzip_stream_free(struct gzip_stream *g)
{
	if (!g)
		return;
	end(g);
	mem_free(g);
}
