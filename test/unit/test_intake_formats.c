/* Requests in other clothes: CloudEvents in three modes, and gzip bodies. */
#include "intake_rig.h"

#include "gzip_make.h"

#include "weir/base/digest.h"
#include "weir/model/cloudevents.h"

#define CE "\"auth\":\"none\",\"format\":\"cloudevents\""

/* ---- CloudEvents ---- */

static void test_modes(void **state)
{
	static const struct {
		const char *type;
		enum cloudevents_mode mode;
	} cases[] = {
	    {"", CLOUDEVENTS_BINARY},
	    {"application/json", CLOUDEVENTS_BINARY},
	    {"application/cloudeventsx+json", CLOUDEVENTS_BINARY},
	    {"application/cloudevents+json", CLOUDEVENTS_STRUCTURED},
	    {"Application/CloudEvents+JSON; charset=utf-8", CLOUDEVENTS_STRUCTURED},
	    {"application/cloudevents", CLOUDEVENTS_STRUCTURED},
	    {"application/cloudevents+avro", CLOUDEVENTS_STRUCTURED},
	    {"application/cloudevents-batch+json", CLOUDEVENTS_BATCH},
	    {" application/cloudevents-batch+json ;x=y", CLOUDEVENTS_BATCH},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(cloudevents_mode(str_of(cases[i].type)), cases[i].mode);
}

static void test_attributes(void **state)
{
	static const struct {
		const char *raw, *text;
	} cases[] = {
	    {"/plain", "/plain"},
	    {"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro \xe2\x82\xac \xf0\x9f\x98\x80"},
	    {"a%25b", "a%b"},
	    {"a%2525b", "a%25b"}, /* once */
	    {"100%", "100%"},
	    {"%zz%4", "%zz%4"},
	    {"a+b", "a+b"},
	    {"\"quoted \\\"inside\\\" %22\"", "quoted \"inside\" \""},
	    {"\"\"", ""},
	    {"\"", "\""},
	    {"", ""},
	};
	struct buf b;
	struct str got;

	(void)state;
	buf_init(&b, 1000);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(cloudevents_attribute(str_of(cases[i].raw), &b, &got), ERR_OK);
		expect(got, cases[i].text);
	}
	buf_done(&b);
}

static void test_binary(void **state)
{
	struct tools *set = one_tool(CE);
	struct intake_result in;
	struct made m;

	(void)state;
	/* The data may be an array, and look like an event itself. */
	made_init(&m, "[{\"id\":\"inner\",\"source\":\"s\",\"type\":\"no\"}]");
	made_header(&m, "Content-Type", "application/json");
	made_header(&m, "ce-specversion", "1.0");
	made_header(&m, "ce-source", "/mill%20gate");
	made_header(&m, "ce-id", "A-1");
	made_header(&m, "ce-type", "com.example.%C3%B6pened");
	run(set, &m, &in);
	assert_int_equal(in.n, 1);
	expect(in.events[0].id, "/mill gate:A-1");
	expect(in.events[0].type, "com.example.\xc3\xb6pened");
	expect(in.events[0].content_type, "application/json");
	assert_ptr_equal(in.events[0].body.ptr, m.req.body.ptr);
	/* What is required and missing is no reason to refuse. */
	m.req.header_count = 4;
	m.headers[3] = (struct http_header){STR("ce-id"), STR("A-1")};
	m.headers[2] = (struct http_header){STR("x"), STR("y")};
	run(set, &m, &in);
	assert_int_equal(in.status, 200);
	expect(in.events[0].id, "");
	expect(in.events[0].type, "unknown");
	tools_unref(set);
}

static void test_structured(void **state)
{
	struct tools *set = one_tool(CE);
	struct intake_result in;
	struct made m;

	(void)state;
	made_init(&m,
	          "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/a%20b\",\"type\":\"t.x\","
	          "\"data_base64\":\"AAE=\"}");
	made_header(&m, "Content-Type", "application/cloudevents+json; charset=utf-8");
	made_header(&m, "ce-id", "not this");
	made_header(&m, "ce-source", "nor this");
	made_header(&m, "ce-type", "no");
	run(set, &m, &in);
	assert_int_equal(in.n, 1);
	expect(in.events[0].id, "/a%20b:7"); /* JSON is not percent-encoded */
	expect(in.events[0].type, "t.x");
	made_init(&m, "no json");
	made_header(&m, "Content-Type", "application/cloudevents+json");
	run(set, &m, &in);
	assert_int_equal(in.n, 1);
	expect(in.events[0].id, "");
	tools_unref(set);
	set = one_tool(CE ",\"require_id\":true");
	run(set, &m, &in);
	assert_int_equal(in.status, 400);
	assert_string_equal(in.reason, "body_not_json");
	tools_unref(set);
}

