/* The Redis connection when things go wrong: deadlines, lost, frozen, restarted, replicated and
 * locked servers, a server that talks nonsense, and TLS. */
#include "redis_rig.h"

/* ---- deadlines ---- */

static void test_timeout(void **state)
{
	struct redis_options o = rig_options();
	struct answer a[3];
	usec_t begun;
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	assert_int_equal(submit(&r, "DEBUG SLEEP 2", 5 * USEC_PER_SEC, &a[0]), ERR_OK);
	assert_int_equal(submit(&r, "PING", 200 * MSEC, &a[1]), ERR_OK);
	assert_int_equal(submit(&r, "PING", 0, &a[2]), ERR_OK);
	begun = clock_mono();
	assert_true(await(&r, a, 3, LONG_MSEC));
	assert_in_range(clock_mono() - begun, 190 * MSEC, 1800 * MSEC);
	/* Only the one whose deadline passed; of the others nobody knows. */
	assert_int_equal(a[0].err, ERR_CLOSED);
	assert_int_equal(a[1].err, ERR_TIMEOUT);
	assert_int_equal(a[2].err, ERR_CLOSED);
	assert_false(a[1].had_reply);
	assert_int_equal(r.downs, 1);
	assert_true(turn_until(&r, is_up, LONG_MSEC));
	assert_int_equal(ask(&r, "PING").err, ERR_OK);
	assert_int_equal(redis_reconnects(r.redis), 1);
	rig_done(&r);
}

static void test_frozen(void **state)
{
	struct redis_options o = rig_options();
	struct answer a;
	usec_t begun;
	struct rig r;

	(void)state;
	NEED_SERVER();
	o.command_timeout = 200 * MSEC;
	o.connect_timeout = 200 * MSEC;
	rig_init(&r, &o);
	redis_server_signal(&server, SIGSTOP);
	begun = clock_mono();
	assert_int_equal(submit(&r, "PING", 0, &a), ERR_OK);
	assert_true(await(&r, &a, 1, LONG_MSEC));
	assert_int_equal(a.err, ERR_TIMEOUT);
	assert_true(clock_mono() - begun < 4000 * MSEC); /* without the options five seconds */
	/* The kernel takes the connection, nobody answers the greeting. */
	assert_false(turn_until(&r, is_up, 1000));
	assert_non_null(strstr(redis_last_error(r.redis), "in time"));
	redis_server_signal(&server, SIGCONT);
	assert_true(turn_until(&r, is_up, LONG_MSEC));
	rig_done(&r);
}

static void nap_once(void *arg)
{
	bool *napped = arg;

	if (!*napped)
		private_server_nap(300);
	*napped = true;
}

/* Our own stall is not the server's: answers that lie in the socket come before the deadline. */
static void test_stalled_self(void **state)
{
	struct redis_options o = rig_options();
	struct answer a[2];
	struct loop_hook hook;
	bool napped = false;
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	assert_int_equal(submit(&r, "PING", 100 * MSEC, &a[0]), ERR_OK);
	assert_int_equal(submit(&r, "ECHO x", 100 * MSEC, &a[1]), ERR_OK);
	loop_hook_add(r.loop, &hook, nap_once, &napped); /* behind the hook that writes */
	assert_true(await(&r, a, 2, LONG_MSEC));
	assert_true(napped);
	assert_int_equal(a[0].err, ERR_OK);
	assert_int_equal(a[1].err, ERR_OK);
	loop_hook_remove(r.loop, &hook);
	rig_done(&r);
}

/* ---- the server goes ---- */

static void test_restart(void **state)
{
	static const int signals[] = {SIGTERM, SIGKILL};
	struct redis_options o = rig_options();
	struct answer a[2];
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(submit(&r, "BLPOP nolist 0", 0, &a[0]), ERR_OK);
		assert_int_equal(submit(&r, "PING", 0, &a[1]), ERR_OK);
		turn_until(&r, never, 20);
		redis_server_down(&server, signals[i]);
		assert_true(await(&r, a, 2, LONG_MSEC));
		assert_int_equal(a[0].err, ERR_CLOSED);
		assert_int_equal(a[1].err, ERR_CLOSED);
		assert_int_equal(submit(&r, "PING", 0, &a[0]), ERR_UNAVAILABLE);
		assert_int_equal(r.downs, i + 1);
		turn_until(&r, never, 300);
		assert_true(redis_server_up(&server, NULL));
		assert_true(turn_until(&r, is_up, LONG_MSEC));
		assert_int_equal(ask(&r, "PING").err, ERR_OK);
	}
	assert_int_equal(r.ups, 3);
	assert_int_equal(redis_reconnects(r.redis), 2);
	rig_done(&r);
}

