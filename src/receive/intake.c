/* The one place that puts the steps of receiving together. Single events, the common case, are
 * views into the request; what must be decoded or cleaned lands in buffers that stay. Items of a
 * split request share those buffers, so their texts are copied and the views are set last, when
 * nothing moves any more. */
#include "weir/receive/intake.h"

#include <string.h>

#include "weir/base/mem.h"
#include "weir/model/cloudevents.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/receive/handshake.h"
#include "weir/receive/sanitise.h"
#include "weir/receive/split.h"
#include "weir/receive/verify.h"

#include "intake_priv.h"

#define HEADERS_MAX (4 * 1024 * 1024)
#define TEXTS_MAX   (64 * 1024 * 1024)
#define BODY_MAX    (26u * 1024 * 1024)
#define KEPT        (256 * 1024)       /* larger buffers are given back after the request */
#define LARGE       (4u * 1024 * 1024) /* a body so long is verified in one turn, read in another */

struct intake {
	struct recipe_input input;
	struct buf headers, content_type, id, type, texts;
	uint8_t content[RECIPE_CONTENT_LEN]; /* of the event at hand, see event_view.content */
	struct buf joined;                   /* of an id or type from several sources */
	struct intake_rest *own;             /* owned, used again; NULL: to be made */
	struct intake_rest *rest;            /* of the request at hand; NULL: there is none */
	struct recipe_request decoded;       /* a request whose body was encoded */
	uint64_t max_body;
	size_t slice;
	bool verified;                   /* the request at hand */
	struct identity_sources sources; /* of id and type, for the request at hand */
	struct split split;
	struct handshake_answer answer;
	struct cert_store *certs;  /* borrowed; NULL: none */
	struct event_view *events; /* owned; of a split request */
	size_t event_space;
	struct event_view one;
};

enum err intake_new(uint64_t max_split_bytes, struct intake **ret)
{
	struct intake *k = mem_zalloc(sizeof(*k));

	if (!k)
		return ERR_NOMEM;
	recipe_input_init(&k->input);
	buf_init(&k->headers, HEADERS_MAX);
	buf_init(&k->content_type, HEADERS_MAX);
	buf_init(&k->id, 2 * EVENT_TEXT_MAX);
	buf_init(&k->type, 2 * EVENT_TEXT_MAX);
	buf_init(&k->texts, TEXTS_MAX);
	buf_init(&k->joined, TEXTS_MAX);
	k->max_body = BODY_MAX;
	split_init(&k->split, max_split_bytes);
	handshake_answer_init(&k->answer);
	*ret = k;
	return ERR_OK;
}

void intake_free(struct intake *k)
{
	if (!k)
		return;
	recipe_input_done(&k->input);
	buf_done(&k->headers);
	buf_done(&k->content_type);
	buf_done(&k->id);
	buf_done(&k->type);
	buf_done(&k->texts);
	buf_done(&k->joined);
	intake_rest_free(k->own);
	split_done(&k->split);
	handshake_answer_done(&k->answer);
	mem_free(k->events);
	mem_free(k);
}

void intake_use_certs(struct intake *k, struct cert_store *certs)
{
	k->certs = certs;
}

void intake_set_slice(struct intake *k, size_t bytes)
{
	k->slice = bytes;
}

void intake_set_max_body(struct intake *k, uint64_t max)
{
	k->max_body = max;
}

static void refuse(struct intake_result *ret, int status, const char *reason, const char *detail)
{
	ret->status = status;
	ret->reason = reason;
	ret->detail = detail;
}

static void refuse_nomem(struct intake_result *ret)
{
	refuse(ret, 503, "no_memory", "out of memory");
}

/* ---- identify ---- */

/* Cleaned. None at all is no error: `*ret` keeps its value then. */
static enum err first_found(struct intake *k, const struct recipe_source *list, size_t n,
                            struct buf *scratch, struct str *ret)
{
	struct str raw;
	enum err e = recipe_fetch_first(&k->input, list, n, &k->joined, &raw);

