/* The chunked decoder: content, refusals, bounds, whatever the cuts. */
#include "torture.h"

#include "weir/io/http_body.h"

#define LIMIT 1000

struct outcome {
	enum err e; /* ERR_NOTFOUND: whole; ERR_AGAIN: more needed */
	char content[LIMIT];
	size_t len;
	size_t used;
};

/* Feeds `raw` in pieces: the first is `first` bytes long, the others `step`. */
static void decode(struct str raw, size_t first, size_t step, struct outcome *o)
{
	struct http_dechunk d;
	struct str in, data;

	http_dechunk_init(&d, LIMIT);
	*o = (struct outcome){.e = ERR_AGAIN};
	for (size_t n = first; o->e == ERR_AGAIN && o->used < raw.len; n = step) {
		in = str_n(raw.ptr + o->used, n < raw.len - o->used ? n : raw.len - o->used);
		o->used += in.len;
		do {
			o->e = http_dechunk_next(&d, &in, &data);
			if (o->e == ERR_OK) {
				assert_true(o->len + data.len <= LIMIT);
				memcpy(o->content + o->len, data.ptr, data.len);
				o->len += data.len;
			}
		} while (o->e == ERR_OK);
		o->used -= in.len;
	}
}

static void check(struct str raw, enum err e, struct str content, size_t used)
{
	struct outcome o;

	for (size_t first = 1; first <= raw.len; first++) {
		for (size_t step = 1; step <= raw.len; step += step < 4 ? 1 : raw.len) {
			decode(raw, first, step, &o);
			if (o.e != e || (e == ERR_NOTFOUND && o.used != used) ||
			    (e != ERR_INVAL && e != ERR_TOOBIG &&
			     !str_eq(str_n(o.content, o.len), content)))
				fail_msg("%.40s: %s after %zu, cut at %zu by %zu", raw.ptr,
				         err_name(o.e), o.used, first, step);
		}
	}
}

static void whole(const char *raw, const char *content, const char *rest)
{
	check(str_of(raw), ERR_NOTFOUND, str_of(content), strlen(raw) - strlen(rest));
}

static void bad(const char *raw)
{
	check(str_of(raw), ERR_INVAL, STR_NONE, 0);
}

static void test_content(void **state)
{
	(void)state;
	whole("0\r\n\r\n", "", "");
	whole("5\r\nhello\r\n0\r\n\r\n", "hello", "");
	whole("5\r\nhello\r\n00000A\r\n world\r\n!\n\r\n000\r\n\r\nGET", "hello world\r\n!\n",
	      "GET");
	whole("1;a\r\nx\r\n1 \t;b=\"c;\xe9\"\r\ny\r\n0;z\r\n\r\n", "xy", "");
	whole("1\r\nx\r\n0\r\nA: b\r\nContent-Length: 5\r\nC:\r\n\r\n12345", "x", "12345");
	check(STR("5\r\nhel"), ERR_AGAIN, STR("hel"), 0);
	check(STR("0\r\nA: b\r\n"), ERR_AGAIN, STR_NONE, 0);
}

static void test_refused(void **state)
{
	static const char *const rows[] = {
	    "\r\n",
	    "g\r\n",
	    "-1\r\n",
	    "+1\r\n",
	    "0x1\r\n",
	    " 1\r\n",
	    "1 \r\nx\r\n",
	    "1\nx\r\n",
	    "1\rx\r\n",
	    "1\r\r\n",
	    ";a\r\n",
	    "1\r\nxy\r\n",
	    "1\r\nx\n",
	    "1\r\nx\ry",
	    "1\r\nx0\r\n\r\n",
	    "1;a\n",
	    "1;a\x01\r\n",
	    "1;a\x7f\r\n",
	    "00000000000000001\r\nx\r\n",
	    "10000000000000005\r\nhello\r\n",
	    "0\r\nA b: c\r\n",
	    "0\r\n: c\r\n",
	    "0\r\nA: c\n",
	    "0\r\nA: c\rd",
	    "0\r\nA: c\x01\r\n",
	    "0\r\nA\r\n\r\n",
	    "0\r\nA: b\r\n c\r\n\r\n",
	    "0\r\n\n",
	    "0\r\n\rx",
	};

	(void)state;
	for (size_t i = 0; i < TORTURE_LEN(rows); i++)
		bad(rows[i]);
	check(STR("1;a\0b\r\n"), ERR_INVAL, STR_NONE, 0);
}

static void test_limits(void **state)
{
	static char raw[3 * HTTP_CHUNK_TRAILER_MAX];
	struct outcome o;

	(void)state;
	check(STR("3e9\r\n"), ERR_TOOBIG, STR_NONE, 0);
	check(STR("FFFFFFFFFFFFFFFF\r\n"), ERR_TOOBIG, STR_NONE, 0);
	check(STR("1\r\nx\r\n3e8\r\n"), ERR_TOOBIG, STR_NONE, 0);
	check(STR("1\r\nx\r\nFFFFFFFFFFFFFFFF\r\n"), ERR_TOOBIG, STR_NONE, 0);
	check(STR("1\r\nx\r\n3e7\r\n"), ERR_AGAIN, STR("x"), 0);
	for (int i = 0; i < 2; i++) {
		size_t n = (size_t)snprintf(raw, sizeof(raw), "1;%0*d\r\nx\r\n0\r\n\r\n",
		                            HTTP_CHUNK_EXT_MAX + i, 0);

		decode(str_n(raw, n), n, n, &o);
		assert_int_equal(o.e, i ? ERR_TOOBIG : ERR_NOTFOUND);
		n = (size_t)snprintf(raw, sizeof(raw), "0\r\nA:%0*d\r\n\r\n",
		                     HTTP_CHUNK_TRAILER_MAX - 1 + i, 0);
		decode(str_n(raw, n), n, n, &o);
		assert_int_equal(o.e, i ? ERR_TOOBIG : ERR_NOTFOUND);
	}
}

static void test_state_names(void **state)
{
	(void)state;
	assert_string_equal(http_chunk_state_name(HTTP_CHUNK_SIZE), "size");
	assert_string_equal(http_chunk_state_name(HTTP_CHUNK_DONE), "done");
	assert_string_equal(http_chunk_state_name(HTTP_CHUNK_STATE_COUNT), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_content),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_state_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
