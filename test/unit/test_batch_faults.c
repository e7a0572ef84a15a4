/* Batches on a Postgres in trouble: nothing is lost, nothing is stored twice, and only what is at
 * fault itself becomes a dead letter. */
#include "pipeline_rig.h"

#include "weir/pipeline/verdict.h"

static long count(struct rig *r, const char *table)
{
	char text[96];

	snprintf(text, sizeof(text), "SELECT count(*) FROM weir.%s", table);
	return number(r, text);
}

#define POISON_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown_poison)

/* ---- what is at fault itself ---- */

static void test_poison_is_isolated(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	poison(r, "bad", "22023");
	put_numbered(r, "ok", 250);
	put(r, (struct sample){.id = "bad_1", .body = STR("\xff{")});
	put_numbered(r, "fine", 200);
	put(r, (struct sample){.id = "bad_2", .tool = "stripe", .type = "t"});
	put_numbered(r, "good", 50);
	assert_true(await_settled(r, 502));
	assert_int_equal(r->source.count[EVENT_STORED], 500);
	assert_int_equal(r->source.count[EVENT_DEAD], 2);
	assert_int_equal(count(r, "events"), 500);
	assert_int_equal(count(r, "event_keys"), 500);
	assert_text(
	    r,
	    "SELECT concat_ws('|', tool, event_type, event_id, stage, error_class, sqlstate,"
	    " message, headers, content_type, encode(body, 'hex'), envelope IS NULL,"
	    " attempts > 1, state, received_at > now() - interval '1 min')"
	    " FROM weir.dead_letters WHERE event_id = 'bad_1'",
	    "github|push|bad_1|store|data|22023|no bad_1|[[\"user-agent\",\"test\"]]|"
	    "application/json|ff7b|t|t|open|t");
}

static void test_every_event_is_poison(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	poison(r, "", "23502");
	put_numbered(r, "bad", 40);
	assert_true(await_settled(r, 40));
	assert_int_equal(r->source.count[EVENT_DEAD], 40);
	assert_int_equal(count(r, "dead_letters"), 40);
	assert_int_equal(count(r, "event_keys"), 0);
}

/* A namesake of a poison event that does not bear the poison is stored, and what it then is for
 * others counts. */
static void test_duplicate_of_a_poison_event(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	sql(r, "ALTER TABLE weir.events ADD CONSTRAINT no_x CHECK (body <> 'x')");
	put(r, (struct sample){.id = "1", .body = STR("x"), .received = 1});
	put(r, (struct sample){.id = "1", .body = STR("y")});
	put(r, (struct sample){.id = "1", .body = STR("y")});
	put(r, (struct sample){.id = "1", .body = STR("z")});
	assert_true(await_settled(r, 4));
	sql(r, "ALTER TABLE weir.events DROP CONSTRAINT no_x");
	assert_int_equal(r->source.fates[0], EVENT_DEAD);
	assert_int_equal(r->source.count[EVENT_STORED], 1);
	assert_int_equal(r->source.count[EVENT_DUPLICATE], 1);
	assert_int_equal(r->source.count[EVENT_DEAD], 2);
	assert_int_equal(count(r, "events"), 1);
	assert_text(r, "SELECT string_agg(error_class, ' ' ORDER BY id) FROM weir.dead_letters",
	            "data conflict");
}

/* Texts that the database refuses in any table; nothing before the pipeline lets them through. */
static void test_dead_letter_of_bad_text(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	put(r, (struct sample){.id = "a\xff", .type = "\xc3\x28", .body = STR("\xff")});
	put(r, (struct sample){.id = "1"});
	assert_true(await_settled(r, 2));
	assert_int_equal(r->source.fates[0], EVENT_DEAD);
	assert_int_equal(r->source.fates[1], EVENT_STORED);
	assert_text(r,
	            "SELECT concat_ws('|', event_type, event_id, sqlstate, encode(body, 'hex'),"
	            " headers IS NULL) FROM weir.dead_letters",
	            "\\xc3(|a\\xff|22021|ff|t");
}

/* What the queue condemned, or could not read, is buried and nothing else; what is only alone is
 * stored as ever, and is known to be at the database. */
