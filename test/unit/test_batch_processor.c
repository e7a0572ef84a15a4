/* Batches on a real Postgres, in fair weather: what is stored, what is a duplicate, how it stops.
 */
#include "pipeline_rig.h"

#include "weir/base/digest.h"

/* ---- content ---- */

static struct str all_bytes(void)
{
	static char bytes[512];

	for (int i = 0; i < 512; i++)
		bytes[i] = (char)i;
	return str_n(bytes, sizeof(bytes));
}

static struct str deep(void)
{
	static char nested[200000];

	memset(nested, '[', 100000);
	memset(nested + 100000, ']', 100000);
	return str_n(nested, sizeof(nested));
}

static bool stored_as(struct rig *r, const struct event *e)
{
	const char *values[2] = {(const char *)e->view.uid.bytes, e->view.body.ptr};
	const int lengths[2] = {16, (int)e->view.body.len}, formats[2] = {1, 1};
	const Oid types[2] = {PG_UUID, PG_BYTEA};
	PGresult *res;
	bool found;

	(void)number(r, "SELECT 1");
	res = PQexecParams(r->db, "SELECT FROM weir.events WHERE uid = $1 AND body = $2", 2, types,
	                   values, lengths, formats, 0);
	found = PQntuples(res) == 1;
	PQclear(res);
	return found;
}

static void test_bytes_are_kept(void **state)
{
	const struct str bodies[] = {
	    all_bytes(),
	    deep(),
	    STR("{\"a\":\"\\u0000\"}"),
	    STR("[1e400,-1e400000]"),
	    STR("\"\\ud800\""),
	    STR("\xff"),
	    STR("\0"),
	    str_n("", 0),
	    STR("\357\273\277[1]"),
	    STR("{}"),
	};
	struct rig *r = rig_of(state);
	struct event *events[TORTURE_LEN(bodies)];
	char id[32];

	NEED_SERVER();
	for (size_t i = 0; i < TORTURE_LEN(bodies); i++) {
		snprintf(id, sizeof(id), "b%zu", i);
		events[i] = make_event(r, (struct sample){.id = id, .body = bodies[i]});
		event_ref(events[i]);
		assert_int_equal(put_into(&r->s, events[i]), ERR_OK);
	}
	assert_true(await_settled(r, TORTURE_LEN(bodies)));
	assert_int_equal(r->source.count[EVENT_STORED], TORTURE_LEN(bodies));
	for (size_t i = 0; i < TORTURE_LEN(bodies); i++) {
		assert_true(stored_as(r, events[i]));
		event_unref(events[i]);
	}
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), TORTURE_LEN(bodies));
	assert_int_equal(number(r, "SELECT count(weir.body_json(body)) FROM weir.events"), 1);
}

static void test_all_columns(void **state)
{
	struct rig *r = rig_of(state);
	struct event_view v = {
	    .tool = STR("stripe"),
	    .type = STR("invoice.paid"),
	    .id = STR("evt_1"),
	    .received = 1700000000123456,
	    .headers = STR("[[\"a\",\"\\u0000\"],[\"b\",null]]"),
	    .content_type = STR("text/plain"),
	    .traceparent = STR("00-4bf92f35-01"),
	    .body = STR("x"),
	    .envelope = STR("[]"),
	};
	struct event *e;

	NEED_SERVER();
	uuid_make(v.received, &v.uid);
	assert_int_equal(event_make(&v, &e), ERR_OK);
	e->source = &r->source.base;
	assert_int_equal(put_into(&r->s, e), ERR_OK);
	v = (struct event_view){
	    .tool = STR("t"), .type = STR("unknown"), .received = 1, .body = STR("y")};
	uuid_make(clock_wall(), &v.uid);
	assert_int_equal(event_make(&v, &e), ERR_OK);
	assert_int_equal(put_into(&r->s, e), ERR_OK); /* without a source */
	assert_true(await_settled(r, 1));

	assert_text(
	    r,
	    "SELECT concat_ws('|', tool, event_type, event_id, received_at, headers,"
	    " content_type, traceparent, convert_from(body, 'UTF8'),"
	    " convert_from(envelope, 'UTF8'), outcome, stored_at > now() - interval '1 min')"
	    " FROM weir.events WHERE tool = 'stripe'",
	    "stripe|invoice.paid|evt_1|2023-11-14 22:13:20.123456+00|"
	    "[[\"a\",\"\\u0000\"],[\"b\",null]]|text/plain|00-4bf92f35-01|x|[]|stored|t");
	assert_text(r,
	            "SELECT event_id || '|' || (num_nulls(headers, content_type, envelope,"
	            " traceparent)) FROM weir.events WHERE tool = 't'",
	            "|4");
}

