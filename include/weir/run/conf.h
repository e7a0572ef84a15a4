/* Settings. One table (conf_table.c) is the only list of them: name, type, default, range, help,
 * whether SIGHUP applies it, whether it is a secret. It gives parsing, `weir config`, the README's
 * reference and the masked dump in /status/detailed. */
#ifndef WEIR_RUN_CONF_H
#define WEIR_RUN_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/buf.h"
#include "weir/base/clock.h"
#include "weir/base/err.h"

enum conf_role { ROLE_INGEST = 1, ROLE_WORKER = 2, ROLE_DELIVER = 4, ROLE_SCHEDULE = 8 };
enum conf_ingest_endpoints { INGEST_ENDPOINTS_ALL, INGEST_ENDPOINTS_WEBHOOKS };

#define CONF_REDIS_ADDR_DEFAULT "localhost:6379"

/* Plain values; strings are owned by the conf and never NULL ("" when unset). A reload replaces
 * the strings: nobody keeps pointers to them across it. */
struct conf {
	/* listeners */
	const char *host;
	int64_t port;
	const char *health_endpoint; /* "HOST:PORT"; HOST may be empty */
	const char *health_server_host;
	int64_t health_server_port; /* 0: not given; else this spelling is in force */
	int64_t ingest_endpoints;   /* enum conf_ingest_endpoints */
	int64_t roles;              /* bits of enum conf_role */
	const char *service_name;
	const char *fetch_ca_file; /* "": the system's */
	const char *admin_addr;    /* "HOST:PORT"; HOST may be empty */
	const char *admin_token;   /* "": none; without any token there is no admin listener */
	const char *admin_read_token;
	bool core_dumps;
	/* Postgres */
	const char *database_url; /* wins over the single settings */
	const char *database_host;
	int64_t database_port;
	const char *database_name;
	const char *database_user;
	const char *database_password;
	const char *database_ssl_mode;
	int64_t database_update_retries;
	/* Redis */
	const char *redis_addr; /* HOST:PORT, [v6]:PORT or unix:/path */
	const char *redis_username;
	const char *redis_password;
	int64_t redis_db;
	bool redis_tls_enabled;
	const char *redis_tls_ca_file; /* "" : the system's */
	const char *redis_key_prefix;
	/* queue and pipeline */
	bool webhook_queue_enabled;
	usec_t direct_timeout;
	const char *webhook_stream;
	const char *webhook_group;
	const char *worker_consumer_name; /* "": host-pid-boot */
	int64_t webhook_buffer_size;
	int64_t webhook_batch_size;
	uint64_t webhook_batch_bytes;
	usec_t webhook_flush_interval;
	int64_t webhook_max_workers;
	uint64_t queue_max_bytes; /* 0: half of Redis's maxmemory, else 2 GiB */
	usec_t queue_keep;
	usec_t queue_claim_idle;
	usec_t queue_tool_wait;
	int64_t queue_max_deliveries;
	/* enrichment */
	const char *clickhouse_url; /* "": recipients are looked up in Postgres */
	const char *clickhouse_ca_file;
	usec_t clickhouse_lookup_timeout;
	int64_t clickhouse_max_queries;
	const char *clickhouse_table; /* names, as str_is_name() says; so the columns, or "" */
	const char *clickhouse_message_id_column;
	const char *clickhouse_recipient_id_column;
	const char *clickhouse_address_column;
	const char *clickhouse_tool_column;
	usec_t enrich_cache_ttl; /* 0: no cache */
	usec_t enrich_cache_unknown_ttl;
	int64_t enrich_cache_max_keys;
	/* receive */
	const char *tools_file;
	const char *webhook_secret;
	const char *trusted_proxies;
	uint64_t max_body_size;
	uint64_t max_memory;
	int64_t max_connections;
	usec_t header_timeout;
	usec_t body_timeout;
	usec_t idle_timeout;
	usec_t write_timeout;
	/* storage */
	int64_t dedup_days;
	usec_t message_batch_ttl;
	int64_t retention_days; /* 0: for ever */
	usec_t maintenance_interval;
	usec_t webhook_dedup_ttl; /* 0: nothing is remembered in Redis */
	int64_t dedup_max_keys;
	int64_t dedup_memory_keys; /* 0: nothing is remembered in memory */
	/* life cycle */
	usec_t shutdown_delay;
	usec_t shutdown_grace;
	bool strict_durability;
	/* log */
	const char *log_level;
	int64_t log_format; /* enum log_format */
};

/* Reads `file` (NULL: none; lines NAME=value) and then `environ`, which wins. Unknown names in the
 * file are errors; of the environment only names of the table are looked at. On failure `info`
 * names the variable, the value (masked for secrets) and what is allowed, for a file also
 * file:line. An empty value counts as not given. */
enum err conf_load(const char *file, char *const *environ_block, struct conf **ret,
                   struct err_info *info) MUST_CHECK;
/* The same, but every fault goes to `sink` and the reading goes on; `*ret` then holds defaults in
 * the place of what was bad. Not ERR_OK: the file itself could not be read. */
enum err conf_load_all(const char *file, char *const *environ_block, struct err_sink *sink,
                       struct conf **ret, struct err_info *info) MUST_CHECK;
/* The same as conf_load() for a file's text that was read already; `name` stands for it in errors.
 */
enum err conf_load_text(const char *name, struct str text, char *const *environ_block,
                        struct conf **ret, struct err_info *info) MUST_CHECK;
void conf_free(struct conf *c); /* NULL is fine */

/* "NAME=value" lines with their help as comments, grouped; what --print-default prints. */
enum err conf_print_default(struct buf *out) MUST_CHECK;
/* The values in force; secrets, URL userinfo and URL queries masked. */
enum err conf_dump(const struct conf *c, struct buf *out) MUST_CHECK;
/* The same as a JSON object with lower-case names. */
enum err conf_dump_json(const struct conf *c, struct buf *out) MUST_CHECK;
/* The README's reference: a Markdown table. */
enum err conf_print_markdown(struct buf *out) MUST_CHECK;
/* The manual page's: roff, a subsection for each group. */
enum err conf_print_man(struct buf *out) MUST_CHECK;
/* `text`, a line or less of it, as roff prints it. */
void conf_add_roff(struct buf *out, struct str text);

/* Copies the reloadable settings of `fresh` into `c`, all of them or, on failure, none. Names of
 * others that differ are appended to `not_applied`, separated by ", ". */
enum err conf_apply_reload(struct conf *c, const struct conf *fresh,
                           struct buf *not_applied) MUST_CHECK;

#endif
