/* A recipe's signed template, and what it renders over a request. The first line of the input is
 * the template, the rest is the body and the query. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weir/base/mem.h"
#include "weir/model/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void render(const struct recipe *r, struct str rest)
{
	static struct recipe_input in;
	static const struct http_header headers[] = {
	    {{"X-A", 3}, {"value", 5}}, {{"x-b", 3}, {"", 0}}, {{"X-Sig", 5}, {"t=1,v1=00", 9}}};
	struct recipe_request req = {.method = STR("POST"),
	                             .target = STR("/webhooks/x?a=b"),
	                             .query = rest,
	                             .body = rest,
	                             .headers = headers,
	                             .header_count = 3};
	struct str parts[RECIPE_MAX_PARTS];
	const struct recipe_part *missing = NULL;
	size_t n = 0, total = 0;
	enum err e;

	recipe_input_init(&in);
	recipe_input_bind(&in, r, &req);
	e = recipe_render(&in, STR("t=1,v1=00"), parts, &n, &missing);
	if (e != ERR_OK && !missing)
		abort();
	if (e == ERR_OK && n != r->part_count)
		abort();
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < parts[i].len; k++)
			total += (uint8_t)parts[i].ptr[k];
	recipe_input_done(&in);
	if (total == SIZE_MAX)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct recipe_secret_text secret = {RECIPE_KEY_RAW, STR("s")};
	struct str rest = str_n(data, size), template = str_split(&rest, '\n');
	struct err_info info = {0};
	struct recipe *r = NULL;
	json_t *o =
	    json_pack("{s:s, s:s, s:s%, s:s}", "sig", "header:x-sig", "parse", "kv(,v1)", "signed",
	              template.ptr ? template.ptr : "", template.len, "ts", "sig:t s");
	enum err e;

	if (!o)
		return 0;
	e = recipe_compile(o, o, STR("https://a.example/"), &secret, 1, NULL, &r, &info);
	if (e != ERR_OK && (r || info.text[0] == '\0'))
		abort();
	if (e == ERR_OK)
		render(r, rest.ptr ? rest : STR(""));
	recipe_free(r);
	json_decref(o);
	return 0;
}
