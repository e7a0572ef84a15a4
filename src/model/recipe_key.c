/* Secrets, in the forms in which providers show them: shared keys become keyed MACs or digests,
 * public ones are read once. */
#include <stdio.h>
#include <string.h>

#include "weir/base/mem.h"

#include "recipe_priv.h"

#define MAX_KEY_SIZE 65536

static const char *const key_forms[] = {
    [RECIPE_KEY_RAW] = "raw",   [RECIPE_KEY_BASE64] = "base64",
    [RECIPE_KEY_HEX] = "hex",   [RECIPE_KEY_WHSEC] = "whsec",
    [RECIPE_KEY_SPKI] = "spki", [RECIPE_KEY_WHSEC_OR_RAW] = "whsec-or-raw",
    [RECIPE_KEY_PEM] = "pem",   [RECIPE_KEY_HEXPUB] = "hexpub",
    [RECIPE_KEY_WHPK] = "whpk",
};
#define KEY_FORMS (sizeof(key_forms) / sizeof(key_forms[0]))

static const char *const form_meanings[] = {
    [RECIPE_KEY_RAW] = "raw of at most 64 KiB",
    [RECIPE_KEY_BASE64] = "base64",
    [RECIPE_KEY_HEX] = "hex",
    [RECIPE_KEY_WHSEC] = "whsec (whsec_ and base64)",
    [RECIPE_KEY_WHSEC_OR_RAW] = "whsec-or-raw",
    [RECIPE_KEY_SPKI] = "spki (base64 of a DER public key of the recipe's scheme)",
    [RECIPE_KEY_PEM] = "pem (-----BEGIN PUBLIC KEY-----, of the recipe's scheme)",
    [RECIPE_KEY_HEXPUB] = "hexpub (hex of 32 bytes)",
    [RECIPE_KEY_WHPK] = "whpk (whpk_ and base64 of 32 bytes)",
};

bool recipe_is_asymmetric(enum recipe_scheme s)
{
	return s == RECIPE_ED25519 || s == RECIPE_ECDSA_P256 || s == RECIPE_RSA_PKCS1;
}

enum err recipe_key_form(struct str name, enum recipe_key *ret)
{
	for (size_t i = 0; i < KEY_FORMS; i++) {
		if (!str_eq(str_of(key_forms[i]), name))
			continue;
		*ret = (enum recipe_key)i;
		return ERR_OK;
	}
	return ERR_INVAL;
}

/* Which forms keys of a scheme may have. */
static bool fits(enum recipe_scheme scheme, enum recipe_key form)
{
	bool raw_public = form == RECIPE_KEY_HEXPUB || form == RECIPE_KEY_WHPK;
	bool any_public = form == RECIPE_KEY_SPKI || form == RECIPE_KEY_PEM;

	if (!recipe_is_asymmetric(scheme))
		return !raw_public && !any_public;
	return any_public || (raw_public && scheme == RECIPE_ED25519);
}

static enum err check_form(struct compiler *c, const char *member, enum recipe_key form)
{
	if (fits(c->r->scheme, form))
		return ERR_OK;
	return recipe_bad(
	    c, member, "\"%s\" is no form of this scheme's keys; it must be %s", key_forms[form],
	    c->r->scheme == RECIPE_ED25519       ? "spki, pem, hexpub or whpk"
	    : recipe_is_asymmetric(c->r->scheme) ? "spki or pem"
	                                         : "raw, base64, hex, whsec or whsec-or-raw");
}

enum err recipe_compile_keys(struct compiler *c)
{
	const json_t *v = json_object_get(c->object, "keys");
	enum recipe_key form;

	if (!v)
		return recipe_is_asymmetric(c->r->scheme)
		           ? recipe_bad(c, "keys",
		                        "is needed: is the public key written as spki, pem, "
		                        "hexpub or whpk?")
		           : ERR_OK;
	if (!json_is_string(v) || recipe_key_form(recipe_text(v), &form) != ERR_OK)
		return recipe_bad(c, "keys", "must be %s", RECIPE_KEY_FORMS);
	return check_form(c, "keys", form);
}

static enum err decode_key(enum recipe_key form, struct str text, uint8_t *out, size_t *len)
{
	switch (form) {
	case RECIPE_KEY_RAW:
		if (text.len > MAX_KEY_SIZE)
			return ERR_TOOBIG;
		memcpy(out, text.ptr, text.len);
		*len = text.len;
		return ERR_OK;
	case RECIPE_KEY_WHSEC:
		if (str_starts(text, STR("whsec_"))) {
			text.ptr += 6;
			text.len -= 6;
		}
		return base64_decode(text, false, out, MAX_KEY_SIZE, len);
	case RECIPE_KEY_BASE64:
		return base64_decode(text, false, out, MAX_KEY_SIZE, len);
	case RECIPE_KEY_HEX:
		return hex_decode(text, out, MAX_KEY_SIZE, len);
	case RECIPE_KEY_SPKI:
		return base64_decode(text, false, out, MAX_KEY_SIZE, len);
	case RECIPE_KEY_PEM:
		return decode_key(RECIPE_KEY_RAW, text, out, len);
	case RECIPE_KEY_HEXPUB:
		return hex_decode(text, out, MAX_KEY_SIZE, len);
	case RECIPE_KEY_WHPK:
		if (str_starts(text, STR("whpk_"))) {
			text.ptr += 5;
			text.len -= 5;
		}
		return base64_decode(text, false, out, MAX_KEY_SIZE, len);
	case RECIPE_KEY_WHSEC_OR_RAW: /* add_secret() takes it apart */
		break;
	}
	return ERR_BUG;
}

