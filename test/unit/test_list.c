/* Order, count and linkage after every operation. */
#include "torture.h"

#include "weir/base/list.h"

struct item {
	int value;
	struct list_node node;
};

static int sum_in_order(const struct list *l)
{
	int sum = 0;

	list_for_each (l, n)
		sum = sum * 10 + container_of(n, struct item, node)->value;
	return sum;
}

static void test_push_remove_pop(void **state)
{
	struct item a = {1, {0}}, b = {2, {0}}, c = {3, {0}};
	struct list l;

	(void)state;
	list_init(&l);
	assert_null(list_front(&l));
	assert_null(list_pop_front(&l));
	list_push_back(&l, &b.node);
	list_push_back(&l, &c.node);
	list_push_front(&l, &a.node);
	assert_int_equal(sum_in_order(&l), 123);
	assert_int_equal(l.count, 3);
	list_remove(&l, &b.node);
	assert_false(list_linked(&b.node));
	assert_int_equal(sum_in_order(&l), 13);
	assert_ptr_equal(list_pop_front(&l), &a.node);
	assert_ptr_equal(list_front(&l), &c.node);
	assert_true(list_linked(&c.node));
	assert_ptr_equal(list_pop_front(&l), &c.node);
	assert_int_equal(l.count, 0);
	assert_int_equal(sum_in_order(&l), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_push_remove_pop)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
