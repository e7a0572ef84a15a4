/* Names to addresses: literals, the hosts file, and a name server of the test's own. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#include "torture.h"
#include "weir/io/resolver.h"
#include "weir/run/loop.h"

#define MSEC USEC_PER_MSEC

static struct {
	char dir[64], hosts[96], conf[96];
	pid_t pid;
} dns;

/* ---- a name server: a.test has an address, v6.test one of each, silent.test is not answered,
 * broken.test is SERVFAIL, nothing else exists ---- */

static size_t add_answer(unsigned char *p, const void *addr, size_t len, unsigned char type)
{
	const unsigned char head[] = {0xc0, 12, 0, type, 0, 1, 0, 0, 0, 60, 0, (unsigned char)len};

	memcpy(p, head, sizeof(head));
	memcpy(p + sizeof(head), addr, len);
	return sizeof(head) + len;
}

static size_t answer_query(unsigned char *q, size_t n)
{
	static const unsigned char v4[] = {127, 0, 0, 5};
	static const unsigned char v6[16] = {0x20, 1, 0xd, 0xb8, [15] = 1};
	char name[256];
	size_t at = 12, len = 0, end;
	unsigned char type;

	while (at < n && q[at] && len + q[at] + 2 < sizeof(name)) {
		memcpy(name + len, q + at + 1, q[at]);
		len += q[at];
		name[len++] = '.';
		at += q[at] + 1u;
	}
	name[len ? len - 1 : 0] = '\0';
	type = q[at + 2];
	end = at + 5;
	if (strcmp(name, "silent.test") == 0 || (strcmp(name, "half.test") == 0 && type == 28))
		return 0;
	q[2] = 0x81;
	q[3] = 0x80;
	memset(q + 6, 0, 6);
	if (strcmp(name, "broken.test") == 0) {
		q[3] = 0x82;
	} else if (strcmp(name, "a.test") != 0 && strcmp(name, "v6.test") != 0 &&
	           strcmp(name, "half.test") != 0) {
		q[3] = 0x83;
	} else if (type == 1) {
		q[7] = 1;
		end += add_answer(q + end, v4, sizeof(v4), 1);
	} else if (type == 28 && strcmp(name, "v6.test") == 0) {
		q[7] = 1;
		end += add_answer(q + end, v6, sizeof(v6), 28);
	}
	return end;
}

static void serve_names(int fd)
{
	unsigned char q[1024];
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	ssize_t n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while ((n = recvfrom(fd, q, sizeof(q) - 64, 0, (struct sockaddr *)&from, &len)) > 12) {
		size_t out = answer_query(q, (size_t)n);

		if (out)
			sendto(fd, q, out, 0, (struct sockaddr *)&from, len);
		len = sizeof(from);
	}
	_exit(0);
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int group_set_up(void **state)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char text[128];

	(void)state;
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	dns.pid = fork();
	if (dns.pid == 0)
		serve_names(fd);
	close(fd);
	snprintf(dns.dir, sizeof(dns.dir), "/tmp/weir-dns-XXXXXX");
	assert_non_null(mkdtemp(dns.dir));
	snprintf(dns.hosts, sizeof(dns.hosts), "%s/hosts", dns.dir);
	snprintf(dns.conf, sizeof(dns.conf), "%s/resolv.conf", dns.dir);
	snprintf(text, sizeof(text), "nameserver 127.0.0.1:%d\noptions timeout:1 attempts:1\n",
	         ntohs(sin.sin_port));
	write_file(dns.conf, text);
	write_file(dns.hosts, "# comment\n"
	                      "127.0.0.2\tmine.test other # mine2.test\r\n"
	                      "::2 mine.test\n"
	                      "nonsense mine.test\n"
	                      "127.0.0.3 MINE.test"); /* no line end */
	return 0;
}

static int group_tear_down(void **state)
{
	(void)state;
	kill(dns.pid, SIGKILL);
	waitpid(dns.pid, NULL, 0);
	unlink(dns.hosts);
	unlink(dns.conf);
	rmdir(dns.dir);
	return 0;
}

/* ---- asking ---- */

struct asked {
	struct loop *loop;
	int fired;
	enum err err;
	size_t n;
	char text[512]; /* "addr:port " each */
};

static void on_resolved(void *arg, enum err err, const struct resolver_addr *addrs, size_t n)
{
	struct asked *a = arg;
	char addr[INET6_ADDRSTRLEN];
	size_t len = 0;

	a->fired++;
	a->err = err;
	a->n = n;
	for (size_t i = 0; i < n; i++) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)&addrs[i].sa;
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&addrs[i].sa;
		bool six = addrs[i].sa.ss_family == AF_INET6;

		inet_ntop(six ? AF_INET6 : AF_INET,
		          six ? (const void *)&v6->sin6_addr : &v4->sin_addr, addr, sizeof(addr));
		len += (size_t)snprintf(a->text + len, sizeof(a->text) - len, "%s:%d ", addr,
		                        ntohs(six ? v6->sin6_port : v4->sin_port));
	}
	loop_stop(a->loop);
}

