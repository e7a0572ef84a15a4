/* The tools file: what is taken, and that everything wrong is refused with a text that helps. */
#include "recipe_util.h"
#include "torture.h"

#include <jansson.h>

#include <stdlib.h>
#include <unistd.h>

#include "weir/base/mem.h"

static void refused(const char *text, const char *expected)
{
	struct err_info info = {0};
	struct tools *set = NULL;

	if (tools_parse(str_of(text), "f.json", &set, &info) == ERR_OK)
		fail_msg("accepted: %s", text);
	assert_null(set);
	if (strncmp(info.text, "f.json", 6) != 0 || !strstr(info.text, expected))
		fail_msg("%s gave \"%s\", not \"%s\"", text, info.text, expected);
}

static void refused_tool(const char *members, const char *expected)
{
	char text[4096];

	snprintf(text, sizeof(text), "{\"tools\":[{\"id\":\"t\",%s}]}", members);
	refused(text, expected);
	refused(text, "f.json:1: tool \"t\": ");
}

static void refused_recipe(const char *recipe, const char *expected)
{
	char members[2048];

	snprintf(members, sizeof(members), "\"secrets\":[\"s\"],\"recipe\":{%s}", recipe);
	refused_tool(members, expected);
}

static void test_syntax(void **state)
{
	(void)state;
	refused("", "f.json:1:0: ");
	refused("{\n  \"tools\": [\n    {\"id\": }\n]}", "f.json:3:");
	refused("{\"tools\":[],\"tools\":[]}", "duplicate");
	refused("[]", "one object");
	refused("3", "one object");
	refused("{\"tool\":[]}", "no such member: \"tool\"; allowed are tools, sources, jobs");
	refused("{\"tools\":{}}", "tools: must be a list");
	refused("{\"sources\":[{}]}", "sources: this version does not support");
	refused("{\"jobs\":[{}]}", "jobs: this version does not support");
}

static void test_ids(void **state)
{
	static const char *const bad[] = {
	    "", "A", "-a", ".a", "a b", "a/b", "\xc3\xa4",
	    /* one too long */
	    "01234567890123456789012345678901234567890123456789012345678901234"};
	char text[400];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "{\"tools\":[{\"id\":\"%s\",\"auth\":\"none\"}]}",
		         bad[i]);
		refused(text, "tools[0]: id ");
	}
	refused("{\"tools\":[{\"id\":\"weir\",\"auth\":\"none\"}]}", "reserved");
	refused("{\"tools\":[{\"id\":3}]}", "tools[0]: id is needed");
	refused("{\"tools\":[7]}", "tools[0]: must be an object");
	refused("{\"tools\":[{\"id\":\"a\",\"auth\":\"none\"},{\"id\":\"a\",\"auth\":\"none\"}]}",
	        "tool \"a\": id: is there twice");
}

static void test_members(void **state)
{
	(void)state;
	refused_tool("\"x\":1", "x: no such member; a tool has id, preset");
	refused_tool("\"filter\":\".a\"", "filter: is not in this version");
	refused_tool("\"destinations\":[]", "destinations: is not in this version");
	refused_tool("\"auth\":\"none\",\"mode\":\"store_and_forward\"", "not in this version");
	refused_tool("\"auth\":\"none\",\"mode\":\"x\"", "mode: must be \"store\"");
	refused_tool("\"auth\":\"hmac\"", "auth: must be \"none\"");
	refused_tool("\"mode\":\"store\"", "preset: is needed, or \"recipe\", or \"auth\"");
	refused_tool("\"preset\":\"githubb\"",
	             "there is no \"githubb\"; there are bitbucket, cloudevents");
	refused_tool("\"preset\":\"github\"", "secrets: are needed; a tool without verification");
	refused_tool("\"preset\":\"github\",\"secrets\":[]",
	             "secrets: must be a list with at least");
	refused_tool("\"auth\":\"none\",\"secrets\":[\"a\"]", "secrets: are given, but nothing");
	refused_tool("\"auth\":\"none\",\"max_body\":0", "max_body: must be");
	refused_tool("\"auth\":\"none\",\"max_body\":\"x\"", "max_body: must be");
	refused_tool("\"auth\":\"none\",\"require_id\":1", "require_id: must be true or false");
	refused_tool("\"auth\":\"none\",\"dedup\":\"x\"", "dedup: must be \"none\"");
	refused_tool("\"auth\":\"none\",\"dedup_window\":0", "dedup_window: must be");
	refused_tool("\"auth\":\"none\",\"dedup_window\":\"90d\"", "dedup_window: must be");
	refused_tool("\"auth\":\"none\",\"dedup_window\":9,\"dedup\":\"none\"", "no meaning");
	refused_tool("\"auth\":\"none\",\"url\":\"ftp://x\"", "url: must be");
	refused_tool("\"recipe\":{\"scheme\":\"none\"}", "auth: no verification must be written");
	refused_tool("\"recipe\":3", "recipe: must be an object");
	refused_tool("\"auth\":\"none\",\"recipe\":{\"scheme\":\"hmac\"}", "but the recipe has");
}

