#include "torture.h"

#include "weir/base/digest.h"
#include "weir/model/event.h"

static struct event_view sample(void)
{
	struct event_view v = {
	    .tool = STR("github"),
	    .type = STR("push"),
	    .id = STR("0b989ba4"),
	    .received = 1700000000000000,
	    .headers = STR("[[\"a\",\"b\"]]"),
	    .content_type = STR("application/json"),
	    .traceparent = STR("00-01"),
	    .body = STR("{\"a\":\"\0\"}"),
	    .envelope = STR("[]"),
	    .content = STR("not of the length that counts"),
	};

	memset(v.uid.bytes, 7, sizeof(v.uid.bytes));
	return v;
}

static void assert_slice(struct str got, struct str want)
{
	assert_true(str_eq(got, want));
	if (want.len > 0)
		assert_ptr_not_equal(got.ptr, want.ptr);
}

static void test_copies_everything(void **state)
{
	struct event_view v = sample();
	struct event *e;

	(void)state;
	assert_int_equal(event_make(&v, &e), ERR_OK);
	assert_memory_equal(e->view.uid.bytes, v.uid.bytes, 16);
	assert_int_equal(e->view.received, v.received);
	assert_slice(e->view.tool, v.tool);
	assert_slice(e->view.type, v.type);
	assert_slice(e->view.id, v.id);
	assert_slice(e->view.headers, v.headers);
	assert_slice(e->view.content_type, v.content_type);
	assert_slice(e->view.traceparent, v.traceparent);
	assert_slice(e->view.body, v.body);
	assert_slice(e->view.envelope, v.envelope);
	assert_int_equal(e->size, sizeof(*e) + v.tool.len + v.type.len + v.id.len + v.headers.len +
	                              v.content_type.len + v.traceparent.len + v.body.len +
	                              v.envelope.len + v.content.len);
	assert_slice(e->view.content, v.content);
	assert_null(e->node.next);
	assert_null(e->source);
	assert_int_equal(e->attempts, 0);
	event_unref(e);
}

static void test_empty_slices(void **state)
{
	struct event_view v = {.received = 1, .dedup_window = EVENT_DEDUP_NONE};
	struct event *e;

	(void)state;
	assert_int_equal(event_make(&v, &e), ERR_OK);
	assert_int_equal(e->view.body.len, 0);
	assert_true(e->windowed);
	assert_int_equal(e->view.dedup_window, EVENT_DEDUP_NONE);
	event_unref(e);
}

static void test_references(void **state)
{
	struct event_view v = sample();
	size_t before = mem_used();
	struct event *e;

	(void)state;
	assert_int_equal(event_make(&v, &e), ERR_OK);
	assert_ptr_equal(event_ref(e), e);
	event_unref(e);
	assert_true(mem_used() > before);
	event_unref(e);
	assert_int_equal(mem_used(), before);
}

static void key_of(struct event_view v, uint8_t out[EVENT_KEY_LEN])
{
	bool windowed;

	assert_int_equal(event_key(&v, out, &windowed), ERR_OK);
	assert_int_equal(windowed, v.id.len == 0);
}

/* The form is a contract: other processes and other versions must come to the same key. */
static void test_key_is_the_documented_hash(void **state)
{
	struct event_view v = sample();
	uint8_t key[EVENT_KEY_LEN], want[32], body[32];
	struct str id_text = STR("github\0push\0"
	                         "0b989ba4\0");
	struct str parts[2] = {STR("github\0push\0\0"), {(const char *)body, 32}};

	(void)state;
	key_of(v, key);
	assert_int_equal(digest_parts(DIGEST_SHA256, &id_text, 1, want), ERR_OK);
	assert_memory_equal(key, want, EVENT_KEY_LEN);

	v.id = STR_NONE;
	key_of(v, key);
	assert_int_equal(digest_parts(DIGEST_SHA256, &v.body, 1, body), ERR_OK);
	assert_int_equal(digest_parts(DIGEST_SHA256, parts, 2, want), ERR_OK);
	assert_memory_equal(key, want, EVENT_KEY_LEN);
}

/* Where not all of a body counts, what does is all that tells two bodies apart. */
static void test_content_stands_for_the_body(void **state)
{
	static const char hashes[2][EVENT_CONTENT_LEN] = {"one hash of 32 bytes............",
	                                                  "another hash of 32 bytes........"};
	struct event_view v = sample(), other = sample();
	uint8_t a[EVENT_KEY_LEN], b[EVENT_KEY_LEN];
	struct event *x, *y;

	(void)state;
	v.content = other.content = str_n(hashes[0], EVENT_CONTENT_LEN);
	other.body = STR("another body");
	for (int with_id = 1; with_id >= 0; with_id--) {
		if (!with_id)
			v.id = other.id = STR_NONE;
		for (int same = 1; same >= 0; same--) {
			other.content = str_n(hashes[!same], EVENT_CONTENT_LEN);
			assert_int_equal(event_make(&v, &x), ERR_OK);
			assert_int_equal(event_make(&other, &y), ERR_OK);
			assert_true((x->body_hash == y->body_hash) == same);
			assert_true((memcmp(x->key, y->key, EVENT_KEY_LEN) == 0) ==
			            (same || with_id));
			event_content_key(x, a);
			event_content_key(y, b);
			assert_true((memcmp(a, b, EVENT_KEY_LEN) == 0) == same);
			assert_slice(y->view.body, other.body); /* kept as it came */
			event_unref(x);
			event_unref(y);
		}
	}
}

static void test_keys_differ(void **state)
{
	struct event_view a = sample(), b = sample();
	uint8_t ka[EVENT_KEY_LEN], kb[EVENT_KEY_LEN];

	(void)state;
	/* Text that moves over a boundary is another key. */
	a.tool = STR("ab");
	a.type = STR("c");
	b.tool = STR("a");
	b.type = STR("bc");
	key_of(a, ka);
	key_of(b, kb);
	assert_memory_not_equal(ka, kb, EVENT_KEY_LEN);

	/* With an id the body is not part of it. */
	b = a;
	b.body = STR("other");
	key_of(a, ka);
	key_of(b, kb);
	assert_memory_equal(ka, kb, EVENT_KEY_LEN);

	/* Without one it is. */
	a.id = b.id = STR_NONE;
	key_of(a, ka);
	key_of(b, kb);
	assert_memory_not_equal(ka, kb, EVENT_KEY_LEN);
}

static void scenario_event(void)
{
	struct event_view v = sample();
	struct event *e;

	if (event_make(&v, &e) == ERR_OK)
		event_unref(e);
	v.id = STR_NONE;
	if (event_make(&v, &e) == ERR_OK)
		event_unref(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_copies_everything),
	    cmocka_unit_test(test_empty_slices),
	    cmocka_unit_test(test_references),
	    cmocka_unit_test(test_key_is_the_documented_hash),
	    cmocka_unit_test(test_content_stands_for_the_body),
	    cmocka_unit_test(test_keys_differ),
	};
	const struct torture torture[] = {TORTURE(scenario_event)};

	return TESTS_OR_TORTURE(tests, torture);
}
