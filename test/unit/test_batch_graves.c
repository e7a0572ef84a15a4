/* Dead letters in trouble of their own: written once, of what is not stored besides, and in
 * nobody's way. */
#include "pipeline_rig.h"

static const struct stack_options hasty = {.connections = 2,
                                           .workers = 4,
                                           .batch_size = 100,
                                           .quick_retries = 1000,
                                           .query_timeout = 300 * USEC_PER_MSEC};

static int setup_hasty(void **state)
{
	return setup_with(state, &hasty);
}

static int cure(void **state)
{
	if (*state)
		sql(*state, "DROP TRIGGER IF EXISTS sick ON weir.events;"
		            "DROP TRIGGER IF EXISTS grave ON weir.dead_letters;"
		            "DROP SEQUENCE IF EXISTS weir.graves");
	return teardown(state);
}

#define GRAVE_TEST(f) cmocka_unit_test_setup_teardown(f, setup_hasty, cure)

/* Events whose id starts with "sick" are refused as data where `when` holds. */
static void refuse(struct rig *r, const char *when)
{
	char text[512];

	snprintf(text, sizeof(text),
	         "CREATE OR REPLACE FUNCTION weir.sick() RETURNS trigger LANGUAGE plpgsql AS $$"
	         " BEGIN IF NEW.event_id LIKE 'sick%%' AND %s THEN"
	         " RAISE EXCEPTION 'no' USING ERRCODE = '22023';"
	         " END IF; RETURN NEW; END $$;"
	         "CREATE TRIGGER sick BEFORE INSERT ON weir.events"
	         " FOR EACH ROW EXECUTE FUNCTION weir.sick()",
	         when);
	sql(r, text);
}

/* What each row of a dead letter goes through. */
static void dig(struct rig *r, const char *body)
{
	char text[512];

	snprintf(text, sizeof(text),
	         "CREATE OR REPLACE FUNCTION weir.grave() RETURNS trigger LANGUAGE plpgsql AS $$"
	         " BEGIN %s RETURN NEW; END $$;"
	         "CREATE TRIGGER grave BEFORE INSERT ON weir.dead_letters"
	         " FOR EACH ROW EXECUTE FUNCTION weir.grave()",
	         body);
	sql(r, text);
}

/* Nobody learns whether the first burial was done, and from then on the event could be stored: it
 * is buried nevertheless, and once, for what it was buried for. */
static void test_burial_in_doubt(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	sql(r, "CREATE SEQUENCE weir.graves");
	refuse(r, "NOT (SELECT is_called FROM weir.graves)");
	dig(r, "IF nextval('weir.graves') = 1 THEN PERFORM pg_sleep(1); END IF;");
	put(r, (struct sample){.id = "sick"});
	assert_true(await_settled(r, 1));
	assert_int_equal(r->source.fates[0], EVENT_DEAD);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 0);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.dead_letters"), 1);
	assert_true(number(r, "SELECT last_value FROM weir.graves") > 1);
	assert_text(r, "SELECT error_class || sqlstate || message FROM weir.dead_letters",
	            "data22023no");
}

static struct event *again(struct rig *r, const char *id, const struct uuid *uid)
{
	struct event *e = make_event(r, (struct sample){.id = id});

	assert_non_null(e);
	if (uid)
		e->view.uid = *uid;
	e->flags |= EVENT_AGAIN;
	return e;
}

/* Its process died behind the burial's commit, and what refused it is gone when it comes again: it
 * is a dead letter and stays one, and is done. What came beside it was none. */
static void test_buried_by_the_dead(void **state)
{
	struct rig *r = rig_of(state);
	struct event *e;
	struct uuid uid;

	NEED_SERVER();
	refuse(r, "true");
	e = make_event(r, (struct sample){.id = "sick"});
	assert_non_null(e);
	uid = e->view.uid;
	assert_int_equal(put_into(&r->s, e), ERR_OK);
	assert_true(await_settled(r, 1));
	assert_int_equal(r->source.fates[0], EVENT_DEAD);
	sql(r, "DROP TRIGGER sick ON weir.events");
	assert_int_equal(put_into(&r->s, again(r, "other", NULL)), ERR_OK);
	assert_int_equal(put_into(&r->s, again(r, "sick", &uid)), ERR_OK);
	put_numbered(r, "new", 5);
	assert_int_equal(put_into(&r->s, again(r, "sick", &uid)), ERR_OK);
	assert_true(await_settled(r, 9));
	assert_int_equal(r->source.count[EVENT_DEAD], 3);
	assert_int_equal(r->source.count[EVENT_STORED], 6);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.dead_letters"), 1);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events WHERE event_id = 'sick'"), 0);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 6);
	/* All of a batch. */
	assert_int_equal(put_into(&r->s, again(r, "sick", &uid)), ERR_OK);
	assert_true(await_settled(r, 10));
	assert_int_equal(number(r, "SELECT count(*) FROM weir.dead_letters"), 1);
	/* Who cannot look stores nothing. */
	sql(r, "ALTER TABLE weir.dead_letters RENAME TO hidden");
	assert_int_equal(put_into(&r->s, again(r, "late", NULL)), ERR_OK);
	(void)turn_until(r, never, 700);
	assert_int_equal(r->source.settled, 10);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 6);
	sql(r, "ALTER TABLE weir.hidden RENAME TO dead_letters");
	assert_true(await_settled(r, 11));
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 7);
}

