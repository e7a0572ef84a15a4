/* The schema's migrations: SQL files in dbmate's format, built into the binary. */
#ifndef WEIR_APP_MIGRATION_H
#define WEIR_APP_MIGRATION_H

struct migration {
	const char *version; /* "0001"; sorts as text */
	const char *name;
	const char *sql; /* the file: "-- migrate:up" and "-- migrate:down" parts */
};

extern const struct migration migrations[]; /* ascending; ends with a NULL version */

#endif
