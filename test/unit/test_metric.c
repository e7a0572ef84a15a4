/* Exact text for small cases, and what bounds a registry. */
#include "torture.h"

#include <math.h>

#include "weir/run/metric.h"

static struct metric_registry *registry;
static struct buf out;

static int set_up(void **state)
{
	(void)state;
	buf_init(&out, 1 << 20);
	assert_int_equal(metric_registry_new(&registry), ERR_OK);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	metric_registry_free(registry);
	buf_done(&out);
	return 0;
}

static void assert_text(const char *expected)
{
	buf_reset(&out);
	assert_int_equal(metric_render(registry, &out), ERR_OK);
	assert_string_equal(out.len ? out.ptr : "", expected);
}

static const struct metric_spec requests = {.type = METRIC_COUNTER,
                                            .name = "requests_total",
                                            .help = "Requests.",
                                            .labels = {"tool_id", "outcome"}};
static const struct metric_spec depth = {
    .type = METRIC_GAUGE, .name = "queue_depth", .help = "Entries\nthat \\wait."};

static void test_counters_and_gauges(void **state)
{
	struct metric_family *f = metric_family(registry, &requests);
	struct metric *gauge = metric_single(registry, &depth);
	struct metric *m = metric_of(f, "github", "accepted", NULL);

	(void)state;
	metric_inc(m);
	metric_add(m, 2);
	metric_add(m, -1); /* a counter never goes back */
	metric_add(m, NAN);
	metric_inc(metric_child(f, (struct str[]){STR("stripe"), STR("timeout")}));
	assert_ptr_equal(metric_of(f, "github", "accepted", NULL), m);
	metric_set(gauge, 1.5);
	metric_add(gauge, -2);
	assert_true(metric_get(m) == 3);
	assert_true(metric_get(gauge) == -0.5);
	assert_text("# HELP requests_total Requests.\n"
	            "# TYPE requests_total counter\n"
	            "requests_total{tool_id=\"github\",outcome=\"accepted\"} 3\n"
	            "requests_total{tool_id=\"stripe\",outcome=\"timeout\"} 1\n"
	            "# HELP queue_depth Entries\\nthat \\\\wait.\n"
	            "# TYPE queue_depth gauge\n"
	            "queue_depth -0.5\n");
}

static void test_histogram(void **state)
{
	const struct metric_spec spec = {.type = METRIC_HISTOGRAM,
	                                 .name = "took_seconds",
	                                 .help = "Time.",
	                                 .labels = {"step"},
	                                 .buckets = (const double[]){0.005, 0.1, 2},
	                                 .bucket_count = 3};
	struct metric *m = metric_of(metric_family(registry, &spec), "a", NULL, NULL);

	(void)state;
	metric_observe(m, 0.001);
	metric_observe(m, 0.005); /* bounds belong to their bucket */
	metric_observe_n(m, 0.5, 10);
	metric_observe(m, 99);
	metric_observe(m, NAN);
	assert_int_equal(metric_count(m), 13);
	assert_text("# HELP took_seconds Time.\n"
	            "# TYPE took_seconds histogram\n"
	            "took_seconds_bucket{step=\"a\",le=\"0.005\"} 2\n"
	            "took_seconds_bucket{step=\"a\",le=\"0.1\"} 2\n"
	            "took_seconds_bucket{step=\"a\",le=\"2\"} 12\n"
	            "took_seconds_bucket{step=\"a\",le=\"+Inf\"} 13\n"
	            "took_seconds_sum{step=\"a\"} 104.006\n"
	            "took_seconds_count{step=\"a\"} 13\n");
}

/* Whatever was observed before. */
static void test_histogram_in_any_order(void **state)
{
	static const double values[] = {0.005, 0.1, 2, 0.0049, 0.05, 0.1001, 2.1, 99, 0};
	enum { N = sizeof(values) / sizeof(values[0]) };
	const struct metric_spec spec = {.type = METRIC_HISTOGRAM,
	                                 .name = "took_seconds",
	                                 .help = "Time.",
	                                 .buckets = (const double[]){0.005, 0.1, 2},
	                                 .bucket_count = 3};
	struct metric *m = metric_single(registry, &spec);

	(void)state;
	for (size_t first = 0; first < N; first++)
		for (size_t then = 0; then < N; then++) {
			metric_observe(m, values[first]);
			metric_observe(m, values[then]);
		}
	assert_int_equal(metric_render(registry, &out), ERR_OK);
	assert_non_null(strstr(out.ptr, "took_seconds_bucket{le=\"0.005\"} 54\n"
	                                "took_seconds_bucket{le=\"0.1\"} 90\n"
	                                "took_seconds_bucket{le=\"2\"} 126\n"
	                                "took_seconds_bucket{le=\"+Inf\"} 162\n"));
}

