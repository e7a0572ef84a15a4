/* Tools whose members are each right and do not go together: refused when loaded, with file, line
 * and the member's name. And what is near to that and is no contradiction. */
#include "recipe_util.h"
#include "torture.h"

#include "weir/model/tool.h"

#define HMAC         "\"secrets\":[\"s\"],\n\"recipe\":{\"sig\":\"header:x-sig\","
#define TOKEN        "\"secrets\":[\"s\"],\n\"recipe\":{\"scheme\":\"token\","
#define OPEN         "\"auth\":\"none\",\n\"recipe\":{"
#define TIMED        HMAC "\"ts\":\"header:x-ts s\",\"signed\":\"{ts}{body}\","
#define HAND         HMAC "\"hand\":["
#define PING         "{\"when\":\"json:a=1\",\"verify\":true}"
#define PRESET(name) "\"preset\":\"" name "\",\"secrets\":[\"s\"],\n"

static const struct {
	const char *members;
	const char *fault; /* "MEMBER: …"; NULL: it is fine */
} cases[] = {
    /* time */
    {TIMED "\"enforce\":false,\"past\":60}", "recipe.past: has no meaning with \"enforce\""},
    {TIMED "\"enforce\":false,\"future\":60}", "recipe.future: has no meaning with \"enforce\""},
    {TIMED "\"enforce\":true,\"past\":60}", NULL},
    {TIMED "\"enforce\":false}", NULL},
    {TIMED "\"past\":0,\"future\":0}", "recipe.past: is 0, and so is future"},
    {TIMED "\"past\":\"0s\",\"future\":\"0s\"}", "recipe.past: is 0, and so is future"},
    {TIMED "\"past\":60,\"future\":0}", NULL},
    {"\"secrets\":[\"arn\"],\n\"recipe\":{\"scheme\":\"builtin:sns\",\"enforce\":false,\"past\":1}",
     "recipe.past: has no meaning with \"enforce\""},
    {"\"secrets\":[\"arn\"],\n\"recipe\":{\"scheme\":\"builtin:paypal\",\"past\":0,\"future\":0}",
     "recipe.past: is 0, and so is future"},
    {HMAC "\"past\":60}", "recipe.past: needs the member ts"},
    /* What the preset has and the tool makes void is no fault. */
    {PRESET("slack") "\"recipe\":{\"enforce\":false}", NULL},
    {PRESET("zoom") "\"recipe\":{\"enforce\":false}", NULL},
    {PRESET("linear") "\"recipe\":{\"ts\":null}", NULL},
    {PRESET("zoom") "\"recipe\":{\"ts\":null,\"signed\":\"{body}\",\"past\":null}", NULL},
    {PRESET("zoom") "\"recipe\":{\"ts\":null,\"signed\":\"{body}\",\"past\":60}",
     "recipe.past: needs the member ts"},
    {PRESET("cloudevents") "\"recipe\":{\"sig\":\"query:access_token\"}", NULL},
    {PRESET("cloudevents") "\"recipe\":{\"sig\":\"query:access_token\",\"parse\":\"plain:x\"}",
     "recipe.parse: a token has a prefix"},
    {PRESET("stripe") "\"recipe\":{\"ts\":null,\"signed\":\"{formsorted}\",\"id\":\"form:id\","
                      "\"type\":\"form:type\"}",
     NULL},
    {PRESET("linear") "\"dedup\":\"none\",\"recipe\":{\"id\":null}", NULL},
    {PRESET("linear") "\"dedup\":\"none\",\"recipe\":{\"id\":null,\"volatile\":\"json:n\"}",
     "recipe.volatile: has no meaning: with"},
    {PRESET("zoom") "\"recipe\":{\"enforce\":false,\"past\":60}",
     "recipe.past: has no meaning with \"enforce\""},
    /* what is signed */
    {HMAC "\"signed\":\"hello\"}", "recipe.signed: names nothing of the request"},
    {HMAC "\"signed\":\"{{x}\"}", "recipe.signed: names nothing of the request"},
    {HMAC "\"signed\":\"x{header:x-sig}{body}\"}", "recipe.signed: holds the signature itself"},
    {HMAC "\"parse\":\"kv(,v1)\",\"signed\":\"{sig:v1}.{body}\"}",
     "recipe.signed: holds the signature itself"},
    {HMAC "\"parse\":\"kv(,v1)\",\"signed\":\"{sig:t}.{body}\"}", NULL},
    {HMAC "\"signed\":\"{url}{body}\"}", "recipe.signed: {url} needs the tool's member url"},
    {HMAC "\"signed\":\"{ts}{body}\"}", "recipe.signed: {ts} needs the member ts"},
    {HMAC "\"ts\":\"header:x-ts s\"}", "recipe.ts: the timestamp is not part of `signed`"},
    /* tokens that count once */
    {TIMED "\"once\":\"header:x-nonce\"}", "recipe.once: has no meaning: `signed` covers the body"},
    {HMAC "\"ts\":\"header:x-ts s\",\"signed\":\"{ts}\",\"once\":\"header:x-nonce\"}",
     "recipe.once: the token is not part of `signed`"},
    {HMAC
     "\"ts\":\"header:x-ts s\",\"signed\":\"{ts}{header:x-nonce}\",\"once\":\"header:x-nonce\"}",
     NULL},
    {TIMED "\"enforce\":false,\"once\":\"header:x-nonce\"}", "recipe.once: needs the member ts"},
    /* tokens and passwords */
    {TOKEN "\"sig\":\"query:code\",\"parse\":\"plain:Bearer \"}",
     "recipe.parse: a token has a prefix"},
    {TOKEN "\"sig\":[\"query:code\",\"header:x-key\"],\"parse\":\"plain:Bearer \"}", NULL},
    {TOKEN "\"sig\":\"header:x-key\",\"id\":\"header:X-Key\"}", "recipe.id: would be the secret"},
    {TOKEN "\"sig\":\"json:key\",\"type\":[\"json:type\",\"json:key\"]}",
     "recipe.type: would be the secret"},
    {"\"secrets\":[\"u:p\"],\n\"recipe\":{\"scheme\":\"basic\",\"id\":\"header:authorization\"}",
     "recipe.id: would be the secret"},
    {TOKEN "\"sig\":\"header:x-key\",\"id\":\"header:x-id\"}", NULL},
    {TOKEN "\"sig\":\"header:x-key\",\"ts\":\"header:x-ts s\"}",
     "recipe.ts: has no meaning with scheme"},
    {OPEN "\"sig\":\"header:x\"}", "recipe.sig: has no meaning with scheme none"},
    /* one body */
    {HMAC "\"signed\":\"{json:a}{form:b}\"}",
     "recipe.signed: the verification needs form: and json:"},
    {"\"secrets\":[\"s\"],\n\"recipe\":{\"sig\":\"form:sig\",\"signed\":\"{json:a}\"}",
     "recipe.signed: the verification needs form: and json:"},
    {HMAC "\"signed\":\"{formsorted}\",\"id\":\"json:id\"}", "recipe.id: json: is never found"},
    {HMAC "\"signed\":\"{form:a}\",\"type\":[\"header:x\",\"json:type\"]}",
     "recipe.type: json: is never found"},
    {HMAC "\"signed\":\"{formsorted}\",\"id\":\"form:id\"}", NULL},
    {HMAC "\"signed\":\"{formsorted}\",\"split\":\"[]\"}", "recipe.split: has no meaning"},
    {HMAC "\"signed\":\"{formsorted}\",\"volatile\":\"json:n\"}",
     "recipe.volatile: has no meaning"},
    {HMAC "\"signed\":\"{json:a}\",\"id\":\"form:id\"}", "recipe.id: form: is never found"},
    {HMAC "\"id\":[\"json:id\",\"form:id\"]}", NULL},
    {HMAC "\"split\":\"[]\",\"id\":\"form:id\"}", "recipe.id: form: is never found"},
    {HMAC "\"split\":\"a[]?\",\"id\":[\"json:id\",\"form:id\"]}", NULL},
    /* what stands twice is never looked at */
    {HMAC "\"id\":[]}", "recipe.id: the list is empty"},
    {HMAC "\"type\":[]}", "recipe.type: the list is empty"},
    {HMAC "\"id\":[\"json:a\",\"json:b\",\"json:a\"]}", "recipe.id: [2] stands there before"},
    {HMAC "\"id\":[[\"json:a\",\"json:b\"],\"json:a\",[\"json:a\",\"json:b\"]]}",
     "recipe.id: [2] stands there before"},
    {HMAC "\"id\":[[\"json:a\",\"json:b\"],\"json:a\"]}", NULL},
    {"\"secrets\":[\"s\"],\n\"recipe\":{\"sig\":[\"header:x\",\"header:x\"]}",
     "recipe.sig: [1] stands there before"},
    {HMAC "\"split\":[\"a[]\",\"a[]\"]}", "recipe.split: [1] stands there before"},
    {HMAC "\"volatile\":[\"json:a\",\"json:a\"]}", "recipe.volatile: [1] stands there before"},
    /* formats */
    {"\"secrets\":[\"s\"],\n\"recipe\":{\"sig\":\"header:x\",\"format\":\"cloudevents\",\"id\":"
     "\"json:id\"}",
     "format: recipe.id has no meaning with it"},
    {"\"format\":\"cloudevents\",\"secrets\":[\"s\"],\n\"recipe\":{\"sig\":\"header:x\",\"split\":"
     "\"[]\"}",
     "format: recipe.split has no meaning with it"},
    {PRESET("stripe") "\"format\":\"cloudevents\"", NULL},
    /* handshakes */
    {HAND "{\"when\":[\"method=GET\",\"json:a=1\"],\"verify\":false}]}",
     "recipe.hand: json: and form: stand in a body"},
    {HAND "{\"when\":[\"method=GET\",\"query:a\"],\"verify\":false,\"body\":\"{form:a}\"}]}",
     "recipe.hand: json: and form: stand in a body"},
    {HAND
     "{\"when\":[\"method=HEAD\",\"query:a\"],\"verify\":false,\"headers\":{\"x\":\"{json:a}\"}}]}",
     "recipe.hand: json: and form: stand in a body"},
    {HAND "{\"when\":[\"method=OPTIONS\"],\"verify\":false,\"token\":\"json:a\"}]}",
     "recipe.hand: json: and form: stand in a body"},
    {HAND "{\"when\":[\"method=GET\",\"method=POST\"],\"verify\":false}]}",
     "recipe.hand: when names two methods"},
    {HAND "{\"when\":\"json:a\",\"verify\":true,\"status\":204,\"body\":\"x\"}]}",
     "recipe.hand: an answer 204 has no body"},
    {HAND "{\"when\":\"json:a\",\"verify\":true,\"status\":204,\"body\":\"\"}]}", NULL},
    {OPEN "\"hand\":[" PING "]}", "recipe.hand: \"verify\": true has no meaning without a scheme"},
    {HAND PING "," PING "]}", "recipe.hand: [1] is never asked: [0] takes all"},
    {HAND "{\"when\":\"json:a\",\"verify\":true}," PING "]}",
     "recipe.hand: [1] is never asked: [0] takes all"},
    {HAND PING ",{\"when\":[\"json:b\",\"json:a=1\"],\"verify\":true}]}",
     "recipe.hand: [1] is never asked: [0] takes all"},
    {HAND PING ",{\"when\":\"json:a\",\"verify\":true}]}", NULL},
    {HAND PING ",{\"when\":\"json:a=2\",\"verify\":true}]}", NULL},
    {HAND PING ",{\"when\":[\"method=GET\",\"query:a=1\"],\"verify\":true}]}", NULL},
    {HAND "{\"when\":\"json:a\",\"verify\":true,\"hosts\":[\"h\"]}]}",
     "recipe.hand: hosts has no meaning"},
    {"\"verify_token\":\"t\"," HAND PING "]}", "verify_token: has no meaning"},
    /* the tool's own members */
    {HMAC "\"id\":\"json:id\"},\"url\":\"https://x\"",
     "url: has no meaning: the recipe signs no URL"},
    {HMAC "\"signed\":\"{url}{body}\"},\"url\":\"https://x\"", NULL},
    {"\"auth\":\"none\",\"preset\":\"hubspot\",\n\"url\":\"https://x\"",
     "url: has no meaning: the recipe signs no URL"},
    {PRESET("zoom") "\"require_id\":true", "require_id: every event would be refused"},
    {HMAC "\"type\":\"json:t\"},\"require_id\":true", "require_id: every event would be refused"},
    {"\"auth\":\"none\",\n\"format\":\"cloudevents\",\"require_id\":true", NULL},
    {PRESET("github") "\"require_id\":true,\"dedup\":\"none\"",
     "dedup: has no meaning with require_id"},
    {PRESET("github") "\"require_id\":true,\"dedup_window\":60",
     "dedup_window: has no meaning with require_id"},
    {PRESET("github") "\"require_id\":true", NULL},
    {PRESET("github") "\"dedup\":\"none\",\"dedup_window\":60",
     "dedup_window: has no meaning with"},
    {"\"dedup\":\"none\"," HMAC "\"volatile\":\"json:n\"}", "recipe.volatile: has no meaning"},
    {"\"dedup\":\"none\"," HMAC "\"volatile\":\"json:n\",\"id\":\"json:id\"}", NULL},
    {HMAC "\"volatile\":\"json:n\"}", NULL},
    {"\"auth\":\"none\",\n\"gzip\":true,\"signed_encoding\":\"decoded\"",
     "signed_encoding: has no meaning: nothing signs the body"},
    {TOKEN "\"sig\":\"header:x-key\"},\"gzip\":true,\"signed_encoding\":\"sent\"",
     "signed_encoding: has no meaning: nothing signs the body"},
    {TOKEN "\"sig\":\"json:key\"},\"gzip\":true,\"signed_encoding\":\"decoded\"", NULL},
    {TOKEN "\"sig\":\"json:key\"},\"gzip\":true", "gzip: the recipe reads its signature"},
    {PRESET("github") "\"signed_encoding\":\"decoded\"",
     "signed_encoding: has no meaning without \"gzip\""},
    {PRESET("github") "\"gzip\":true,\"signed_encoding\":\"decoded\"", NULL},
    {PRESET("github") "\"burst\":3", "burst: has no meaning without \"rate\""},
    {"\"auth\":\"none\",\n\"secrets\":[\"s\"]", "secrets: are given, but nothing verifies them"},
};