/* Keys of earlier versions stay in the table. */
static void test_body_hash_is_pinned(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	put(r, (struct sample){.id = "1", .body = str_n("", 0)});
	put(r, (struct sample){.id = "2", .body = STR("0123456789abcdef0123456789abcdefXYZ")});
	assert_true(await_settled(r, 2));
	assert_text(r,
	            "SELECT string_agg(k.body_hash::text, ' ' ORDER BY e.event_id)"
	            " FROM weir.event_keys k JOIN weir.events e USING (uid)",
	            "-2643367062223814083 -6962216077357299808");
}

/* ---- duplicates ---- */

/* 500 events, each id twice inside a batch or across two, in one go. */
static void test_duplicates(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	for (size_t i = 0; i < 500; i++) {
		char id[32];

		snprintf(id, sizeof(id), "d%zu", i % 2 ? i % 250 : i / 2);
		put(r, (struct sample){.id = id});
	}
	assert_true(await_settled(r, 500));
	assert_int_equal(r->source.count[EVENT_STORED],
	                 number(r, "SELECT count(*) FROM weir.events"));
	assert_int_equal(r->source.count[EVENT_STORED], 250);
	assert_int_equal(r->source.count[EVENT_DUPLICATE], 250);
	assert_int_equal(number(r, "SELECT count(DISTINCT event_id) FROM weir.events"), 250);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.event_keys"), 250);
}

static void test_same_id_of_another_tool_or_type(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	put(r, (struct sample){.id = "1"});
	put(r, (struct sample){.id = "1", .tool = "gitlab"});
	put(r, (struct sample){.id = "1", .type = "ping"});
	assert_true(await_settled(r, 3));
	assert_int_equal(r->source.count[EVENT_STORED], 3);
}

/* An earlier COMMIT whose answer nobody got: the same event again is stored, not a duplicate. */
static void test_own_key_counts_as_stored(void **state)
{
	struct rig *r = rig_of(state);
	struct event *e;

	NEED_SERVER();
	e = make_event(r, (struct sample){.id = "1"});
	event_ref(e);
	assert_int_equal(put_into(&r->s, e), ERR_OK);
	assert_true(await_settled(r, 1));
	r->source.fates[0] = -1;
	put(r, (struct sample){.id = "1"});
	put(r, (struct sample){.id = "2"});
	assert_int_equal(put_into(&r->s, e), ERR_OK);
	assert_true(await_settled(r, 4));
	assert_int_equal(r->source.fates[0], EVENT_STORED);
	assert_int_equal(r->source.fates[1], EVENT_DUPLICATE);
	assert_int_equal(r->source.fates[2], EVENT_STORED);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 2);
}

static void test_generations(void **state)
{
	struct rig *r = rig_of(state);
	const char *next =
	    "UPDATE weir.event_key_generation SET started_at = now() - interval '9 d';"
	    "SELECT weir.ensure_key_generation(3)";

	NEED_SERVER();
	put(r, (struct sample){.id = "1"});
	assert_true(await_settled(r, 1));
	sql(r, next);
	put(r, (struct sample){.id = "1"});
	put(r, (struct sample){.id = "2"});
	assert_true(await_settled(r, 3));
	assert_int_equal(r->source.fates[1], EVENT_DUPLICATE);
	assert_int_equal(r->source.fates[2], EVENT_STORED);
	sql(r, next);
	put(r, (struct sample){.id = "1"});
	put(r, (struct sample){.id = "2"});
	assert_true(await_settled(r, 5));
	assert_int_equal(r->source.fates[3], EVENT_STORED);
	assert_int_equal(r->source.fates[4], EVENT_DUPLICATE);
}

