/* Every line comes from the functions that verification itself calls (recipe_fetch, recipe_render,
 * recipe_next_signature): what is shown is what was judged. */
#include "explain_priv.h"

#include <stdio.h>

#include "weir/base/mem.h"
#include "weir/model/builtin.h"
#include "weir/model/tool.h"

static const char *scheme_name(enum recipe_scheme s)
{
	static const char *const names[] = {[RECIPE_HMAC] = "hmac",
	                                    [RECIPE_ED25519] = "ed25519",
	                                    [RECIPE_ECDSA_P256] = "ecdsa-p256",
	                                    [RECIPE_RSA_PKCS1] = "rsa-pkcs1",
	                                    [RECIPE_TOKEN] = "token",
	                                    [RECIPE_BASIC] = "basic",
	                                    [RECIPE_NONE] = "none",
	                                    [RECIPE_TWILIO] = "builtin:twilio",
	                                    [RECIPE_JWT] = "builtin:jwt",
	                                    [RECIPE_SNS] = "builtin:sns",
	                                    [RECIPE_PAYPAL] = "builtin:paypal"};

	return names[s];
}

enum err explain_open(struct explain *x, const struct tool *tool, const struct recipe_request *req,
                      struct cert_store *certs)
{
	*x = (struct explain){.tool = tool, .r = tool->recipe, .req = req, .certs = certs};
	x->in = mem_zalloc(sizeof(*x->in));
	if (!x->in)
		return ERR_NOMEM;
	recipe_input_init(x->in);
	recipe_input_bind(x->in, x->r, req);
	x->verdict = verify_request_by(x->in, certs, &x->result);
	return ERR_OK;
}

void explain_close(struct explain *x)
{
	recipe_input_done(x->in);
	mem_free(x->in);
}

int explain_status(const struct explain *x)
{
	return verify_status(x->verdict);
}

/* ---- texts ---- */

/* Byte for byte, but on one line and in ASCII: "\n", "\\", "\xc3". */
static void print_escaped(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c == '\n')
			fputs("\\n", stdout);
		else if (c == '\r')
			fputs("\\r", stdout);
		else if (c == '\t')
			fputs("\\t", stdout);
		else if (c == '\\')
			fputs("\\\\", stdout);
		else if (c < 0x20 || c > 0x7e)
			printf("\\x%02x", c);
		else
			putchar(c);
	}
}

static void print_source(const struct recipe_source *src)
{
	static const char *const kinds[] = {[RECIPE_SRC_HEADER] = "header",
	                                    [RECIPE_SRC_JSON] = "json",
	                                    [RECIPE_SRC_FORM] = "form",
	                                    [RECIPE_SRC_QUERY] = "query",
	                                    [RECIPE_SRC_SIG] = "sig"};

	printf("%s:%.*s", kinds[src->kind], (int)src->name.len, src->name.ptr);
}

static bool is_signed(const struct recipe *r)
{
	return r->scheme != RECIPE_TOKEN && r->scheme != RECIPE_BASIC && r->scheme != RECIPE_NONE;
}

/* ---- the parts ---- */

static void print_tool(const struct explain *x)
{
	const struct recipe *r = x->r;

	printf(LABEL "%s", "tool", x->tool->id.ptr);
	if (x->tool->preset[0])
		printf(" (preset %s)", x->tool->preset);
	printf(": scheme %s", scheme_name(r->scheme));
	if (recipe_has_macs(r->scheme) || r->scheme == RECIPE_RSA_PKCS1)
		printf(" %s", digest_name(r->hash));
	printf(", %zu %s\n", r->secret_count, r->secret_count == 1 ? "secret" : "secrets");
	printf(LABEL "%.*s %.*s, %zu headers, %zu bytes of body\n", "request",
	       (int)x->req->method.len, x->req->method.ptr, (int)x->req->target.len,
	       x->req->target.ptr, x->req->header_count, x->req->body.len);
	if (x->in->doubled)
		printf(LABEL "%.*s came more than once\n", "", (int)x->in->doubled_name.len,
		       x->in->doubled_name.ptr);
}

/* The text of a place where a signature may stand. */
static bool fetch_signature(struct explain *x, size_t i, struct str *ret)
{
	return recipe_fetch(x->in, &x->r->sigs[i], STR_NONE, ret) == ERR_OK;
}

