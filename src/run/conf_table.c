/* The only list of settings. A row gives parsing, range, default, help, reload and masking;
 * everything that prints or documents settings walks this table. */
#include "conf_table.h"

#include <ctype.h>

#include "weir/base/ip.h"
#include "weir/run/log.h"

/* Names, places and free text; nothing that is longer is meant. */
enum { NAME_MAX_BYTES = 128, HOST_MAX_BYTES = 255, PATH_MAX_BYTES = 4096, SECRET_MAX_BYTES = 1024 };

#define KIB      ((int64_t)1024)
#define MIB      (1024 * KIB)
#define GIB      (1024 * MIB)
#define TIB      (1024 * GIB)
#define SECONDS  USEC_PER_SEC
#define HOURS    (3600 * USEC_PER_SEC)
#define MAX_PORT 65535

static const char *const choices_endpoints[] = {"all", "webhooks", NULL};
static const char *const choices_roles[] = {"ingest", "worker", "deliver", "schedule", NULL};
static const char *const choices_ssl_mode[] = {"disable",   "allow",       "prefer", "require",
                                               "verify-ca", "verify-full", NULL};
static const char *const choices_log_format[] = {"logfmt", "json", NULL};

/* "HOST:PORT", "[v6]:PORT"; HOST may be empty if `bare_port`. */
static bool is_host_port(struct str s, bool bare_port)
{
	const char *colon = s.len ? memrchr(s.ptr, ':', s.len) : NULL;
	struct str host;
	int64_t port;

	if (!colon)
		return false;
	host = str_n(s.ptr, (size_t)(colon - s.ptr));
	if (str_to_int(str_n(colon + 1, s.len - host.len - 1), 1, MAX_PORT, &port) != ERR_OK)
		return false;
	if (host.len == 0)
		return bare_port;
	if (host.ptr[0] == '[')
		return host.len > 2 && host.ptr[host.len - 1] == ']';
	return !memchr(host.ptr, ':', host.len) && !memchr(host.ptr, ' ', host.len);
}

#define ALLOWED_ENDPOINT "HOST:PORT, [IPV6]:PORT or :PORT, ports 1 to 65535"
#define ALLOWED_REDIS    "HOST:PORT, [IPV6]:PORT or unix:/PATH, ports 1 to 65535"
#define ALLOWED_LEVELS   "debug, info, warn or error, then COMPONENT:LEVEL, all separated by commas"

static enum err check_endpoint(const char *value, struct err_info *info)
{
	if (is_host_port(str_of(value), true))
		return ERR_OK;
	return err_set(info, ERR_INVAL, "not an address; allowed: " ALLOWED_ENDPOINT);
}

#define ALLOWED_TOKEN "at least 16 printable ASCII characters without blanks"

/* What it guards can be guessed at from wherever the listener is reached. */
static enum err check_token(const char *value, struct err_info *info)
{
	size_t n = 0;

	while (value[n] > ' ' && value[n] < 0x7f)
		n++;
	if (value[n] == '\0' && n >= 16)
		return ERR_OK;
	return err_set(info, ERR_INVAL, "not a token; allowed: " ALLOWED_TOKEN);
}

static enum err check_redis_addr(const char *value, struct err_info *info)
{
	struct str s = str_of(value);

	if (str_starts(s, STR("unix:/")) || is_host_port(s, false))
		return ERR_OK;
	return err_set(info, ERR_INVAL, "not an address; allowed: " ALLOWED_REDIS);
}

#define ALLOWED_NAME "letters, digits and _, not beginning with a digit; several with dots between"

static enum err check_name(const char *value, struct err_info *info)
{
	if (str_is_name(str_of(value)))
		return ERR_OK;
	return err_set(info, ERR_INVAL, "not a name; allowed: " ALLOWED_NAME);
}

#define ALLOWED_NETWORKS "networks or addresses (10.0.0.0/8, 2001:db8::/32) with commas between"
#define MAX_NETWORKS     256

static enum err check_networks(const char *value, struct err_info *info)
{
	struct ip_net nets[MAX_NETWORKS];
	struct str bad;
	size_t n;
	enum err e = ip_nets_parse(str_of(value), nets, MAX_NETWORKS, &n, &bad);

	if (e == ERR_TOOBIG)
		return err_set(info, ERR_INVAL, "more than %d networks", MAX_NETWORKS);
	if (e != ERR_OK)
		return err_set(info, ERR_INVAL,
		               "\"%.*s\" is no network (no bits may be set behind the prefix); "
		               "allowed: " ALLOWED_NETWORKS,
		               (int)(bad.len < 60 ? bad.len : 60), bad.ptr ? bad.ptr : "");
	return ERR_OK;
}

