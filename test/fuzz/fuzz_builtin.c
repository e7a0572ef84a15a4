/* What the built-in schemes read of foreign bytes: tokens and their JSON, queries and forms,
 * messages of SNS, URLs of certificates. The first byte chooses. Nothing is ever authentic here but
 * what was signed on purpose, and a URL that a pin allows is read by libcurl, which will fetch it,
 * in the same way. */
#include <curl/curl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir/base/digest.h"
#include "weir/base/form.h"
#include "weir/model/builtin.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/receive/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW (1731705121 * USEC_PER_SEC)

static const char tools_text[] =
    "{\"tools\":[{\"id\":\"jwt\",\"secrets\":[\"k\"],\"url\":\"https://h/"
    "app\",\"recipe\":{\"scheme\":"
    "\"builtin:jwt\"}},{\"id\":\"twilio\",\"secrets\":[\"k\"],\"url\":\"https://h:1/a?b#c\","
    "\"recipe\":{\"scheme\":\"builtin:twilio\"}},{\"id\":\"sns\",\"secrets\":[\"topic\"],"
    "\"recipe\":{"
    "\"scheme\":\"builtin:sns\"}},{\"id\":\"paypal\",\"secrets\":[\"w\"],\"recipe\":{\"scheme\":"
    "\"builtin:paypal\"}}]}";

static const struct recipe *recipe_of(const char *id)
{
	static struct tools *set;

	if (!set && tools_parse(str_of(tools_text), "f", &set, NULL) != ERR_OK)
		abort();
	return tools_find(set, str_of(id))->recipe;
}

static enum verify_verdict judge(const char *id, const struct recipe_request *req)
{
	static struct recipe_input in;
	struct verify_result result;
	enum verify_verdict v;

	recipe_input_bind(&in, recipe_of(id), req);
	v = verify_request(&in, &result);
	if ((v == VERIFY_CERT) != (result.cert_url.ptr != NULL))
		abort();
	if ((result.age != 0) != (v == VERIFY_STALE || v == VERIFY_FUTURE))
		abort();
	return v;
}

static void one_header(struct recipe_request *req, struct http_header *h, const char *name,
                       struct str value)
{
	*h = (struct http_header){str_of(name), value};
	req->headers = h;
	req->header_count = 1;
}

static void token(struct recipe_request *req, struct str text)
{
	struct http_header h;

	one_header(req, &h, "Authorization", text);
	if (judge("jwt", req) == VERIFY_OK)
		abort();
}

/* Rightly signed: head, a line's end, claims. Their qsh is never that of this request. */
static void own_token(struct recipe_request *req, struct str text)
{
	struct str claims = text, head = str_split(&claims, '\n'), content;
	static struct hmac *mac;
	uint8_t digest[DIGEST_MAX_LEN];
	struct buf b;
	size_t skip = 4;

	if (!mac && hmac_new(DIGEST_SHA256, STR("k"), &mac) != ERR_OK)
		abort();
	buf_init(&b, 1 << 20);
	buf_add_cstr(&b, "JWT ");
	(void)!base64_encode(&b, head.ptr, head.len, true);
	buf_add_char(&b, '.');
	(void)!base64_encode(&b, claims.ptr, claims.len, true);
	content = str_n(b.ptr + skip, b.len - skip);
	if (b.err || hmac_parts(mac, &content, 1, digest) != ERR_OK)
		abort();
	buf_add_char(&b, '.');
	(void)!base64_encode(&b, digest, 32, true);
	token(req, buf_str(&b));
	buf_done(&b);
}

