/* An event to XADD and back, and entries that are no events. */
#include "torture.h"
#include "weir/base/buf.h"
#include "weir/io/redis.h"
#include "weir/io/redis_reader.h"
#include "weir/queue/stream_entry.h"

static void add_bulk(struct buf *b, struct str s)
{
	buf_addf(b, "$%zu\r\n", s.len);
	buf_add_str(b, s);
	buf_add_cstr(b, "\r\n");
}

/* An entry as XREADGROUP gives it: the id, and the fields of an XADD's arguments. */
static enum err read_back(struct redis_reader *r, const char *id, const struct str *fields,
                          size_t n, struct stream_id *ret_id, struct event_view *ret)
{
	const struct redis_reply *reply;
	struct buf b;

	buf_init(&b, 1 << 20);
	buf_add_cstr(&b, "*2\r\n");
	add_bulk(&b, str_of(id));
	buf_addf(&b, "*%zu\r\n", n);
	for (size_t i = 0; i < n; i++)
		add_bulk(&b, fields[i]);
	assert_int_equal(b.err, ERR_OK);
	assert_int_equal(redis_reader_feed(r, b.ptr, b.len), ERR_OK);
	buf_done(&b);
	assert_int_equal(redis_reader_next(r, &reply), ERR_OK);
	return stream_entry_read(reply, ret_id, ret);
}

static struct event_view sample(void)
{
	struct event_view v = {.tool = STR("github"),
	                       .type = STR("push"),
	                       .id = STR("72d3162e"),
	                       .received = 1700000000123456,
	                       .headers = STR("[[\"Accept\",\"*/*\"]]"),
	                       .content_type = STR("application/json"),
	                       .traceparent = STR("00-4bf92f3577b34da6a3ce929d0e0e4736-01"),
	                       .body = STR("{\"a\":\"\0b\"}\r\n"),
	                       .envelope = STR("{}"),
	                       .content = STR("\0a hash of 32 bytes, NUL, and \xff."),
	                       .marks = EVENT_MARK_REPORTS};

	assert_int_equal(uuid_parse(STR("0190163d-8694-739b-aea5-966c26f8ad91"), &v.uid), ERR_OK);
	return v;
}

static void assert_same(const struct event_view *a, const struct event_view *b)
{
	assert_memory_equal(a->uid.bytes, b->uid.bytes, 16);
	assert_true(str_eq(a->tool, b->tool));
	assert_true(str_eq(a->type, b->type));
	assert_true(str_eq(a->id, b->id));
	assert_int_equal(a->received, b->received);
	assert_true(str_eq(a->headers, b->headers));
	assert_true(str_eq(a->content_type, b->content_type));
	assert_true(str_eq(a->traceparent, b->traceparent));
	assert_true(str_eq(a->body, b->body));
	assert_true(str_eq(a->envelope, b->envelope));
	assert_true(str_eq(a->content, b->content));
	assert_int_equal(a->marks, b->marks);
}

static void test_round_trip(void **state)
{
	struct stream_entry_scratch scratch;
	struct str argv[STREAM_ENTRY_ARGS];
	struct event_view v = sample(), back;
	struct redis_reader *r;
	struct stream_id id;
	size_t n;

	(void)state;
	assert_int_equal(redis_reader_new(0, &r), ERR_OK);
	n = stream_entry_argv(&v, STR("q"), &scratch, argv);
	assert_int_equal(n, STREAM_ENTRY_ARGS);
	assert_true(str_eq(argv[0], STR("XADD")));
	assert_true(str_eq(argv[1], STR("q")));
	assert_true(str_eq(argv[2], STR("*")));
	assert_int_equal(read_back(r, "17-3", argv + 3, n - 3, &id, &back), ERR_OK);
	assert_int_equal(id.ms, 17);
	assert_int_equal(id.seq, 3);
	assert_same(&v, &back);

	/* All that may be empty is left out, and the body never is. */
	v.id = v.headers = v.content_type = v.traceparent = v.envelope = v.body = v.content =
	    STR_NONE;
	v.marks = 0;
	n = stream_entry_argv(&v, STR("q"), &scratch, argv);
	assert_int_equal(n, 3 + 2 * 6);
	assert_int_equal(read_back(r, "17-3", argv + 3, n - 3, &id, &back), ERR_OK);
	assert_same(&v, &back);
	redis_reader_free(r);
}

