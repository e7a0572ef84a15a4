/* The tools file's text: any bytes give a set or a refusal with a text, and a set that was taken
 * can be looked up and signed for. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/run/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct tools *set)
{
	struct sign_options o = {.now = 1700000000 * USEC_PER_SEC};

	for (size_t i = 0; i < tools_count(set); i++) {
		const struct tool *t = tools_at(set, i);
		struct signed_request s;
		struct err_info info = {0};

		if (tools_find(set, t->id) != t || t->id.len > TOOL_ID_MAX)
			abort();
		if (recipe_sign(t, &o, &s, &info) == ERR_OK)
			signed_request_done(&s);
		else if (info.text[0] == '\0')
			abort();
	}
}

/* The same bytes as one definition of the table: no secret that is written into it gets through. */
static void use_one(const uint8_t *data, size_t size)
{
	struct err_info info = {0};
	struct tool *t = NULL;
	enum err e = tool_parse(str_n(data, size), "t", STR("t"), &t, &info);

	if (e != ERR_OK && (t || info.text[0] == '\0'))
		abort();
	if (e == ERR_OK && (!t->source || strstr(t->source, "***")))
		abort();
	tool_unref(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err_info info = {0};
	struct tools *set = NULL;
	enum err e = tools_parse(str_n(data, size), "f", &set, &info);

	if (e != ERR_OK && (set || info.text[0] == '\0'))
		abort();
	if (e == ERR_OK)
		use(set);
	tools_unref(set);
	use_one(data, size);
	return 0;
}