static void test_histogram_without_labels(void **state)
{
	const struct metric_spec spec = {
	    .type = METRIC_HISTOGRAM, .name = "turn_seconds", .help = "Turns."};
	struct metric *m = metric_single(registry, &spec);

	(void)state;
	metric_observe(m, 0.25);
	assert_int_equal(metric_render(registry, &out), ERR_OK);
	assert_non_null(strstr(out.ptr, "turn_seconds_bucket{le=\"0.1\"} 0\n"
	                                "turn_seconds_bucket{le=\"0.25\"} 1\n"));
	assert_non_null(strstr(out.ptr, "turn_seconds_bucket{le=\"60\"} 1\n"
	                                "turn_seconds_bucket{le=\"+Inf\"} 1\n"
	                                "turn_seconds_sum 0.25\nturn_seconds_count 1\n"));
}

static void test_numbers(void **state)
{
	struct metric *m = metric_single(registry, &depth);
	static const struct {
		double v;
		const char *text;
	} cases[] = {{0, "0"},
	             {1e15, "1000000000000000"},
	             {12345678901, "12345678901"},
	             {0.1, "0.1"},
	             {-7, "-7"},
	             {1e300, "1e+300"},
	             {INFINITY, "+Inf"},
	             {-INFINITY, "-Inf"},
	             {NAN, "NaN"}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char expected[64];

		metric_set(m, cases[i].v);
		buf_reset(&out);
		assert_int_equal(metric_render(registry, &out), ERR_OK);
		snprintf(expected, sizeof(expected), "\nqueue_depth %s\n", cases[i].text);
		assert_non_null(strstr(out.ptr, expected));
	}
}

static void test_label_values_are_escaped(void **state)
{
	struct metric_family *f = metric_family(registry, &requests);
	char big[400];

	(void)state;
	metric_inc(metric_of(f, "a\"b\\c\nd", "grüße", NULL));
	metric_inc(metric_of(f, "\xff\xe9", "", NULL));
	/* The same once read as Latin-1: one series, not two that render alike. */
	assert_ptr_equal(metric_of(f, "\xff\xe9", "", NULL), metric_of(f, "ÿé", "", NULL));
	assert_ptr_not_equal(metric_of(f, "a\",b=\"", "", NULL), metric_of(f, "a", ",b=", NULL));
	memset(big, 'x', sizeof(big));
	memcpy(big + 127, "é", 2);
	metric_inc(metric_child(f, (struct str[]){str_n(big, sizeof(big)), STR("cut")}));
	assert_int_equal(metric_render(registry, &out), ERR_OK);
	assert_true(str_is_utf8(buf_str(&out)));
	assert_non_null(strstr(out.ptr, "{tool_id=\"a\\\"b\\\\c\\nd\",outcome=\"grüße\"} 1\n"));
	assert_non_null(strstr(out.ptr, "{tool_id=\"ÿé\",outcome=\"\"} 1\n"));
	assert_non_null(strstr(out.ptr, "xxx\",outcome=\"cut\"} 1\n"));
}

/* --- bounds --- */

static const struct metric_spec events = {.type = METRIC_COUNTER,
                                          .name = "events_total",
                                          .help = "Events.",
                                          .labels = {"tool_id", "event_type"},
                                          .max_children = 3};

static struct metric *numbered(struct metric_family *f, const char *tool, int n)
{
	char type[32];

	snprintf(type, sizeof(type), "type-%d", n);
	return metric_of(f, tool, type, NULL);
}

static void test_a_chatty_tool_overflows_alone(void **state)
{
	struct metric_family *f = metric_family(registry, &events);

	(void)state;
	for (int i = 0; i < 10; i++)
		metric_inc(numbered(f, "loud", i));
	for (int i = 0; i < 3; i++)
		metric_inc(numbered(f, "calm", i));
	metric_inc(numbered(f, "loud", 1)); /* known before: still itself */
	assert_text("# HELP events_total Events.\n# TYPE events_total counter\n"
	            "events_total{tool_id=\"loud\",event_type=\"type-0\"} 1\n"
	            "events_total{tool_id=\"loud\",event_type=\"type-1\"} 2\n"
	            "events_total{tool_id=\"loud\",event_type=\"type-2\"} 1\n"
	            "events_total{tool_id=\"loud\",event_type=\"other\"} 7\n"
	            "events_total{tool_id=\"calm\",event_type=\"type-0\"} 1\n"
	            "events_total{tool_id=\"calm\",event_type=\"type-1\"} 1\n"
	            "events_total{tool_id=\"calm\",event_type=\"type-2\"} 1\n");
}

