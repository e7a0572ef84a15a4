/* What becomes of an authentic request, whatever its body and its other headers hold: events whose
 * texts every store takes, whose bodies are the sender's bytes and give the request again when they
 * are put back into their envelopes; or a handshake's answer that can be no markup; or a refusal.
 *
 * The input: a byte for the tool, one for method, signature and turns (the enum below), the query
 * up to a line's end, headers line by line ("Name: value") up to an empty one, the body. */
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir/base/gzip.h"
#include "weir/model/event.h"
#include "weir/model/handshake.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/receive/handshake.h"
#include "weir/receive/intake.h"
#include "weir/receive/sanitise.h"
#include "weir/receive/split.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW                   (1731705121 * USEC_PER_SEC)
#define SPLIT_MAX             (1u << 20)
#define BODY_MAX              (1u << 20)
#define MOST                  40 /* headers */
#define SECRET                "\"secrets\":[\"0f7c2a61d58b4e93\"]"
#define SIGNED_WITH(id, more) "{\"id\":\"" id "\",\"preset\":\"" id "\"," more SECRET "}"
#define SIGNED(id)            SIGNED_WITH(id, "")
#define URL                   "\"url\":\"https://h/x\","

enum { METHOD = 3, UNSIGNED = 4, IN_PIECES = 8, TYPED = 3 /* the tool with content types */ };

/* Those in front are open to anybody, the others are signed for as their providers would. */
static const char *const tools_texts[] = {
    "{\"id\":\"ids\",\"auth\":\"none\",\"recipe\":{\"id\":[[\"json:a\",\"query:b\"],\"header:x-"
    "id\","
    "\"form:i d\"],\"type\":[\"json:in|t\",\"query:t\",\"json:l.0\"]}}",
    "{\"id\":\"ce\",\"auth\":\"none\",\"format\":\"cloudevents\"}",
    "{\"id\":\"strict\",\"auth\":\"none\",\"format\":\"cloudevents\",\"require_id\":true}",
    "{\"id\":\"list\",\"auth\":\"none\",\"gzip\":true,\"recipe\":{\"split\":\"[]\",\"id\":\"json:"
    "id\",\"type\":\"json:t\"},\"content_types\":[\"application/*+json\",\"text/*\",\"a/b\"]}",
    "{\"id\":\"nested\",\"auth\":\"none\",\"recipe\":{\"split\":[\"o[].a[]\",\"o[].b[]\"],\"id\":"
    "\"json:id\"}}",
    "{\"id\":\"maybe\",\"auth\":\"none\",\"recipe\":{\"split\":\"a[]?\",\"id\":\"json:id\"}}",
    SIGNED("slack"),
    SIGNED("zoom"),
    SIGNED("twitch"),
    SIGNED_WITH("meta", "\"verify_token\":\"v\","),
    SIGNED("okta"),
    SIGNED("event-grid"),
    SIGNED("microsoft-graph"),
    SIGNED("cloudevents"),
    SIGNED("intercom"),
    SIGNED_WITH("twilio", URL),
    SIGNED("mailgun"),
    SIGNED_WITH("hubspot", URL),
};
#define TOOLS (sizeof(tools_texts) / sizeof(tools_texts[0]))

static void must(bool holds)
{
	if (!holds)
		abort();
}

static const struct tool *tool_of(size_t i)
{
	static struct tools *sets[TOOLS];
	char text[600];

	snprintf(text, sizeof(text), "{\"tools\":[%s]}", tools_texts[i]);
	if (!sets[i])
		must(tools_parse(str_of(text), "f", &sets[i], NULL) == ERR_OK);
	return tools_at(sets[i], 0);
}

/* ---- texts ---- */

static void check_text(struct str s, size_t max)
{
	must(s.ptr && s.len <= max && str_is_utf8(s));
	for (size_t i = 0; i < s.len; i++)
		must((uint8_t)s.ptr[i] >= 0x20 && s.ptr[i] != 0x7f);
}

