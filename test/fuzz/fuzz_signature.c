/* Signature headers of every form, through the whole verification: whatever a header holds, only
 * the right MAC is accepted. The first byte chooses the recipe, the rest is the header. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/receive/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const recipes[] = {
    "\"parse\":\"plain:v0=\"",
    "\"parse\":\"kv(,v1)\",\"signed\":\"{sig:t}.{body}\",\"ts\":\"sig:t s\"",
    "\"parse\":\"kv(;,v1, )\",\"signed\":\"{sig:t}.{body}\",\"ts\":\"sig:t ms\"",
    "\"parse\":\"list( ,v1,)\",\"enc\":\"base64\"",
    "\"parse\":\"first-is-ts()\",\"enc\":\"base64url\",\"hash\":\"sha512\",\"signed\":\"{ts}{body}"
    "\","
    "\"ts\":\"sig:ts iso\"",
    "\"parse\":\"method\",\"hash\":[\"sha1\",\"sha256\",\"sha512\"]",
    "\"scheme\":\"token\",\"parse\":\"plain:Bearer \"",
    "\"scheme\":\"basic\"",
};
#define N (sizeof(recipes) / sizeof(recipes[0]))

static const struct recipe *recipe_of(size_t i)
{
	static struct tools *sets[N];
	char text[400];

	snprintf(text, sizeof(text),
	         "{\"tools\":[{\"id\":\"t\",\"secrets\":[\"k:\"],\"recipe\":"
	         "{\"sig\":\"header:s\",%s}}]}",
	         recipes[i]);
	if (!sets[i] && tools_parse(str_of(text), "f", &sets[i], NULL) != ERR_OK)
		abort();
	return tools_at(sets[i], 0)->recipe;
}

/* Is the secret itself in the header? Tokens may be guessed by a fuzzer, MACs may not. */
static int may_match(const struct recipe *r, struct str header)
{
	return r->scheme == RECIPE_TOKEN ? str_eq(header, STR("Bearer k:"))
	                                 : r->scheme == RECIPE_BASIC;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct recipe_input in;
	struct http_header header = {STR("S"), STR("")};
	struct recipe_request req = {.method = STR("POST"),
	                             .target = STR("/"),
	                             .body = STR("{}"),
	                             .headers = &header,
	                             .header_count = 1,
	                             .now = 1700000000 * USEC_PER_SEC};
	const struct recipe *r;
	struct verify_result result;
	enum verify_verdict v;

	if (size == 0)
		return 0;
	header.value = size > 1 ? str_n(data + 1, size - 1) : STR("");
	r = recipe_of(data[0] % N);
	recipe_input_bind(&in, r, &req);
	v = verify_request(&in, &result);
	if (result.secret != 0 || (v == VERIFY_OK && !may_match(r, header.value)))
		abort();
	if ((result.age != 0) != (v == VERIFY_STALE || v == VERIFY_FUTURE))
		abort();
	return 0;
}
