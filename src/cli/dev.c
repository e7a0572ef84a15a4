/* weir dev: private Redis and Postgres, a migrated database, a served weir with a demo tool, and
 * the lines to try it with. This process only supervises: the served weir is the same binary in a
 * process of its own, so that what is tried here is what runs elsewhere. */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "weir/app/admin.h"
#include "weir/base/buf.h"
#include "weir/base/digest.h"
#include "weir/base/mem.h"
#include "weir/base/rnd.h"
#include "weir/base/str.h"
#include "weir/cli/command.h"
#include "weir/cli/dev.h"
#include "weir/io/http_call.h"

extern char **environ;

#define DEFAULT_DIR     ".weir"
#define SELF            "/proc/self/exe"
#define PORT            8000
#define HEALTH_PORT     8088
#define ADMIN_PORT      8081
#define PORTS_TRIED     200
#define MIGRATE_TIMEOUT (120 * USEC_PER_SEC)
#define READY_TIMEOUT   (60 * USEC_PER_SEC)
#define SERVE_GRACE     (35 * USEC_PER_SEC) /* above SHUTDOWN_GRACE */
#define POLL            (20 * USEC_PER_MSEC)

#define DEMO_TOOL   "demo"
#define DEMO_SECRET "weir-dev"
#define DEMO_BODY   "{\"zen\":\"Keep it logically awesome.\",\"hook_id\":1}"
#define DEMO_TOOLS                                 \
	"{ \"tools\": [\n  { \"id\": \"" DEMO_TOOL \
	"\", \"preset\": \"github\", \"secrets\": [\"" DEMO_SECRET "\"] }\n] }\n"

/* ---- settings of the served weir ---- */

static bool port_free(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	                        .sin_port = htons((uint16_t)port),
	                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok;

	if (fd < 0)
		return false;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	ok = bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
	close(fd);
	return ok;
}

/* A free port is bound only later, by the served weir, and with SO_REUSEPORT, so that two of us
 * could both be given it. Until then, and as long as this process lives, the port's claim is a name
 * that one socket only can have. It goes with the descriptor, which is never closed by hand. */
static bool claim_port(int port)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int len = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "weir-dev-port-%d", port);

	if (fd < 0)
		return false;
	/* The leading NUL makes the name abstract: it lies in no folder. */
	if (bind(fd, (struct sockaddr *)&name,
	         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) == 0 &&
	    port_free(port))
		return true;
	close(fd);
	return false;
}

/* The first free port from `first` on but none of ours; 0 when there is none. */
static int pick_port(const struct dev *d, int first)
{
	for (int p = first; p < first + PORTS_TRIED && p <= 65535; p++) {
		if (p == d->port || p == d->health_port || !claim_port(p))
			continue;
		if (p != first)
			printf("port %d is taken: using %d\n", first, p);
		return p;
	}
	cli_error("no free port from %d on", first);
	return 0;
}

static int pick_ports(struct dev *d)
{
	const char *wish = getenv("PORT");
	int64_t first = PORT;

	if (wish && str_to_int(str_of(wish), 1, 65535, &first) != ERR_OK) {
		cli_error("PORT=%s: must be 1 to 65535", wish);
		return CLI_CONFIG;
	}
	d->port = pick_port(d, (int)first);
	d->health_port = d->port ? pick_port(d, HEALTH_PORT) : 0;
	d->admin_port = d->health_port ? pick_port(d, ADMIN_PORT) : 0;
	return d->admin_port ? CLI_DONE : CLI_FAILED;
}

/* The demo's tools file is written once; from then on it is the user's. */
static int place_tools(struct dev *d)
{
	const char *given = getenv("TOOLS_FILE");
	char real[PATH_MAX];

	if (given && *given) {
		if (!realpath(given, real)) {
			cli_error("TOOLS_FILE=%s: %s", given, strerror(errno));
			return CLI_CONFIG;
		}
		return dev_path(d->tools, "%s", real) == ERR_OK ? CLI_DONE : CLI_FAILED;
	}
	d->own_tools = true;
	if (access(d->tools, F_OK) == 0)
		return CLI_DONE;
	return dev_write(d->tools, 0644, DEMO_TOOLS) == ERR_OK ? CLI_DONE : CLI_FAILED;
}