static void test_unfit(void **state)
{
	static const uint32_t flags[] = {EVENT_ALONE | EVENT_CONDEMNED, EVENT_MALFORMED,
	                                 EVENT_GIVEN_UP, EVENT_ALONE};
	static const char *const ids[] = {"condemned", "malformed", "given up", "alone"};
	struct rig *r = rig_of(state);
	struct event *e[4];

	NEED_SERVER();
	put_numbered(r, "before", 20);
	for (size_t i = 0; i < 4; i++) {
		e[i] = make_event(r, (struct sample){.id = ids[i]});
		assert_non_null(e[i]);
		e[i]->flags |= flags[i];
		assert_int_equal(put_into(&r->s, event_ref(e[i])), ERR_OK);
	}
	put_numbered(r, "after", 20);
	assert_true(await_settled(r, 44));
	assert_int_equal(r->source.count[EVENT_STORED], 41);
	assert_int_equal(r->source.count[EVENT_DEAD], 3);
	assert_text(r,
	            "SELECT string_agg(concat_ws('|', event_id, stage, error_class, state), ' '"
	            " ORDER BY event_id) FROM weir.dead_letters",
	            "condemned|queue|data|open given up|queue|unknown_tool|open"
	            " malformed|queue|data|open");
	assert_false(e[0]->flags & EVENT_SENT);
	assert_true(e[3]->flags & EVENT_SENT);
	for (size_t i = 0; i < 4; i++)
		event_unref(e[i]);
}

/* Its processes died behind the commit: it is stored, and no dead letter besides. */
static void test_condemned_but_stored(void **state)
{
	struct rig *r = rig_of(state);
	struct event *e, *again;

	NEED_SERVER();
	e = make_event(r, (struct sample){.id = "1"});
	again = make_event(r, (struct sample){.id = "1"});
	assert_non_null(e);
	assert_non_null(again);
	again->view.uid = e->view.uid;
	again->flags |= EVENT_ALONE | EVENT_CONDEMNED;
	assert_int_equal(put_into(&r->s, e), ERR_OK);
	assert_true(await_settled(r, 1));
	assert_int_equal(put_into(&r->s, again), ERR_OK);
	assert_true(await_settled(r, 2));
	assert_int_equal(count(r, "events"), 1);
	assert_int_equal(count(r, "dead_letters"), 0);
}

/* Not by its SQLSTATE, but by failing again and again while the database answers. */
static void test_suspect_is_isolated(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	poison(r, "sick", "57014");
	put_numbered(r, "ok", 3);
	put(r, (struct sample){.id = "sick"});
	assert_true(await_settled(r, 4));
	assert_int_equal(r->source.count[EVENT_STORED], 3);
	assert_int_equal(r->source.count[EVENT_DEAD], 1);
	assert_text(r, "SELECT error_class || sqlstate FROM weir.dead_letters", "timeout57014");
	assert_true(number(r, "SELECT attempts FROM weir.dead_letters") >= 10);
}

static const struct stack_options quick = {
    .connections = 2, .workers = 4, .batch_size = 100, .quick_retries = 1000};

static int setup_quick(void **state)
{
	return setup_with(state, &quick);
}

static bool any_settled(struct rig *r)
{
	return r->source.settled > 0;
}

/* The database answers, but nothing can be stored: nobody is condemned, however often it comes. */
static void test_nobody_is_condemned_without_evidence(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	poison(r, "all", "57014");
	put_numbered(r, "all", 2);
	/* Strikes that would condemn come within three seconds. */
	assert_false(turn_until(r, any_settled, 6000));
	sql(r, "DROP TRIGGER poison ON weir.events");
	assert_true(await_settled(r, 2));
	assert_int_equal(r->source.count[EVENT_STORED], 2);
	assert_int_equal(count(r, "dead_letters"), 0);
}

static bool one_dead(struct rig *r)
{
	return r->source.count[EVENT_DEAD] > 0;
}

/* A fault of the set-up, say a function that is missing, kills nobody while nothing else can be
 * stored; its mates go on, and it does when the set-up is mended. */
