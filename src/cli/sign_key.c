/* Whoever tries a tool whose provider signs with a private key has no such key. A pair of its own,
 * kept in a file so that the tool can be told its public half once, stands in for it. */
#include "weir/cli/sign_key.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "weir/base/cert.h"
#include "weir/base/clock.h"
#include "weir/base/mem.h"
#include "weir/base/pubkey.h"
#include "weir/cli/command.h"
#include "weir/cli/input_file.h"
#include "weir/model/provider.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"

#define MAX_KEY_FILE (64 * 1024)
#define CERT_LIFE    (365 * 24 * 3600 * USEC_PER_SEC)

/* ---- the file ---- */

static int write_all(int fd, const struct buf *b)
{
	for (size_t at = 0; at < b->len;) {
		ssize_t n = write(fd, b->ptr + at, b->len - at);

		if (n < 0 && errno != EINTR)
			return -1;
		at += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int make(const char *file, enum pubkey_kind kind, struct keypair **ret)
{
	struct buf pem;
	int fd, rc = CLI_FAILED;

	if (keypair_new(kind, ret) != ERR_OK) {
		cli_error("no key could be made");
		return CLI_FAILED;
	}
	buf_init(&pem, MAX_KEY_FILE);
	fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || keypair_write(*ret, &pem) != ERR_OK || write_all(fd, &pem) != 0)
		cli_error("cannot write %s: %s", file, strerror(errno));
	else
		rc = CLI_DONE;
	if (fd >= 0)
		close(fd);
	mem_wipe_free(pem.ptr, pem.space);
	if (rc != CLI_DONE)
		keypair_free(*ret);
	return rc;
}

static int open_or_make(const char *file, enum pubkey_kind kind, struct keypair **ret)
{
	struct err_info info = {0};
	struct buf pem;
	enum err e;

	if (access(file, F_OK) != 0 && errno == ENOENT)
		return make(file, kind, ret);
	buf_init(&pem, MAX_KEY_FILE);
	e = input_file_read(file, &pem, &info);
	if (e != ERR_OK) {
		cli_error("%s", info.text);
	} else {
		e = keypair_read(kind, buf_str(&pem), ret);
		if (e != ERR_OK)
			cli_error("%s holds no %s private key in PEM", file,
			          kind == PUBKEY_ED25519      ? "Ed25519"
			          : kind == PUBKEY_ECDSA_P256 ? "P-256"
			                                      : "RSA");
	}
	mem_wipe_free(pem.ptr, pem.space);
	return e == ERR_OK ? CLI_DONE : CLI_FAILED;
}

/* ---- the public half ---- */

static enum err add_public(const struct keypair *k, enum recipe_key form, struct buf *out)
{
	enum pubkey_form of = form == RECIPE_KEY_PEM    ? PUBKEY_PEM
	                      : form == RECIPE_KEY_SPKI ? PUBKEY_DER
	                                                : PUBKEY_RAW;
	char hex[2 * 32 + 1];
	struct buf raw;
	enum err e;

	buf_init(&raw, MAX_KEY_FILE);
	e = keypair_public(k, of, &raw);
	if (e == ERR_OK && form == RECIPE_KEY_PEM) {
		e = buf_add_str(out, buf_str(&raw));
	} else if (e == ERR_OK && form == RECIPE_KEY_HEXPUB && raw.len == 32) {
		hex_encode((const uint8_t *)raw.ptr, raw.len, hex);
		e = buf_add_cstr(out, hex);
	} else if (e == ERR_OK) {
		if (form == RECIPE_KEY_WHPK)
			buf_add_cstr(out, "whpk_");
		e = base64_encode(out, raw.ptr, raw.len, false);
	}
	buf_done(&raw);
	return e;
}

/* `preset` may be NULL: then the form that every public-key scheme knows. */
static void print_public(const char *file, const struct keypair *k, const json_t *preset)
{
	const json_t *secret =
	    json_array_get(json_object_get(json_object_get(preset, "tool"), "secrets"), 0);
	struct str env = provider_text(secret, "env", NULL),
	           keys = provider_text(preset, "recipe", "keys");
	enum recipe_key form = RECIPE_KEY_PEM;
	struct buf text;

	if (recipe_key_form(keys, &form) != ERR_OK)
		form = RECIPE_KEY_PEM;
	buf_init(&text, MAX_KEY_FILE);
	if (add_public(k, form, &text) == ERR_OK)
		fprintf(stderr,
		        "The public key of %s, to be a secret of the tool while you "
		        "test%s:\n\n%.*s%s%s\n\n",
		        file, form == RECIPE_KEY_PEM ? " (form pem)" : "", (int)env.len,
		        env.len ? env.ptr : "", env.len ? "=" : "", text.ptr);
	buf_done(&text);
}

/* SNS and PayPal publish certificates. Only a host that the tool's cert_hosts names is asked. */
static void print_certificate(const char *file, const struct keypair *k)
{
	usec_t now = clock_wall();
	struct buf text;

	buf_init(&text, MAX_KEY_FILE);
	if (cert_self_signed(k, "weir test", now - CERT_LIFE / 2, now + CERT_LIFE, &text) == ERR_OK)
		fprintf(stderr,
		        "A certificate of %s, to be served by HTTPS where the request says that it "
		        "lies, on a host\nthat `cert_hosts` of the tool's recipe names:\n\n%s\n",
		        file, text.ptr);
	buf_done(&text);
}

static bool is_certified(enum recipe_scheme s)
{
	return s == RECIPE_SNS || s == RECIPE_PAYPAL;
}

/* ---- which key ---- */

static bool kind_of(enum recipe_scheme scheme, enum pubkey_kind *ret)
{
	if (!recipe_is_asymmetric(scheme) && !is_certified(scheme))
		return false;
	*ret = scheme == RECIPE_ED25519      ? PUBKEY_ED25519
	       : scheme == RECIPE_ECDSA_P256 ? PUBKEY_ECDSA_P256
	                                     : PUBKEY_RSA;
	return true;
}

int sign_key_open(const char *file, const struct tool *t, struct keypair **ret)
{
	enum pubkey_kind kind;
	json_t *preset = NULL;
	int rc;

	*ret = NULL;
	if (!kind_of(t->recipe->scheme, &kind)) {
		if (!file)
			return CLI_DONE;
		cli_error("%s: its requests are not signed with a private key; --key is of no use",
		          t->id.ptr);
		return CLI_USAGE;
	}
	if (!file) {
		cli_error("%s: its requests are signed with a private key: name one with --key "
		          "FILE (it is made when it is not there)",
		          t->id.ptr);
		return CLI_USAGE;
	}
	rc = open_or_make(file, kind, ret);
	if (rc != CLI_DONE)
		return rc;
	if (is_certified(t->recipe->scheme)) {
		print_certificate(file, *ret);
		return CLI_DONE;
	}
	if (t->preset[0] && provider_load(t->preset, &preset) != ERR_OK)
		preset = NULL;
	print_public(file, *ret, preset);
	json_decref(preset);
	return CLI_DONE;
}

void sign_key_suggest(const char *file, const char *preset)
{
	static const struct {
		const char *name;
		enum pubkey_kind kind;
	} schemes[] = {{"ed25519", PUBKEY_ED25519},
	               {"ecdsa-p256", PUBKEY_ECDSA_P256},
	               {"rsa-pkcs1", PUBKEY_RSA}};
	struct keypair *k;
	struct str scheme;
	json_t *p;

	if (!file || provider_load(preset, &p) != ERR_OK)
		return;
	scheme = provider_text(p, "recipe", "scheme");
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		if (!str_eq(scheme, str_of(schemes[i].name)) ||
		    open_or_make(file, schemes[i].kind, &k) != CLI_DONE)
			continue;
		print_public(file, k, p);
		keypair_free(k);
	}
	json_decref(p);
}
