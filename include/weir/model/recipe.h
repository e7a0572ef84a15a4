/* A recipe says how a provider authenticates its requests and where an event's id and type stand:
 * the fields of the recipe object in TOOLS_FILE, compiled. It is data: no provider has code
 * of its own.
 *
 * A recipe object (all values are strings or lists of them unless said otherwise):
 *
 *   scheme  hmac (default), ed25519, ecdsa-p256, rsa-pkcs1, token, basic, none, or one that is
 *           built in, whose sources and keys are known: builtin:twilio, builtin:jwt,
 *           builtin:sns, builtin:paypal
 *   hash    sha256 (default), sha1, sha512 (hmac and rsa-pkcs1); a list of them where `parse` is
 *           "method"
 *   sig     where the signature or token stands: header:NAME, header:NAME{1..5}, json:PATH,
 *           form:NAME, query:NAME; several in a list
 *   parse   plain (default) | plain:PREFIX | method (HASH=VALUE) | kv(SEP,KEY) or kv(SEP,KEY,GROUP)
 *           | list(SEP,TAG) | first-is-ts(SEP); an empty SEP is "," (for a list " ")
 *   enc     hex (default), base64, base64url
 *   keys    what form the secrets have: raw (default), base64, hex, whsec, whsec-or-raw (where a
 *           provider does not say: both readings of a text are tried); of public-key schemes:
 *           spki (base64 of a DER SubjectPublicKeyInfo), pem, and for ed25519 hexpub (hex of the
 *           32 bytes) and whpk (whpk_ and their base64)
 *   signed  template, {body} by default; further {ts} {header:N} {sig:K} {method} {url} {path}
 *           {query:N} {json:P} {form:N} {formsorted} (name and value of each field of the form,
 *           decoded, in order of the names, each once); "{{" is a brace
 *   ts      SOURCE UNIT: header:N, sig:K, json:P, query:N or form:N, and s, ms or iso
 *   past, future   seconds or durations around now in which `ts` must lie (300, 300)
 *   enforce (boolean) false: `ts` is signed, but its age does not matter
 *   id, type       ordered lists of header:N, json:P, query:N, form:N; the first found one wins. A
 *           list inside the list is one text made of all of its sources, joined by ":"
 *   split   "[]" or a JSON path of arrays, "entry[].changes[]": each item is an event, and the
 *           json: sources of `id` and `type` are looked up in the item. A list of paths: the first
 *           whose array is there. "?" at the end: a request without it is one event
 *
 *   volatile   json:PATH, or a list of such, looked up in the event's body (the item, where a
 *           request is split): values that differ from one try of the sender to the next. They do
 *           not count when two bodies of one event are compared
 *
 *   status  what a sender is told whose events were taken: 200 (default), 201, 202 or 204, the last
 *           one without a body
 *
 *   format  "cloudevents" instead of id, type and split: CloudEvents 1.0 over HTTP in all three
 *           modes, see model/cloudevents.h
 *
 * json:A|B is the value at B of the JSON that stands as a string at A.
 *
 *   once    a source: a token that authenticates one body only, where the body is not signed
 *           itself. The same body again is a retry; remembered for the window of `ts`
 *   hand    handshakes, see model/handshake.h
 *
 * builtin:twilio  HMAC-SHA1 of the tool's `url`, with the request's query, and of the form as
 *                 {formsorted}; where the query has bodySHA256, of the URL alone, and the hash must
 *                 be the body's. The URL is tried in the spellings that Twilio's library tries:
 *                 with and without port, and escaped by the rules of browsers and of Node
 * builtin:jwt     a token of HS256 in Authorization, with exp, iat and Atlassian's qsh over method,
 *                 path and query; `url` is the app's base URL. It does not cover the body
 * builtin:sns     what Amazon SNS signs of the body, by the certificate at SigningCertURL; the
 *                 secrets are the ARNs of the topics that are taken
 * builtin:paypal  PAYPAL-TRANSMISSION-*, by the certificate at PAYPAL-CERT-URL; the secrets are ids
 *                 of webhooks
 *
 * The last two have a timestamp (`past`, `future`, `enforce`), and
 *
 *   cert_hosts  patterns of the hosts, HOST or HOST:PORT, from which certificates are fetched; see
 *               model/pin.h. Default: the provider's own */