static void test_secrets(void **state)
{
	(void)state;
	unsetenv("WEIR_TEST_SECRET");
	refused_tool("\"preset\":\"github\",\"secrets\":[{\"env\":\"WEIR_TEST_SECRET\"}]",
	             "secrets[0]: the environment variable \"WEIR_TEST_SECRET\" is not set");
	setenv("WEIR_TEST_SECRET", "", 1);
	refused_tool("\"preset\":\"github\",\"secrets\":[{\"env\":\"WEIR_TEST_SECRET\"}]",
	             "secrets[0]: is empty");
	refused_tool("\"preset\":\"github\",\"secrets\":[\"ok\",\"\"]", "secrets[1]: is empty");
	refused_tool("\"preset\":\"github\",\"secrets\":[{\"file\":\"/nonexistent/x\"}]",
	             "secrets[0]: cannot open \"/nonexistent/x\": No such file");
	refused_tool("\"preset\":\"github\",\"secrets\":[{\"file\":\"/dev/null\"}]",
	             "no regular file");
	refused_tool("\"preset\":\"github\",\"secrets\":[{\"env\":\"A\",\"file\":\"b\"}]",
	             "has both \"env\" and \"file\"");
	refused_tool("\"preset\":\"github\",\"secrets\":[{}]", "must be {\"env\"");
	refused_tool("\"preset\":\"github\",\"secrets\":[{\"x\":\"A\"}]", "no such member: x");
	refused_tool(
	    "\"preset\":\"github\",\"secrets\":[{\"value\":\"A\",\"form\":\"x\"}]",
	    "form must be raw, base64, hex, whsec, whsec-or-raw, spki, pem, hexpub or whpk");
	refused_tool("\"preset\":\"github\",\"secrets\":[{\"value\":\"xx\",\"form\":\"hex\"}]",
	             "secrets[0]: is not in the form that `keys` names, hex");
	refused_tool("\"preset\":\"standard-webhooks\",\"secrets\":[\"whsec_!\"]",
	             "secrets[0]: is not in the form");
	refused_tool("\"secrets\":[\"nocolon\"],\"recipe\":{\"scheme\":\"basic\"}",
	             "must be user:password");
	refused_tool("\"preset\":\"github\",\"secrets\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\","
	             "\"8\",\"9\",\"10\",\"11\",\"12\",\"13\",\"14\",\"15\",\"16\",\"17\"]",
	             "secrets: more than 16");
}

static void test_secret_file(void **state)
{
	char path[] = "/tmp/weir-secret-XXXXXX", members[200];
	int fd = mkstemp(path);
	struct tools *set;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "hush\r\n", 6), 6);
	snprintf(members, sizeof(members), "\"preset\":\"github\",\"secrets\":[{\"file\":\"%s\"}]",
	         path);
	set = one_tool(members);
	assert_int_equal(tools_at(set, 0)->recipe->secrets[0].len, 4);
	assert_memory_equal(tools_at(set, 0)->recipe->secrets[0].bytes, "hush", 4);
	tools_unref(set);
	close(fd);
	unlink(path);
}