struct rig {
	struct loop *loop;
	struct resolver *resolver;
	struct loop_timer give_up;
};

static void on_give_up(void *arg)
{
	loop_stop(arg);
}

static void rig_init(struct rig *r)
{
	assert_int_equal(loop_new(&r->loop), ERR_OK);
	assert_int_equal(loop_timer_init(&r->give_up, r->loop, on_give_up, r->loop), ERR_OK);
	assert_int_equal(resolver_new(r->loop, &r->resolver), ERR_OK);
	resolver_set_files(r->resolver, dns.hosts, dns.conf);
}

static void rig_done(struct rig *r)
{
	resolver_free(r->resolver);
	loop_timer_done(&r->give_up);
	loop_free(r->loop);
}

static void turn(struct rig *r, int msec)
{
	loop_timer_set(&r->give_up, msec * MSEC);
	assert_int_equal(loop_run(r->loop), ERR_OK);
	loop_timer_stop(&r->give_up);
}

static struct asked ask(struct rig *r, const char *host)
{
	struct asked a = {.loop = r->loop};
	struct resolver_query *q;

	assert_int_equal(resolver_submit(r->resolver, host, 6379, on_resolved, &a, &q), ERR_OK);
	assert_int_equal(a.fired, 0);
	turn(r, 12000);
	assert_int_equal(a.fired, 1);
	return a;
}

static void expect(struct rig *r, const char *host, enum err err, const char *text)
{
	struct asked a = ask(r, host);

	if (a.err != err || strcmp(a.text, text) != 0 || (err != ERR_OK && a.n != 0))
		fail_msg("%s: %s, \"%s\"", host, err_name(a.err), a.text);
}

static void test_literals(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	resolver_set_files(r.resolver, "/nowhere", "/nowhere");
	expect(&r, "127.0.0.1", ERR_OK, "127.0.0.1:6379 ");
	expect(&r, "::1", ERR_OK, "::1:6379 ");
	expect(&r, "2001:db8::17", ERR_OK, "2001:db8::17:6379 ");
	expect(&r, "localhost", ERR_OK, "127.0.0.1:6379 ::1:6379 ");
	rig_done(&r);
}

static void test_hosts(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	expect(&r, "mine.test", ERR_OK, "127.0.0.2:6379 ::2:6379 127.0.0.3:6379 ");
	expect(&r, "OTHER", ERR_OK, "127.0.0.2:6379 ");
	expect(&r, "mine2.test", ERR_NOTFOUND, "");
	/* Read anew each time. */
	write_file(dns.hosts, "127.0.0.9 mine.test\n");
	expect(&r, "mine.test", ERR_OK, "127.0.0.9:6379 ");
	rig_done(&r);
}

static void test_name_server(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	expect(&r, "a.test", ERR_OK, "127.0.0.5:6379 ");
	expect(&r, "v6.test", ERR_OK, "127.0.0.5:6379 2001:db8::1:6379 ");
	expect(&r, "gone.test", ERR_NOTFOUND, "");
	/* One family's answer does not wait for the other's for long. */
	expect(&r, "half.test", ERR_OK, "127.0.0.5:6379 ");
	rig_done(&r);
}

static void test_bad_name_server(void **state)
{
	struct rig r;
	struct asked a;

	(void)state;
	rig_init(&r);
	a = ask(&r, "silent.test");
	assert_int_equal(a.err, ERR_TIMEOUT);
	rig_done(&r);
	rig_init(&r);
	a = ask(&r, "broken.test");
	assert_true(a.err == ERR_UNAVAILABLE || a.err == ERR_TIMEOUT);
	rig_done(&r);
}

/* A changed resolv.conf counts for the next name. */
static void test_conf_changes(void **state)
{
	char good[128] = "";
	FILE *f = fopen(dns.conf, "r");
	struct rig r;

	(void)state;
	assert_non_null(f);
	assert_true(fread(good, 1, sizeof(good) - 1, f) > 0);
	fclose(f);
	write_file(dns.conf, "nameserver 127.0.0.1:1\noptions timeout:1 attempts:1\n");
	rig_init(&r);
	assert_int_not_equal(ask(&r, "a.test").err, ERR_OK);
	write_file(dns.conf, good);
	expect(&r, "a.test", ERR_OK, "127.0.0.5:6379 ");
	rig_done(&r);
}

/* Started without a resolv.conf: hosts and localhost are known, and it is seen when it appears. */
static void test_no_conf(void **state)
{
	char text[128] = "", late[112];
	FILE *f = fopen(dns.conf, "r");
	struct rig r;

	(void)state;
	assert_non_null(f);
	assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
	fclose(f);
	snprintf(late, sizeof(late), "%s/late.conf", dns.dir);
	rig_init(&r);
	write_file(dns.hosts, "127.0.0.9 mine.test\n");
	resolver_set_files(r.resolver, dns.hosts, late);
	expect(&r, "localhost", ERR_OK, "127.0.0.1:6379 ::1:6379 ");
	expect(&r, "mine.test", ERR_OK, "127.0.0.9:6379 ");
	assert_int_not_equal(ask(&r, "a.test").err, ERR_OK);
	write_file(late, text);
	expect(&r, "a.test", ERR_OK, "127.0.0.5:6379 ");
	unlink(late);
	rig_done(&r);
}

