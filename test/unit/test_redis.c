/* The Redis connection on a server that behaves: replies, errors, transactions, bounds, lives. */
#include "redis_rig.h"
#include "weir/base/buf.h"

static void test_replies(void **state)
{
	struct redis_options o = rig_options();
	struct answer a;
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	assert_int_equal(r.ups, 1);
	a = ask(&r, "SET greeting hello");
	assert_int_equal(a.err, ERR_OK);
	assert_int_equal(a.type, REDIS_STATUS);
	assert_string_equal(a.text, "OK");
	a = ask(&r, "GET greeting");
	assert_int_equal(a.type, REDIS_STRING);
	assert_string_equal(a.text, "hello");
	a = ask(&r, "GET nothing");
	assert_int_equal(a.type, REDIS_NIL);
	a = ask(&r, "INCRBY number 42");
	assert_int_equal(a.type, REDIS_INTEGER);
	assert_int_equal(a.integer, 42);
	a = ask(&r, "RPUSH list a b c");
	a = ask(&r, "LRANGE list 0 -1");
	assert_int_equal(a.type, REDIS_ARRAY);
	assert_int_equal(a.count, 3);
	a = ask(&r, "LRANGE nolist 0 -1");
	assert_int_equal(a.count, 0);
	assert_int_equal(redis_pending(r.redis), 0);
	assert_int_equal(redis_reconnects(r.redis), 0);
	rig_done(&r);
}

/* Bytes that the protocol itself uses, NUL, and nothing at all. */
static void test_binary(void **state)
{
	static const char raw[] = "a\r\n$3\r\n\0b*1\r\n";
	struct str set[] = {STR("SET"), STR("raw"), {raw, sizeof(raw) - 1}};
	struct str empty[] = {STR("SET"), STR("empty"), STR_NONE};
	struct redis_options o = rig_options();
	struct answer a[2] = {{0}}, got;
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	assert_int_equal(redis_submit(r.redis, set, 3, 0, on_answer, &a[0]), ERR_OK);
	assert_int_equal(redis_submit(r.redis, empty, 3, 0, on_answer, &a[1]), ERR_OK);
	assert_true(await(&r, a, 2, LONG_MSEC));
	got = ask(&r, "GET raw");
	assert_int_equal(got.len, sizeof(raw) - 1);
	got = ask(&r, "STRLEN empty");
	assert_int_equal(got.integer, 0);
	rig_done(&r);
}

static void test_errors(void **state)
{
	static const struct {
		const char *line;
		enum err err;
		const char *text;
	} cases[] = {
	    {"NONSENSE", ERR_INVAL, "ERR unknown command"},
	    {"INCR greeting", ERR_INVAL, "ERR value is not an integer"},
	    {"XREADGROUP GROUP g c STREAMS nostream >", ERR_NOTABLE, "NOGROUP"},
	    {"EVALSHA 0123456789012345678901234567890123456789 0", ERR_NOTABLE, "NOSCRIPT"},
	    {"XGROUP CREATE s g 0 MKSTREAM", ERR_OK, "OK"},
	    {"XGROUP CREATE s g 0 MKSTREAM", ERR_CONFLICT, "BUSYGROUP"},
	    {"AUTH nobody nothing", ERR_DENIED, "WRONGPASS"},
	    {"CONFIG SET maxmemory 1", ERR_OK, "OK"},
	    {"SET full yes", ERR_FULL, "OOM"},
	    {"CONFIG SET maxmemory 0", ERR_OK, "OK"},
	    {"CONFIG SET min-replicas-to-write 1", ERR_OK, "OK"},
	    {"SET alone yes", ERR_UNAVAILABLE, "NOREPLICAS"},
	    {"CONFIG SET min-replicas-to-write 0", ERR_OK, "OK"},
	    {"ACL SETUSER limited on >pw ~* +auth +get", ERR_OK, "OK"},
	    {"AUTH limited pw", ERR_OK, "OK"},
	    {"SET denied yes", ERR_DENIED, "NOPERM"},
	};
	struct redis_options o = rig_options();
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	ask(&r, "SET greeting hello");
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct answer a = ask(&r, cases[i].line);

		if (a.err != cases[i].err || !strstr(a.text, cases[i].text))
			fail_msg("%s: %s, %s", cases[i].line, err_name(a.err), a.text);
	}
	assert_int_equal(r.downs, 0);
	rig_done(&r);
	rig_init(&r, &o);
	ask(&r, "FLUSHALL");
	rig_done(&r);
}