static void query(struct recipe_request *req, struct str text)
{
	static struct recipe_input in;
	static struct form_fields f;
	struct buf b;

	req->query = text;
	buf_init(&b, 1 << 24);
	recipe_input_bind(&in, recipe_of("jwt"), req);
	if (builtin_jwt_request(&in, &b) == ERR_OK && !str_starts(buf_str(&b), STR("POST&/t&")))
		abort();
	buf_done(&b);
	if (form_fields_read(&f, text, false) != ERR_OK)
		return;
	for (size_t i = 1; i < f.n; i++) {
		struct str a = f.list[i - 1].name, c = f.list[i].name;
		int order = memcmp(a.ptr, c.ptr, a.len < c.len ? a.len : c.len);

		if (order > 0 || (order == 0 && a.len > c.len))
			abort();
		if (str_eq(a, c) && str_eq(f.list[i - 1].value, f.list[i].value))
			abort();
	}
}

static void form(struct recipe_request *req, struct str text)
{
	struct http_header h;
	struct str rest = text;

	req->query = str_split(&rest, '\n');
	req->body = rest.ptr ? rest : STR("");
	one_header(req, &h, "X-Twilio-Signature", STR("RSOYDt4T1cUTdK1PDd93/VVr8B8="));
	if (judge("twilio", req) == VERIFY_OK)
		abort();
}

static void sns(struct recipe_request *req, struct str text)
{
	req->body = text;
	if (judge("sns", req) == VERIFY_OK)
		abort();
}

static void paypal(struct recipe_request *req, struct str text)
{
	static const char *const names[] = {
	    "paypal-transmission-sig", "paypal-transmission-id", "paypal-transmission-time",
	    "paypal-auth-algo",        "paypal-cert-url",
	};
	struct http_header h[5];
	struct str rest = text;

	req->headers = h;
	for (size_t i = 0; i < 5 && rest.ptr; i++)
		h[req->header_count++] =
		    (struct http_header){str_of(names[i]), str_split(&rest, '\n')};
	req->body = rest.ptr ? rest : STR("");
	if (judge("paypal", req) == VERIFY_OK)
		abort();
}

static char *part(CURLU *u, CURLUPart which)
{
	char *s = NULL;

	return curl_url_get(u, which, &s, 0) == CURLUE_OK ? s : NULL;
}

static void url(struct str text)
{
	struct pin pin = {.hosts = {{"sns.{region}.amazonaws.com", 26}, {"a.*.b:8443", 10}},
	                  .host_count = 2,
	                  .prefix = {"/certs/", 7},
	                  .query = true};
	char copy[PIN_MAX_URL + 1];
	char *scheme, *host, *path, *user;
	CURLU *u;

	if (!pin_allows(&pin, text))
		return;
	snprintf(copy, sizeof(copy), "%.*s", (int)text.len, text.ptr);
	u = curl_url();
	if (strlen(copy) != text.len || curl_url_set(u, CURLUPART_URL, copy, 0) != CURLUE_OK)
		abort();
	scheme = part(u, CURLUPART_SCHEME);
	host = part(u, CURLUPART_HOST);
	path = part(u, CURLUPART_PATH);
	user = part(u, CURLUPART_USER);
	if (strcmp(scheme, "https") != 0 || user || strncmp(path, "/certs/", 7) != 0)
		abort();
	if (strncmp(host, "sns.", 4) != 0 && strncmp(host, "a.", 2) != 0)
		abort();
	if (host[0] == 's' && strcmp(host + strlen(host) - 14, ".amazonaws.com") != 0)
		abort();
	curl_free(scheme);
	curl_free(host);
	curl_free(path);
	curl_free(user);
	curl_url_cleanup(u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct recipe_request req = {
	    .method = STR("POST"), .target = STR("/app/t/"), .body = STR("{}"), .now = NOW};
	struct str text = size > 1 ? str_n(data + 1, size - 1) : STR("");

	if (size == 0)
		return 0;
	switch (data[0] % 7) {
	case 0:
		token(&req, text);
		break;
	case 1:
		own_token(&req, text);
		break;
	case 2:
		query(&req, text);
		break;
	case 3:
		form(&req, text);
		break;
	case 4:
		sns(&req, text);
		break;
	case 5:
		paypal(&req, text);
		break;
	case 6:
		url(text);
		break;
	}
	return 0;
}