static void test_batch(void **state)
{
	struct tools *set = one_tool(CE);
	struct intake_result in;
	struct made m;

	(void)state;
	made_init(
	    &m,
	    "[{\"id\":\"1\",\"source\":\"/s\",\"type\":\"a\"}, {\"id\":\"1\",\"source\":\"/t\"}]");
	made_header(&m, "Content-Type", "application/cloudevents-batch+json");
	run(set, &m, &in);
	assert_int_equal(in.n, 2);
	expect(in.events[0].id, "/s:1");
	expect(in.events[1].id, "/t:1");
	expect(in.events[1].type, "unknown");
	expect(in.events[1].body, "{\"id\":\"1\",\"source\":\"/t\"}");
	expect(in.events[0].content_type, "application/cloudevents+json");
	m.req.body = STR("[]");
	run(set, &m, &in);
	assert_int_equal(in.status, 200);
	assert_int_equal(in.n, 0);
	m.req.body = STR("{}");
	run(set, &m, &in);
	assert_int_equal(in.status, 400);
	assert_string_equal(in.reason, "array_missing");
	tools_unref(set);
}

/* With any way of authentication, and in the place of a preset's own id and type. */
static void test_format_of_any_tool(void **state)
{
	struct tools *set = one_tool("\"preset\":\"github\",\"secrets\":[\"k\"],"
	                             "\"format\":\"cloudevents\"");
	struct sign_options o = {.now = NOW};
	struct signed_request s;
	struct intake_result in;
	struct err_info info;
	struct made m;

	(void)state;
	assert_int_equal(recipe_sign(tools_at(set, 0), &o, &s, &info), ERR_OK);
	made_of_signed(&m, &s);
	run(set, &m, &in);
	assert_int_equal(in.status, 200);
	expect(in.events[0].type, "com.example.gate.opened");
	assert_true(str_starts(in.events[0].id, STR("/mill/gate:")));
	made_find(&m, "x-hub-signature-256")->value = STR("sha256=00");
	run(set, &m, &in);
	assert_int_equal(in.status, 401);
	signed_request_done(&s);
	tools_unref(set);
}

/* ---- gzip ---- */

static const char json[] = "{\"id\":\"z-1\",\"type\":\"gate.opened\",\"cm\":117}";

/* A request whose body is `plain`, packed, and signed over one or the other. */
struct packed {
	struct made m;
	struct str z;
	char sig[80];
};

static void pack(struct packed *p, struct str plain, bool sign_plain)
{
	struct str key = STR("k"), content;
	uint8_t mac[DIGEST_MAX_LEN];
	struct hmac *h;

	p->z = gzip_make(plain, 1);
	content = sign_plain ? plain : p->z;
	assert_int_equal(hmac_new(DIGEST_SHA256, key, &h), ERR_OK);
	assert_int_equal(hmac_parts(h, &content, 1, mac), ERR_OK);
	hmac_free(h);
	hex_encode(mac, 32, p->sig);
	made_init(&p->m, "");
	p->m.req.body = p->z;
	made_header(&p->m, "Content-Type", "application/json");
	made_header(&p->m, "Content-Encoding", "gzip");
	made_header(&p->m, "X-Sig", p->sig);
}

static void unpack(struct packed *p)
{
	free((char *)(uintptr_t)p->z.ptr);
}

#define ZIP                                                                                     \
	"\"secrets\":[\"k\"],\"gzip\":true,\"recipe\":{\"sig\":\"header:x-sig\",\"id\":\"json:" \
	"id\","                                                                                 \
	"\"type\":\"json:type\"}"

