/* Settings: the table as a whole, then what files and environments may hold. */
#include "torture.h"

#include <fcntl.h>
#include <jansson.h>
#include <unistd.h>

#include "../../src/run/conf_table.h"
#include "weir/base/rnd.h"
#include "weir/run/log.h"

static struct err_info info;

static struct conf *load(const char *text, char *const *env)
{
	struct conf *c = NULL;

	info.text[0] = '\0';
	if (conf_load_text("f.conf", str_of(text), env, &c, &info) != ERR_OK)
		fail_msg("%s", info.text);
	return c;
}

/* Loads what must be refused; the text of the refusal. */
static const char *refused(const char *text, char *const *env)
{
	struct conf *c = NULL;

	info.text[0] = '\0';
	assert_int_not_equal(conf_load_text("f.conf", str_of(text), env, &c, &info), ERR_OK);
	assert_null(c);
	assert_int_not_equal(info.code, ERR_OK);
	return info.text;
}

#define ENV(...) ((char *const[]){__VA_ARGS__, NULL})

static struct str render(const struct conf *c, const struct conf_row *row, struct buf *b)
{
	buf_reset(b);
	conf_value_print(c, row, false, b);
	assert_int_equal(b->err, ERR_OK);
	return buf_str(b);
}

/* --- the table --- */

static void test_rows_are_complete(void **state)
{
	(void)state;
	for (size_t i = 0; i < conf_row_count; i++) {
		const struct conf_row *row = &conf_rows[i];
		size_t help = strlen(row->help);

		for (const char *p = row->name; *p; p++)
			assert_true((*p >= 'A' && *p <= 'Z') || *p == '_');
		assert_true(help > 10 && row->help[help - 1] == '.');
		assert_null(strchr(row->help, '|')); /* Markdown's */
		assert_non_null(row->group);
		assert_non_null(row->def);
		assert_ptr_equal(conf_row_find(str_of(row->name)), row);
		assert_true(row->type != CONF_USEC || row->unit == USEC_PER_SEC ||
		            row->unit == USEC_PER_MSEC);
		assert_int_equal(row->choices != NULL, row->type == CONF_CHOICE ||
		                                           row->type == CONF_ENUM ||
		                                           row->type == CONF_FLAGS);
		for (size_t j = 0; j < i; j++) {
			assert_string_not_equal(row->name, conf_rows[j].name);
			assert_int_not_equal(row->offset, conf_rows[j].offset);
		}
	}
}

/* The table reaches every byte of struct conf but its padding: a member without a row is found. */
static void test_every_member_has_a_row(void **state)
{
	char covered[sizeof(struct conf)] = {0};

	(void)state;
	for (size_t i = 0; i < conf_row_count; i++)
		memset(covered + conf_rows[i].offset, 1,
		       conf_rows[i].type == CONF_BOOL ? sizeof(void *) : 8);
	for (size_t i = 0; i < sizeof(covered); i++)
		if (!covered[i])
			fail_msg("byte %zu of struct conf has no setting", i);
}

static void test_defaults_are_allowed(void **state)
{
	struct conf *c = load("", NULL);

	(void)state;
	for (size_t i = 0; i < conf_row_count; i++) {
		const struct conf_row *row = &conf_rows[i];
		enum err e = conf_value_set(c, row, str_of(row->def), &info);

		if (e != ERR_OK)
			fail_msg("%s: %s", row->name, info.text);
		if (row->type == CONF_FLAGS)
			assert_int_not_equal(*(int64_t *)((char *)c + row->offset), 0);
	}
	conf_free(c);
}

/* What is printed is read back as the same value, for the bounds too. */
static void test_values_print_and_read_back(void **state)
{
	struct conf *a = load("", NULL), *b = load("", NULL);
	struct buf text;

	(void)state;
	buf_init(&text, 4096);
	for (size_t i = 0; i < conf_row_count; i++) {
		const struct conf_row *row = &conf_rows[i];
		int64_t *member = (int64_t *)((char *)a + row->offset);
		bool number =
		    row->type == CONF_INT || row->type == CONF_SIZE || row->type == CONF_USEC;
		const int64_t tries[] = {number ? row->min : 0, number ? row->max : 0,
		                         number ? row->max - 1 : 0, number ? row->min + 1 : 0};

		for (size_t n = 0; n < (number ? 4 : 1); n++) {
			if (number)
				*member = tries[n];
			assert_int_equal(conf_value_set(b, row, render(a, row, &text), &info),
			                 ERR_OK);
			assert_true(conf_value_equal(a, b, row));
		}
		if (!number)
			continue;
		*member = row->max + 1;
		assert_int_equal(conf_value_set(b, row, render(a, row, &text), &info), ERR_INVAL);
		assert_non_null(strstr(info.text, "out of range; allowed: "));
	}
	buf_done(&text);
	conf_free(a);
	conf_free(b);
}