static enum err check_http_url(const char *value, struct err_info *info)
{
	struct str s = str_of(value);

	if (str_starts(s, STR("http://")) || str_starts(s, STR("https://")))
		return ERR_OK;
	return err_set(info, ERR_INVAL, "not a URL; allowed: http://… or https://…");
}

#define MEMBER(m) .offset = offsetof(struct conf, m)
#define TEXT(NAME, m, default_, bytes, ...)                                                  \
	{                                                                                    \
		.name = NAME, .type = CONF_STRING, MEMBER(m), .def = default_, .max = bytes, \
		__VA_ARGS__                                                                  \
	}
#define INT(NAME, m, default_, least, most, ...)                                          \
	{                                                                                 \
		.name = NAME, .type = CONF_INT, MEMBER(m), .def = default_, .min = least, \
		.max = most, __VA_ARGS__                                                  \
	}
#define SIZE(NAME, m, default_, least, most, ...)                                          \
	{                                                                                  \
		.name = NAME, .type = CONF_SIZE, MEMBER(m), .def = default_, .min = least, \
		.max = most, __VA_ARGS__                                                   \
	}
#define TIME(NAME, m, default_, bare, least, most, ...)                                    \
	{                                                                                  \
		.name = NAME, .type = CONF_USEC, MEMBER(m), .def = default_, .unit = bare, \
		.min = least, .max = most, __VA_ARGS__                                     \
	}
#define BOOL(NAME, m, default_, ...)                                                     \
	{                                                                                \
		.name = NAME, .type = CONF_BOOL, MEMBER(m), .def = default_, __VA_ARGS__ \
	}
#define ONE_OF(NAME, t, m, default_, list, ...)                                                   \
	{                                                                                         \
		.name = NAME, .type = t, MEMBER(m), .def = default_, .choices = list, __VA_ARGS__ \
	}
#define HELP(text) .help = text

