/* The gate's parser: what passes, what is refused and with which status, and that no cut of the
 * bytes changes the verdict. */
#include "torture.h"

#include "weir/io/http_gate.h"

#define HOST "Host: x\r\n"

static const struct http_gate_limits limits = {.max_bytes = 32 * 1024, .max_fields = 100};
static struct http_gate_head head;

/* Feeds as a socket would: a prefix that grows. The first verdict other than MORE counts. */
static enum http_gate_verdict feed(const char *p, size_t len, size_t first)
{
	enum http_gate_verdict v;
	char *exact;

	/* a block of its own, so that ASan sees a read past the end */
	for (size_t n = first; n < len; n++) {
		exact = test_malloc(n ? n : 1);
		memcpy(exact, p, n);
		v = http_gate_parse(exact, n, &limits, &head);
		test_free(exact);
		if (v == HTTP_GATE_REFUSED)
			return v;
		if (v == HTTP_GATE_WHOLE)
			break; /* once more, so that the slices outlive the copy */
	}
	return http_gate_parse(p, len, &limits, &head);
}

static void check(struct str raw, enum http_gate_verdict verdict, int status, size_t len)
{
	for (size_t first = raw.len + 1; first-- > 0;) {
		enum http_gate_verdict v = feed(raw.ptr, raw.len, first);

		if (v != verdict || (v == HTTP_GATE_REFUSED && head.status != status) ||
		    (v == HTTP_GATE_WHOLE && head.len != len))
			fail_msg("%.60s: verdict %d status %d from %zu bytes on", raw.ptr, (int)v,
			         head.status, first);
	}
}

static void accepted(const char *text, const char *body)
{
	struct str raw = str_of(text);

	check(raw, HTTP_GATE_WHOLE, 0, raw.len - strlen(body));
}

static void refused(struct str raw, int status)
{
	check(raw, HTTP_GATE_REFUSED, status, 0);
}

static void test_whole(void **state)
{
	(void)state;
	accepted("POST /webhooks/github?x=1&y=?/ HTTP/1.1\r\n" HOST
	         "Content-Length: 12\r\nX-A:b\r\nX-B: \t c d \t\r\nX-C:\r\n\r\nbody",
	         "body");
	assert_true(str_eq(head.method, STR("POST")));
	assert_true(str_eq(head.target, STR("/webhooks/github?x=1&y=?/")));
	assert_true(str_eq(head.path, STR("/webhooks/github")));
	assert_true(str_eq(head.query, STR("x=1&y=?/")));
	assert_int_equal(head.field_count, 5);
	assert_true(str_eq(head.fields[2].value, STR("b")));
	assert_true(str_eq(head.fields[3].name, STR("X-B")));
	assert_true(str_eq(head.fields[3].value, STR("c d")));
	assert_int_equal(head.fields[4].value.len, 0);
	assert_true(head.http11 && head.keep_alive && head.has_length);
	assert_false(head.chunked || head.expect_continue || head.path_escaped);
	assert_int_equal(head.length, 12);
}

