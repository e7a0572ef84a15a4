/* The ring of commands that wait for their replies, against a plain array. */
#include "torture.h"

#include "../../src/io/redis_pending.h"
#include "weir/base/rnd.h"

#define MOST 500

static void on_told(void *arg, enum err err, const struct redis_reply *reply)
{
	assert_null(reply);
	assert_int_equal(err, ERR_TIMEOUT);
	++*(int *)arg;
}

static usec_t earliest(const usec_t *model, size_t count)
{
	usec_t next = USEC_NEVER;

	for (size_t i = 0; i < count; i++)
		next = model[i] < next ? model[i] : next;
	return next;
}

/* Grows while it wraps around; stays in order. */
static void test_against_model(void **state)
{
	static usec_t model[MOST];
	struct pending_ring ring;
	size_t count = 0;

	(void)state;
	pending_init(&ring, MOST);
	assert_null(pending_front(&ring));
	assert_int_equal(pending_next_deadline(&ring), USEC_NEVER);
	for (int i = 0; i < 20000; i++) {
		size_t n = rnd_u64() % 40;

		if (rnd_u64() % 100 < 52) {
			enum err e = pending_reserve(&ring, n);

			assert_int_equal(e, count + n > MOST ? ERR_FULL : ERR_OK);
			for (size_t j = 0; e == ERR_OK && j < n; j++) {
				struct pending p = {.deadline = (usec_t)(rnd_u64() % 1000000)};

				pending_push(&ring, &p);
				model[count++] = p.deadline;
			}
		} else {
			for (; n > 0 && count > 0; n--) {
				assert_int_equal(pending_front(&ring)->deadline, model[0]);
				pending_pop(&ring);
				memmove(model, model + 1, --count * sizeof(*model));
			}
		}
		assert_int_equal(ring.count, count);
		assert_int_equal(pending_next_deadline(&ring), earliest(model, count));
	}
	pending_done(&ring);
	assert_null(pending_front(&ring));
}

static void test_tell(void **state)
{
	int told = 0;
	struct pending p = {.fn = on_told, .arg = &told};

	(void)state;
	pending_tell(&p, ERR_TIMEOUT);
	assert_int_equal(told, 1);
	p.fn = NULL; /* a greeting's */
	pending_tell(&p, ERR_TIMEOUT);
	assert_int_equal(told, 1);
}

/* A reserve without memory leaves what waits. */
static void scenario_grow(void)
{
	struct pending_ring ring;
	struct pending p = {.deadline = 7};
	size_t pushed = 0;

	pending_init(&ring, 1000);
	while (pushed < 300 && pending_reserve(&ring, 1) == ERR_OK) {
		pending_push(&ring, &p);
		pushed++;
	}
	assert_int_equal(ring.count, pushed);
	assert_int_equal(pending_next_deadline(&ring), pushed ? 7 : USEC_NEVER);
	pending_done(&ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_against_model),
	    cmocka_unit_test(test_tell),
	};
	const struct torture torture[] = {TORTURE(scenario_grow)};

	return TESTS_OR_TORTURE(tests, torture);
}
