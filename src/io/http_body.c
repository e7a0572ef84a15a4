/* The chunked decoder: one byte-wise state machine for the framing, with content handed out in
 * slices. Sizes are bounded by the limit while they are read, so that they cannot overflow.
 * Trailers are checked only for what could confuse (control characters, names that are no tokens)
 * and then dropped: no header look-up ever sees them. */
#include "weir/io/http_body.h"

#include "weir/io/http_gate.h"

#define NAME(code, name) [code] = name,
static const char *const state_names[] = {HTTP_CHUNK_STATES(NAME)};
#undef NAME

const char *http_chunk_state_name(enum http_chunk_state s)
{
	return s < HTTP_CHUNK_STATE_COUNT ? state_names[s] : "?";
}

void http_dechunk_init(struct http_dechunk *d, uint64_t limit)
{
	*d = (struct http_dechunk){.state = HTTP_CHUNK_SIZE, .limit = limit};
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static enum err go(struct http_dechunk *d, enum http_chunk_state to)
{
	d->state = to;
	return ERR_OK;
}

static enum err step_size(struct http_dechunk *d, char c)
{
	int v = hex_digit(c);

	if (v >= 0) {
		/* 16 digits, leading zeros included, so that no sum below can overflow */
		if (++d->digits > 16)
			return ERR_INVAL;
		d->left = d->left << 4 | (uint64_t)v;
		return ERR_OK;
	}
	if (d->digits == 0)
		return ERR_INVAL;
	if (d->left > d->limit - d->total)
		return ERR_TOOBIG;
	if (c == '\r')
		return go(d, HTTP_CHUNK_SIZE_LF);
	if (c == ' ' || c == '\t')
		return go(d, HTTP_CHUNK_EXT_BLANK);
	return c == ';' ? go(d, HTTP_CHUNK_EXT) : ERR_INVAL;
}

static enum err count(size_t *n, size_t max)
{
	return ++*n > max ? ERR_TOOBIG : ERR_OK;
}

static enum err step_ext_blank(struct http_dechunk *d, char c)
{
	if (c == ';')
		return go(d, HTTP_CHUNK_EXT);
	return c == ' ' || c == '\t' ? count(&d->ext_bytes, HTTP_CHUNK_EXT_MAX) : ERR_INVAL;
}

static enum err step_ext(struct http_dechunk *d, char c)
{
	if (c == '\r')
		return go(d, HTTP_CHUNK_SIZE_LF);
	if (!http_gate_is_value(str_n(&c, 1)))
		return ERR_INVAL;
	return count(&d->ext_bytes, HTTP_CHUNK_EXT_MAX);
}

static enum err step_size_lf(struct http_dechunk *d, char c)
{
	if (c != '\n')
		return ERR_INVAL;
	d->digits = 0;
	if (d->left == 0)
		return go(d, HTTP_CHUNK_TRAILER);
	d->total += d->left;
	return go(d, HTTP_CHUNK_DATA);
}

static enum err step_trailer(struct http_dechunk *d, char c)
{
	enum http_chunk_state s = d->state;

	if (s == HTTP_CHUNK_TRAILER && c == '\r')
		return go(d, HTTP_CHUNK_END_LF);
	if (s == HTTP_CHUNK_TRAILER_NAME && c == ':')
		return go(d, HTTP_CHUNK_TRAILER_VALUE);
	if (s == HTTP_CHUNK_TRAILER_VALUE && c == '\r')
		return go(d, HTTP_CHUNK_TRAILER_LF);
	if (s == HTTP_CHUNK_TRAILER_VALUE ? !http_gate_is_value(str_n(&c, 1))
	                                  : !http_gate_is_token(str_n(&c, 1)))
		return ERR_INVAL;
	if (s == HTTP_CHUNK_TRAILER)
		d->state = HTTP_CHUNK_TRAILER_NAME;
	return count(&d->trailer_bytes, HTTP_CHUNK_TRAILER_MAX);
}

static enum err expect(struct http_dechunk *d, char c, char want, enum http_chunk_state to)
{
	return c == want ? go(d, to) : ERR_INVAL;
}

static enum err step(struct http_dechunk *d, char c)
{
	switch (d->state) {
	case HTTP_CHUNK_SIZE:
		return step_size(d, c);
	case HTTP_CHUNK_EXT_BLANK:
		return step_ext_blank(d, c);
	case HTTP_CHUNK_EXT:
		return step_ext(d, c);
	case HTTP_CHUNK_SIZE_LF:
		return step_size_lf(d, c);
	case HTTP_CHUNK_DATA_CR:
		return expect(d, c, '\r', HTTP_CHUNK_DATA_LF);
	case HTTP_CHUNK_DATA_LF:
		return expect(d, c, '\n', HTTP_CHUNK_SIZE);
	case HTTP_CHUNK_TRAILER:
	case HTTP_CHUNK_TRAILER_NAME:
	case HTTP_CHUNK_TRAILER_VALUE:
		return step_trailer(d, c);
	case HTTP_CHUNK_TRAILER_LF:
		return expect(d, c, '\n', HTTP_CHUNK_TRAILER);
	case HTTP_CHUNK_END_LF:
		return expect(d, c, '\n', HTTP_CHUNK_DONE);
	case HTTP_CHUNK_DATA:
	case HTTP_CHUNK_DONE:
	case HTTP_CHUNK_STATE_COUNT:
		break;
	}
	return ERR_BUG;
}

static void take_data(struct http_dechunk *d, struct str *in, struct str *ret_data)
{
	size_t n = d->left < in->len ? (size_t)d->left : in->len;

	*ret_data = str_n(in->ptr, n);
	*in = str_n(in->ptr + n, in->len - n);
	d->left -= n;
	if (d->left == 0)
		d->state = HTTP_CHUNK_DATA_CR;
}

enum err http_dechunk_next(struct http_dechunk *d, struct str *in, struct str *ret_data)
{
	while (d->state != HTTP_CHUNK_DONE) {
		enum err e;

		if (in->len == 0)
			return ERR_AGAIN;
		if (d->state == HTTP_CHUNK_DATA) {
			take_data(d, in, ret_data);
			return ERR_OK;
		}
		e = step(d, *in->ptr);
		if (e != ERR_OK)
			return e;
		*in = str_n(in->ptr + 1, in->len - 1);
	}
	return ERR_NOTFOUND;
}
