/* Answers whole and cut at every byte; what is no answer. */
#include "torture.h"

#include "../../src/io/http_answer.h"

struct expected {
	const char *text;
	int status;
	bool keep_alive;
	const char *behind; /* what is left over */
};

static const struct expected good[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, true, ""},
    {"HTTP/1.1 200 OK\r\ncontent-length:2 \r\nConnection: close\r\n\r\nok", 200, false, ""},
    {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 200, false, ""},
    {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n", 200, true, ""},
    {"HTTP/1.1 503\r\nContent-Length: 3\r\n\r\nno\nHTTP", 503, true, "HTTP"},
    {"HTTP/1.1 204 No Content\r\n\r\n", 204, true, ""},
    {"HTTP/1.1 304 \r\nContent-Length: 10\r\n\r\n", 304, true, ""},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 1\r\n\r\nx", 202, true,
     ""},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nmore", 200, true,
     "more"},
};

static const char *const bad[] = {
    "HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/1.2 200 OK\r\n\r\n",
    "HTTP/1.1 20 OK\r\n\r\n",
    "HTTP/1.1 099 OK\r\n\r\n",
    "HTTP/1.1 600 OK\r\n\r\n",
    "HTTP/1.1 2000 OK\r\n\r\n",
    "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "\r\n\r\n",
};

/* Feeds `text` in two pieces; gives what is left of the second. */
static enum err feed(struct http_answer *a, const char *text, size_t cut, struct str *ret_rest)
{
	struct str first = str_n(text, cut), second = str_of(text + cut);
	enum err e;

	http_answer_next(a);
	e = http_answer_feed(a, &first);
	if (e == ERR_OK) {
		/* The rest stands behind both. */
		*ret_rest = str_of(first.ptr);
		return e;
	}
	if (e == ERR_AGAIN)
		e = http_answer_feed(a, &second);
	*ret_rest = second;
	return e;
}

static void test_good(void **state)
{
	struct http_answer a;
	struct str rest;

	(void)state;
	http_answer_init(&a);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		for (size_t cut = 0; cut <= strlen(good[i].text); cut++) {
			assert_int_equal(feed(&a, good[i].text, cut, &rest), ERR_OK);
			assert_int_equal(a.status, good[i].status);
			assert_int_equal(a.keep_alive, good[i].keep_alive);
			assert_true(str_eq(rest, str_of(good[i].behind)));
		}
	}
	http_answer_done(&a);
}

static void test_bad(void **state)
{
	struct http_answer a;
	struct str rest;

	(void)state;
	http_answer_init(&a);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		for (size_t cut = 0; cut <= strlen(bad[i]); cut++)
			assert_int_equal(feed(&a, bad[i], cut, &rest), ERR_PROTO);
	http_answer_done(&a);
}

static void test_until_close(void **state)
{
	struct http_answer a;
	struct str in = STR("HTTP/1.1 200 OK\r\n\r\nany length");

	(void)state;
	http_answer_init(&a);
	assert_false(http_answer_close(&a));
	assert_int_equal(http_answer_feed(&a, &in), ERR_AGAIN);
	assert_int_equal(in.len, 0);
	assert_true(http_answer_close(&a));
	assert_false(a.keep_alive);
	http_answer_done(&a);
}

static void test_head_is_bounded(void **state)
{
	static char junk[1000];
	struct http_answer a;
	enum err e = ERR_AGAIN;

	(void)state;
	memset(junk, 'x', sizeof(junk));
	http_answer_init(&a);
	for (int i = 0; i < 100 && e == ERR_AGAIN; i++) {
		struct str in = str_n(junk, sizeof(junk));

		e = http_answer_feed(&a, &in);
	}
	assert_int_equal(e, ERR_TOOBIG);
	http_answer_done(&a);
}

static void scenario_pieces(void)
{
	struct http_answer a;
	struct str rest;

	http_answer_init(&a);
	if (feed(&a, good[0].text, 5, &rest) == ERR_OK)
		(void)!feed(&a, good[7].text, 9, &rest);
	http_answer_done(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good),
	    cmocka_unit_test(test_bad),
	    cmocka_unit_test(test_until_close),
	    cmocka_unit_test(test_head_is_bounded),
	};
	const struct torture torture[] = {TORTURE(scenario_pieces)};

	return TESTS_OR_TORTURE(tests, torture);
}