static void test_recipes(void **state)
{
	(void)state;
	refused_recipe("\"x\":1", "recipe.x: no such member");
	refused_recipe("\"sig\":\"header:x\",\"hand\":{}", "recipe.hand: must be a list");
	refused_recipe("\"scheme\":\"x\"", "recipe.scheme: \"x\" is not allowed; it must be hmac");
	refused_recipe("\"scheme\":\"ed25519\",\"sig\":\"header:x\"", "recipe.keys: is needed");
	refused_recipe("\"scheme\":\"ecdsa-p256\",\"sig\":\"header:x\",\"keys\":\"hexpub\"",
	               "it must be spki or pem");
	refused_recipe("\"scheme\":\"rsa-pkcs1\",\"sig\":\"header:x\",\"keys\":\"spki\"",
	               "secrets[0]: is not in the form that `keys` names, spki");
	refused_recipe("\"sig\":\"header:x\",\"keys\":\"pem\"", "it must be raw, base64, hex");
	refused_recipe("\"sig\":\"header:x\",\"id\":[[\"json:a\"]]", "must hold two or more");
	refused_recipe("\"sig\":\"header:x\",\"id\":[[\"json:a\",1]]", "must hold strings");
	refused_recipe("\"sig\":[[\"header:x\",\"header:y\"]]", "must hold strings");
	refused_recipe("\"sig\":\"header:x\",\"id\":\"json:a|\"", "is no JSON path");
	refused_recipe("\"sig\":\"header:x\",\"split\":[]", "split: the list is empty");
	refused_recipe("\"sig\":\"header:x\",\"split\":[\"a[]\",\"b\"]", "must be \"[]\", a path");
	refused_recipe("\"scheme\":\"builtin:x\"", "\"builtin:x\" is not allowed; it must be");
	refused_recipe("\"scheme\":\"builtin:twilio\"", "needs the tool's member url");
	refused_recipe("\"scheme\":\"builtin:jwt\",\"sig\":\"header:x\"",
	               "sig: has no meaning with scheme builtin:jwt");
	refused_recipe("\"sig\":[]", "recipe.sig: the list is empty");
	refused_recipe("\"sig\":\"cookie:x\"", "\"cookie:x\" is no source; it must be header:NAME");
	refused_recipe("\"sig\":\"header:\"", "names nothing");
	refused_recipe("\"sig\":\"header:a b\"", "no header name");
	refused_recipe("\"sig\":\"header:x{5..1}\"", "numbers are written {1..5}");
	refused_recipe("\"sig\":\"json:a..b\"", "no JSON path");
	refused_recipe("\"sig\":\"header:x\",\"hash\":\"md5\"",
	               "recipe.hash: must be sha256, sha1");
	refused_recipe("\"sig\":\"header:x\",\"hash\":[\"sha256\",\"sha1\"]", "needs \"parse\"");
	refused_recipe("\"sig\":\"header:x\",\"enc\":\"x\"", "recipe.enc: \"x\" is not allowed");
	refused_recipe("\"sig\":\"header:x\",\"keys\":\"x\"", "recipe.keys: must be raw, base64");
	refused_recipe("\"sig\":\"header:x\",\"parse\":\"x\"",
	               "recipe.parse: \"x\" is not allowed");
	refused_recipe("\"sig\":\"header:x\",\"parse\":\"kv()\"", "recipe.parse: needs (SEP,KEY)");
	refused_recipe("\"sig\":\"header:x\",\"parse\":\"kv(,)\"", "empty KEY");
	refused_recipe("\"sig\":\"header:x\",\"parse\":\"kv(,v,,)\"", "GROUP");
	refused_recipe("\"sig\":\"header:x\",\"parse\":\"what(,v)\"", "is not allowed");
	refused_recipe("\"sig\":\"header:x\",\"signed\":\"{bod}\"", "{bod} is not allowed");
	refused_recipe("\"sig\":\"header:x\",\"signed\":\"{body\"", "a { has no }");
	refused_recipe("\"sig\":\"header:x\",\"signed\":\"\"", "recipe.signed: is empty");
	refused_recipe("\"sig\":\"header:x\",\"signed\":\"{url}{body}\"",
	               "needs the tool's member url");
	refused_recipe("\"sig\":\"header:x\",\"signed\":\"{ts}{body}\"",
	               "{ts} needs the member ts");
	refused_recipe("\"sig\":\"header:x\",\"signed\":\"{sig:t}{body}\"", "needs \"parse\"");
	refused_recipe("\"sig\":\"header:x\",\"ts\":\"header:y\"",
	               "recipe.ts: must be SOURCE UNIT");
	refused_recipe("\"sig\":\"header:x\",\"ts\":\"header:y h\"",
	               "recipe.ts: must be SOURCE UNIT");
	refused_recipe("\"sig\":\"header:x\",\"ts\":\"header:y s\"", "is not part of `signed`");
	refused_recipe("\"sig\":\"header:x\",\"past\":3", "recipe.past: needs the member ts");
	refused_recipe("\"sig\":\"header:x\",\"ts\":\"json:y s\",\"past\":-3",
	               "recipe.past: must be");
	refused_recipe("\"sig\":\"header:x\",\"ts\":\"json:y s\",\"enforce\":3",
	               "recipe.enforce: must");
	refused_recipe("\"sig\":\"header:x\",\"split\":\"a\"", "recipe.split: must");
	refused_recipe("\"sig\":\"header:x\",\"split\":\"a[]b\"", "behind []");
	refused_recipe("\"sig\":\"header:x\",\"split\":\"[][]\"", "behind []");
	refused_recipe("\"sig\":\"header:x\",\"split\":\"[].[]\"", "directly inside an array");
	refused_recipe("\"sig\":\"header:x\",\"volatile\":3", "recipe.volatile: must be json:PATH");
	refused_recipe("\"sig\":\"header:x\",\"volatile\":[]",
	               "recipe.volatile: the list is empty");
	refused_recipe("\"sig\":\"header:x\",\"volatile\":[3]",
	               "recipe.volatile: must be json:PATH");
	refused_recipe("\"sig\":\"header:x\",\"volatile\":\"json:\"", "must be json:PATH");
	refused_recipe("\"sig\":\"header:x\",\"volatile\":\"header:x\"", "must be json:PATH");
	refused_recipe("\"sig\":\"header:x\",\"volatile\":\"json:a|b\"", "must be json:PATH");
	refused_recipe("\"sig\":\"header:x\",\"volatile\":\"json:a..b\"", "what is no JSON path");
	refused_recipe("\"sig\":\"header:x\",\"volatile\":[\"json:a\",\"json:b\",\"json:c\","
	               "\"json:d\",\"json:e\",\"json:f\",\"json:g\",\"json:h\",\"json:i\"]",
	               "more than 8 paths");
	refused_recipe("\"sig\":\"header:x\",\"status\":\"204\"",
	               "recipe.status: must be 200, 201");
	refused_recipe("\"sig\":\"header:x\",\"status\":203", "recipe.status: must be 200, 201");
	refused_recipe("\"sig\":\"header:x\",\"id\":3", "recipe.id: must be a source");
	refused_recipe("\"sig\":\"header:x\",\"id\":[3]", "recipe.id: the list must hold strings");
	refused_recipe("\"scheme\":\"token\",\"sig\":\"header:x\",\"signed\":\"{body}\"",
	               "recipe.signed: has no meaning with scheme token");
}

