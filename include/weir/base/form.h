/* Fields of application/x-www-form-urlencoded text: a posted form, or a query. */
#ifndef WEIR_BASE_FORM_H
#define WEIR_BASE_FORM_H

#include "weir/base/buf.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

/* The decoded value of the field `name`; `b` is emptied and holds it. ERR_NOTFOUND; ERR_INVAL when
 * the field is there twice or its escapes are malformed; ERR_NOMEM when `b` cannot take it. Fields
 * before it whose names are malformed are passed over. */
enum err form_value(struct str form, struct str name, struct buf *b, struct str *ret) MUST_CHECK;

#endif
