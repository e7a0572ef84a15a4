/* How Redis and Postgres must be set up so that a crash loses no answered event: one list of what
 * is looked at, what is safe, and what is lost otherwise. Pure: answers go in, findings come out.
 */
#ifndef WEIR_APP_DURABILITY_RULES_H
#define WEIR_APP_DURABILITY_RULES_H

#include <stdbool.h>

#include "weir/app/migrate.h"
#include "weir/base/buf.h"
#include "weir/base/str.h"

struct pg_result;
struct redis_reply;

/* X(code, server, setting, what it should be, what happens otherwise, what to do) */
#define DURABILITY_SETTINGS(X)                                                                     \
	X(APPENDONLY, "redis", "appendonly", "yes",                                                \
	  "a crash loses every event since the last snapshot",                                     \
	  "CONFIG SET appendonly yes, and in redis.conf")                                          \
	X(APPENDFSYNC, "redis", "appendfsync", "always",                                           \
	  "a crash of the machine loses the last seconds of answered events",                      \
	  "CONFIG SET appendfsync always, and in redis.conf")                                      \
	X(FSYNC_ON_REWRITE, "redis", "no-appendfsync-on-rewrite", "no",                            \
	  "a crash of the machine during a rewrite of the append-only file loses answered events", \
	  "CONFIG SET no-appendfsync-on-rewrite no, and in redis.conf")                            \
	X(MAXMEMORY_POLICY, "redis", "maxmemory-policy", "noeviction",                             \
	  "a full Redis throws the queue away",                                                    \
	  "CONFIG SET maxmemory-policy noeviction, and in redis.conf")                             \
	X(AOF_WRITE, "redis", "aof_last_write_status", "ok",                                       \
	  "the append-only file cannot be written", "make room on Redis's disk; see its log")      \
	X(ROLE, "redis", "role", "master", "a replica takes no events",                            \
	  "let REDIS_ADDR lead to the primary")                                                    \
	X(MIN_REPLICAS, "redis", "min-replicas-to-write", "1 or more",                             \
	  "a fail-over to a replica that fell behind unseen loses all that it lacks",              \
	  "CONFIG SET min-replicas-to-write 1, and in redis.conf")                                 \
	X(SYNCHRONOUS_COMMIT, "postgres", "synchronous_commit", "on",                              \
	  "a crash loses the last transactions, whose events were acknowledged already",           \
	  "ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf()")                     \
	X(FSYNC, "postgres", "fsync", "on", "a crash of the machine can destroy the database",     \
	  "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf()")                                  \
	X(FULL_PAGE_WRITES, "postgres", "full_page_writes", "on",                                  \
	  "a crash of the machine can destroy the database",                                       \
	  "ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf()")                       \
	X(IN_RECOVERY, "postgres", "pg_is_in_recovery", "off",                                     \
	  "a standby stores nothing; events wait in the queue",                                    \
	  "let DATABASE_URL or DATABASE_HOST lead to the primary")                                 \
	X(READ_ONLY, "postgres", "transaction_read_only", "off",                                   \
	  "nothing can be stored; events wait in the queue",                                       \
	  "ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()")             \
	X(SCHEMA, "postgres", "schema", "current", "this weir's statements may not fit",           \
	  "see `weir migrate status`")
#define DURABILITY_ENUM(code, server, setting, want, loss, remedy) DURABILITY_##code,
enum durability_setting { DURABILITY_SETTINGS(DURABILITY_ENUM) DURABILITY_COUNT };
#undef DURABILITY_ENUM

struct durability_rule {
	const char *server, *setting, *want, *loss, *remedy; /* literals */
};
extern const struct durability_rule durability_rules[DURABILITY_COUNT];

/* The values are those of the gauges. */
enum durability_verdict { DURABILITY_UNKNOWN = -1, DURABILITY_UNSAFE = 0, DURABILITY_SAFE = 1 };
const char *durability_verdict_name(enum durability_verdict v);

#define DURABILITY_VALUE_LEN 96
struct durability_finding {
	enum durability_verdict verdict;
	char value[DURABILITY_VALUE_LEN]; /* as the server says it; unknown: why */
};

/* All of a server's findings are written. `config` is the answer to durability_config_argv, NULL
 * when it was refused (then `why` says so), `info` the text of INFO (STR_NONE likewise); what one
 * does not tell is taken from the other. */
void durability_judge_redis(const struct redis_reply *config, struct str info, const char *why,
                            struct durability_finding findings[DURABILITY_COUNT]);
/* `row`: the answer to durability_pg_sql; NULL: refused, `why` says how. The schema is not in it.
 */
void durability_judge_pg(const struct pg_result *row, const char *why,
                         struct durability_finding findings[DURABILITY_COUNT]);
/* `applied`: the versions, as in migrate_judge(). */
void durability_judge_schema(enum migrate_state s, const struct migration *set, struct str applied,
                             struct durability_finding *ret);

#define DURABILITY_CONFIG_ARGC 7
extern const struct str durability_config_argv[DURABILITY_CONFIG_ARGC];
extern const char durability_pg_sql[];

/* The worst one; `redis`, `pg`: which servers this process has. */
enum durability_verdict
durability_overall(const struct durability_finding findings[DURABILITY_COUNT], bool redis, bool pg);
/* "redis: appendfsync is everysec, not always: a crash …. To do: …" */
void durability_print(const struct durability_finding *f, enum durability_setting s,
                      struct buf *out);

#endif
