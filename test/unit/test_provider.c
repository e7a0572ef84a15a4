/* Every provider's data file: the tool entry that it tells a user to write is taken, its sample,
 * signed as the provider would, is authentic and has the id and the type that the sample says, and
 * a spoiled signature is refused. */
#include "recipe_util.h"

#include <jansson.h>

#include <unistd.h>

#include "weir/base/cert.h"
#include "weir/base/digest.h"
#include "weir/base/pubkey.h"
#include "weir/model/provider.h"
#include "weir/receive/cert_store.h"
#include "weir/receive/intake.h"
#include "weir/run/metric.h"

#define TEXT_MAX 4096

/* Providers whose events have no id. */
static const char *const without_id[] = {"discord", "zoom"};

struct subject {
	const char *name;
	json_t *file;
	struct keypair *key; /* NULL: a shared secret */
	struct tools *set;
	struct intake *intake;
	struct cert_store *certs; /* NULL: its signatures need none */
	struct metric_registry *metrics;
	char ca_file[40];
};

static const char *member(const struct subject *s, const char *name)
{
	return json_string_value(json_object_get(json_object_get(s->file, "recipe"), name));
}

static void public_text(struct subject *s, enum pubkey_kind kind, char out[TEXT_MAX])
{
	const char *keys = member(s, "keys");
	bool spki = strcmp(keys, "spki") == 0;
	struct buf raw, text;

	buf_init(&raw, TEXT_MAX);
	buf_init(&text, TEXT_MAX);
	assert_int_equal(keypair_new(kind, &s->key), ERR_OK);
	assert_int_equal(keypair_public(s->key, spki ? PUBKEY_DER : PUBKEY_RAW, &raw), ERR_OK);
	if (strcmp(keys, "hexpub") == 0) {
		hex_encode((const uint8_t *)raw.ptr, raw.len, out);
	} else {
		assert_int_equal(base64_encode(&text, raw.ptr, raw.len, false), ERR_OK);
		snprintf(out, TEXT_MAX, "%s%.*s", spki ? "" : "whpk_", (int)text.len, text.ptr);
	}
	buf_done(&raw);
	buf_done(&text);
}

static void secret_text(struct subject *s, char out[TEXT_MAX])
{
	const char *scheme = member(s, "scheme"), *keys = member(s, "keys");

	snprintf(out, TEXT_MAX, "hush");
	if (scheme && strcmp(scheme, "basic") == 0)
		snprintf(out, TEXT_MAX, "user:hush:hush");
	else if (scheme && strcmp(scheme, "ed25519") == 0)
		public_text(s, PUBKEY_ED25519, out);
	else if (scheme && strcmp(scheme, "ecdsa-p256") == 0)
		public_text(s, PUBKEY_ECDSA_P256, out);
	else if (strcmp(s->name, "ses") == 0)
		snprintf(out, TEXT_MAX, "arn:aws:sns:eu-west-1:170000000000:mail");
	else if (keys && strncmp(keys, "whsec", 5) == 0)
		snprintf(out, TEXT_MAX, "whsec_MDEyMzQ1Njc4OWFiY2RlZg==");
}

/* A certificate of our own lies where the sample says that the provider's does. */
static void open_certs(struct subject *s, const char *url, bool chain)
{
	usec_t now = clock_wall();
	struct err_info info = {0};
	struct buf pem;
	int fd;

	buf_init(&pem, TEXT_MAX);
	assert_int_equal(keypair_new(PUBKEY_RSA, &s->key), ERR_OK);
	assert_int_equal(cert_self_signed(s->key, "signing.example", now - USEC_PER_SEC,
	                                  now + 3600 * USEC_PER_SEC, &pem),
	                 ERR_OK);
	snprintf(s->ca_file, sizeof(s->ca_file), "/tmp/weir-test-ca-XXXXXX");
	fd = mkstemp(s->ca_file);
	assert_int_equal(write(fd, pem.ptr, pem.len), pem.len);
	close(fd);
	assert_int_equal(metric_registry_new(&s->metrics), ERR_OK);
	assert_int_equal(cert_store_new(&(struct cert_store_options){.metrics = s->metrics,
	                                                             .ca_file = s->ca_file},
	                                &s->certs),
	                 ERR_OK);
	if (cert_store_put(s->certs, str_of(url), chain, buf_str(&pem), &info) != ERR_OK)
		fail_msg("%s", info.text);
	intake_use_certs(s->intake, s->certs);
	buf_done(&pem);
}

