/* Every line comes from the functions that verification itself calls (recipe_fetch, recipe_render,
 * recipe_next_signature): what is shown is what was judged. */
#include "weir/cli/explain.h"

#include <stdio.h>

#include "weir/base/mem.h"
#include "weir/model/tool.h"

#define LABEL "%-11s "

static const char *scheme_name(enum recipe_scheme s)
{
	static const char *const names[] = {[RECIPE_HMAC] = "hmac",
	                                    [RECIPE_ED25519] = "ed25519",
	                                    [RECIPE_ECDSA_P256] = "ecdsa-p256",
	                                    [RECIPE_RSA_PKCS1] = "rsa-pkcs1",
	                                    [RECIPE_TOKEN] = "token",
	                                    [RECIPE_BASIC] = "basic",
	                                    [RECIPE_NONE] = "none"};

	return s < sizeof(names) / sizeof(names[0]) ? names[s] : "built in";
}

enum err explain_open(struct explain *x, const struct tool *tool, const struct recipe_request *req)
{
	*x = (struct explain){.tool = tool, .r = tool->recipe, .req = req};
	x->in = mem_zalloc(sizeof(*x->in));
	if (!x->in)
		return ERR_NOMEM;
	recipe_input_init(x->in);
	recipe_input_bind(x->in, x->r, req);
	x->verdict = verify_request(x->in, &x->result);
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

static bool has_mac(const struct recipe *r)
{
	return r->scheme == RECIPE_HMAC;
}

static bool is_signed(const struct recipe *r)
{
	return has_mac(r) || recipe_is_asymmetric(r->scheme);
}

/* ---- the parts ---- */

static void print_tool(const struct explain *x)
{
	const struct recipe *r = x->r;

	printf(LABEL "%s", "tool", x->tool->id.ptr);
	if (x->tool->preset[0])
		printf(" (preset %s)", x->tool->preset);
	printf(": scheme %s", scheme_name(r->scheme));
	if (has_mac(r) || r->scheme == RECIPE_RSA_PKCS1)
		printf(" %s", digest_name(r->hash));
	printf(", %zu %s\n", r->secret_count, r->secret_count == 1 ? "key" : "keys");
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

/* false: something that is signed is missing, which was said. */
static bool render(struct explain *x, struct str sig, struct str *parts, size_t *ret_n, bool quiet)
{
	const struct recipe_part *missing = NULL;

	if (recipe_render(x->in, sig, parts, ret_n, &missing) == ERR_OK)
		return true;
	if (!quiet) {
		printf(LABEL "cannot be put together: ", "signed");
		if (missing && missing->kind == RECIPE_PART_TS)
			print_source(&x->r->ts);
		else if (missing)
			print_source(&missing->source);
		printf(" is not there or malformed\n");
	}
	return false;
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
static void print_wanted(const struct explain *x, struct str sig, const struct str *parts, size_t n)
{
	struct str rest = recipe_signatures(x->r, sig), text;
	enum digest_algo hash = x->r->hash;
	uint8_t mac[DIGEST_MAX_LEN];

	if (!recipe_next_signature(x->r, &rest, &text, &hash))
		hash = x->r->hash;
	for (size_t i = 0; i < x->r->secret_count; i++) {
		if (hmac_parts(x->r->secrets[i].macs[hash], parts, n, mac) != ERR_OK)
			continue;
		printf(LABEL "by secret %zu it is ", "", x->r->secrets[i].index + 1);
		print_mac(x->r, mac, digest_len(hash));
	}
}

static void print_content(struct explain *x, struct str sig)
{
	struct str parts[RECIPE_MAX_PARTS];
	size_t n = 0, len = 0;

	if (!render(x, sig, parts, &n, false))
		return;
	for (size_t i = 0; i < n; i++)
		len += parts[i].len;
	printf(LABEL "%zu bytes: ", "signed", len);
	for (size_t i = 0; i < n; i++)
		print_escaped(parts[i]);
	putchar('\n');
	if (has_mac(x->r))
		print_wanted(x, sig, parts, n);
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
	struct str parts[RECIPE_MAX_PARTS], sig = STR("");
	size_t n = 0;

	if (!is_signed(x->r))
		return false;
	for (size_t i = 0; i < x->r->sig_count; i++)
		if (fetch_signature(x, i, &sig))
			break;
	if (x->r->group)
		sig = str_split(&sig, x->r->group);
	if (!render(x, sig, parts, &n, true))
		return false;
	for (size_t i = 0; i < n; i++)
		if (parts[i].len)
			fwrite(parts[i].ptr, 1, parts[i].len, stdout);
	return true;
}
