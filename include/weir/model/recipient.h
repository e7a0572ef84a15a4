/* Delivery reports: which recipient of which message an event tells of, and what became of the
 * message. Where that stands in a provider's events is data, the tool's member `recipient`:
 *
 *   preset      name of a ready mapping; the members below, where given, take the place of its own
 *               (words are added to its words)
 *   in          a json: source whose text is the JSON document that all others are looked up in
 *               (SNS puts one into a string); where it is absent: the event's body itself
 *   message_id  the provider's id of the message
 *   message_id_until   text: what stands before its first occurrence is the id
 *   address     the recipients; "json:PATH[]" or "json:PATH[].REST" are all of an array
 *   status      the word that says what happened
 *   detail      more words, which tell events with the same word apart
 *   words       {"WORD": STATUS, "WORD/DETAIL": STATUS, …}: a pair goes before the word alone;
 *               null: the event is no report
 *   time        "SOURCE UNIT", the unit being s, ms or iso; absent: the time of receipt
 *
 * A source is json:PATH or form:NAME; in a list of them the first one found wins. A mapping that is
 * just a text names a ready one.
 *
 * A message id and an address are compared without blanks around them and without the angle
 * brackets around an id or behind a display name; an address is in lower case (ASCII). */
#ifndef WEIR_MODEL_RECIPIENT_H
#define WEIR_MODEL_RECIPIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/buf.h"
#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct event_view;
struct json_t;

#define RECIPIENT_MESSAGE_ID_MAX 1000 /* bytes */
#define RECIPIENT_ADDRESS_MAX    320
#define RECIPIENT_MAX_REPORTS    1000 /* of one event; what is more is left out */

/* X(code, word). The database knows them by their place in this list. */
#define RECIPIENT_STATUS_LIST(X)    \
	X(QUEUED, "queued")         \
	X(SENT, "sent")             \
	X(DEFERRED, "deferred")     \
	X(DELIVERED, "delivered")   \
	X(OPENED, "opened")         \
	X(CLICKED, "clicked")       \
	X(BOUNCED, "bounced")       \
	X(FAILED, "failed")         \
	X(COMPLAINED, "complained") \
	X(UNSUBSCRIBED, "unsubscribed")
#define RECIPIENT_STATUS_ENUM(code, word) RECIPIENT_##code,
enum recipient_status { RECIPIENT_STATUS_LIST(RECIPIENT_STATUS_ENUM) RECIPIENT_STATUSES };

const char *recipient_status_word(enum recipient_status s);

struct recipient_report {
	struct str message_id; /* valid UTF-8 without control characters, not empty; so is address
	                        */
	struct str address;
	enum recipient_status status;
	bool soft;            /* a bounce that says nothing against the address ("soft_bounced") */
	usec_t at;            /* wall clock: by the provider, or of the receipt */
	int64_t recipient_id; /* a hint of a cache; 0: unknown */
};

/* One allocation, slices point into it. */
struct recipient_reports {
	size_t n; /* at least 1 */
	struct recipient_report list[];
};

void recipient_reports_free(struct recipient_reports *r); /* NULL is fine */

/* ---- the mapping ---- */

struct recipient_map; /* compiled, immutable, shareable */

/* `value` is the member: a jansson string or object. `info` says what is wrong, prefixed with the
 * member's name: "recipient.words: …". `sink`: as in recipe_compile(). */
enum err recipient_map_compile(const struct json_t *value, struct err_sink *sink,
                               struct recipient_map **ret, struct err_info *info) MUST_CHECK;
void recipient_map_free(struct recipient_map *m); /* NULL is fine */

/* The JSON text of a ready mapping; NULL: there is none of that name. */
const char *recipient_preset_find(const char *name);
const char *recipient_preset_names(void); /* "mailgun, postmark, …" */

/* ---- reading events ---- */

/* What came of reading an event. */
#define RECIPIENT_OUTCOME_LIST(X)         \
	X(READ, "read")                   \
	X(OTHER, "other")                 \
	X(UNREADABLE, "unreadable")       \
	X(NO_STATUS, "no_status")         \
	X(NO_MESSAGE_ID, "no_message_id") \
	X(NO_ADDRESS, "no_address")
#define RECIPIENT_OUTCOME_ENUM(code, word) RECIPIENT_##code,
enum recipient_outcome { RECIPIENT_OUTCOME_LIST(RECIPIENT_OUTCOME_ENUM) RECIPIENT_OUTCOMES };

const char *recipient_outcome_word(enum recipient_outcome o);

struct recipient_reader; /* memory for it, reused from event to event */

enum err recipient_reader_new(struct recipient_reader **ret) MUST_CHECK;
void recipient_reader_free(struct recipient_reader *r);

/* Reads the reports of an event. *ret_reports is NULL unless *ret_outcome is RECIPIENT_READ, and
 * then the caller's. RECIPIENT_OTHER is an event that the mapping says is no report, or whose word
 * it does not know. The only failure is ERR_NOMEM: whatever the event holds is an outcome. */
enum err recipient_read(struct recipient_reader *r, const struct recipient_map *m,
                        const struct event_view *v, struct recipient_reports **ret_reports,
                        enum recipient_outcome *ret_outcome) MUST_CHECK;

#endif