static void test_accepted(void **state)
{
	static const char text[] =
	    "{\"tools\":[{\"id\":\"github\",\"preset\":\"github\",\"secrets\":[\"a\",{\"value\":"
	    "\"b\"}],"
	    "\"mode\":\"store\",\"require_id\":true,\"max_body\":\"1MiB\"},"
	    "{\"id\":\"x.y-z_0\",\"auth\":\"none\",\"dedup\":\"none\",\"recipe\":{\"id\":\"json:"
	    "id\"}}],"
	    "\"sources\":[],\"jobs\":[]}";
	struct tools *set;
	const struct tool *t;

	(void)state;
	assert_int_equal(tools_parse(str_of(text), "f", &set, NULL), ERR_OK);
	assert_int_equal(tools_count(set), 2);
	t = tools_find(set, STR("github"));
	assert_ptr_equal(t, tools_at(set, 0));
	assert_string_equal(t->preset, "github");
	assert_int_equal(t->max_body, 1 << 20);
	assert_true(t->require_id && t->dedup);
	assert_int_equal(t->recipe->secret_count, 2);
	t = tools_find(set, STR("x.y-z_0"));
	assert_int_equal(t->recipe->scheme, RECIPE_NONE);
	assert_false(t->dedup);
	assert_int_equal(t->recipe->id_count, 1);
	assert_null(tools_find(set, STR("nothing")));
	tools_unref(tools_ref(set));
	tools_unref(set);
	tools_unref(NULL);
}