/* The rule for events without id, and only where it is not the default. */
static void test_dedup_goes_with_the_event(void **state)
{
	static const struct {
		bool with_id;
		usec_t window;
		const char *text; /* NULL: no field */
		usec_t back;
	} cases[] = {
	    {false, 0, NULL, 0},
	    {false, EVENT_DEDUP_WINDOW, NULL, 0},
	    {false, EVENT_DEDUP_NONE, "none", EVENT_DEDUP_NONE},
	    {false, 1500 * USEC_PER_MSEC, "1500", 1500 * USEC_PER_MSEC},
	    {false, EVENT_DEDUP_WINDOW_MAX, "2592000000", EVENT_DEDUP_WINDOW_MAX},
	    {true, EVENT_DEDUP_NONE, NULL, 0},
	    {true, USEC_PER_SEC, NULL, 0},
	};
	struct redis_reader *r;

	(void)state;
	assert_int_equal(redis_reader_new(0, &r), ERR_OK);
	for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
		struct event_view v = sample(), back;
		struct stream_entry_scratch scratch;
		struct str argv[STREAM_ENTRY_ARGS], got = STR_NONE;
		struct stream_id id;
		size_t n;

		v.dedup_window = cases[c].window;
		if (!cases[c].with_id)
			v.id = STR_NONE;
		n = stream_entry_argv(&v, STR("q"), &scratch, argv);
		assert_true(n <= STREAM_ENTRY_ARGS);
		for (size_t i = 3; i < n; i += 2)
			if (str_eq(argv[i], STR("d")))
				got = argv[i + 1];
		assert_true(str_eq(got, str_of(cases[c].text)));
		assert_int_equal(read_back(r, "17-3", argv + 3, n - 3, &id, &back), ERR_OK);
		assert_same(&v, &back);
		assert_int_equal(back.dedup_window, cases[c].back);
	}
	redis_reader_free(r);
}

/* The mark says what a worker must know; letters of a newer weir say nothing, and what an older one
 * wrote has none. */
static void test_marks(void **state)
{
	static const struct {
		const char *text;
		unsigned marks;
	} cases[] = {
	    {"r", EVENT_MARK_REPORTS},
	    {"rx", EVENT_MARK_REPORTS | EVENT_MARK_GIVEN_UP},
	    {"qrz", EVENT_MARK_REPORTS},
	    {"x", 0},
	    {"", 0},
	    {"\xff", 0},
	    {NULL, 0},
	};
	struct redis_reader *r;

	(void)state;
	assert_int_equal(redis_reader_new(0, &r), ERR_OK);
	for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
		struct event_view v = sample(), back;
		struct stream_entry_scratch scratch;
		struct str argv[STREAM_ENTRY_ARGS];
		struct stream_id id;
		size_t n = stream_entry_argv(&v, STR("q"), &scratch, argv);

		for (size_t i = 3; i < n; i += 2) {
			if (!str_eq(argv[i], STR("m")))
				continue;
			assert_true(str_eq(argv[i + 1], STR("r")));
			argv[i] = cases[c].text ? argv[i] : STR("?");
			argv[i + 1] = str_of(cases[c].text);
		}
		assert_int_equal(read_back(r, "17-3", argv + 3, n - 3, &id, &back), ERR_OK);
		assert_int_equal(back.marks, cases[c].marks);
	}
	redis_reader_free(r);
}

/* A hash of another length is none of ours. */
static void test_content_is_a_hash(void **state)
{
	static const char text[] = "a hash of 32 bytes, or not......X";
	struct redis_reader *r;

	(void)state;
	assert_int_equal(redis_reader_new(0, &r), ERR_OK);
	for (size_t len = 0; len <= EVENT_CONTENT_LEN + 1; len++) {
		struct event_view v = sample(), back;
		struct stream_entry_scratch scratch;
		struct str argv[STREAM_ENTRY_ARGS];
		struct stream_id id;
		size_t n = stream_entry_argv(&v, STR("q"), &scratch, argv);

		for (size_t i = 3; i < n; i += 2)
			if (str_eq(argv[i], STR("s")))
				argv[i + 1] = str_n(text, len);
		assert_int_equal(read_back(r, "17-3", argv + 3, n - 3, &id, &back),
		                 len == EVENT_CONTENT_LEN ? ERR_OK : ERR_INVAL);
	}
	redis_reader_free(r);
}