/* A fail-over: the connection is given up, whatever else it has, and made anew; not in a spin. */
static void test_readonly(void **state)
{
	struct redis_options o = rig_options();
	struct answer a[2];
	usec_t begun;
	char text[64];
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	assert_true(redis_server_say(&server, "REPLICAOF 127.0.0.1 1\r\n", text, sizeof(text)));
	assert_int_equal(submit(&r, "SET a b", 0, &a[0]), ERR_OK);
	assert_int_equal(submit(&r, "PING", 0, &a[1]), ERR_OK);
	assert_true(await(&r, a, 2, LONG_MSEC));
	assert_int_equal(a[0].err, ERR_UNAVAILABLE);
	assert_non_null(strstr(a[0].text, "READONLY"));
	assert_int_equal(a[1].err, ERR_CLOSED);
	assert_non_null(strstr(redis_last_error(r.redis), "READONLY"));
	assert_int_equal(r.downs, 1);
	/* It is asked for its role, and not up as long as it is a replica. */
	begun = clock_mono();
	while (clock_mono() - begun < 1500 * MSEC)
		assert_false(turn_until(&r, is_up, 300));
	/* 50 to 100 ms, 100 to 200, 200 to 400, … */
	assert_in_range(redis_troubles(r.redis, REDIS_TROUBLE_READONLY), 3, 8);
	assert_int_equal(r.downs, 1);
	assert_true(redis_server_say(&server, "REPLICAOF NO ONE\r\n", text, sizeof(text)));
	assert_true(turn_until(&r, is_up, LONG_MSEC));
	assert_int_equal(ask(&r, "SET a b").err, ERR_OK);
	rig_done(&r);
}

/* The same without any work that would meet it. */
static void test_became_replica(void **state)
{
	struct redis_options o = rig_options();
	char text[64];
	struct rig r;

	(void)state;
	NEED_SERVER();
	rig_init(&r, &o);
	turn_until(&r, never, 1500);
	assert_int_equal(r.downs, 0);
	assert_true(redis_server_say(&server, "REPLICAOF 127.0.0.1 1\r\n", text, sizeof(text)));
	assert_true(turn_until(&r, is_down, 3000));
	assert_true(redis_troubles(r.redis, REDIS_TROUBLE_READONLY) > 0);
	assert_true(redis_server_say(&server, "REPLICAOF NO ONE\r\n", text, sizeof(text)));
	assert_true(turn_until(&r, is_up, LONG_MSEC));
	rig_done(&r);
}

static void test_auth(void **state)
{
	struct redis_options o = rig_options();
	char text[64];
	struct rig r;

	(void)state;
	NEED_SERVER();
	assert_true(redis_server_say(&server,
	                             "ACL SETUSER weir on >right ~* +@all -client -ping\r\n"
	                             "CONFIG SET requirepass topsecret\r\n",
	                             text, sizeof(text)));
	rig_open(&r);
	rig_connect(&r, &o);
	assert_true(turn_until(&r, failed_to_connect, 5000));
	assert_non_null(strstr(redis_last_error(r.redis), "NOAUTH"));
	rig_done(&r);

	o.password = "wrong";
	rig_open(&r);
	rig_connect(&r, &o);
	assert_true(turn_until(&r, failed_to_connect, 5000));
	assert_non_null(strstr(redis_last_error(r.redis), "WRONGPASS"));
	assert_false(turn_until(&r, is_up, 300));
	assert_int_equal(r.ups, 0);
	rig_done(&r);

	o.password = "topsecret";
	o.db = 3;
	rig_init(&r, &o);
	ask(&r, "SET here three");
	rig_done(&r);

	/* A user that may neither name itself nor ping can work all the same. */
	o.username = "weir";
	o.password = "right";
	rig_init(&r, &o);
	assert_string_equal(ask(&r, "GET here").text, "three");
	ask(&r, "CONFIG SET requirepass \"\"");
	ask(&r, "FLUSHALL");
	rig_done(&r);
	redis_server_down(&server, SIGTERM);
	assert_true(redis_server_up(&server, NULL));
}

/* ---- a server that is none ---- */

struct impostor {
	pid_t pid;
	char addr[48];
};