static void test_config_kills_nobody(void **state)
{
	struct rig *r = rig_of(state);
	usec_t give_up;

	NEED_SERVER();
	poison(r, "", "42883");
	put_numbered(r, "e", 2);
	r->want = 1;
	assert_false(turn_until(r, all_settled, 4500));
	poison(r, "none", "42883");
	assert_true(await_settled(r, 2));
	assert_int_equal(r->source.count[EVENT_STORED], 2);
	assert_int_equal(count(r, "dead_letters"), 0);

	/* But where others are stored all the time, it is the event. */
	poison(r, "odd", "42883");
	put(r, (struct sample){.id = "odd"});
	give_up = clock_mono() + 2 * LONG_MSEC * MSEC;
	while (r->source.count[EVENT_DEAD] == 0) {
		assert_true(clock_mono() < give_up);
		put_numbered(r, "more", 1);
		(void)turn_until(r, one_dead, 50);
	}
	assert_int_equal(r->source.count[EVENT_DEAD], 1);
}

static bool good_ones_stored(struct rig *r)
{
	return r->source.count[EVENT_STORED] >= r->want;
}

/* More events fail for a fault of the set-up than there are workers; the others get through, and by
 * that it is known that it is those events. */
static void test_many_bad_ones_block_nobody(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	poison(r, "odd", "42883");
	put_numbered(r, "odd", 60);
	put_numbered(r, "ok", 600);
	r->want = 600;
	assert_true(turn_until(r, good_ones_stored, LONG_MSEC));
	assert_true(await_settled(r, 660));
	assert_int_equal(r->source.count[EVENT_DEAD], 60);
}

/* ---- what passes ---- */

static void test_missing_partition_is_made(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	sql(r, "DO $$ BEGIN EXECUTE 'DROP TABLE weir.events_' || to_char(now() AT TIME ZONE 'UTC',"
	       " 'YYYYMMDD'); END $$");
	put_numbered(r, "e", 150);
	assert_true(await_settled(r, 150));
	assert_int_equal(r->source.count[EVENT_STORED], 150);
	assert_int_equal(count(r, "events"), 150);
	assert_int_equal(count(r, "dead_letters"), 0);
}

static void test_outage(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	put_numbered(r, "before", 100);
	assert_true(await_settled(r, 100));
	put_numbered(r, "caught", 300);
	(void)turn_until(r, never, 2);
	disconnect(r);
	pg_server_down(&server, SIGQUIT);
	put_numbered(r, "during", 300);
	assert_true(turn_until(r, is_down, LONG_MSEC));
	(void)turn_until(r, never, 1500);
	assert_true(pg_server_up(&server));
	assert_true(await_settled(r, 700));
	assert_int_equal(r->source.count[EVENT_STORED], 700);
	assert_int_equal(count(r, "events"), 700);
	assert_int_equal(count(r, "dead_letters"), 0);
}

/* Backends take a reload when they please, so the pool's are replaced by new ones. */
static void set_read_only(struct rig *r, bool on)
{
	sql(r, "SET transaction_read_only = off");
	sql(r, on ? "ALTER SYSTEM SET default_transaction_read_only = on"
	          : "ALTER SYSTEM RESET default_transaction_read_only");
	sql(r, "SELECT pg_reload_conf()");
	do {
		disconnect(r);
		(void)turn_until(r, never, 5);
	} while (
	    number(r, "SELECT (current_setting('default_transaction_read_only') = 'on')::int") !=
	    on);
	sql(r, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
	       " WHERE application_name = 'weir-test'");
}

static void test_read_only(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	set_read_only(r, true);
	put_numbered(r, "e", 20);
	r->want = 1;
	assert_false(turn_until(r, all_settled, 1500));
	set_read_only(r, false);
	assert_true(await_settled(r, 20));
	assert_int_equal(r->source.count[EVENT_STORED], 20);
	assert_int_equal(count(r, "dead_letters"), 0);
}

/* Connections die at random moments, also between a COMMIT and its answer. */
static void test_killed_backends(void **state)
{
	enum { TOTAL = 6000, KILLS = 40 };
	struct rig *r = rig_of(state);
	size_t sent = 0;

	NEED_SERVER();
	assert_true(turn_until(r, is_up, LONG_MSEC));
	for (int i = 0; i < KILLS; i++) {
		char prefix[16];

		snprintf(prefix, sizeof(prefix), "k%d", i);
		put_numbered(r, prefix, TOTAL / KILLS);
		sent += TOTAL / KILLS;
		(void)turn_until(r, never, 1 + i % 7);
		sql(r, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
		       " WHERE application_name = 'weir-test'");
	}
	assert_true(await_settled(r, sent));
	/* None is taken for a duplicate of itself. */
	assert_int_equal(r->source.count[EVENT_STORED], sent);
	assert_int_equal(count(r, "events"), sent);
	assert_int_equal(number(r, "SELECT count(DISTINCT uid) FROM weir.events"), sent);
	assert_int_equal(count(r, "dead_letters"), 0);
}

