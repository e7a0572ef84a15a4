/* weir migrate: the schema forward, back, or how it stands. */
#include <stdio.h>
#include <string.h>

#include "weir/app/connect.h"
#include "weir/app/migrate.h"
#include "weir/base/buf.h"
#include "weir/cli/command.h"
#include "weir/io/pg_admin.h"
#include "weir/run/conf.h"
#include "weir/run/log.h"

struct request {
	const char *verb;   /* up, status or down */
	const char *config; /* may be NULL */
	const char *to;     /* may be NULL */
	bool json;
	bool yes; /* down may drop what is stored */
};

struct progress {
	bool json;
	size_t count, pending, unknown;
};

static void print_row(struct progress *p, const struct migration *m, const char *state, usec_t took)
{
	struct buf b;

	if (!p->json) {
		printf("%-8s %s%s%s", state, m->version, *m->name ? "_" : "", m->name);
		if (took)
			printf(" (%.0f ms)", (double)took / USEC_PER_MSEC);
		putchar('\n');
		return;
	}
	buf_init(&b, 4096);
	(void)buf_add_cstr(&b, "{\"version\":");
	(void)buf_add_json(&b, str_of(m->version));
	(void)buf_add_cstr(&b, ",\"name\":");
	(void)buf_add_json(&b, str_of(m->name));
	(void)buf_addf(&b, ",\"state\":\"%s\"}", state);
	printf("%s%s", p->count ? "," : "", b.ptr ? b.ptr : "");
	buf_done(&b);
}

static void on_migration(void *arg, const struct migration *m, enum migrate_step step, usec_t took)
{
	static const char *const states[] = {[MIGRATE_APPLIED] = "applied",
	                                     [MIGRATE_REVERTED] = "reverted",
	                                     [MIGRATE_PENDING] = "pending",
	                                     [MIGRATE_UNKNOWN] = "unknown"};
	struct progress *p = arg;

	print_row(p, m, states[step], took);
	fflush(stdout); /* somebody watches */
	p->count++;
	p->pending += step == MIGRATE_PENDING;
	p->unknown += step == MIGRATE_UNKNOWN;
}

static enum err run(const struct request *r, struct pg_admin *a, struct progress *p,
                    struct err_info *info)
{
	if (strcmp(r->verb, "up") == 0)
		return migrate_up(a, migrations, on_migration, p, info);
	if (strcmp(r->verb, "down") == 0)
		return migrate_down(a, migrations, r->to, on_migration, p, info);
	return migrate_status(a, migrations, on_migration, p, info);
}

static int conclude(const struct request *r, const struct progress *p)
{
	bool status = strcmp(r->verb, "status") == 0;

	if (!r->json && !status && p->count == 0)
		printf("%s\n", strcmp(r->verb, "up") == 0 ? "nothing to do, the schema is current"
		                                          : "nothing to take back");
	if (!r->json && p->unknown)
		printf("%s\n", migrate_state_advice(MIGRATE_NEWER));
	return status && (p->pending || p->unknown) ? CLI_FAILED : CLI_DONE;
}

static int connect_and_run(const struct request *r, const struct conf *c)
{
	struct progress p = {.json = r->json};
	struct err_info info = {0};
	struct pg_options o;
	struct pg_admin *a = NULL;
	enum err err;

	connect_pg_options(c, &o);
	err = pg_admin_open(&o, &a, &info);
	if (err != ERR_OK) {
		cli_error("Postgres: %s", info.text);
		return cli_open_failed(err);
	}
	if (r->json)
		putchar('[');
	err = run(r, a, &p, &info);
	if (r->json)
		printf("]\n");
	pg_admin_close(a);
	if (err != ERR_OK) {
		cli_error("%s", info.text);
		return err == ERR_CLOSED ? CLI_UNREACHABLE : CLI_FAILED;
	}
	return conclude(r, &p);
}

static int perform(const struct request *r)
{
	struct conf *c = NULL;
	int rc;

	if (log_set_levels("error", NULL) != ERR_OK)
		return CLI_FAILED;
	rc = cli_load_conf(r->config, &c);
	if (rc == CLI_DONE)
		rc = connect_and_run(r, c);
	conf_free(c);
	return rc;
}

static bool is_verb(const char *s)
{
	return strcmp(s, "up") == 0 || strcmp(s, "status") == 0 || strcmp(s, "down") == 0;
}

int cmd_migrate(const struct command *self, int argc, char **argv)
{
	static const struct cli_operands verb = {1, 1, "say up, status or down"};
	struct request r = {0};
	const struct cli_option options[] = {CLI_CONFIG_FILE(&r.config),
	                                     {.name = "to", .value = "VERSION", .text = &r.to},
	                                     {.name = "yes", .flag = &r.yes},
	                                     CLI_OUTPUT(&r.json),
	                                     CLI_END};
	int rc;
	char **args = cli_parse(self, argc, argv, options, verb, &rc);

	if (!args)
		return rc;
	if (!is_verb(args[0]))
		return cli_usage(self, "there is no '%s': %s", args[0], verb.text);
	r.verb = args[0];
	if ((r.to || r.yes) && strcmp(r.verb, "down") != 0)
		return cli_usage(self, "%s goes with down", r.to ? "--to" : "--yes");
	if (strcmp(r.verb, "down") == 0 && !r.yes)
		return cli_usage(self, "down drops tables with all events in them; to do that, say "
		                       "--yes (first look at what is stored, and back it up)");
	return perform(&r);
}