/* The file's own entry, with a secret that is written out. */
static void open_subject(struct subject *s, const char *name)
{
	char secret[TEXT_MAX], *text;
	struct err_info info = {0};
	json_t *tool;

	*s = (struct subject){.name = name};
	assert_int_equal(provider_load(name, &s->file), ERR_OK);
	secret_text(s, secret);
	tool = json_deep_copy(json_object_get(s->file, "tool"));
	assert_int_equal(json_object_set_new(tool, "secrets", json_pack("[s]", secret)), 0);
	if (json_object_get(tool, "verify_token"))
		json_object_set_new(tool, "verify_token", json_string("token"));
	tool = json_pack("{s:[o]}", "tools", tool);
	text = json_dumps(tool, 0);
	if (tools_parse(str_of(text), name, &s->set, &info) != ERR_OK)
		fail_msg("%s", info.text);
	free(text);
	json_decref(tool);
	assert_int_equal(intake_new(1 << 20, &s->intake), ERR_OK);
	if (strcmp(name, "ses") == 0)
		open_certs(s,
		           "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-17.pem",
		           false);
	if (strcmp(name, "paypal") == 0)
		open_certs(s, "https://api.paypal.com/v1/notifications/certs/CERT-weir", true);
}

static void close_subject(struct subject *s)
{
	intake_free(s->intake);
	tools_unref(s->set);
	keypair_free(s->key);
	cert_store_free(s->certs);
	metric_registry_free(s->metrics);
	if (s->ca_file[0])
		unlink(s->ca_file);
	json_decref(s->file);
}

static bool has_id(const char *name)
{
	for (size_t i = 0; i < sizeof(without_id) / sizeof(without_id[0]); i++)
		if (strcmp(name, without_id[i]) == 0)
			return false;
	return true;
}

static void send(struct subject *s, bool bad, struct intake_result *ret, struct signed_request *req)
{
	struct sign_options o = {.now = NOW, .id = STR("event-17"), .bad = bad, .key = s->key};
	struct err_info info = {0};
	char path[100];
	struct made m;

	if (recipe_sign(tools_at(s->set, 0), &o, req, &info) != ERR_OK)
		fail_msg("%s", info.text);
	made_of_signed(&m, req);
	snprintf(path, sizeof(path), "/webhooks/%s", tools_at(s->set, 0)->id.ptr);
	m.req.target = str_of(path);
	intake_run(s->intake, tools_at(s->set, 0), HTTP_POST, &m.req, NOW, ret);
}

static void test_samples(void **state)
{
	(void)state;
	for (size_t i = 0; i < provider_count(); i++) {
		struct signed_request req;
		struct intake_result in;
		struct subject s;
		struct str type;

		open_subject(&s, provider_name(i));
		print_message("%s\n", s.name);
		type = provider_text(s.file, "sample", "type");
		send(&s, false, &in, &req);
		if (in.status != 200 || in.n != 1)
			fail_msg("%s: %d %s, %zu events", s.name, in.status, in.reason, in.n);
		assert_true(str_eq(in.events[0].type, type));
		if (has_id(s.name) &&
		    !memmem(in.events[0].id.ptr, in.events[0].id.len, "event-17", 8))
			fail_msg("%s: id \"%.*s\"", s.name, (int)in.events[0].id.len,
			         in.events[0].id.ptr);
		assert_true(has_id(s.name) || in.events[0].id.len == 0);
		signed_request_done(&req);
		send(&s, true, &in, &req);
		assert_int_equal(in.status, 401);
		signed_request_done(&req);
		close_subject(&s);
	}
}

/* What a page about the provider and `weir tools show` print. */
static void test_files_are_whole(void **state)
{
	static const char *const answers[] = {"timeout", "retries", "2xx", "4xx", "5xx"};
	const json_t *v;
	json_t *p;
	size_t k;

	(void)state;
	for (size_t i = 0; i < provider_count(); i++) {
		assert_int_equal(provider_load(provider_name(i), &p), ERR_OK);
		assert_true(str_eq(provider_text(p, "name", NULL), str_of(provider_name(i))));
		assert_true(provider_text(p, "title", NULL).len > 0);
		for (size_t a = 0; a < sizeof(answers) / sizeof(answers[0]); a++)
			if (provider_text(p, "answers", answers[a]).len == 0)
				fail_msg("%s: answers.%s is missing", provider_name(i), answers[a]);
		assert_true(json_array_size(json_object_get(p, "setup")) > 0);
		assert_true(json_array_size(json_object_get(p, "rests_on")) > 0);
		json_array_foreach(json_object_get(p, "rests_on"), k, v)
		{
			assert_true(provider_text(v, "what", NULL).len > 0);
			assert_true(provider_text(v, "seen", NULL).len > 0);
		}
		assert_true(provider_known(provider_name(i)) == provider_name(i));
		assert_non_null(strstr(provider_names(), provider_name(i)));
		json_decref(p);
	}
	assert_null(provider_known("nobody"));
	assert_int_equal(provider_load("nobody", &p), ERR_NOTFOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_samples),
	    cmocka_unit_test(test_files_are_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
