/* Built-in schemes: providers whose rules no field can say. What they read of a request is known
 * here all the same, so that headers that come twice are refused and the body is scanned once, as
 * with any recipe. What they do with it is the receive room's. */
#include "recipe_priv.h"

static const struct built_in {
	enum recipe_scheme scheme;
	enum recipe_enc enc;
	enum digest_algo hash;
	bool needs_url;
	bool cert_chain;
	const char *sig;
	const char *ts;
	const char *sources[RECIPE_MAX_BUILT]; /* in the order of the enums of recipe.h */
	/* Members of JSON texts inside of the signature, to be compiled into `inner`. */
	struct str inner[2][4];
	struct pin certs;
} built_in[] = {
    {.scheme = RECIPE_TWILIO,
     .enc = RECIPE_BASE64,
     .hash = DIGEST_SHA1,
     .needs_url = true,
     .sig = "header:x-twilio-signature",
     .sources = {[TWILIO_BODY_HASH] = "query:bodySHA256"}},
    {.scheme = RECIPE_JWT,
     .enc = RECIPE_BASE64URL,
     .hash = DIGEST_SHA256,
     .needs_url = true,
     .sig = "header:authorization",
     .inner = {{{"alg", 3}, {"crit", 4}}, {{"exp", 3}, {"iat", 3}, {"nbf", 3}, {"qsh", 3}}}},
    {.scheme = RECIPE_SNS,
     .enc = RECIPE_BASE64,
     .hash = DIGEST_SHA256,
     .sig = "json:Signature",
     .ts = "json:Timestamp iso",
     .sources = {[SNS_TYPE] = "json:Type",
                 [SNS_MESSAGE] = "json:Message",
                 [SNS_MESSAGE_ID] = "json:MessageId",
                 [SNS_SUBJECT] = "json:Subject",
                 [SNS_SUBSCRIBE_URL] = "json:SubscribeURL",
                 [SNS_TIMESTAMP] = "json:Timestamp",
                 [SNS_TOKEN] = "json:Token",
                 [SNS_TOPIC] = "json:TopicArn",
                 [SNS_VERSION] = "json:SignatureVersion",
                 [SNS_CERT_URL] = "json:SigningCertURL"},
     .certs = {.hosts = {{"sns.{region}.amazonaws.com", 26}, {"sns.{region}.amazonaws.com.cn", 29}},
               .host_count = 2,
               .prefix = {"/", 1},
               .suffix = {".pem", 4}}},
    {.scheme = RECIPE_PAYPAL,
     .enc = RECIPE_BASE64,
     .hash = DIGEST_SHA256,
     .cert_chain = true,
     .sig = "header:paypal-transmission-sig",
     .ts = "header:paypal-transmission-time iso",
     .sources = {[PAYPAL_ID] = "header:paypal-transmission-id",
                 [PAYPAL_TIME] = "header:paypal-transmission-time",
                 [PAYPAL_ALGO] = "header:paypal-auth-algo",
                 [PAYPAL_CERT_URL] = "header:paypal-cert-url"},
     .certs = {.hosts = {{"api.paypal.com", 14}, {"api.sandbox.paypal.com", 22}},
               .host_count = 2,
               .prefix = {"/v1/notifications/certs/", 24},
               .suffix = {"", 0}}},
};
#define BUILT_IN (sizeof(built_in) / sizeof(built_in[0]))

static size_t row_of(enum recipe_scheme s)
{
	size_t i = 0;

	while (i < BUILT_IN && built_in[i].scheme != s)
		i++;
	return i;
}

bool recipe_is_built_in(enum recipe_scheme s)
{
	return row_of(s) < BUILT_IN;
}

bool recipe_has_macs(enum recipe_scheme s)
{
	return s == RECIPE_HMAC || s == RECIPE_TWILIO || s == RECIPE_JWT;
}

const char *recipe_built_in_ts(enum recipe_scheme s)
{
	size_t row = row_of(s);

	return row < BUILT_IN ? built_in[row].ts : NULL;
}

bool recipe_shares_secret(enum recipe_scheme s)
{
	return recipe_has_macs(s) || s == RECIPE_TOKEN || s == RECIPE_BASIC;
}

static enum err add_host(struct compiler *c, const char *member, const json_t *v, struct pin *pin)
{
	struct str *to = &pin->hosts[pin->host_count];

	if (pin->host_count == PIN_MAX_HOSTS)
		return recipe_bad(c, member, "more than %d hosts", PIN_MAX_HOSTS);
	if (!json_is_string(v) || !pin_is_pattern(recipe_text(v)))
		return recipe_bad(c, member,
		                  "must hold HOST or HOST:PORT, in lower case; a label may be * or "
		                  "{region}");
	*to = recipe_keep(c->r, recipe_text(v));
	pin->host_count += to->ptr != NULL;
	return to->ptr ? ERR_OK : ERR_NOMEM;
}

enum err recipe_compile_hosts(struct compiler *c, const char *member, const json_t *list,
                              struct pin *pin)
{
	const json_t *item;
	enum err e = ERR_OK;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) == 0)
		return recipe_bad(c, member, "must be a list of hosts");
	json_array_foreach(list, i, item)
	{
		if (e == ERR_OK)
			e = add_host(c, member, item, pin);
	}
	return e;
}

static enum err set_certs(struct compiler *c, const struct built_in *b)
{
	const json_t *v = json_object_get(c->object, "cert_hosts");

	c->r->certs = b->certs;
	c->r->cert_chain = b->cert_chain;
	if (!v)
		return ERR_OK;
	c->r->certs.host_count = 0;
	return recipe_compile_hosts(c, "cert_hosts", v, &c->r->certs);
}

static enum err add(struct compiler *c, const char *text, struct recipe_source *to)
{
	unsigned all = ALLOW(RECIPE_SRC_HEADER) | ALLOW(RECIPE_SRC_JSON) | ALLOW(RECIPE_SRC_QUERY);
	enum err e = recipe_compile_source(c, "scheme", str_of(text), all, false, to);

	c->r->auth_json |= e == ERR_OK && to->kind == RECIPE_SRC_JSON;
	return e;
}

static enum err add_inner(struct recipe *r, const struct str paths[4])
{
	size_t n = 0;
	enum err e;

	while (n < 4 && paths[n].len)
		n++;
	if (n == 0)
		return ERR_OK;
	e = json_paths_new(paths, n, &r->inner[r->inner_count]);
	r->inner_count += e == ERR_OK;
	return e;
}

enum err recipe_compile_built_in(struct compiler *c)
{
	struct recipe *r = c->r;
	size_t row = row_of(r->scheme);
	enum err e;

	if (row == BUILT_IN)
		return ERR_OK;
	if (built_in[row].needs_url && r->url.len == 0)
		return recipe_bad(c, "scheme", "needs the tool's member url");
	r->enc = built_in[row].enc;
	r->hash = built_in[row].hash;
	r->hashes = 1u << r->hash;
	e = add(c, built_in[row].sig, &r->sigs[r->sig_count++]);
	for (size_t i = 0; i < RECIPE_MAX_BUILT && e == ERR_OK && built_in[row].sources[i]; i++)
		e = add(c, built_in[row].sources[i], &r->built[i]);
	for (size_t i = 0; i < 2 && e == ERR_OK; i++)
		e = add_inner(r, built_in[row].inner[i]);
	return e == ERR_OK ? set_certs(c, &built_in[row]) : e;
}
