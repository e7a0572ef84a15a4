/* What every provider's preset must refuse of a request: another secret, URL or method, doubled
 * headers, a body that was written anew, a timestamp a microsecond out of bounds or in another
 * spelling. Generated over all data files, as test_mutation.c is. */
#include "mutation_rig.h"

/* ---- other keys, other requests ---- */

static void test_other_secret(void **state)
{
	static const char *const texts[] = {"hushh", "hus", "HUSH", " hush", "hush "};

	(void)state;
	for (size_t i = 0; i < probe_count; i++) {
		struct probe *p = &probes[i];
		bool basic = p->r->scheme == RECIPE_BASIC;
		const char *keys = subject_member(&p->s, "keys");
		bool plain = !keys && !basic;
		size_t n = plain ? sizeof(texts) / sizeof(texts[0]) : 1;

		for (size_t k = 0; k < n; k++) {
			struct subject other;

			subject_open_with(&other, p->s.name,
			                  basic                                ? "user:hush:hus"
			                  : recipe_is_asymmetric(p->r->scheme) ? NULL
			                  : plain                              ? texts[k]
			                          : "whsec_MDEyMzQ1Njc4OWFiY2RlZQ==",
			                  NULL);
			if (p->s.certs)
				intake_use_certs(other.intake, p->s.certs);
			refused_of(&other, p, "other secret", k);
			subject_close(&other);
		}
	}
}

static void test_other_url_and_method(void **state)
{
	size_t urls = 0, methods = 0;

	(void)state;
	for (size_t i = 0; i < probe_count; i++) {
		struct probe *p = &probes[i];
		struct subject other;

		if (signs(p->r, RECIPE_PART_URL) || p->r->scheme == RECIPE_TWILIO ||
		    p->r->scheme == RECIPE_JWT) {
			urls++;
			/* Of Jira's it is a base, below which the path is signed. */
			subject_open_with(&other, p->s.name, NULL,
			                  p->r->scheme == RECIPE_JWT
			                      ? "https://hooks.example.com/webhooks"
			                      : "https://hooks.example.com/other");
			refused_of(&other, p, "other url", 0);
			subject_close(&other);
		}
		if (p->r->scheme == RECIPE_JWT) {
			p->m.req.method = STR("PUT");
			refused(p, "other method", 0);
			p->m.req.method = STR("POST");
			p->m.req.query = STR("a=b");
			refused(p, "other query", 0);
			p->m.req.query = STR_NONE;
			p->m.req.target = STR("/webhooks/other");
			refused(p, "other path", 0);
			p->m.req.target = str_of(p->target);
		}
		if (signs(p->r, RECIPE_PART_METHOD)) {
			methods++;
			p->m.req.method = STR("PUT");
			refused(p, "other method", 0);
			p->m.req.method = STR("post");
			refused(p, "other method", 1);
			p->m.req.method = STR("POST");
		}
	}
	assert_true(urls >= 2 && methods >= 1);
}

static void test_doubled(void **state)
{
	(void)state;
	for (size_t i = 0; i < probe_count; i++) {
		struct probe *p = &probes[i];
		char query[200];

		for (size_t k = 0; k < p->r->header_count; k++) {
			struct http_header *h = made_find(&p->m, p->r->headers[k].ptr);
			struct http_header *more = &p->m.headers[p->m.req.header_count];
			struct intake_result in;

			if (!h)
				continue;
			*more = *h;
			p->m.req.header_count++;
			in = ask_of(&p->s, p);
			if (in.status != 400 || strcmp(in.reason, "header_doubled") != 0)
				fail_msg("%s: %.*s twice: %d %s", p->s.name, (int)h->name.len,
				         h->name.ptr, in.status, in.reason);
			more->value = STR("");
			refused(p, "doubled, empty", k);
			p->m.req.header_count--;
		}
		if (p->r->scheme != RECIPE_NONE && sig_source(p)->kind == RECIPE_SRC_QUERY) {
			struct str before = p->m.req.query;

			snprintf(query, sizeof(query), "%.*s&%.*s", (int)before.len, before.ptr,
			         (int)before.len, before.ptr);
			p->m.req.query = str_of(query);
			refused(p, "doubled in the query", 0);
			p->m.req.query = before;
		}
	}
}

