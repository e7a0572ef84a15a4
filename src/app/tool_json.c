/* Written by hand: the parts that are JSON already are put in as they stand. */
#include "weir/app/tool_json.h"

#include <jansson.h>
#include <string.h>

#include "weir/app/tool_store.h"
#include "weir/model/provider.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/receive/receiver.h"

void tool_json_time(struct buf *out, const char *name, usec_t wall)
{
	char text[CLOCK_RFC3339_LEN];

	if (wall)
		clock_rfc3339(wall, text);
	buf_addf(out, wall ? ",\"%s\":\"%s\"" : ",\"%s\":null", name, wall ? text : "");
}

static void add_text(struct buf *out, const char *name, const char *text)
{
	buf_addf(out, ",\"%s\":", name);
	if (text && *text)
		buf_add_json(out, str_of(text));
	else
		buf_add_cstr(out, "null");
}

static void add_head(const struct tool_view *v, struct buf *out)
{
	buf_add_cstr(out, "{\"id\":");
	buf_add_json(out, v->id);
	buf_addf(out, ",\"origin\":\"%s\",\"state\":\"%s\"", v->from_file ? "file" : "table",
	         !v->tool    ? "failed"
	         : *v->error ? "stale"
	                     : "active");
	add_text(out, "error", v->error);
	add_text(out, "preset", v->tool ? v->tool->preset : NULL);
	if (v->from_file)
		buf_add_cstr(out, ",\"version\":null");
	else
		buf_addf(out, ",\"version\":%lld", (long long)v->version);
	tool_json_time(out, "updated_at", v->updated_at);
	add_text(out, "updated_by", v->updated_by);
}

void tool_json_brief(const struct tool_view *v, struct buf *out)
{
	add_head(v, out);
	buf_add_char(out, '}');
}

static void add_secrets(const struct tool *t, struct receiver *receiver, struct buf *out)
{
	buf_add_cstr(out, ",\"secrets\":[");
	for (size_t i = 0; i < t->secret_count; i++) {
		buf_addf(out, "%s{\"position\":%zu,\"fingerprint\":\"%s\"", i ? "," : "", i,
		         t->fingerprints[i]);
		if (receiver) {
			struct secret_use use =
			    receiver_secret_use(receiver, t->id, t->fingerprints[i]);

			buf_addf(out, ",\"matches\":%llu", (unsigned long long)use.matches);
			tool_json_time(out, "last_used_at", use.last);
		}
		buf_add_char(out, '}');
	}
	buf_add_char(out, ']');
}

/* What is left out when bodies are compared. */
static void add_volatiles(const struct recipe *r, struct buf *out)
{
	buf_add_cstr(out, ",\"volatile\":[");
	for (size_t i = 0; i < r->volatile_count; i++) {
		if (i)
			buf_add_char(out, ',');
		buf_add_json(out, r->volatiles[i]);
	}
	buf_add_char(out, ']');
}

/* What the provider's file says of its answers, in the file's order. */
static void add_answers(const struct tool *t, struct buf *out)
{
	json_t *p = NULL, *v;
	const char *name;
	bool first = true;

	buf_add_cstr(out, ",\"provider\":");
	if (!*t->preset || provider_load(t->preset, &p) != ERR_OK) {
		buf_add_cstr(out, "null");
		return;
	}
	buf_add_cstr(out, "{\"title\":");
	buf_add_json(out, provider_text(p, "title", NULL));
	buf_add_cstr(out, ",\"answers\":{");
	json_object_foreach(json_object_get(p, "answers"), name, v)
	{
		if (!first)
			buf_add_char(out, ',');
		first = false;
		buf_add_json(out, str_of(name));
		buf_add_char(out, ':');
		buf_add_json(out, str_of(json_string_value(v)));
	}
	buf_add_cstr(out, "}}");
	json_decref(p);
}

void tool_json_full(const struct tool_view *v, struct receiver *receiver, struct buf *out)
{
	const struct tool *t = v->tool;

	add_head(v, out);
	if (t) {
		buf_addf(out,
		         ",\"verified\":%s,\"require_id\":%s,\"dedup\":%s,"
		         "\"dedup_window_seconds\":%lld,\"max_body\":",
		         t->recipe->scheme == RECIPE_NONE ? "false" : "true",
		         t->require_id ? "true" : "false", t->dedup ? "true" : "false",
		         (long long)(t->dedup_window / USEC_PER_SEC));
		if (t->max_body)
			buf_addf(out, "%llu", (unsigned long long)t->max_body);
		else
			buf_add_cstr(out, "null");
		add_volatiles(t->recipe, out);
		add_secrets(t, receiver, out);
		add_answers(t, out);
	}
	buf_add_cstr(out, ",\"definition\":");
	buf_add_cstr(out, v->definition);
	buf_add_char(out, '}');
}