/* ---- events without id ---- */

#define MINUTE (60 * USEC_PER_SEC)

static void test_window(void **state)
{
	struct rig *r = rig_of(state);
	usec_t t = clock_wall();

	NEED_SERVER();
	put(r, (struct sample){.body = STR("a"), .received = t});
	assert_true(await_settled(r, 1));
	put(r, (struct sample){.body = STR("a"), .received = t + 10 * MINUTE - 1});
	put(r, (struct sample){.body = STR("b"), .received = t});
	assert_true(await_settled(r, 3));
	assert_int_equal(r->source.fates[1], EVENT_DUPLICATE);
	assert_int_equal(r->source.fates[2], EVENT_STORED);
	put(r, (struct sample){.body = STR("a"), .received = t + 10 * MINUTE});
	assert_true(await_settled(r, 4));
	assert_int_equal(r->source.fates[3], EVENT_STORED);
	/* The window counts from the one that was stored last. */
	put(r, (struct sample){.body = STR("a"), .received = t + 11 * MINUTE});
	assert_true(await_settled(r, 5));
	assert_int_equal(r->source.fates[4], EVENT_DUPLICATE);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 3);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.event_keys"), 2);
}

/* All of them in one batch, out of order, as after an outage. */
static void test_window_within_a_batch(void **state)
{
	struct rig *r = rig_of(state);
	usec_t t = clock_wall();

	NEED_SERVER();
	put(r, (struct sample){.body = STR("a"), .received = t + 25 * MINUTE});
	put(r, (struct sample){.body = STR("a"), .received = t});
	put(r, (struct sample){.id = "1"});
	put(r, (struct sample){.body = STR("a"), .received = t + 12 * MINUTE});
	put(r, (struct sample){.body = STR("a"), .received = t + 5 * MINUTE});
	put(r, (struct sample){.body = STR("a"), .received = t + 13 * MINUTE});
	assert_true(await_settled(r, 6));
	assert_int_equal(r->source.fates[0], EVENT_STORED);
	assert_int_equal(r->source.fates[1], EVENT_STORED);
	assert_int_equal(r->source.fates[2], EVENT_STORED);
	assert_int_equal(r->source.fates[3], EVENT_STORED);
	assert_int_equal(r->source.fates[4], EVENT_DUPLICATE);
	assert_int_equal(r->source.fates[5], EVENT_DUPLICATE);
}

/* One that was held up comes after one that was received much later. */
static void test_window_backwards(void **state)
{
	struct rig *r = rig_of(state);
	usec_t t = clock_wall();
	struct event *early;

	NEED_SERVER();
	early = make_event(r, (struct sample){.body = STR("a"), .received = t});
	event_ref(early);
	put(r, (struct sample){.body = STR("a"), .received = t + 30 * MINUTE});
	assert_true(await_settled(r, 1));
	assert_int_equal(put_into(&r->s, early), ERR_OK);
	assert_true(await_settled(r, 2));
	assert_int_equal(r->source.fates[0], EVENT_STORED);

	/* And again, now that it is stored and another holds the key. */
	put(r, (struct sample){.body = STR("a"), .received = t + 60 * MINUTE});
	assert_true(await_settled(r, 3));
	assert_int_equal(r->source.fates[2], EVENT_STORED);
	r->source.fates[0] = -1;
	assert_int_equal(put_into(&r->s, early), ERR_OK);
	assert_true(await_settled(r, 4));
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 3);
}

static void test_window_across_generations(void **state)
{
	struct rig *r = rig_of(state);
	usec_t t = clock_wall();

	NEED_SERVER();
	put(r, (struct sample){.body = STR("a"), .received = t});
	assert_true(await_settled(r, 1));
	sql(r, "UPDATE weir.event_key_generation SET started_at = now() - interval '9 d';"
	       "SELECT weir.ensure_key_generation(3)");
	put(r, (struct sample){.body = STR("a"), .received = t + MINUTE});
	assert_true(await_settled(r, 2));
	assert_int_equal(r->source.fates[1], EVENT_DUPLICATE);
	put(r, (struct sample){.body = STR("a"), .received = t + 20 * MINUTE});
	assert_true(await_settled(r, 3));
	assert_int_equal(r->source.fates[2], EVENT_STORED);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.event_keys"), 1);
}

