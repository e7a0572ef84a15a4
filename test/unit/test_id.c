/* UUIDv7 as RFC 9562 lays it out, strictly increasing whatever the clock does. */
#include "torture.h"

#include "weir/base/id.h"
#include "weir/base/rnd.h"

static void test_layout(void **state)
{
	struct uuid u;
	uint64_t msec = 0;

	(void)state;
	uuid_make(INT64_C(1645557742000999), &u); /* the RFC's example time, A.6 */
	for (int i = 0; i < 6; i++)
		msec = msec << 8 | u.bytes[i];
	assert_int_equal(msec, 0x017f22e279b0);
	assert_int_equal(u.bytes[6] >> 4, 7);
	assert_int_equal(u.bytes[8] >> 6, 2);
}

static void test_strictly_increasing(void **state)
{
	struct uuid last, next;
	usec_t wall = 1800000000 * USEC_PER_SEC;

	(void)state;
	uuid_make(wall, &last);
	for (int i = 0; i < 200000; i++) {
		if (i % 1000 == 999)
			wall += (usec_t)rnd_below(4 * USEC_PER_MSEC) - 2 * USEC_PER_MSEC;
		uuid_make(wall, &next);
		assert_true(memcmp(last.bytes, next.bytes, 16) < 0);
		last = next;
	}
	uuid_make(-1, &next);
	assert_true(memcmp(last.bytes, next.bytes, 16) < 0);
}

static void test_full_counter_borrows(void **state)
{
	struct uuid last, next;
	uint64_t first = 0, end = 0;

	(void)state;
	/* 2^26 ids of one millisecond are more than the counter holds. */
	uuid_make(1900000000 * USEC_PER_SEC, &last);
	for (int i = 0; i < 6; i++)
		first = first << 8 | last.bytes[i];
	for (int i = 0; i < 1 << 26 && !end; i++) {
		uuid_make(1900000000 * USEC_PER_SEC, &next);
		if (memcmp(last.bytes, next.bytes, 16) >= 0)
			fail();
		if (memcmp(last.bytes, next.bytes, 6) != 0) {
			for (int k = 0; k < 6; k++)
				end = end << 8 | next.bytes[k];
		}
		last = next;
	}
	assert_int_equal(end, first + 1);
}

static void test_text_round_trip(void **state)
{
	struct uuid u, back;
	char text[UUID_TEXT_LEN + 1];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		rnd_bytes(u.bytes, sizeof(u.bytes));
		uuid_format(&u, text);
		assert_int_equal(strlen(text), UUID_TEXT_LEN);
		assert_int_equal(uuid_parse(str_of(text), &back), ERR_OK);
		assert_memory_equal(&u, &back, sizeof(u));
	}
	assert_int_equal(uuid_parse(STR("017F22E2-79B0-7CC3-98C4-DC0C0C07398F"), &u), ERR_OK);
	uuid_format(&u, text);
	assert_string_equal(text, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
}

static void test_bad_text(void **state)
{
	static const char *const bad[] = {
	    "",
	    "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
	    "017f22e2-79b0-7cc3-98c4-dc0c0c07398ff",
	    "017f22e2079b0-7cc3-98c4-dc0c0c07398f",
	    "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
	    "017f22e2-79b0-7cc3-98c4-dc0c0c07398\x10",
	    "-17f22e2-79b0-7cc3-98c4-dc0c0c07398f",
	    "017f22e279b0-7cc3-98c4-dc0c-0c07398f",
	};
	struct uuid u = {{1}};

	(void)state;
	for (size_t i = 0; i < TORTURE_LEN(bad); i++)
		assert_int_equal(uuid_parse(str_of(bad[i]), &u), ERR_INVAL);
	assert_int_equal(u.bytes[0], 1);
}

static void test_of(void **state)
{
	char text[UUID_TEXT_LEN + 1];
	struct uuid a, b;

	(void)state;
	uuid_of(0x0123456789ab, 0x1122334455667788, &a);
	uuid_format(&a, text);
	assert_string_equal(text, "01234567-89ab-7000-9122-334455667788");
	uuid_of(0x0123456789ab, 0x1122334455667789, &b);
	assert_memory_not_equal(&a, &b, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_layout),
	    cmocka_unit_test(test_strictly_increasing),
	    cmocka_unit_test(test_full_counter_borrows),
	    cmocka_unit_test(test_text_round_trip),
	    cmocka_unit_test(test_of),
	    cmocka_unit_test(test_bad_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