	if (e != ERR_OK)
		return e == ERR_NOTFOUND ? ERR_OK : e;
	buf_reset(scratch);
	return sanitise_text(raw, scratch, ret);
}

static enum err identify(struct intake *k, struct str *ret_id, struct str *ret_type)
{
	const struct identity_sources *from = &k->sources;
	struct str id = STR(""), type = STR("unknown");
	enum err e = first_found(k, from->ids, from->id_count, &k->id, &id);

	if (e == ERR_OK)
		e = first_found(k, from->types, from->type_count, &k->type, &type);
	*ret_id = id;
	*ret_type = type;
	return e;
}

static void refuse_no_id(struct intake_result *ret, bool json)
{
	ret->limit = json ? INTAKE_LIMIT_ID : INTAKE_LIMIT_NONE;
	refuse(
	    ret, 400, json ? "id_missing" : "body_not_json",
	    json ? "the event has no id, which this tool requires"
	         : "the body is not valid JSON, and this tool requires the event id that is in it");
}

/* Could the id stand in the body, had that been JSON? */
static bool id_needs_json(const struct intake *k)
{
	for (size_t i = 0; i < k->sources.id_count; i++)
		if (k->sources.ids[i].kind == RECIPE_SRC_JSON)
			return true;
	return false;
}

/* What counts of an event's body; empty where all of it does. */
static enum err find_content(struct intake *k, struct str body, struct str *ret)
{
	enum err e = recipe_content(k->input.recipe, body, k->content);

	*ret = e == ERR_OK ? str_n(k->content, sizeof(k->content)) : STR_NONE;
	return e == ERR_NOTFOUND ? ERR_OK : e;
}

/* ---- one event ---- */

static void make_one(struct intake *k, const struct tool *t, struct event_view *base,
                     struct intake_result *ret)
{
	if (identify(k, &base->id, &base->type) != ERR_OK ||
	    find_content(k, k->input.request->body, &base->content) != ERR_OK) {
		refuse_nomem(ret);
		return;
	}
	if (t->require_id && base->id.len == 0) {
		refuse_no_id(ret, !id_needs_json(k) || recipe_input_scan(&k->input) == ERR_OK);
		return;
	}
	base->body = k->input.request->body;
	uuid_make(base->received, &base->uid);
	k->one = *base;
	ret->events = &k->one;
	ret->n = 1;
}

/* ---- several ---- */

static enum err reserve_events(struct intake *k, size_t n)
{
	struct event_view *grown;

	if (n <= k->event_space)
		return ERR_OK;
	grown = mem_realloc(k->events, n * sizeof(*grown));
	if (!grown)
		return ERR_NOMEM;
	k->events = grown;
	k->event_space = n;
	return ERR_OK;
}

/* Offsets in `texts` for now: the buffer may still move. */
static enum err store_text(struct intake *k, struct str s, struct str *ret)
{
	size_t at = k->texts.len;

	if (buf_add_str(&k->texts, s) != ERR_OK)
		return ERR_NOMEM;
	*ret = (struct str){(const char *)(uintptr_t)at, s.len};
	return ERR_OK;
}

static void resolve_text(const struct intake *k, struct str *s)
{
	s->ptr = s->len ? k->texts.ptr + (uintptr_t)s->ptr : "";
}

static enum err make_item(struct intake *k, const struct split_item *item,
                          const struct event_view *base, struct event_view *v)
{
	const struct recipe *r = k->input.recipe;
	struct str id, type, content;
	enum err e = ERR_OK;

	*v = *base;
	v->body = item->body;
	v->envelope = str_n(k->split.envelopes.ptr + item->envelope, item->envelope_len);
	uuid_make(base->received, &v->uid);
	if (r->item_paths)
		e = json_scan(item->body, r->item_paths, k->input.item_picks, NULL);
	if (e == ERR_OK)
		e = identify(k, &id, &type);
	if (e == ERR_OK)
		e = store_text(k, id, &v->id);
	if (e == ERR_OK)
		e = store_text(k, type, &v->type);
	if (e == ERR_OK)
		e = find_content(k, item->body, &content);
	return e == ERR_OK ? store_text(k, content, &v->content) : e;
}

