/* The set of held ids, against a plain array. */
#include "torture.h"
#include "weir/base/rnd.h"
#include "weir/queue/held_set.h"

static void test_basics(void **state)
{
	struct stream_id a = {1700000000000, 0}, b = {1700000000000, 1};
	struct held_set s;
	struct held h;
	size_t pos = 0;

	(void)state;
	held_set_init(&s);
	assert_false(held_set_remove(&s, a, 0));
	assert_false(held_set_next(&s, &pos, &h));
	assert_int_equal(held_set_add(&s, a, 0), ERR_OK);
	assert_int_equal(held_set_add(&s, a, 0), ERR_CONFLICT);
	assert_int_equal(held_set_add(&s, a, 1), ERR_OK); /* the other stream's */
	assert_int_equal(held_set_add(&s, b, 0), ERR_OK);
	assert_int_equal(s.count, 3);
	assert_true(held_set_remove(&s, a, 0));
	assert_false(held_set_remove(&s, a, 0));
	assert_true(held_set_remove(&s, a, 1));
	pos = 0;
	assert_true(held_set_next(&s, &pos, &h));
	assert_int_equal(h.id.seq, 1);
	assert_false(held_set_next(&s, &pos, &h));
	held_set_done(&s);
	assert_int_equal(s.count, 0);
}

#define MODEL 2000

/* Ids of few milliseconds, as a burst makes them, added and removed at random. */
static void test_against_model(void **state)
{
	static bool model[MODEL];
	struct held_set s;
	size_t count = 0, pos = 0, seen = 0;
	struct held h;

	(void)state;
	memset(model, 0, sizeof(model));
	rnd_seed(7);
	held_set_init(&s);
	for (int i = 0; i < 200000; i++) {
		size_t n = (size_t)rnd_below(MODEL);
		struct stream_id id = {1700000000000 + n / 500, n % 250};
		uint8_t stream = n % 500 >= 250;

		if (rnd_below(2)) {
			assert_int_equal(held_set_add(&s, id, stream),
			                 model[n] ? ERR_CONFLICT : ERR_OK);
			count += !model[n];
			model[n] = true;
		} else {
			assert_int_equal(held_set_remove(&s, id, stream), model[n]);
			count -= model[n];
			model[n] = false;
		}
		assert_int_equal(s.count, count);
	}
	while (held_set_next(&s, &pos, &h)) {
		size_t n = (h.id.ms - 1700000000000) * 500 + h.id.seq + h.stream * 250u;

		assert_true(model[n]);
		seen++;
	}
	assert_int_equal(seen, count);
	rnd_seed(0);
	held_set_done(&s);
}

/* Both halves to their last bit, and ids of one millisecond that are far apart. */
static void test_wide_ids(void **state)
{
	static const struct stream_id ids[] = {
	    {0, 0}, {0, 63}, {0, 64}, {0, UINT64_MAX}, {UINT64_MAX, 0}, {UINT64_MAX, UINT64_MAX},
	};
	enum { N = sizeof(ids) / sizeof(ids[0]) };
	struct held_set s;
	struct held h;
	size_t pos = 0, seen[N][2] = {{0}};

	(void)state;
	held_set_init(&s);
	for (size_t i = 0; i < N; i++)
		for (unsigned k = 0; k < 2; k++)
			assert_int_equal(held_set_add(&s, ids[i], k ? HELD_STREAMS - 1 : 0),
			                 ERR_OK);
	while (held_set_next(&s, &pos, &h))
		for (size_t i = 0; i < N; i++)
			seen[i][h.stream > 0] += h.id.ms == ids[i].ms && h.id.seq == ids[i].seq;
	for (size_t i = 0; i < N; i++)
		for (unsigned k = 0; k < 2; k++) {
			assert_int_equal(seen[i][k], 1);
			assert_true(held_set_remove(&s, ids[i], k ? HELD_STREAMS - 1 : 0));
		}
	assert_int_equal(s.count, 0);
	assert_int_equal(s.runs, 0);
	held_set_done(&s);
}

static void scenario_fill(void)
{
	struct held_set s;

	held_set_init(&s);
	for (uint64_t i = 1; i < 2000; i++)
		if (held_set_add(&s, (struct stream_id){i, i}, 0) != ERR_OK)
			break;
	for (uint64_t i = 1; i < 1000; i++)
		held_set_remove(&s, (struct stream_id){i, i}, 0);
	held_set_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_basics),
	    cmocka_unit_test(test_against_model),
	    cmocka_unit_test(test_wide_ids),
	};
	const struct torture torture[] = {TORTURE(scenario_fill)};

	return TESTS_OR_TORTURE(tests, torture);
}