/* Answers whatever it is sent with the same bytes. */
static void impostor_start(struct impostor *im, const char *bytes, size_t len)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	socklen_t size = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &size), 0);
	snprintf(im->addr, sizeof(im->addr), "127.0.0.1:%d", ntohs(sin.sin_port));
	im->pid = fork();
	if (im->pid == 0) {
		char in[4096];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGPIPE, SIG_IGN);
		for (;;) {
			int c = accept(fd, NULL, NULL);

			if (read(c, in, sizeof(in)) > 0)
				(void)!write(c, bytes, len);
			while (read(c, in, sizeof(in)) > 0)
				(void)!write(c, bytes, len);
			close(c);
		}
	}
	close(fd);
}

static void impostor_stop(struct impostor *im)
{
	kill(im->pid, SIGKILL);
	waitpid(im->pid, NULL, 0);
}

static void test_nonsense(void **state)
{
	static const char *const bytes[] = {
	    "HTTP/1.1 400 Bad Request\r\n\r\n", "$-7\r\n", "*3000000000\r\n", "*2000000000\r\n",
	    "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"};
	struct redis_options o = {.name = "test"};
	struct impostor im;
	struct rig r;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes) / sizeof(*bytes); i++) {
		impostor_start(&im, bytes[i], strlen(bytes[i]));
		o.addr = im.addr;
		rig_open(&r);
		rig_connect(&r, &o);
		if (!turn_until(&r, failed_to_connect, 5000))
			fail_msg("taken: %s", bytes[i]);
		assert_int_equal(r.ups, 0);
		rig_done(&r);
		impostor_stop(&im);
	}
}

static void test_unasked_reply(void **state)
{
	/* Three answers to the greeting, and one too many. */
	static const char bytes[] = "+OK\r\n*1\r\n$6\r\nmaster\r\n+PONG\r\n+OK\r\n";
	struct redis_options o = {.name = "test"};
	struct impostor im;
	struct rig r;

	(void)state;
	impostor_start(&im, bytes, sizeof(bytes) - 1);
	o.addr = im.addr;
	rig_open(&r);
	rig_connect(&r, &o);
	assert_true(turn_until(&r, failed_to_connect, 5000));
	assert_int_equal(r.ups, 1);
	assert_int_equal(r.downs, 1);
	rig_done(&r);
	impostor_stop(&im);
}

/* ---- names, TLS ---- */

static const char *const make_certificates[] = {
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca "
    "-keyout ca.key -out ca.crt",
    "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=redis "
    "-keyout s.key -out s.csr",
    "printf 'subjectAltName=DNS:localhost,IP:127.0.0.1' > san",
    "printf 'subjectAltName=DNS:elsewhere.example,IP:127.0.0.9' > bad",
    "openssl x509 -req -in s.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san "
    "-out s.crt",
    "openssl x509 -req -in s.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile bad "
    "-out bad.crt",
};

static bool run_in(const char *dir, const char *command)
{
	pid_t pid = fork();
	int status = 1;

	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);

		if (chdir(dir) != 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
			_exit(126);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	return waitpid(pid, &status, 0) == pid && status == 0;
}

struct tls_server {
	struct redis_server s;
	char port[8], ca[96];
	char by_name[32], by_addr[32];
};

static bool tls_server_start(struct tls_server *t, const char *cert)
{
	char crt[96], key[96];
	const char *extra[] = {"--tls-port",
	                       t->port,
	                       "--tls-cert-file",
	                       crt,
	                       "--tls-key-file",
	                       key,
	                       "--tls-ca-cert-file",
	                       t->ca,
	                       "--tls-auth-clients",
	                       "no",
	                       NULL};

	memset(t, 0, sizeof(*t));
	snprintf(t->s.dir, sizeof(t->s.dir), "/tmp/weir-redis-XXXXXX");
	if (!mkdtemp(t->s.dir))
		return false;
	for (size_t i = 0; i < sizeof(make_certificates) / sizeof(*make_certificates); i++)
		if (!run_in(t->s.dir, make_certificates[i]))
			return false;
	snprintf(t->s.sock, sizeof(t->s.sock), "%s/sock", t->s.dir);
	snprintf(t->port, sizeof(t->port), "%d", redis_server_free_port());
	snprintf(t->ca, sizeof(t->ca), "%s/ca.crt", t->s.dir);
	snprintf(crt, sizeof(crt), "%s/%s", t->s.dir, cert);
	snprintf(key, sizeof(key), "%s/s.key", t->s.dir);
	snprintf(t->by_name, sizeof(t->by_name), "localhost:%s", t->port);
	snprintf(t->by_addr, sizeof(t->by_addr), "127.0.0.1:%s", t->port);
	return redis_server_up(&t->s, extra);
}