static bool good_ones_stored(struct rig *r)
{
	return r->source.count[EVENT_STORED] >= r->want;
}

/* More batches than there are workers hold an event that neither table takes: the others go on, and
 * so does it once one of the tables does. */
static void test_refused_everywhere(void **state)
{
	enum { BATCHES = 12, MATES = 99 };
	struct rig *r = rig_of(state);

	NEED_SERVER();
	refuse(r, "true");
	dig(r, "RAISE EXCEPTION 'nor here' USING ERRCODE = '22023';");
	for (int i = 0; i < BATCHES; i++) {
		char id[32];

		snprintf(id, sizeof(id), "sick_%d", i);
		put(r, (struct sample){.id = id});
		snprintf(id, sizeof(id), "ok_%d", i);
		put_numbered(r, id, MATES);
	}
	r->want = (size_t)BATCHES * MATES;
	assert_true(turn_until(r, good_ones_stored, LONG_MSEC));
	assert_int_equal(r->source.count[EVENT_DEAD], 0);
	sql(r, "DROP TRIGGER grave ON weir.dead_letters");
	assert_true(await_settled(r, (size_t)BATCHES * (MATES + 1)));
	assert_int_equal(r->source.count[EVENT_DEAD], BATCHES);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.dead_letters"), BATCHES);
}

/* first_at is when it failed first, last_at when it was given up. */
static void test_first_and_last(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	refuse(r, "true");
	dig(r, "RAISE EXCEPTION 'nor here' USING ERRCODE = '22023';");
	put(r, (struct sample){.id = "sick"});
	put(r, (struct sample){.id = "1", .body = STR("x")});
	put(r, (struct sample){.id = "1", .body = STR("y")});
	(void)turn_until(r, never, 700);
	sql(r, "DROP TRIGGER grave ON weir.dead_letters");
	assert_true(await_settled(r, 3));
	assert_text(r,
	            "SELECT string_agg(concat_ws('|', event_id, attempts > 1,"
	            " last_at - first_at BETWEEN '0.4 s' AND '60 s', received_at <= first_at,"
	            " last_at > now() - interval '1 min'), ' ' ORDER BY event_id DESC)"
	            " FROM weir.dead_letters WHERE event_id = 'sick'",
	            "sick|t|t|t|t");
	assert_int_equal(number(r, "SELECT count(*) FROM weir.dead_letters"
	                           " WHERE error_class = 'conflict' AND first_at <= last_at"),
	                 1);
}

/* The key of a conflict's body vanishes between the claim and the look at it: the event is no
 * duplicate then, but tried again. */
static void test_conflict_that_nobody_holds(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	put(r, (struct sample){.id = "1", .body = STR("x")});
	assert_true(await_settled(r, 1));
	put(r, (struct sample){.id = "1", .body = STR("y")});
	assert_true(await_settled(r, 2));
	assert_int_equal(r->source.fates[1], EVENT_DEAD);
	sql(r, "CREATE FUNCTION weir.forget() RETURNS trigger LANGUAGE plpgsql AS $$"
	       " BEGIN IF NOT EXISTS (SELECT FROM fresh) THEN DELETE FROM weir.event_keys"
	       " WHERE uid IN (SELECT uid FROM weir.dead_letters); END IF; RETURN NULL; END $$;"
	       "CREATE TRIGGER forget AFTER INSERT ON weir.dead_letters"
	       " REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT"
	       " EXECUTE FUNCTION weir.forget()");
	put(r, (struct sample){.id = "1", .body = STR("y")});
	assert_true(await_settled(r, 3));
	sql(r, "DROP TRIGGER forget ON weir.dead_letters; DROP FUNCTION weir.forget()");
	assert_int_equal(r->source.fates[2], EVENT_DEAD);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.dead_letters"), 2);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    GRAVE_TEST(test_burial_in_doubt),      GRAVE_TEST(test_buried_by_the_dead),
	    GRAVE_TEST(test_refused_everywhere),   GRAVE_TEST(test_first_and_last),
	    TEST(test_conflict_that_nobody_holds),
	};

	if (!quiet_log("error"))
		return 2;
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