/* As long as the provider tries again, where its events have no id; what the tool says wins. */
static void test_preset_window(void **state)
{
	static const struct {
		const char *members;
		usec_t seconds; /* 0: they are all kept */
	} cases[] = {
	    {"\"preset\":\"github\"", 600},
	    {"\"preset\":\"zoom\"", 90 * 60},
	    {"\"preset\":\"discord\",\"auth\":\"none\"", 15 * 60},
	    {"\"preset\":\"zoom\",\"dedup_window\":\"1m\"", 60},
	    {"\"preset\":\"zoom\",\"dedup\":\"none\"", 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char members[200];
		struct tools *set;

		snprintf(members, sizeof(members), "%s%s", cases[i].members,
		         strstr(cases[i].members, "auth") ? "" : ",\"secrets\":[\"s\"]");
		set = one_tool(members);
		assert_int_equal(tools_at(set, 0)->recipe->status,
		                 strstr(cases[i].members, "discord") ? 204 : 200);
		assert_int_equal(tools_at(set, 0)->dedup, cases[i].seconds > 0);
		if (cases[i].seconds)
			assert_int_equal(tools_at(set, 0)->dedup_window,
			                 cases[i].seconds * USEC_PER_SEC);
		tools_unref(set);
	}
}

static void test_override(void **state)
{
	struct tools *set = one_tool("\"preset\":\"stripe\",\"secrets\":[\"s\"],"
	                             "\"recipe\":{\"past\":\"1h\",\"type\":null}");
	const struct recipe *r = tools_at(set, 0)->recipe;

	(void)state;
	assert_int_equal(r->past, 3600 * USEC_PER_SEC);
	assert_int_equal(r->future, 300 * USEC_PER_SEC);
	assert_int_equal(r->type_count, 0);
	assert_int_equal(r->id_count, 1);
	tools_unref(set);
	set = one_tool("\"preset\":\"github\",\"auth\":\"none\"");
	r = tools_at(set, 0)->recipe;
	assert_int_equal(r->scheme, RECIPE_NONE);
	assert_int_equal(r->sig_count, 0);
	assert_int_equal(r->type_count, 1);
	tools_unref(set);
	set = one_tool("\"preset\":\"github\",\"secrets\":[\"s\"],"
	               "\"recipe\":{\"scheme\":\"token\",\"sig\":\"header:authorization\","
	               "\"parse\":\"plain:Bearer \"}");
	r = tools_at(set, 0)->recipe;
	assert_int_equal(r->scheme, RECIPE_TOKEN);
	assert_true(r->header_auth[r->sigs[0].index]);
	tools_unref(set);
}

static void test_load(void **state)
{
	struct err_info info = {0};
	struct tools *set;

	(void)state;
	assert_int_equal(tools_load(NULL, "", &set, &info), ERR_OK);
	assert_int_equal(tools_count(set), 0);
	tools_unref(set);
	assert_int_equal(tools_load("", "whsec_MDEyMzQ1Njc4OWFiY2RlZg==", &set, &info), ERR_OK);
	/* All whose secret is a text and that need nothing besides. */
	assert_true(tools_count(set) >= 12);
	assert_null(tools_find(set, STR("sendgrid")));
	assert_null(tools_find(set, STR("square")));
	assert_non_null(tools_find(set, STR("standard-webhooks")));
	tools_unref(set);
	assert_int_equal(tools_load("", "not base64!", &set, &info), ERR_OK);
	assert_non_null(tools_find(set, STR("github")));
	assert_null(tools_find(set, STR("standard-webhooks")));
	tools_unref(set);
	assert_int_equal(tools_load("/nonexistent", NULL, &set, &info), ERR_INVAL);
	assert_string_equal(info.text, "TOOLS_FILE: cannot open /nonexistent: No such file or "
	                               "directory");
	assert_int_equal(tools_load("/", NULL, &set, &info), ERR_INVAL);
}

/* jansson's memory fails too, as in the service. */
static void scenario_file(void)
{
	static const char text[] =
	    "{\"tools\":[{\"id\":\"a\",\"preset\":\"jira\",\"secrets\":[\"x\",\"y\"],"
	    "\"recipe\":{\"id\":[\"json:a\",\"form:b\"],\"type\":null}},"
	    "{\"id\":\"b\",\"auth\":\"none\",\"recipe\":{\"split\":\"a[].b[]\","
	    "\"id\":\"json:c\"}}]}";
	struct err_info info = {0};
	struct tools *set;
	enum err e = tools_parse(str_of(text), "f", &set, &info);

	assert_true(e == ERR_OK || e == ERR_NOMEM);
	assert_true(e == ERR_OK || info.text[0]);
	if (e == ERR_OK)
		tools_unref(set);
}

/* All faults of a file, each with its line. */
#define FAULTS                                                                             \
	"{\"tools\":[\n{\"id\":\"a\",\"colour\":1,\n\"secrets\":[\"\",\n\"s\",{}],\n"      \
	"\"recipe\":{\"sig\":\"x\",\n\"enc\":\"y\",\"ts\":3}},\n"                          \
	"{\"id\":\"b\",\"auth\":\"none\",\"recipient\":{\n\"status\":1}},\n{\"id\":\"c\"," \
	"\"auth\":\"none\"}]}"
static char faults_path[] = "/tmp/weir-faults-XXXXXX";
static char told[4096];

static void on_fault(void *arg, const char *text)
{
	size_t n = strlen(told);

	(void)arg;
	snprintf(told + n, sizeof(told) - n, "%s\n", text);
}

static void scenario_faults(void)
{
	struct err_sink sink = {.fn = on_fault};
	struct err_info info = {0};
	struct tools *set = NULL;
	enum err e;

	told[0] = '\0';
	e = tools_load_all(faults_path, NULL, &sink, &set, &info);
	assert_true(e == ERR_OK || e == ERR_NOMEM);
	if (e == ERR_OK) {
		assert_int_equal(tools_count(set), 1);
		assert_int_equal(sink.count, 10);
		tools_unref(set);
	}
}

static void write_faults(void)
{
	int fd = mkstemp(faults_path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, FAULTS, sizeof(FAULTS) - 1), sizeof(FAULTS) - 1);
	close(fd);
}