static void test_dedup_none(void **state)
{
	struct rig *r = rig_of(state);
	struct event *e;

	NEED_SERVER();
	for (int i = 0; i < 3; i++)
		put(r, (struct sample){.body = STR("same"), .dedup_window = EVENT_DEDUP_NONE});
	/* Those with an id are deduplicated all the same. */
	put(r, (struct sample){.id = "1", .dedup_window = EVENT_DEDUP_NONE});
	put(r, (struct sample){.id = "1", .dedup_window = EVENT_DEDUP_NONE});
	/* And by the same rule as before when it comes again, by itself. */
	e = make_event(r, (struct sample){.body = STR("twice"), .dedup_window = EVENT_DEDUP_NONE});
	assert_int_equal(put_into(&r->s, event_ref(e)), ERR_OK);
	assert_true(await_settled(r, 6));
	r->source.fates[5] = -1;
	assert_int_equal(put_into(&r->s, e), ERR_OK);
	assert_true(await_settled(r, 7));
	assert_int_equal(r->source.count[EVENT_STORED], 6);
	assert_int_equal(r->source.count[EVENT_DUPLICATE], 1);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 5);
}

/* Each event brings its own window; without one the default holds. */
static void test_dedup_window_of_the_event(void **state)
{
	static const struct {
		int minutes;
		usec_t window;
		enum event_fate fate;
	} cases[] = {
	    {0, MINUTE, EVENT_STORED},          {2, 0, EVENT_STORED},
	    {11, 0, EVENT_DUPLICATE},           {13, 60 * MINUTE, EVENT_STORED},
	    {70, 60 * MINUTE, EVENT_DUPLICATE}, {80, 0, EVENT_STORED},
	};
	struct rig *r = rig_of(state);
	usec_t t = 1700000000 * USEC_PER_SEC;

	NEED_SERVER();
	for (size_t i = 0; i < TORTURE_LEN(cases); i++) {
		put(r, (struct sample){.body = STR("a"),
		                       .received = t + cases[i].minutes * MINUTE,
		                       .dedup_window = cases[i].window});
		assert_true(await_settled(r, i + 1));
		assert_int_equal(r->source.fates[i], cases[i].fate);
	}
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 4);
}

/* A window begins with the event that holds it, wherever that lies: there are no edges in between
 * that a repetition could slip through. */
static void test_dedup_window_has_no_edges(void **state)
{
	static const struct {
		int first, again; /* seconds; from a multiple of the window, and from the first */
		enum event_fate fate;
	} cases[] = {
	    {-1, 1, EVENT_DUPLICATE}, {-1, 2, EVENT_DUPLICATE},    {-1, 599, EVENT_DUPLICATE},
	    {-1, 600, EVENT_STORED},  {-1, -2, EVENT_DUPLICATE},   {0, 599, EVENT_DUPLICATE},
	    {0, 600, EVENT_STORED},   {0, -1, EVENT_DUPLICATE},    {0, -599, EVENT_DUPLICATE},
	    {0, -600, EVENT_STORED},  {300, 300, EVENT_DUPLICATE}, {300, 301, EVENT_DUPLICATE}};
	struct rig *r = rig_of(state);
	usec_t edge = 1700000000 / 600 * 600 * USEC_PER_SEC;

	NEED_SERVER();
	for (size_t i = 0; i < TORTURE_LEN(cases); i++) {
		usec_t first = edge + cases[i].first * USEC_PER_SEC;
		char body[20];

		snprintf(body, sizeof(body), "{\"n\":%zu}", i);
		put(r, (struct sample){.body = str_of(body), .received = first});
		assert_true(await_settled(r, 2 * i + 1));
		put(r, (struct sample){.body = str_of(body),
		                       .received = first + cases[i].again * USEC_PER_SEC});
		assert_true(await_settled(r, 2 * i + 2));
		if (r->source.fates[2 * i + 1] != (int)cases[i].fate)
			fail_msg("%d and %d", cases[i].first, cases[i].again);
	}
}