#ifndef WEIR_MODEL_RECIPE_H
#define WEIR_MODEL_RECIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/buf.h"
#include "weir/base/clock.h"
#include "weir/base/digest.h"
#include "weir/base/err.h"
#include "weir/base/form.h"
#include "weir/base/json_scan.h"
#include "weir/base/pubkey.h"
#include "weir/base/str.h"
#include "weir/io/http_server.h"
#include "weir/model/pin.h"

#define RECIPE_MAX_HEADERS  24 /* different headers that a recipe reads */
#define RECIPE_MAX_SOURCES  64 /* values that a recipe reads */
#define RECIPE_MAX_SIGS     8  /* places where a signature may stand */
#define RECIPE_MAX_IDS      16 /* sources of an id or a type */
#define RECIPE_MAX_PARTS    24 /* pieces of a signed template */
#define RECIPE_MAX_LEVELS   4  /* arrays inside arrays that `split` opens */
#define RECIPE_MAX_SPLITS   4  /* alternatives of `split` */
#define RECIPE_MAX_INNER    8  /* sources of JSON inside JSON */
#define RECIPE_MAX_BUILT    12 /* sources of a built-in scheme */
#define RECIPE_MAX_VOLATILE 8
#define RECIPE_MAX_SECRETS  16
#define RECIPE_MAX_KEYS     (2 * RECIPE_MAX_SECRETS) /* a secret may be read in two ways */
#define RECIPE_HASHES       3                        /* see enum digest_algo */

enum recipe_scheme {
	RECIPE_HMAC,
	RECIPE_ED25519,
	RECIPE_ECDSA_P256,
	RECIPE_RSA_PKCS1,
	RECIPE_TOKEN,
	RECIPE_BASIC,
	RECIPE_NONE,
	RECIPE_TWILIO,
	RECIPE_JWT,
	RECIPE_SNS,
	RECIPE_PAYPAL
};
enum recipe_parse { RECIPE_PLAIN, RECIPE_METHOD, RECIPE_KV, RECIPE_LIST, RECIPE_FIRST_IS_TS };
enum recipe_enc { RECIPE_HEX, RECIPE_BASE64, RECIPE_BASE64URL };
enum recipe_unit { RECIPE_SECONDS, RECIPE_MSECONDS, RECIPE_ISO };
enum recipe_key {
	RECIPE_KEY_RAW,
	RECIPE_KEY_BASE64,
	RECIPE_KEY_HEX,
	RECIPE_KEY_WHSEC,
	RECIPE_KEY_WHSEC_OR_RAW,
	RECIPE_KEY_SPKI,
	RECIPE_KEY_PEM,
	RECIPE_KEY_HEXPUB,
	RECIPE_KEY_WHPK
};

enum recipe_format { RECIPE_FORMAT_NONE, RECIPE_CLOUDEVENTS };

enum recipe_source_kind {
	RECIPE_SRC_HEADER,
	RECIPE_SRC_JSON,
	RECIPE_SRC_FORM,
	RECIPE_SRC_QUERY,
	RECIPE_SRC_SIG
};

struct recipe_source {
	enum recipe_source_kind kind;
	struct str name; /* header (lower case), path, field or key; owned by the recipe */
	uint8_t index;   /* header: in headers[]; json: in paths */
	uint8_t slot;    /* where its decoded text goes, see struct recipe_input */
	bool in_item;    /* json of a split recipe's id or type: looked up in the item */
	bool joined;     /* id, type: one text with the source before it */
	bool escaped;    /* header: percent-encoded, as CloudEvents' attributes are */
	const struct json_paths *inner; /* json:A|B: where B is in A's text; the recipe's */
};

