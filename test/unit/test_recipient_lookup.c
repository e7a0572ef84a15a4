/* Looking recipients up in ClickHouse, against a server of the test's own: what is asked, how rows
 * and keys are matched, large questions, answers that are none. The real server is the integration
 * tests' part. */
#include "http_peer.h"
#include "turn.h"

#include "weir/io/clickhouse.h"
#include "weir/pipeline/recipient_lookup.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"

#define PATIENCE (20 * USEC_PER_SEC)
#define MANY     3000

static struct loop *loop;
static struct clickhouse *db;
static struct recipient_lookup *lookup;
static struct turn turner;

static struct {
	int fired;
	enum err err;
	char text[300];
	int64_t ids[MANY];
} got;
static size_t asked_for;

/* ---- the server ---- */

/* "rows:" in a message id: what follows, without its escapes, is the answer, with '|' for tabs and
 * '/' for ends of lines. */
static bool answer_rows(int fd, const char *body)
{
	const char *p = strstr(body, "'rows:");
	char out[4096];
	size_t n = 0;

	if (!p)
		return false;
	for (p += 6; *p != '\'' && n < sizeof(out) - 1; p++)
		out[n++] = *p == '|' ? '\t' : *p == '/' ? '\n' : *p;
	out[n] = '\0';
	peer_reply(fd, 200, "", out);
	return true;
}

/* For every 'k-N…' a row with the recipient N. */
static bool answer_as_asked(int fd, const char *request, const char *body)
{
	static char out[1 << 20];
	size_t n = 0;

	(void)request;
	if (answer_rows(fd, body))
		return true;
	for (const char *p = body; (p = strstr(p, "'k-")); p += 3) {
		size_t len = strcspn(p + 1, "'");

		n += (size_t)snprintf(out + n, sizeof(out) - n, "%.*s\ta@b\t\t%ld\t.\n", (int)len,
		                      p + 1, strtol(p + 3, NULL, 10));
	}
	peer_reply(fd, 200, "", out);
	return true;
}

/* ---- the rig ---- */

static enum err open_lookup(const struct recipient_columns *c)
{
	char url[64];
	struct err_info info;
	enum err e;

	db = NULL;
	lookup = NULL;
	snprintf(url, sizeof(url), "http://127.0.0.1:%u/", peer.port);
	e = clickhouse_new(loop, &(struct clickhouse_options){.url = url}, &db, &info);
	return e == ERR_OK ? recipient_lookup_clickhouse_new(loop, db, c, &lookup) : e;
}

static const struct recipient_columns all = {"d.t", "mid", "rid", "addr", "tool"};
static const struct recipient_columns some = {"t", "mid", "rid", "addr", ""};
static const struct recipient_columns few = {"t", "mid", "rid", "", ""};

static void use(const struct recipient_columns *c)
{
	if (lookup)
		lookup->free(lookup);
	clickhouse_free(db);
	assert_int_equal(open_lookup(c), ERR_OK);
}

static int set_up(void **state)
{
	(void)state;
	assert_int_equal(loop_new(&loop), ERR_OK);
	assert_int_equal(turn_init(&turner, NULL, loop), ERR_OK);
	assert_int_equal(open_lookup(&all), ERR_OK);
	peer_forget();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	clickhouse_free(db);
	lookup->free(lookup);
	turn_done(&turner);
	loop_free(loop);
	return 0;
}

static bool is_answered(struct rig *r)
{
	(void)r;
	return got.fired > 0;
}

static void on_found(void *arg, enum err err, const char *text, const int64_t *ids)
{
	(void)arg;
	got.fired++;
	got.err = err;
	snprintf(got.text, sizeof(got.text), "%s", text);
	if (ids)
		memcpy(got.ids, ids, asked_for * sizeof(*ids));
	assert_int_equal(ids != NULL, err == ERR_OK);
}

