/* The Redis connection where a user stands in its own way: stops and frees from callbacks, no
 * memory, transactions that are refused, replies past the bound, servers that answer but do not
 * work. */
#include "redis_rig.h"

/* ---- memory ---- */

/* Without memory for the parser it waits a while: the same address at once would be a spin. */
static void test_no_memory(void **state)
{
	struct redis_options o = rig_options();
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_open(&r);
	assert_int_equal(redis_new(r.loop, r.resolver, &o, on_redis_state, &r, &r.redis), ERR_OK);
	mem_fail_nth(1);
	redis_start(r.redis);
	mem_fail_nth(0);
	assert_string_equal(redis_last_error(r.redis), err_meaning(ERR_NOMEM));
	assert_false(turn_until(&r, is_up, 35)); /* the first pause takes 50 to 100 ms */
	assert_true(turn_until(&r, is_up, LONG_MSEC));
	rig_done(&r);
}

static void test_stop_without_memory(void **state)
{
	struct redis_options o = rig_options();
	struct answer a;
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	assert_int_equal(submit(&r, "PING", 0, &a), ERR_OK);
	mem_fail_nth(1);
	redis_stop(r.redis);
	assert_int_equal(mem_fail_count(), 0);
	mem_fail_nth(0);
	assert_int_equal(a.fired, 0);
	assert_true(await(&r, &a, 1, LONG_MSEC));
	assert_int_equal(a.err, ERR_CANCELLED);
	turn_until(&r, never, 20);
	assert_int_equal(a.fired, 1);
	rig_done(&r);
}

/* Stopped, started and stopped again in one turn: told once. */
static void test_stop_twice(void **state)
{
	struct redis_options o = rig_options();
	struct answer a;
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	assert_int_equal(submit(&r, "PING", 0, &a), ERR_OK);
	redis_stop(r.redis);
	redis_start(r.redis);
	redis_stop(r.redis);
	redis_start(r.redis);
	assert_true(turn_until(&r, is_up, LONG_MSEC));
	assert_int_equal(a.fired, 1);
	assert_int_equal(a.err, ERR_CANCELLED);
	assert_int_equal(ask(&r, "PING").err, ERR_OK);
	rig_done(&r);
}

static void test_strings_are_copied(void **state)
{
	char name[] = "borrowed", addr[128];
	struct redis_options o = {.name = name, .addr = addr};
	struct rig r;

	(void)state;
	NEED_SERVER();
	snprintf(addr, sizeof(addr), "%s", server.addr);
	rig_open(&r);
	assert_int_equal(redis_new(r.loop, r.resolver, &o, on_redis_state, &r, &r.redis), ERR_OK);
	memset(name, '-', sizeof(name) - 1);
	memset(addr, '-', sizeof(addr) - 1);
	redis_start(r.redis);
	assert_true(turn_until(&r, is_up, LONG_MSEC));
	assert_string_equal(ask(&r, "CLIENT GETNAME").text, "borrowed");
	rig_done(&r);
}

/* ---- ends from within ---- */

enum ending { STOP_WHEN_UP, FREE_WHEN_UP, STOP_WHEN_DOWN, FREE_WHEN_DOWN, ENDINGS };

struct end_rig {
	struct rig r;
	enum ending ending;
	bool ended;
};

static void on_end_state(void *arg, bool up)
{
	struct end_rig *e = arg;
	bool when_up = e->ending == STOP_WHEN_UP || e->ending == FREE_WHEN_UP;

	if (up != when_up)
		return;
	assert_false(e->ended);
	e->ended = true;
	if (e->ending == STOP_WHEN_UP || e->ending == STOP_WHEN_DOWN) {
		redis_stop(e->r.redis);
		return;
	}
	redis_free(e->r.redis);
	e->r.redis = NULL;
}

static bool has_ended(struct rig *r)
{
	return ((struct end_rig *)r)->ended;
}