enum recipe_part_kind {
	RECIPE_PART_LITERAL,
	RECIPE_PART_BODY,
	RECIPE_PART_TS,
	RECIPE_PART_METHOD,
	RECIPE_PART_URL,
	RECIPE_PART_PATH,
	RECIPE_PART_FORM, /* sorted */
	RECIPE_PART_SOURCE
};

struct recipe_part {
	enum recipe_part_kind kind;
	struct str literal; /* owned by the recipe */
	struct recipe_source source;
	uint8_t slot; /* RECIPE_PART_FORM */
};

/* What built-in schemes read besides the signature: places in struct recipe's built[]. */
enum recipe_twilio_source { TWILIO_BODY_HASH };
enum recipe_sns_source {
	SNS_TYPE,
	SNS_MESSAGE,
	SNS_MESSAGE_ID,
	SNS_SUBJECT,
	SNS_SUBSCRIBE_URL,
	SNS_TIMESTAMP,
	SNS_TOKEN,
	SNS_TOPIC,
	SNS_VERSION,
	SNS_CERT_URL
};
enum recipe_paypal_source { PAYPAL_ID, PAYPAL_TIME, PAYPAL_ALGO, PAYPAL_CERT_URL };

struct recipe_secret {
	struct hmac *macs[RECIPE_HASHES]; /* owned; those that `hashes` names (schemes with MACs) */
	struct pubkey *pub;               /* owned; public-key schemes */
	uint8_t digest[DIGEST_MAX_LEN];   /* SHA-256 of the secret (schemes token and basic) */
	char *bytes;                      /* owned, wiped: recipe_sign needs them */
	size_t len;
	size_t index; /* of the text among the tool's secrets */
};

struct handshake;

/* One path of arrays. */
struct recipe_split {
	size_t level_count;                           /* at least 1 */
	struct json_paths *levels[RECIPE_MAX_LEVELS]; /* owned; NULL: the value itself */
};

/* Compiled and immutable. The MACs inside are keyed contexts: not for two callers at a time. */
struct recipe {
	enum recipe_scheme scheme;
	unsigned hashes; /* bits 1 << enum digest_algo */
	enum digest_algo hash;
	struct recipe_source sigs[RECIPE_MAX_SIGS];
	size_t sig_count;
	struct recipe_source built[RECIPE_MAX_BUILT];
	enum recipe_parse parse;
	struct str prefix; /* plain: prefix; kv: key; list: tag */
	char sep;
	char group; /* kv: separates groups, each with keys of its own; 0: none */
	enum recipe_enc enc;
	struct recipe_part parts[RECIPE_MAX_PARTS];
	size_t part_count;
	bool per_signature; /* what is signed depends on the signature's header (sig:K) */
	bool has_ts;
	struct recipe_source ts;
	enum recipe_unit unit;
	bool enforce;
	usec_t past, future;
	bool has_once;
	struct recipe_source once;
	struct str url;
	struct pin certs; /* where a signature's certificate may lie; no hosts: it has none */
	bool cert_chain;  /* it must descend from a known authority */
	enum recipe_format format;
	int status; /* of the answer to what was accepted */
	struct recipe_source ids[RECIPE_MAX_IDS];
	size_t id_count;
	struct recipe_source types[RECIPE_MAX_IDS];
	size_t type_count;
	struct recipe_split splits[RECIPE_MAX_SPLITS]; /* alternatives; the first that is there */
	size_t split_count;                            /* 0: a request is one event */
	bool split_optional; /* without any of the arrays it is one event too */
	struct str volatiles[RECIPE_MAX_VOLATILE]; /* as written */
	size_t volatile_count;
	struct json_paths *volatile_paths;          /* owned; NULL: all of a body counts */
	struct json_paths *inner[RECIPE_MAX_INNER]; /* owned */
	size_t inner_count;
	struct str headers[RECIPE_MAX_HEADERS]; /* all that are read; lower case */
	bool header_auth[RECIPE_MAX_HEADERS];   /* its value is a secret (token, basic) */
	size_t header_count;
	struct json_paths *paths;      /* owned; NULL when nothing is read from the body's JSON */
	struct json_paths *item_paths; /* owned; for split items */
	size_t path_count, item_path_count;
	bool auth_json; /* the signature cannot be checked unless the body is JSON */
	size_t slot_count;
	struct recipe_secret secrets[RECIPE_MAX_KEYS];
	size_t secret_count;
	struct handshake *hands; /* owned */
	size_t hand_count;
	void *strings; /* owned; private */
};

