/* What a server answers, read whole and in pieces: verdicts, statuses and where each answer ends
 * must not depend on the cuts. The first byte sizes the pieces. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/io/http_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 64 };

/* What was read of a connection's bytes. */
struct seen {
	enum err end; /* ERR_AGAIN: more would be needed */
	bool closes;  /* the server's close would end it */
	size_t n;
	struct {
		int status;
		bool keep_alive;
		size_t end; /* offset behind it */
	} answers[MOST];
};

static void note(struct seen *s, const struct http_answer *a, size_t end)
{
	if (a->status < 200 || a->status > 599 || s->n == MOST)
		abort();
	s->answers[s->n].status = a->status;
	s->answers[s->n].keep_alive = a->keep_alive;
	s->answers[s->n++].end = end;
}

static void read_pieces(const char *p, size_t len, size_t piece, struct seen *s)
{
	struct http_answer a;
	enum err e = ERR_AGAIN;

	memset(s, 0, sizeof(*s));
	http_answer_init(&a);
	for (size_t at = 0; at < len && e == ERR_AGAIN && s->n < MOST; at += piece) {
		struct str in = str_n(p + at, piece < len - at ? piece : len - at);
		const char *end = in.ptr + in.len;

		while ((e = http_answer_feed(&a, &in)) == ERR_OK && s->n < MOST) {
			if (in.ptr + in.len != end)
				abort(); /* the rest is always the input's end */
			note(s, &a, (size_t)(in.ptr - p));
			http_answer_next(&a);
			if (in.len == 0) {
				e = ERR_AGAIN;
				break;
			}
		}
		if (e == ERR_AGAIN && in.len)
			abort();
	}
	s->end = e;
	s->closes = e == ERR_AGAIN && http_answer_close(&a);
	http_answer_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct seen whole, cut;
	char *copy;

	if (size < 2)
		return 0;
	/* A block of its own, so that a byte too many is noticed. */
	copy = malloc(size - 1);
	if (!copy)
		return 0;
	memcpy(copy, data + 1, size - 1);
	read_pieces(copy, size - 1, size - 1, &whole);
	read_pieces(copy, size - 1, data[0] % 64 + 1u, &cut);
	free(copy);
	if (whole.n != cut.n || memcmp(whole.answers, cut.answers, sizeof(whole.answers)) != 0)
		abort();
	/* A head that is too large for its buffer may be found so only in pieces. */
	if (whole.n < MOST && size < HTTP_ANSWER_HEAD_MAX &&
	    (whole.end != cut.end || whole.closes != cut.closes))
		abort();
	return 0;
}
