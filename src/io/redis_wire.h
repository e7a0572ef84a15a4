/* Commands in Redis's format. Private to io/redis. */
#ifndef WEIR_IO_REDIS_WIRE_H
#define WEIR_IO_REDIS_WIRE_H

#include <stddef.h>

#include "weir/base/buf.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

/* Appends one command, an array of bulk strings. ERR_NOMEM and ERR_TOOBIG leave `out` as it was. */
enum err redis_wire_add(struct buf *out, const struct str *argv, size_t argc) MUST_CHECK;
size_t redis_wire_size(const struct str *argv, size_t argc); /* at least what it takes */

#endif