static void make_items(struct intake *k, const struct tool *t, const struct event_view *base,
                       struct intake_result *ret)
{
	size_t n = k->split.n;

	buf_reset(&k->texts);
	if (reserve_events(k, n) != ERR_OK) {
		refuse_nomem(ret);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (make_item(k, &k->split.items[i], base, &k->events[i]) != ERR_OK) {
			refuse_nomem(ret);
			return;
		}
		if (t->require_id && k->events[i].id.len == 0) {
			refuse_no_id(ret, true);
			return;
		}
	}
	for (size_t i = 0; i < n; i++) {
		resolve_text(k, &k->events[i].id);
		resolve_text(k, &k->events[i].type);
		resolve_text(k, &k->events[i].content);
	}
	ret->events = k->events;
	ret->n = n;
}

/* The body is its own only item, be it JSON or not. */
static void make_unsplit(struct intake *k, const struct tool *t, struct event_view *base,
                         struct intake_result *ret)
{
	const struct recipe *r = k->input.recipe;

	if (r->item_paths &&
	    json_scan(k->input.request->body, r->item_paths, k->input.item_picks, NULL) != ERR_OK)
		memset(k->input.item_picks, 0, sizeof(k->input.item_picks));
	make_one(k, t, base, ret);
}

/* By the recipe's own rules, or those of the mode that the request is in. */
static bool is_split(struct intake *k, struct event_view *base, bool *ret_whole)
{
	const struct recipe *r = k->input.recipe;
	enum cloudevents_mode mode;

	*ret_whole = false;
	if (r->format == RECIPE_FORMAT_NONE) {
		k->sources =
		    (struct identity_sources){r->ids, r->types, r->id_count, r->type_count};
		return r->split_count > 0;
	}
	mode = cloudevents_mode(base->content_type);
	cloudevents_sources(r, mode, &k->sources);
	*ret_whole = mode == CLOUDEVENTS_STRUCTURED;
	if (mode == CLOUDEVENTS_BATCH)
		base->content_type = STR(CLOUDEVENTS_TYPE);
	return mode == CLOUDEVENTS_BATCH;
}

static void make_split(struct intake *k, const struct tool *t, struct event_view *base,
                       struct intake_result *ret)
{
	enum err e = split_request(&k->split, k->input.recipe, k->input.request->body);

	if (e == ERR_OK)
		make_items(k, t, base, ret);
	else if (e == ERR_NOTFOUND && k->input.recipe->split_optional)
		make_unsplit(k, t, base, ret);
	else if (e == ERR_INVAL || e == ERR_NOTFOUND)
		refuse(
		    ret, 400, "array_missing",
		    "the body is not valid JSON with the array of events where this tool has it");
	else if (e != ERR_TOOBIG)
		refuse_nomem(ret);
	else {
		refuse(ret, 413, "too_many_events", "the request carries too many events");
		ret->limit = INTAKE_LIMIT_EVENTS;
	}
}

/* ---- all of it ---- */

static void give_back(struct buf *b)
{
	if (b->space > KEPT)
		buf_done(b);
}

void intake_release(struct intake *k)
{
	give_back(&k->headers);
	give_back(&k->content_type);
	give_back(&k->texts);
	give_back(&k->joined);
	if (k->own)
		decoder_shrink(&k->own->decoder, KEPT);
	k->rest = NULL;
	if (k->event_space * sizeof(*k->events) > KEPT) {
		mem_free(k->events);
		k->events = NULL;
		k->event_space = 0;
	}
}