/* ---- MULTI ---- */

static enum err submit_two(struct rig *r, const char *one, const char *two, struct answer *a)
{
	struct str argv[2][16];
	struct redis_command cmds[] = {{argv[0], words(one, argv[0], 16)},
	                               {argv[1], words(two, argv[1], 16)}};

	*a = (struct answer){.rig = r};
	return redis_submit_multi(r->redis, cmds, 2, 0, on_answer, a);
}

static void test_multi(void **state)
{
	struct redis_options o = rig_options();
	struct answer a[3];
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	/* Between others, so that a miscounted reply shows. */
	assert_int_equal(submit(&r, "SET before 1", 0, &a[0]), ERR_OK);
	assert_int_equal(submit_two(&r, "INCRBY m 5", "GET m", &a[1]), ERR_OK);
	assert_int_equal(submit(&r, "GET before", 0, &a[2]), ERR_OK);
	assert_true(await(&r, a, 3, LONG_MSEC));
	assert_int_equal(a[1].err, ERR_OK);
	assert_int_equal(a[1].count, 2);
	assert_string_equal(a[2].text, "1");

	/* Refused while it was queued: nothing is done, and the cause is told, not EXECABORT. */
	assert_int_equal(submit_two(&r, "INCRBY m 5", "NONSENSE", &a[0]), ERR_OK);
	assert_true(await(&r, a, 1, LONG_MSEC));
	assert_int_equal(a[0].err, ERR_INVAL);
	assert_non_null(strstr(a[0].text, "unknown command"));
	assert_string_equal(ask(&r, "GET m").text, "5");

	/* Out of memory, as the producer meets it. */
	ask(&r, "CONFIG SET maxmemory 1");
	assert_int_equal(submit_two(&r, "XADD q * a b", "XADD q * c d", &a[0]), ERR_OK);
	assert_true(await(&r, a, 1, LONG_MSEC));
	assert_int_equal(a[0].err, ERR_FULL);
	ask(&r, "CONFIG SET maxmemory 0");
	assert_int_equal(ask(&r, "EXISTS q").integer, 0);

	/* Failed while it ran. */
	assert_int_equal(submit_two(&r, "LPUSH m 5", "GET m", &a[0]), ERR_OK);
	assert_true(await(&r, a, 1, LONG_MSEC));
	assert_int_equal(a[0].err, ERR_INVAL);
	assert_non_null(strstr(a[0].text, "WRONGTYPE"));

	/* The one before does not colour the next. */
	assert_int_equal(submit_two(&r, "GET m", "GET m", &a[0]), ERR_OK);
	assert_true(await(&r, a, 1, LONG_MSEC));
	assert_int_equal(a[0].err, ERR_OK);
	assert_int_equal(r.downs, 0);
	ask(&r, "FLUSHALL");
	rig_done(&r);
}

/* ---- volume ---- */

#define PIPELINED 100000

struct counted {
	size_t done;
	int64_t last;
	bool wrong;
};

static struct counted counted;

static void on_counted(void *arg, enum err err, const struct redis_reply *reply)
{
	struct counted *c = arg;

	c->wrong = c->wrong || err != ERR_OK || reply->integer != c->last + 1;
	c->last = reply ? reply->integer : 0;
	c->done++;
}

static bool all_counted(struct rig *r)
{
	(void)r;
	return counted.done == PIPELINED;
}

static void test_pipelined(void **state)
{
	static const struct str incr[] = {{"INCR", 4}, {"counter", 7}};
	struct redis_options o = rig_options();
	struct rig r;

	(void)state;
	NEED_SERVER();
	o.max_pending = PIPELINED;
	rig_init(&r, &o);
	counted = (struct counted){0};
	for (size_t i = 0; i < PIPELINED; i++)
		assert_int_equal(
		    redis_submit(r.redis, incr, 2, 20 * USEC_PER_SEC, on_counted, &counted),
		    ERR_OK);
	assert_int_equal(redis_pending(r.redis), PIPELINED);
	assert_int_equal(redis_submit(r.redis, incr, 2, 0, on_counted, &counted), ERR_FULL);
	assert_true(turn_until(&r, all_counted, 30000));
	assert_false(counted.wrong);
	assert_int_equal(counted.last, PIPELINED);
	rig_done(&r);
}

static bool all_sent(struct rig *r)
{
	return redis_unsent(r->redis) == 0;
}

static int turns_seen;

static bool some_turns(struct rig *r)
{
	(void)r;
	return ++turns_seen > 8;
}

