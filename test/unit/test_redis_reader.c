/* Bytes to replies, in whatever pieces they come. */
#include "torture.h"
#include "weir/base/buf.h"
#include "weir/io/redis.h"
#include "weir/io/redis_reader.h"

/* A reply as text: +x $x -x :n nil [a b]. */
static void show(const struct redis_reply *r, struct buf *out)
{
	switch (r->type) {
	case REDIS_NIL:
		buf_add_cstr(out, "nil");
		break;
	case REDIS_STRING:
	case REDIS_STATUS:
	case REDIS_ERROR:
		buf_add_char(out, r->type == REDIS_STRING   ? '$'
		                  : r->type == REDIS_STATUS ? '+'
		                                            : '-');
		buf_add_str(out, r->str);
		break;
	case REDIS_INTEGER:
		buf_add_char(out, ':');
		buf_add_int(out, r->integer);
		break;
	case REDIS_ARRAY:
		buf_add_char(out, '[');
		for (size_t i = 0; i < r->count; i++) {
			if (i)
				buf_add_char(out, ' ');
			show(r->items[i], out);
		}
		buf_add_char(out, ']');
		break;
	}
}

static const char sample[] = "+OK\r\n"
                             ":-42\r\n"
                             "-NOGROUP no such\r\n"
                             "$5\r\nhe\r\nl\r\n"
                             "$0\r\n\r\n"
                             "$-1\r\n"
                             "*-1\r\n"
                             "*0\r\n"
                             "*2\r\n*1\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n"
                             "+end\r\n";
static const char shown[] = "+OK\n:-42\n-NOGROUP no such\n$he\r\nl\n$\nnil\nnil\n[]\n"
                            "[[$a] [:1 nil]]\n+end\n";

static void drain(struct redis_reader *r, struct buf *out)
{
	const struct redis_reply *reply;
	enum err e;

	while ((e = redis_reader_next(r, &reply)) == ERR_OK) {
		show(reply, out);
		buf_add_char(out, '\n');
	}
	assert_int_equal(e, ERR_AGAIN);
}

static void test_pieces(void **state)
{
	struct redis_reader *r;
	struct buf out;

	(void)state;
	for (size_t piece = 1; piece <= sizeof(sample); piece++) {
		buf_init(&out, 4096);
		assert_int_equal(redis_reader_new(0, &r), ERR_OK);
		for (size_t at = 0; at < sizeof(sample) - 1; at += piece) {
			size_t left = sizeof(sample) - 1 - at;

			assert_int_equal(
			    redis_reader_feed(r, sample + at, piece < left ? piece : left), ERR_OK);
			drain(r, &out);
		}
		assert_string_equal(out.ptr, shown);
		redis_reader_free(r);
		buf_done(&out);
	}
}

static void test_broken(void **state)
{
	static const char *const bad[] = {"?\r\n", "HTTP/1.1 200 OK\r\n", "*-2\r\n", "$-2\r\n",
	                                  "*4294967297\r\n"};
	const struct redis_reply *reply;
	struct redis_reader *r;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(redis_reader_new(0, &r), ERR_OK);
		assert_int_equal(redis_reader_feed(r, bad[i], strlen(bad[i])), ERR_OK);
		if (redis_reader_next(r, &reply) != ERR_PROTO)
			fail_msg("taken: %s", bad[i]);
		assert_true(redis_reader_error(r)[0]);
		redis_reader_free(r);
	}
}

/* A length that is only claimed costs nothing; what comes is bounded. */
static void test_bound(void **state)
{
	enum { BOUND = 256 * 1024 };
	static char zeros[64 * 1024];
	const struct redis_reply *reply;
	struct redis_reader *r;
	size_t used = mem_used(), fed = 0;
	enum err e = ERR_OK;

	(void)state;
	assert_int_equal(redis_reader_new(BOUND, &r), ERR_OK);
	assert_int_equal(redis_reader_feed(r, "$4000000000\r\n", 13), ERR_OK);
	while (e == ERR_OK && fed < 4 * BOUND) {
		assert_int_equal(redis_reader_next(r, &reply), ERR_AGAIN);
		e = redis_reader_feed(r, zeros, sizeof(zeros));
		fed += sizeof(zeros);
	}
	assert_int_equal(e, ERR_TOOBIG);
	assert_in_range(fed, BOUND, 2 * BOUND);
	redis_reader_free(r);

	assert_int_equal(redis_reader_new(BOUND, &r), ERR_OK);
	assert_int_equal(redis_reader_feed(r, "*16000000\r\n", 11), ERR_OK);
	assert_int_equal(redis_reader_next(r, &reply), ERR_TOOBIG);
	redis_reader_free(r);

	/* Many small replies in a row are not one large one. */
	assert_int_equal(redis_reader_new(BOUND, &r), ERR_OK);
	for (int i = 0; i < 200000; i++) {
		assert_int_equal(redis_reader_feed(r, "+OK\r\n+O", 7), ERR_OK);
		assert_int_equal(redis_reader_next(r, &reply), ERR_OK);
		assert_int_equal(redis_reader_feed(r, "K\r\n", 3), ERR_OK);
		assert_int_equal(redis_reader_next(r, &reply), ERR_OK);
		assert_int_equal(redis_reader_next(r, &reply), ERR_AGAIN);
	}
	redis_reader_free(r);
	assert_true(mem_used() <= used);
}