static void test_nonsense_is_refused_by_every_row(void **state)
{
	static const char *const nonsense[] = {"\x01",  "a\nb", "-",   "12x",
	                                       "-1",    "1.5",  "1e3", "9999999999999999999999",
	                                       "true,", "\xff"};
	struct conf *c = load("", NULL);

	(void)state;
	for (size_t i = 0; i < conf_row_count; i++) {
		const struct conf_row *row = &conf_rows[i];
		bool text = row->type == CONF_STRING || row->type == CONF_URL;

		for (size_t n = 0; n < (text ? 2 : sizeof(nonsense) / sizeof(nonsense[0])); n++) {
			info.text[0] = '\0';
			assert_int_equal(conf_value_set(c, row, str_of(nonsense[n]), &info),
			                 ERR_INVAL);
			assert_memory_equal(info.text, row->name, strlen(row->name));
			assert_non_null(strstr(info.text, "allowed: "));
		}
	}
	conf_free(c);
}

/* --- printing --- */

static void test_print_default_is_a_file_of_defaults(void **state)
{
	struct conf *plain = load("", NULL), *printed;
	struct buf text;

	(void)state;
	buf_init(&text, 1 << 18);
	assert_int_equal(conf_print_default(&text), ERR_OK);
	printed = load(text.ptr, NULL);
	for (size_t i = 0; i < conf_row_count; i++)
		assert_true(conf_value_equal(plain, printed, &conf_rows[i]));
	conf_free(plain);
	conf_free(printed);
	buf_done(&text);
}

static const char secrets[] = "DATABASE_URL=postgres://joe:hunter2@db:5/x?password=hunter2\n"
                              "DATABASE_PASSWORD=hunter2\nREDIS_PASSWORD=hunter2\n"
                              "WEBHOOK_SECRET=' hunter2'\nSERVICE_NAME='\"w'\n"
                              "REDIS_KEY_PREFIX=' p '\n";

static void test_dumps_hide_secrets(void **state)
{
	struct conf *c = load(secrets, NULL), *again;
	struct buf text;
	json_t *j;

	(void)state;
	buf_init(&text, 1 << 18);
	assert_int_equal(conf_dump(c, &text), ERR_OK);
	assert_null(strstr(text.ptr, "hunter2"));
	assert_null(strstr(text.ptr, "joe"));
	assert_non_null(strstr(text.ptr, "\nDATABASE_URL=postgres://***@db:5/x?***\n"));
	assert_non_null(strstr(text.ptr, "\nREDIS_PASSWORD=***\n"));
	again = load(text.ptr, NULL);
	assert_string_equal(again->service_name, "\"w");
	assert_string_equal(again->redis_key_prefix, " p ");
	assert_string_equal(again->webhook_secret, "***");
	buf_reset(&text);
	assert_int_equal(conf_dump_json(c, &text), ERR_OK);
	assert_null(strstr(text.ptr, "hunter2"));
	j = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
	assert_int_equal(json_object_size(j), conf_row_count);
	assert_int_equal(json_integer_value(json_object_get(j, "port")), 8000);
	assert_true(json_is_false(json_object_get(j, "redis_tls_enabled")));
	assert_string_equal(json_string_value(json_object_get(j, "shutdown_delay")), "5s");
	assert_string_equal(json_string_value(json_object_get(j, "service_name")), "\"w");
	json_decref(j);
	conf_free(c);
	conf_free(again);
	buf_done(&text);
}

