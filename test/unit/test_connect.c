/* Settings as options of the adapters: bounds that follow from other settings. */
#include "torture.h"

#include "weir/app/connect.h"
#include "weir/run/conf.h"

static struct redis_options options_of(const char *text)
{
	struct err_info info = {0};
	struct redis_options o;
	struct conf *c = NULL;

	if (conf_load_text("f.conf", str_of(text), (char *const[]){NULL}, &c, &info) != ERR_OK)
		fail_msg("%s", info.text);
	connect_redis_options(c, "test", &o);
	conf_free(c);
	return o; /* its figures only: the strings were the conf's */
}

static void test_usual_bounds(void **state)
{
	struct redis_options o = options_of("");

	(void)state;
	assert_int_equal(o.max_output, (size_t)64 << 20);
	assert_int_equal(o.max_reply, (size_t)256 << 20);
}

/* What is taken must fit on its way to Redis and back. */
static void test_large_bodies(void **state)
{
	struct redis_options o = options_of("MAX_BODY_SIZE=200MiB\n");

	(void)state;
	assert_true(o.max_output > (size_t)400 << 20);
	assert_true(o.max_reply > (size_t)400 << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_usual_bounds),
	    cmocka_unit_test(test_large_bodies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