/* Sends what is answered when somebody pushes to the list. */
static void begin_waiting(struct rig *r, usec_t timeout, struct answer *a)
{
	assert_int_equal(submit(r, "BLPOP gather 0", timeout, a), ERR_OK);
	assert_true(turn_until(r, all_sent, LONG_MSEC));
}

/* Little waits for the answer that is due; much does not, nor does anything when none is due. */
static void test_gather(void **state)
{
	struct redis_options o = rig_options();
	struct answer a[4];
	char text[16];
	struct rig r;

	(void)state;
	NEED_SERVER();
	o.gather = 100;
	rig_init(&r, &o);
	begin_waiting(&r, 60 * USEC_PER_SEC, &a[0]);
	assert_int_equal(submit(&r, "ECHO little", 60 * USEC_PER_SEC, &a[1]), ERR_OK);
	turns_seen = 0;
	assert_true(turn_until(&r, some_turns, LONG_MSEC));
	assert_true(redis_unsent(r.redis) > 0);
	assert_true(redis_server_say(&server, "RPUSH gather x\r\n", text, sizeof(text)));
	assert_true(await(&r, a, 2, LONG_MSEC));
	assert_string_equal(a[1].text, "little");

	begin_waiting(&r, 60 * USEC_PER_SEC, &a[0]);
	for (int i = 1; i < 4; i++)
		assert_int_equal(
		    submit(&r, "ECHO of-thirty-three-or-more-bytes-each", 60 * USEC_PER_SEC, &a[i]),
		    ERR_OK);
	assert_true(turn_until(&r, all_sent, LONG_MSEC));
	assert_int_equal(a[0].fired, 0);
	assert_true(redis_server_say(&server, "RPUSH gather x\r\n", text, sizeof(text)));
	assert_true(await(&r, a, 4, LONG_MSEC));
	rig_done(&r);
}

/* The connection that is lost takes what waited with it, and the next one begins anew. */
static void test_gather_lost(void **state)
{
	struct redis_options o = rig_options();
	struct answer a[2], got;
	struct rig r;

	(void)state;
	NEED_SERVER();
	o.gather = 100;
	rig_init(&r, &o);
	begin_waiting(&r, 50 * MSEC, &a[0]);
	assert_int_equal(submit(&r, "SET gathered yes", 60 * USEC_PER_SEC, &a[1]), ERR_OK);
	assert_true(await(&r, a, 2, LONG_MSEC));
	assert_int_equal(a[0].err, ERR_TIMEOUT);
	assert_int_equal(a[1].err, ERR_CLOSED);
	assert_true(turn_until(&r, is_up, LONG_MSEC));
	got = ask(&r, "GET gathered");
	assert_int_equal(got.type, REDIS_NIL);
	rig_done(&r);
}

static void test_big(void **state)
{
	enum { BIG = 48 << 20 };
	struct redis_options o = rig_options();
	struct str set[] = {STR("SET"), STR("big"), STR_NONE};
	struct answer a = {0}, got;
	struct rig r;
	char *bytes = mem_alloc(BIG);
	size_t used;

	(void)state;
	if (!server.pid)
		mem_free(bytes);
	NEED_SERVER();
	assert_non_null(bytes);
	for (size_t i = 0; i < BIG; i++)
		bytes[i] = (char)(i * 31);
	rig_init(&r, &o);
	used = mem_used();
	set[2] = str_n(bytes, BIG);
	assert_int_equal(redis_submit(r.redis, set, 3, 60 * USEC_PER_SEC, on_answer, &a), ERR_OK);
	/* The bound on unsent bytes. */
	assert_int_equal(redis_submit(r.redis, set, 3, 0, on_answer, &a), ERR_FULL);
	assert_true(await(&r, &a, 1, 60000));
	assert_int_equal(a.err, ERR_OK);
	assert_int_equal(submit(&r, "GET big", 60 * USEC_PER_SEC, &got), ERR_OK);
	assert_true(await(&r, &got, 1, 60000));
	assert_int_equal(got.len, BIG);
	ask(&r, "DEL big");
	/* Neither output nor replies keep it. */
	assert_true(mem_used() < used + (4 << 20));
	mem_free(bytes);
	rig_done(&r);
}

