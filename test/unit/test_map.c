/* Against a plain array as the model, through growth, shrinking and removals in any order. */
#include "torture.h"

#include "weir/base/map.h"
#include "weir/base/rnd.h"

#define MODEL 500

static void test_basics(void **state)
{
	char key[] = "key", value;
	struct map *m;
	struct str seen;
	size_t pos = 0;

	(void)state;
	assert_int_equal(map_new(&m), ERR_OK);
	assert_null(map_get(m, STR("key")));
	assert_null(map_remove(m, STR("key")));
	assert_null(map_next(m, &pos, NULL));
	assert_int_equal(map_add(m, STR("key"), NULL), ERR_INVAL);
	assert_int_equal(map_add(m, str_of(key), &value), ERR_OK);
	key[0] = 'X';
	assert_ptr_equal(map_get(m, STR("key")), &value);
	assert_int_equal(map_add(m, STR("key"), key), ERR_CONFLICT);
	assert_ptr_equal(map_get(m, STR("key")), &value);
	assert_int_equal(map_add(m, STR_NONE, key), ERR_OK);
	assert_ptr_equal(map_get(m, STR("")), key);
	assert_int_equal(map_add(m, str_n("\0", 1), key + 1), ERR_OK);
	assert_ptr_equal(map_remove(m, STR("")), key);
	assert_ptr_equal(map_remove(m, str_n("\0", 1)), key + 1);
	assert_int_equal(map_count(m), 1);
	pos = 0;
	assert_ptr_equal(map_next(m, &pos, &seen), &value);
	assert_true(str_eq(seen, STR("key")));
	assert_null(map_next(m, &pos, &seen));
	map_free(m, NULL);
	map_free(NULL, NULL);
}

static struct str key_of(char *text, size_t i)
{
	/* Lengths around the hash's word size. */
	int n = snprintf(text, 64, "%.*s%zu", (int)(i % 23), "abcdefghijklmnopqrstuvwxyz", i);

	return str_n(text, (size_t)n);
}

static size_t count_by_walking(const struct map *m, char *const *values)
{
	bool met[MODEL] = {false};
	size_t pos = 0, n = 0;
	char text[64];
	struct str key;
	void *v;

	while ((v = map_next(m, &pos, &key))) {
		size_t i = 0;

		while (values[i] != v)
			i++;
		assert_true(str_eq(key, key_of(text, i)));
		assert_false(met[i]);
		met[i] = true;
		n++;
	}
	return n;
}

static void test_against_model(void **state)
{
	static char things[MODEL];
	char *values[MODEL + 1] = {0}, *present[MODEL] = {0}, text[64];
	struct map *m;
	size_t count = 0;

	(void)state;
	rnd_seed(12);
	assert_int_equal(map_new(&m), ERR_OK);
	for (size_t i = 0; i < MODEL; i++)
		values[i] = &things[i];
	for (int step = 0; step < 60000; step++) {
		size_t i = rnd_below(MODEL);
		struct str key = key_of(text, i);
		bool filling = step / 5000 % 2 == 0;

		assert_ptr_equal(map_get(m, key), present[i]);
		if (rnd_below(10) < (filling ? 8u : 2u)) {
			assert_int_equal(map_add(m, key, values[i]),
			                 present[i] ? ERR_CONFLICT : ERR_OK);
			count += !present[i];
			present[i] = values[i];
		} else {
			assert_ptr_equal(map_remove(m, key), present[i]);
			count -= present[i] != NULL;
			present[i] = NULL;
		}
		assert_int_equal(map_count(m), count);
		if (step % 500 == 0)
			assert_int_equal(count_by_walking(m, values), count);
	}
	map_free(m, NULL);
	rnd_seed(0);
}

static void test_shrinks_and_frees_values(void **state)
{
	char text[64];
	struct map *m;
	size_t before = mem_used();

	(void)state;
	assert_int_equal(map_new(&m), ERR_OK);
	for (size_t i = 0; i < 10000; i++)
		assert_int_equal(map_add(m, key_of(text, i), mem_strdup("value")), ERR_OK);
	assert_true(mem_used() > before + 200000);
	for (size_t i = 5; i < 10000; i++)
		mem_free(map_remove(m, key_of(text, i)));
	assert_int_equal(map_count(m), 5);
	assert_true(mem_used() < before + 1000);
	map_free(m, mem_free);
}

static void scenario_fill_and_empty(void)
{
	char text[64], value;
	struct map *m;
	size_t added = 0;

	if (map_new(&m))
		return;
	for (size_t i = 0; i < 60; i++) {
		if (map_add(m, key_of(text, i), &value))
			assert_null(map_get(m, key_of(text, i)));
		else
			added++;
	}
	assert_int_equal(map_count(m), added);
	for (size_t i = 0; i < 58; i++)
		added -= map_remove(m, key_of(text, i)) != NULL;
	assert_int_equal(map_count(m), added);
	map_free(m, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_basics),
	    cmocka_unit_test(test_against_model),
	    cmocka_unit_test(test_shrinks_and_frees_values),
	};
	const struct torture torture[] = {TORTURE(scenario_fill_and_empty)};

	return TESTS_OR_TORTURE(tests, torture);
}
