/* Batches and their look-ups: they are stored with what was found, go on without, and may be given
 * back while a look-up is under way. */
#include "pipeline_rig.h"

#include "fake_lookup.h"
#include "weir/base/mem.h"
#include "weir/model/recipient.h"
#include "weir/pipeline/enricher.h"

static struct enricher *enricher;

/* The rig's stack, with an enricher. */
static int setup_enriched(void **state)
{
	struct stack_options so = plain;
	struct rig *r;

	fake_init();
	setup(state);
	if (!server.pid)
		return 0;
	r = rig_of(state);
	stack_free(&r->s);
	assert_int_equal(enricher_new(&(struct enricher_options){.loop = r->loop,
	                                                         .lookup = &fake.base,
	                                                         .metrics = r->metrics,
	                                                         .key_prefix = "",
	                                                         .timeout = USEC_PER_SEC,
	                                                         .max_keys = 1},
	                              &enricher),
	                 ERR_OK);
	so.enricher = enricher;
	assert_int_equal(stack_new(r, &so, &r->s), ERR_OK);
	assert_true(turn_until(r, is_up, LONG_MSEC));
	return 0;
}

static int teardown_enriched(void **state)
{
	struct rig *r = rig_of(state);

	if (!server.pid)
		return 0;
	if (fake.pending) /* as its server's client does when it is freed */
		fake_answers(ERR_CANCELLED);
	stack_free(&r->s);
	enricher_free(enricher);
	enricher = NULL;
	return teardown(state);
}

/* An event with one report for each of `n` message ids. */
static void put_report(struct rig *r, const char *id, const char *const *messages, size_t n)
{
	struct event *e = make_event(r, (struct sample){.id = id});
	struct recipient_reports *reports =
	    mem_zalloc(sizeof(*reports) + n * sizeof(*reports->list));

	assert_non_null(e);
	assert_non_null(reports);
	for (size_t i = 0; i < n; i++)
		reports->list[reports->n++] = (struct recipient_report){
		    .message_id = str_of(messages[i]), .address = STR("a@b"), .at = clock_wall()};
	e->reports = reports;
	e->reports_read = true;
	assert_int_equal(put_into(&r->s, e), ERR_OK);
}

static bool is_asked(struct rig *r)
{
	(void)r;
	return fake.pending > 0;
}

#define RECIPIENT_OF(id) "SELECT recipient_id FROM weir.events WHERE event_id = '" id "'"

static void test_stored_with_what_was_found(void **state)
{
	static const char *const one[] = {"m7"}, *const unknown[] = {"x"},
	                         *const two[] = {"m1", "m2"};
	struct rig *r = rig_of(state);

	NEED_SERVER();
	put_report(r, "one", one, 1);
	put_report(r, "unknown", unknown, 1);
	put_report(r, "two", two, 2);
	put(r, (struct sample){.id = "none"});
	assert_true(turn_until(r, is_asked, LONG_MSEC));
	assert_int_equal(fake.n, 4);
	assert_int_equal(r->source.settled, 0);
	fake_answers(ERR_OK);
	assert_true(await_settled(r, 4));
	assert_int_equal(r->source.count[EVENT_STORED], 4);
	assert_text(r, RECIPIENT_OF("one"), "7");
	assert_text(r, RECIPIENT_OF("unknown"), "(null)");
	assert_text(r, RECIPIENT_OF("two"), "(null)");
	assert_text(r, RECIPIENT_OF("none"), "(null)");
}

static void test_goes_on_without(void **state)
{
	static const char *const one[] = {"m7"};
	struct rig *r = rig_of(state);

	NEED_SERVER();
	put_report(r, "failed", one, 1);
	assert_true(turn_until(r, is_asked, LONG_MSEC));
	fake_answers(ERR_TIMEOUT);
	assert_true(await_settled(r, 1));
	put_report(r, "skipped", one, 1);
	assert_true(await_settled(r, 2));
	assert_int_equal(fake.asked, 1);
	assert_text(r, RECIPIENT_OF("failed"), "(null)");
	assert_text(r, RECIPIENT_OF("skipped"), "(null)");
}

static void test_without_reports_nothing_is_asked(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	put_numbered(r, "e", 50);
	assert_true(await_settled(r, 50));
	assert_int_equal(fake.asked, 0);
}

static void test_given_back_while_it_is_asked(void **state)
{
	static const char *const one[] = {"m7"};
	struct rig *r = rig_of(state);

	NEED_SERVER();
	put_report(r, "e", one, 1);
	assert_true(turn_until(r, is_asked, LONG_MSEC));
	batch_processor_stop(r->s.processor, 1, NULL, NULL);
	assert_true(await_settled(r, 1));
	assert_int_equal(r->source.count[EVENT_RETURNED], 1);
	fake_answers(ERR_OK);
	assert_false(turn_until(r, never, 20));
	assert_int_equal(r->source.settled, 1);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 0);
}

static void test_freed_while_it_is_asked(void **state)
{
	static const char *const one[] = {"m7"};
	struct rig *r = rig_of(state);

	NEED_SERVER();
	put_report(r, "e", one, 1);
	assert_true(turn_until(r, is_asked, LONG_MSEC));
}

#define ENRICHED(f) cmocka_unit_test_setup_teardown(f, setup_enriched, teardown_enriched)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    ENRICHED(test_stored_with_what_was_found),
	    ENRICHED(test_goes_on_without),
	    ENRICHED(test_without_reports_nothing_is_asked),
	    ENRICHED(test_given_back_while_it_is_asked),
	    ENRICHED(test_freed_while_it_is_asked),
	};

	if (!quiet_log("error"))
		return 2;
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