void recipe_free(struct recipe *r);
/* Whether fields of the body (not only the body as a whole) are needed to verify a request. */
bool recipe_auth_reads_body(const struct recipe *r);

/* ---- reading a request ---- */

/* The request as it was received; slices borrowed. */
struct recipe_request {
	struct str method;
	struct str target; /* as sent, with the query */
	struct str query;  /* behind '?', raw */
	struct str body;
	const struct http_header *headers;
	size_t header_count;
	usec_t now; /* wall clock */
};

/* What a recipe reads of one request, and the memory for it. Reused from request to request:
 * init once, recipe_input_bind for each. */
struct recipe_input {
	const struct recipe *recipe;
	const struct recipe_request *request;
	struct str headers[RECIPE_MAX_HEADERS]; /* ptr NULL: absent */
	bool doubled;                           /* one of them came more than once */
	struct str doubled_name;
	enum err json; /* ERR_OK: the body is JSON and picks are valid */
	bool scanned;
	struct json_pick picks[32];
	struct json_pick item_picks[32];
	struct buf slots[RECIPE_MAX_SOURCES]; /* decoded texts */
	struct form_fields fields;            /* of the form or the query, in order */
	struct buf scratch;                   /* what built-in schemes put together */
};

void recipe_input_init(struct recipe_input *in);
void recipe_input_done(struct recipe_input *in);
/* Finds the headers. Nothing is read of the body yet. */
void recipe_input_bind(struct recipe_input *in, const struct recipe *r,
                       const struct recipe_request *req);
/* Scans the body as JSON where the recipe reads from it; done once, when first needed. ERR_INVAL
 * when it is none, ERR_TOOBIG when it nests too deep. */
enum err recipe_input_scan(struct recipe_input *in);

/* The first source of a list, or group of joined ones, that is found and not empty; `b` is used
 * where it has to be put together. ERR_NOTFOUND, ERR_NOMEM. */
enum err recipe_fetch_first(struct recipe_input *in, const struct recipe_source *list, size_t n,
                            struct buf *b, struct str *ret) MUST_CHECK;

/* The text of a source: ERR_NOTFOUND when it is absent, null or no scalar, ERR_INVAL when it is
 * malformed (escapes of a form, a field that comes twice), ERR_NOMEM. `sig` is the signature
 * header's text for RECIPE_SRC_SIG. The slice is valid until the next bind. */
enum err recipe_fetch(struct recipe_input *in, const struct recipe_source *src, struct str sig,
                      struct str *ret) MUST_CHECK;

/* An empty buffer for texts that are put together; good until the next call or bind. */
struct buf *recipe_scratch(struct recipe_input *in);
/* {formsorted} of a form, added to `out`. ERR_INVAL: it is malformed, or has too many fields. */
enum err recipe_add_form(struct recipe_input *in, struct str form, struct buf *out) MUST_CHECK;

/* The signed content as pieces; at most RECIPE_MAX_PARTS. ERR_NOTFOUND: something it names is
 * absent, *ret_missing says what. */