/* Those of the pool; the server's children do not stop with it. */
static void signal_backends(struct rig *r, int signo)
{
	PGresult *res =
	    query(r, "SELECT pid FROM pg_stat_activity WHERE application_name = 'weir-test'");

	assert_true(PQntuples(res) > 0);
	for (int i = 0; i < PQntuples(res); i++)
		assert_int_equal(kill((pid_t)strtol(PQgetvalue(res, i, 0), NULL, 10), signo), 0);
	PQclear(res);
}

/* The server does not answer at all for longer than the deadline; what it then commits is ours. */
static void test_frozen(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	assert_true(turn_until(r, is_up, LONG_MSEC));
	put_numbered(r, "warm", 1);
	assert_true(await_settled(r, 1));
	for (int round = 0; round < 3; round++) {
		char prefix[16];

		snprintf(prefix, sizeof(prefix), "f%d", round);
		put_numbered(r, prefix, 100);
		(void)turn_until(r, never, round);
		signal_backends(r, SIGSTOP);
		(void)turn_until(r, never, 500);
		signal_backends(r, SIGCONT);
	}
	assert_true(await_settled(r, 301));
	assert_int_equal(r->source.count[EVENT_STORED], 301);
	assert_int_equal(count(r, "events"), 301);
}

/* Another transaction holds one of the keys for a while. */
static void test_lock_is_waited_for(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	sql(r, "BEGIN");
	sql(r, "LOCK TABLE weir.events IN ACCESS EXCLUSIVE MODE");
	put_numbered(r, "l", 10);
	r->want = 1;
	assert_false(turn_until(r, all_settled, 700));
	sql(r, "COMMIT");
	assert_true(await_settled(r, 10));
	assert_int_equal(r->source.count[EVENT_STORED], 10);
}

/* ---- stopping in trouble ---- */

static void on_idle(void *arg)
{
	((struct stack *)arg)->idle_calls++;
}

static bool told_idle(struct rig *r)
{
	return r->s.idle_calls > 0;
}

static void test_stop_while_away(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	assert_true(turn_until(r, is_up, LONG_MSEC));
	disconnect(r);
	pg_server_down(&server, SIGQUIT);
	put_numbered(r, "a", 450);
	(void)turn_until(r, never, 300);
	batch_processor_stop(r->s.processor, 200 * MSEC, on_idle, &r->s);
	assert_true(turn_until(r, told_idle, LONG_MSEC));
	assert_int_equal(r->source.count[EVENT_RETURNED], 450);
	assert_int_equal(event_buffer_held_bytes(r->s.buffer), 0);
	assert_true(pg_server_up(&server));
}

/* Given back while a transaction is under way, whose answer then comes. */
static void test_stop_while_locked(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	assert_true(turn_until(r, is_up, LONG_MSEC));
	sql(r, "BEGIN");
	sql(r, "LOCK TABLE weir.events IN ACCESS EXCLUSIVE MODE");
	put_numbered(r, "a", 250);
	(void)turn_until(r, never, 50);
	batch_processor_stop(r->s.processor, 100 * MSEC, on_idle, &r->s);
	assert_true(turn_until(r, told_idle, LONG_MSEC));
	assert_int_equal(r->source.count[EVENT_RETURNED], 250);
	assert_true(batch_processor_in_flight(r->s.processor) > 0);
	sql(r, "COMMIT");
	(void)turn_until(r, never, 200);
	assert_int_equal(batch_processor_in_flight(r->s.processor), 0);
	assert_int_equal(r->source.settled, 250);
}

/* The pool ends first: all is given back, by its completions. */
static void test_pool_stops_first(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	assert_true(turn_until(r, is_up, LONG_MSEC));
	sql(r, "BEGIN");
	sql(r, "LOCK TABLE weir.events IN ACCESS EXCLUSIVE MODE");
	put_numbered(r, "a", 250);
	(void)turn_until(r, never, 20);
	pg_pool_stop(r->s.pool);
	batch_processor_stop(r->s.processor, 100 * MSEC, on_idle, &r->s);
	assert_true(turn_until(r, told_idle, LONG_MSEC));
	assert_int_equal(r->source.count[EVENT_RETURNED], 250);
	sql(r, "COMMIT");
}