static int write_conf(struct dev *d)
{
	uint8_t random[(sizeof(d->admin_token) - 1) / 2];
	struct buf b;
	int rc = CLI_FAILED;

	rnd_bytes(random, sizeof(random));
	hex_encode(random, sizeof(random), d->admin_token);
	buf_init(&b, 64 * 1024);
	buf_addf(&b,
	         "# Written by `weir dev` at each start.\n"
	         "HOST=127.0.0.1\nPORT=%d\nHEALTH_ENDPOINT=127.0.0.1:%d\n",
	         d->port, d->health_port);
	buf_addf(&b, "DATABASE_HOST=%s\nDATABASE_PORT=5432\nDATABASE_NAME=weir\n", d->sockets);
	buf_addf(&b, "DATABASE_USER=weir\nREDIS_ADDR=unix:%s/redis.sock\n", d->sockets);
	buf_addf(&b, "TOOLS_FILE=%s\nSHUTDOWN_DELAY=0s\n", d->tools);
	buf_addf(&b, "ADMIN_ADDR=127.0.0.1:%d\nADMIN_TOKEN=%s\n", d->admin_port, d->admin_token);
	/* Only who runs this may read the token. */
	if (b.err == ERR_OK && dev_write(d->conf, 0600, b.ptr) == ERR_OK)
		rc = CLI_DONE;
	buf_done(&b);
	return rc;
}

