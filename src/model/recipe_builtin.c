/* Built-in schemes: providers whose rules no field can say. What they read of a request is known
 * here all the same, so that headers that come twice are refused and the body is scanned once, as
 * with any recipe. What they do with it is the receive room's. */
#include "recipe_priv.h"

static const struct {
	enum recipe_scheme scheme;
	enum recipe_enc enc;
	enum digest_algo hash;
	bool needs_url;
	const char *sig;
	const char *sources[RECIPE_MAX_BUILT]; /* in the order of the enums of recipe.h */
	/* Members of JSON texts inside of the signature, to be compiled into `inner`. */
	struct str inner[2][4];
} built_in[] = {
    {RECIPE_TWILIO,
     RECIPE_BASE64,
     DIGEST_SHA1,
     true,
     "header:x-twilio-signature",
     {[TWILIO_BODY_HASH] = "query:bodySHA256"},
     {{{0}}}},
    {RECIPE_JWT,
     RECIPE_BASE64URL,
     DIGEST_SHA256,
     true,
     "header:authorization",
     {NULL},
     {{{"alg", 3}, {"crit", 4}}, {{"exp", 3}, {"iat", 3}, {"nbf", 3}, {"qsh", 3}}}},
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
	return e;
}