static void end_in_state(enum ending ending)
{
	struct redis_options o = rig_options();
	struct end_rig e = {.ending = ending};
	struct answer a = {.fired = 1};
	char text[64];

	rig_open(&e.r);
	assert_int_equal(redis_new(e.r.loop, e.r.resolver, &o, on_end_state, &e, &e.r.redis),
	                 ERR_OK);
	redis_start(e.r.redis);
	if (ending == STOP_WHEN_DOWN || ending == FREE_WHEN_DOWN) {
		assert_true(turn_until(&e.r, is_up, LONG_MSEC));
		assert_int_equal(submit(&e.r, "BLPOP nolist 0", 0, &a), ERR_OK);
		turn_until(&e.r, never, 20);
		assert_true(
		    redis_server_say(&server, "CLIENT KILL TYPE normal\r\n", text, sizeof(text)));
	}
	assert_true(turn_until(&e.r, has_ended, 5000));
	turn_until(&e.r, never, 200); /* nothing comes after it */
	assert_int_equal(a.fired, 1);
	if (e.r.redis)
		assert_false(redis_up(e.r.redis));
	rig_done(&e.r);
}

static void test_end_in_state(void **state)
{
	(void)state;
	NEED_SERVER();
	for (enum ending e = 0; e < ENDINGS; e++)
		end_in_state(e);
}

/* The first of many that a lost connection fails frees it: the others are told, once each. */
static struct rig *freeing;

static void on_lost_free(void *arg, enum err err, const struct redis_reply *reply)
{
	on_answer(arg, err, reply);
	redis_free(freeing->redis);
	freeing->redis = NULL;
}

static void test_free_while_failing(void **state)
{
	static const struct str block[] = {{"BLPOP", 5}, {"nolist", 6}, {"0", 1}};
	struct redis_options o = rig_options();
	struct answer a[3] = {{0}};
	char text[64];
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	freeing = &r;
	assert_int_equal(redis_submit(r.redis, block, 3, 0, on_lost_free, &a[0]), ERR_OK);
	assert_int_equal(redis_submit(r.redis, block, 3, 0, on_answer, &a[1]), ERR_OK);
	assert_int_equal(redis_submit(r.redis, block, 3, 0, on_answer, &a[2]), ERR_OK);
	turn_until(&r, never, 20);
	assert_true(redis_server_say(&server, "CLIENT KILL TYPE normal\r\n", text, sizeof(text)));
	assert_true(await(&r, a, 3, LONG_MSEC));
	turn_until(&r, never, 50);
	for (int i = 0; i < 3; i++)
		assert_int_equal(a[i].fired, 1);
	assert_null(r.redis);
	rig_done(&r);
}

/* ---- transactions ---- */

/* Its parts would run singly: neither all nor none. */
static void test_multi_refused(void **state)
{
	struct redis_options o = rig_options();
	struct str incr[] = {STR("INCR"), STR("part")};
	struct redis_command cmds[] = {{incr, 2}, {incr, 2}};
	struct answer a[2] = {{0}};
	char text[64];
	struct rig r;

	(void)state;
	NEED_SERVER();
	assert_true(redis_server_say(&server, "ACL SETUSER single on >pw ~* +@all -multi\r\n", text,
	                             sizeof(text)));
	o.username = "single";
	o.password = "pw";
	rig_init(&r, &o);
	assert_int_equal(redis_submit_multi(r.redis, cmds, 2, 0, on_answer, &a[0]), ERR_OK);
	assert_int_equal(submit(&r, "PING", 0, &a[1]), ERR_OK);
	assert_true(await(&r, a, 2, LONG_MSEC));
	assert_int_equal(a[0].err, ERR_CLOSED);
	assert_false(a[0].had_reply);
	assert_int_equal(a[1].err, ERR_CLOSED);
	assert_int_equal(r.downs, 1);
	assert_non_null(strstr(redis_last_error(r.redis), "NOPERM"));
	assert_true(turn_until(&r, is_up, LONG_MSEC));
	assert_int_equal(ask(&r, "PING").err, ERR_OK);
	assert_int_equal(a[0].fired, 1);
	rig_done(&r);
}

/* ---- a reply past the bound ---- */

static void test_max_reply(void **state)
{
	struct redis_options o = rig_options();
	struct answer a;
	struct rig r;

	(void)state;
	NEED_SERVER();
	o.max_reply = 1 << 20;
	rig_init(&r, &o);
	assert_int_equal(ask(&r, "SETRANGE wide 900000 x").err, ERR_OK);
	assert_int_equal(ask(&r, "GET wide").len, 900001);
	assert_int_equal(ask(&r, "SETRANGE wide 1100000 x").err, ERR_OK);
	assert_int_equal(submit(&r, "GET wide", 0, &a), ERR_OK);
	assert_true(await(&r, &a, 1, LONG_MSEC));
	assert_int_equal(a.err, ERR_CLOSED);
	assert_non_null(strstr(redis_last_error(r.redis), "too large"));
	assert_true(turn_until(&r, is_up, LONG_MSEC));
	rig_done(&r);
}

