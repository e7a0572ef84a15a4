/* The runner. Everything goes over one blocking connection: the lock is the session's, so it ends
 * with the process whatever happens to it. */
#include "weir/app/migrate.h"

#include <string.h>
#include <time.h>

#include "weir/base/buf.h"
#include "weir/io/pg_admin.h"
#include "weir/run/log.h"

/* The same class and number as in the migrations' comment. Asked for again and again: a session
 * that waits in pg_advisory_lock() holds a snapshot, which CREATE INDEX CONCURRENTLY of the one
 * that has the lock would wait for. */
#define TRY_LOCK_SQL "SELECT pg_try_advisory_lock(2003134834, 3)::text"
#define UNLOCK_SQL   "SELECT pg_advisory_unlock(2003134834, 3)"
#define LOCK_WAIT    (60 * USEC_PER_SEC)
#define LOCK_PAUSE   (200 * USEC_PER_MSEC)

#define MAX_APPLIED ((size_t)1 << 20)
#define MAX_SQL     ((size_t)16 << 20)

const char migrate_applied_sql[] =
    "SELECT coalesce(string_agg(version, ',' ORDER BY version), '') FROM weir.schema_migrations";

const char *migrate_state_name(enum migrate_state s)
{
#define MIGRATE_NAME(code, name, advice) [code] = name,
	static const char *const names[] = {MIGRATE_STATES(MIGRATE_NAME)};
#undef MIGRATE_NAME

	return names[s];
}

const char *migrate_state_advice(enum migrate_state s)
{
#define MIGRATE_ADVICE(code, name, advice) [code] = advice,
	static const char *const advice[] = {MIGRATE_STATES(MIGRATE_ADVICE)};
#undef MIGRATE_ADVICE

	return advice[s];
}

/* --- what is applied --- */

static const struct migration *find(const struct migration *set, struct str version)
{
	for (; set->version; set++)
		if (str_eq(version, str_of(set->version)))
			return set;
	return NULL;
}

static bool is_applied(struct str applied, const char *version)
{
	while (applied.ptr)
		if (str_eq(str_split(&applied, ','), str_of(version)))
			return true;
	return false;
}

/* The first that is applied but not known. */
static struct str first_unknown(const struct migration *set, struct str applied)
{
	while (applied.ptr) {
		struct str v = str_split(&applied, ',');

		if (v.len && !find(set, v))
			return v;
	}
	return STR_NONE;
}

const char *migrate_last(const struct migration *set)
{
	const char *last = "none";

	for (; set->version; set++)
		last = set->version;
	return last;
}

enum migrate_state migrate_judge(const struct migration *set, struct str applied)
{
	if (first_unknown(set, applied).ptr)
		return MIGRATE_NEWER;
	for (const struct migration *m = set; m->version; m++)
		if (!is_applied(applied, m->version))
			return MIGRATE_OLDER;
	return MIGRATE_CURRENT;
}

static enum err read_applied(struct pg_admin *a, struct buf *out, struct err_info *info)
{
	enum err err = pg_admin_value(a, "SELECT to_regclass('weir.schema_migrations')", out, info);

	if (err != ERR_OK || out->len == 0)
		return err;
	return pg_admin_value(a, migrate_applied_sql, out, info);
}

enum err migrate_check(struct pg_admin *a, const struct migration *set, enum migrate_state *ret,
                       struct err_info *info)
{
	struct buf applied;
	enum err err;

	buf_init(&applied, MAX_APPLIED);
	err = read_applied(a, &applied, info);
	if (err == ERR_OK)
		*ret = migrate_judge(set, buf_str(&applied));
	buf_done(&applied);
	return err;
}