/* What is clean stays as it is. */
static void check_sanitise(struct str raw)
{
	struct str once, twice;
	struct buf a, b;

	buf_init(&a, 2 * EVENT_TEXT_MAX);
	buf_init(&b, 2 * EVENT_TEXT_MAX);
	must(sanitise_text(raw, &a, &once) == ERR_OK);
	check_text(once.ptr ? once : STR(""), EVENT_TEXT_MAX);
	must((raw.len == 0) == (once.len == 0));
	must(sanitise_text(once, &b, &twice) == ERR_OK && twice.ptr == once.ptr && b.len == 0);
	buf_done(&a);
	buf_done(&b);
}

/* A media type is taken or not whatever its case, blanks and parameters. */
static void check_type(const struct tool_limits *l, struct str type)
{
	char text[300];
	struct str bare = type;

	if (type.len == 0 || type.len > 250)
		return;
	bare = str_trim(str_split(&bare, ';'));
	snprintf(text, sizeof(text), " %.*s\t;q=\"1\"", (int)bare.len, bare.ptr ? bare.ptr : "");
	if (memchr(type.ptr, '\0', type.len))
		return;
	for (char *c = text; *c != ';'; c++)
		if (*c >= 'a' && *c <= 'z')
			*c -= 'a' - 'A';
	must(tool_limits_take_type(l, type) == tool_limits_take_type(l, str_of(text)));
}

static void check_headers(struct str text, size_t n)
{
	json_t *list = json_loadb(text.ptr, text.len, 0, NULL), *pair;
	size_t i;

	must(json_is_array(list) && json_array_size(list) == n);
	json_array_foreach(list, i, pair)
	{
		must(json_array_size(pair) == 2 && json_is_string(json_array_get(pair, 0)));
		must(json_is_string(json_array_get(pair, 1)) ||
		     json_is_null(json_array_get(pair, 1)));
	}
	json_decref(list);
}

/* ---- items and envelopes ---- */

static bool inside(struct str whole, struct str s)
{
	return s.len == 0 || (s.ptr >= whole.ptr && s.ptr + s.len <= whole.ptr + whole.len);
}

