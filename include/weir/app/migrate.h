/* Brings the database's schema to what this binary knows, or back. Migrations are files in dbmate's
 * format, each applied in a transaction of its own together with its row in weir.schema_migrations,
 * all under an advisory lock. (dbmate works on the same database with --migrations-table
 * weir.schema_migrations.) */
#ifndef WEIR_APP_MIGRATE_H
#define WEIR_APP_MIGRATE_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/app/migration.h"
#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct pg_admin;

#define MIGRATE_STATES(X)                                                                        \
	X(MIGRATE_CURRENT, "current", "the schema is current")                                   \
	X(MIGRATE_OLDER, "older",                                                                \
	  "the schema is missing or older than this weir: run `weir migrate up`")                \
	X(MIGRATE_NEWER, "newer",                                                                \
	  "the schema is newer than this weir: run the weir that migrated it, or take its last " \
	  "migrations back with that one's `weir migrate down`")

#define MIGRATE_ENUM(code, name, advice) code,
enum migrate_state { MIGRATE_STATES(MIGRATE_ENUM) MIGRATE_STATE_COUNT };
#undef MIGRATE_ENUM

const char *migrate_state_name(enum migrate_state s);
const char *migrate_state_advice(enum migrate_state s); /* a sentence for a human */

/* How the schema stands, from the versions that are applied, separated by commas; pure. Versions
 * that `set` does not know make it newer. */
enum migrate_state migrate_judge(const struct migration *set, struct str applied);
const char *migrate_last(const struct migration *set); /* its last version, or "none" */
/* The query for what is applied, one row with one text column. Without the table it fails with
 * ERR_NOTABLE, which means that nothing is applied. */
extern const char migrate_applied_sql[];

/* How the schema stands, asked over `a`. */
enum err migrate_check(struct pg_admin *a, const struct migration *set, enum migrate_state *ret,
                       struct err_info *info) MUST_CHECK;

enum migrate_step {
	MIGRATE_APPLIED,
	MIGRATE_REVERTED,
	MIGRATE_PENDING,
	MIGRATE_UNKNOWN, /* applied, but not known here: `name` is "" and there is no SQL */
};

/* One migration; `took` is of meaning for those that ran just now. */
typedef void (*migrate_fn)(void *arg, const struct migration *m, enum migrate_step step,
                           usec_t took);

/* `set` is the table `migrations`, but for tests. Applies all that are missing; none is fine.
 * ERR_CONFLICT: the schema is newer than `set`; ERR_INVAL: a file or the database does not fit. */
enum err migrate_up(struct pg_admin *a, const struct migration *set, migrate_fn report, void *arg,
                    struct err_info *info) MUST_CHECK;
/* Takes the last one back; with `to`, all behind that version ("0": all). */
enum err migrate_down(struct pg_admin *a, const struct migration *set, const char *to,
                      migrate_fn report, void *arg, struct err_info *info) MUST_CHECK;
/* Reports all, applied ones and pending ones, in order. */
enum err migrate_status(struct pg_admin *a, const struct migration *set, migrate_fn report,
                        void *arg, struct err_info *info) MUST_CHECK;

/* A migration's file, taken apart. Slices are borrowed from it. */
struct migrate_part {
	struct str sql;
	size_t line;      /* of the file at which it starts, from 1 */
	bool transaction; /* false: transaction:false behind the marker */
	bool present;
};
struct migrate_file {
	struct migrate_part up, down;
};
/* ERR_INVAL: `info` names the line. */
enum err migrate_parse(const char *text, struct migrate_file *ret,
                       struct err_info *info) MUST_CHECK;

#endif
