/* Where the enricher looks recipients up: an interface with two backends. */
#ifndef WEIR_PIPELINE_RECIPIENT_LOOKUP_H
#define WEIR_PIPELINE_RECIPIENT_LOOKUP_H

#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct clickhouse;
struct loop;
struct pg_pool;

struct recipient_key {
	struct str tool, message_id, address;
};

/* ids[i] belongs to keys[i]: above 0, or 0 when it is unknown or not one alone. NULL unless err is
 * ERR_OK; then `text` says what is wrong. Both are borrowed for the call. */
typedef void (*recipient_lookup_fn)(void *arg, enum err err, const char *text, const int64_t *ids);

struct recipient_lookup {
	const char *name; /* for labels and logs; literal */
	/* Keys, all distinct, and their slices stay valid until the completion, which comes from
	 * the loop, exactly once, within `timeout`. Not ERR_OK: it will not come. */
	enum err (*find)(struct recipient_lookup *l, const struct recipient_key *keys, size_t n,
	                 usec_t timeout, recipient_lookup_fn cb, void *arg) MUST_CHECK;
	/* Once the pool or the client has told its completions (it was freed). */
	void (*free)(struct recipient_lookup *l);
};

/* weir.recipients. The pool is borrowed. */
enum err recipient_lookup_pg_new(struct pg_pool *pool, struct recipient_lookup **ret) MUST_CHECK;

/* A table of the user's. All are names as str_is_name() says; copied; "" for those that it does not
 * have. Without `address` a message id with several recipients counts
 * as unknown. */
struct recipient_columns {
	const char *table, *message_id, *recipient_id; /* never "" */
	const char *address, *tool;
};
enum err recipient_lookup_clickhouse_new(struct loop *l, struct clickhouse *db,
                                         const struct recipient_columns *c,
                                         struct recipient_lookup **ret) MUST_CHECK;

#endif
