/* Every code has a name, a sentence and a fate; foreign values are harmless. */
#include "torture.h"

#include "weir/base/err.h"

static void test_every_code_is_described(void **state)
{
	(void)state;
	for (int e = 0; e < ERR_COUNT; e++) {
		assert_true(strlen(err_name(e)) > 0);
		assert_true(strlen(err_meaning(e)) > 0);
		for (int other = 0; other < e; other++)
			assert_string_not_equal(err_name(e), err_name(other));
	}
	assert_string_equal(err_name(ERR_NOTABLE), "missing_relation");
	assert_int_equal(err_fate(ERR_OK), FATE_DONE);
	assert_int_equal(err_fate(ERR_DATA), FATE_DEAD);
	assert_int_equal(err_fate(ERR_TIMEOUT), FATE_RETRY);
}

static void test_unknown_code_is_a_bug(void **state)
{
	(void)state;
	assert_string_equal(err_name((enum err)99), "bug");
	assert_string_equal(err_name((enum err) - 1), "bug");
	assert_int_equal(err_fate((enum err)ERR_COUNT), FATE_STOP);
}

static void test_set_writes_and_returns(void **state)
{
	struct err_info info;
	char big[1000];

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	assert_int_equal(err_set(&info, ERR_INVAL, "line %d: %s", 3, "no"), ERR_INVAL);
	assert_int_equal(info.code, ERR_INVAL);
	assert_string_equal(info.text, "line 3: no");
	assert_int_equal(err_set(&info, ERR_IO, "%s", big), ERR_IO);
	assert_int_equal(strlen(info.text), sizeof(info.text) - 1);
	assert_int_equal(err_set(NULL, ERR_FULL, "%s", big), ERR_FULL);
}

static void on_fault(void *arg, const char *text)
{
	assert_string_equal(text, "PORT=x");
	++*(int *)arg;
}

static void test_sink(void **state)
{
	int told = 0;
	struct err_sink sink = {.fn = on_fault, .arg = &told};
	struct err_info info = {0};

	(void)state;
	assert_int_equal(err_sink_take(&sink, ERR_OK, &info), ERR_OK);
	assert_int_equal(err_sink_take(&sink, err_set(&info, ERR_INVAL, "PORT=x"), &info), ERR_OK);
	assert_int_equal(told, 1);
	assert_int_equal(sink.count, 1);
	assert_string_equal(info.text, "");
	assert_int_equal(err_sink_take(&sink, ERR_NOMEM, &info), ERR_NOMEM);
	assert_int_equal(err_sink_take(NULL, ERR_INVAL, NULL), ERR_INVAL);
	assert_int_equal(told, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_code_is_described),
	    cmocka_unit_test(test_unknown_code_is_a_bug),
	    cmocka_unit_test(test_sink),
	    cmocka_unit_test(test_set_writes_and_returns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
