/* Signature headers of every form, through the whole verification: whatever a header holds, only
 * the right MAC is accepted. The first byte chooses the recipe, the rest is the header. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/receive/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TOOL(id, secret, recipe)                                                                   \
	"{\"id\":\"" id "\",\"secrets\":[\"" secret "\"],\"recipe\":{\"sig\":\"header:s\"," recipe \
	"}}"

static const char text[] = "{\"tools\":[" TOOL("a", "k", "\"parse\":\"plain:v0=\"") "," TOOL("b", "k", "\"parse\":\"kv(,v1)\",\"signed\":\"{sig:t}.{body}\",\"ts\":\"sig:t s\"") "," TOOL("c", "k", "\"parse\":\"kv(;,v1, )\",\"signed\":\"{sig:t}.{body}\",\"ts\":\"sig:t ms\"") "," TOOL(
    "d", "k",
    "\"parse\":\"list( ,v1,)\",\"enc\":\"base64\"") "," TOOL("e", "k",
                                                             "\"parse\":\"first-is-"
                                                             "ts()\",\"enc\":"
                                                             "\"base64url\",\"hash\":"
                                                             "\"sha512\","
                                                             "\"signed\":\"{ts}{body}"
                                                             "\",\"ts\":\"sig:ts "
                                                             "iso\"") "," TOOL("f", "k",
                                                                               "\"par"
                                                                               "se\":"
                                                                               "\"met"
                                                                               "hod\""
                                                                               ",\"ha"
                                                                               "sh\":"
                                                                               "[\"sh"
                                                                               "a1\","
                                                                               "\"sha"
                                                                               "256\""
                                                                               ",\"sh"
                                                                               "a512"
                                                                               "\"]") "," TOOL("g",
                                                                                               "k",
                                                                                               "\"s"
                                                                                               "che"
                                                                                               "me"
                                                                                               "\":"
                                                                                               "\"t"
                                                                                               "oke"
                                                                                               "n\""
                                                                                               ",\""
                                                                                               "par"
                                                                                               "se"
                                                                                               "\":"
                                                                                               "\"p"
                                                                                               "lai"
                                                                                               "n:"
                                                                                               "Bea"
                                                                                               "rer"
                                                                                               " "
                                                                                               "\"") "," TOOL("h",
                                                                                                              "u:p",
                                                                                                              "\"scheme\":\"basic\"") "]}";

/* Is the secret itself in the header? Tokens may be guessed by a fuzzer, MACs may not. */
static int may_match(const struct recipe *r, struct str header)
{
	return r->scheme == RECIPE_TOKEN ? str_eq(header, STR("Bearer k"))
	                                 : r->scheme == RECIPE_BASIC;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct recipe_input in;
	static struct tools *set;
	struct http_header header = {STR("S"), STR("")};
	struct recipe_request req = {.method = STR("POST"),
	                             .target = STR("/"),
	                             .body = STR("{}"),
	                             .headers = &header,
	                             .header_count = 1,
	                             .now = 1700000000 * USEC_PER_SEC};
	const struct recipe *r;
	size_t secret = 99;
	enum verify_verdict v;

	if (!set && tools_parse(str_of(text), "f", &set, NULL) != ERR_OK)
		abort();
	if (size == 0)
		return 0;
	header.value = size > 1 ? str_n(data + 1, size - 1) : STR("");
	r = tools_at(set, data[0] % tools_count(set))->recipe;
	recipe_input_bind(&in, r, &req);
	v = verify_request(&in, &secret);
	if (v == VERIFY_OK && (secret != 0 || !may_match(r, header.value)))
		abort();
	if (v != VERIFY_OK && secret != 99)
		abort();
	return 0;
}