static void find(const struct recipient_key *keys, size_t n)
{
	memset(&got, 0, sizeof(got));
	asked_for = n;
	assert_int_equal(lookup->find(lookup, keys, n, PATIENCE, on_found, NULL), ERR_OK);
	assert_int_equal(got.fired, 0);
	assert_true(turn_run(&turner, is_answered, PATIENCE / MSEC));
	assert_int_equal(got.fired, 1);
}

static const char *query(void)
{
	const char *p = strstr(peer.seen->last, "\r\n\r\n");

	return p ? p + 4 : "";
}

/* ---- tests ---- */

static void test_queries(void **state)
{
	const struct recipient_key keys[] = {{STR("sg"), STR("k-2"), STR("b@x")},
	                                     {STR("sg"), STR("k-1"), STR("it's@x")},
	                                     {STR("mg"), STR("k-2"), STR("c@x")}};

	(void)state;
	find(keys, 3);
	assert_string_equal(
	    query(), "SELECT DISTINCT toString(`mid`), lower(toString(`addr`)), toString(`tool`), "
	             "toString(`rid`), '.' FROM `d`.`t` WHERE 1 AND `mid` IN ('k-1','k-2') "
	             "AND lower(toString(`addr`)) IN ('it\\x27s@x','b@x','c@x') "
	             "AND `tool` IN ('sg','mg') FORMAT TabSeparated");
	use(&few);
	find(keys, 3);
	assert_string_equal(query(),
	                    "SELECT DISTINCT toString(`mid`), '', '', toString(`rid`), '.' "
	                    "FROM `t` WHERE 1 AND `mid` IN ('k-1','k-2') FORMAT TabSeparated");
}

static void test_rows_are_matched_by_all_columns(void **state)
{
	const struct str id = STR("rows:m|a@x|sg|7|./m|a@x|mg|8|./m|c@x|sg|9|./other|a@x|sg|1|./");
	const struct recipient_key keys[] = {
	    {STR("sg"), STR("m"), STR("a@x")}, {STR("mg"), STR("m"), STR("a@x")},
	    {STR("mg"), STR("m"), STR("c@x")}, {STR("sg"), STR("m"), STR("c@x")},
	    {STR("sg"), id, STR("a@x")},       {STR("sg"), STR("m"), STR("d@x")}};
	static const int64_t want[] = {7, 8, 0, 9, 0, 0};

	(void)state;
	find(keys, 6);
	assert_int_equal(got.err, ERR_OK);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(got.ids[i], want[i]);
}

static void test_several_recipients_are_none(void **state)
{
	const struct recipient_key keys[] = {
	    {STR("sg"), STR("rows:m|||7|./m|||8|./m|||7|./n|||5|./n|||5|./"), STR("a@x")},
	    {STR("sg"), STR("m"), STR("a@x")},
	    {STR("mg"), STR("n"), STR("b@x")},
	    {STR("sg"), STR("n"), STR("c@x")}};

	(void)state;
	use(&few);
	find(keys, 4);
	assert_int_equal(got.err, ERR_OK);
	assert_int_equal(got.ids[1], 0);
	assert_int_equal(got.ids[2], 5);
	assert_int_equal(got.ids[3], 5);
}

static void test_ids_that_are_none(void **state)
{
	const struct recipient_key keys[] = {
	    {STR("sg"),
	     STR("rows:a|a@x|sg|0|./b|a@x|sg|-3|./c|a@x|sg|x|./d|a@x|sg|\\N|./"
	         "e|a@x|sg|18446744073709551615|./f|a@x|sg|9223372036854775807|./"),
	     STR("a@x")},
	    {STR("sg"), STR("a"), STR("a@x")},
	    {STR("sg"), STR("b"), STR("a@x")},
	    {STR("sg"), STR("c"), STR("a@x")},
	    {STR("sg"), STR("e"), STR("a@x")},
	    {STR("sg"), STR("f"), STR("a@x")}};

	(void)state;
	find(keys, 6);
	assert_int_equal(got.err, ERR_OK);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(got.ids[i], 0);
	assert_int_equal(got.ids[5], INT64_MAX);
}

