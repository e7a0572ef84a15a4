/* A line is always one line and always parses, whatever the text in it; and writing one never
 * blocks. Lines are read back from a pipe: JSON by jansson, logfmt by a small strict reader here.
 */
#include "torture.h"

#include <ctype.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "weir/base/rnd.h"
#include "weir/run/log.h"

static usec_t fake_now;
static int fds[2];
static char line[64 * 1024];

static usec_t fake_clock(void)
{
	return fake_now;
}

static int set_up(void **state)
{
	struct err_info info;

	(void)state;
	fake_now += 100 * USEC_PER_SEC;
	clock_set_source(fake_clock, fake_clock);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	log_set_fd(fds[1]);
	log_set_format(LOG_FORMAT_LOGFMT);
	log_set_correlation(STR_NONE);
	assert_int_equal(log_set_levels("info", &info), ERR_OK);
	rnd_seed(7);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	log_set_fd(2);
	clock_set_source(NULL, NULL);
	rnd_seed(0);
	close(fds[0]);
	close(fds[1]);
	return 0;
}

/* All that waits in the pipe, as one string; its length. */
static size_t read_back(void)
{
	size_t len = 0;
	ssize_t n;

	assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	while ((n = read(fds[0], line + len, sizeof(line) - 1 - len)) > 0)
		len += (size_t)n;
	line[len] = '\0';
	return len;
}

/* Each call may pass: the limit of a call site is another test's matter. */
static void log_text(struct str s)
{
	fake_now += USEC_PER_SEC;
	log_info(LOG_HTTP, "text", LOG_SLICE("v", s), LOG_INT("after", 7));
}

/* --- readers --- */

static json_t *read_json(void)
{
	size_t len = read_back();
	json_error_t error;
	json_t *j;

	assert_in_range(len, 2, 8192);
	assert_ptr_equal(strchr(line, '\n'), line + len - 1);
	j = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	if (!j)
		fail_msg("%s in %s", error.text, line);
	return j;
}

static const char *skip_quoted(const char *p)
{
	for (; *p != '"'; p++) {
		assert_true((unsigned char)*p >= 0x20);
		if (*p != '\\')
			continue;
		p++;
		assert_non_null(strchr("\"\\ntu", *p));
		if (*p == 'u')
			for (int i = 0; i < 4; i++)
				assert_true(isxdigit((unsigned char)*++p));
	}
	return p + 1;
}

/* key=value pairs with single blanks between them; the number of pairs. */
static unsigned read_logfmt(void)
{
	size_t len = read_back();
	const char *p = line;
	unsigned pairs = 0;

	assert_in_range(len, 2, 8192);
	assert_true(str_is_utf8(str_n(line, len)));
	for (;; p++) {
		const char *key = p;

		while (islower((unsigned char)*p) || *p == '_')
			p++;
		assert_true(p > key && *p == '=');
		p++;
		if (*p == '"')
			p = skip_quoted(p + 1);
		else
			while ((unsigned char)*p > ' ' && *p != '"' && *p != '=')
				p++;
		pairs++;
		if (*p != ' ')
			break;
	}
	assert_string_equal(p, "\n");
	return pairs;
}

static void check_text(struct str s)
{
	json_t *j;
	const char *v;

	log_set_format(LOG_FORMAT_JSON);
	log_text(s);
	j = read_json();
	v = json_string_value(json_object_get(j, "v"));
	assert_non_null(v);
	if (s.len > 0 && s.len < 500 && str_is_utf8(s) && !memchr(s.ptr, 0, s.len))
		assert_memory_equal(v, s.ptr, s.len);
	assert_int_equal(json_object_size(j), s.len < 500 ? 6 : json_object_size(j));
	json_decref(j);
	log_set_format(LOG_FORMAT_LOGFMT);
	log_text(s);
	assert_in_range(read_logfmt(), s.len < 500 ? 6 : 5, 6);
}

/* --- text --- */

static void test_exact_lines(void **state)
{
	(void)state;
	fake_now = 1769854830123456;
	log_warn(LOG_REDIS, "connection lost", LOG_STR("reason", "a b"), LOG_INT("attempt", -3),
	         LOG_NUM("ms", 1.25), LOG_BOOL("up", false), LOG_STR("plain", "x/y"),
	         LOG_STR("empty", ""), LOG_ERR(ERR_TIMEOUT), LOG_MSEC("took", 1500));
	read_back();
	assert_string_equal(line,
	                    "ts=2026-01-31T10:20:30.123Z level=warn component=redis "
	                    "msg=\"connection lost\" reason=\"a b\" attempt=-3 ms=1.25 up=false "
	                    "plain=x/y empty=\"\" error=timeout took=1.5\n");
	log_set_format(LOG_FORMAT_JSON);
	log_set_correlation(STR("req-1"));
	log_error(LOG_PG, "down", LOG_STR("q", "\"\\\n\t\x1b"), LOG_NUM("nan", 0.0 / 0.0),
	          LOG_BOOL("up", true));
	read_back();
	assert_string_equal(
	    line, "{\"ts\":\"2026-01-31T10:20:30.123Z\",\"level\":\"error\",\"component\":\"pg\","
	          "\"msg\":\"down\",\"request_id\":\"req-1\",\"q\":\"\\\"\\\\\\n\\t\\u001b\","
	          "\"nan\":null,\"up\":true}\n");
}

