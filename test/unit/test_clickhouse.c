/* ClickHouse's adapter without ClickHouse: the texts both ways, what becomes of the server's errors
 * (the words are those of 18.16 and of a current version), and a query in which each allocation
 * fails in turn. The real server is the integration tests' part. */
#include "http_peer.h"
#include "turn.h"

#include "weir/io/clickhouse.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"

#define PATIENCE (20 * USEC_PER_SEC)

static struct loop *loop;
static struct clickhouse *db;
static struct turn turner;

static struct {
	int fired, code;
	enum err err;
	char rows[256], text[512];
} got;

static void on_query_done(void *arg, enum err err, const struct clickhouse_answer *a)
{
	(void)arg;
	got.fired++;
	got.err = err;
	got.code = a->code;
	snprintf(got.rows, sizeof(got.rows), "%.*s", (int)a->rows.len, a->rows.ptr);
	snprintf(got.text, sizeof(got.text), "%s", a->text);
}

static bool is_answered(struct rig *r)
{
	(void)r;
	return got.fired > 0;
}

/* The body says what is to be answered: "STATUS HEADERS|BODY". */
static bool answer_as_told(int fd, const char *request, const char *body)
{
	char head[1024];
	const char *bar = strchr(body, '|');

	(void)request;
	snprintf(head, sizeof(head), "%.*s", bar ? (int)(bar - body - 4) : 0, body + 4);
	peer_reply(fd, (int)strtol(body, NULL, 10), head, bar ? bar + 1 : "");
	return true;
}

static enum err open_db(const char *userinfo, const char *target)
{
	char url[256];
	struct err_info info;

	snprintf(url, sizeof(url), "http://%s127.0.0.1:%u%s", userinfo, peer.port, target);
	return clickhouse_new(loop, &(struct clickhouse_options){.url = url, .max_queries = 2}, &db,
	                      &info);
}

static int set_up(void **state)
{
	(void)state;
	memset(&got, 0, sizeof(got));
	assert_int_equal(loop_new(&loop), ERR_OK);
	assert_int_equal(turn_init(&turner, NULL, loop), ERR_OK);
	assert_int_equal(open_db("us%27er:p%20w@", "/?database=x#f"), ERR_OK);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	clickhouse_free(db);
	turn_done(&turner);
	loop_free(loop);
	return 0;
}

static void turn(void)
{
	assert_true(turn_run(&turner, is_answered, PATIENCE / MSEC));
}

static void ask(const char *answer)
{
	memset(&got, 0, sizeof(got));
	assert_int_equal(clickhouse_submit(db, str_of(answer), PATIENCE, on_query_done, NULL),
	                 ERR_OK);
	assert_int_equal(got.fired, 0);
	turn();
	assert_int_equal(got.fired, 1);
}

static void test_request(void **state)
{
	(void)state;
	ask("200 |a\tb\n");
	assert_int_equal(got.err, ERR_OK);
	assert_string_equal(got.rows, "a\tb\n");
	assert_string_equal(got.text, "");
	assert_non_null(
	    strstr(peer.seen->last, "POST /?database=x&wait_end_of_query=1 HTTP/1.1\r\n"));
	assert_non_null(strstr(peer.seen->last, "\r\nX-ClickHouse-User: us'er\r\n"));
	assert_non_null(strstr(peer.seen->last, "\r\nX-ClickHouse-Key: p w\r\n"));
	assert_null(strcasestr(peer.seen->last, "authorization"));
}

static void test_request_without_user(void **state)
{
	(void)state;
	clickhouse_free(db);
	assert_int_equal(open_db("", ""), ERR_OK);
	ask("200 |");
	assert_int_equal(got.err, ERR_OK);
	assert_non_null(strstr(peer.seen->last, "POST /?wait_end_of_query=1 HTTP/1.1\r\n"));
	assert_null(strstr(peer.seen->last, "X-ClickHouse"));
}

static void test_errors(void **state)
{
	static const struct {
		const char *answer;
		enum err err;
		int code;
	} cases[] = {
	    {"404 |Code: 60, e.displayText() = DB::Exception: Table default.x doesn't exist., "
	     "e.what() = DB::Exception\n",
	     ERR_NOTABLE, 60},
	    {"404 X-ClickHouse-Exception-Code: 60\r\n|Code: 60. DB::Exception: Unknown table\n",
	     ERR_NOTABLE, 60},
	    {"500 |Code: 47, e.displayText() = DB::Exception: Unknown identifier\n", ERR_NOTABLE,
	     47},
	    {"400 |Code: 62, e.displayText() = DB::Exception: Syntax error\n", ERR_BUG, 62},
	    {"401 |Code: 192, e.displayText() = DB::Exception: Unknown user\n", ERR_DENIED, 192},
	    {"403 |Code: 516. DB::Exception: x: Authentication failed\n", ERR_DENIED, 516},
	    {"500 |Code: 159. DB::Exception: Timeout exceeded\n", ERR_TIMEOUT, 159},
	    {"500 |Code: 202. DB::Exception: Too many simultaneous queries\n", ERR_FULL, 202},
	    {"500 |Code: 241. DB::Exception: Memory limit\n", ERR_FULL, 241},
	    {"500 |Code: 395, e.displayText() = DB::Exception: thrown\n", ERR_UNAVAILABLE, 395},
	    {"500 |no code", ERR_UNAVAILABLE, 0},
	    {"401 |from a proxy", ERR_DENIED, 0},
	    {"302 |", ERR_PROTO, 0},
	    {"204 |", ERR_OK, 0},
	    {"200 |a\tb\nCode: 395, e.displayText() = DB::Exception: late\n", ERR_UNAVAILABLE, 395},
	    {"200 X-ClickHouse-Exception-Code: 159\r\n|a\tb\n", ERR_TIMEOUT, 159},
	    {"200 |a\tb\nCode: 1\tis a value\n", ERR_OK, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		ask(cases[i].answer);
		assert_int_equal(got.err, cases[i].err);
		assert_int_equal(got.code, cases[i].code);
		assert_int_equal(got.text[0] != '\0', got.err != ERR_OK);
		assert_true(got.err == ERR_OK || got.rows[0] == '\0');
	}
}

static void test_bad_urls(void **state)
{
	static const char *const urls[] = {"", "localhost:8123 x", "http://a:b%0d%0aX@h/",
	                                   "http://%0a@h/"};
	struct err_info info;
	struct clickhouse *none = NULL;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct clickhouse_options o = {.url = urls[i]};

		assert_int_equal(clickhouse_new(loop, &o, &none, &info), ERR_INVAL);
		assert_null(none);
		assert_null(strstr(info.text, "b%0d"));
	}
}

