/* Secrets whose form a provider does not tell. */
#include "recipe_util.h"
#include "torture.h"

#include "weir/receive/verify.h"

/* GitLab does not say whether its signing token is the key or its encoding: either way is taken,
 * whichever way the token looks, and counts as the one secret that it is. */
static void test_two_readings_of_a_secret(void **state)
{
	static const char *const tokens[] = {
	    "whsec_MDEyMzQ1Njc4OWFiY2RlZg==", "MDEyMzQ1Njc4OWFiY2RlZg==", "glsec!hush"};
	static const char *const forms[] = {"raw", "whsec"};

	struct sign_options o = {.now = NOW, .id = STR("e-1")};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		char members[300];
		struct tools *set;

		snprintf(members, sizeof(members),
		         "\"preset\":\"gitlab-signing\",\"secrets\":[\"other\",\"%s\"]", tokens[i]);
		set = one_tool(members);
		for (size_t f = 0; f < (i < 2 ? 2 : 1); f++) {
			struct tools *sender;
			struct signed_request s;
			struct made m;
			struct verify_result result;
			struct recipe_input in;

			snprintf(members, sizeof(members),
			         "\"preset\":\"gitlab-signing\",\"recipe\":{\"keys\":\"%s\"},"
			         "\"secrets\":[\"%s\"]",
			         forms[f], tokens[i]);
			sender = one_tool(members);
			assert_int_equal(recipe_sign(tools_at(sender, 0), &o, &s, NULL), ERR_OK);
			made_of_signed(&m, &s);
			recipe_input_init(&in);
			recipe_input_bind(&in, tools_at(set, 0)->recipe, &m.req);
			assert_int_equal(verify_request(&in, &result), VERIFY_OK);
			recipe_input_done(&in);
			assert_int_equal(result.secret, 1);
			signed_request_done(&s);
			tools_unref(sender);
		}
		tools_unref(set);
	}
}

static void scenario_two_keys(void)
{
	struct tools *set;

	if (tools_parse(STR("{\"tools\":[{\"id\":\"t\",\"preset\":\"gitlab-signing\","
	                    "\"secrets\":[\"whsec_MDEyMzQ1Njc4OWFiY2RlZg==\",\"b\"]}]}"),
	                "f", &set, NULL) == ERR_OK)
		tools_unref(set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_two_readings_of_a_secret)};
	const struct torture scenarios[] = {TORTURE(scenario_two_keys)};

	return TESTS_OR_TORTURE(tests, scenarios);
}