static bool authentic(struct intake *k, struct intake_result *ret)
{
	struct verify_result found;
	enum verify_verdict v;

	if (k->verified)
		return true;
	v = verify_request_by(&k->input, k->certs, &found);
	ret->secret = found.secret;
	ret->timed = found.timed;
	ret->skew = found.skew;
	k->verified = v == VERIFY_OK;
	if (k->verified)
		return true;
	refuse(ret, verify_status(v), verify_reason(v), verify_detail(v));
	ret->age = found.age;
	if (v == VERIFY_CERT) {
		ret->cert_url = found.cert_url;
		ret->cert_chain = found.cert_chain;
	}
	return false;
}

static void shake_hands(struct intake *k, const struct tool *t, const struct handshake *h,
                        struct intake_result *ret)
{
	enum handshake_verdict v;

	if (h->verify && !authentic(k, ret))
		return;
	v = handshake_fetch(&k->input, h, &ret->fetch);
	if (v == HANDSHAKE_VALUE) {
		refuse(ret, 400, "fetch_url", "the URL to be fetched is missing or not allowed");
		return;
	}
	if (v == HANDSHAKE_OK)
		v = k->input.doubled ? HANDSHAKE_VALUE
		                     : handshake_make(&k->input, h, t->verify_token, &k->answer);
	switch (v) {
	case HANDSHAKE_OK:
		ret->hand = h;
		ret->answer = &k->answer;
		return;
	case HANDSHAKE_TOKEN:
		refuse(ret, 403, "verify_token", "the verify token is missing or wrong");
		return;
	case HANDSHAKE_VALUE:
		refuse(ret, 400, "handshake_value",
		       "a value that the handshake's answer repeats is missing or not allowed");
		return;
	case HANDSHAKE_NOMEM:
		refuse_nomem(ret);
		return;
	}
}

static bool find_token(struct intake *k, const struct tool *t, struct intake_result *ret)
{
	struct str token;
	enum err e = recipe_fetch(&k->input, &t->recipe->once, STR_NONE, &token);

	if (e == ERR_NOTFOUND || e == ERR_INVAL || (e == ERR_OK && token.len == 0)) {
		refuse(ret, 401, "token_missing",
		       "the token that makes the request unique is missing");
		return false;
	}
	if (e == ERR_OK)
		e = once_key_make(t->id, token, k->input.request->body, &ret->token);
	if (e != ERR_OK) {
		refuse_nomem(ret);
		return false;
	}
	ret->once = true;
	ret->token_age = t->recipe->past + t->recipe->future;
	return true;
}

/* ---- in several turns ---- */

/* Of the request at hand. */
static struct intake_rest *get_rest(struct intake *k, bool coded)
{
	if (!k->own) {
		k->own = mem_zalloc(sizeof(*k->own));
		if (!k->own)
			return NULL;
		decoder_init(&k->own->decoder);
	}
	k->rest = k->own;
	k->rest->coded = coded;
	return k->rest;
}

static void hand_over(struct intake *k, struct intake_result *ret)
{
	struct intake_rest *rest = k->rest;

	rest->verified = k->verified;
	rest->secret = ret->secret;
	rest->timed = ret->timed;
	rest->skew = ret->skew;
	ret->rest = rest;
	k->own = k->rest = NULL;
}

/* Puts the decoded request in the place of `*req`. */
static bool use_decoded(struct intake *k, const struct recipe_request **req,
                        struct intake_result *ret)
{
	enum gzip_verdict v = k->rest->decoded;

	if (v != GZIP_OK) {
		refuse(ret, coding_status(v), coding_reason(v), coding_detail(v));
		ret->limit = coding_limit(v);
		return false;
	}
	k->decoded = **req;
	k->decoded.body = buf_str(&k->rest->decoder.plain);
	*req = &k->decoded;
	return true;
}

/* Where the signature is over the bytes as sent, it is checked first: strangers do not get to have
 * things decoded. */
static bool decode(struct intake *k, const struct tool *t, const struct recipe_request **req,
                   struct intake_result *ret)
{
	const struct recipe_request *sent = *req;
	struct intake_rest *rest;

