/* Large requests take turns of the loop: others get theirs in between, and each request keeps the
 * tool that it began with. */
#include "receiver_rig.h"

#include "gzip_make.h"
#include "turn.h"

struct rig {
	struct loop *loop;
	struct turn turn;
	struct http_ticket a, b;
	struct str z;
};

static struct rig rig;
static char plain[4 << 20];

static void fill(void)
{
	unsigned x = 7;

	for (size_t i = 0; i < sizeof(plain); i++) {
		x = x * 1103515245 + 12345;
		plain[i] = (char)('a' + (x >> 16) % 16);
	}
}

static int set_up(void **state)
{
	(void)state;
	memset(&rig, 0, sizeof(rig));
	if (loop_new(&rig.loop) != ERR_OK || turn_init(&rig.turn, &rig, rig.loop) != ERR_OK)
		return -1;
	rig.z = gzip_make(str_n(plain, sizeof(plain)), 1);
	return scene_make_in(&scene, rig.loop) == ERR_OK ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	assert_int_equal(receiver_in_flight(scene.receiver), 0);
	assert_true(rig.a.refs == 0 && rig.b.refs == 0);
	scene_done(&scene);
	turn_done(&rig.turn);
	loop_free(rig.loop);
	free((char *)(uintptr_t)rig.z.ptr);
	return 0;
}

static void send_packed(struct http_ticket *t, const char *path)
{
	ticket_init(t, path, "");
	t->made.req.body = rig.z;
	made_header(&t->made, "Content-Encoding", "gzip");
	head_and_handle(t);
}

static bool one_appended(struct rig *r)
{
	(void)r;
	return scene.sink.calls == 1;
}

static void test_small_ones_pass(void **state)
{
	struct http_ticket small;

	(void)state;
	send_packed(&rig.a, "/webhooks/zip");
	assert_int_equal(scene.sink.calls, 0);
	assert_int_equal(receiver_in_flight(scene.receiver), 1);
	assert_false(rig.a.dropped);
	ticket_init(&small, "/webhooks/typed", "{}");
	made_header(&small.made, "Content-Type", "text/plain");
	head_and_handle(&small);
	sink_done(ERR_OK);
	assert_int_equal(small.status, 200);
	scene.sink.calls = 0;
	assert_true(turn_until(&rig, one_appended, LONG_MSEC));
	assert_true(rig.a.dropped && rig.a.answers == 0);
	sink_done(ERR_OK);
	assert_int_equal(rig.a.status, 200);
}

/* The one that came first does not keep the other waiting until its end. */
static void test_turns_alternate(void **state)
{
	(void)state;
	send_packed(&rig.a, "/webhooks/zip");
	send_packed(&rig.b, "/webhooks/zip");
	assert_true(turn_until(&rig, one_appended, LONG_MSEC));
	sink_done(ERR_OK);
	assert_true(rig.a.answers == 1 && rig.b.answers == 0);
	scene.sink.calls = 0;
	assert_true(turn_until(&rig, one_appended, LONG_MSEC));
	sink_done(ERR_OK);
	assert_int_equal(rig.b.status, 200);
}

static bool none_left(struct rig *r)
{
	(void)r;
	return receiver_in_flight(scene.receiver) == 0;
}

static void test_client_leaves(void **state)
{
	(void)state;
	send_packed(&rig.a, "/webhooks/zip");
	rig.a.gone = true;
	assert_true(turn_until(&rig, none_left, LONG_MSEC));
	assert_true(scene.sink.calls == 0 && rig.a.answers == 0);
}

static void test_tool_changes(void **state)
{
	struct tools *old = scene.tools;

	(void)state;
	send_packed(&rig.a, "/webhooks/zip");
	assert_int_equal(tools_parse(STR("{\"tools\":[]}"), "g", &scene.tools, NULL), ERR_OK);
	tools_unref(old);
	assert_true(turn_until(&rig, one_appended, LONG_MSEC));
	sink_done(ERR_OK);
	assert_int_equal(rig.a.status, 200);
}

static void test_end(void **state)
{
	(void)state;
	send_packed(&rig.a, "/webhooks/zip");
	scene_done(&scene);
	assert_int_equal(rig.a.status, 503);
	assert_int_equal(scene_make_in(&scene, rig.loop), ERR_OK);
}

static void test_damaged(void **state)
{
	(void)state;
	ticket_init(&rig.a, "/webhooks/zip", "");
	rig.a.made.req.body = str_n(rig.z.ptr, rig.z.len - 1);
	made_header(&rig.a.made, "Content-Encoding", "gzip");
	head_and_handle(&rig.a);
	assert_int_equal(rig.a.answers, 0);
	assert_true(turn_until(&rig, none_left, LONG_MSEC));
	assert_int_equal(rig.a.status, 400);
	assert_string_equal(rig.a.text, "the gzip data end too early");
}

static bool answered_or_appended(struct rig *r)
{
	return r->a.answers > 0 || scene.sink.done != NULL;
}

static void scenario_turns(void)
{
	static struct str packed; /* once: packing costs more than all the rest */

	if (!packed.ptr)
		packed = gzip_make(str_n(plain, 600000), 1);
	memset(&rig, 0, sizeof(rig));
	rig.z = packed;
	if (loop_new(&rig.loop) == ERR_OK && turn_init(&rig.turn, &rig, rig.loop) == ERR_OK) {
		if (scene_make_in(&scene, rig.loop) == ERR_OK) {
			send_packed(&rig.a, "/webhooks/zip");
			if (turn_until(&rig, answered_or_appended, 10000) && scene.sink.done)
				scene.sink.done(scene.sink.arg, ERR_OK);
		}
		scene_done(&scene);
		assert_true(rig.a.status == 0 || rig.a.status == 200 || rig.a.status == 503);
	}
	turn_done(&rig.turn);
	loop_free(rig.loop);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_small_ones_pass),
	    TEST(test_turns_alternate),
	    TEST(test_client_leaves),
	    TEST(test_tool_changes),
	    TEST(test_end),
	    TEST(test_damaged),
	};
	const struct torture torture[] = {TORTURE(scenario_turns)};

	fill();
	null_fd = open("/dev/null", O_WRONLY);
	log_set_fd(null_fd);
	return TESTS_OR_TORTURE(tests, torture);
}