/* ---- several at a time ---- */

/* Two processors, the same keys in opposite order, some without id: no deadlock, each once. */
static void test_concurrent_writers(void **state)
{
	enum { EACH = 100, ROUNDS = 40 };
	struct rig *r = rig_of(state);
	struct stack other;
	usec_t t = clock_wall();

	NEED_SERVER();
	assert_int_equal(stack_new(r, &plain, &other), ERR_OK);
	for (int k = 0; k < ROUNDS; k++) {
		for (int i = 0; i < 2 * EACH; i++) {
			char id[32], body[32];
			int n = k * EACH + (i < EACH ? i : 2 * EACH - 1 - i);
			struct sample s = {.received = t};

			snprintf(id, sizeof(id), "c%d", n);
			snprintf(body, sizeof(body), "%d", n);
			s.id = n % 10 ? id : NULL;
			s.body = str_of(body);
			assert_int_equal(put_into(i < EACH ? &r->s : &other, make_event(r, s)),
			                 ERR_OK);
		}
		assert_true(await_settled(r, (size_t)(k + 1) * 2 * EACH));
	}
	assert_int_equal(r->source.count[EVENT_STORED], ROUNDS * EACH);
	assert_int_equal(r->source.count[EVENT_DUPLICATE], ROUNDS * EACH);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), ROUNDS * EACH);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.dead_letters"), 0);
	stack_free(&other);
	/* Backends report when they end. */
	(void)turn_until(r, never, 50);
	assert_int_equal(number(r, "SELECT deadlocks FROM pg_stat_database WHERE datname ="
	                           " current_database()"),
	                 0);
}

/* Another transaction claims the key at the same moment and commits first. */
static void test_lost_race(void **state)
{
	struct rig *r = rig_of(state);
	char text[256], key[33];
	struct event *e;

	NEED_SERVER();
	e = make_event(r, (struct sample){.id = "raced"});
	hex_encode(e->key, EVENT_KEY_LEN, key);
	sql(r, "BEGIN");
	snprintf(text, sizeof(text),
	         "INSERT INTO weir.event_keys (key, uid, body_hash, slot) SELECT '%s',"
	         " gen_random_uuid(), %lld, slot FROM weir.event_key_generation",
	         key, (long long)e->body_hash);
	sql(r, text);
	assert_int_equal(put_into(&r->s, e), ERR_OK);
	r->want = 1;
	assert_false(turn_until(r, all_settled, 200));
	sql(r, "COMMIT");
	assert_true(await_settled(r, 1));
	assert_int_equal(r->source.count[EVENT_DUPLICATE], 1);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.dead_letters"), 0);
}

static void test_one_call_for_each_source_and_batch(void **state)
{
	struct rig *r = rig_of(state);
	struct test_source *second = mem_alloc(sizeof(*second));

	NEED_SERVER();
	assert_non_null(second);
	source_init(second);
	assert_true(turn_until(r, is_up, LONG_MSEC));
	for (int i = 0; i < 20; i++) {
		char id[16];
		struct event *e;

		snprintf(id, sizeof(id), "s%d", i);
		e = make_event(r, (struct sample){.id = id});
		if (i % 2)
			e->source = &second->base;
		assert_int_equal(put_into(&r->s, e), ERR_OK);
	}
	assert_true(await_settled(r, 10));
	assert_int_equal(r->source.calls, 1);
	assert_int_equal(second->calls, 1);
	assert_int_equal(second->count[EVENT_STORED], 10);
	mem_free(second);
}