/* ---- servers that answer but do not work ---- */

struct actor {
	pid_t pid;
	char addr[48];
};

/* Plays the lines in order, one for each read, to the one who connects; NULL ends the part, and the
 * next who connects hears it from the start. */
static void actor_play(int fd, const char *const *lines)
{
	char in[4096];

	for (;;) {
		int c = accept(fd, NULL, NULL);

		for (size_t i = 0; lines[i] && read(c, in, sizeof(in)) > 0; i++)
			(void)!write(c, lines[i], strlen(lines[i]));
		while (read(c, in, sizeof(in)) > 0)
			;
		close(c);
	}
}

static void actor_start(struct actor *a, const char *const *lines)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	socklen_t size = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &size), 0);
	snprintf(a->addr, sizeof(a->addr), "127.0.0.1:%d", ntohs(sin.sin_port));
	a->pid = fork();
	if (a->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGPIPE, SIG_IGN);
		actor_play(fd, lines);
	}
	close(fd);
}

static void actor_stop(struct actor *a)
{
	kill(a->pid, SIGKILL);
	waitpid(a->pid, NULL, 0);
}

#define GREETED "+OK\r\n*1\r\n$6\r\nmaster\r\n+PONG\r\n"

static void test_not_working(void **state)
{
	static const struct {
		const char *line;
		enum err err;
		enum fate fate;
		enum redis_trouble trouble;
		int downs; /* of no use any more: connected anew */
	} cases[] = {
	    {"-OOM command not allowed when used memory > 'maxmemory'.\r\n", ERR_FULL, FATE_RETRY,
	     REDIS_TROUBLE_OOM, 0},
	    {"-LOADING Redis is loading the dataset in memory\r\n", ERR_UNAVAILABLE, FATE_RETRY,
	     REDIS_TROUBLE_LOADING, 1},
	    {"-BUSY Redis is busy running a script\r\n", ERR_UNAVAILABLE, FATE_RETRY,
	     REDIS_TROUBLE_BUSY, 0},
	    {"-MISCONF Redis is configured to save RDB snapshots\r\n", ERR_UNAVAILABLE, FATE_RETRY,
	     REDIS_TROUBLE_MISCONF, 0},
	    {"-READONLY You can't write against a read only replica.\r\n", ERR_UNAVAILABLE,
	     FATE_RETRY, REDIS_TROUBLE_READONLY, 1},
	    {"-MASTERDOWN Link with MASTER is down\r\n", ERR_UNAVAILABLE, FATE_RETRY,
	     REDIS_TROUBLE_MASTERDOWN, 1},
	    {"-CLUSTERDOWN The cluster is down\r\n", ERR_UNAVAILABLE, FATE_RETRY,
	     REDIS_TROUBLE_CLUSTERDOWN, 0},
	    {"-UNBLOCKED the stream key no longer exists\r\n", ERR_UNAVAILABLE, FATE_RETRY,
	     REDIS_TROUBLE_UNBLOCKED, 0},
	    {"-NOAUTH Authentication required.\r\n", ERR_DENIED, FATE_STOP, REDIS_TROUBLE_NOAUTH,
	     1},
	    {"-NOPERM this user has no permissions\r\n", ERR_DENIED, FATE_STOP,
	     REDIS_TROUBLE_NOPERM, 0},
	    {"-NOGROUP No such key 's' or consumer group 'g'\r\n", ERR_NOTABLE, FATE_RETRY,
	     REDIS_TROUBLE_NOGROUP, 0},
	    {"-BUSYGROUP Consumer Group name already exists\r\n", ERR_CONFLICT, FATE_DROP,
	     REDIS_TROUBLE_NONE, 0},
	    {"-LOADINGS of something else\r\n", ERR_INVAL, FATE_DEAD, REDIS_TROUBLE_OTHER, 0},
	    {"-\r\n", ERR_INVAL, FATE_DEAD, REDIS_TROUBLE_OTHER, 0},
	};
	struct redis_options o = {.name = "test"};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *const lines[] = {GREETED, cases[i].line, NULL};
		struct actor actor;
		struct answer a;
		struct rig r;

		actor_start(&actor, lines);
		o.addr = actor.addr;
		rig_init(&r, &o);
		a = ask(&r, "XADD s * a b");
		if (a.err != cases[i].err || err_fate(a.err) != cases[i].fate)
			fail_msg("%s: %s", cases[i].line, err_name(a.err));
		assert_int_equal(redis_troubles(r.redis, cases[i].trouble),
		                 cases[i].trouble != REDIS_TROUBLE_NONE);
		turn_until(&r, never, 5);
		assert_int_equal(r.downs, cases[i].downs);
		rig_done(&r);
		actor_stop(&actor);
	}
}

