/* Against a plain array as the model: bounds, ages, growth, and removal through wrapped runs. */
#include "torture.h"

#include "weir/base/rnd.h"
#include "weir/base/ttl_cache.h"

#define TTL   (60 * USEC_PER_SEC)
#define MODEL 4000

static const uint8_t *key_of(uint32_t i)
{
	static uint8_t key[TTL_CACHE_KEY_LEN];

	memset(key, 0, sizeof(key));
	memcpy(key, &i, sizeof(i));
	return key;
}

static void test_members_leave_at_their_age(void **state)
{
	struct ttl_cache *c;

	(void)state;
	assert_int_equal(ttl_cache_new(0, TTL, &c), ERR_INVAL);
	assert_int_equal(ttl_cache_new(10, TTL, &c), ERR_OK);
	assert_false(ttl_cache_has(c, key_of(1), 0));
	ttl_cache_add(c, key_of(1), 100);
	assert_true(ttl_cache_has(c, key_of(1), 100));
	assert_true(ttl_cache_has(c, key_of(1), 99 + TTL));
	assert_false(ttl_cache_has(c, key_of(1), 100 + TTL));
	assert_false(ttl_cache_has(c, key_of(2), 100));
	/* Adding it again does not make it younger; adding it when it expired does. */
	ttl_cache_add(c, key_of(1), 200);
	assert_false(ttl_cache_has(c, key_of(1), 100 + TTL));
	assert_int_equal(ttl_cache_count(c), 1);
	ttl_cache_add(c, key_of(1), 100 + TTL);
	assert_true(ttl_cache_has(c, key_of(1), 99 + 2 * TTL));
	assert_int_equal(ttl_cache_count(c), 1);
	ttl_cache_clear(c);
	assert_false(ttl_cache_has(c, key_of(1), 100 + TTL));
	ttl_cache_add(c, key_of(3), 100 + TTL);
	assert_true(ttl_cache_has(c, key_of(3), 100 + TTL));
	ttl_cache_free(c);
	ttl_cache_free(NULL);
}

static void test_the_oldest_makes_room(void **state)
{
	struct ttl_cache *c;

	(void)state;
	assert_int_equal(ttl_cache_new(3, TTL, &c), ERR_OK);
	for (uint32_t i = 0; i < 10; i++) {
		ttl_cache_add(c, key_of(i), i);
		assert_int_equal(ttl_cache_count(c), i < 3 ? i + 1 : 3);
		for (uint32_t k = 0; k <= i; k++)
			assert_int_equal(ttl_cache_has(c, key_of(k), i), k + 3 > i);
	}
	ttl_cache_free(c);
}

static void test_against_model(void **state)
{
	usec_t added[MODEL] = {0}, now = 1;
	struct ttl_cache *c;

	(void)state;
	rnd_seed(7);
	assert_int_equal(ttl_cache_new(1000000, TTL, &c), ERR_OK);
	for (int step = 0; step < 60000; step++) {
		uint32_t i = (uint32_t)rnd_below(MODEL), k = (uint32_t)rnd_below(MODEL);

		now += (usec_t)rnd_below((uint64_t)(TTL / 2000));
		ttl_cache_add(c, key_of(i), now);
		if (!added[i] || now - added[i] >= TTL)
			added[i] = now;
		assert_int_equal(ttl_cache_has(c, key_of(k), now),
		                 added[k] && now - added[k] < TTL);
	}
	assert_true(ttl_cache_count(c) <= MODEL);
	rnd_seed(0);
	ttl_cache_free(c);
}

static void scenario_fill(void)
{
	struct ttl_cache *c;

	if (ttl_cache_new(5000, TTL, &c) != ERR_OK)
		return;
	for (uint32_t i = 0; i < 12000; i++) {
		ttl_cache_add(c, key_of(i), i);
		assert_true(ttl_cache_count(c) <= 5000);
	}
	ttl_cache_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_members_leave_at_their_age),
	    cmocka_unit_test(test_the_oldest_makes_room),
	    cmocka_unit_test(test_against_model),
	};
	const struct torture torture[] = {TORTURE(scenario_fill)};

	return TESTS_OR_TORTURE(tests, torture);
}