/* clang-format off */
const struct conf_row conf_rows[] = {
#define GROUP .group = "Listeners and roles"
	TEXT("HOST", host, "0.0.0.0", HOST_MAX_BYTES, GROUP,
	     HELP("Address of the ingest listener.")),
	INT("PORT", port, "8000", 1, MAX_PORT, GROUP,
	    HELP("Port of the ingest listener.")),
	TEXT("HEALTH_ENDPOINT", health_endpoint, ":8088", HOST_MAX_BYTES + 8, GROUP,
	     .check = check_endpoint, .allowed = ALLOWED_ENDPOINT,
	     HELP("HOST:PORT of the health and metrics listener; without HOST all addresses.")),
	TEXT("HEALTH_SERVER_HOST", health_server_host, "", HOST_MAX_BYTES, GROUP,
	     HELP("Host of the health listener in its second spelling; needs HEALTH_SERVER_PORT.")),
	INT("HEALTH_SERVER_PORT", health_server_port, "0", 0, MAX_PORT, GROUP,
	    HELP("Port of the health listener in its second spelling, which wins over "
	         "HEALTH_ENDPOINT and serves the status and trigger paths as well; 0: not given.")),
	ONE_OF("INGEST_ENDPOINTS", CONF_ENUM, ingest_endpoints, "all", choices_endpoints, GROUP,
	       HELP("What the ingest listener serves: everything, or the webhook paths only.")),
	ONE_OF("ROLES", CONF_FLAGS, roles, "ingest,worker,deliver,schedule", choices_roles, GROUP,
	       HELP("What this process does.")),
	TEXT("ADMIN_ADDR", admin_addr, "127.0.0.1:8081", HOST_MAX_BYTES + 8, GROUP,
	     .check = check_endpoint, .allowed = ALLOWED_ENDPOINT,
	     HELP("HOST:PORT of the admin listener, which is there once a token is set.")),
	TEXT("ADMIN_TOKEN", admin_token, "", SECRET_MAX_BYTES, GROUP,
	     .flags = CONF_SECRET | CONF_RELOAD, .check = check_token, .allowed = ALLOWED_TOKEN,
	     HELP("Bearer token that may read and change everything through the admin API.")),
	TEXT("ADMIN_READ_TOKEN", admin_read_token, "", SECRET_MAX_BYTES, GROUP,
	     .flags = CONF_SECRET | CONF_RELOAD, .check = check_token, .allowed = ALLOWED_TOKEN,
	     HELP("Bearer token that may only read.")),
	TEXT("SERVICE_NAME", service_name, "weir", NAME_MAX_BYTES, GROUP,
	     HELP("The name that status and health answers bear.")),
	TEXT("FETCH_CA_FILE", fetch_ca_file, "", PATH_MAX_BYTES, GROUP,
	     HELP("PEM file of the authorities that the servers of signing certificates and of "
	          "subscriptions (SNS, PayPal) are checked against; empty: the system's.")),
#undef GROUP
#define GROUP .group = "Postgres"
	{.name = "DATABASE_URL", .type = CONF_URL, MEMBER(database_url), .def = "",
	 .max = PATH_MAX_BYTES, GROUP,
	 HELP("Connection URL of Postgres; wins over the single DATABASE_ settings.")},
	TEXT("DATABASE_HOST", database_host, "", PATH_MAX_BYTES, GROUP,
	     HELP("Host or socket directory of Postgres; empty: libpq's default.")),
	INT("DATABASE_PORT", database_port, "0", 0, MAX_PORT, GROUP,
	    HELP("Port of Postgres; 0: libpq's default.")),
	TEXT("DATABASE_NAME", database_name, "", NAME_MAX_BYTES, GROUP,
	     HELP("Name of the database; empty: libpq's default.")),
	TEXT("DATABASE_USER", database_user, "", NAME_MAX_BYTES, GROUP,
	     HELP("User of the database; empty: libpq's default.")),
	TEXT("DATABASE_PASSWORD", database_password, "", SECRET_MAX_BYTES, GROUP,
	     .flags = CONF_SECRET,
	     HELP("Password of the database's user.")),
	ONE_OF("DATABASE_SSL_MODE", CONF_CHOICE, database_ssl_mode, "", choices_ssl_mode, GROUP,
	       HELP("TLS to Postgres, in libpq's words; empty: libpq's default.")),
	INT("DATABASE_UPDATE_RETRIES", database_update_retries, "3", 0, 100, GROUP,
	    HELP("Quick retries of a failed batch before it waits with backoff.")),
#undef GROUP
#define GROUP .group = "Redis"
	TEXT("REDIS_ADDR", redis_addr, CONF_REDIS_ADDR_DEFAULT, PATH_MAX_BYTES, GROUP,
	     .check = check_redis_addr, .allowed = ALLOWED_REDIS,
	     HELP("Address of Redis: HOST:PORT, or unix:/PATH for a socket.")),
	TEXT("REDIS_USERNAME", redis_username, "", NAME_MAX_BYTES, GROUP,
	     HELP("User of Redis (ACL); empty: the default user.")),
	TEXT("REDIS_PASSWORD", redis_password, "", SECRET_MAX_BYTES, GROUP, .flags = CONF_SECRET,
	     HELP("Password of Redis.")),
	INT("REDIS_DB", redis_db, "0", 0, 16383, GROUP,
	    HELP("Number of the Redis database.")),
	BOOL("REDIS_TLS_ENABLED", redis_tls_enabled, "false", GROUP,
	     HELP("Speak TLS to Redis.")),
	TEXT("REDIS_TLS_CA_FILE", redis_tls_ca_file, "", PATH_MAX_BYTES, GROUP,
	     HELP("PEM file of the authorities that Redis's certificate is checked against; empty: "
	          "the system's.")),
	TEXT("REDIS_KEY_PREFIX", redis_key_prefix, "", NAME_MAX_BYTES, GROUP,
	     HELP("Put in front of every key in Redis.")),
#undef GROUP
#define GROUP .group = "Queue"
	BOOL("WEBHOOK_QUEUE_ENABLED", webhook_queue_enabled, "true", GROUP,
	     HELP("Off: no queue; events go straight to the database, and senders are answered "
	          "after the commit. Redis is then not used at all unless REDIS_ADDR is set.")),
	TIME("DIRECT_TIMEOUT", direct_timeout, "5s", SECONDS, 100 * USEC_PER_MSEC, HOURS, GROUP,
	     HELP("Longest wait of a sender for the database while there is no queue; then it is "
	          "answered 503.")),
	TEXT("WEBHOOK_STREAM", webhook_stream, "webhook_events", NAME_MAX_BYTES, GROUP,
	     HELP("Name of the stream that holds accepted events.")),
	TEXT("WEBHOOK_GROUP", webhook_group, "webhook_workers", NAME_MAX_BYTES, GROUP,
	     HELP("Consumer group of the workers.")),
	TEXT("WORKER_CONSUMER_NAME", worker_consumer_name, "", NAME_MAX_BYTES, GROUP,
	     HELP("Name of this process in the group; empty: host, process id and boot.")),
	SIZE("QUEUE_MAX_BYTES", queue_max_bytes, "0", 0, TIB, GROUP,
	     HELP("Past this size of the queue, ingest answers 503; 0: half of Redis's maxmemory, "
	          "or 2GiB where Redis has none.")),
	TIME("QUEUE_KEEP", queue_keep, "0s", SECONDS, 0, 30 * 24 * HOURS, GROUP,
	     HELP("How long acknowledged entries stay in the stream.")),
	INT("QUEUE_MAX_DELIVERIES", queue_max_deliveries, "5", 1, 1000, GROUP,
	    HELP("An entry that was delivered more often runs in a batch of its own; it becomes a "
	         "dead letter only if processes died over it.")),
	TIME("QUEUE_CLAIM_IDLE", queue_claim_idle, "60s", SECONDS, SECONDS, 24 * HOURS, GROUP,
	     HELP("An entry that another consumer took and left for so long is taken over.")),
	TIME("QUEUE_TOOL_WAIT", queue_tool_wait, "24h", SECONDS, SECONDS, 30 * 24 * HOURS, GROUP,
	     HELP("How long a delivery report waits for a worker that knows its tool; then it "
	          "becomes a dead letter.")),
#undef GROUP
#define GROUP .group = "Pipeline"
	INT("WEBHOOK_BUFFER_SIZE", webhook_buffer_size, "0", 0, 1000000, GROUP,
	    HELP("Events that a worker holds in memory before it stops reading; 0: two batches for "
	         "each of WEBHOOK_MAX_WORKERS, 3000 at least.")),
	INT("WEBHOOK_BATCH_SIZE", webhook_batch_size, "100", 1, 10000, GROUP,
	    HELP("Most events in one batch.")),
	SIZE("WEBHOOK_BATCH_BYTES", webhook_batch_bytes, "8MiB", 64 * KIB, GIB, GROUP,
	     HELP("Most bytes in one batch.")),
	TIME("WEBHOOK_FLUSH_INTERVAL", webhook_flush_interval, "1000ms", USEC_PER_MSEC,
	     USEC_PER_MSEC, HOURS, GROUP,
	     HELP("Longest wait of a buffered event for its batch.")),
	INT("WEBHOOK_MAX_WORKERS", webhook_max_workers, "10", 1, 1000, GROUP,
	    HELP("Batches in flight, and the size of the database's connection pool.")),
#undef GROUP
#define GROUP .group = "Deduplication"
	TIME("WEBHOOK_DEDUP_TTL", webhook_dedup_ttl, "24h", SECONDS, 0, 30 * 24 * HOURS, GROUP,
	     .alias = "WORKER_IDEMPOTENCY_TTL",
	     HELP("How long Redis remembers the keys of events at least, so that the database is "
	          "not asked for repetitions; 0: not at all.")),
	INT("DEDUP_MAX_KEYS", dedup_max_keys, "10000000", 1, 1000000000, GROUP,
	    HELP("Most keys in Redis, some 100 bytes each; the oldest are forgotten first.")),
	INT("DEDUP_MEMORY_KEYS", dedup_memory_keys, "100000", 0, 10000000, GROUP,
	    HELP("Most keys that a worker remembers itself, for a minute, some 50 bytes each; 0: "
	         "none.")),
#undef GROUP
#define GROUP .group = "Enrichment"
	{.name = "CLICKHOUSE_URL", .type = CONF_URL, MEMBER(clickhouse_url), .def = "",
	 .max = PATH_MAX_BYTES, .check = check_http_url, GROUP,
	 HELP("http or https URL of ClickHouse, with USER:PASSWORD@ and, in its query, further "
	      "settings; recipients are then looked up there. Empty: in Postgres.")},
	TEXT("CLICKHOUSE_CA_FILE", clickhouse_ca_file, "", PATH_MAX_BYTES, GROUP,
	     HELP("PEM file of the authorities that ClickHouse's certificate is checked against; "
	          "empty: the system's.")),
	TIME("CLICKHOUSE_LOOKUP_TIMEOUT", clickhouse_lookup_timeout, "1000ms", USEC_PER_MSEC,
	     10 * USEC_PER_MSEC, 60 * SECONDS, GROUP, .alias = "ENRICH_LOOKUP_TIMEOUT",
	     HELP("Longest that a batch waits for its recipients to be found, the cache and "
	          "look-ups in Postgres included; then it goes on without.")),
	INT("CLICKHOUSE_MAX_QUERIES", clickhouse_max_queries, "4", 1, 64, GROUP,
	    HELP("Queries to ClickHouse at a time.")),
	TEXT("CLICKHOUSE_TABLE", clickhouse_table, "recipients", NAME_MAX_BYTES, GROUP,
	     .check = check_name, .allowed = ALLOWED_NAME,
	     HELP("ClickHouse's table of recipients: TABLE or DATABASE.TABLE.")),
	TEXT("CLICKHOUSE_MESSAGE_ID_COLUMN", clickhouse_message_id_column, "message_id",
	     NAME_MAX_BYTES, GROUP, .check = check_name, .allowed = ALLOWED_NAME,
	     HELP("Its column with the provider's message id, of a string type.")),
	TEXT("CLICKHOUSE_RECIPIENT_ID_COLUMN", clickhouse_recipient_id_column, "recipient_id",
	     NAME_MAX_BYTES, GROUP, .check = check_name, .allowed = ALLOWED_NAME,
	     HELP("Its column with the recipient's id, a number above 0.")),
	TEXT("CLICKHOUSE_ADDRESS_COLUMN", clickhouse_address_column, "", NAME_MAX_BYTES, GROUP,
	     .check = check_name, .allowed = ALLOWED_NAME,
	     HELP("Its column with the address; empty: a message id stands for one recipient, and "
	          "one with several counts as unknown.")),
	TEXT("CLICKHOUSE_TOOL_COLUMN", clickhouse_tool_column, "", NAME_MAX_BYTES, GROUP,
	     .check = check_name, .allowed = ALLOWED_NAME,
	     HELP("Its column with the tool's id; empty: message ids are unique over all tools.")),
	TIME("ENRICH_CACHE_TTL", enrich_cache_ttl, "1h", SECONDS, 0, 30 * 24 * HOURS, GROUP,
	     HELP("How long Redis remembers a recipient that was found; 0: no cache.")),
	TIME("ENRICH_CACHE_UNKNOWN_TTL", enrich_cache_unknown_ttl, "30s", SECONDS, 0, 24 * HOURS,
	     GROUP, HELP("How long Redis remembers that a recipient is unknown.")),
	INT("ENRICH_CACHE_MAX_KEYS", enrich_cache_max_keys, "1000000", 1, 1000000000, GROUP,
	    HELP("Most recipients that one worker keeps in the cache; each takes some 150 bytes "
	         "of Redis's memory.")),
#undef GROUP
#define GROUP .group = "Receiving"
	TEXT("TOOLS_FILE", tools_file, "", PATH_MAX_BYTES, GROUP, .flags = CONF_RELOAD,
	     HELP("JSON file with the tools.")),
	TEXT("WEBHOOK_SECRET", webhook_secret, "", SECRET_MAX_BYTES, GROUP,
	     .flags = CONF_SECRET | CONF_RELOAD,
	     HELP("Without TOOLS_FILE: the one secret of every preset, each of which is a tool of "
	          "its own name then.")),
	TEXT("TRUSTED_PROXIES", trusted_proxies, "", PATH_MAX_BYTES, GROUP,
	     .allowed = ALLOWED_NETWORKS, .check = check_networks,
	     HELP("Proxies whose X-Forwarded-For says where a webhook comes from.")),
	SIZE("MAX_BODY_SIZE", max_body_size, "26MiB", KIB, GIB, GROUP,
	     HELP("Largest request body; a tool can have a smaller limit.")),
	SIZE("MAX_MEMORY", max_memory, "256MiB", 16 * MIB, TIB, GROUP,
	     HELP("Memory past which work is refused with 503.")),
	INT("MAX_CONNECTIONS", max_connections, "4096", 1, 1000000, GROUP,
	    HELP("Most open client connections; more are closed at once.")),
	TIME("HEADER_TIMEOUT", header_timeout, "10s", SECONDS, 100 * USEC_PER_MSEC, HOURS, GROUP,
	     HELP("How long a request's header may take.")),
	TIME("BODY_TIMEOUT", body_timeout, "30s", SECONDS, 100 * USEC_PER_MSEC, HOURS, GROUP,
	     HELP("How long a request's body may take.")),
	TIME("IDLE_TIMEOUT", idle_timeout, "60s", SECONDS, 100 * USEC_PER_MSEC, HOURS, GROUP,
	     HELP("How long a connection may stay open between requests.")),
	TIME("WRITE_TIMEOUT", write_timeout, "30s", SECONDS, 100 * USEC_PER_MSEC, HOURS, GROUP,
	     HELP("How long a client may take to read its answer.")),
#undef GROUP
#define GROUP .group = "Storage"
	INT("DEDUP_DAYS", dedup_days, "3", 1, 3650, GROUP,
	    HELP("Days for which the database at least remembers the keys of events.")),
	INT("RETENTION_DAYS", retention_days, "30", 0, 36500, GROUP,
	    HELP("Days after which events and settled dead letters are dropped; 0: never.")),
	TIME("MESSAGE_BATCH_TTL", message_batch_ttl, "7d", SECONDS, USEC_PER_SEC, 365 * 24 * HOURS,
	     GROUP,
	     HELP("How long Redis keeps a message batch's counters after their latest change.")),
	TIME("MAINTENANCE_INTERVAL", maintenance_interval, "10m", SECONDS, USEC_PER_SEC, 24 * HOURS,
	     GROUP,
	     HELP("How often partitions are made ahead and old ones are dropped.")),
#undef GROUP
#define GROUP .group = "Life cycle"
	TIME("SHUTDOWN_DELAY", shutdown_delay, "5s", SECONDS, 0, HOURS, GROUP,
	     .flags = CONF_RELOAD,
	     HELP("How long connections are still accepted after SIGTERM while readiness says 503.")),
	TIME("SHUTDOWN_GRACE", shutdown_grace, "25s", SECONDS, 100 * USEC_PER_MSEC, HOURS, GROUP,
	     .flags = CONF_RELOAD,
	     HELP("How long all of the shutdown may take; more than SHUTDOWN_DELAY.")),
	BOOL("CORE_DUMPS", core_dumps, "false", GROUP,
	     HELP("Let a crash leave a core file, and debuggers attach: the memory holds every "
	          "secret.")),
	BOOL("STRICT_DURABILITY", strict_durability, "false", GROUP,
	     HELP("Refuse to start when Redis or Postgres are set up so that a crash can lose an "
	          "answered event.")),
#undef GROUP
#define GROUP .group = "Log"
	TEXT("LOG_LEVEL", log_level, "info", 512, GROUP, .flags = CONF_RELOAD,
	     .check = log_check_levels, .allowed = ALLOWED_LEVELS,
	     HELP("The least level that is logged, also by component: info,pg:debug.")),
	ONE_OF("LOG_FORMAT", CONF_ENUM, log_format, "logfmt", choices_log_format, GROUP,
	       .flags = CONF_RELOAD,
	       HELP("Format of the lines on stderr.")),
#undef GROUP
};
/* clang-format on */