static void test_gzip(void **state)
{
	struct tools *sent = one_tool(ZIP),
	             *decoded = one_tool(ZIP ",\"signed_encoding\":\"decoded\"");
	struct intake_result in;
	struct packed p;

	(void)state;
	for (int over_plain = 0; over_plain < 2; over_plain++) {
		pack(&p, STR(json), over_plain);
		run(over_plain ? decoded : sent, &p.m, &in);
		assert_int_equal(in.status, 200);
		expect(in.events[0].id, "z-1");
		expect(in.events[0].type, "gate.opened");
		expect(in.events[0].body, json);
		run(over_plain ? sent : decoded, &p.m, &in);
		assert_int_equal(in.status, 401);
		unpack(&p);
	}
	/* Opting in is no duty. */
	made_init(&p.m, json);
	run(sent, &p.m, &in);
	assert_int_equal(in.status, 401);
	assert_string_equal(in.reason, "signature_missing");
	tools_unref(sent);
	tools_unref(decoded);
}

static void test_gzip_headers(void **state)
{
	struct tools *set = one_tool("\"auth\":\"none\",\"gzip\":true");
	struct intake_result in;
	struct packed p;

	(void)state;
	pack(&p, STR(json), false);
	p.m.req.header_count = 2;
	run(set, &p.m, &in);
	expect(in.events[0].headers, "[[\"Content-Type\",\"application/json\"]]");
	expect(in.events[0].content_type, "application/json");
	/* The next request knows nothing of it. */
	made_init(&p.m, "{}");
	made_header(&p.m, "A", "b");
	run(set, &p.m, &in);
	expect(in.events[0].headers, "[[\"A\",\"b\"]]");
	expect(in.events[0].body, "{}");
	unpack(&p);
	tools_unref(set);
}

static void test_row19_refused(void **state)
{
	static char zeros[2 << 20];
	struct tools *set = one_tool("\"auth\":\"none\",\"gzip\":true"), *signing = one_tool(ZIP);
	struct intake_result in;
	struct packed p, outer;

	(void)state;
	pack(&p, STR(json), false);
	p.m.req.body.len--;
	run(set, &p.m, &in);
	assert_int_equal(in.status, 400);
	assert_string_equal(in.reason, "gzip_truncated");
	p.m.req.body.len++;
	pack(&outer, p.z, false);
	run(set, &outer.m, &in);
	assert_int_equal(in.status, 400);
	assert_string_equal(in.reason, "gzip_nested");
	unpack(&outer);
	intake_set_max_body(intake, sizeof(json) - 1);
	run(set, &p.m, &in);
	assert_int_equal(in.status, 200);
	intake_set_max_body(intake, sizeof(json) - 2);
	run(set, &p.m, &in);
	assert_int_equal(in.status, 413);
	assert_string_equal(in.reason, "decoded_too_large");
	intake_set_max_body(intake, 1 << 30);
	unpack(&p);
	pack(&p, str_n(zeros, sizeof(zeros)), false);
	run(set, &p.m, &in);
	assert_int_equal(in.status, 413);
	assert_string_equal(in.reason, "gzip_ratio");
	/* A stranger's bomb is not even opened. */
	p.sig[0] = p.sig[0] == '0' ? '1' : '0';
	run(signing, &p.m, &in);
	assert_int_equal(in.status, 401);
	unpack(&p);
	tools_unref(set);
	tools_unref(signing);
}

/* ---- in several turns ---- */

#define SLICE 65536

/* {"id":"long","pad":"…"} of `len` bytes, which packs to half of it. */
static struct str long_json(size_t len)
{
	static const char head[] = "{\"id\":\"long\",\"pad\":\"";
	char *p = malloc(len);
	unsigned x = 1;

	assert_non_null(p);
	memcpy(p, head, sizeof(head) - 1);
	for (size_t i = sizeof(head) - 1; i < len - 2; i++) {
		x = x * 1103515245 + 12345;
		p[i] = (char)('a' + (x >> 16) % 16);
	}
	memcpy(p + len - 2, "\"}", 2);
	return str_n(p, len);
}

/* Runs to the end, counting the steps in between. */
static size_t run_turns(const struct tools *set, const struct made *m, struct intake_result *ret,
                        struct intake_rest **ret_rest)
{
	size_t steps = 1;

	intake_set_slice(intake, SLICE);
	run(set, m, ret);
	*ret_rest = ret->rest;
	if (!*ret_rest)
		return 0;
	assert_true(ret->status == 200 && ret->n == 0);
	while (!intake_rest_step(*ret_rest, SLICE))
		steps++;
	intake_continue(intake, tools_at(set, 0), HTTP_POST, &m->req, NOW, *ret_rest, ret);
	assert_null(ret->rest);
	return steps;
}