/* The new resolv.conf counts although a query to the old, silent server is still open: whoever
 * reconnects leaves one behind each time. */
static void test_conf_changes_meanwhile(void **state)
{
	struct asked left = {0};
	struct resolver_query *q;
	char text[128] = "", moved[112];
	FILE *f = fopen(dns.conf, "r");
	struct rig r;

	(void)state;
	assert_non_null(f);
	assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
	fclose(f);
	snprintf(moved, sizeof(moved), "%s/moved.conf", dns.dir);
	write_file(moved, "nameserver 127.0.0.1:1\noptions timeout:5 attempts:3\n");
	rig_init(&r);
	left.loop = r.loop;
	resolver_set_files(r.resolver, dns.hosts, moved);
	assert_int_equal(resolver_submit(r.resolver, "a.test", 1, on_resolved, &left, &q), ERR_OK);
	turn(&r, 30);
	resolver_cancel(q);
	for (int i = 0; i < 3; i++) {
		write_file(moved, text);
		expect(&r, "a.test", ERR_OK, "127.0.0.5:6379 ");
	}
	assert_int_equal(left.fired, 0);
	unlink(moved);
	rig_done(&r);
}

static void test_cancel(void **state)
{
	static const char *const hosts[] = {"127.0.0.1", "mine.test", "a.test", "silent.test"};
	struct resolver_query *q;
	struct rig r;

	(void)state;
	rig_init(&r);
	for (size_t i = 0; i < 4; i++) {
		struct asked a = {.loop = r.loop};

		assert_int_equal(resolver_submit(r.resolver, hosts[i], 1, on_resolved, &a, &q),
		                 ERR_OK);
		resolver_cancel(q);
		turn(&r, 100);
		assert_int_equal(a.fired, 0);
	}
	rig_done(&r);
}

/* Freed with open queries of each kind: nothing fires, nothing leaks. */
static void test_freed(void **state)
{
	static const char *const hosts[] = {"127.0.0.1", "mine.test", "a.test", "silent.test"};
	struct resolver_query *q;
	struct asked a = {0};
	struct rig r;

	(void)state;
	for (int turned = 0; turned < 2; turned++) {
		rig_init(&r);
		a.loop = r.loop;
		a.fired = 0;
		for (size_t i = 0; i < 4; i++)
			assert_int_equal(
			    resolver_submit(r.resolver, hosts[i], 1, on_resolved, &a, &q), ERR_OK);
		if (turned)
			turn(&r, 50);
		int before = a.fired;
		resolver_free(r.resolver);
		r.resolver = NULL;
		turn(&r, 20);
		assert_int_equal(a.fired, before);
		rig_done(&r);
	}
}

static void on_nothing(void *arg, enum err err, const struct resolver_addr *addrs, size_t n)
{
	(void)err;
	(void)addrs;
	(void)n;
	loop_stop(arg);
}

static void scenario_literal(void)
{
	struct loop *l;
	struct resolver *r;
	struct resolver_query *q;

	if (loop_new(&l) != ERR_OK)
		return;
	if (resolver_new(l, &r) == ERR_OK) {
		if (resolver_submit(r, "127.0.0.1", 1, on_nothing, l, &q) == ERR_OK)
			(void)!loop_run(l);
		if (resolver_submit(r, "localhost", 1, on_nothing, l, &q) == ERR_OK)
			resolver_cancel(q);
		resolver_free(r);
	}
	loop_free(l);
}

/* From the hosts file and from the name server; an answer may get lost for want of memory. */
static void scenario_names(void)
{
	static const char *const hosts[] = {"mine.test", "v6.test"};
	struct loop_timer over = {0};
	struct resolver *r = NULL;
	struct resolver_query *q;
	struct loop *l;

	if (loop_new(&l) != ERR_OK)
		return;
	if (loop_timer_init(&over, l, on_give_up, l) == ERR_OK && resolver_new(l, &r) == ERR_OK) {
		resolver_set_files(r, dns.hosts, dns.conf);
		for (size_t i = 0; i < 2; i++) {
			loop_timer_set(&over, 30 * MSEC);
			if (resolver_submit(r, hosts[i], 1, on_nothing, l, &q) == ERR_OK)
				(void)!loop_run(l);
		}
	}
	resolver_free(r);
	loop_timer_done(&over);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_literals),
	    cmocka_unit_test(test_name_server),
	    cmocka_unit_test(test_bad_name_server),
	    cmocka_unit_test(test_conf_changes),
	    cmocka_unit_test(test_cancel),
	    cmocka_unit_test(test_freed),
	    cmocka_unit_test(test_hosts),
	    cmocka_unit_test(test_no_conf),
	    cmocka_unit_test(test_conf_changes_meanwhile),
	};
	const struct torture torture[] = {TORTURE(scenario_literal), TORTURE(scenario_names)};

	return TESTS_OR_TORTURE_BETWEEN(tests, torture, group_set_up, group_tear_down);
}