/* The caller's environment without what names servers: the file says that here. */
static bool is_ours(const char *entry)
{
	static const char *const prefixes[] = {
	    "DATABASE_",   "REDIS_ADDR=",     "REDIS_DB=", "REDIS_PASSWORD=", "REDIS_USERNAME=",
	    "REDIS_TLS_",  "HEALTH_",         "PG",        "HOST=",           "PORT=",
	    "TOOLS_FILE=", "SHUTDOWN_DELAY=", "ADMIN_"};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncmp(entry, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static const char **serve_env(void)
{
	const char **env;
	size_t n = 0, kept = 0;

	while (environ[n])
		n++;
	env = mem_array(n + 1, sizeof(*env));
	for (size_t i = 0; env && i < n; i++)
		if (!is_ours(environ[i]))
			env[kept++] = environ[i];
	return env;
}

static int migrate(struct dev *d, const char *const *env)
{
	const char *argv[] = {"weir", "migrate", "up", "--config", d->conf, NULL};
	struct dev_spawn s = {.path = SELF, .argv = argv, .env = env};
	char log[DEV_PATH];

	if (dev_path(log, "%s/migrate.log", d->dir) != ERR_OK)
		return CLI_FAILED;
	return dev_child_run(d, "weir migrate up", log, &s, MIGRATE_TIMEOUT);
}

/* ---- serving ---- */

static int exit_code(const struct dev_child *c)
{
	return WIFEXITED(c->status) ? WEXITSTATUS(c->status) : CLI_FAILED;
}

static bool is_ready(const struct dev *d)
{
	char url[64];
	struct http_call call = {.method = "GET", .url = url, .timeout = USEC_PER_SEC};
	struct buf answer;
	int status = 0;
	bool ok;

	snprintf(url, sizeof(url), "http://127.0.0.1:%d/health/ready", d->health_port);
	buf_init(&answer, 64 * 1024);
	ok = http_call_run(&call, &status, &answer, NULL) == ERR_OK && status == 200;
	buf_done(&answer);
	return ok;
}

static int start_serve(struct dev *d, const char *const *env)
{
	const char *argv[] = {"weir", "serve", "--config", d->conf, NULL};
	struct dev_spawn s = {.path = SELF, .argv = argv, .env = env};
	usec_t end = clock_mono() + READY_TIMEOUT;

	if (dev_child_start(d, &d->serve, &s) != ERR_OK)
		return CLI_FAILED;
	while (!is_ready(d)) {
		if (dev_child_reap(&d->serve)) {
			dev_child_explain(&d->serve);
			return d->serve.status == 0 ? CLI_FAILED : exit_code(&d->serve);
		}
		if (clock_mono() >= end) {
			cli_error("weir is not ready after %d s",
			          (int)(READY_TIMEOUT / USEC_PER_SEC));
			return CLI_FAILED;
		}
		if (dev_wait(POLL) == DEV_STOP)
			return CLI_FAILED;
	}
	return CLI_DONE;
}

static void print_curl(const struct dev *d)
{
	struct str body = STR(DEMO_BODY);
	uint8_t mac[DIGEST_MAX_LEN];
	char hex[2 * DIGEST_MAX_LEN + 1];
	struct hmac *h;

	if (hmac_new(DIGEST_SHA256, STR(DEMO_SECRET), &h) != ERR_OK)
		return;
	if (hmac_parts(h, &body, 1, mac) == ERR_OK) {
		hex_encode(mac, digest_len(DIGEST_SHA256), hex);
		printf("  curl -i http://127.0.0.1:%d/webhooks/" DEMO_TOOL " \\\n"
		       "    -H 'Content-Type: application/json' -H 'X-GitHub-Event: ping' \\\n"
		       "    -H \"X-GitHub-Delivery: $(date +%%s%%N)\" \\\n"
		       "    -H 'X-Hub-Signature-256: sha256=%s' \\\n"
		       "    -d '" DEMO_BODY "'\n\n",
		       d->port, hex);
	}
	hmac_free(h);
}

static void print_welcome(const struct dev *d, usec_t took)
{
	printf("\nweir is ready after %d.%d s: http://127.0.0.1:%d/webhooks/{tool}, "
	       "http://127.0.0.1:%d/health\n\nSend a first event:\n\n",
	       (int)(took / USEC_PER_SEC), (int)(took / 100 / USEC_PER_MSEC % 10), d->port,
	       d->health_port);
	if (d->own_tools)
		print_curl(d);
	printf("  %s send-test %s --config ", program_invocation_name,
	       d->own_tools ? DEMO_TOOL : "TOOL");
	cli_print_word(d->shown);
	printf("/weir.conf\n\nAdmin API: http://127.0.0.1:%d" ADMIN_TOOLS
	       "  token: %s\n\n  %s tools list --config ",
	       d->admin_port, d->admin_token, program_invocation_name);
	cli_print_word(d->shown);
	printf("/weir.conf\n\nSee it:\n\n  psql -h %s -U weir weir -c \"SELECT received_at, tool, "
	       "event_type, event_id, weir.body_json(body) FROM weir.events ORDER BY received_at "
	       "DESC LIMIT 5\"\n\nCtrl-C stops everything; %s ",
	       d->sockets, d->ephemeral ? "nothing is kept of" : "data stays in");
	cli_print_word(d->shown);
	printf("\n\n");
	fflush(stdout);
}

/* Until somebody wants an end or a child dies. */
static int supervise(struct dev *d)
{
	struct dev_child *servers[] = {&d->redis, &d->postgres};

	for (;;) {
		if (dev_wait(USEC_PER_SEC) == DEV_STOP)
			return CLI_DONE;
		for (size_t i = 0; i < 2; i++) {
			if (!dev_child_reap(servers[i]))
				continue;
			dev_child_explain(servers[i]);
			return CLI_FAILED;
		}
		if (dev_child_reap(&d->serve)) {
			dev_child_explain(&d->serve);
			return exit_code(&d->serve);
		}
	}
}

static int run(struct dev *d, const char *dir)
{
	usec_t start = clock_mono();
	const char **env = NULL;
	int rc = dev_dir_open(d, dir);

	if (rc == CLI_DONE)
		rc = dev_servers_find(d);
	if (rc == CLI_DONE)
		rc = dev_dir_sweep(d);
	if (rc == CLI_DONE)
		rc = pick_ports(d);
	if (rc == CLI_DONE)
		rc = place_tools(d);
	if (rc == CLI_DONE)
		rc = write_conf(d);
	if (rc == CLI_DONE)
		rc = dev_servers_start(d);
	if (rc == CLI_DONE) {
		env = serve_env();
		rc = env ? migrate(d, env) : CLI_FAILED;
	}
	if (rc == CLI_DONE)
		rc = start_serve(d, env);
	if (rc == CLI_DONE) {
		print_welcome(d, clock_mono() - start);
		rc = supervise(d);
	}
	mem_free(env);
	return rc;
}

int cmd_dev(const struct command *self, int argc, char **argv)
{
	struct dev d = {.lock_fd = -1};
	const char *dir = NULL;
	bool ephemeral = false, ran;
	const struct cli_option options[] = {{.name = "dir", .value = "DIR", .text = &dir},
	                                     {.name = "ephemeral", .flag = &ephemeral},
	                                     CLI_END};
	int rc;

	if (!cli_parse(self, argc, argv, options, (struct cli_operands){0}, &rc))
		return rc;
	if (dir && ephemeral)
		return cli_usage(self, "--dir names a folder to keep, --ephemeral removes it");
	dev_children_init(&d);
	dev_signals_init();
	rc = run(&d, ephemeral ? NULL : dir ? dir : DEFAULT_DIR);
	ran = d.serve.pid != 0;
	dev_child_stop(&d.serve, SERVE_GRACE);
	dev_servers_stop(&d);
	if (rc == CLI_DONE && ran)
		rc = exit_code(&d.serve);
	dev_dir_close(&d);
	return rc;
}