static void test_gzip_in_turns(void **state)
{
	struct tools *sent = one_tool(ZIP),
	             *decoded = one_tool(ZIP ",\"signed_encoding\":\"decoded\"");
	struct str plain = long_json(10 * SLICE);
	struct intake_rest *rest;
	struct intake_result in;
	struct packed p;

	(void)state;
	for (int over_plain = 0; over_plain < 2; over_plain++) {
		const struct tools *set = over_plain ? decoded : sent;

		pack(&p, plain, over_plain);
		assert_in_range(run_turns(set, &p.m, &in, &rest), 9, 10);
		assert_false(intake_rest_needs_body(rest));
		assert_true(in.status == 200 && in.n == 1);
		expect(in.events[0].id, "long");
		assert_true(str_eq(in.events[0].body, plain));
		intake_release(intake);
		/* A second time (it waited for something else meanwhile), and without its body. */
		p.m.req.body = STR("");
		intake_continue(intake, tools_at(set, 0), HTTP_POST, &p.m.req, NOW, rest, &in);
		assert_true(in.status == 200 && str_eq(in.events[0].body, plain));
		intake_rest_free(rest);
		p.m.req.body = str_n(p.z.ptr, p.z.len - 1);
		p.sig[0] = p.sig[0] == '0' ? '1' : '0';
		assert_int_equal(run_turns(set, &p.m, &in, &rest) > 0, over_plain);
		assert_int_equal(in.status, over_plain ? 400 : 401);
		intake_rest_free(rest);
		p.m.req.body = p.z;
		assert_int_equal(run_turns(set, &p.m, &in, &rest) > 0, over_plain);
		assert_int_equal(in.status, 401);
		intake_rest_free(rest);
		unpack(&p);
	}
	/* What fits into a slice takes one turn. */
	pack(&p, str_n(plain.ptr, SLICE / 2), false);
	assert_int_equal(run_turns(sent, &p.m, &in, &rest), 0);
	assert_true(in.status == 200 && in.n == 1);
	unpack(&p);
	intake_set_max_body(intake, 5 * SLICE);
	pack(&p, plain, false);
	assert_true(run_turns(sent, &p.m, &in, &rest) > 1);
	assert_int_equal(in.status, 413);
	intake_rest_free(rest);
	unpack(&p);
	free((char *)(uintptr_t)plain.ptr);
	tools_unref(sent);
	tools_unref(decoded);
}

/* Verified in one turn, read in the next. */
static void test_large_in_turns(void **state)
{
	struct tools *set = one_tool("\"secrets\":[\"no\",\"k\"],\"recipe\":{\"sig\":\"header:x-"
	                             "sig\",\"id\":\"json:id\"}"),
	             *open = one_tool("\"auth\":\"none\"");
	struct str plain = long_json(4 << 20);
	struct intake_rest *rest;
	struct intake_result in;
	struct packed p;

	(void)state;
	pack(&p, plain, true);
	p.m.req.body = plain;
	assert_int_equal(run_turns(set, &p.m, &in, &rest), 1);
	assert_true(intake_rest_needs_body(rest));
	assert_true(in.status == 200 && in.n == 1 && in.secret == 1);
	expect(in.events[0].id, "long");
	intake_rest_free(rest);
	assert_int_equal(run_turns(open, &p.m, &in, &rest), 0);
	assert_int_equal(in.status, 200);
	p.sig[0] = p.sig[0] == '0' ? '1' : '0';
	assert_int_equal(run_turns(set, &p.m, &in, &rest), 0);
	assert_int_equal(in.status, 401);
	p.m.req.body.len--;
	intake_set_slice(intake, 0);
	run(open, &p.m, &in);
	assert_null(in.rest);
	unpack(&p);
	free((char *)(uintptr_t)plain.ptr);
	tools_unref(set);
	tools_unref(open);
}

/* ---- the sender's clock ---- */

