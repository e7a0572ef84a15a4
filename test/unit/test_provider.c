/* Every provider's data file: the tool entry that it tells a user to write is taken, its sample,
 * signed as the provider would, is authentic and has the id and the type that the sample says, and
 * a spoiled signature is refused. */
#include "provider_rig.h"

/* Providers whose events have no id. */
static const char *const without_id[] = {"discord", "zoom"};

static bool has_id(const char *name)
{
	for (size_t i = 0; i < sizeof(without_id) / sizeof(without_id[0]); i++)
		if (strcmp(name, without_id[i]) == 0)
			return false;
	return true;
}

static uint64_t allocations; /* of the last request */

static void send(struct subject *s, bool bad, struct intake_result *ret, struct signed_request *req)
{
	struct sign_options o = {.now = NOW, .id = STR("event-17"), .bad = bad, .key = s->key};
	struct err_info info = {0};
	char path[100];
	struct made m;

	if (recipe_sign(tools_at(s->set, 0), &o, req, &info) != ERR_OK)
		fail_msg("%s", info.text);
	made_of_signed(&m, req);
	snprintf(path, sizeof(path), "/webhooks/%s", tools_at(s->set, 0)->id.ptr);
	m.req.target = str_of(path);
	mem_fail_nth(0);
	intake_run(s->intake, tools_at(s->set, 0), HTTP_POST, &m.req, NOW, ret);
	allocations = mem_fail_count();
}

static void test_samples(void **state)
{
	(void)state;
	for (size_t i = 0; i < provider_count(); i++) {
		struct signed_request req;
		struct intake_result in;
		struct subject s;
		struct str type;

		subject_open(&s, provider_name(i));
		print_message("%s\n", s.name);
		type = provider_text(s.file, "sample", "type");
		send(&s, false, &in, &req);
		if (in.status != 200 || in.n != 1)
			fail_msg("%s: %d %s, %zu events", s.name, in.status, in.reason, in.n);
		assert_true(str_eq(in.events[0].type, type));
		if (has_id(s.name) &&
		    !memmem(in.events[0].id.ptr, in.events[0].id.len, "event-17", 8))
			fail_msg("%s: id \"%.*s\"", s.name, (int)in.events[0].id.len,
			         in.events[0].id.ptr);
		assert_true(has_id(s.name) || in.events[0].id.len == 0);
		signed_request_done(&req);
		send(&s, true, &in, &req);
		assert_int_equal(in.status, 401);
		signed_request_done(&req);
		subject_close(&s);
	}
}

/* What can be made when a tool is loaded is made then, and what a request needs is there from the
 * one before: verifying and reading one asks for no memory, be it authentic or not. */
static void test_no_allocations(void **state)
{
	(void)state;
	for (size_t i = 0; i < provider_count(); i++) {
		struct signed_request req;
		struct intake_result in;
		struct subject s;

		subject_open(&s, provider_name(i));
		for (int k = 0; k < 4; k++) {
			bool bad = k % 2;

			send(&s, bad, &in, &req);
			assert_int_equal(in.status, bad ? 401 : 200);
			signed_request_done(&req);
			if (k > 1 && allocations)
				fail_msg("%s: %llu allocations", s.name,
				         (unsigned long long)allocations);
		}
		subject_close(&s);
	}
}

/* "2026-08" or "2026-11-26": what was not read is nothing to rest on. */
static bool is_date(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (i == 4 || i == 7 ? s.ptr[i] != '-' : s.ptr[i] < '0' || s.ptr[i] > '9')
			return false;
	return s.len == 7 || s.len == 10;
}

/* A preset's void members are no fault of the tool that names it: so they are looked for here,
 * where the tool writes the whole recipe itself. */
static void test_recipes_are_whole(void **state)
{
	(void)state;
	for (size_t i = 0; i < provider_count(); i++) {
		struct subject s = {.name = provider_name(i)};
		char secret[SUBJECT_TEXT_MAX], *text;
		struct err_info info = {0};
		json_t *tool;

		assert_int_equal(provider_load(s.name, &s.file), ERR_OK);
		subject_secret(&s, secret);
		tool = json_deep_copy(json_object_get(s.file, "tool"));
		json_object_del(tool, "preset");
		json_object_set(tool, "recipe", json_object_get(s.file, "recipe"));
		json_object_set_new(tool, "secrets", json_pack("[s]", secret));
		if (json_object_get(tool, "verify_token"))
			json_object_set_new(tool, "verify_token", json_string("token"));
		tool = json_pack("{s:[o]}", "tools", tool);
		text = json_dumps(tool, 0);
		if (tools_parse(str_of(text), s.name, &s.set, &info) != ERR_OK)
			fail_msg("%s", info.text);
		free(text);
		json_decref(tool);
		subject_close(&s);
	}
}

/* What a page about the provider and `weir tools show` print. */
static void test_files_are_whole(void **state)
{
	static const char *const answers[] = {"timeout", "retries", "2xx", "4xx", "5xx"};
	const json_t *v;
	json_t *p;
	size_t k;

	(void)state;
	for (size_t i = 0; i < provider_count(); i++) {
		assert_int_equal(provider_load(provider_name(i), &p), ERR_OK);
		assert_true(str_eq(provider_text(p, "name", NULL), str_of(provider_name(i))));
		assert_true(provider_text(p, "title", NULL).len > 0);
		for (size_t a = 0; a < sizeof(answers) / sizeof(answers[0]); a++)
			if (provider_text(p, "answers", answers[a]).len == 0)
				fail_msg("%s: answers.%s is missing", provider_name(i), answers[a]);
		assert_true(json_array_size(json_object_get(p, "setup")) > 0);
		assert_true(json_array_size(json_object_get(p, "rests_on")) > 0);
		json_array_foreach(json_object_get(p, "rests_on"), k, v)
		{
			assert_true(provider_text(v, "what", NULL).len > 0);
			if (!is_date(provider_text(v, "seen", NULL)))
				fail_msg("%s: when was %s read?", provider_name(i),
				         json_string_value(json_object_get(v, "what")));
		}
		assert_true(provider_known(provider_name(i)) == provider_name(i));
		assert_non_null(strstr(provider_names(), provider_name(i)));
		json_decref(p);
	}
	assert_null(provider_known("nobody"));
	assert_int_equal(provider_load("nobody", &p), ERR_NOTFOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_samples),
	    cmocka_unit_test(test_recipes_are_whole),
	    cmocka_unit_test(test_files_are_whole),
	    cmocka_unit_test(test_no_allocations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