static void test_urls_are_masked(void **state)
{
	static const char *const cases[][2] = {
	    {"", ""},
	    {"postgres://h/db", "postgres://h/db"},
	    {"postgres://u@h/db", "postgres://***@h/db"},
	    {"postgres://u:p@ss@h/db", "postgres://***@h/db"},
	    {"postgres://u:p/x@h/db", "postgres://***@h/db"},
	    {"postgres://u:p?x@h/db", "postgres://***@?***"},
	    {"postgresql:///db?password=x", "postgresql:///db?***"},
	    {"postgresql:///db?user=a@b", "postgresql://***@?***"},
	    {"host=h password=x", "***"},
	};
	struct buf text;

	(void)state;
	buf_init(&text, 256);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buf_reset(&text);
		conf_mask_url(str_of(cases[i][0]), &text);
		assert_string_equal(text.len ? text.ptr : "", cases[i][1]);
	}
	buf_done(&text);
}

static void test_markdown_has_every_setting(void **state)
{
	struct buf text;

	(void)state;
	buf_init(&text, 1 << 18);
	assert_int_equal(conf_print_markdown(&text), ERR_OK);
	for (size_t i = 0; i < conf_row_count; i++) {
		char start[80];

		snprintf(start, sizeof(start), "\n| `%s` ", conf_rows[i].name);
		assert_non_null(strstr(text.ptr, start));
	}
	buf_done(&text);
}

/* --- files and the environment --- */

static void test_defaults(void **state)
{
	struct conf *c = load("", NULL);

	(void)state;
	assert_string_equal(c->host, "0.0.0.0");
	assert_int_equal(c->port, 8000);
	assert_string_equal(c->health_endpoint, ":8088");
	assert_int_equal(c->roles, ROLE_INGEST | ROLE_WORKER | ROLE_DELIVER | ROLE_SCHEDULE);
	assert_int_equal(c->ingest_endpoints, INGEST_ENDPOINTS_ALL);
	assert_string_equal(c->database_host, "");
	assert_string_equal(c->database_url, "");
	assert_string_equal(c->redis_addr, "localhost:6379");
	assert_int_equal(c->webhook_batch_size, 100);
	assert_int_equal(c->webhook_batch_bytes, 8 << 20);
	assert_int_equal(c->webhook_flush_interval, USEC_PER_SEC);
	assert_int_equal(c->webhook_max_workers, 10);
	assert_int_equal(c->max_body_size, 26 << 20);
	assert_int_equal(c->max_memory, 256 << 20);
	assert_int_equal(c->max_connections, 4096);
	assert_int_equal(c->header_timeout, 10 * USEC_PER_SEC);
	assert_int_equal(c->shutdown_delay, 5 * USEC_PER_SEC);
	assert_int_equal(c->shutdown_grace, 25 * USEC_PER_SEC);
	assert_false(c->strict_durability);
	assert_int_equal(c->log_format, LOG_FORMAT_LOGFMT);
	conf_free(c);
}

static void test_file_syntax(void **state)
{
	struct conf *c = load("\xef\xbb\xbf# a comment\r\n"
	                      "\n   \t\n"
	                      "  PORT = 81 \r\n"
	                      "SERVICE_NAME=\"a # b\"\n"
	                      "REDIS_PASSWORD='it''s = \"x'\n"
	                      "REDIS_USERNAME=a=b\n"
	                      "HOST=\n"
	                      "DATABASE_NAME=\"\"\n"
	                      "ROLES= Worker , INGEST\n"
	                      "INGEST_ENDPOINTS=Webhooks\n"
	                      "STRICT_DURABILITY=ON\n"
	                      "DATABASE_SSL_MODE=Verify-Full\n"
	                      "WEBHOOK_FLUSH_INTERVAL=250\n"
	                      "QUEUE_KEEP=90\n"
	                      "MAX_MEMORY=1g\n"
	                      "LOG_LEVEL=warn,pg:debug\n"
	                      "LOG_FORMAT=JSON",
	                      NULL);

	(void)state;
	assert_int_equal(c->port, 81);
	assert_string_equal(c->service_name, "a # b");
	assert_string_equal(c->redis_password, "it''s = \"x");
	assert_string_equal(c->redis_username, "a=b");
	assert_string_equal(c->host, "0.0.0.0"); /* empty is not given */
	assert_string_equal(c->database_name, "");
	assert_int_equal(c->roles, ROLE_INGEST | ROLE_WORKER);
	assert_int_equal(c->ingest_endpoints, INGEST_ENDPOINTS_WEBHOOKS);
	assert_true(c->strict_durability);
	assert_string_equal(c->database_ssl_mode, "verify-full");
	assert_int_equal(c->webhook_flush_interval, 250 * USEC_PER_MSEC);
	assert_int_equal(c->queue_keep, 90 * USEC_PER_SEC);
	assert_int_equal(c->max_memory, 1 << 30);
	assert_int_equal(c->log_format, LOG_FORMAT_JSON);
	conf_free(c);
}