static void test_faults(void **state)
{
	static const char *const expected[] = {":2: tool \"a\": colour: ",
	                                       ":3: tool \"a\": secrets[0]: ",
	                                       ":4: tool \"a\": secrets[2]: ",
	                                       ":5: tool \"a\": recipe.sig: ",
	                                       ":6: tool \"a\": recipe.ts: ",
	                                       ":6: tool \"a\": recipe.enc: ",
	                                       ":7: tool \"b\": recipient.message_id: ",
	                                       ":7: tool \"b\": recipient.address: ",
	                                       ":8: tool \"b\": recipient.status: "};

	(void)state;
	scenario_faults();
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		if (!strstr(told, expected[i]))
			fail_msg("\"%s\" is not in\n%s", expected[i], told);
}

static void scenario_secret(void)
{
	struct err_info info = {0};
	struct tools *set;
	enum err e = tools_load("", "whsec_AAAA", &set, &info);

	assert_true(e == ERR_OK || e == ERR_NOMEM);
	if (e == ERR_OK)
		tools_unref(set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_syntax),        cmocka_unit_test(test_ids),
	    cmocka_unit_test(test_members),       cmocka_unit_test(test_secrets),
	    cmocka_unit_test(test_secret_file),   cmocka_unit_test(test_recipes),
	    cmocka_unit_test(test_accepted),      cmocka_unit_test(test_override),
	    cmocka_unit_test(test_preset_window), cmocka_unit_test(test_load),
	    cmocka_unit_test(test_faults),
	};
	const struct torture torture[] = {TORTURE(scenario_file), TORTURE(scenario_faults),
	                                  TORTURE(scenario_secret)};
	int failed;

	json_set_alloc_funcs(mem_alloc_twice, mem_free);
	write_faults();
	failed = TESTS_OR_TORTURE(tests, torture);
	unlink(faults_path);
	return failed;
}
