/* How a batch's transaction is laid out: in which order keys and events go into its statements. */
#include <arpa/inet.h>

#include "torture.h"
#include "weir/io/pg.h"
#include "weir/pipeline/batch_params.h"
#include "weir/pipeline/batch_updater.h"

enum { MOST = 1300, HEADER = 20, KEY = 16, FIRST_RECEIVED = 1000000 };

struct fixture {
	struct batch_params *params;
	struct batch_updater *updater;
	struct event *made[MOST], *events[MOST];
	size_t n;
	struct batch_plan plan;
};

static enum err start(struct fixture *f)
{
	enum err e = batch_params_new(&f->params);

	return e == ERR_OK ? batch_updater_new(f->params, &f->updater) : e;
}

static void finish(struct fixture *f)
{
	batch_updater_free(f->updater);
	batch_params_free(f->params);
	for (size_t i = 0; i < f->n; i++)
		event_unref(f->made[i]);
}

/* Received `at` microseconds after the first. */
static enum err add(struct fixture *f, const char *id, const char *body, usec_t window, usec_t at)
{
	struct event_view v = {.tool = STR("t"),
	                       .type = STR("y"),
	                       .id = str_of(id),
	                       .body = str_of(body),
	                       .dedup_window = window,
	                       .received = FIRST_RECEIVED + at};
	enum err e;

	uuid_of(7, f->n, &v.uid);
	e = event_make(&v, &f->made[f->n]);
	if (e != ERR_OK)
		return e;
	f->events[f->n] = f->made[f->n];
	f->n++;
	return ERR_OK;
}

static enum err prepare(struct fixture *f, bool in_race)
{
	return batch_updater_prepare(f->updater, in_race, f->events, f->n, &f->plan);
}

static size_t count_of(const struct pg_param *p)
{
	uint32_t n;

	memcpy(&n, (const char *)p->ptr + 12, sizeof(n));
	return ntohl(n);
}

/* Of an array of uuids. */
static const char *item(const struct pg_param *p, size_t i)
{
	const char *at = (const char *)p->ptr + HEADER + i * (4 + KEY);

	assert_memory_equal(at, "\0\0\0\x10", 4);
	return at + 4;
}

/* What the statements that store have in their columns of keys and of uids, one behind the other.
 */
struct stored {
	char keys[MOST][KEY], uids[MOST][KEY];
	size_t n, calls;
};

static void read_stored(const struct fixture *f, struct stored *s)
{
	enum { KEYS = 0, UIDS = 4, COLUMNS = 15 }; /* of STORE_COLUMNS, see batch_sql.h */
	size_t calls;
	const struct pg_call *call = batch_updater_store(f->updater, &calls);

	s->n = s->calls = 0;
	for (size_t c = 0; c < calls; c++) {
		const struct pg_param *p = call[c].params;

		if (call[c].stmt->param_count != COLUMNS)
			continue;
		assert_int_equal(count_of(&p[KEYS]), count_of(&p[UIDS]));
		assert_in_range(count_of(&p[KEYS]), 1, MOST);
		for (size_t i = 0; i < count_of(&p[KEYS]); i++, s->n++) {
			memcpy(s->keys[s->n], item(&p[KEYS], i), KEY);
			memcpy(s->uids[s->n], item(&p[UIDS], i), KEY);
		}
		s->calls++;
	}
}

static void assert_sorted(const struct stored *s)
{
	for (size_t i = 1; i < s->n; i++)
		assert_true(memcmp(s->keys[i - 1], s->keys[i], KEY) < 0);
}

static void assert_as_they_came(const struct fixture *f, const struct stored *s)
{
	for (size_t i = 0; i < s->n; i++)
		assert_memory_equal(s->uids[i], f->made[i]->view.uid.bytes, KEY);
}

static void many_events(struct fixture *f, size_t n)
{
	char id[32];

	for (size_t i = 0; i < n; i++) {
		snprintf(id, sizeof(id), "id %zu", i);
		assert_int_equal(add(f, id, "{}", 0, 0), ERR_OK);
	}
}

/* Keys sorted through all statements, events as they came; in a race one statement has all. */
static void test_order(void **state)
{
	static struct stored s;
	struct fixture f = {.n = 0};
	/* Nobody looks into these. */
	const struct pg_result *any = (const struct pg_result *)&f;
	const struct pg_result *const results[] = {any, any, any, any};

	(void)state;
	assert_int_equal(start(&f), ERR_OK);
	many_events(&f, MOST);
	assert_int_equal(prepare(&f, false), ERR_OK);
	assert_int_equal(f.plan.first, MOST);
	read_stored(&f, &s);
	assert_int_equal(s.n, MOST);
	assert_int_equal(s.calls, 3);
	assert_sorted(&s);
	assert_as_they_came(&f, &s);
	assert_null(batch_updater_counters(f.updater, results)); /* no statement for reports */
	batch_updater_sent(f.updater);
	assert_int_equal(prepare(&f, true), ERR_OK);
	read_stored(&f, &s);
	assert_int_equal(s.n, MOST);
	assert_int_equal(s.calls, 1);
	assert_sorted(&s);
	assert_as_they_came(&f, &s);
	finish(&f);
}

