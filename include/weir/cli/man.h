/* The manual page. */
#ifndef WEIR_CLI_MAN_H
#define WEIR_CLI_MAN_H

#include "weir/base/err.h"

struct buf;

/* Appends weir(1) as roff. */
enum err man_print(struct buf *out) MUST_CHECK;

#endif