static void test_environment_wins(void **state)
{
	struct conf *c = load("PORT=81\nHOST=file\nREDIS_DB=3",
	                      ENV("PATH=/bin", "PORT=82", "PORTAL=x", "HOST=", "novalue"));

	(void)state;
	assert_int_equal(c->port, 82);
	assert_string_equal(c->host, "file");
	assert_int_equal(c->redis_db, 3);
	conf_free(c);
}

static void test_refusals_say_what_and_where(void **state)
{
	static const char *const cases[][2] = {
	    {"WEBHOOK_BATCH_SIZE=abc",
	     "f.conf:1: WEBHOOK_BATCH_SIZE=abc: not a whole number; allowed: 1 to 10000"},
	    {"#\n\nPORT=0", "f.conf:3: PORT=0: out of range; allowed: 1 to 65535"},
	    {"\nPORTT=1", "f.conf:2: unknown setting \"PORTT\"; did you mean PORT?"},
	    {"webhook_batch_size=1", "f.conf:1: unknown setting \"webhook_batch_size\"; did you "
	                             "mean WEBHOOK_BATCH_SIZE?"},
	    {"SOMETHING_ELSE=1", "f.conf:1: unknown setting \"SOMETHING_ELSE\"; see weir config "
	                         "--print-default"},
	    {"=1", "f.conf:1: unknown setting \"\"; see weir config --print-default"},
	    {"PORT", "f.conf:1: not a NAME=value line"},
	    {"PORT=1\nHOST=x\nPORT=1", "f.conf:3: PORT was given in line 1 already"},
	    {"HOST=\"x", "f.conf:1: the quote is not closed"},
	    {"HOST='", "f.conf:1: the quote is not closed"},
	    {"HOST='a\"", "f.conf:1: the quote is not closed"},
	    {"HOST='a' # b", "f.conf:1: the quote is not closed"},
	    {"REDIS_TLS_ENABLED=maybe", "f.conf:1: REDIS_TLS_ENABLED=maybe: not a truth value; "
	                                "allowed: true, false, 1, 0, yes, no, on, off"},
	    {"ROLES=ingest,cook",
	     "f.conf:1: ROLES=ingest,cook: not a list of its words; allowed: a "
	     "comma list of ingest, worker, deliver, schedule"},
	    {"ROLES=,", "f.conf:1: ROLES=,: not a list of its words; allowed: a comma list of "
	                "ingest, worker, deliver, schedule"},
	    {"LOG_FORMAT=xml", "f.conf:1: LOG_FORMAT=xml: not one of its words; allowed: logfmt, "
	                       "json"},
	    {"SHUTDOWN_DELAY=2h", "f.conf:1: SHUTDOWN_DELAY=2h: out of range; allowed: 0s to 1h; a "
	                          "bare number is in seconds"},
	    {"MAX_BODY_SIZE=12q", "f.conf:1: MAX_BODY_SIZE=12q: not a size; allowed: 1KiB to 1GiB"},
	    {"QUEUE_MAX_BYTES=18446744073709551615",
	     "f.conf:1: QUEUE_MAX_BYTES=18446744073709551615: out of range; allowed: 0 to 1TiB"},
	    {"LOG_LEVEL=loud", "f.conf:1: LOG_LEVEL=loud: \"loud\": no such level; allowed: debug, "
	                       "info, warn, error"},
	    {"HOST=a\x01\x1b[2Jb", "f.conf:1: HOST=a??[2Jb: a control character; allowed: text of "
	                           "at most 255 bytes"},
	    {"SHUTDOWN_DELAY=25s",
	     "SHUTDOWN_DELAY (25.000 s) must be less than SHUTDOWN_GRACE (25.000 s)"},
	    {"MAX_MEMORY=16MiB", "MAX_BODY_SIZE (27262976 bytes) must be less than MAX_MEMORY "
	                         "(16777216 bytes)"},
	    {"HEALTH_SERVER_HOST=h", "HEALTH_SERVER_HOST=h: needs HEALTH_SERVER_PORT as well"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(refused(cases[i][0], NULL), cases[i][1]);
	assert_string_equal(refused("", ENV("PORT=x")),
	                    "PORT=x: not a whole number; allowed: 1 to 65535");
}

static void test_refusals_hide_secrets(void **state)
{
	char text[8000], *env = text;

	(void)state;
	assert_string_equal(refused("REDIS_PASSWORD=hun\x01ter2", NULL),
	                    "f.conf:1: REDIS_PASSWORD=***: a control character; allowed: text of "
	                    "at most 1024 bytes");
	assert_string_equal(refused("DATABASE_URL=postgres://joe:hunter2\x01@h/x", NULL),
	                    "f.conf:1: DATABASE_URL=postgres://***@h/x: a control character; "
	                    "allowed: text of at most 4096 bytes");
	memset(text, 'x', sizeof(text));
	memcpy(text, "WEBHOOK_SECRET=", 15);
	text[2000] = '\0';
	assert_string_equal(refused("", (char *const[]){env, NULL}),
	                    "WEBHOOK_SECRET=***: too long; allowed: text of at most 1024 bytes");
	memcpy(text, "SERVICE_NAME==", 14);
	assert_true(strlen(refused("", (char *const[]){env, NULL})) < 200);
}

static void test_addresses(void **state)
{
	static const char *const good[] = {":1", "h:65535", "[::1]:80", "127.0.0.1:9"};
	static const char *const bad[] = {"h",     ":",    "h:0",    "h:65536", "::1:80",
	                                  "[]:80", "h:8x", "a b:80", "h:-1",    "h: 80"};
	char text[80];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(text, sizeof(text), "HEALTH_ENDPOINT=%s", good[i]);
		conf_free(load(text, NULL));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "HEALTH_ENDPOINT=%s", bad[i]);
		assert_non_null(strstr(refused(text, NULL), "allowed: HOST:PORT, "));
		snprintf(text, sizeof(text), "REDIS_ADDR=%s", bad[i]);
		assert_non_null(strstr(refused(text, NULL), "unix:/PATH"));
	}
	assert_non_null(refused("REDIS_ADDR=:6379", NULL));
	conf_free(load("REDIS_ADDR=unix:/run/redis.sock", NULL));
	/* Both spellings: the second wins, which is the application's matter. */
	conf_free(load("HEALTH_ENDPOINT=:1\nHEALTH_SERVER_PORT=2\nHEALTH_SERVER_HOST=h", NULL));
}

