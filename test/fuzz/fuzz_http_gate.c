/* The gate and the chunked decoder: fed at once and in pieces, the verdict and the content must be
 * the same; and what passed must keep the parser's promises. The first byte of the input says how
 * the pieces are cut. */
#include <stdlib.h>
#include <string.h>

#include "weir/io/http_body.h"
#include "weir/io/http_gate.h"

#define BODY_LIMIT 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http_gate_limits limits = {.max_bytes = 2048, .max_fields = 20};

static void must(bool holds)
{
	if (!holds)
		abort();
}

/* A copy that ends where the input ends, for ASan. */
static char *exact_copy(const char *p, size_t len)
{
	char *copy = malloc(len ? len : 1);

	must(copy != NULL);
	if (len)
		memcpy(copy, p, len);
	return copy;
}

static enum http_gate_verdict parse_pieces(const char *p, size_t len, size_t step,
                                           struct http_gate_head *h)
{
	for (size_t n = step; n < len; n += step) {
		char *copy = exact_copy(p, n);
		enum http_gate_verdict v = http_gate_parse(copy, n, &limits, h);

		free(copy);
		if (v == HTTP_GATE_REFUSED)
			return v;
		if (v == HTTP_GATE_WHOLE)
			break;
	}
	return http_gate_parse(p, len, &limits, h);
}

static bool has_none_of(struct str s, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s.len && memchr(s.ptr, bytes[i], s.len))
			return false;
	return true;
}

static void check_head(const struct http_gate_head *h, const char *p, size_t len)
{
	char *path = exact_copy(h->path.ptr, h->path.len);
	size_t n = http_gate_unescape(h->path, path);

	must(h->len <= len && h->len <= limits.max_bytes);
	must(memcmp(p + h->len - 4, "\r\n\r\n", 4) == 0);
	must(n <= h->path.len && (n == h->path.len) == !h->path_escaped);
	must(has_none_of(str_n(path, n), "\0", 1));
	must(has_none_of(h->target, "\0\r\n \t#", 6));
	must(http_gate_is_token(h->method));
	must(h->field_count <= limits.max_fields);
	must(!(h->chunked && h->has_length));
	for (size_t i = 0; i < h->field_count; i++) {
		must(http_gate_is_token(h->fields[i].name));
		must(has_none_of(h->fields[i].value, "\0\r\n", 3));
	}
	free(path);
}

struct decoded {
	enum err e;
	size_t len, used;
	char content[BODY_LIMIT];
};

static void decode(const char *p, size_t len, size_t step, struct decoded *out)
{
	struct http_dechunk d;

	http_dechunk_init(&d, BODY_LIMIT);
	out->e = ERR_AGAIN;
	out->len = out->used = 0;
	while (out->e == ERR_AGAIN && out->used < len) {
		size_t n = step < len - out->used ? step : len - out->used;
		struct str in = str_n(p + out->used, n), piece;

		while ((out->e = http_dechunk_next(&d, &in, &piece)) == ERR_OK) {
			must(piece.len > 0 && out->len + piece.len <= BODY_LIMIT);
			memcpy(out->content + out->len, piece.ptr, piece.len);
			out->len += piece.len;
		}
		out->used += n - in.len;
	}
}

static void check_body(const char *p, size_t len, size_t step)
{
	static struct decoded once, pieces;

	decode(p, len, len ? len : 1, &once);
	decode(p, len, step, &pieces);
	must(once.e == pieces.e);
	if (once.e == ERR_INVAL || once.e == ERR_TOOBIG)
		return;
	must(once.len == pieces.len && once.used == pieces.used);
	must(memcmp(once.content, pieces.content, once.len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct http_gate_head once, pieces;
	enum http_gate_verdict v;
	size_t step;
	char *p;

	if (size < 1)
		return 0;
	step = (size_t)data[0] % 64 + 1;
	size--;
	p = exact_copy((const char *)data + 1, size);
	v = http_gate_parse(p, size, &limits, &once);
	must(parse_pieces(p, size, step, &pieces) == v);
	if (v == HTTP_GATE_REFUSED)
		must(once.status == pieces.status && once.detail == pieces.detail);
	if (v == HTTP_GATE_WHOLE) {
		must(once.len == pieces.len);
		check_head(&once, p, size);
		if (once.chunked)
			check_body(p + once.len, size - once.len, step);
	}
	check_body(p, size, step);
	free(p);
	return 0;
}
