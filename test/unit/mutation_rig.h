/* One genuine request for every provider, to be spoiled and asked again. */
#ifndef WEIR_TEST_MUTATION_RIG_H
#define WEIR_TEST_MUTATION_RIG_H

#include "provider_rig.h"

#define MAX_PROVIDERS 64
#define MAX_SIGNATURE 4096

struct probe {
	struct subject s;
	const struct recipe *r;
	struct signed_request req;
	struct made m;
	char target[100];
	struct str sig; /* the signature's text, where the request has it */
	char sig_text[MAX_SIGNATURE];
};

static struct probe probes[MAX_PROVIDERS];
static size_t probe_count;
static size_t tried;

static inline bool signs(const struct recipe *r, enum recipe_part_kind kind)
{
	for (size_t i = 0; i < r->part_count; i++)
		if (r->parts[i].kind == kind)
			return true;
	return false;
}

/* By the recipe's template; built-in schemes are none of these. */
static inline bool has_signature(const struct recipe *r)
{
	return r->scheme == RECIPE_HMAC || recipe_is_asymmetric(r->scheme);
}

static inline bool signs_body(const struct recipe *r)
{
	return (has_signature(r) && signs(r, RECIPE_PART_BODY)) || r->scheme == RECIPE_TWILIO ||
	       r->scheme == RECIPE_PAYPAL;
}

static inline bool signs_header(const struct recipe *r, struct str name)
{
	if (r->scheme == RECIPE_PAYPAL && str_ieq(name, r->built[PAYPAL_ID].name))
		return true;
	if (!has_signature(r) && r->scheme != RECIPE_PAYPAL)
		return false;
	if (r->has_ts && r->ts.kind == RECIPE_SRC_HEADER && str_ieq(r->ts.name, name))
		return true;
	for (size_t i = 0; i < r->part_count; i++)
		if (r->parts[i].kind == RECIPE_PART_SOURCE &&
		    r->parts[i].source.kind == RECIPE_SRC_HEADER &&
		    str_ieq(r->parts[i].source.name, name))
			return true;
	return false;
}

/* ---- asking ---- */

/* `p`'s request, asked of a tool that may be another's. */
static inline struct intake_result ask_of(const struct subject *s, const struct probe *p)
{
	struct intake_result in;

	tried++;
	intake_run(s->intake, subject_tool(s), HTTP_POST, &p->m.req, p->m.req.now, &in);
	return in;
}

static inline void accepted(const struct probe *p, const char *what)
{
	struct intake_result in = ask_of(&p->s, p);

	if (in.status != 200)
		fail_msg("%s: %s: %d %s", p->s.name, what, in.status, in.reason);
}

static inline void refused_of(const struct subject *s, const struct probe *p, const char *what,
                              size_t at)
{
	struct intake_result in = ask_of(s, p);

	if (in.status != 400 && in.status != 401)
		fail_msg("%s: %s (%zu): %d", p->s.name, what, at, in.status);
}

static inline void refused(const struct probe *p, const char *what, size_t at)
{
	refused_of(&p->s, p, what, at);
}

/* ---- the signature, wherever it stands ---- */

static const struct recipe_source *sig_source(const struct probe *p)
{
	return &p->r->sigs[0];
}

static inline void find_signature(struct probe *p)
{
	const struct recipe_source *src = sig_source(p);
	struct recipe_input in;
	struct str text = STR_NONE;

	if (p->r->scheme == RECIPE_NONE)
		return;
	recipe_input_init(&in);
	recipe_input_bind(&in, p->r, &p->m.req);
	(void)recipe_input_scan(&in);
	assert_int_equal(recipe_fetch(&in, src, STR_NONE, &text), ERR_OK);
	assert_true(text.len < sizeof(p->sig_text));
	memcpy(p->sig_text, text.ptr, text.len);
	recipe_input_done(&in);
	p->sig = str_n(p->sig_text, text.len);
}

/* `whole` with its only `p->sig` replaced. */
static inline void splice(const struct probe *p, struct str whole, struct str sig, struct buf *out)
{
	const char *at = memmem(whole.ptr, whole.len, p->sig.ptr, p->sig.len);

	assert_non_null(at);
	buf_reset(out);
	buf_add(out, whole.ptr, (size_t)(at - whole.ptr));
	buf_add_str(out, sig);
	buf_add(out, at + p->sig.len, whole.len - p->sig.len - (size_t)(at - whole.ptr));
	assert_int_equal(out->err, ERR_OK);
}

static inline struct intake_result ask_with(struct probe *p, struct str sig)
{
	static struct buf spliced;
	struct recipe_request before = p->m.req;
	struct http_header *h;
	struct intake_result in;

	if (!spliced.cap)
		buf_init(&spliced, 1 << 20);
	switch (sig_source(p)->kind) {
	case RECIPE_SRC_HEADER:
		h = made_find(&p->m, sig_source(p)->name.ptr);
		h->value = sig;
		in = ask_of(&p->s, p);
		h->value = p->sig;
		return in;
	case RECIPE_SRC_JSON:
		splice(p, before.body, sig, &spliced);
		p->m.req.body = buf_str(&spliced);
		break;
	case RECIPE_SRC_QUERY:
		splice(p, before.query, sig, &spliced);
		p->m.req.query = buf_str(&spliced);
		break;
	case RECIPE_SRC_FORM:
	case RECIPE_SRC_SIG:
		fail_msg("%s: a signature's place that this test does not know", p->s.name);
	}
	in = ask_of(&p->s, p);
	p->m.req = before;
	return in;
}

static inline void refused_with(struct probe *p, struct str sig, const char *what, size_t at)
{
	struct intake_result in = ask_with(p, sig);

	if (in.status != 400 && in.status != 401)
		fail_msg("%s: %s (%zu): %d for \"%.*s\"", p->s.name, what, at, in.status,
		         (int)sig.len, sig.ptr);
}

static inline void accepted_with(struct probe *p, struct str sig, const char *what)
{
	struct intake_result in = ask_with(p, sig);

	if (in.status != 200)
		fail_msg("%s: %s: %d %s for \"%.*s\"", p->s.name, what, in.status, in.reason,
		         (int)sig.len, sig.ptr);
}

/* ---- set-up ---- */

static inline int open_all(void **state)
{
	(void)state;
	probe_count = provider_count();
	assert_true(probe_count <= MAX_PROVIDERS);
	for (size_t i = 0; i < probe_count; i++) {
		struct probe *p = &probes[i];
		struct sign_options o = {.now = NOW, .id = STR("event-17")};
		struct err_info info = {0};

		subject_open(&p->s, provider_name(i));
		p->r = subject_tool(&p->s)->recipe;
		o.key = p->s.key;
		if (recipe_sign(subject_tool(&p->s), &o, &p->req, &info) != ERR_OK)
			fail_msg("%s", info.text);
		made_of_signed(&p->m, &p->req);
		snprintf(p->target, sizeof(p->target), "/webhooks/%s", subject_tool(&p->s)->id.ptr);
		p->m.req.target = str_of(p->target);
		find_signature(p);
	}
	return 0;
}

static inline int close_all(void **state)
{
	(void)state;
	for (size_t i = 0; i < probe_count; i++) {
		signed_request_done(&probes[i].req);
		subject_close(&probes[i].s);
	}
	print_message("%zu requests to %zu presets\n", tried, probe_count);
	return 0;
}

#endif
