/* The Postgres adapter with each allocation failing in turn: it may refuse or retry, but
 * completions come exactly once and nothing is left behind. libpq's own memory is not ours to fail.
 */
#include "torture.h"

#include "pg_server.h"
#include "weir/app/migrate.h"
#include "weir/base/buf.h"
#include "weir/io/pg_admin.h"
#include "weir/io/resolver.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"

#define GIVE_UP (10 * USEC_PER_SEC)

static struct pg_server server;

struct scene {
	struct loop *loop;
	struct loop_timer give_up;
	int open, fired;
};

static void on_give_up(void *arg)
{
	loop_stop(((struct scene *)arg)->loop);
}

static void on_done(void *arg, enum err err, const struct pg_outcome *outcome)
{
	struct scene *s = arg;

	(void)err;
	(void)outcome;
	s->fired++;
	if (s->fired == s->open)
		loop_stop(s->loop);
}

static void submit_all(struct scene *s, struct pg_pool *p)
{
	static const struct pg_stmt stmts[] = {
	    {.name = "one", .sql = "SELECT 1"},
	    {.name = "two", .sql = "SELECT $1::int8", .param_count = 1, .types = {PG_INT8}},
	    {.name = "bad", .sql = "SELECT 1 FROM nowhere"}};
	static const struct pg_param param = {"\0\0\0\0\0\0\0\1", 8};
	static const struct pg_call calls[] = {
	    {&stmts[0], &param}, {&stmts[1], &param}, {&stmts[1], &param}, {&stmts[2], &param}};

	for (size_t n = 1; n <= 4; n++)
		s->open += pg_submit(p, calls, n, 0, on_done, s) == ERR_OK;
}

static void use_pool(struct scene *s, const struct pg_options *o)
{
	struct resolver *res = NULL;
	struct pg_pool *p;

	if (resolver_new(s->loop, &res) != ERR_OK)
		return;
	if (pg_pool_new(s->loop, res, o, &p) == ERR_OK) {
		pg_pool_start(p);
		submit_all(s, p);
		loop_timer_set(&s->give_up, GIVE_UP);
		if (s->open && loop_run(s->loop) != ERR_OK)
			fail();
		assert_int_equal(s->fired, s->open); /* all, in time */
		submit_all(s, p);
		pg_pool_free(p);
		assert_int_equal(s->fired, s->open);
	}
	resolver_free(res);
}

static void run_scene(const struct pg_options *o)
{
	struct scene s = {0};

	if (loop_new(&s.loop) != ERR_OK)
		return;
	if (loop_timer_init(&s.give_up, s.loop, on_give_up, &s) == ERR_OK) {
		use_pool(&s, o);
		loop_timer_done(&s.give_up);
	}
	loop_free(s.loop);
}

static void scenario_pool(void)
{
	struct pg_options o = pg_server_options(&server);

	if (server.pid)
		run_scene(&o);
}

/* A name, an address where nobody listens, and then the server. */
static void scenario_hosts(void)
{
	char url[256];
	struct pg_options o = {.url = url, .size = 1, .application_name = "torture"};

	snprintf(url, sizeof(url),
	         "postgres://weir:secret@/postgres?host=localhost,127.0.0.1,%s&port=1,1,5432",
	         server.dir);
	if (server.pid)
		run_scene(&o);
}

static void on_migration(void *arg, const struct migration *m, enum migrate_step step, usec_t took)
{
	(void)arg;
	(void)m;
	(void)step;
	(void)took;
}

static void scenario_migrate(void)
{
	struct pg_options o = pg_server_options(&server);
	struct err_info info;
	struct pg_admin *a;

	if (!server.pid || pg_admin_open(&o, &a, &info) != ERR_OK)
		return;
	if (migrate_up(a, migrations, on_migration, NULL, &info) == ERR_OK)
		(void)!migrate_down(a, migrations, NULL, on_migration, NULL, &info);
	pg_admin_close(a);
}

static void test_in_peace(void **state)
{
	(void)state;
	if (!server.pid)
		skip();
	scenario_pool();
	scenario_migrate();
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_in_peace)};
	const struct torture torture[] = {TORTURE(scenario_pool), TORTURE(scenario_hosts),
	                                  TORTURE(scenario_migrate)};
	int rc;

	if (log_set_levels("error", NULL) != ERR_OK)
		return 2;
	(void)pg_server_start(&server);
	rc = TESTS_OR_TORTURE(tests, torture);
	pg_server_remove(&server);
	return rc;
}