static void test_skew(void **state)
{
	struct tools *set = one_tool(
	    "\"secrets\":[\"k\"],\"recipe\":{\"sig\":\"header:x-sig\",\"ts\":\"header:x-ts s\","
	    "\"signed\":\"{ts}.{body}\"}");
	static const int64_t offs[] = {0, 7, -40, 299, 301, -100000};
	struct sign_options o = {.now = NOW};
	struct signed_request s;
	struct intake_result in;
	struct err_info info;
	struct made m;

	(void)state;
	for (size_t i = 0; i < sizeof(offs) / sizeof(offs[0]); i++) {
		o.now = NOW - offs[i] * USEC_PER_SEC;
		assert_int_equal(recipe_sign(tools_at(set, 0), &o, &s, &info), ERR_OK);
		made_of_signed(&m, &s);
		run(set, &m, &in);
		/* A wrong host clock shows by what it refuses, too. */
		assert_int_equal(in.status, offs[i] > 300 || offs[i] < -300 ? 401 : 200);
		assert_true(in.timed);
		assert_int_equal(in.skew, offs[i] * USEC_PER_SEC);
		/* What a stranger writes tells nothing. */
		made_find(&m, "x-sig")->value =
		    STR("0000000000000000000000000000000000000000000000000000000000000000");
		run(set, &m, &in);
		assert_int_equal(in.status, 401);
		assert_false(in.timed);
		signed_request_done(&s);
	}
	tools_unref(set);
}

/* ---- memory ---- */

static void scenario_gzip(void)
{
	struct tools *set = NULL;
	struct intake *k = NULL;
	struct intake_result in;
	struct packed p;

	if (tools_parse(STR("{\"tools\":[{\"id\":\"t\",\"auth\":\"none\",\"gzip\":true,"
	                    "\"content_types\":[\"a/b\",\"c/*\"],\"allow_from\":[\"::1\"],"
	                    "\"format\":\"cloudevents\"}]}"),
	                "f", &set, NULL) != ERR_OK)
		return;
	if (intake_new(1 << 20, &k) == ERR_OK) {
		made_init(&p.m, "");
		p.z = gzip_make(STR(json), 1);
		p.m.req.body = p.z;
		made_header(&p.m, "Content-Encoding", "gzip");
		made_header(&p.m, "ce-id", "%41");
		made_header(&p.m, "ce-source", "/%41");
		intake_run(k, tools_at(set, 0), HTTP_POST, &p.m.req, NOW, &in);
		assert_true(in.status == 503 || (in.status == 200 && in.n == 1));
		unpack(&p);
	}
	intake_free(k);
	tools_unref(set);
}

static void scenario_turns(void)
{
	static char plain[3 * SLICE];
	struct tools *set = NULL;
	struct intake *k = NULL;
	struct intake_result in;
	struct packed p;

	memset(plain, 'x', sizeof(plain));
	if (tools_parse(STR("{\"tools\":[{\"id\":\"t\",\"auth\":\"none\",\"gzip\":true}]}"), "f",
	                &set, NULL) != ERR_OK)
		return;
	if (intake_new(1 << 20, &k) == ERR_OK) {
		made_init(&p.m, "");
		p.z = gzip_make(str_n(plain, sizeof(plain)), 1);
		p.m.req.body = p.z;
		made_header(&p.m, "Content-Encoding", "gzip");
		intake_set_slice(k, SLICE);
		intake_run(k, tools_at(set, 0), HTTP_POST, &p.m.req, NOW, &in);
		if (in.rest) {
			struct intake_rest *rest = in.rest;

			while (!intake_rest_step(rest, SLICE))
				;
			intake_continue(k, tools_at(set, 0), HTTP_POST, &p.m.req, NOW, rest, &in);
			assert_true(in.status == 503 || (in.status == 200 && in.n == 1));
			intake_rest_free(rest);
		} else {
			assert_int_equal(in.status, 503);
		}
		unpack(&p);
	}
	intake_free(k);
	tools_unref(set);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_modes),      TEST(test_attributes),    TEST(test_binary),
	    TEST(test_structured), TEST(test_batch),         TEST(test_format_of_any_tool),
	    TEST(test_gzip),       TEST(test_gzip_headers),  TEST(test_row19_refused),
	    TEST(test_skew),       TEST(test_gzip_in_turns), TEST(test_large_in_turns),
	};
	const struct torture torture[] = {TORTURE(scenario_gzip), TORTURE(scenario_turns)};

	return TESTS_OR_TORTURE(tests, torture);
}