/* Nobody may take a replica for the primary, nor a full server for one that takes. */
static void test_no_primary(void **state)
{
	static const struct {
		const char *greeting, *reason;
		enum redis_trouble trouble;
		enum err result;
	} cases[] = {
	    {"+OK\r\n*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:1\r\n+PONG\r\n",
	     "replica", REDIS_TROUBLE_READONLY, ERR_UNAVAILABLE},
	    {"-ERR max number of clients reached\r\n", "max number", REDIS_TROUBLE_MAXCLIENTS,
	     ERR_UNAVAILABLE},
	    {"+OK\r\n*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n-LOADING Redis is loading the dataset\r\n",
	     "LOADING", REDIS_TROUBLE_LOADING, ERR_UNAVAILABLE},
	    {"+OK\r\n+OK\r\n-ERR what nobody knows\r\n", "nobody knows", REDIS_TROUBLE_OTHER,
	     ERR_UNAVAILABLE},
	    {"-NOAUTH Authentication required.\r\n", "NOAUTH", REDIS_TROUBLE_NOAUTH, ERR_DENIED},
	};
	struct redis_options o = {.name = "test"};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *const lines[] = {cases[i].greeting, NULL};
		struct actor actor;
		struct rig r;

		actor_start(&actor, lines);
		o.addr = actor.addr;
		rig_open(&r);
		rig_connect(&r, &o);
		assert_int_equal(redis_connect_result(r.redis), ERR_AGAIN);
		assert_true(turn_until(&r, failed_to_connect, 5000));
		assert_non_null(strstr(redis_last_error(r.redis), cases[i].reason));
		assert_true(redis_troubles(r.redis, cases[i].trouble) > 0);
		turn_until(&r, never, 50);
		assert_int_equal(redis_connect_result(r.redis), cases[i].result);
		assert_int_equal(r.ups, 0);
		rig_done(&r);
		actor_stop(&actor);
	}
}

/* A user who may not ask for the role, nor say PING, is taken all the same. */
static void test_barred(void **state)
{
	static const char *const lines[] = {
	    "-NOPERM no SETNAME\r\n-NOPERM no ROLE\r\n-NOPERM no PING\r\n", NULL};
	struct redis_options o = {.name = "test"};
	struct actor actor;
	struct rig r;

	(void)state;
	actor_start(&actor, lines);
	o.addr = actor.addr;
	rig_init(&r, &o);
	assert_int_equal(redis_troubles(r.redis, REDIS_TROUBLE_NOPERM), 0);
	rig_done(&r);
	actor_stop(&actor);
}

/* A server that loads its data takes AUTH and SELECT, but is not up. */
static void test_loading(void **state)
{
	static const char *const lines[] = {
	    "+OK\r\n*1\r\n$6\r\nmaster\r\n-LOADING Redis is loading\r\n", NULL};
	struct redis_options o = {.name = "test"};
	struct actor actor;
	struct rig r;

	(void)state;
	actor_start(&actor, lines);
	o.addr = actor.addr;
	rig_open(&r);
	rig_connect(&r, &o);
	assert_true(turn_until(&r, failed_to_connect, 5000));
	assert_non_null(strstr(redis_last_error(r.redis), "LOADING"));
	turn_until(&r, never, 200);
	assert_int_equal(r.ups, 0);
	rig_done(&r);
	actor_stop(&actor);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_no_memory),     cmocka_unit_test(test_stop_without_memory),
	    cmocka_unit_test(test_stop_twice),    cmocka_unit_test(test_strings_are_copied),
	    cmocka_unit_test(test_end_in_state),  cmocka_unit_test(test_free_while_failing),
	    cmocka_unit_test(test_multi_refused), cmocka_unit_test(test_max_reply),
	    cmocka_unit_test(test_not_working),   cmocka_unit_test(test_loading),
	    cmocka_unit_test(test_no_primary),    cmocka_unit_test(test_barred),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}
