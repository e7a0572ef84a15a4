/* A provider's data file as a tool: the entry that it tells a user to write, with a secret that is
 * written out, and requests signed as the provider would. */
#ifndef WEIR_TEST_PROVIDER_RIG_H
#define WEIR_TEST_PROVIDER_RIG_H

#include "recipe_util.h"

#include <jansson.h>

#include <unistd.h>

#include "weir/base/cert.h"
#include "weir/base/digest.h"
#include "weir/base/mem.h"
#include "weir/base/pubkey.h"
#include "weir/model/provider.h"
#include "weir/receive/cert_store.h"
#include "weir/receive/intake.h"
#include "weir/run/metric.h"

#define SUBJECT_TEXT_MAX 4096

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

static inline const char *subject_member(const struct subject *s, const char *name)
{
	return json_string_value(json_object_get(json_object_get(s->file, "recipe"), name));
}

static inline void subject_public(struct subject *s, enum pubkey_kind kind,
                                  char out[SUBJECT_TEXT_MAX])
{
	const char *keys = subject_member(s, "keys");
	bool spki = strcmp(keys, "spki") == 0;
	struct buf raw, text;

	buf_init(&raw, SUBJECT_TEXT_MAX);
	buf_init(&text, SUBJECT_TEXT_MAX);
	assert_int_equal(keypair_new(kind, &s->key), ERR_OK);
	assert_int_equal(keypair_public(s->key, spki ? PUBKEY_DER : PUBKEY_RAW, &raw), ERR_OK);
	if (strcmp(keys, "hexpub") == 0) {
		hex_encode((const uint8_t *)raw.ptr, raw.len, out);
	} else {
		assert_int_equal(base64_encode(&text, raw.ptr, raw.len, false), ERR_OK);
		snprintf(out, SUBJECT_TEXT_MAX, "%s%.*s", spki ? "" : "whpk_", (int)text.len,
		         text.ptr);
	}
	buf_done(&raw);
	buf_done(&text);
}

static inline void subject_secret(struct subject *s, char out[SUBJECT_TEXT_MAX])
{
	const char *scheme = subject_member(s, "scheme"), *keys = subject_member(s, "keys");

	snprintf(out, SUBJECT_TEXT_MAX, "hush");
	if (scheme && strcmp(scheme, "basic") == 0)
		snprintf(out, SUBJECT_TEXT_MAX, "user:hush:hush");
	else if (scheme && strcmp(scheme, "ed25519") == 0)
		subject_public(s, PUBKEY_ED25519, out);
	else if (scheme && strcmp(scheme, "ecdsa-p256") == 0)
		subject_public(s, PUBKEY_ECDSA_P256, out);
	else if (strcmp(s->name, "ses") == 0)
		snprintf(out, SUBJECT_TEXT_MAX, "arn:aws:sns:eu-west-1:170000000000:mail");
	else if (keys && strncmp(keys, "whsec", 5) == 0)
		snprintf(out, SUBJECT_TEXT_MAX, "whsec_MDEyMzQ1Njc4OWFiY2RlZg==");
}

/* A certificate of our own lies where the sample says that the provider's does. */
static inline void subject_certs(struct subject *s, const char *url, bool chain)
{
	usec_t now = clock_wall();
	struct err_info info = {0};
	struct buf pem;
	int fd;

	buf_init(&pem, SUBJECT_TEXT_MAX);
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

/* The file's own entry, with a secret that is written out. `secret` and `url` NULL: the usual ones;
 * where there are private keys, each subject has its own. */
static inline void subject_open_with(struct subject *s, const char *name, const char *secret,
                                     const char *url)
{
	char made[SUBJECT_TEXT_MAX], *text;
	struct err_info info = {0};
	json_t *tool;

	*s = (struct subject){.name = name};
	assert_int_equal(provider_load(name, &s->file), ERR_OK);
	subject_secret(s, made);
	tool = json_deep_copy(json_object_get(s->file, "tool"));
	json_object_set_new(tool, "secrets", json_pack("[s]", secret ? secret : made));
	if (url)
		json_object_set_new(tool, "url", json_string(url));
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
		subject_certs(
		    s, "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-17.pem",
		    false);
	if (strcmp(name, "paypal") == 0)
		subject_certs(s, "https://api.paypal.com/v1/notifications/certs/CERT-weir", true);
}

static inline void subject_close(struct subject *s)
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

static inline void subject_open(struct subject *s, const char *name)
{
	subject_open_with(s, name, NULL, NULL);
}

static inline const struct tool *subject_tool(const struct subject *s)
{
	return tools_at(s->set, 0);
}

#endif
