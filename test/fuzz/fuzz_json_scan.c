/* The scanner against jansson: the same verdict on every input, and the same values picked.
 *
 * Known differences, left out of the comparison: jansson refuses what RFC 8259 allows: lone
 * surrogates in escapes, NUL in member names, integers past 64 bits, reals past double. Nesting: we
 * stop at 512, jansson at 2048. jansson takes a NUL byte behind a number for the end, we refuse NUL
 * everywhere. Otherwise neither refuses what the other accepts.
 *
 * And what a recipe leaves out of a body: recipe_content() rests on the values that were picked. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weir/base/buf.h"
#include "weir/base/json_scan.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"

static const char *const names[] = {"id", "type", "a", "a.b", "a.b.c", "0", "1.id", "a.0"};
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N (sizeof(names) / sizeof(names[0]))

static const json_t *walk(const json_t *v, const char *path)
{
	while (v && *path) {
		char step[32];
		size_t n = strcspn(path, ".");

		memcpy(step, path, n);
		step[n] = '\0';
		path += n + (path[n] == '.');
		if (json_is_array(v))
			v = step[0] >= '0' && step[0] <= '9'
			        ? json_array_get(v, strtoul(step, NULL, 10))
			        : NULL;
		else
			v = json_object_get(v, step);
	}
	return v;
}

static int may_refuse(const json_error_t *e)
{
	enum json_error_code code = json_error_code(e);

	/* Surrogates have no code of their own. */
	return code == json_error_null_character || code == json_error_null_byte_in_key ||
	       code == json_error_numeric_overflow || strstr(e->text, "Unicode") != NULL;
}

static void compare_string(const json_t *want, const struct json_pick *got)
{
	struct buf text;

	buf_init(&text, 1 << 22);
	if (got->kind != JSON_KIND_STRING || json_text(got, &text) != ERR_OK ||
	    text.len != json_string_length(want) ||
	    (text.len && memcmp(text.ptr, json_string_value(want), text.len) != 0))
		abort();
	buf_done(&text);
}

static void compare(const json_t *want, const struct json_pick *got)
{
	json_t *again;

	if (!want) {
		if (got->kind != JSON_KIND_ABSENT)
			abort();
		return;
	}
	if (json_is_string(want)) {
		compare_string(want, got);
		return;
	}
	again = json_loadb(got->raw.ptr, got->raw.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	if (!again || !json_equal(again, want))
		abort();
	json_decref(again);
}

static enum err count(void *arg, struct str element)
{
	if (json_scan(element, NULL, NULL, NULL) != ERR_OK)
		abort();
	++*(size_t *)arg;
	return ERR_OK;
}

static const struct recipe *leaving_out(void)
{
	static struct tools *set;
	static const char text[] = "{\"tools\":[{\"id\":\"t\",\"auth\":\"none\",\"recipe\":{"
	                           "\"volatile\":[\"json:id\",\"json:a.b\",\"json:a\"]}}]}";

	if (!set && tools_parse(str_of(text), "fuzz", &set, NULL) != ERR_OK)
		abort();
	return tools_at(set, 0)->recipe;
}

/* What counts of a body does not change with what is left out of it, and does with all else. */
static void check_content(struct str text, const struct json_pick *id)
{
	uint8_t was[RECIPE_CONTENT_LEN], is[RECIPE_CONTENT_LEN];
	size_t before = id->kind == JSON_KIND_ABSENT ? 0 : (size_t)(id->raw.ptr - text.ptr);
	struct buf b;

	if (recipe_content(leaving_out(), text, was) != ERR_OK)
		return;
	buf_init(&b, 1 << 24);
	if (id->kind != JSON_KIND_ABSENT) {
		buf_add(&b, text.ptr, before);
		buf_add_cstr(&b, "[{\"id\":0}]");
		buf_add(&b, id->raw.ptr + id->raw.len, text.len - before - id->raw.len);
		if (recipe_content(leaving_out(), buf_str(&b), is) != ERR_OK ||
		    memcmp(was, is, sizeof(is)) != 0)
			abort();
		buf_reset(&b);
	}
	buf_add_str(&b, text);
	buf_add_char(&b, ' ');
	if (recipe_content(leaving_out(), buf_str(&b), is) != ERR_OK ||
	    memcmp(was, is, sizeof(is)) == 0)
		abort();
	buf_done(&b);
}

static void check(const json_t *want, struct str text, const struct json_paths *paths)
{
	struct json_pick picks[N];
	size_t elements = 0;

	if (json_scan(text, paths, picks, NULL) != ERR_OK)
		abort();
	for (size_t i = 0; i < N; i++)
		compare(walk(want, names[i]), &picks[i]);
	check_content(text, &picks[0]);
	if (json_is_array(want) &&
	    (json_each(text, count, &elements) != ERR_OK || elements != json_array_size(want)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct json_paths *paths;
	struct str list[N], text = str_n(data, size);
	json_error_t error;
	json_t *want;
	enum err e;

	for (size_t i = 0; i < N && !paths; i++)
		list[i] = str_of(names[i]);
	if (!paths && json_paths_new(list, N, &paths) != ERR_OK)
		abort();
	want = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
	e = json_scan(text, NULL, NULL, NULL);
	if (size && memchr(data, '\0', size)) {
		if (e == ERR_OK)
			abort();
		json_decref(want);
		return 0;
	}
	if (want && e == ERR_OK)
		check(want, text, paths);
	if (want && e != ERR_OK && e != ERR_TOOBIG)
		abort();
	if (!want && e == ERR_OK && !may_refuse(&error))
		abort();
	json_decref(want);
	return 0;
}
