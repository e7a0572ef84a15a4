/* The queue's names in Redis. */
#include "torture.h"

#include "weir/queue/stream_names.h"

static bool same(struct str s, const char *text)
{
	return str_eq(s, str_of(text)) && s.ptr[s.len] == '\0';
}

static void test_given(void **state)
{
	struct stream_names n;

	(void)state;
	assert_int_equal(stream_names_init(&n, "app:", "events", "workers", "one"), ERR_OK);
	assert_true(same(n.keys[STREAM_MAIN], "app:events"));
	assert_true(same(n.keys[STREAM_LARGE], "app:events:large"));
	assert_true(same(n.group, "workers"));
	assert_true(same(n.consumer, "one"));
	stream_names_done(&n);
	stream_names_done(&n);
}

/* Two processes of one host never share a consumer by accident. */
static void test_made_consumer(void **state)
{
	struct stream_names a, b;
	char pid[32];

	(void)state;
	assert_int_equal(stream_names_init(&a, "", "s", "g", ""), ERR_OK);
	assert_int_equal(stream_names_init(&b, "", "s", "g", ""), ERR_OK);
	assert_true(same(a.keys[STREAM_MAIN], "s"));
	assert_false(str_eq(a.consumer, b.consumer));
	snprintf(pid, sizeof(pid), "-%ld-", (long)getpid());
	assert_non_null(strstr(a.consumer.ptr, pid));
	stream_names_done(&a);
	stream_names_done(&b);
}

static void test_long(void **state)
{
	struct stream_names n;
	char prefix[2000], consumer[3000];

	(void)state;
	memset(prefix, 'p', sizeof(prefix) - 1);
	memset(consumer, 'c', sizeof(consumer) - 1);
	prefix[sizeof(prefix) - 1] = consumer[sizeof(consumer) - 1] = '\0';
	assert_int_equal(stream_names_init(&n, prefix, prefix, prefix, consumer), ERR_OK);
	assert_int_equal(n.keys[STREAM_MAIN].len, 2 * (sizeof(prefix) - 1));
	assert_int_equal(n.keys[STREAM_LARGE].len, 2 * (sizeof(prefix) - 1) + strlen(":large"));
	assert_true(same(n.group, prefix));
	assert_true(same(n.consumer, consumer));
	stream_names_done(&n);
}

static void scenario_names(void)
{
	struct stream_names n;

	if (stream_names_init(&n, "p", "s", "g", "") == ERR_OK)
		stream_names_done(&n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_given),
	    cmocka_unit_test(test_made_consumer),
	    cmocka_unit_test(test_long),
	};
	const struct torture torture[] = {TORTURE(scenario_names)};

	return TESTS_OR_TORTURE(tests, torture);
}