static void test_bytes_that_do_not_belong(void **state)
{
	struct conf *c = NULL;
	static char text[10000];

	(void)state;
	assert_int_equal(conf_load_text("f", str_n("HOST=a\0b\n", 9), NULL, &c, &info), ERR_INVAL);
	assert_string_equal(info.text, "f:1: a NUL byte");
	memset(text, '#', sizeof(text));
	assert_int_equal(conf_load_text("f", str_n(text, sizeof(text)), NULL, &c, &info),
	                 ERR_TOOBIG);
	assert_string_equal(info.text, "f:1: a line has at most 8192 bytes");
	memset(text, '\n', sizeof(text));
	assert_int_equal(conf_load_text("f", str_n(text, sizeof(text)), NULL, &c, &info), ERR_OK);
	conf_free(c);
}

static void write_file(const char *path, const char *text, size_t times)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	while (times-- > 0)
		assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void test_real_files(void **state)
{
	char path[] = "/tmp/weir-test-conf-XXXXXX";
	struct conf *c = NULL;
	char expected[100];

	(void)state;
	close(mkstemp(path));
	write_file(path, "PORT=81\n", 1);
	assert_int_equal(conf_load(path, NULL, &c, &info), ERR_OK);
	assert_int_equal(c->port, 81);
	conf_free(c);
	c = NULL;
	write_file(path, "PORT=x\n", 1);
	assert_int_equal(conf_load(path, NULL, &c, &info), ERR_INVAL);
	snprintf(expected, sizeof(expected), "%s:1: PORT=x", path);
	assert_memory_equal(info.text, expected, strlen(expected));
	write_file(path, "# comment\n", 110000);
	assert_int_equal(conf_load(path, NULL, &c, &info), ERR_TOOBIG);
	unlink(path);
	assert_int_equal(conf_load(path, NULL, &c, &info), ERR_NOTFOUND);
	assert_int_equal(conf_load("/", NULL, &c, &info), ERR_IO);
	assert_null(c);
	assert_int_equal(conf_load(NULL, NULL, &c, &info), ERR_OK);
	conf_free(c);
	conf_free(NULL);
}