static void test_literals(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	clickhouse_add_string(&b, STR("it's \\ a\0\n\x7f\xc3\xa9"));
	assert_string_equal(b.ptr, "'it\\x27s \\x5c a\\x00\\x0a\\x7f\\xc3\\xa9'");
	buf_reset(&b);
	clickhouse_add_string(&b, STR_NONE);
	assert_string_equal(b.ptr, "''");
	buf_reset(&b);
	clickhouse_add_name(&b, STR("db.table_1"));
	assert_string_equal(b.ptr, "`db`.`table_1`");
	buf_done(&b);
}

static void test_rows(void **state)
{
	struct clickhouse_rows r;
	struct str v[3];

	(void)state;
	clickhouse_rows_init(&r, STR("a\tb\\tc\\\\\\n\\'\\0d\\q\t\\N\n\t\t\n"));
	assert_int_equal(clickhouse_rows_next(&r, v, 3), ERR_OK);
	assert_true(str_eq(v[0], STR("a")));
	assert_true(str_eq(v[1], STR("b\tc\\\n'\0dq")));
	assert_null(v[2].ptr);
	assert_int_equal(clickhouse_rows_next(&r, v, 3), ERR_OK);
	assert_true(v[0].ptr && v[0].len == 0);
	assert_true(v[2].ptr && v[2].len == 0);
	assert_int_equal(clickhouse_rows_next(&r, v, 3), ERR_NOTFOUND);
	clickhouse_rows_done(&r);
}

static void test_rows_that_are_none(void **state)
{
	static const char *const texts[] = {
	    "a\tb",     "a\n", "a\tb\tc\n",
	    "a\tb\\\n", "\n",  "Code: 395, e.displayText() = DB::Exception\n"};
	struct clickhouse_rows r;
	struct str v[2];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		clickhouse_rows_init(&r, str_of(texts[i]));
		assert_int_equal(clickhouse_rows_next(&r, v, 2), ERR_PROTO);
		clickhouse_rows_done(&r);
	}
}

static void test_codes(void **state)
{
	(void)state;
	assert_int_equal(clickhouse_code(STR("Code: 60, e")), 60);
	assert_int_equal(clickhouse_code(STR("Code: 60. DB")), 60);
	assert_int_equal(clickhouse_code(STR("first\nCode: 7")), 7);
	assert_int_equal(clickhouse_code(STR("no Code: 7")), 0);
	assert_int_equal(clickhouse_code(STR("Code: ")), 0);
	assert_int_equal(clickhouse_code(STR("Code: 99999999999999999999")), 0);
	assert_int_equal(clickhouse_code(STR_NONE), 0);
	assert_int_equal(clickhouse_late_code(STR("a\tb\nCode: 7, x\n\n")), 7);
	assert_int_equal(clickhouse_late_code(STR("Code: 7\tb\n")), 0);
	assert_int_equal(clickhouse_late_code(STR("Code: 7, x\na\tb\n")), 0);
	assert_int_equal(clickhouse_late_code(STR("\n")), 0);
}

static void scenario_query(void)
{
	struct clickhouse_rows r;
	struct str v[2];
	bool asked = false;

	memset(&got, 0, sizeof(got));
	db = NULL;
	if (loop_new(&loop) != ERR_OK)
		return;
	if (turn_init(&turner, NULL, loop) == ERR_OK && open_db("u:p@", "/") == ERR_OK)
		asked = clickhouse_submit(db, STR("200 |a\tb\n"), PATIENCE, on_query_done, NULL) ==
		        ERR_OK;
	if (asked)
		turn();
	assert_int_equal(got.fired, asked);
	clickhouse_rows_init(&r, STR("a\tb\n"));
	(void)!clickhouse_rows_next(&r, v, 2);
	clickhouse_rows_done(&r);
	clickhouse_free(db);
	turn_done(&turner);
	loop_free(loop);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_request),
	    TEST(test_request_without_user),
	    TEST(test_errors),
	    TEST(test_bad_urls),
	    cmocka_unit_test(test_literals),
	    cmocka_unit_test(test_rows),
	    cmocka_unit_test(test_rows_that_are_none),
	    cmocka_unit_test(test_codes),
	};
	const struct torture torture[] = {TORTURE(scenario_query)};
	int rc;

	if (log_set_levels("error", NULL) != ERR_OK)
		return 1;
	peer.answer = answer_as_told;
	peer_start();
	rc = TESTS_OR_TORTURE(tests, torture);
	peer_end();
	return rc;
}
