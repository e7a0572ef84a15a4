/* What the adapters count of themselves shows up in the metrics. */
#include "redis_rig.h"
#include "weir/app/adapter_metrics.h"
#include "weir/queue/stream_acks.h"
#include "weir/run/metric.h"

static void expect(struct metric_registry *m, const char *line)
{
	struct buf out;

	buf_init(&out, 1 << 20);
	assert_int_equal(metric_render(m, &out), ERR_OK);
	buf_add_char(&out, '\0');
	if (!strstr(out.ptr, line))
		fail_msg("no %s in\n%s", line, out.ptr);
	buf_done(&out);
}

static void test_reconnects(void **state)
{
	struct redis_options o = rig_options();
	struct metric_registry *m;
	struct adapter_metrics *a;
	char text[64];
	struct rig r;

	(void)state;
	NEED_SERVER();
	assert_int_equal(metric_registry_new(&m), ERR_OK);
	assert_int_equal(adapter_metrics_new(m, &a), ERR_OK);
	rig_init(&r, &o);
	adapter_metrics_add_redis(a, "test", r.redis);
	expect(m, "webhook_redis_reconnects_total{connection=\"test\"} 0\n");
	for (int i = 1; i <= 2; i++) {
		assert_true(
		    redis_server_say(&server, "CLIENT KILL TYPE normal\r\n", text, sizeof(text)));
		assert_true(turn_until(&r, is_down, 5000));
		assert_true(turn_until(&r, is_up, LONG_MSEC));
	}
	/* However often it is looked at. */
	expect(m, "webhook_redis_reconnects_total{connection=\"test\"} 2\n");
	expect(m, "webhook_redis_reconnects_total{connection=\"test\"} 2\n");
	for (int i = 0; i < 8; i++) /* past the bound they are refused, loudly */
		adapter_metrics_add_redis(a, "more", r.redis);
	adapter_metrics_free(a);
	metric_registry_free(m);
	rig_done(&r);
}

static void on_acked(void *arg, size_t n)
{
	(void)arg;
	(void)n;
}

/* Acknowledgements for which there is no memory are given up, and that is told. */
static void test_acks_forgotten(void **state)
{
	struct stream_names names;
	struct stream_acks_options o = {.names = &names, .acked = on_acked};
	struct metric_registry *m;
	struct adapter_metrics *a;
	struct stream_acks *acks;
	struct rig r;

	(void)state;
	rig_open(&r);
	assert_int_equal(metric_registry_new(&m), ERR_OK);
	assert_int_equal(adapter_metrics_new(m, &a), ERR_OK);
	assert_int_equal(stream_names_init(&names, "", "s", "g", "c"), ERR_OK);
	o.loop = r.loop;
	assert_int_equal(stream_acks_new(&o, &acks), ERR_OK);
	adapter_metrics_set_acks(a, acks);
	expect(m, "webhook_queue_acks_forgotten_total 0\n");
	mem_fail_nth(1);
	stream_acks_add(acks, (struct stream_id){1, 0}, STREAM_MAIN);
	mem_fail_nth(0);
	expect(m, "webhook_queue_acks_forgotten_total 1\n");
	stream_acks_free(acks);
	stream_names_done(&names);
	adapter_metrics_free(a);
	metric_registry_free(m);
	rig_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_reconnects),
	    cmocka_unit_test(test_acks_forgotten),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}