const size_t conf_row_count = sizeof(conf_rows) / sizeof(conf_rows[0]);

const struct conf_row *conf_row_find(struct str name)
{
	for (size_t i = 0; i < conf_row_count; i++) {
		const struct conf_row *row = &conf_rows[i];

		if (str_eq(name, str_of(row->name)) ||
		    (row->alias && str_eq(name, str_of(row->alias))))
			return row;
	}
	return NULL;
}

enum { NEAREST_MAX = 48 };

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Edit distance without regard to case: insertions, deletions, replacements. */
static size_t distance(struct str a, struct str b)
{
	size_t row[NEAREST_MAX + 1];

	for (size_t j = 0; j <= b.len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b.len; j++) {
			size_t above = row[j];
			bool same = toupper((unsigned char)a.ptr[i - 1]) ==
			            toupper((unsigned char)b.ptr[j - 1]);

			row[j] = least(least(above, row[j - 1]) + 1, diagonal + (same ? 0 : 1));
			diagonal = above;
		}
	}
	return row[b.len];
}

const char *conf_row_nearest(struct str name)
{
	const char *best = NULL;
	/* A third of the name may be wrong. */
	size_t best_distance = name.len / 3 + 1;

	if (name.len > NEAREST_MAX)
		return NULL;
	for (size_t i = 0; i < conf_row_count; i++) {
		struct str candidate = str_of(conf_rows[i].name);
		size_t d;

		if (candidate.len > NEAREST_MAX)
			continue;
		d = distance(name, candidate);
		if (d < best_distance) {
			best_distance = d;
			best = conf_rows[i].name;
		}
	}
	return best;
}