static void test_any_order_and_unknown_fields(void **state)
{
	struct str fields[] = {STR("b"),  STR("x"),
	                       STR("zz"), STR("new"),
	                       STR("y"),  STR("push"),
	                       STR("t"),  STR("tool"),
	                       STR("?"),  STR("what"),
	                       STR("r"),  STR("5"),
	                       STR("u"),  STR("0190163d-8694-739b-aea5-966c26f8ad91"),
	                       STR("v"),  STR("1")};
	struct event_view back;
	struct redis_reader *r;
	struct stream_id id;

	(void)state;
	assert_int_equal(redis_reader_new(0, &r), ERR_OK);
	assert_int_equal(read_back(r, "1-0", fields, 16, &id, &back), ERR_OK);
	assert_true(str_eq(back.tool, STR("tool")));
	assert_int_equal(back.received, 5);
	redis_reader_free(r);
}

/* Each case changes one field of a good entry. */
static void test_malformed(void **state)
{
	static const struct {
		const char *name;
		struct str value;
	} cases[] = {
	    {"v", {"2", 1}},
	    {"v", {"", 0}},
	    {"u", {"not-a-uuid", 10}},
	    {"r", {"yesterday", 9}},
	    {"r", {"-1", 2}},
	    {"r", {"253402300800000000", 18}},
	    {"r", {"9223372036854775807", 19}},
	    {"r", {"9223372036854775808", 19}},
	    {"t", {"", 0}},
	    {"t", {"a\0b", 3}},
	    {"y", {"\xff", 1}},
	    {"k", {"\xc3", 1}},
	    {"k", {"a\0", 2}},
	    {"c", {"\xed\xa0\x80", 3}},
	    {"p", {"\0", 1}},
	    {"h", {"\xff\xfe", 2}},
	    {"d", {"", 0}},
	    {"d", {"None", 4}},
	    {"d", {"0", 1}},
	    {"d", {"-1", 2}},
	    {"d", {"10m", 3}},
	    {"d", {"2592000001", 10}},
	};
	struct stream_entry_scratch scratch;
	struct str argv[STREAM_ENTRY_ARGS];
	struct event_view v = sample(), back;
	struct redis_reader *r;
	struct stream_id id;
	size_t n;

	(void)state;
	assert_int_equal(redis_reader_new(0, &r), ERR_OK);
	for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
		v = sample();
		if (*cases[c].name == 'd') {
			v.id = STR_NONE;
			v.dedup_window = EVENT_DEDUP_NONE;
		}
		n = stream_entry_argv(&v, STR("q"), &scratch, argv);
		for (size_t i = 3; i < n; i += 2)
			if (str_eq(argv[i], str_of(cases[c].name)))
				argv[i + 1] = cases[c].value;
		id = (struct stream_id){0, 0};
		if (read_back(r, "17-3", argv + 3, n - 3, &id, &back) != ERR_INVAL)
			fail_msg("case %zu, field %s, was taken", c, cases[c].name);
		assert_int_equal(id.ms, 17);
	}
	/* The last moment that is taken leaves room for what is added to it. */
	n = stream_entry_argv(&v, STR("q"), &scratch, argv);
	for (size_t i = 3; i < n; i += 2)
		if (str_eq(argv[i], STR("r")))
			argv[i + 1] = STR("253402300799999999");
	assert_int_equal(read_back(r, "17-3", argv + 3, n - 3, &id, &back), ERR_OK);
	assert_int_equal(back.received, EVENT_RECEIVED_MAX);
	/* Without one of those that must be there. */
	for (const char *need = "vutyrb"; *need; need++) {
		n = stream_entry_argv(&v, STR("q"), &scratch, argv);
		for (size_t i = 3; i < n; i += 2)
			if (str_eq(argv[i], str_n(need, 1)))
				argv[i] = STR("other");
		if (read_back(r, "17-3", argv + 3, n - 3, &id, &back) != ERR_INVAL)
			fail_msg("field %c is not missed", *need);
	}
	assert_int_equal(read_back(r, "17-3", argv + 3, n - 4, &id, &back), ERR_INVAL);
	assert_int_equal(read_back(r, "17-3", argv + 3, 0, &id, &back), ERR_INVAL);
	assert_int_equal(read_back(r, "17", argv + 3, n - 3, &id, &back), ERR_PROTO);
	redis_reader_free(r);
}