static void test_targets(void **state)
{
	static const struct {
		const char *target, *path, *query;
	} good[] = {
	    {"/", "/", NULL},
	    {"/a?", "/a", ""},
	    {"http://h", "/", NULL},
	    {"HTTP://h:80/p/q?r", "/p/q", "r"},
	    {"https://[::1]?r", "/", "r"},
	    {"//a/../b", "//a/../b", NULL},
	    {"/caf\xc3\xa9", "/caf\xc3\xa9", NULL},
	    {"/a%2fb", "/a%2fb", NULL},
	};
	static const char *const bad[] = {"a",     "*",     "http://", "http:///a", "ftp://h/",
	                                  "/a#b",  "/%",    "/%4",     "/%4g",      "/%00",
	                                  "/a b",  "/a\tb", "/a\x7f",  "h:80",      "http://u@h/",
	                                  "/\x01", "",      "?a=b",    "http:/h/",  "/%%41"};
	char raw[200];

	(void)state;
	for (size_t i = 0; i < TORTURE_LEN(good); i++) {
		snprintf(raw, sizeof(raw), "GET %s HTTP/1.1\r\n" HOST "\r\n", good[i].target);
		accepted(raw, "");
		assert_true(str_eq(head.path, str_of(good[i].path)));
		assert_true(str_eq(head.query, str_of(good[i].query)));
		assert_int_equal(head.query.ptr == NULL, good[i].query == NULL);
	}
	for (size_t i = 0; i < TORTURE_LEN(bad); i++) {
		snprintf(raw, sizeof(raw), "GET %s HTTP/1.1\r\n" HOST "\r\n", bad[i]);
		refused(str_of(raw), 400);
	}
	accepted("OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "");
	assert_true(str_eq(head.path, STR("*")));
}

static void test_unescape(void **state)
{
	char out[32];

	(void)state;
	accepted("GET /%41%2f%2Fb%e9%C3 HTTP/1.1\r\n" HOST "\r\n", "");
	assert_true(head.path_escaped);
	assert_true(str_eq(str_n(out, http_gate_unescape(head.path, out)), STR("/A//b\xe9\xc3")));
	/* once, not twice */
	assert_true(str_eq(str_n(out, http_gate_unescape(STR("/%2541"), out)), STR("/%41")));
}

static void test_keep_alive(void **state)
{
	static const struct {
		const char *version, *connection;
		bool keeps;
	} rows[] = {
	    {"1.1", "", true},
	    {"1.1", "Connection: close\r\n", false},
	    {"1.1", "Connection: x, Close ,y\r\n", false},
	    {"1.1", "Connection: close\r\nConnection: keep-alive\r\n", false},
	    {"1.1", "Connection: closed\r\n", true},
	    {"1.0", "", false},
	    {"1.0", "Connection: x,Keep-Alive\r\n", true},
	    {"1.0", "Connection: keep-alive, close\r\n", false},
	};
	char raw[200];

	(void)state;
	for (size_t i = 0; i < TORTURE_LEN(rows); i++) {
		snprintf(raw, sizeof(raw), "GET / HTTP/%s\r\n" HOST "%s\r\n", rows[i].version,
		         rows[i].connection);
		accepted(raw, "");
		assert_int_equal(head.keep_alive, rows[i].keeps);
	}
}

static void test_framing(void **state)
{
	static const char *const bad[] = {
	    "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
	    "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
	    "Content-Length: 1\r\nContent-Length: 1\r\n",
	    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
	    "Content-Length: -1\r\n",
	    "Content-Length: +1\r\n",
	    "Content-Length: 1, 1\r\n",
	    "Content-Length: 1 1\r\n",
	    "Content-Length:\r\n",
	    "Content-Length: 0x1\r\n",
	    "Content-Length: 18446744073709551616\r\n",
	    "Content-Length: 99999999999999999999999999\r\n",
	    "Content-Length : 1\r\n",
	    "Content-Length: 1\r\n 2\r\n",
	    HOST,
	    "Host : y\r\n",
	};
	char raw[300];

	(void)state;
	for (size_t i = 0; i < TORTURE_LEN(bad); i++) {
		snprintf(raw, sizeof(raw), "POST / HTTP/1.1\r\n" HOST "%s\r\n", bad[i]);
		refused(str_of(raw), 400);
	}
	refused(STR("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n"), 501);
	refused(STR("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, gzip\r\n\r\n"), 501);
	refused(STR("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
	refused(STR("POST / HTTP/1.1\r\n" HOST "Expect: 200-ok\r\n\r\n"), 417);
	refused(STR("GET / HTTP/1.1\r\n\r\n"), 400);
	refused(STR("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"), 400);
	accepted("GET / HTTP/1.0\r\n\r\n", "");
	accepted("GET / HTTP/1.1\r\nHost:\r\n\r\n", "");
	accepted("POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551615\r\n\r\n", "");
	assert_true(head.length == UINT64_MAX);
	accepted("POST / HTTP/1.1\r\n" HOST "transfer-ENCODING: Chunked\r\nexpect: 100-Continue"
	         "\r\n\r\n",
	         "");
	assert_true(head.chunked && head.expect_continue && !head.has_length);
}

static void test_lines(void **state)
{
	(void)state;
	refused(STR("GET / HTTP/1.1\n" HOST "\r\n"), 400);
	refused(STR("GET / HTTP/1.1\r\n" HOST "\n"), 400);
	refused(STR("GET / HTTP/1.1\r\nA: b\n" HOST "\r\n"), 400);
	refused(STR("GET / HTTP/1.1\r\n" HOST "A: b\rc\r\n\r\n"), 400);
	refused(STR("GET / HTTP/1.1\r\n" HOST "A: b\0c\r\n\r\n"), 400);
	refused(STR("GET / HTTP/1.1\r\n" HOST "A\0: b\r\n\r\n"), 400);
	refused(STR("GET /\0 HTTP/1.1\r\n" HOST "\r\n"), 400);
	refused(STR("GET / HTTP/1.1\r\n" HOST "A: 12345678\x1f\r\n\r\n"), 400);
	refused(STR("GET / HTTP/1.1\r\n" HOST "A: 1234567\x7f 12345678\r\n\r\n"), 400);
	refused(STR("GET / HTTP/1.1\r\n" HOST " A: b\r\n\r\n"), 400);
	refused(STR("GET / HTTP/1.1\r\n" HOST "\tb\r\n\r\n"), 400);
	refused(STR("GET / HTTP/1.1\r\n" HOST "A\r\n\r\n"), 400);
	refused(STR("GET / HTTP/1.1\r\n" HOST ":b\r\n\r\n"), 400);
	refused(STR("GET / HTTP/1.1\r\n" HOST "A\xe9: b\r\n\r\n"), 400);
	accepted("GET / HTTP/1.1\r\n" HOST "A: 1234567\t12345678 \xe9\xff\r\n\r\n", "");
	accepted("\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n", "");
	refused(STR("\n\nGET / HTTP/1.1\r\n" HOST "\r\n"), 400);
	refused(STR("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n"), 400);
	check(STR("\r\n\r\n"), HTTP_GATE_MORE, 0, 0);
	check(STR("GET / HTTP/1.1\r\n" HOST), HTTP_GATE_MORE, 0, 0);
	check(STR_NONE, HTTP_GATE_MORE, 0, 0);
}

static void test_request_line(void **state)
{
	static const char *const versions[] = {"HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.1"};
	static const char *const bad[] = {"http/1.1", "HTTP/1.1 ", "HTTP/11",   "HTTP/1.10", "HTTP",
	                                  "HTTP/a.1", "HTTPS/1.1", "HTTP/1.1x", ""};
	char raw[100];

	(void)state;
	for (size_t i = 0; i < TORTURE_LEN(versions); i++) {
		snprintf(raw, sizeof(raw), "GET / %s\r\n" HOST "\r\n", versions[i]);
		refused(str_of(raw), 505);
	}
	for (size_t i = 0; i < TORTURE_LEN(bad); i++) {
		snprintf(raw, sizeof(raw), "GET / %s\r\n" HOST "\r\n", bad[i]);
		refused(str_of(raw), 400);
	}
	refused(STR("GET /\r\n"), 400);
	refused(STR("GET\r\n"), 400);
	refused(STR(" GET / HTTP/1.1\r\n"), 400);
	refused(STR("G(T / HTTP/1.1\r\n"), 400);
	refused(STR("\x16\x03\x01\x02"), 400);
	accepted("x!#$%&'*+-.^_`|~9 / HTTP/1.1\r\n" HOST "\r\n", "");
	assert_int_equal(http_gate_method(head.method), HTTP_METHOD_OTHER);
	assert_int_equal(http_gate_method(STR("GET")), HTTP_GET);
	assert_int_equal(http_gate_method(STR("PATCH")), HTTP_PATCH);
	assert_int_equal(http_gate_method(STR("get")), HTTP_METHOD_OTHER);
	assert_int_equal(http_gate_method(STR("OTHER")), HTTP_METHOD_OTHER);
}

/* Heads at and past their bounds: all of it, and every prefix that is a multiple of 997 bytes. */
static void bounded(const char *raw, size_t len, enum http_gate_verdict verdict, int status)
{
	enum http_gate_verdict v = HTTP_GATE_MORE;

	for (size_t n = 997; n < len && v == HTTP_GATE_MORE; n += 997)
		v = http_gate_parse(raw, n, &limits, &head);
	if (v == HTTP_GATE_MORE)
		v = http_gate_parse(raw, len, &limits, &head);
	assert_int_equal(v, verdict);
	if (v == HTTP_GATE_REFUSED)
		assert_int_equal(head.status, status);
	assert_int_equal(http_gate_parse(raw, len, &limits, &head), verdict);
	if (verdict == HTTP_GATE_REFUSED)
		assert_int_equal(head.status, status);
}

static size_t put(char *raw, size_t at, const char *text)
{
	memcpy(raw + at, text, strlen(text));
	return at + strlen(text);
}

static size_t pad(char *raw, size_t at, size_t n)
{
	memset(raw + at, 'a', n);
	return at + n;
}

static void test_sizes(void **state)
{
	static char raw[80 * 1024];
	size_t n;

	(void)state;
	/* the request line */
	n = put(raw, 0, "GET /");
	n = pad(raw, n, HTTP_GATE_MAX_LINE - 14);
	n = put(raw, n, " HTTP/1.1\r\n" HOST "\r\n");
	bounded(raw, n, HTTP_GATE_WHOLE, 0);
	n = put(raw, 0, "GET /");
	n = pad(raw, n, HTTP_GATE_MAX_LINE - 13);
	n = put(raw, n, " HTTP/1.1\r\n" HOST "\r\n");
	bounded(raw, n, HTTP_GATE_REFUSED, 414);
	bounded(raw, HTTP_GATE_MAX_LINE + 2, HTTP_GATE_REFUSED, 414);
	bounded(raw, HTTP_GATE_MAX_LINE + 1, HTTP_GATE_MORE, 0);
	/* all of it: exactly the limit passes, one byte more does not */
	for (size_t over = 0; over < 2; over++) {
		n = put(raw, 0, "GET / HTTP/1.1\r\n" HOST "A: ");
		n = pad(raw, n, limits.max_bytes - n - 4 + over);
		n = put(raw, n, "\r\n\r\n");
		bounded(raw, n, over ? HTTP_GATE_REFUSED : HTTP_GATE_WHOLE, 431);
	}
	bounded(raw, limits.max_bytes, HTTP_GATE_REFUSED, 431);
	bounded(raw, limits.max_bytes - 1, HTTP_GATE_MORE, 0);
	/* headers */
	for (size_t count = 100; count < 102; count++) {
		n = put(raw, 0, "GET / HTTP/1.1\r\n" HOST);
		for (size_t i = 1; i < count; i++)
			n = put(raw, n, "A: b\r\n");
		n = put(raw, n, "\r\n");
		bounded(raw, n, count > 100 ? HTTP_GATE_REFUSED : HTTP_GATE_WHOLE, 431);
	}
}

static void test_request_ids(void **state)
{
	char longest[HTTP_REQUEST_ID_MAX + 1];

	(void)state;
	memset(longest, 'a', sizeof(longest));
	assert_true(http_gate_request_id_ok(STR("aZ09._-")));
	assert_true(http_gate_request_id_ok(str_n(longest, HTTP_REQUEST_ID_MAX)));
	assert_false(http_gate_request_id_ok(str_n(longest, HTTP_REQUEST_ID_MAX + 1)));
	assert_false(http_gate_request_id_ok(STR("")));
	assert_false(http_gate_request_id_ok(STR("a b")));
	assert_false(http_gate_request_id_ok(STR("a\r\nb")));
	assert_false(http_gate_request_id_ok(STR("a:b")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_whole),        cmocka_unit_test(test_targets),
	    cmocka_unit_test(test_unescape),     cmocka_unit_test(test_keep_alive),
	    cmocka_unit_test(test_framing),      cmocka_unit_test(test_lines),
	    cmocka_unit_test(test_request_line), cmocka_unit_test(test_sizes),
	    cmocka_unit_test(test_request_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