static void test_as_many_statements_as_needed(void **state)
{
	static const size_t counts[][2] = {{1, 1}, {749, 1}, {750, 2}, {1249, 2}, {1250, 3}};
	static struct stored s;

	(void)state;
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		struct fixture f = {.n = 0};

		assert_int_equal(start(&f), ERR_OK);
		many_events(&f, counts[i][0]);
		assert_int_equal(prepare(&f, false), ERR_OK);
		read_stored(&f, &s);
		assert_int_equal(s.n, counts[i][0]);
		assert_int_equal(s.calls, counts[i][1]);
		finish(&f);
	}
}

/* Events that are each kept have their uid as key, and so the same first bytes. */
static void test_keys_with_a_common_beginning(void **state)
{
	static struct stored s;
	struct fixture f = {.n = 0};

	(void)state;
	assert_int_equal(start(&f), ERR_OK);
	for (size_t i = 0; i < 300; i++)
		assert_int_equal(add(&f, "", "same", EVENT_DEDUP_NONE, 0), ERR_OK);
	for (size_t i = 0; i < 150; i++) {
		struct event *e = f.events[i];

		f.events[i] = f.events[299 - i];
		f.events[299 - i] = e;
	}
	assert_int_equal(prepare(&f, false), ERR_OK);
	assert_int_equal(f.plan.first, 300);
	read_stored(&f, &s);
	assert_sorted(&s);
	assert_memory_equal(s.uids[0], f.made[299]->view.uid.bytes, KEY);
	finish(&f);
}

/* Of those with one key the oldest goes first, wherever it stands; and what has another body than
 * that one is told from what has the same. */
static void test_repetitions(void **state)
{
	enum batch_finding findings[8];
	static struct stored s;
	struct fixture f = {.n = 0};
	static const size_t laid_out[] = {2, 3, 5, 0, 1, 4, 6, 7};

	(void)state;
	assert_int_equal(start(&f), ERR_OK);
	assert_int_equal(add(&f, "a", "one", 0, 20), ERR_OK);
	assert_int_equal(add(&f, "a", "two", 0, 30), ERR_OK);
	assert_int_equal(add(&f, "a", "one", 0, 10), ERR_OK);
	assert_int_equal(add(&f, "b", "one", 0, 40), ERR_OK);
	assert_int_equal(add(&f, "", "w", 100, 199), ERR_OK);
	assert_int_equal(add(&f, "", "w", 100, 100), ERR_OK);
	assert_int_equal(add(&f, "", "w", 100, 200), ERR_OK);
	assert_int_equal(add(&f, "", "w", 100, 300), ERR_OK);
	assert_int_equal(prepare(&f, false), ERR_OK);
	assert_int_equal(f.plan.first, 3);
	assert_int_equal(f.plan.duplicate, 3);
	assert_int_equal(f.plan.later, 2);
	for (size_t i = 0; i < f.n; i++)
		assert_ptr_equal(f.events[i], f.made[laid_out[i]]);
	read_stored(&f, &s);
	assert_int_equal(s.n, 3);
	assert_sorted(&s);
	batch_updater_findings(f.updater, NULL, f.events, findings);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(findings[i], FOUND_STORED);
	assert_int_equal(findings[3], FOUND_DUPLICATE);
	assert_int_equal(findings[4], FOUND_CONFLICT);
	assert_int_equal(findings[5], FOUND_DUPLICATE);
	finish(&f);
}

/* The look-up asks for the keys in the order of the statements'. */
static void test_look_up(void **state)
{
	static struct stored s;
	struct fixture f = {.n = 0};
	const struct pg_call *call;

	(void)state;
	assert_int_equal(start(&f), ERR_OK);
	many_events(&f, 700);
	assert_int_equal(prepare(&f, false), ERR_OK);
	read_stored(&f, &s);
	batch_updater_sent(f.updater);
	assert_int_equal(batch_updater_lookup(f.updater, &call), ERR_OK);
	assert_int_equal(call->stmt->param_count, 1);
	assert_int_equal(count_of(call->params), 700);
	for (size_t i = 0; i < s.n; i++)
		assert_memory_equal(item(call->params, i), s.keys[i], KEY);
	finish(&f);
}

/* Two statements, of events that each have an allocation of their own. */
static void scenario_prepare(void)
{
	struct fixture f = {.n = 0};
	const struct pg_call *call;
	enum err e = start(&f);

	for (size_t i = 0; i < 520 && e == ERR_OK; i++)
		e = add(&f, "", "b", EVENT_DEDUP_NONE, 0);
	if (e == ERR_OK)
		e = prepare(&f, false);
	if (e == ERR_OK)
		(void)!batch_updater_lookup(f.updater, &call);
	finish(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_order),
	    cmocka_unit_test(test_as_many_statements_as_needed),
	    cmocka_unit_test(test_keys_with_a_common_beginning),
	    cmocka_unit_test(test_repetitions),
	    cmocka_unit_test(test_look_up),
	};
	const struct torture torture[] = {TORTURE(scenario_prepare)};

	return TESTS_OR_TORTURE(tests, torture);
}
