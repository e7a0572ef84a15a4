/* The statements of the transaction that stores a batch, and their parameters. */
#ifndef WEIR_PIPELINE_BATCH_SQL_H
#define WEIR_PIPELINE_BATCH_SQL_H

#include <stdint.h>

#include "weir/io/pg.h"

/* X(name, element type, array type): the store statement's parameters, in order. Up to VALID_UNTIL
 * one element for each key, in the keys' order, from UID one for each event, in the events' own.
 * Where several such statements make up a transaction, keys are sorted through all of them, and
 * those of a statement need not be its events'. Only store_in_race needs them together. */
#define STORE_COLUMNS(X)                                     \
	X(KEY, PG_UUID, PG_UUID_ARRAY)                       \
	X(HOLDER, PG_UUID, PG_UUID_ARRAY)                    \
	X(BODY_HASH, PG_INT8, PG_INT8_ARRAY)                 \
	X(VALID_UNTIL, PG_TIMESTAMPTZ, PG_TIMESTAMPTZ_ARRAY) \
	X(UID, PG_UUID, PG_UUID_ARRAY)                       \
	X(TOOL, PG_TEXT, PG_TEXT_ARRAY)                      \
	X(TYPE, PG_TEXT, PG_TEXT_ARRAY)                      \
	X(ID, PG_TEXT, PG_TEXT_ARRAY)                        \
	X(RECEIVED, PG_TIMESTAMPTZ, PG_TIMESTAMPTZ_ARRAY)    \
	X(HEADERS, PG_JSON, PG_JSON_ARRAY)                   \
	X(CONTENT_TYPE, PG_TEXT, PG_TEXT_ARRAY)              \
	X(BODY, PG_BYTEA, PG_BYTEA_ARRAY)                    \
	X(ENVELOPE, PG_BYTEA, PG_BYTEA_ARRAY)                \
	X(TRACEPARENT, PG_TEXT, PG_TEXT_ARRAY)               \
	X(RECIPIENT_ID, PG_INT8, PG_INT8_ARRAY)
#define STORE_ENUM(name, element, array) STORE_##name,
enum { STORE_COLUMNS(STORE_ENUM) STORE_COUNT };

/* X(name, element type, array type): parameters of the statement that frees expired keys. */
#define FREE_COLUMNS(X)                                \
	X(KEY, PG_UUID, PG_UUID_ARRAY)                 \
	X(UID, PG_UUID, PG_UUID_ARRAY)                 \
	X(AFTER, PG_TIMESTAMPTZ, PG_TIMESTAMPTZ_ARRAY) \
	X(BEFORE, PG_TIMESTAMPTZ, PG_TIMESTAMPTZ_ARRAY)
#define FREE_ENUM(name, element, array) FREE_##name,
enum { FREE_COLUMNS(FREE_ENUM) FREE_COUNT };

/* Element types, for columns_begin(). */
extern const uint32_t batch_sql_store_elements[STORE_COUNT];
extern const uint32_t batch_sql_free_elements[FREE_COUNT];

/* In this order: one of the locks, `free` if some key may have to be freed, then those that store:
 * one or more, or a single one in a race. */
extern const struct pg_stmt batch_sql_lock;
extern const struct pg_stmt batch_sql_lock_to_free;
extern const struct pg_stmt batch_sql_free;
/* Fails with unique_violation of a constraint event_keys_... where a key is held already. */
extern const struct pg_stmt batch_sql_store;
/* Stores those events whose keys it could claim; dearer. */
extern const struct pg_stmt batch_sql_store_in_race;
/* One row for each key of its only parameter, in the array's order: holder's uid and body_hash. */
extern const struct pg_stmt batch_sql_lookup;

#endif