/* A submit that was refused leaves what was submitted before as it is. */
static void test_bounds(void **state)
{
	struct redis_options o = rig_options();
	struct str huge[] = {STR("ECHO"), STR_NONE};
	struct answer a[2] = {{0}};
	struct rig r;
	char bytes[4096];

	(void)state;
	NEED_SERVER();
	memset(bytes, 'x', sizeof(bytes));
	huge[1] = str_n(bytes, sizeof(bytes));
	o.max_output = 2048;
	o.max_pending = 3; /* the greeting takes as many */
	rig_init(&r, &o);
	assert_int_equal(submit(&r, "ECHO first", 0, &a[0]), ERR_OK);
	assert_int_equal(redis_submit(r.redis, huge, 2, 0, on_answer, NULL), ERR_FULL);
	assert_int_equal(submit(&r, "ECHO second", 0, &a[1]), ERR_OK);
	assert_int_equal(submit_two(&r, "ECHO a", "ECHO b", &(struct answer){0}), ERR_FULL);
	assert_true(await(&r, a, 2, LONG_MSEC));
	assert_string_equal(a[0].text, "first");
	assert_string_equal(a[1].text, "second");
	rig_done(&r);
}

/* ---- lives ---- */

static void test_not_connected(void **state)
{
	struct redis_options o = {.name = "test", .addr = "unix:/nowhere/at/all"};
	struct answer a;
	struct rig r;

	(void)state;
	rig_open(&r);
	rig_connect(&r, &o);
	assert_int_equal(submit(&r, "PING", 0, &a), ERR_UNAVAILABLE);
	turn_until(&r, never, 250);
	assert_int_equal(a.fired, 0);
	assert_int_equal(r.ups + r.downs, 0);
	assert_true(redis_last_error(r.redis)[0]);
	rig_done(&r);
}

static void test_addresses(void **state)
{
	static const char *const bad[] = {"", ":6379", "[::1", "host:0", "host:65536", "host:x"};
	struct redis_options o = {.name = "test"};
	struct redis *redis;
	struct rig r;

	(void)state;
	rig_open(&r);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		o.addr = bad[i];
		if (redis_new(r.loop, r.resolver, &o, NULL, NULL, &redis) != ERR_INVAL)
			fail_msg("taken: %s", bad[i]);
	}
	o.addr = "unix:/tmp/sock";
	o.tls = true;
	assert_int_equal(redis_new(r.loop, r.resolver, &o, NULL, NULL, &redis), ERR_INVAL);
	rig_done(&r);
}

static void test_stop(void **state)
{
	struct redis_options o = rig_options();
	struct answer a[2];
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	assert_int_equal(submit(&r, "PING", 0, &a[0]), ERR_OK);
	assert_int_equal(submit_two(&r, "PING", "PING", &a[1]), ERR_OK);
	redis_stop(r.redis);
	redis_stop(r.redis);
	assert_int_equal(a[0].fired, 0); /* not from inside */
	assert_false(redis_up(r.redis));
	assert_true(await(&r, a, 2, LONG_MSEC));
	assert_int_equal(a[0].err, ERR_CANCELLED);
	assert_false(a[0].had_reply);
	assert_int_equal(a[1].err, ERR_CANCELLED);
	assert_int_equal(a[1].fired, 1);
	assert_int_equal(r.downs, 0);
	redis_start(r.redis);
	assert_true(turn_until(&r, is_up, LONG_MSEC));
	assert_int_equal(ask(&r, "PING").err, ERR_OK);
	rig_done(&r);
}

static void test_free_pending(void **state)
{
	struct redis_options o = rig_options();
	struct answer a;
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	assert_int_equal(submit(&r, "PING", 0, &a), ERR_OK);
	redis_free(r.redis);
	r.redis = NULL;
	assert_int_equal(a.fired, 1);
	assert_int_equal(a.err, ERR_CANCELLED);
	rig_done(&r);
}

static struct rig *ending;
static char seen[64];

/* The reply must still be readable behind the stop or the free. */
static void on_reply_stop(void *arg, enum err err, const struct redis_reply *reply)
{
	bool freeing = *(bool *)arg;

	assert_int_equal(err, ERR_OK);
	if (freeing) {
		redis_free(ending->redis);
		ending->redis = NULL;
	} else {
		redis_stop(ending->redis);
	}
	snprintf(seen, sizeof(seen), "%.*s", (int)reply->str.len, reply->str.ptr);
}