static void test_contradictions(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err_info info = {0};
		struct tools *set = NULL;
		char text[2048], expected[200];
		enum err e;

		snprintf(text, sizeof(text), "{\"tools\":[\n{\"id\":\"t\",%s}]}", cases[i].members);
		e = tools_parse(str_of(text), "f.json", &set, &info);
		tools_unref(set);
		if (!cases[i].fault) {
			if (e != ERR_OK)
				fail_msg("%s gave \"%s\"", cases[i].members, info.text);
			continue;
		}
		snprintf(expected, sizeof(expected), ": tool \"t\": %s", cases[i].fault);
		if (e != ERR_INVAL || strncmp(info.text, "f.json:", 7) != 0 || info.text[7] < '2' ||
		    info.text[7] > '3' || !strstr(info.text, expected))
			fail_msg("%s gave \"%s\", not \"%s\"", cases[i].members, info.text,
			         expected);
	}
}

static char told[8192];

static void on_fault(void *arg, const char *text)
{
	size_t n = strlen(told);

	(void)arg;
	snprintf(told + n, sizeof(told) - n, "%s\n", text);
}

/* All of them at once, whatever else is wrong with the tool: also where it has no good id. */
static void test_all_are_told(void **state)
{
	static const char text[] =
	    "{\"tools\":[\n{\"id\":\"Three\",\"colour\":1,\n"
	    "\"secrets\":[\"s\"],\n"
	    "\"recipe\":{\"sig\":\"header:x\",\"ts\":\"header:t "
	    "s\",\"signed\":\"{ts}{header:x}\",\n"
	    "\"enforce\":false,\"past\":3,\"split\":\"[]\",\n\"type\":\"form:t\"}},\n"
	    "{\"secrets\":[],\n\"preset\":\"github\"},\n"
	    "{\"id\":\"\\u00e4 b\",\n\"preset\":\"githupp\"},\n"
	    "{\"id\":\"fine\",\"auth\":\"none\"},\n{\"id\":\"fine\",\"auth\":\"none\",\"rate\":3,"
	    "\"url\":\"https://"
	    "x\",\n\"require_id\":true,\"gzip\":true,\"signed_encoding\":\"sent\"},7]}";
	static const char *const expected[] = {":2: tools[0]: id \"Three\" must match",
	                                       ":2: tool \"Three\": colour: ",
	                                       ":5: tool \"Three\": recipe.past: has no",
	                                       ":4: tool \"Three\": recipe.signed: holds",
	                                       ":6: tool \"Three\": recipe.type: form: ",
	                                       ":7: tools[1]: id is needed",
	                                       ":7: tool \"tools[1]\": secrets: must",
	                                       ":9: tools[2]: id \"",
	                                       ":10: tool \"???b\": preset: ",
	                                       ":12: tool \"fine\": id: is there twice",
	                                       ":12: tool \"fine\": rate: must be",
	                                       ":12: tool \"fine\": url: has no meaning",
	                                       ":13: tool \"fine\": require_id: every",
	                                       ":13: tool \"fine\": signed_encoding: has no",
	                                       "tools[5]: must be an object"};
	char path[] = "/tmp/weir-contradictions-XXXXXX";
	struct err_sink sink = {.fn = on_fault};
	struct err_info info = {0};
	struct tools *set = NULL;
	int fd = mkstemp(path);

	(void)state;
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	close(fd);
	told[0] = '\0';
	assert_int_equal(tools_load_all(path, NULL, &sink, &set, &info), ERR_OK);
	unlink(path);
	assert_int_equal(tools_count(set), 1);
	tools_unref(set);
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		if (!strstr(told, expected[i]))
			fail_msg("\"%s\" is not in\n%s", expected[i], told);
	assert_int_equal(sink.count, sizeof(expected) / sizeof(expected[0]));
}

static void scenario_contradictions(void)
{
	static const char text[] = "{\"tools\":[{\"id\":\"T\",\"url\":\"https://x\"," HAND PING
	                           "," PING "],\"id\":[\"json:a\",\"json:a\"]}}]}";
	struct err_info info = {0};
	struct tools *set = NULL;
	enum err e = tools_parse(str_of(text), "f", &set, &info);

	assert_true(e == ERR_INVAL || e == ERR_NOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_contradictions),
	    cmocka_unit_test(test_all_are_told),
	};
	const struct torture torture[] = {TORTURE(scenario_contradictions)};

	return TESTS_OR_TORTURE(tests, torture);
}