static json_t *load(struct str s)
{
	return json_loadb(s.ptr, s.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
}

/* The array that an envelope's items were cut out of. */
static json_t *hole_of(json_t *envelope)
{
	json_t *outer = json_object_get(envelope, "o"), *o = json_array_get(outer, 0), *a;

	if (json_is_array(envelope))
		return envelope;
	if (!outer)
		return json_object_get(envelope, "a");
	a = json_object_get(o, "a");
	return json_is_array(a) ? a : json_object_get(o, "b");
}

/* The request as it would have been with this envelope's items alone: one element of the outer
 * array, where there is one. */
static json_t *part_of(json_t *whole, size_t outer)
{
	json_t *part = json_deep_copy(whole), *list = json_object_get(part, "o"), *one;

	if (!list)
		return part;
	one = json_incref(json_array_get(list, outer));
	json_array_clear(list);
	json_array_append_new(list, one);
	return part;
}

/* Of the outer element at *at or behind it that has items; *at is behind it then. */
static json_t *next_part(json_t *whole, size_t *at)
{
	json_t *part = part_of(whole, (*at)++);

	while (json_array_size(hole_of(part)) == 0) {
		json_decref(part);
		part = part_of(whole, (*at)++);
	}
	return part;
}

/* jansson's reading of both: each envelope with its items is its part of the request. Bodies that
 * jansson does not take, or that have a name twice, are not looked at. */
static void check_whole(struct str body, const struct intake_result *r)
{
	json_t *whole = load(body), *envelope, *part;
	size_t outer = 0, i = 0;

	while (whole && i < r->n) {
		struct str text = r->events[i].envelope;

		part = next_part(whole, &outer);
		envelope = load(text);
		must(envelope && json_array_size(hole_of(envelope)) == 0);
		for (; i < r->n && r->events[i].envelope.ptr == text.ptr; i++)
			must(json_array_append_new(
			         hole_of(envelope),
			         json_loadb(r->events[i].body.ptr, r->events[i].body.len,
			                    JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL)) == 0);
		must(json_equal(envelope, part));
		json_decref(envelope);
		json_decref(part);
	}
	json_decref(whole);
}

/* Every envelope is the body with pieces cut out of it, and everything together is bounded. */
static void check_items(struct str body, bool decoded, const struct intake_result *r)
{
	uint64_t total = 0;

	must(r->n <= SPLIT_MAX_ITEMS);
	for (size_t i = 0; i < r->n; i++) {
		const struct event_view *v = &r->events[i];

		must(decoded || inside(body, v->body));
		must(v->body.len <= body.len && v->envelope.len <= body.len);
		must(i == 0 || v->body.ptr > r->events[i - 1].body.ptr + r->events[i - 1].body.len);
		must(i == 0 || memcmp(&v->uid, &v[-1].uid, sizeof(v->uid)) > 0);
		total += v->body.len + v->envelope.len;
	}
	must(total <= SPLIT_MAX);
}

/* ---- results ---- */

static void check_events(const struct tool *t, const struct recipe_request *req,
                         const struct intake_result *r)
{
	struct buf plain;
	bool decoded = false, split;

	buf_init(&plain, BODY_MAX + 128 * 1024);
	for (size_t i = 0; t->limits.gzip && i < req->header_count; i++)
		decoded |= str_ieq(req->headers[i].name, STR("content-encoding")) &&
		           !str_ieq(req->headers[i].value, STR("identity")) &&
		           req->headers[i].value.len > 0;
	if (decoded && gzip_decode(req->body, BODY_MAX, &plain) != GZIP_OK)
		decoded = false; /* several codings: the body was taken as it came */
	for (size_t i = 0; i < r->n; i++) {
		const struct event_view *v = &r->events[i];

		must(str_eq(v->tool, t->id) && v->received == NOW);
		check_text(v->id, EVENT_TEXT_MAX);
		check_text(v->type, EVENT_TEXT_MAX);
		check_text(v->content_type, EVENT_TEXT_MAX);
		must(v->type.len > 0 && (!t->require_id || v->id.len > 0));
		must(v->traceparent.len == 0 || v->traceparent.len == 55);
		if (i == 0)
			check_headers(v->headers, req->header_count - (decoded ? 1 : 0));
		must(str_eq(v->headers, r->events[0].headers));
	}
	split = r->n && r->events[0].envelope.len > 0;
	must(split || r->n <= 1);
	if (split)
		check_items(decoded ? buf_str(&plain) : req->body, decoded, r);
	else if (r->n)
		must(str_eq(r->events[0].body, decoded ? buf_str(&plain) : req->body));
	if (split && t->recipe->scheme == RECIPE_NONE)
		check_whole(decoded ? buf_str(&plain) : req->body, r);
	buf_done(&plain);
}

static void check_handshake(const struct intake_result *r)
{
	const struct handshake *h = r->hand;
	struct str body = buf_str(&r->answer->body);
	json_t *value;

	must(r->n == 0 && h->status >= 200 && h->status <= 204);
	for (size_t i = 0; i < body.len; i++)
		must(body.ptr[i] != '<' && body.ptr[i] != '>' && (uint8_t)body.ptr[i] >= 0x20 &&
		     (uint8_t)body.ptr[i] < 0x7f);
	if (h->json && body.len) {
		value = json_loadb(body.ptr, body.len, 0, NULL);
		must(json_is_object(value));
		json_decref(value);
	}
	for (size_t i = 0; i < h->header_count; i++)
		check_text(r->answer->headers[i].len ? buf_str(&r->answer->headers[i]) : STR(""),
		           HANDSHAKE_ECHO_MAX);
}

static void check(const struct tool *t, const struct recipe_request *req, bool sent_signed,
                  const struct intake_result *r)
{
	bool open = t->recipe->scheme == RECIPE_NONE || (r->hand && !r->hand->verify);

	must(r->reason && r->detail && !r->rest);
	must(r->status == 200 || r->status == 400 || r->status == 401 || r->status == 403 ||
	     r->status == 405 || r->status == 413);
	must(r->status == 200 || (!r->hand && r->n == 0));
	must(r->status != 200 || sent_signed || open);
	if (r->hand)
		check_handshake(r);
	else if (r->status == 200)
		check_events(t, req, r);
}

/* In as many turns as it takes. */
static void judge(struct intake *k, const struct tool *t, enum http_method m,
                  const struct recipe_request *req, bool in_pieces, bool sent_signed)
{
	struct intake_result r;
	struct intake_rest *rest;

	intake_set_slice(k, in_pieces ? 1 : 0);
	intake_run(k, t, m, req, NOW, &r);
	rest = r.rest;
	must(!rest || in_pieces);
	if (rest) {
		while (!intake_rest_step(rest, 1))
			;
		intake_continue(k, t, m, req, NOW, rest, &r);
	}
	check(t, req, sent_signed, &r);
	intake_release(k);
	intake_rest_free(rest);
}

/* Puts what the provider would have sent besides in front of the input's own headers. */
static bool sign(const struct tool *t, struct recipe_request *req, struct http_header *room,
                 struct signed_request *s)
{
	struct sign_options o = {.now = NOW, .body = req->body, .id = STR("e1")};
	struct http_header *first = room + SIGN_MAX_HEADERS;

	if (recipe_sign(t, &o, s, NULL) != ERR_OK)
		return false;
	for (size_t i = 0; i < s->header_count; i++) {
		struct str value = str_of(s->headers[i]), name = str_split(&value, ':');

		if (!str_ieq(name, STR("content-type")))
			*--first = (struct http_header){name, str_trim(value)};
	}
	req->header_count += (size_t)(room + SIGN_MAX_HEADERS - first);
	req->headers = first;
	if (s->target.len)
		req->query = str_n(s->target.ptr + 1, s->target.len - 1);
	return true;
}

static void read_headers(struct str *rest, struct http_header *headers, size_t *n)
{
	while (rest->ptr && *n < MOST) {
		struct str value = str_split(rest, '\n'), name = str_split(&value, ':');

		if (name.len == 0)
			return;
		if (str_is_token(name))
			headers[(*n)++] =
			    (struct http_header){name, value.ptr ? str_trim(value) : STR("")};
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum http_method methods[] = {HTTP_POST, HTTP_GET, HTTP_HEAD, HTTP_OPTIONS};
	static const char *const names[] = {"POST", "GET", "HEAD", "OPTIONS"};
	struct recipe_request req = {.target = STR("/webhooks/t"), .now = NOW};
	struct http_header headers[MOST + SIGN_MAX_HEADERS];
	struct signed_request s = {.header_count = 0};
	bool is_signed = false;
	const struct tool *t;
	struct intake *k;
	struct str rest;
	char *copy;

	if (size < 2 || intake_new(SPLIT_MAX, &k) != ERR_OK)
		return 0;
	intake_set_max_body(k, BODY_MAX);
	/* A block of its own, so that a byte too many is noticed. */
	copy = malloc(size - 1);
	must(copy != NULL);
	memcpy(copy, data + 2, size - 2);
	rest = str_n(copy, size - 2);
	req.method = str_of(names[data[1] & METHOD]);
	req.query = str_split(&rest, '\n');
	t = tool_of(data[0] % TOOLS);
	read_headers(&rest, headers + SIGN_MAX_HEADERS, &req.header_count);
	req.body = rest.ptr ? rest : STR("");
	req.headers = headers + SIGN_MAX_HEADERS;
	if (!(data[1] & UNSIGNED))
		is_signed = sign(t, &req, headers, &s);
	for (size_t i = 0; i < req.header_count; i++) {
		check_sanitise(req.headers[i].value);
		check_type(&tool_of(TYPED)->limits, req.headers[i].value);
	}
	check_sanitise(req.body);
	judge(k, t, methods[data[1] & METHOD], &req, data[1] & IN_PIECES, is_signed);
	signed_request_done(&s);
	free(copy);
	intake_free(k);
	return 0;
}
