/* A load generator shares the machine with what it measures, so the usual case, a whole head in one
 * read, is parsed where it lies; only a head that came in pieces is copied. */
#include "http_answer.h"

#include <string.h>

#define NO_LENGTH UINT64_MAX

void http_answer_init(struct http_answer *a)
{
	memset(a, 0, sizeof(*a));
	buf_init(&a->head, HTTP_ANSWER_HEAD_MAX);
}

void http_answer_done(struct http_answer *a)
{
	buf_done(&a->head);
}

void http_answer_next(struct http_answer *a)
{
	buf_reset(&a->head);
	a->state = HTTP_ANSWER_HEAD;
}

/* "HTTP/1.1 200 OK"; the reason may be absent. */
static bool parse_status(struct http_answer *a, struct str line)
{
	const char *p = line.ptr;

	if (line.len < 12 || memcmp(p, "HTTP/1.", 7) != 0 || (p[7] != '0' && p[7] != '1') ||
	    p[8] != ' ' || (line.len > 12 && p[12] != ' '))
		return false;
	a->status = 0;
	for (int i = 9; i < 12; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		a->status = a->status * 10 + (p[i] - '0');
	}
	a->keep_alive = p[7] == '1';
	return a->status >= 100 && a->status <= 599;
}

static enum err parse_header(struct http_answer *a, struct str line, uint64_t *length,
                             bool *chunked)
{
	struct str value = line, name = str_split(&value, ':');
	int64_t n;

	if (!value.ptr)
		return ERR_PROTO;
	value = str_trim(value);
	if (str_ieq(name, STR("content-length"))) {
		if (str_to_int(value, 0, INT64_MAX, &n) != ERR_OK ||
		    (*length != NO_LENGTH && *length != (uint64_t)n))
			return ERR_PROTO;
		*length = (uint64_t)n;
	} else if (str_ieq(name, STR("transfer-encoding"))) {
		if (!str_ieq(value, STR("chunked")))
			return ERR_PROTO;
		*chunked = true;
	} else if (str_ieq(name, STR("connection"))) {
		if (str_ieq(value, STR("close")))
			a->keep_alive = false;
		else if (str_ieq(value, STR("keep-alive")))
			a->keep_alive = true;
	}
	return ERR_OK;
}

static struct str next_line(struct str *rest)
{
	struct str line = str_split(rest, '\n');

	if (line.len && line.ptr[line.len - 1] == '\r')
		line.len--;
	return line;
}

/* `head` without the empty line at its end. */
static enum err parse_head(struct http_answer *a, struct str head)
{
	uint64_t length = NO_LENGTH;
	bool chunked = false;
	enum err e = ERR_OK;

	if (!parse_status(a, next_line(&head)))
		return ERR_PROTO;
	while (head.ptr && e == ERR_OK)
		e = parse_header(a, next_line(&head), &length, &chunked);
	if (e != ERR_OK)
		return e;
	if (a->status < 200) {
		http_answer_next(a);
	} else if (a->status == 204 || a->status == 304) {
		a->state = HTTP_ANSWER_DONE;
	} else if (chunked) {
		http_dechunk_init(&a->chunks, INT64_MAX);
		a->state = HTTP_ANSWER_CHUNKED;
	} else if (length != NO_LENGTH) {
		a->left = length;
		a->state = HTTP_ANSWER_LENGTH;
	} else {
		a->keep_alive = false;
		a->state = HTTP_ANSWER_TO_END;
	}
	return ERR_OK;
}

static enum err feed_head(struct http_answer *a, struct str *in)
{
	const char *end = a->head.len ? NULL : memmem(in->ptr, in->len, "\r\n\r\n", 4);
	size_t before = a->head.len, from, used;

	if (end) {
		struct str head = str_n(in->ptr, (size_t)(end - in->ptr));

		*in = str_n(end + 4, in->len - head.len - 4);
		return parse_head(a, head);
	}
	if (buf_add_str(&a->head, *in) != ERR_OK)
		return a->head.err;
	from = before > 3 ? before - 3 : 0;
	end = memmem(a->head.ptr + from, a->head.len - from, "\r\n\r\n", 4);
	if (!end) {
		*in = str_n(in->ptr + in->len, 0);
		return ERR_AGAIN;
	}
	used = (size_t)(end - a->head.ptr) + 4 - before;
	*in = str_n(in->ptr + used, in->len - used);
	return parse_head(a, str_n(a->head.ptr, (size_t)(end - a->head.ptr)));
}

static enum err feed_chunks(struct http_answer *a, struct str *in)
{
	struct str data;
	enum err e;

	do
		e = http_dechunk_next(&a->chunks, in, &data);
	while (e == ERR_OK);
	if (e == ERR_NOTFOUND) {
		a->state = HTTP_ANSWER_DONE;
		return ERR_OK;
	}
	return e == ERR_AGAIN ? e : ERR_PROTO;
}

static void feed_length(struct http_answer *a, struct str *in)
{
	size_t n = a->left < in->len ? (size_t)a->left : in->len;

	a->left -= n;
	*in = str_n(in->ptr + n, in->len - n);
	if (a->left == 0)
		a->state = HTTP_ANSWER_DONE;
}

enum err http_answer_feed(struct http_answer *a, struct str *in)
{
	enum err e = ERR_OK;

	if (a->state == HTTP_ANSWER_LENGTH)
		feed_length(a, in);
	while (e == ERR_OK && a->state != HTTP_ANSWER_DONE) {
		if (in->len == 0)
			return ERR_AGAIN;
		switch (a->state) {
		case HTTP_ANSWER_HEAD:
			e = feed_head(a, in);
			if (e == ERR_OK && a->state == HTTP_ANSWER_LENGTH)
				feed_length(a, in);
			break;
		case HTTP_ANSWER_LENGTH:
			feed_length(a, in);
			break;
		case HTTP_ANSWER_CHUNKED:
			e = feed_chunks(a, in);
			break;
		case HTTP_ANSWER_TO_END:
			*in = str_n(in->ptr + in->len, 0);
			break;
		case HTTP_ANSWER_DONE:
			break;
		}
	}
	return e;
}

bool http_answer_close(struct http_answer *a)
{
	return a->state == HTTP_ANSWER_TO_END;
}