static void test_every_byte(void **state)
{
	char c[3] = {'a', 0, 'b'};

	(void)state;
	for (int i = 0; i < 256; i++) {
		c[1] = (char)i;
		check_text(str_n(c, 3));
		check_text(str_n(c + 1, 1));
	}
	check_text(STR_NONE);
}

static void test_nasty_text(void **state)
{
	static const char *const nasty[] = {
	    "msg=\"x\" level=error",
	    "a\nts=2026 level=error msg=\"forged\"",
	    "\r\x1b[2J\x1b]0;title\x07",
	    "\xc2\x9b"
	    "31m",
	    "\xe2\x80\xae"
	    "gpj.exe",
	    "\xe2\x80\xa8line",
	    "grüße, 世界 🎉",
	    "\xf0\x9f\x8e",
	    "\xed\xa0\x80",
	    "\xc0\xaf",
	    "\xff\xfe",
	    "}}]]\"\"\\",
	    "\\u0000\\",
	    "C:\\x",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(nasty) / sizeof(nasty[0]); i++) {
		check_text(str_of(nasty[i]));
		assert_null(strpbrk(line, "\x1b\r\x07"));
		assert_null(strstr(line, "\xe2\x80\xae"));
		assert_null(strstr(line, "\xc2\x9b"));
	}
	log_text(STR("grüße"));
	read_back();
	assert_non_null(strstr(line, "v=\"grüße\""));
}

static void test_random_text(void **state)
{
	char bytes[200];

	(void)state;
	for (int i = 0; i < 2000; i++) {
		size_t len = rnd_below(sizeof(bytes));

		rnd_bytes(bytes, len);
		check_text(str_n(bytes, len));
	}
}

/* Lines that do not fit end in an ellipsis, at every place where the end may fall. */
static void test_long_text_is_cut(void **state)
{
	static char text[20000];
	static const char *const fill[] = {"x", "\"", "\x01", "é", "世", "🎉", "\xff", "a "};
	json_t *j;

	(void)state;
	for (size_t f = 0; f < sizeof(fill) / sizeof(fill[0]); f++) {
		size_t unit = strlen(fill[f]);

		for (size_t i = 0; i + unit <= sizeof(text); i += unit)
			memcpy(text + i, fill[f], unit);
		for (size_t len = 8000 / 6; len<8400; len += len> 7900 || len < 1500 ? 1 : 97)
			check_text(str_n(text, len - len % unit));
		check_text(str_n(text, sizeof(text) - sizeof(text) % unit));
		assert_non_null(strstr(line, "…\""));
	}
	log_set_format(LOG_FORMAT_JSON);
	fake_now += USEC_PER_SEC;
	log_info(LOG_HTTP, "many", LOG_SLICE("a", str_n(text, 3000)),
	         LOG_SLICE("b", str_n(text, 3000)), LOG_SLICE("c", str_n(text, 3000)),
	         LOG_INT("d", INT64_MIN), LOG_NUM("e", 1e300));
	j = read_json();
	assert_non_null(json_object_get(j, "a"));
	json_decref(j);
}

/* --- levels and limits --- */

static void test_levels(void **state)
{
	static const char *const bad[] = {
	    "",          "loud",         "info,pgx:debug", "pg:",
	    "info,info", "info,pg:warm", "info,,pg:debug", "pg:debug:x",
	    "info,"};
	struct err_info info;

	(void)state;
	assert_int_equal(log_set_levels(" WARN , pg:debug,http:Error", &info), ERR_OK);
	assert_false(log_enabled(LOG_APP, LOG_LEVEL_INFO));
	assert_true(log_enabled(LOG_APP, LOG_LEVEL_WARN));
	assert_true(log_enabled(LOG_PG, LOG_LEVEL_DEBUG));
	assert_false(log_enabled(LOG_HTTP, LOG_LEVEL_WARN));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		info.text[0] = '\0';
		assert_int_equal(log_set_levels(bad[i], &info), ERR_INVAL);
		assert_int_equal(log_check_levels(bad[i], NULL), ERR_INVAL);
		assert_non_null(strstr(info.text, "allowed: "));
	}
	assert_true(log_enabled(LOG_PG, LOG_LEVEL_DEBUG)); /* still the good ones */
	assert_int_equal(log_set_levels("pg:debug", &info), ERR_OK);
	assert_true(log_enabled(LOG_APP, LOG_LEVEL_INFO)); /* info is the ground */
	log_debug(LOG_APP, "not wanted");
	assert_int_equal(read_back(), 0);
}

static unsigned count_lines(void)
{
	unsigned n = 0;

	read_back();
	for (const char *p = line; (p = strchr(p, '\n')); p++)
		n++;
	return n;
}