static void test_answers_that_are_none(void **state)
{
	static const struct {
		const char *rows;
		enum err err;
	} cases[] = {
	    {"rows:m|a@x|sg|7/", ERR_PROTO},
	    {"rows:m|a@x|sg|7|.", ERR_PROTO},
	    {"rows:m|a@x|sg|7|./m|a@x|sg|8|", ERR_PROTO},
	    {"rows:m|a@x|sg|7|.Code: 395, e.displayText() = DB::Exception: late/", ERR_PROTO},
	    {"rows:m|a@x|sg|7|./Code: 395, e.displayText() = DB::Exception: late/",
	     ERR_UNAVAILABLE},
	    {"rows:hello/", ERR_PROTO}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct recipient_key k = {STR("sg"), str_of(cases[i].rows), STR("a@x")};

		find(&k, 1);
		assert_int_equal(got.err, cases[i].err);
		assert_string_not_equal(got.text, "");
	}
}

static void test_large_questions_become_several(void **state)
{
	static char texts[MANY][256];
	static struct recipient_key keys[MANY];

	(void)state;
	use(&some);
	peer.seen->requests = 0;
	for (int i = 0; i < MANY; i++) {
		int n = snprintf(texts[i], sizeof(texts[i]), "k-%d-", i + 1);

		memset(texts[i] + n, 'x', 200);
		keys[i] = (struct recipient_key){STR("sg"), str_of(texts[i]), STR("a@b")};
	}
	find(keys, MANY);
	assert_int_equal(got.err, ERR_OK);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(got.ids[i], i + 1);
	assert_in_range(peer.seen->requests, 3, 20);
	assert_in_range(peer.seen->most_bytes, 1, 250 << 10);
	assert_int_equal(peer.seen->most_open, 1);
}

static void test_nobody_answers(void **state)
{
	struct recipient_key k = {STR("sg"), STR("m"), STR("a@x")};
	struct err_info info;

	(void)state;
	lookup->free(lookup);
	clickhouse_free(db);
	assert_int_equal(clickhouse_new(loop,
	                                &(struct clickhouse_options){.url = "http://127.0.0.1:1/"},
	                                &db, &info),
	                 ERR_OK);
	assert_int_equal(recipient_lookup_clickhouse_new(loop, db, &all, &lookup), ERR_OK);
	find(&k, 1);
	assert_int_equal(got.err, ERR_UNAVAILABLE);
	assert_string_not_equal(got.text, "");
}

static void scenario_find(void)
{
	const struct recipient_key keys[] = {{STR("sg"), STR("k-2"), STR("a@b")},
	                                     {STR("sg"), STR("k-1"), STR("a@b")}};

	memset(&got, 0, sizeof(got));
	asked_for = 2;
	db = NULL;
	lookup = NULL;
	if (loop_new(&loop) != ERR_OK)
		return;
	if (turn_init(&turner, NULL, loop) != ERR_OK || open_lookup(&some) != ERR_OK)
		goto out;
	if (lookup->find(lookup, keys, 2, PATIENCE, on_found, NULL) != ERR_OK)
		goto out;
	assert_true(turn_run(&turner, is_answered, PATIENCE / MSEC));
	assert_int_equal(got.fired, 1);
	if (got.err == ERR_OK)
		assert_int_equal(got.ids[0] * 10 + got.ids[1], 21);
out:
	clickhouse_free(db);
	if (lookup)
		lookup->free(lookup);
	turn_done(&turner);
	loop_free(loop);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_queries),
	    TEST(test_rows_are_matched_by_all_columns),
	    TEST(test_several_recipients_are_none),
	    TEST(test_ids_that_are_none),
	    TEST(test_answers_that_are_none),
	    TEST(test_large_questions_become_several),
	    TEST(test_nobody_answers),
	};
	const struct torture torture[] = {TORTURE(scenario_find)};
	int rc;

	if (log_set_levels("error", NULL) != ERR_OK)
		return 1;
	peer.answer = answer_as_asked;
	peer_start();
	rc = TESTS_OR_TORTURE(tests, torture);
	peer_end();
	return rc;
}