/* --- reload --- */

static void test_reload(void **state)
{
	struct conf *c = load("LOG_LEVEL=info\nPORT=81\nWEBHOOK_SECRET=old\nHOST=a", NULL);
	struct conf *fresh = load("LOG_LEVEL=debug\nPORT=82\nWEBHOOK_SECRET=new\nHOST=b\n"
	                          "SHUTDOWN_DELAY=30s\nSHUTDOWN_GRACE=40s",
	                          NULL);
	struct buf names;

	(void)state;
	buf_init(&names, 1000);
	assert_int_equal(conf_apply_reload(c, fresh, &names), ERR_OK);
	assert_string_equal(names.ptr, "HOST, PORT");
	assert_string_equal(c->log_level, "debug");
	assert_string_equal(c->webhook_secret, "new");
	assert_int_equal(c->shutdown_delay, 30 * USEC_PER_SEC);
	assert_int_equal(c->port, 81);
	assert_string_equal(c->host, "a");
	assert_string_equal(fresh->webhook_secret, "new"); /* untouched */
	buf_done(&names);
	buf_init(&names, 3); /* no room for the names: nothing is applied */
	conf_free(fresh);
	fresh = load("LOG_LEVEL=warn", NULL);
	assert_int_equal(conf_apply_reload(c, fresh, &names), ERR_TOOBIG);
	assert_string_equal(c->log_level, "debug");
	buf_done(&names);
	conf_free(fresh);
	conf_free(c);
}

/* --- with failing allocations --- */

static void print_all(struct conf *c)
{
	struct buf text;

	buf_init(&text, 1 << 18);
	(void)!conf_print_default(&text);
	(void)!conf_dump(c, &text);
	(void)!conf_dump_json(c, &text);
	(void)!conf_print_markdown(&text);
	buf_done(&text);
}

static void scenario_conf(void)
{
	struct conf *c = NULL, *fresh = NULL;
	struct buf names;

	buf_init(&names, 1000);
	if (conf_load_text("f", STR_NONE, ENV("HOST=x", "REDIS_PASSWORD=y"), &c, &info) == ERR_OK &&
	    conf_load_text("f", str_of(secrets), NULL, &fresh, &info) == ERR_OK) {
		print_all(fresh);
		(void)!conf_apply_reload(c, fresh, &names);
		print_all(c);
	}
	conf_free(c);
	conf_free(fresh);
	buf_done(&names);
	c = NULL;
	if (conf_load_text("f", STR("DATABASE_URL=postgres://u:p@h\x01"), NULL, &c, &info) ==
	    ERR_OK)
		conf_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rows_are_complete),
	    cmocka_unit_test(test_every_member_has_a_row),
	    cmocka_unit_test(test_defaults_are_allowed),
	    cmocka_unit_test(test_values_print_and_read_back),
	    cmocka_unit_test(test_nonsense_is_refused_by_every_row),
	    cmocka_unit_test(test_print_default_is_a_file_of_defaults),
	    cmocka_unit_test(test_dumps_hide_secrets),
	    cmocka_unit_test(test_urls_are_masked),
	    cmocka_unit_test(test_markdown_has_every_setting),
	    cmocka_unit_test(test_defaults),
	    cmocka_unit_test(test_file_syntax),
	    cmocka_unit_test(test_environment_wins),
	    cmocka_unit_test(test_refusals_say_what_and_where),
	    cmocka_unit_test(test_refusals_hide_secrets),
	    cmocka_unit_test(test_addresses),
	    cmocka_unit_test(test_bytes_that_do_not_belong),
	    cmocka_unit_test(test_real_files),
	    cmocka_unit_test(test_reload),
	};
	const struct torture torture[] = {TORTURE(scenario_conf)};

	return TESTS_OR_TORTURE(tests, torture);
}