static void test_a_family_is_bounded(void **state)
{
	struct metric_family *f = metric_family(registry, &events);
	unsigned lines = 0;

	(void)state;
	for (int i = 0; i < 2000; i++) {
		char tool[32];

		snprintf(tool, sizeof(tool), "tool-%d", i);
		for (int j = 0; j < 5; j++)
			metric_inc(numbered(f, tool, j));
	}
	assert_int_equal(metric_render(registry, &out), ERR_OK);
	for (const char *p = out.ptr; (p = strchr(p, '\n')); p++)
		lines++;
	assert_in_range(lines, 20, 2 + 20 * 3 + 2);
	assert_non_null(strstr(out.ptr, "{tool_id=\"other\",event_type=\"other\"} "));
	/* Nothing was lost, only told together. */
	assert_true(metric_get(metric_of(f, "other", "other", NULL)) > 9900);
}

static void test_default_bound_is_200(void **state)
{
	const struct metric_spec spec = {
	    .type = METRIC_COUNTER, .name = "one_total", .help = "One.", .labels = {"a"}};
	struct metric_family *f = metric_family(registry, &spec);
	char name[32];

	(void)state;
	for (int i = 0; i < 250; i++) {
		snprintf(name, sizeof(name), "v%d", i);
		metric_inc(metric_of(f, name, NULL, NULL));
	}
	assert_true(metric_get(metric_of(f, "other", NULL, NULL)) == 50);
}

static void test_declared_twice(void **state)
{
	struct metric_spec other = requests;

	(void)state;
	assert_ptr_equal(metric_family(registry, &requests), metric_family(registry, &requests));
	other.type = METRIC_GAUGE;
	metric_inc(metric_of(metric_family(registry, &other), "a", "b", NULL));
	other = requests;
	other.labels[1] = "reason";
	metric_inc(metric_of(metric_family(registry, &other), "a", "b", NULL));
	other.labels[1] = NULL;
	metric_inc(metric_of(metric_family(registry, &other), "a", NULL, NULL));
	assert_text(""); /* such children count into nothing */
}

static void on_collect(void *arg)
{
	metric_set(arg, 42);
}

static void test_collectors(void **state)
{
	struct metric *m = metric_single(registry, &depth);

	(void)state;
	for (int i = 0; i < 16; i++)
		assert_int_equal(metric_on_collect(registry, on_collect, m), ERR_OK);
	assert_int_equal(metric_on_collect(registry, on_collect, m), ERR_FULL);
	assert_int_equal(metric_render(registry, &out), ERR_OK);
	assert_non_null(strstr(out.ptr, "queue_depth 42\n"));
}

static void test_output_is_bounded(void **state)
{
	struct buf small;

	(void)state;
	metric_set(metric_single(registry, &depth), 1);
	buf_init(&small, 20);
	assert_int_equal(metric_render(registry, &small), ERR_TOOBIG);
	buf_done(&small);
}

/* Every call goes on without memory; nobody has to check. */
static void scenario_metric(void)
{
	struct metric_registry *r;
	struct metric_family *f;
	struct buf b;

	if (metric_registry_new(&r) != ERR_OK)
		return;
	buf_init(&b, 1 << 16);
	f = metric_family(r, &events);
	for (int i = 0; i < 10; i++)
		metric_inc(numbered(f, "tool", i));
	metric_observe(metric_single(r, &(struct metric_spec){.type = METRIC_HISTOGRAM,
	                                                      .name = "x_seconds",
	                                                      .help = "X."}),
	               1);
	metric_set(metric_single(r, &depth), 1);
	(void)metric_get(metric_single(r, &depth));
	(void)!metric_render(r, &b);
	buf_done(&b);
	metric_registry_free(r);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_counters_and_gauges),
	    TEST(test_histogram),
	    TEST(test_histogram_in_any_order),
	    TEST(test_histogram_without_labels),
	    TEST(test_numbers),
	    TEST(test_label_values_are_escaped),
	    TEST(test_a_chatty_tool_overflows_alone),
	    TEST(test_a_family_is_bounded),
	    TEST(test_default_bound_is_200),
	    TEST(test_declared_twice),
	    TEST(test_collectors),
	    TEST(test_output_is_bounded),
	};
	const struct torture torture[] = {TORTURE(scenario_metric)};

	return TESTS_OR_TORTURE(tests, torture);
}