	if (!t->limits.gzip || coding_of(sent->headers, sent->header_count) != CODING_GZIP)
		return true;
	recipe_input_bind(&k->input, t->recipe, sent);
	if (!t->limits.signed_decoded && !authentic(k, ret))
		return false;
	rest = get_rest(k, true);
	if (!rest) {
		refuse_nomem(ret);
		return false;
	}
	rest->decoded = decoder_start(&rest->decoder, sent->body, k->max_body, sent->headers,
	                              sent->header_count);
	if (intake_rest_step(rest, k->slice))
		return use_decoded(k, req, ret);
	hand_over(k, ret);
	return false;
}

/* Verifying and reading a large body each take their time. */
static bool enough(struct intake *k, const struct recipe_request *req, struct intake_result *ret)
{
	if (!k->slice || k->rest || req->body.len < LARGE ||
	    k->input.recipe->scheme == RECIPE_NONE || !get_rest(k, false))
		return false;
	hand_over(k, ret);
	return true;
}

/* The headers to keep. */
static enum err clean_headers(struct intake *k, const struct recipe_request *req,
                              struct kept_headers *ret)
{
	bool decoded = req == &k->decoded;

	return sanitise_headers(decoded ? k->rest->decoder.headers : req->headers,
	                        decoded ? k->rest->decoder.header_count : req->header_count,
	                        k->input.recipe, &k->headers, &k->content_type, ret);
}

static void make_events(struct intake *k, const struct tool *t, const struct recipe_request *req,
                        usec_t received, struct intake_result *ret)
{
	struct event_view base = {
	    .tool = t->id,
	    .received = received,
	    .dedup_window = t->dedup ? t->dedup_window : EVENT_DEDUP_NONE,
	    .envelope = STR_NONE,
	    .marks = t->recipient ? EVENT_MARK_REPORTS : 0,
	};
	struct kept_headers kept;
	bool whole;

	if (clean_headers(k, req, &kept) != ERR_OK) {
		refuse_nomem(ret);
		return;
	}
	base.headers = kept.json;
	base.content_type = kept.content_type;
	base.traceparent = kept.traceparent;
	if (is_split(k, &base, &whole))
		make_split(k, t, &base, ret);
	else if (whole)
		make_unsplit(k, t, &base, ret);
	else
		make_one(k, t, &base, ret);
}

static void judge(struct intake *k, const struct tool *t, enum http_method method,
                  const struct recipe_request *req, usec_t received, struct intake_result *ret)
{
	const struct handshake *h = NULL;

	recipe_input_bind(&k->input, t->recipe, req);
	if (t->recipe->hand_count && handshake_find(&k->input, method, &h) != ERR_OK) {
		refuse_nomem(ret);
		return;
	}
	if (h) {
		shake_hands(k, t, h, ret);
		return;
	}
	if (method != HTTP_POST) {
		refuse(ret, 405, "method", "webhooks are sent by POST");
		return;
	}
	if (!authentic(k, ret) || enough(k, req, ret))
		return;
	if (!t->recipe->has_once || find_token(k, t, ret))
		make_events(k, t, req, received, ret);
}

static void begin(struct intake *k, struct intake_result *ret)
{
	*ret = (struct intake_result){.status = 200, .reason = "ok", .detail = ""};
	k->verified = false;
	intake_release(k);
}

void intake_run(struct intake *k, const struct tool *t, enum http_method method,
                const struct recipe_request *req, usec_t received, struct intake_result *ret)
{
	begin(k, ret);
	if (decode(k, t, &req, ret))
		judge(k, t, method, req, received, ret);
}

void intake_continue(struct intake *k, const struct tool *t, enum http_method method,
                     const struct recipe_request *req, usec_t received, struct intake_rest *rest,
                     struct intake_result *ret)
{
	begin(k, ret);
	k->rest = rest;
	k->verified = rest->verified;
	ret->secret = rest->secret;
	ret->timed = rest->timed;
	ret->skew = rest->skew;
	if (!rest->coded || use_decoded(k, &req, ret))
		judge(k, t, method, req, received, ret);
}