static enum err read_reply(const char *bytes, struct stream_id *ret_id)
{
	const struct redis_reply *reply;
	struct redis_reader *r;
	struct event_view v;
	enum err e;

	assert_int_equal(redis_reader_new(0, &r), ERR_OK);
	assert_int_equal(redis_reader_feed(r, bytes, strlen(bytes)), ERR_OK);
	assert_int_equal(redis_reader_next(r, &reply), ERR_OK);
	e = stream_entry_read(reply, ret_id, &v);
	redis_reader_free(r);
	return e;
}

static void test_odd_replies(void **state)
{
	struct stream_id id = {0, 0};

	(void)state;
	assert_int_equal(read_reply("*2\r\n$3\r\n9-1\r\n*-1\r\n", &id), ERR_NOTFOUND);
	assert_int_equal(id.ms, 9);
	assert_int_equal(read_reply("*2\r\n$3\r\n9-1\r\n$-1\r\n", &id), ERR_NOTFOUND);
	assert_int_equal(read_reply("$-1\r\n", &id), ERR_PROTO);
	assert_int_equal(read_reply(":5\r\n", &id), ERR_PROTO);
	assert_int_equal(read_reply("*0\r\n", &id), ERR_PROTO);
	assert_int_equal(read_reply("*2\r\n:9\r\n*0\r\n", &id), ERR_PROTO);
	assert_int_equal(read_reply("*2\r\n$3\r\n9-1\r\n:1\r\n", &id), ERR_INVAL);
	assert_int_equal(read_reply("*2\r\n$3\r\n9-1\r\n*2\r\n$1\r\nv\r\n:1\r\n", &id), ERR_INVAL);
	assert_int_equal(read_reply("*2\r\n$3\r\n9-1\r\n*2\r\n*0\r\n$1\r\nv\r\n", &id), ERR_INVAL);
}

static void test_ids(void **state)
{
	static const char *const bad[] = {"",
	                                  "-",
	                                  "1",
	                                  "1-",
	                                  "-1",
	                                  "1-2-3",
	                                  "a-1",
	                                  "1-b",
	                                  " 1-1",
	                                  "1-1 ",
	                                  "18446744073709551616-0",
	                                  "0-18446744073709551616",
	                                  "000000000000000000001-0"};
	static const char *const good[] = {"0-0", "1700000000000-12",
	                                   "18446744073709551615-18446744073709551615"};
	char text[STREAM_ID_TEXT];
	struct stream_id id;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (stream_id_parse(str_of(bad[i]), &id) == ERR_OK)
			fail_msg("taken: %s", bad[i]);
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_int_equal(stream_id_parse(str_of(good[i]), &id), ERR_OK);
		assert_int_equal(stream_id_format(id, text), strlen(good[i]));
		assert_string_equal(text, good[i]);
	}
}

/* A reply becomes an event. */
static void scenario_event(void)
{
	struct event_view v = sample(), got;
	struct stream_entry_scratch scratch;
	struct str argv[STREAM_ENTRY_ARGS];
	size_t n = stream_entry_argv(&v, STR("s"), &scratch, argv);
	const struct redis_reply *reply;
	struct redis_reader *r;
	struct stream_id id;
	struct event *e;
	struct buf b;

	if (redis_reader_new(0, &r) != ERR_OK)
		return;
	buf_init(&b, 1 << 20);
	buf_addf(&b, "*2\r\n$3\r\n7-1\r\n*%zu\r\n", n - 3);
	for (size_t i = 3; i < n; i++)
		add_bulk(&b, argv[i]);
	if (b.err == ERR_OK && redis_reader_feed(r, b.ptr, b.len) == ERR_OK &&
	    redis_reader_next(r, &reply) == ERR_OK) {
		assert_int_equal(stream_entry_read(reply, &id, &got), ERR_OK);
		if (event_make(&got, &e) == ERR_OK)
			event_unref(e);
	}
	buf_done(&b);
	redis_reader_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_round_trip), cmocka_unit_test(test_any_order_and_unknown_fields),
	    cmocka_unit_test(test_malformed),  cmocka_unit_test(test_odd_replies),
	    cmocka_unit_test(test_ids),        cmocka_unit_test(test_dedup_goes_with_the_event),
	    cmocka_unit_test(test_marks),      cmocka_unit_test(test_content_is_a_hash),
	};

	const struct torture torture[] = {TORTURE(scenario_event)};

	return TESTS_OR_TORTURE(tests, torture);
}
