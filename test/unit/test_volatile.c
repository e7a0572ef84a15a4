/* What is left out when two bodies of one event are compared, and that nothing else is. */
#include "intake_rig.h"

/* Two bodies after each other; whether they count as the same one. */
static bool same_content(const struct tools *set, const char *a, const char *b)
{
	struct intake_result in;
	char first[EVENT_CONTENT_LEN];
	struct made m;
	size_t len;

	made_init(&m, a);
	run(set, &m, &in);
	assert_int_equal(in.status, 200);
	len = in.events[0].content.len;
	assert_true(len == 0 || len == EVENT_CONTENT_LEN);
	if (len)
		memcpy(first, in.events[0].content.ptr, len);
	made_init(&m, b);
	run(set, &m, &in);
	assert_int_equal(in.status, 200);
	return len > 0 && str_eq(in.events[0].content, str_n(first, len));
}

static void test_volatile(void **state)
{
	static const struct {
		const char *recipe, *a, *b;
		bool same;
	} cases[] = {
	    {"\"json:n\"", "{\"id\":1,\"n\":0}", "{\"id\":1,\"n\":12}", true},
	    {"\"json:n\"", "{\"n\":0}", "{\"n\":\"a}b\"}", true},
	    {"\"json:n\"", "{\"n\":[0]}", "{\"n\":{\"n\":{}}}", true},
	    {"\"json:n\"", "{\"n\":0}", "{\"n\":null}", true},
	    {"\"json:n\"", "{\"n\":0}", "{\"n\": 0}", false},
	    {"\"json:n\"", "{\"id\":1,\"n\":0}", "{\"id\":2,\"n\":0}", false},
	    {"\"json:n\"", "{\"n\":0,\"a\":{\"n\":1}}", "{\"n\":0,\"a\":{\"n\":2}}", false},
	    {"\"json:n\"", "{\"n\":0}", "{}", false},
	    {"\"json:n\"", "{\"n\":0}", "{\"m\":0}", false},
	    {"\"json:n\"", "{\"n\":0,\"n\":1}", "{\"n\":0,\"n\":2}",
	     true}, /* the last one counts */
	    {"\"json:n\"", "{\"n\":0,\"n\":1}", "{\"n\":3,\"n\":1}", false},
	    /* Nothing is left out: the body's own hash tells, as ever. */
	    {"\"json:n\"", "{}", "{}", false},
	    {"\"json:n\"", "no json", "no json", false},
	    {"\"json:n\"", "n=1", "n=2", false},
	    /* In any order, one inside the other, at the beginning and the end. */
	    {"[\"json:b\",\"json:a\"]", "{\"a\":1,\"x\":1,\"b\":2}", "{\"a\":3,\"x\":1,\"b\":4}",
	     true},
	    {"[\"json:s.t\",\"json:s\"]", "{\"s\":{\"t\":1,\"u\":1}}", "{\"s\":{\"t\":2,\"u\":2}}",
	     true},
	    {"[\"json:s.t\",\"json:s.v\"]", "{\"s\":{\"t\":1,\"u\":1}}",
	     "{\"s\":{\"t\":2,\"u\":1}}", true},
	    {"\"json:0\"", "[1,2]", "[3,2]", true},
	    {"\"json:n\",\"split\":\"[]\"", "[{\"n\":1,\"x\":1}]", "[{\"n\":2,\"x\":1}]", true},
	    {"\"json:n\",\"split\":\"a[]\"", "{\"n\":1,\"a\":[{\"x\":1}]}",
	     "{\"n\":2,\"a\":[{\"x\":1}]}", false},
	    {"\"json:n\",\"format\":\"cloudevents\"", "{\"n\":1}", "{\"n\":2}", true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char members[300];
		struct tools *set;

		snprintf(members, sizeof(members), "\"auth\":\"none\",\"recipe\":{\"volatile\":%s}",
		         cases[i].recipe);
		set = one_tool(members);
		if (same_content(set, cases[i].a, cases[i].b) != cases[i].same)
			fail_msg("%s: %s and %s", cases[i].recipe, cases[i].a, cases[i].b);
		tools_unref(set);
	}
}

/* Each item of an array has its own; the body and what it is made of stay as they came. */
static void test_volatile_items(void **state)
{
	struct tools *set =
	    one_tool("\"auth\":\"none\",\"recipe\":{\"volatile\":\"json:n\",\"split\":"
	             "\"[]\",\"id\":\"json:id\"}");
	struct intake_result in;
	struct made m;

	(void)state;
	made_init(&m, "[{\"id\":1,\"n\":0},{\"id\":1,\"n\":1},{\"id\":2,\"n\":0},{\"id\":1}]");
	run(set, &m, &in);
	assert_int_equal(in.n, 4);
	assert_int_equal(in.events[0].content.len, EVENT_CONTENT_LEN);
	assert_true(str_eq(in.events[0].content, in.events[1].content));
	assert_false(str_eq(in.events[0].content, in.events[2].content));
	assert_int_equal(in.events[3].content.len, 0);
	expect(in.events[1].body, "{\"id\":1,\"n\":1}");
	tools_unref(set);
}

static void scenario_volatile(void)
{
	struct intake_result in;
	struct intake *k = NULL;
	struct tools *set = NULL;
	struct made m;

	made_init(&m, "[{\"id\":1,\"n\":0},{\"id\":2,\"n\":1}]");
	if (tools_parse(STR("{\"tools\":[{\"id\":\"t\",\"auth\":\"none\",\"recipe\":{\"volatile\":["
	                    "\"json:n\",\"json:m\"],\"split\":\"[]\",\"id\":\"json:id\"}}]}"),
	                "f", &set, NULL) == ERR_OK &&
	    intake_new(1 << 20, &k) == ERR_OK)
		intake_run(k, tools_at(set, 0), HTTP_POST, &m.req, NOW, &in);
	intake_free(k);
	tools_unref(set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_volatile),
	    cmocka_unit_test(test_volatile_items),
	};
	const struct torture torture[] = {TORTURE(scenario_volatile)};

	return TESTS_OR_TORTURE_BETWEEN(tests, torture, setup, teardown);
}