enum err migrate_status(struct pg_admin *a, const struct migration *set, migrate_fn report,
                        void *arg, struct err_info *info)
{
	struct buf applied;
	struct str rest;
	enum err err;

	buf_init(&applied, MAX_APPLIED);
	err = read_applied(a, &applied, info);
	rest = buf_str(&applied);
	for (const struct migration *m = set; err == ERR_OK && m->version; m++)
		report(arg, m, is_applied(rest, m->version) ? MIGRATE_APPLIED : MIGRATE_PENDING, 0);
	while (err == ERR_OK && rest.ptr) {
		struct str v = str_split(&rest, ',');
		char version[129] = {0};

		if (!v.len || find(set, v))
			continue;
		memcpy(version, v.ptr, v.len < sizeof(version) ? v.len : sizeof(version) - 1);
		report(arg, &(struct migration){version, "", NULL}, MIGRATE_UNKNOWN, 0);
	}
	buf_done(&applied);
	return err;
}

/* --- running one --- */

static enum err record(struct pg_admin *a, const struct migration *m, bool up,
                       struct err_info *info)
{
	static const char *const sql[2] = {
	    "DELETE FROM weir.schema_migrations WHERE version = $1",
	    "INSERT INTO weir.schema_migrations (version) VALUES ($1)"};
	struct buf none;
	enum err err;

	buf_init(&none, 64);
	err = pg_admin_value1(a, sql[up], m->version, &none, info);
	buf_done(&none);
	return err;
}

/* Empty lines in front make the server's line numbers those of the file. */
static enum err exec_part(struct pg_admin *a, const struct migrate_part *p, struct err_info *info)
{
	struct buf sql;
	enum err err;

	buf_init(&sql, MAX_SQL);
	for (size_t i = 1; i < p->line; i++)
		(void)buf_add_char(&sql, '\n');
	(void)buf_add_str(&sql, p->sql);
	err = sql.err == ERR_OK ? pg_admin_exec(a, sql.ptr ? sql.ptr : "", info)
	                        : err_set(info, sql.err, "%s", err_meaning(sql.err));
	buf_done(&sql);
	return err;
}

static enum err run_part(struct pg_admin *a, const struct migration *m,
                         const struct migrate_part *p, bool up, struct err_info *info)
{
	enum err err = p->transaction ? pg_admin_exec(a, "BEGIN", info) : ERR_OK;

	if (err == ERR_OK)
		err = exec_part(a, p, info);
	if (err == ERR_OK)
		err = record(a, m, up, info);
	if (err == ERR_OK && p->transaction)
		err = pg_admin_exec(a, "COMMIT", info);
	/* The first error is the one to tell. */
	if (err != ERR_OK && p->transaction && pg_admin_exec(a, "ROLLBACK", NULL) != ERR_OK)
		log_debug(LOG_APP, "rollback failed", LOG_STR("migration", m->version));
	return err;
}

static enum err run_one(struct pg_admin *a, const struct migration *m, bool up, migrate_fn report,
                        void *arg, struct err_info *info)
{
	struct err_info why = {0};
	struct migrate_file f;
	usec_t begun = clock_mono();
	enum err err = migrate_parse(m->sql, &f, &why);

	if (err == ERR_OK && !up && !f.down.present)
		err = err_set(&why, ERR_INVAL, "it has no part to take it back with");
	if (err == ERR_OK)
		err = run_part(a, m, up ? &f.up : &f.down, up, &why);
	if (err != ERR_OK)
		return err_set(info, err, "migration %s_%s: %s", m->version, m->name, why.text);
	report(arg, m, up ? MIGRATE_APPLIED : MIGRATE_REVERTED, clock_mono() - begun);
	return ERR_OK;
}

/* --- under the lock --- */

static enum err check_server(struct pg_admin *a, struct err_info *info)
{
	struct buf b;
	int64_t version = 0;
	enum err err;

	buf_init(&b, 256);
	err = pg_admin_value(a, "SHOW server_version_num", &b, info);
	if (err == ERR_OK &&
	    (str_to_int(buf_str(&b), 0, INT64_MAX, &version) != ERR_OK || version < 140000))
		err = err_set(info, ERR_INVAL, "weir needs PostgreSQL 14 or newer");
	if (err == ERR_OK)
		err = pg_admin_value(a, "SHOW server_encoding", &b, info);
	if (err == ERR_OK && !str_eq(buf_str(&b), STR("UTF8")))
		err = err_set(
		    info, ERR_INVAL,
		    "the database's encoding is %s; weir needs one made with ENCODING 'UTF8'",
		    b.ptr);
	buf_done(&b);
	return err;
}

