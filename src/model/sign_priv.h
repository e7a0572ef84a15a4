/* What the pieces of recipe_sign() share. */
#ifndef WEIR_MODEL_SIGN_PRIV_H
#define WEIR_MODEL_SIGN_PRIV_H

#include "weir/base/id.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"

struct json_t;

#define SIGN_MAX_BODY   (64 * 1024 * 1024)
#define SIGN_MAX_HEADER 70000
#define SIGN_MAX_MADE   (SIGN_MAX_HEADERS - 2)

struct signer {
	const struct tool *tool;
	const struct recipe *r;
	const struct sign_options *o;
	struct err_info *info;
	struct json_t *provider; /* reference; NULL without a preset */
	struct str id, type, content_type;
	char ts[40], id_text[UUID_TEXT_LEN + 1];
	struct str names[SIGN_MAX_MADE]; /* borrowed of the recipe */
	struct buf values[SIGN_MAX_MADE];
	size_t n;
	struct signed_request *out;
};

/* A request to sign: what was made so far, as verification would see it. */
struct draft {
	struct http_header headers[SIGN_MAX_MADE];
	char target[TOOL_ID_MAX + 16];
	struct recipe_request req;
	struct recipe_input in;
};

enum err sign_refuse(struct signer *s, const char *why); /* ERR_INVAL, with a text */
enum err sign_open_draft(struct signer *s, struct draft **ret) MUST_CHECK;
void sign_close_draft(struct draft *d);
/* A header that is not there yet, where the source is one. */
enum err sign_set(struct signer *s, const struct recipe_source *src, struct str value) MUST_CHECK;
/* The signature of `parts` in the recipe's encoding; spoiled, where that is wished. */
enum err sign_add(struct signer *s, enum digest_algo hash, const struct str *parts, size_t n,
                  struct buf *out) MUST_CHECK;

/* What the signature's header holds. */
enum err sign_twilio(struct signer *s, struct buf *out) MUST_CHECK;
enum err sign_jwt(struct signer *s, struct buf *out) MUST_CHECK;
enum err sign_sns(struct signer *s, struct buf *out) MUST_CHECK;
enum err sign_paypal(struct signer *s, struct buf *out) MUST_CHECK;
/* "TOPIC%", "CERT_URL%" in the sample of a scheme by certificates: as add_placeholder() is. */
size_t sign_built_in_placeholder(const struct signer *s, struct str text, struct buf *out);
/* Headers that a built-in scheme wants besides. */
enum err sign_built_in_headers(struct signer *s) MUST_CHECK;

#endif