static void print_time(struct explain *x, struct str sig)
{
	const struct recipe *r = x->r;
	char text[CLOCK_RFC3339_LEN + 1];
	struct str written;
	usec_t ts;

	if (!r->has_ts)
		return;
	printf(LABEL, "timestamp");
	print_source(&r->ts);
	if (recipe_fetch(x->in, &r->ts, sig, &written) != ERR_OK) {
		printf(" is not there\n");
		return;
	}
	printf(" \"");
	print_escaped(written);
	if (recipe_parse_ts(r->unit, written, &ts) != ERR_OK) {
		printf("\": no time in %s\n", r->unit == RECIPE_SECONDS    ? "seconds"
		                              : r->unit == RECIPE_MSECONDS ? "milliseconds"
		                                                           : "ISO 8601");
		return;
	}
	clock_rfc3339(ts, text);
	printf("\": %s, %+.3f s from now; ", text, (double)(ts - x->req->now) / USEC_PER_SEC);
	if (r->enforce)
		printf("-%lld s to +%lld s are taken\n", (long long)(r->past / USEC_PER_SEC),
		       (long long)(r->future / USEC_PER_SEC));
	else
		printf("its age does not matter\n");
}

static void print_mac(const struct recipe *r, const uint8_t *mac, size_t len)
{
	char hex[2 * DIGEST_MAX_LEN + 1];
	struct buf text;

	if (r->enc == RECIPE_HEX) {
		hex_encode(mac, len, hex);
		printf("%s\n", hex);
		return;
	}
	buf_init(&text, 256);
	if (base64_encode(&text, mac, len, r->enc == RECIPE_BASE64URL) == ERR_OK)
		printf("%s\n", text.ptr);
	buf_done(&text);
}

/* What each key makes of the content; where a signature names its hash, by that one. */
static void print_wanted(const struct explain *x, struct str sig, const struct content *c)
{
	struct str rest = recipe_signatures(x->r, sig), text;
	enum digest_algo hash = c->hash;
	uint8_t mac[DIGEST_MAX_LEN];

	if (x->r->parse == RECIPE_METHOD && !recipe_next_signature(x->r, &rest, &text, &hash))
		hash = c->hash;
	for (size_t i = 0; i < x->r->secret_count; i++) {
		if (hmac_parts(x->r->secrets[i].macs[hash], c->parts, c->n, mac) != ERR_OK)
			continue;
		printf(LABEL "by secret %zu it is ", "", x->r->secrets[i].index + 1);
		print_mac(x->r, mac, digest_len(hash));
	}
}

static void print_parts(const struct content *c, const char *by)
{
	size_t len = 0;

	for (size_t i = 0; i < c->n; i++)
		len += c->parts[i].len;
	printf(LABEL "%zu bytes%s: ", "signed", len, by);
	for (size_t i = 0; i < c->n; i++)
		print_escaped(c->parts[i]);
	putchar('\n');
}

static void print_missing(const struct recipe_source *missing)
{
	printf(LABEL "cannot be put together: ", "signed");
	if (missing) {
		print_source(missing);
		printf(" is not there or malformed\n");
	} else {
		printf("something of it is not there or malformed\n");
	}
}

/* The token binds the request by a hash, its claim `qsh`. */
static void print_jwt_request(struct explain *x)
{
	struct buf *b = recipe_scratch(x->in);
	uint8_t digest[DIGEST_MAX_LEN];
	char hex[2 * DIGEST_MAX_LEN + 1];
	struct str text;

	if (builtin_jwt_request(x->in, b) != ERR_OK)
		return;
	text = buf_str(b);
	if (digest_parts(DIGEST_SHA256, &text, 1, digest) != ERR_OK)
		return;
	hex_encode(digest, digest_len(DIGEST_SHA256), hex);
	printf(LABEL "the claim qsh must be %s, the sha256 of \"", "", hex);
	print_escaped(text);
	printf("\"\n");
}

static void print_content(struct explain *x, struct str sig)
{
	const struct recipe_source *missing;
	struct content c;
	char by[40] = "";

	if (!explain_content(x, sig, 0, &c, &missing)) {
		print_missing(missing);
	} else if (!c.by_secret) {
		print_parts(&c, "");
		if (recipe_has_macs(x->r->scheme))
			print_wanted(x, sig, &c);
	} else {
		for (size_t i = 0; i < x->r->secret_count; i++) {
			snprintf(by, sizeof(by), " with secret %zu", x->r->secrets[i].index + 1);
			if (explain_content(x, sig, i, &c, &missing))
				print_parts(&c, by);
		}
	}
	if (x->r->scheme == RECIPE_JWT)
		print_jwt_request(x);
}

