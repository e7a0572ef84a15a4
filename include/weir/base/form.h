/* Fields of application/x-www-form-urlencoded text: a posted form, or a query. */
#ifndef WEIR_BASE_FORM_H
#define WEIR_BASE_FORM_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/buf.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

/* The decoded value of the field `name`; `b` is emptied and holds it. ERR_NOTFOUND; ERR_INVAL when
 * the field is there twice or its escapes are malformed; ERR_NOMEM when `b` cannot take it. Fields
 * before it whose names are malformed are passed over. */
enum err form_value(struct str form, struct str name, struct buf *b, struct str *ret) MUST_CHECK;

#define FORM_MAX_FIELDS 1000

/* The fields of a form in order, each name and value once, as several providers sign them. Used
 * again and again; all zero is a fresh one. */
struct form_field {
	struct str name, value; /* in `text` */
};

struct form_fields {
	struct form_field *list; /* owned */
	size_t n, space;
	struct buf text;
};

void form_fields_done(struct form_fields *f);
/* Sorted by name and then by value, bytewise; one that is there twice stands once. `encoded`: both
 * are percent-encoded anew before they are sorted, all but the unreserved characters of RFC 3986;
 * else they are decoded. ERR_INVAL: malformed escapes; ERR_TOOBIG: more than FORM_MAX_FIELDS;
 * ERR_NOMEM. */
enum err form_fields_read(struct form_fields *f, struct str form, bool encoded) MUST_CHECK;

#endif