static void test_end_in_completion(void **state)
{
	static const struct str echo[] = {{"ECHO", 4}, {"still here", 10}};
	struct redis_options o = rig_options();

	(void)state;
	NEED_SERVER();
	for (int freeing = 0; freeing < 2; freeing++) {
		struct answer after = {0};
		bool arg = freeing;
		struct rig r;

		rig_init(&r, &o);
		ending = &r;
		seen[0] = '\0';
		assert_int_equal(redis_submit(r.redis, echo, 2, 0, on_reply_stop, &arg), ERR_OK);
		assert_int_equal(submit(&r, "PING", 0, &after), ERR_OK);
		assert_true(await(&r, &after, 1, LONG_MSEC));
		assert_int_equal(after.err, ERR_CANCELLED);
		assert_string_equal(seen, "still here");
		rig_done(&r);
	}
}

static void on_reply_submit(void *arg, enum err err, const struct redis_reply *reply)
{
	struct answer *a = arg;
	struct str ping = STR("PING");

	(void)reply;
	assert_int_equal(err, ERR_OK);
	assert_int_equal(redis_submit(a->rig->redis, &ping, 1, 0, on_answer, a), ERR_OK);
	assert_int_equal(a->fired, 0);
}

static void test_submit_in_completion(void **state)
{
	static const struct str ping[] = {{"PING", 4}};
	struct redis_options o = rig_options();
	struct answer a;
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	a = (struct answer){.rig = &r};
	assert_int_equal(redis_submit(r.redis, ping, 1, 0, on_reply_submit, &a), ERR_OK);
	assert_true(await(&r, &a, 1, LONG_MSEC));
	assert_string_equal(a.text, "PONG");
	rig_done(&r);
}

/* ---- each allocation fails in turn ---- */

static void scenario_no_server(void)
{
	struct redis_options o = {
	    .name = "test", .addr = "unix:/nowhere/at/all", .username = "u", .password = "p"};
	struct loop *l;
	struct resolver *res = NULL;
	struct redis *r = NULL;

	if (loop_new(&l) != ERR_OK)
		return;
	if (resolver_new(l, &res) == ERR_OK && redis_new(l, res, &o, NULL, NULL, &r) == ERR_OK) {
		redis_start(r);
		loop_stop(l);
		(void)!loop_run(l);
		redis_stop(r);
	}
	redis_free(r);
	resolver_free(res);
	loop_free(l);
}

static void on_nothing(void *arg, enum err err, const struct redis_reply *reply)
{
	(void)err;
	(void)reply;
	if (arg)
		loop_stop(arg);
}

static void on_scenario_up(void *arg, bool up)
{
	struct redis **r = arg;
	struct str echo[] = {STR("ECHO"), STR("x")};
	struct redis_command cmds[] = {{echo, 2}, {echo, 2}};

	if (!up)
		return;
	(void)!redis_submit(*r, echo, 2, 0, on_nothing, NULL);
	(void)!redis_submit_multi(*r, cmds, 2, 0, on_nothing, NULL);
}

static void on_scenario_over(void *arg)
{
	loop_stop(arg);
}

static void scenario_commands(void)
{
	struct redis_options o = rig_options();
	struct loop *l;
	struct resolver *res = NULL;
	struct redis *r = NULL;
	struct loop_timer over = {0};

	if (!server.pid)
		return;
	if (loop_new(&l) != ERR_OK)
		return;
	if (loop_timer_init(&over, l, on_scenario_over, l) == ERR_OK &&
	    resolver_new(l, &res) == ERR_OK &&
	    redis_new(l, res, &o, on_scenario_up, &r, &r) == ERR_OK) {
		redis_start(r);
		loop_timer_set(&over, 15 * MSEC);
		(void)!loop_run(l);
	}
	redis_free(r);
	resolver_free(res);
	loop_timer_done(&over);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_replies),
	    cmocka_unit_test(test_binary),
	    cmocka_unit_test(test_errors),
	    cmocka_unit_test(test_multi),
	    cmocka_unit_test(test_pipelined),
	    cmocka_unit_test(test_gather),
	    cmocka_unit_test(test_gather_lost),
	    cmocka_unit_test(test_big),
	    cmocka_unit_test(test_bounds),
	    cmocka_unit_test(test_not_connected),
	    cmocka_unit_test(test_addresses),
	    cmocka_unit_test(test_stop),
	    cmocka_unit_test(test_free_pending),
	    cmocka_unit_test(test_end_in_completion),
	    cmocka_unit_test(test_submit_in_completion),
	};
	const struct torture torture[] = {TORTURE(scenario_no_server), TORTURE(scenario_commands)};

	return TESTS_OR_TORTURE_BETWEEN(tests, torture, start_server, stop_server);
}
