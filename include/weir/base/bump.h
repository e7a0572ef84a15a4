/* Blocks that are freed in about the order they were made, as events are. They stand side by side
 * in chunks: making one is an addition, and the processor finds what comes next in time next in
 * memory. A chunk is used again once all its blocks are freed; with the last block of all, nothing
 * is kept.
 *
 * A block that stays keeps its chunk, so chunks may take up to twice what their blocks do, and a
 * MiB; beyond that, and for large ones, blocks are made by mem_alloc(). */
#ifndef WEIR_BASE_BUMP_H
#define WEIR_BASE_BUMP_H

#include <stddef.h>

#include "weir/base/err.h"

void *bump_alloc(size_t size) MUST_CHECK; /* uninitialised, aligned for anything */
void bump_free(void *p);                  /* NULL is fine */

#endif
