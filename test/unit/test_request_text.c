/* Saved requests: HTTP text with either line end, headers alone, logs of curl -v, and what is none
 * of them. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "weir/cli/request_text.h"

static struct request_text r;
static struct err_info info;

static enum err parse(const char *text)
{
	memset(&r, 0, sizeof(r));
	return request_text_parse(str_of(text), &r, &info);
}

static bool is(struct str s, const char *text)
{
	return str_eq(s, str_of(text));
}

static void test_http_text(void **state)
{
	(void)state;
	assert_int_equal(
	    parse("POST /webhooks/a?b=c HTTP/1.1\r\nHost: x\r\nX-A:  b \r\n\r\nbo\r\ndy\n"),
	    ERR_OK);
	assert_true(is(r.method, "POST") && is(r.target, "/webhooks/a?b=c"));
	assert_int_equal(r.header_count, 2);
	assert_true(is(r.headers[1].name, "X-A") && is(r.headers[1].value, "b"));
	assert_true(is(r.body, "bo\r\ndy\n") && r.has_body && !r.cut);
	assert_int_equal(parse("PUT /x\nA: b\n\nbody"), ERR_OK);
	assert_true(is(r.method, "PUT") && is(r.body, "body"));
	assert_int_equal(parse("A: b\nC: d\n\nbody"), ERR_OK);
	assert_true(!r.method.ptr && r.header_count == 2 && is(r.body, "body"));
	assert_int_equal(parse("POST /x HTTP/1.1\n\n"), ERR_OK);
	assert_true(r.header_count == 0 && is(r.body, ""));
	assert_int_equal(parse("A: b"), ERR_OK);
	assert_true(is(r.body, ""));
}

static void test_content_length(void **state)
{
	(void)state;
	assert_int_equal(parse("A: b\nContent-Length: 4\n\nbody\n"), ERR_OK);
	assert_true(is(r.body, "body") && !r.cut);
	assert_int_equal(parse("A: b\nContent-Length: 5\n\nbody"), ERR_OK);
	assert_true(is(r.body, "body") && r.cut);
	assert_int_equal(parse("A: b\nContent-Length: x\n\nbody"), ERR_INVAL);
	assert_int_equal(parse("A: b\nTransfer-Encoding: chunked\n\n0\n\n"), ERR_INVAL);
	assert_non_null(strstr(info.text, "--body"));
}

static void test_curl_log(void **state)
{
	(void)state;
	assert_int_equal(
	    parse("* Trying\n  % Total\n> POST /w HTTP/1.1\n> Host: x\n* note\n> A: b\n"
	          "> \n< HTTP/1.1 200 OK\n> C: d\n"),
	    ERR_OK);
	assert_true(is(r.method, "POST") && is(r.target, "/w"));
	assert_int_equal(r.header_count, 2);
	assert_false(r.has_body);
	assert_int_equal(parse("> POST /w HTTP/1.1\r\n> A b\r\n>\r\n"), ERR_INVAL);
	assert_int_equal(parse("> A: b\n>\n"), ERR_INVAL);
}

static void test_no_requests(void **state)
{
	static const char *const texts[] = {"",
	                                    "\n\n",
	                                    "garbage",
	                                    "a b c d",
	                                    "A: b\nno line",
	                                    "A: b\n folded: c\n",
	                                    ": b",
	                                    "POST  HTTP/1.1\nA: b"};
	char many[4 * REQUEST_TEXT_HEADERS + 16] = "";

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(parse(texts[i]), ERR_INVAL);
	for (size_t i = 0; i <= REQUEST_TEXT_HEADERS; i++)
		memcpy(many + 4 * i, "a:b\n", 4);
	assert_int_equal(parse(many), ERR_INVAL);
	assert_non_null(strstr(info.text, "too many"));
	many[4 * REQUEST_TEXT_HEADERS] = '\0';
	assert_int_equal(parse(many), ERR_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_http_text),
	    cmocka_unit_test(test_content_length),
	    cmocka_unit_test(test_curl_log),
	    cmocka_unit_test(test_no_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