static enum err make_table(struct pg_admin *a, struct err_info *info)
{
	return pg_admin_exec(a,
	                     "DO $$ BEGIN IF to_regnamespace('weir') IS NULL THEN"
	                     " CREATE SCHEMA weir; END IF; END $$;"
	                     "CREATE TABLE IF NOT EXISTS weir.schema_migrations"
	                     " (version varchar(128) PRIMARY KEY)",
	                     info);
}

static enum err lock(struct pg_admin *a, struct err_info *info)
{
	static const struct timespec pause = {.tv_nsec = LOCK_PAUSE * 1000};
	usec_t end = clock_mono() + LOCK_WAIT;
	bool locked = false;
	enum err err = pg_admin_exec(
	    a, "SET statement_timeout = 0; SET lock_timeout = '30s'; SET TimeZone = 'UTC'", info);
	struct buf b;

	buf_init(&b, 64);
	while (err == ERR_OK && !locked) {
		err = pg_admin_value(a, TRY_LOCK_SQL, &b, info);
		locked = err == ERR_OK && str_eq(buf_str(&b), STR("true"));
		if (err == ERR_OK && !locked && clock_mono() >= end)
			err = err_set(info, ERR_TIMEOUT,
			              "another migration runs on this database for over a minute");
		if (err == ERR_OK && !locked)
			nanosleep(&pause, NULL);
	}
	buf_done(&b);
	return err;
}

/* Takes the lock, makes the table, reads what is applied, and refuses a schema from the future. */
static enum err begin(struct pg_admin *a, const struct migration *set, struct buf *applied,
                      struct err_info *info)
{
	struct str unknown;
	enum err err = check_server(a, info);

	if (err == ERR_OK)
		err = lock(a, info);
	if (err == ERR_OK)
		err = make_table(a, info);
	if (err == ERR_OK)
		err = read_applied(a, applied, info);
	if (err != ERR_OK)
		return err;
	unknown = first_unknown(set, buf_str(applied));
	if (unknown.ptr)
		return err_set(info, ERR_CONFLICT,
		               "%s (version %.*s is not known here; this weir's last is %s)",
		               migrate_state_advice(MIGRATE_NEWER), (int)unknown.len, unknown.ptr,
		               migrate_last(set));
	return ERR_OK;
}

/* The lock ends with the session at the latest. */
static void end(struct pg_admin *a, struct buf *applied)
{
	buf_done(applied);
	if (pg_admin_exec(a, UNLOCK_SQL, NULL) != ERR_OK)
		log_debug(LOG_APP, "the migration lock was not given back");
}

enum err migrate_up(struct pg_admin *a, const struct migration *set, migrate_fn report, void *arg,
                    struct err_info *info)
{
	struct buf applied;
	enum err err;

	buf_init(&applied, MAX_APPLIED);
	err = begin(a, set, &applied, info);
	for (const struct migration *m = set; err == ERR_OK && m->version; m++)
		if (!is_applied(buf_str(&applied), m->version))
			err = run_one(a, m, true, report, arg, info);
	end(a, &applied);
	return err;
}

enum err migrate_down(struct pg_admin *a, const struct migration *set, const char *to,
                      migrate_fn report, void *arg, struct err_info *info)
{
	const struct migration *m = set;
	struct buf applied;
	enum err err;

	if (to && strcmp(to, "0") != 0 && !find(set, str_of(to)))
		return err_set(info, ERR_INVAL, "there is no migration %s", to);
	buf_init(&applied, MAX_APPLIED);
	err = begin(a, set, &applied, info);
	while (m->version)
		m++;
	while (err == ERR_OK && m > set) {
		m--;
		if (to && strcmp(m->version, to) <= 0)
			break;
		if (!is_applied(buf_str(&applied), m->version))
			continue;
		err = run_one(a, m, false, report, arg, info);
		if (!to)
			break;
	}
	end(a, &applied);
	return err;
}
