/* weir serve: settings, tools, schema if asked for, then the loop until a signal ends it. */
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "weir/app/app.h"
#include "weir/app/connect.h"
#include "weir/app/connect_check.h"
#include "weir/app/migrate.h"
#include "weir/app/reload.h"
#include "weir/base/buf.h"
#include "weir/base/str.h"
#include "weir/cli/command.h"
#include "weir/io/pg_admin.h"
#include "weir/model/tool.h"
#include "weir/run/conf.h"
#include "weir/run/log.h"
#include "weir/run/secrecy.h"

#define RETRY_MSEC    200
#define CHECK_TIMEOUT (2 * USEC_PER_SEC)
#define WAIT_DEFAULT  (30 * USEC_PER_SEC)

struct serve {
	const char *file;
	bool migrate;
	usec_t wait_for;
};

static int exit_code(enum err e)
{
	if (e == ERR_OK)
		return CLI_DONE;
	if (e == ERR_INVAL || e == ERR_CONFLICT)
		return CLI_CONFIG;
	return e == ERR_UNAVAILABLE ? CLI_UNREACHABLE : CLI_FAILED;
}

static void on_migration(void *arg, const struct migration *m, enum migrate_step step, usec_t took)
{
	(void)arg;
	(void)step;
	log_info(LOG_APP, "migrated", LOG_STR("version", m->version), LOG_STR("name", m->name),
	         LOG_MSEC("took_ms", took));
}

/* The server may come up later than we do, and so may the database in it. */
static enum err open_within(const struct pg_options *o, usec_t wait_for, struct pg_admin **ret,
                            struct err_info *info)
{
	usec_t end = clock_mono() + wait_for;
	bool told = false;
	enum err e;

	while ((e = pg_admin_open(o, ret, info)) != ERR_OK && e != ERR_DENIED &&
	       clock_mono() < end) {
		if (!told)
			log_info(LOG_APP, "waiting for the database",
			         LOG_STR("reason", info->text));
		told = true;
		poll(NULL, 0, RETRY_MSEC);
	}
	return e;
}

static int migrate_first(const struct conf *c, usec_t wait_for)
{
	struct pg_options o;
	struct pg_admin *pg;
	struct err_info info = {0};
	enum err e;

	connect_pg_options(c, &o);
	e = open_within(&o, wait_for, &pg, &info);
	if (e != ERR_OK) {
		log_error(LOG_APP, "no database to migrate", LOG_STR("detail", info.text));
		return cli_open_failed(e);
	}
	e = migrate_up(pg, migrations, on_migration, NULL, &info);
	pg_admin_close(pg);
	if (e != ERR_OK)
		log_error(LOG_APP, "schema not brought up to date", LOG_STR("detail", info.text));
	return e == ERR_OK ? CLI_DONE : e == ERR_CONFLICT ? CLI_CONFIG : CLI_FAILED;
}

/* Lines, of what one look at the servers found. */
static void on_finding(void *arg, bool ok, bool fatal, const char *text)
{
	struct buf *faults = arg;

	(void)fatal;
	if (!ok)
		buf_addf(faults, "%s\n", text);
}

static size_t log_faults(const struct buf *faults)
{
	struct str rest = faults->len ? buf_str(faults) : STR_NONE;
	size_t n = 0;

	for (; rest.len; n++)
		log_error(LOG_APP, "not durable", LOG_SLICE("detail", str_split(&rest, '\n')));
	return n;
}

/* STRICT_DURABILITY: both servers must be there, and set up so that a crash loses no answered
 * event. One that is away is waited for; one that refuses us is not. */
static int check_durability(const struct conf *c, usec_t wait_for)
{
	usec_t end = clock_mono() + wait_for;
	bool told = false;
	struct buf faults;
	size_t count;
	enum err e;

	buf_init(&faults, 64 * 1024);
	for (;;) {
		buf_reset(&faults);
		e = connect_check_run(c, CHECK_TIMEOUT, on_finding, &faults);
		if (e == ERR_OK || e == ERR_INVAL || clock_mono() >= end)
			break;
		if (!told)
			log_info(LOG_APP, "STRICT_DURABILITY: waiting for the servers",
			         LOG_SLICE("reason", buf_str(&faults)));
		told = true;
	}
	count = log_faults(&faults);
	buf_done(&faults);
	if (e == ERR_OK && count == 0)
		return CLI_DONE;
	log_error(LOG_APP, "not serving",
	          LOG_STR("detail",
	                  e == ERR_OK ? "STRICT_DURABILITY=true: with each of the above a crash "
	                                "can lose answered events; put them right, or set "
	                                "STRICT_DURABILITY=false to be warned only"
	                              : "STRICT_DURABILITY=true: the servers could not be asked"));
	return e == ERR_OK ? CLI_CONFIG : cli_open_failed(e);
}

/* Not in a build for tests: the sanitizers look at the process from outside. */
static void hide_memory(const struct conf *c)
{
#ifdef WEIR_TEST
	(void)c;
#else
	if (!c->core_dumps && !secrecy_no_cores())
		log_warn(LOG_APP, "a crash may leave a core file, which would hold every secret",
		         LOG_STR("settings", "CORE_DUMPS"));
#endif
}

static void on_early_end(int signo)
{
	(void)signo;
	_exit(CLI_DONE);
}

/* Until the loop takes them over. Nothing was accepted yet, so there is nothing to end but the
 * process, also where it is the first of its container, whom the kernel's default does not end. A
 * reload waits: what it is about may have been read already. */
static void take_early_signals(void)
{
	const struct sigaction end = {.sa_handler = on_early_end};
	sigset_t set;

	(void)sigaction(SIGTERM, &end, NULL);
	(void)sigaction(SIGINT, &end, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
}

static int run(struct conf *c, struct tools *tools, const struct serve *s)
{
	struct app_options o = {
	    .conf = c, .tools = tools, .config_file = s->file, .wait_for = s->wait_for};
	struct err_info info = {0};
	enum err e;
	int rc;

	reload_apply_log(c);
	hide_memory(c);
	if (s->migrate) {
		rc = migrate_first(c, s->wait_for);
		if (rc != CLI_DONE)
			return rc;
	}
	rc = c->strict_durability ? check_durability(c, s->wait_for) : CLI_DONE;
	if (rc != CLI_DONE)
		return rc;
	e = app_run(&o, &info);
	if (e != ERR_OK)
		log_error(LOG_APP, "not serving", LOG_STR("detail", info.text));
	return exit_code(e);
}

static bool take_time(void *arg, const char *value)
{
	return str_to_usec(str_of(value), USEC_PER_SEC, arg) == ERR_OK;
}

int cmd_serve(const struct command *self, int argc, char **argv)
{
	struct serve s = {.wait_for = WAIT_DEFAULT};
	const struct cli_option options[] = {CLI_CONFIG_FILE(&s.file),
	                                     {.name = "migrate", .flag = &s.migrate},
	                                     {.name = "wait-for",
	                                      .value = "TIME",
	                                      .take = take_time,
	                                      .arg = &s.wait_for,
	                                      .must = "a duration like 30s"},
	                                     CLI_END};
	struct conf *c = NULL;
	struct tools *tools = NULL;
	int rc;

	if (!cli_parse(self, argc, argv, options, (struct cli_operands){0}, &rc))
		return rc;
	take_early_signals();
	rc = cli_load_conf(s.file, &c);
	if (rc == CLI_DONE)
		rc = cli_load_tools(c, &tools);
	if (rc == CLI_DONE)
		rc = run(c, tools, &s);
	tools_unref(tools);
	conf_free(c);
	return rc;
}