/* Tokens and passwords are secrets: only the place is told. */
static void print_one(struct explain *x, size_t i, struct str text)
{
	struct str rest = text;

	printf(LABEL, "signature");
	print_source(&x->r->sigs[i]);
	if (!is_signed(x->r)) {
		printf(", %zu bytes\n", text.len);
		return;
	}
	printf(" \"");
	print_escaped(text);
	printf("\"\n");
	while (rest.ptr) {
		struct str group = x->r->group ? str_split(&rest, x->r->group) : rest;

		if (!x->r->group)
			rest = STR_NONE;
		print_time(x, group);
		print_content(x, group);
	}
}

static void print_signatures(struct explain *x)
{
	struct str text;
	size_t found = 0;

	for (size_t i = 0; i < x->r->sig_count; i++) {
		if (!fetch_signature(x, i, &text))
			continue;
		found++;
		print_one(x, i, text);
	}
	if (found || x->r->scheme == RECIPE_NONE)
		return;
	printf(LABEL "none: it is looked for in", "signature");
	for (size_t i = 0; i < x->r->sig_count; i++) {
		printf(i ? ", " : " ");
		print_source(&x->r->sigs[i]);
	}
	putchar('\n');
	if (is_signed(x->r) && !x->r->per_signature) {
		print_time(x, STR(""));
		print_content(x, STR(""));
	}
}

static const char *const advice[VERIFY_COUNT] = {
    [VERIFY_WRONG] =
        "Is the secret the provider's, whole, in the form that `keys` names? Did the body "
        "come\n            through unchanged (not parsed and written anew, no newline "
        "added)? Where the URL is\n            signed: is `url` exact?",
    [VERIFY_STALE] =
        "Was it replayed, or is this host's clock wrong? --at TIME judges a saved request "
        "as of then.",
    [VERIFY_FUTURE] = "Is this host's clock wrong? --at TIME judges a saved request as of then.",
    [VERIFY_ENCODING] = "See `parse`, `enc` and `hash` of the recipe: does the signature look like "
                        "this there?",
    [VERIFY_CERT_URL] =
        "Only hosts that the provider has, or that `cert_hosts` of the recipe names, are "
        "asked.",
    [VERIFY_CERT] = "Here nothing is fetched: give the certificate with --cert FILE to go on. All "
                    "else is right.",
    [VERIFY_DOUBLED] = "Does a proxy add headers?",
};

static void print_verdict(const struct explain *x)
{
	if (x->verdict == VERIFY_OK && x->r->scheme == RECIPE_NONE) {
		printf(LABEL "nothing is verified (\"auth\": \"none\")\n", "verdict");
	} else if (x->verdict == VERIFY_OK) {
		printf(LABEL "authentic, by secret %zu\n", "verdict", x->result.secret + 1);
	} else {
		printf(LABEL "refused with %d, %s: %s\n", "verdict", verify_status(x->verdict),
		       verify_reason(x->verdict), verify_detail(x->verdict));
		if (x->verdict == VERIFY_CERT)
			printf(LABEL "%.*s\n", "certificate", (int)x->result.cert_url.len,
			       x->result.cert_url.ptr);
		if (advice[x->verdict])
			printf(LABEL "%s\n", "", advice[x->verdict]);
	}
}

void explain_print(struct explain *x)
{
	print_tool(x);
	print_signatures(x);
	print_verdict(x);
}

bool explain_raw(struct explain *x)
{
	const struct recipe_source *missing;
	struct str sig = STR("");
	struct content c;

	if (!is_signed(x->r))
		return false;
	for (size_t i = 0; i < x->r->sig_count; i++)
		if (fetch_signature(x, i, &sig))
			break;
	if (x->r->group)
		sig = str_split(&sig, x->r->group);
	if (!explain_content(x, sig, 0, &c, &missing))
		return false;
	for (size_t i = 0; i < c.n; i++)
		if (c.parts[i].len)
			fwrite(c.parts[i].ptr, 1, c.parts[i].len, stdout);
	return true;
}