static void log_from_one_site(unsigned times)
{
	while (times-- > 0)
		log_info(LOG_APP, "often");
}

static void test_call_site_is_limited(void **state)
{
	(void)state;
	log_from_one_site(15);
	assert_int_equal(count_lines(), 10);
	assert_null(strstr(line, "suppressed"));
	log_info(LOG_APP, "another site");
	assert_int_equal(count_lines(), 1);
	fake_now += USEC_PER_SEC - 1;
	log_from_one_site(1);
	assert_int_equal(count_lines(), 0);
	fake_now += 1;
	log_from_one_site(1);
	assert_int_equal(count_lines(), 1);
	assert_non_null(strstr(line, " suppressed=6"));
	log_from_one_site(1);
	assert_int_equal(count_lines(), 1);
	assert_null(strstr(line, "suppressed"));
}

/* --- the descriptor --- */

/* A pipe that holds a page, and a line longer than that. */
static void test_full_pipe_drops_and_recovers(void **state)
{
	static char text[6000];
	uint64_t before = log_dropped();
	size_t len;

	(void)state;
	memset(text, 'x', sizeof(text));
	assert_true(fcntl(fds[1], F_SETPIPE_SZ, 4096) == 4096);
	log_text(str_n(text, sizeof(text)));
	assert_int_equal(log_dropped(), before + 1);
	log_text(STR("lost"));
	assert_int_equal(log_dropped(), before + 2);
	len = read_back();
	assert_int_equal(len, 4096);
	assert_null(strchr(line, '\n'));
	log_text(STR("back"));
	read_back();
	/* What was torn is ended first, so that this line stands alone. */
	assert_int_equal(line[0], '\n');
	assert_memory_equal(line + 1, "ts=", 3);
	assert_non_null(strstr(line, "v=back after=7\n"));
	log_text(STR("normal"));
	read_back();
	assert_memory_equal(line, "ts=", 3);
	assert_int_equal(log_dropped(), before + 2);
}

static void test_full_socket_drops(void **state)
{
	uint64_t before = log_dropped();
	char bytes[4096];
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	log_set_fd(pair[0]);
	for (int i = 0; i < 10000 && log_dropped() == before; i++)
		log_text(STR("into a socket that nobody reads"));
	assert_int_equal(log_dropped(), before + 1);
	while (recv(pair[1], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	log_text(STR("back"));
	assert_int_equal(log_dropped(), before + 1);
	close(pair[1]);
	log_text(STR("no SIGPIPE"));
	assert_int_equal(log_dropped(), before + 2);
	close(pair[0]);
}

static void test_disk_full_and_closed(void **state)
{
	uint64_t before = log_dropped();
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	(void)state;
	log_set_fd(fd);
	log_text(STR("no room"));
	assert_int_equal(log_dropped(), before + 1);
	close(fd);
	log_text(STR("closed"));
	assert_int_equal(log_dropped(), before + 2);
	log_set_fd(fd);
	log_text(STR("still closed"));
	assert_int_equal(log_dropped(), before + 3);
}

static void test_file(void **state)
{
	char path[] = "/tmp/weir-test-log-XXXXXX";
	int fd = mkstemp(path);
	char bytes[256] = {0};

	(void)state;
	assert_true(fd >= 0);
	unlink(path);
	log_set_fd(fd);
	log_text(STR("one"));
	log_text(STR("two"));
	assert_true(pread(fd, bytes, sizeof(bytes) - 1, 0) > 0);
	assert_non_null(strstr(bytes, "v=one after=7\nts="));
	assert_non_null(strstr(bytes, "v=two after=7\n"));
	close(fd);
}

static void test_journal_gets_priorities(void **state)
{
	struct stat st;
	char stream[64];

	(void)state;
	assert_int_equal(fstat(fds[1], &st), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
	log_set_fd(fds[1]);
	fake_now += USEC_PER_SEC;
	log_error(LOG_APP, "e");
	log_info(LOG_APP, "i");
	read_back();
	assert_memory_equal(line, "<3>ts=", 6);
	assert_non_null(strstr(line, "\n<6>ts="));
	/* Inherited from a unit whose stderr went elsewhere. */
	assert_int_equal(setenv("JOURNAL_STREAM", "1:1", 1), 0);
	log_set_fd(fds[1]);
	log_info(LOG_APP, "j");
	read_back();
	assert_memory_equal(line, "ts=", 3);
	unsetenv("JOURNAL_STREAM");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_exact_lines),
	    TEST(test_every_byte),
	    TEST(test_nasty_text),
	    TEST(test_random_text),
	    TEST(test_long_text_is_cut),
	    TEST(test_levels),
	    TEST(test_call_site_is_limited),
	    TEST(test_full_pipe_drops_and_recovers),
	    TEST(test_full_socket_drops),
	    TEST(test_disk_full_and_closed),
	    TEST(test_file),
	    TEST(test_journal_gets_priorities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