static void test_metrics(void **state)
{
	struct rig *r = rig_of(state);
	struct buf text;

	NEED_SERVER();
	put_numbered(r, "m", 3);
	put(r, (struct sample){.id = "m_1"});
	assert_true(await_settled(r, 4));
	buf_init(&text, 1 << 20);
	assert_int_equal(metric_render(r->metrics, &text), ERR_OK);
	assert_non_null(strstr(text.ptr, "webhook_events_processed_total{status=\"stored\","
	                                 "tool_id=\"github\",event_type=\"push\"} 3"));
	assert_non_null(strstr(text.ptr, "webhook_events_processed_total{status=\"duplicate\","
	                                 "tool_id=\"github\",event_type=\"push\"} 1"));
	assert_non_null(strstr(text.ptr, "webhook_event_processing_duration_seconds_count{status="
	                                 "\"stored\",tool_id=\"github\",event_type=\"push\"} 3"));
	assert_non_null(strstr(text.ptr, "webhook_batch_size_sum 4"));
	assert_non_null(strstr(text.ptr, "webhook_processing_duration_seconds_count"));
	assert_non_null(strstr(text.ptr, "webhooks_processed_total{status=\"stored\"} 3"));
	buf_done(&text);
}

/* ---- stopping ---- */

static void on_idle(void *arg)
{
	((struct stack *)arg)->idle_calls++;
}

static bool told_idle(struct rig *r)
{
	return r->s.idle_calls > 0;
}

static void test_stop_stores_what_is_buffered(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	assert_true(turn_until(r, is_up, LONG_MSEC));
	put_numbered(r, "z", 950);
	batch_processor_stop(r->s.processor, 30 * USEC_PER_SEC, on_idle, &r->s);
	batch_processor_stop(r->s.processor, 1, NULL, NULL); /* does nothing */
	assert_true(turn_until(r, told_idle, LONG_MSEC));
	assert_int_equal(r->source.count[EVENT_STORED], 950);
	assert_int_equal(number(r, "SELECT count(*) FROM weir.events"), 950);
	assert_true(batch_processor_idle(r->s.processor));
	assert_int_equal(put_into(&r->s, make_event(r, (struct sample){.id = "1"})), ERR_CLOSED);
	assert_false(turn_until(r, never, 20));
	assert_int_equal(r->s.idle_calls, 1);
}

static void test_stop_with_nothing_to_do(void **state)
{
	struct rig *r = rig_of(state);

	NEED_SERVER();
	batch_processor_stop(r->s.processor, 30 * USEC_PER_SEC, on_idle, &r->s);
	assert_int_equal(r->s.idle_calls, 0);
	assert_true(turn_until(r, told_idle, LONG_MSEC));
}

/* ---- every allocation fails once ---- */

static bool settled_or_tired(struct rig *r)
{
	return all_settled(r);
}

static void scenario_store(void)
{
	static struct rig r;
	size_t taken = 0;

	if (!server.pid || rig_new(&r, &plain) != ERR_OK)
		return;
	for (int i = 0; i < 6; i++) {
		struct sample s = {.id = i % 2 ? "x" : NULL, .body = i % 3 ? STR("a") : STR("b")};

		taken += put_into(&r.s, make_event(&r, s)) == ERR_OK;
	}
	r.want = taken;
	if (!turn_until(&r, settled_or_tired, 5000))
		fail_msg("%zu of %zu events were settled", r.source.settled, taken);
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_bytes_are_kept),
	    TEST(test_all_columns),
	    TEST(test_body_hash_is_pinned),
	    TEST(test_duplicates),
	    TEST(test_same_id_of_another_tool_or_type),
	    TEST(test_own_key_counts_as_stored),
	    TEST(test_generations),
	    TEST(test_window),
	    TEST(test_window_within_a_batch),
	    TEST(test_window_backwards),
	    TEST(test_window_across_generations),
	    TEST(test_dedup_none),
	    TEST(test_dedup_window_of_the_event),
	    TEST(test_dedup_window_has_no_edges),
	    TEST(test_concurrent_writers),
	    TEST(test_lost_race),
	    TEST(test_one_call_for_each_source_and_batch),
	    TEST(test_metrics),
	    TEST(test_stop_stores_what_is_buffered),
	    TEST(test_stop_with_nothing_to_do),
	};
	const struct torture torture[] = {TORTURE(scenario_store)};

	if (!quiet_log("error"))
		return 2;
	return TESTS_OR_TORTURE_BETWEEN(tests, torture, start_server, stop_server);
}