enum err recipe_render(struct recipe_input *in, struct str sig, struct str *parts, size_t *ret_n,
                       const struct recipe_part **ret_missing) MUST_CHECK;

/* Signatures in a header, one at a time: `rest` starts as what recipe_signatures gives for the
 * header's (or the group's) text. Returns false at the end. `*ret_hash` is the hash that it names
 * (parse method) or the recipe's. */
struct str recipe_signatures(const struct recipe *r, struct str sig);
bool recipe_next_signature(const struct recipe *r, struct str *rest, struct str *ret_text,
                           enum digest_algo *ret_hash);
/* The value of a key in a kv header, or of "ts" in a first-is-ts one. */
bool recipe_sig_key(const struct recipe *r, struct str sig, struct str key, struct str *ret);
/* The hash of what counts of an event's body: all but the values at `volatile`. ERR_NOTFOUND: all
 * of it does, because the recipe names none, or the body has none of them. */
#define RECIPE_CONTENT_LEN 32
enum err recipe_content(const struct recipe *r, struct str body,
                        uint8_t out[RECIPE_CONTENT_LEN]) MUST_CHECK;
/* A timestamp as text in the recipe's unit to microseconds. */
enum err recipe_parse_ts(enum recipe_unit unit, struct str text, usec_t *ret) MUST_CHECK;

/* ---- compiling ---- */

struct json_t;

struct recipe_secret_text {
	enum recipe_key form;
	struct str text; /* borrowed */
};

/* `object` is a jansson object with the members above. `own` (it may be NULL) holds those of them
 * that the tool itself wrote, as against its preset: that one of these has no effect is a fault, of
 * the preset's it is none. `info` says what is wrong and what is allowed, prefixed with the
 * member's name. With a `sink` (it may be NULL, and is fresh) all faults go there, and ERR_INVAL
 * comes without a text; then `secrets` may be NULL, for those that are at fault themselves: the
 * recipe is of no use then. */
enum err recipe_compile(const struct json_t *object, const struct json_t *own, struct str url,
                        const struct recipe_secret_text *secrets, size_t n, struct err_sink *sink,
                        struct recipe **ret, struct err_info *info) MUST_CHECK;
/* ERR_INVAL: no such form. */
enum err recipe_key_form(struct str name, enum recipe_key *ret) MUST_CHECK;
#define RECIPE_KEY_FORMS "raw, base64, hex, whsec, whsec-or-raw, spki, pem, hexpub or whpk"
/* Whether requests are signed with a private key. */
bool recipe_is_asymmetric(enum recipe_scheme s);
/* Whether its secrets are keys of MACs. */
bool recipe_has_macs(enum recipe_scheme s);
bool recipe_is_built_in(enum recipe_scheme s);
/* Whether its secrets are secret: what only the sender knows. */
bool recipe_shares_secret(enum recipe_scheme s);

/* ---- signing as the provider would ---- */

struct sign_options {
	struct str type;     /* empty: the sample's */
	struct str id;       /* empty: a fresh one */
	usec_t now;          /* wall clock */
	bool bad;            /* spoil the signature, nothing else */
	struct str body;     /* ptr NULL: a built-in sample for the tool's preset */
	struct keypair *key; /* borrowed: the private key that public-key schemes sign with */
};

#define SIGN_MAX_HEADERS 16

struct signed_request {
	char *headers[SIGN_MAX_HEADERS + 1]; /* owned; "Name: value"; NULL ends */
	size_t header_count;
	struct buf body;   /* owned */
	struct buf target; /* owned; what goes behind the URL: "" or "?token=…" */
};

struct tool;

/* ERR_INVAL with a text where a recipe cannot be signed (a signature inside the body). Signs with
 * the first secret, or with the key given. */
enum err recipe_sign(const struct tool *t, const struct sign_options *o, struct signed_request *ret,
                     struct err_info *info) MUST_CHECK;
void signed_request_done(struct signed_request *s);

#endif
