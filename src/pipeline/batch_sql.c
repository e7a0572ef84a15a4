/* The transaction of a batch. What was measured, and why it is written so:
 *
 * - Arrays are unnested in the select list. unnest() in FROM would copy every body into a tuple
 *   store first, and to disk where the batch is larger than work_mem.
 * - Keys are looked up in the other generation by its table's name. As a join the planner, which
 *   knows neither the arrays nor fresh tables, reads all keys for every batch.
 * - Keys are claimed by a plain INSERT, and events go in unasked behind it: a key that is held
 *   already, in either generation, makes the transaction fail. ON CONFLICT DO NOTHING, and picking
 *   the events whose keys were new, would cost more than a tenth of the whole transaction, for
 *   every event. So a transaction that failed so is run again that way, as are those that follow
 *   for a while: repetitions come in swarms, and mostly a cache has caught them before.
 * - Also then "all keys were new" is one comparison, worked out once; only otherwise is each event
 *   asked for. It is left for the delivery reports' statement, in a setting that ends with the
 *   transaction.
 * - Nothing is returned: as many rows as keys, over all statements that store, means that all were
 *   new, which is the common case.
 *   Otherwise a look-up after the commit tells our own keys from others'.
 *
 * Keys are claimed in sorted order by every writer, through all statements of a transaction, so two
 * batches never wait for each other in a ring. Events are inserted in the order they came in: their
 * own indexes grow at one place then, and our side reads them as they lie in memory. So the arrays
 * of the keys and those of the events are sorted differently. (Only expired keys of events without
 * id are deleted before, in a statement of its own; two batches that do so with the same bodies can
 * meet in a deadlock, which is a retry.) */
#include "batch_sql.h"

#include "columns.h"

const uint32_t batch_sql_store_elements[] = {STORE_COLUMNS(COLUMN_ELEMENT)};
const uint32_t batch_sql_free_elements[] = {FREE_COLUMNS(COLUMN_ELEMENT)};

/* Shared with all writers; a change of generation waits for them and they for it. A statement of
 * its own, so that the next one's snapshot is younger than the change. What comes behind either
 * fails where a key is not fresh, or says so itself. */
#define LOCK                                                  \
	"SELECT pg_advisory_xact_lock_shared(2003134834, 1)," \
	" set_config('weir.all_fresh', 'true', true)"
const struct pg_stmt batch_sql_lock = {.name = "weir_lock_keys", .sql = LOCK};

/* The same where keys may have to be freed: the planner must not read all keys because it thinks,
 * with the statistics of a young table, that there are few. */
const struct pg_stmt batch_sql_lock_to_free = {
    .name = "weir_lock_keys_to_free",
    .sql = LOCK ", set_config('enable_seqscan', 'off', true)",
};

/* A key that is held by something received earlier or later than our window reaches is freed only
 * if our own event is not stored yet: it may have held the key before that one, which came late. */
#define IS_FREE                                                              \
	"((k.valid_until <= w.ends_after OR k.valid_until >= w.ends_before)" \
	" AND NOT EXISTS (SELECT FROM weir.events e WHERE e.uid = w.uid))"
const struct pg_stmt batch_sql_free = {
    .name = "weir_free_keys",
    .sql = "DELETE FROM weir.event_keys WHERE key = ANY (ARRAY("
           "SELECT w.key FROM (SELECT unnest($1) AS key, unnest($2) AS uid,"
           " unnest($3) AS ends_after, unnest($4) AS ends_before) w"
           " WHERE (SELECT " IS_FREE " FROM weir.event_keys_0 k WHERE k.key = w.key)"
           " OR (SELECT " IS_FREE " FROM weir.event_keys_1 k WHERE k.key = w.key)))",
    .param_count = FREE_COUNT,
    .types = {FREE_COLUMNS(COLUMN_ARRAY)},
};

#define INSERT_KEYS                                                             \
	"INSERT INTO weir.event_keys (key, uid, body_hash, valid_until, slot)"  \
	" SELECT k.key, k.uid, k.body_hash, k.valid_until, k.slot FROM ("       \
	"SELECT unnest($1) AS key, unnest($2) AS uid, unnest($3) AS body_hash," \
	" unnest($4) AS valid_until, "
#define INSERT_EVENTS                                                                     \
	"INSERT INTO weir.events (uid, tool, event_type, event_id, received_at, headers," \
	" content_type, body, envelope, traceparent, recipient_id)"                       \
	" SELECT e.* FROM (SELECT unnest($5) AS uid, unnest($6), unnest($7), unnest($8)," \
	" unnest($9), unnest($10), unnest($11), unnest($12), unnest($13), unnest($14),"   \
	" unnest($15)) e"

const struct pg_stmt batch_sql_store = {
    .name = "weir_store",
    .sql = "WITH claimed AS (" INSERT_KEYS
           "(SELECT weir.slot_of_new_keys($1)) AS slot) k) " INSERT_EVENTS,
    .param_count = STORE_COUNT,
    .types = {STORE_COLUMNS(COLUMN_ARRAY)},
};

/* Keys that the other generation does not hold. Of the current one the primary key says it. */
#define HOLDER(table) "(SELECT o.uid FROM weir." table " o WHERE o.key = k.key)"
const struct pg_stmt batch_sql_store_in_race = {
    .name = "weir_store_in_race",
    .sql = "WITH fresh AS (" INSERT_KEYS "(SELECT slot FROM weir.event_key_generation) AS slot) k"
           " WHERE CASE k.slot WHEN 0 THEN " HOLDER("event_keys_1") " ELSE " HOLDER(
               "event_keys_0") " END IS NULL ON CONFLICT DO NOTHING RETURNING uid) " INSERT_EVENTS
                               " WHERE (SELECT set_config('weir.all_fresh', (count(*) = "
                               "cardinality($2))::text, true)"
                               " FROM fresh) = 'true' OR e.uid IN (SELECT uid FROM fresh)",
    .param_count = STORE_COUNT,
    .types = {STORE_COLUMNS(COLUMN_ARRAY)},
};

/* One row for each key, in the array's order: who holds it, and with which body. OFFSET keeps the
 * planner from making one join of it, for the reason above. */
#define HOLDING(table) \
	"(SELECT k.uid, k.body_hash FROM weir." table " k WHERE k.key = i.key OFFSET 0)"
const struct pg_stmt batch_sql_lookup = {
    .name = "weir_lookup_keys",
    .sql = "SELECT coalesce(a.uid, b.uid), coalesce(a.body_hash, b.body_hash)"
           " FROM (SELECT unnest($1) AS key) i"
           " LEFT JOIN LATERAL " HOLDING("event_keys_0") " a ON true"
                                                         " LEFT JOIN LATERAL " HOLDING(
                                                             "event_keys_1") " b ON true",
    .param_count = 1,
    .types = {PG_UUID_ARRAY},
};