static void test_bodies_written_anew(void **state)
{
	static const char *const behind[] = {"\n", "\r\n", " ", "0", "{}"};
	size_t anew = 0;

	(void)state;
	for (size_t i = 0; i < probe_count; i++) {
		struct probe *p = &probes[i];
		struct str before = p->m.req.body;
		json_t *v = json_loadb(before.ptr, before.len, JSON_DECODE_ANY, NULL);
		size_t forms[] = {JSON_INDENT(1), JSON_SORT_KEYS | JSON_INDENT(2), JSON_COMPACT, 0};
		struct buf out;

		if (!signs_body(p->r)) {
			json_decref(v);
			continue;
		}
		for (size_t k = 0; v && k < sizeof(forms) / sizeof(forms[0]); k++) {
			char *text = json_dumps(v, forms[k] | JSON_ENCODE_ANY);

			if (!str_eq(str_of(text), before)) {
				p->m.req.body = str_of(text);
				refused(p, "written anew", k);
				anew++;
			}
			free(text);
		}
		buf_init(&out, 1 << 20);
		for (size_t k = 0; k < sizeof(behind) / sizeof(behind[0]); k++) {
			buf_reset(&out);
			buf_add_str(&out, before);
			buf_add_cstr(&out, behind[k]);
			p->m.req.body = buf_str(&out);
			refused(p, "longer body", k);
		}
		for (size_t n = 0; n < before.len; n++) {
			p->m.req.body = str_n(before.ptr, n);
			refused(p, "shorter body", n);
			p->m.req.body = str_n(before.ptr + n + 1, before.len - n - 1);
			refused(p, "body without its beginning", n);
		}
		p->m.req.body = before;
		buf_done(&out);
		json_decref(v);
	}
	assert_true(anew > 20);
}

/* ---- time ---- */

static void judge_at(struct probe *p, usec_t now, const char *reason)
{
	struct intake_result in;

	p->m.req.now = now;
	in = ask_of(&p->s, p);
	p->m.req.now = NOW;
	if (reason ? in.status != 401 || strcmp(in.reason, reason) != 0 : in.status != 200)
		fail_msg("%s at %+lld us: %d %s, not %s", p->s.name, (long long)(now - NOW),
		         in.status, in.reason ? in.reason : "", reason ? reason : "200");
}

static void test_edges_of_time(void **state)
{
	size_t timed = 0;

	(void)state;
	for (size_t i = 0; i < probe_count; i++) {
		struct probe *p = &probes[i];

		if (!p->r->has_ts || !p->r->enforce)
			continue;
		timed++;
		judge_at(p, NOW + p->r->past, NULL);
		judge_at(p, NOW + p->r->past + 1, "timestamp_stale");
		judge_at(p, NOW - p->r->future, NULL);
		judge_at(p, NOW - p->r->future - 1, "timestamp_future");
	}
	assert_true(timed >= 10);
}

/* A timestamp is what was signed: other spellings of the same moment are none. */
static void test_spellings_of_time(void **state)
{
	static const char *const spellings[] = {"+%s", "-%s",  " %s", "%s ",  "0%s",  "%s.0",
	                                        "%s0", "0x%s", "%sZ", "%se0", "%s,%s"};
	char text[200];

	(void)state;
	for (size_t i = 0; i < probe_count; i++) {
		struct probe *p = &probes[i];
		struct http_header *h;
		struct str before;

		if (!p->r->has_ts || p->r->ts.kind != RECIPE_SRC_HEADER)
			continue;
		h = made_find(&p->m, p->r->ts.name.ptr);
		before = h->value;
		for (size_t k = 0; k < sizeof(spellings) / sizeof(spellings[0]); k++) {
			const char *at = strstr(spellings[k], "%s");

			snprintf(text, sizeof(text), "%.*s%.*s%s", (int)(at - spellings[k]),
			         spellings[k], (int)before.len, before.ptr, at + 2);
			h->value = str_of(text);
			refused(p, "other spelling of the time", k);
		}
		h->value = before;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_other_secret),  cmocka_unit_test(test_other_url_and_method),
	    cmocka_unit_test(test_doubled),       cmocka_unit_test(test_bodies_written_anew),
	    cmocka_unit_test(test_edges_of_time), cmocka_unit_test(test_spellings_of_time),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