/* Few bytes on the wire can be many objects: the arena's bound meets each kind of them. */
static void test_many_objects(void **state)
{
	static const char *const kinds[] = {"$1\r\nX\r\n", "+x\r\n", ":1\r\n", "$-1\r\n", "*0\r\n"};
	enum { BOUND = 256 * 1024, OBJECTS = 20000 };

	(void)state;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
		const struct redis_reply *reply;
		struct redis_reader *r;

		assert_int_equal(redis_reader_new(BOUND, &r), ERR_OK);
		assert_int_equal(redis_reader_feed(r, "*20000\r\n", 8), ERR_OK);
		for (int i = 0; i < OBJECTS; i++)
			assert_int_equal(redis_reader_feed(r, kinds[k], strlen(kinds[k])), ERR_OK);
		assert_int_equal(redis_reader_next(r, &reply), ERR_TOOBIG);
		redis_reader_free(r);
	}
}

/* Strings of one small letter are shared, which must not show. */
static void test_letters(void **state)
{
	static const char strings[] = "az`{A1";
	const struct redis_reply *reply, *status;
	struct redis_reader *r;

	(void)state;
	assert_int_equal(redis_reader_new(0, &r), ERR_OK);
	assert_int_equal(redis_reader_feed(r, "*7\r\n", 4), ERR_OK);
	for (size_t i = 0; i < strlen(strings); i++) {
		assert_int_equal(redis_reader_feed(r, "$1\r\n", 4), ERR_OK);
		assert_int_equal(redis_reader_feed(r, &strings[i], 1), ERR_OK);
		assert_int_equal(redis_reader_feed(r, "\r\n", 2), ERR_OK);
	}
	assert_int_equal(redis_reader_feed(r, "+a\r\n$1\r\nb\r\n", 11), ERR_OK);
	assert_int_equal(redis_reader_next(r, &reply), ERR_OK);
	assert_int_equal(reply->count, 7);
	for (size_t i = 0; i < strlen(strings); i++) {
		assert_int_equal(reply->items[i]->type, REDIS_STRING);
		assert_true(str_eq(reply->items[i]->str, str_n(&strings[i], 1)));
	}
	status = reply->items[6];
	assert_int_equal(status->type, REDIS_STATUS);
	assert_true(str_eq(status->str, STR("a")));
	assert_int_equal(redis_reader_next(r, &reply), ERR_OK); /* a reply by itself */
	assert_true(reply->type == REDIS_STRING && str_eq(reply->str, STR("b")));
	redis_reader_free(r);
}

/* Nothing of a large reply stays behind it. */
static void test_memory(void **state)
{
	enum { LEN = 8 << 20 };
	const struct redis_reply *reply;
	struct redis_reader *r;
	char *bytes = mem_zalloc(LEN);
	size_t used;

	(void)state;
	assert_non_null(bytes);
	assert_int_equal(redis_reader_new(0, &r), ERR_OK);
	used = mem_used();
	assert_int_equal(redis_reader_feed(r, "$8388608\r\n", 10), ERR_OK);
	assert_int_equal(redis_reader_feed(r, bytes, LEN), ERR_OK);
	assert_int_equal(redis_reader_feed(r, "\r\n+OK\r\n", 7), ERR_OK);
	assert_int_equal(redis_reader_next(r, &reply), ERR_OK);
	assert_int_equal(reply->str.len, LEN);
	assert_int_equal(redis_reader_next(r, &reply), ERR_OK);
	assert_string_equal(reply->type == REDIS_STATUS ? "OK" : "", "OK");
	assert_true(mem_used() < used + (2 << 20));
	redis_reader_free(r);
	mem_free(bytes);
}

static void scenario_read(void)
{
	const struct redis_reply *reply;
	struct redis_reader *r;

	if (redis_reader_new(0, &r) != ERR_OK)
		return;
	if (redis_reader_feed(r, sample, sizeof(sample) - 1) == ERR_OK)
		while (redis_reader_next(r, &reply) == ERR_OK)
			;
	redis_reader_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pieces),  cmocka_unit_test(test_broken),
	    cmocka_unit_test(test_bound),   cmocka_unit_test(test_many_objects),
	    cmocka_unit_test(test_letters), cmocka_unit_test(test_memory),
	};
	const struct torture torture[] = {TORTURE(scenario_read)};

	return TESTS_OR_TORTURE(tests, torture);
}
