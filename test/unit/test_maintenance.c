/* The schema's maintenance on a real Postgres. */
#include "pipeline_rig.h"

#include "weir/schedule/maintenance.h"

struct care {
	struct maintenance *m;
	struct metric *ok, *errors, *horizon, *generation;
};

static struct care care;

static enum err care_new(struct rig *r)
{
	struct maintenance_options o = {.loop = r->loop,
	                                .pool = r->s.pool,
	                                .metrics = r->metrics,
	                                .dedup_days = 3,
	                                .retention_days = 30,
	                                .interval = 600 * USEC_PER_SEC};
	const struct metric_spec runs = {.type = METRIC_COUNTER,
	                                 .name = "webhook_maintenance_runs_total",
	                                 .labels = {"outcome"}};
	const struct metric_spec horizon = {.type = METRIC_GAUGE,
	                                    .name = "webhook_partition_horizon_seconds"};
	const struct metric_spec generation = {.type = METRIC_GAUGE,
	                                       .name = "webhook_key_generation"};
	enum err e = maintenance_new(&o, &care.m);

	if (e != ERR_OK)
		return e;
	care.ok = metric_of(metric_family(r->metrics, &runs), "ok", NULL, NULL);
	care.errors = metric_of(metric_family(r->metrics, &runs), "error", NULL, NULL);
	care.horizon = metric_single(r->metrics, &horizon);
	care.generation = metric_single(r->metrics, &generation);
	return ERR_OK;
}

/* The gauge is worked out when somebody looks. */
static double horizon_days(struct rig *r)
{
	struct buf page;

	buf_init(&page, 1 << 20);
	assert_int_equal(metric_render(r->metrics, &page), ERR_OK);
	buf_done(&page);
	return metric_get(care.horizon) / 86400;
}

static bool ran(struct rig *r)
{
	return metric_get(care.ok) + metric_get(care.errors) >= (double)r->want;
}

static int setup_care(void **state)
{
	int failed = setup(state);

	if (failed || !*state)
		return failed;
	return care_new(*state) != ERR_OK;
}

static int teardown_care(void **state)
{
	struct rig *r = *state;

	if (r) {
		maintenance_stop(care.m);
		pg_pool_free(r->s.pool);
		r->s.pool = NULL;
		maintenance_free(care.m);
	}
	return teardown(state);
}

#define CARE_TEST(f) cmocka_unit_test_setup_teardown(f, setup_care, teardown_care)

static void drop_partitions(struct rig *r, int from, int to)
{
	char text[256];

	for (int day = from; day <= to; day++) {
		snprintf(text, sizeof(text),
		         "DO $$ BEGIN EXECUTE 'DROP TABLE IF EXISTS weir.events_' ||"
		         " to_char((now() AT TIME ZONE 'UTC')::date + %d, 'YYYYMMDD'); END $$",
		         day);
		sql(r, text);
	}
}

static const char count_partitions[] =
    "SELECT count(*) FROM pg_inherits WHERE inhparent = 'weir.events'::regclass";

static void test_makes_what_is_missing(void **state)
{
	struct rig *r = rig_of(state);
	double days;

	NEED_SERVER();
	drop_partitions(r, 0, 7);
	assert_int_equal(number(r, count_partitions), 0);
	assert_true(horizon_days(r) == 0);
	maintenance_start(care.m);
	maintenance_start(care.m); /* does nothing */
	r->want = 1;
	assert_true(turn_until(r, ran, LONG_MSEC));
	assert_int_equal(number(r, count_partitions), 8);
	days = horizon_days(r);
	assert_true(days > 7 && days <= 8);
	assert_false(turn_until(r, never, 30));
	assert_int_equal(metric_get(care.ok), 1);
}

static void test_run_now_and_gaps(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	maintenance_run_now(care.m); /* before the start: nothing */
	maintenance_start(care.m);
	r->want = 1;
	assert_true(turn_until(r, ran, LONG_MSEC));
	drop_partitions(r, 2, 2);
	maintenance_run_now(care.m);
	r->want = 2;
	assert_true(turn_until(r, ran, LONG_MSEC));
	assert_int_equal(number(r, count_partitions), 8);

	/* Asked for in the middle of a run: one more after it, not two. */
	maintenance_run_now(care.m);
	(void)turn_until(r, never, 1);
	maintenance_run_now(care.m);
	maintenance_run_now(care.m);
	(void)turn_until(r, never, 300);
	assert_in_range((size_t)metric_get(care.ok), 3, 4);
}

static void test_starts_generations(void **state)
{
	struct rig *r = rig_of(state);
	double before;

	NEED_SERVER();
	maintenance_start(care.m);
	r->want = 1;
	assert_true(turn_until(r, ran, LONG_MSEC));
	before = metric_get(care.generation);
	sql(r, "UPDATE weir.event_key_generation SET started_at = now() - interval '3 days 1 min'");
	maintenance_run_now(care.m);
	r->want = 2;
	assert_true(turn_until(r, ran, LONG_MSEC));
	assert_int_equal(metric_get(care.generation), before + 1);
}

/* The keys are cared for although the partitions cannot be. */
static void test_one_part_fails(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	sql(r, "ALTER FUNCTION weir.ensure_event_partitions(int) RENAME TO hidden;"
	       "UPDATE weir.event_key_generation SET current = 6, started_at = now() - interval '4 "
	       "d'");
	maintenance_start(care.m);
	r->want = 1;
	assert_true(turn_until(r, ran, LONG_MSEC));
	sql(r, "ALTER FUNCTION weir.hidden(int) RENAME TO ensure_event_partitions");
	assert_int_equal(metric_get(care.errors), 1);
	assert_int_equal(metric_get(care.generation), 7);
}

static void test_stop_in_a_run(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	assert_true(turn_until(r, is_up, LONG_MSEC));
	maintenance_start(care.m);
	(void)turn_until(r, never, 1);
	maintenance_stop(care.m);
	maintenance_stop(care.m);
	(void)turn_until(r, never, 200);
	assert_true(metric_get(care.ok) + metric_get(care.errors) <= 1);
}

static void scenario_maintenance(void)
{
	static struct rig r;

	if (!server.pid || rig_new(&r, &plain) != ERR_OK)
		return;
	if (care_new(&r) == ERR_OK) {
		maintenance_start(care.m);
		r.want = 1;
		(void)turn_until(&r, ran, 300);
		maintenance_stop(care.m);
		pg_pool_free(r.s.pool);
		r.s.pool = NULL;
		maintenance_free(care.m);
	}
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CARE_TEST(test_makes_what_is_missing), CARE_TEST(test_run_now_and_gaps),
	    CARE_TEST(test_starts_generations),    CARE_TEST(test_one_part_fails),
	    CARE_TEST(test_stop_in_a_run),
	};
	const struct torture torture[] = {TORTURE(scenario_maintenance)};

	if (!quiet_log("error"))
		return 2;
	return TESTS_OR_TORTURE_BETWEEN(tests, torture, start_server, stop_server);
}