static void exchange_much(struct rig *r)
{
	enum { LEN = 3 << 20 };
	struct str set[] = {STR("SET"), STR("much"), STR_NONE};
	char *bytes = mem_zalloc(LEN);
	struct answer a = {0};

	assert_non_null(bytes);
	set[2] = str_n(bytes, LEN);
	assert_int_equal(redis_submit(r->redis, set, 3, 0, on_answer, &a), ERR_OK);
	assert_true(await(r, &a, 1, LONG_MSEC));
	assert_int_equal(a.err, ERR_OK);
	mem_free(bytes);
	assert_int_equal(ask(r, "GET much").len, LEN);
	for (int i = 0; i < 200; i++)
		assert_int_equal(ask(r, "PING").err, ERR_OK);
}

static void test_tls(void **state)
{
	struct redis_options o = {.name = "test", .tls = true};
	struct tls_server t;
	struct rig r;

	(void)state;
	NEED_SERVER();
	if (!tls_server_start(&t, "s.crt")) {
		fprintf(stderr, "SKIPPED: no openssl, or a redis-server without TLS\n");
		redis_server_remove(&t.s);
		skip();
	}
	o.tls_ca_file = t.ca;
	o.addr = t.by_name;
	rig_init(&r, &o);
	exchange_much(&r);
	rig_done(&r);
	o.addr = t.by_addr;
	rig_init(&r, &o);
	redis_server_down(&t.s, SIGKILL);
	assert_true(turn_until(&r, is_down, 5000));
	rig_done(&r);
	redis_server_remove(&t.s);
}

static void refuse(struct redis_options o, const char *reason)
{
	struct rig r;

	rig_open(&r);
	rig_connect(&r, &o);
	assert_true(turn_until(&r, failed_to_connect, 5000));
	if (!strstr(redis_last_error(r.redis), reason))
		fail_msg("%s: %s", reason, redis_last_error(r.redis));
	assert_int_equal(r.ups, 0);
	rig_done(&r);
}

static void test_tls_refused(void **state)
{
	struct redis_options o = {.name = "test", .tls = true};
	struct tls_server t;

	(void)state;
	NEED_SERVER();
	if (!tls_server_start(&t, "bad.crt")) {
		redis_server_remove(&t.s);
		skip();
	}
	/* Another host's certificate; nobody that we trust; no TLS on our side. */
	o.tls_ca_file = t.ca;
	o.addr = t.by_name;
	refuse(o, "ostname mismatch");
	o.addr = t.by_addr;
	refuse(o, "IP address mismatch");
	o.tls_ca_file = "";
	refuse(o, "certificate");
	o.tls = false;
	refuse(o, "");
	redis_server_remove(&t.s);
}

/* By name, over TCP, with an address in front that nobody listens on. */
static void test_localhost(void **state)
{
	char port[8], addr[32], hosts[96];
	const char *extra[] = {"--port", port, "--bind", "127.0.0.1", NULL};
	struct redis_options o = {.name = "test", .addr = addr};
	struct redis_server s;
	FILE *f;
	struct rig r;

	(void)state;
	NEED_SERVER();
	snprintf(port, sizeof(port), "%d", redis_server_free_port());
	assert_true(redis_server_start(&s, extra));
	snprintf(addr, sizeof(addr), "localhost:%s", port);
	rig_init(&r, &o);
	assert_int_equal(ask(&r, "PING").err, ERR_OK);
	rig_done(&r);

	snprintf(hosts, sizeof(hosts), "%s/hosts", s.dir);
	f = fopen(hosts, "w");
	assert_non_null(f);
	fprintf(f, "127.0.0.77 queue.test\n::1 queue.test\n127.0.0.1 other queue.test\n");
	fclose(f);
	snprintf(addr, sizeof(addr), "queue.test:%s", port);
	rig_open(&r);
	resolver_set_files(r.resolver, hosts, "/dev/null");
	rig_connect(&r, &o);
	assert_true(turn_until(&r, is_up, LONG_MSEC));
	rig_done(&r);
	redis_server_remove(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_timeout),       cmocka_unit_test(test_frozen),
	    cmocka_unit_test(test_stalled_self),  cmocka_unit_test(test_restart),
	    cmocka_unit_test(test_readonly),      cmocka_unit_test(test_became_replica),
	    cmocka_unit_test(test_auth),          cmocka_unit_test(test_nonsense),
	    cmocka_unit_test(test_unasked_reply), cmocka_unit_test(test_tls),
	    cmocka_unit_test(test_tls_refused),   cmocka_unit_test(test_localhost),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}
