/* Hash map from byte strings to pointers, seeded so that senders cannot choose collisions.
 * Keys are copied and owned by the map, values belong to the caller. Iteration is in no order and
 * must not change the map. */
#ifndef WEIR_BASE_MAP_H
#define WEIR_BASE_MAP_H

#include <stddef.h>

#include "weir/base/err.h"
#include "weir/base/str.h"

struct map;

enum err map_new(struct map **ret) MUST_CHECK;
void map_free(struct map *m, void (*free_value)(void *value)); /* free_value may be NULL */
size_t map_count(const struct map *m);
void *map_get(const struct map *m, struct str key); /* NULL when absent */
/* ERR_CONFLICT when the key is there already (nothing changed). `value` must not be NULL. */
enum err map_add(struct map *m, struct str key, void *value) MUST_CHECK;
void *map_remove(struct map *m, struct str key); /* the value, or NULL */

/* `*pos` starts at 0; returns the next value and its key, NULL at the end. */
void *map_next(const struct map *m, size_t *pos, struct str *ret_key);

#endif
