/* The providers that weir knows: one data file each in deploy/providers, built in. A file holds
 *
 *   name, title   the preset's name; the provider's
 *   rests_on      [{what, seen}]: the documentation or package that it was written after, and when
 *   recipe        a recipe object, see model/recipe.h
 *   recipient     name of the mapping of its delivery reports, see model/recipient.h
 *   needs         members that a tool has to have besides secrets: url, verify_token
 *   answers       what the provider does: timeout, retries, 2xx, 4xx, 5xx, notes (texts)
 *   setup         what to do there: a list of Markdown texts
 *   tool          the entry to write into TOOLS_FILE
 *   sample        {type, content_type, body}: an event for tests. In its body stand %ID%, %TYPE%,
 *                 %S%, %MS% and %ISO% for the event's id and type and the time in three
 *                 spellings, and %SIGNATURE% where the signature or token is part of the body;
 *                 with builtin:sns also %TOPIC% and %CERT_URL%
 */
#ifndef WEIR_MODEL_PROVIDER_H
#define WEIR_MODEL_PROVIDER_H

#include <stddef.h>

#include "weir/base/err.h"
#include "weir/base/str.h"

struct json_t;

struct provider_file {
	const char *name;
	const char *text; /* JSON */
};

/* Sorted by name; a row without a name ends it. Made by scripts/embed-providers. */
extern const struct provider_file provider_files[];

size_t provider_count(void);
const char *provider_name(size_t i);
const char *provider_known(const char *name); /* the static name; NULL: there is no such one */
const char *provider_names(void); /* "bitbucket, discord, …" for error texts; static */

/* Parses the file; the caller's, json_decref. ERR_NOTFOUND: there is no such provider; ERR_NOMEM.
 */
enum err provider_load(const char *name, struct json_t **ret) MUST_CHECK;
/* A member's text, or that of a member inside it ("answers", "2xx"; `inner` NULL: none); "" when it
 * is absent. Borrowed of `p`. */
struct str provider_text(const struct json_t *p, const char *member, const char *inner);

#endif
