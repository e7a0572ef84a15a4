/* CloudEvents 1.0 over HTTP, as a recipe's "format": the content type says which of three modes a
 * request is in.
 *
 *   binary      any other content type: the body is the event's data, its attributes are headers
 *               ("ce-id"), percent-encoded
 *   structured  application/cloudevents+json: the body is the event
 *   batch       application/cloudevents-batch+json: the body is an array of events
 *
 * The event's id is source and id ("SOURCE:ID"), for only together they are unique; where one of
 * them is missing there is none. */
#ifndef WEIR_MODEL_CLOUDEVENTS_H
#define WEIR_MODEL_CLOUDEVENTS_H

#include <stddef.h>

#include "weir/base/buf.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct recipe;
struct recipe_source;

/* What the format stands for; the headers' sources go first. */
#define CLOUDEVENTS_RECIPE                                                                     \
	"{\"split\": \"[]\","                                                                  \
	" \"id\": [[\"header:ce-source\", \"header:ce-id\"], [\"json:source\", \"json:id\"]]," \
	" \"type\": [\"header:ce-type\", \"json:type\"]}"

#define CLOUDEVENTS_TYPE "application/cloudevents+json" /* of one event */

enum cloudevents_mode { CLOUDEVENTS_BINARY, CLOUDEVENTS_STRUCTURED, CLOUDEVENTS_BATCH };

enum cloudevents_mode cloudevents_mode(struct str content_type);

/* The sources of id and type that count in a mode. */
struct identity_sources {
	const struct recipe_source *ids, *types;
	size_t id_count, type_count;
};
void cloudevents_sources(const struct recipe *r, enum cloudevents_mode m,
                         struct identity_sources *ret);

/* Says of the compiled sources which are percent-encoded. */
void cloudevents_mark(struct recipe *r);
/* An attribute's value from its header's: without the quotes of a quoted string, and decoded once.
 * A '%' that begins no escape is one. *ret is `raw` or lies in `b`. ERR_NOMEM. */
enum err cloudevents_attribute(struct str raw, struct buf *b, struct str *ret) MUST_CHECK;

#endif