static bool some_wait(struct rig *r)
{
	return r->want-- == 0;
}

/* Freed with events in every state; the references go with it. */
static void test_freed_in_trouble(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	assert_true(turn_until(r, is_up, LONG_MSEC));
	poison(r, "sick", "57014");
	put(r, (struct sample){.id = "sick"});
	put_numbered(r, "a", 250);
	r->want = 100;
	(void)turn_until(r, some_wait, 400);
}

/* ---- the judgement ---- */

static void test_verdicts(void **state)
{
	(void)state;
	assert_int_equal(verdict_of(ERR_DATA), VERDICT_DATA);
	assert_int_equal(verdict_of(ERR_TOOBIG), VERDICT_DATA);
	assert_int_equal(verdict_of(ERR_NOTABLE), VERDICT_HEAL);
	assert_int_equal(verdict_of(ERR_NOMEM), VERDICT_RETRY);
	assert_int_equal(verdict_of(ERR_FULL), VERDICT_SUSPECT);
	assert_int_equal(verdict_of(ERR_CLOSED), VERDICT_SUSPECT);
	assert_int_equal(verdict_of(ERR_TIMEOUT), VERDICT_SUSPECT);
	assert_int_equal(verdict_of(ERR_UNAVAILABLE), VERDICT_SUSPECT);
	assert_int_equal(verdict_of(ERR_BUG), VERDICT_CONFIG);
	assert_int_equal(verdict_of(ERR_CANCELLED), VERDICT_RETURN);
	/* Every error that the contract of errors calls infrastructure is retried. */
	for (int e = 0; e < ERR_COUNT; e++) {
		if (err_fate((enum err)e) == FATE_RETRY)
			assert_int_not_equal(verdict_of((enum err)e), VERDICT_DATA);
	}
}

static void test_delays(void **state)
{
	(void)state;
	for (unsigned tries = 1; tries < 200; tries++) {
		usec_t delay = verdict_delay(tries, 3);

		assert_true(delay > 0);
		assert_true(delay <= (tries <= 3 ? 400 * MSEC : 5000 * MSEC));
	}
	assert_true(verdict_delay(100, 3) >= 2500 * MSEC);
	assert_true(verdict_delay(1, 0) >= 250 * MSEC);
}

/* Short deadlines, and many tries before the waits grow long. */
static int setup_hasty(void **state)
{
	static const struct stack_options hasty = {.connections = 2,
	                                           .workers = 4,
	                                           .batch_size = 100,
	                                           .quick_retries = 1000,
	                                           .query_timeout = 300 * USEC_PER_MSEC};

	return setup_with(state, &hasty);
}

static int setup_patient(void **state)
{
	static const struct stack_options patient = {
	    .connections = 2, .workers = 4, .batch_size = 100, .quick_retries = 1000};

	return setup_with(state, &patient);
}

#define PATIENT_TEST(f) cmocka_unit_test_setup_teardown(f, setup_patient, teardown_poison)
#define HASTY_TEST(f)   cmocka_unit_test_setup_teardown(f, setup_hasty, teardown_poison)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    POISON_TEST(test_poison_is_isolated),
	    POISON_TEST(test_every_event_is_poison),
	    POISON_TEST(test_duplicate_of_a_poison_event),
	    POISON_TEST(test_dead_letter_of_bad_text),
	    TEST(test_unfit),
	    TEST(test_condemned_but_stored),
	    PATIENT_TEST(test_suspect_is_isolated),
	    cmocka_unit_test_setup_teardown(test_nobody_is_condemned_without_evidence, setup_quick,
	                                    teardown_poison),
	    PATIENT_TEST(test_config_kills_nobody),
	    PATIENT_TEST(test_many_bad_ones_block_nobody),
	    TEST(test_missing_partition_is_made),
	    TEST(test_outage),
	    TEST(test_read_only),
	    TEST(test_killed_backends),
	    HASTY_TEST(test_frozen),
	    TEST(test_lock_is_waited_for),
	    TEST(test_stop_while_away),
	    TEST(test_stop_while_locked),
	    TEST(test_pool_stops_first),
	    POISON_TEST(test_freed_in_trouble),
	    cmocka_unit_test(test_verdicts),
	    cmocka_unit_test(test_delays),
	};

	if (!quiet_log("error"))
		return 2;
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
