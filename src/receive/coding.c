/* A decoded request is what it would have been without the coding: its headers say nothing of it
 * any more, so that whoever gets body and headers later is not told to decode once more. */
#include "coding_priv.h"

#include "weir/base/mem.h"

#define ROOM ((uint64_t)128 * 1024) /* a piece more than is allowed, to see that it is too much */

static const struct {
	int status;
	const char *reason, *detail;
} verdicts[] = {
    [GZIP_OK] = {200, "ok", ""},
    [GZIP_MALFORMED] = {400, "gzip_malformed", "the body is not the gzip data that it should be"},
    [GZIP_TRUNCATED] = {400, "gzip_truncated", "the gzip data end too early"},
    [GZIP_TRAILING] = {400, "gzip_trailing", "something stands behind the gzip data"},
    [GZIP_NESTED] = {400, "gzip_nested", "the gzip data hold gzip data"},
    [GZIP_TOO_LARGE] = {413, "decoded_too_large", "the decoded body is over the limit"},
    [GZIP_RATIO] = {413, "gzip_ratio", "the body decodes to over 100 times its size"},
    [GZIP_NOMEM] = {503, "no_memory", "out of memory"},
};

int coding_status(enum gzip_verdict v)
{
	return verdicts[v].status;
}

const char *coding_reason(enum gzip_verdict v)
{
	return verdicts[v].reason;
}

const char *coding_detail(enum gzip_verdict v)
{
	return verdicts[v].detail;
}

enum intake_limit coding_limit(enum gzip_verdict v)
{
	return v == GZIP_TOO_LARGE ? INTAKE_LIMIT_BODY
	       : v == GZIP_RATIO   ? INTAKE_LIMIT_RATIO
	                           : INTAKE_LIMIT_NONE;
}

static bool is_coding(const struct http_header *h)
{
	return h->name.len == 16 && str_ieq(h->name, STR("content-encoding"));
}

enum body_coding coding_of(const struct http_header *headers, size_t n)
{
	enum body_coding c = CODING_NONE;
	size_t found = 0;

	for (size_t i = 0; i < n; i++) {
		if (!is_coding(&headers[i]))
			continue;
		if (found++)
			return CODING_OTHER;
		if (str_ieq(headers[i].value, STR("gzip")) ||
		    str_ieq(headers[i].value, STR("x-gzip")))
			c = CODING_GZIP;
		else if (headers[i].value.len && !str_ieq(headers[i].value, STR("identity")))
			c = CODING_OTHER;
	}
	return c;
}

void decoder_init(struct decoder *d)
{
	*d = (struct decoder){.headers = NULL};
	buf_init(&d->plain, 0); /* each request has a bound of its own */
}

void decoder_done(struct decoder *d)
{
	gzip_stream_free(d->stream);
	d->stream = NULL;
	buf_done(&d->plain);
	mem_free(d->headers);
}

void decoder_shrink(struct decoder *d, size_t kept)
{
	if (d->plain.space > kept)
		buf_done(&d->plain);
}

static enum err copy_headers(struct decoder *d, const struct http_header *headers, size_t n)
{
	struct http_header *grown;

	if (n > d->space) {
		grown = mem_realloc(d->headers, n * sizeof(*grown));
		if (!grown)
			return ERR_NOMEM;
		d->headers = grown;
		d->space = n;
	}
	d->header_count = 0;
	for (size_t i = 0; i < n; i++)
		if (!is_coding(&headers[i]))
			d->headers[d->header_count++] = headers[i];
	return ERR_OK;
}

enum gzip_verdict decoder_start(struct decoder *d, struct str body, uint64_t max,
                                const struct http_header *headers, size_t n)
{
	gzip_stream_free(d->stream);
	d->stream = NULL;
	if (copy_headers(d, headers, n) != ERR_OK)
		return GZIP_NOMEM;
	d->plain.cap = max < SIZE_MAX - ROOM ? (size_t)(max + ROOM) : SIZE_MAX;
	return gzip_stream_new(body, max, &d->plain, &d->stream);
}

enum gzip_verdict decoder_step(struct decoder *d, size_t bytes)
{
	enum gzip_verdict v = gzip_stream_step(d->stream, bytes ? bytes : SIZE_MAX);

	if (v == GZIP_MORE)
		return v;
	gzip_stream_free(d->stream);
	d->stream = NULL;
	return v;
}