static enum err make_public(struct recipe *r, struct recipe_secret *s, enum recipe_key form)
{
	static const enum pubkey_kind kinds[] = {[RECIPE_ED25519] = PUBKEY_ED25519,
	                                         [RECIPE_ECDSA_P256] = PUBKEY_ECDSA_P256,
	                                         [RECIPE_RSA_PKCS1] = PUBKEY_RSA};
	enum pubkey_form of = form == RECIPE_KEY_SPKI  ? PUBKEY_DER
	                      : form == RECIPE_KEY_PEM ? PUBKEY_PEM
	                                               : PUBKEY_RAW;

	return pubkey_new(kinds[r->scheme], of, str_n(s->bytes, s->len), &s->pub);
}

static enum err key_macs(struct recipe *r, struct recipe_secret *s)
{
	struct str key = {s->bytes, s->len};
	enum err e = ERR_OK;

	if (!recipe_has_macs(r->scheme))
		return digest_parts(DIGEST_SHA256, &key, 1, s->digest);
	for (enum digest_algo a = DIGEST_SHA256; a <= DIGEST_SHA512 && e == ERR_OK; a++)
		if (r->hashes & 1u << a)
			e = hmac_new(a, key, &s->macs[a]);
	return e;
}

static enum err use_key(struct recipe *r, struct recipe_secret *s, enum recipe_key form)
{
	return recipe_is_asymmetric(r->scheme) ? make_public(r, s, form) : key_macs(r, s);
}

static enum err add_secret(struct compiler *c, const struct recipe_secret_text *t, size_t i);

/* Two keys from one text, the likelier one first, which is the one that recipe_sign() takes. */
static enum err add_both(struct compiler *c, const struct recipe_secret_text *t, size_t i)
{
	bool marked = str_starts(t->text, STR("whsec_"));
	struct recipe_secret_text raw = {RECIPE_KEY_RAW, t->text},
	                          whsec = {RECIPE_KEY_WHSEC, t->text};
	uint8_t *scratch = mem_alloc(MAX_KEY_SIZE);
	size_t len = 0;
	bool decodes;
	enum err e = ERR_OK;

	if (!scratch)
		return ERR_NOMEM;
	decodes = decode_key(RECIPE_KEY_WHSEC, t->text, scratch, &len) == ERR_OK && len;
	mem_wipe_free(scratch, MAX_KEY_SIZE);
	if (decodes && marked)
		e = add_secret(c, &whsec, i);
	if (e == ERR_OK)
		e = add_secret(c, &raw, i);
	if (e == ERR_OK && decodes && !marked)
		e = add_secret(c, &whsec, i);
	return e;
}

static enum err add_secret(struct compiler *c, const struct recipe_secret_text *t, size_t i)
{
	struct recipe_secret *s = &c->r->secrets[c->r->secret_count];
	char where[32];
	uint8_t *raw;
	enum err e;

	snprintf(where, sizeof(where), "secrets[%zu]", i);
	if (t->text.len == 0)
		return recipe_bad(c, where, "is empty");
	if (!fits(c->r->scheme, t->form))
		return check_form(c, where, t->form);
	if (t->form == RECIPE_KEY_WHSEC_OR_RAW)
		return add_both(c, t, i);
	s->index = i;
	if (c->r->scheme == RECIPE_BASIC && !memchr(t->text.ptr, ':', t->text.len))
		return recipe_bad(c, where, "must be user:password with scheme basic");
	raw = mem_alloc(MAX_KEY_SIZE);
	if (!raw)
		return ERR_NOMEM;
	e = decode_key(t->form, t->text, raw, &s->len);
	if (e == ERR_OK && s->len) {
		s->bytes = mem_dup(raw, s->len);
		c->r->secret_count += s->bytes != NULL;
		e = s->bytes ? use_key(c->r, s, t->form) : ERR_NOMEM;
	}
	mem_wipe_free(raw, MAX_KEY_SIZE);
	return e == ERR_OK || e == ERR_NOMEM
	           ? e
	           : recipe_bad(c, where, "is not in the form that `keys` names, %s",
	                        form_meanings[t->form]);
}

enum err recipe_compile_secrets(struct compiler *c, const struct recipe_secret_text *secrets,
                                size_t n)
{
	enum err e = ERR_OK;

	if (c->r->scheme == RECIPE_NONE)
		return n ? recipe_bad(c, "secrets", "are given, but nothing verifies them")
		         : ERR_OK;
	if (n == 0)
		return recipe_bad(c, "secrets",
		                  "are needed; a tool without verification must say "
		                  "\"auth\": \"none\"");
	if (n > RECIPE_MAX_SECRETS)
		return recipe_bad(c, "secrets", "more than %d", RECIPE_MAX_SECRETS);
	for (size_t i = 0; i < n && e == ERR_OK; i++)
		e = add_secret(c, &secrets[i], i);
	return e;
}
