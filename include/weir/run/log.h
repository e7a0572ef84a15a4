/* Structured log on stderr: logfmt or JSON lines. Never blocks: what a full pipe does not take is
 * dropped and counted. Foreign text is escaped. Each call site is limited to 10 lines a second; the
 * next line that passes says how many were suppressed.
 *
 *   log_warn(LOG_REDIS, "connection lost", LOG_STR("reason", why), LOG_INT("attempt", n));
 *
 * base and io log at debug only, except where nobody above would learn of it; an error is logged
 * once, where it is decided. Never log bodies, signatures, secrets, Authorization or Cookie. */
#ifndef WEIR_RUN_LOG_H
#define WEIR_RUN_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

#define LOG_COMPONENTS(X)           \
	X(LOG_APP, "app")           \
	X(LOG_LOOP, "loop")         \
	X(LOG_CONF, "conf")         \
	X(LOG_HTTP, "http")         \
	X(LOG_REDIS, "redis")       \
	X(LOG_PG, "pg")             \
	X(LOG_RECEIVE, "receive")   \
	X(LOG_QUEUE, "queue")       \
	X(LOG_PIPELINE, "pipeline") \
	X(LOG_DELIVER, "deliver")   \
	X(LOG_SCHEDULE, "schedule") \
	X(LOG_HEALTH, "health")     \
	X(LOG_DEV, "dev")

#define LOG_ENUM(code, name) code,
enum log_component { LOG_COMPONENTS(LOG_ENUM) LOG_COMPONENT_COUNT };
#undef LOG_ENUM

enum log_kind { LOG_END, LOG_KIND_STR, LOG_KIND_INT, LOG_KIND_NUM, LOG_KIND_BOOL };

struct log_field {
	enum log_kind kind;
	const char *key; /* literal, [a-z_]+ */
	struct str str;
	int64_t integer;
	double number;
};

#define LOG_STR(k, cstr) ((struct log_field){.kind = LOG_KIND_STR, .key = (k), .str = str_of(cstr)})
#define LOG_SLICE(k, s)  ((struct log_field){.kind = LOG_KIND_STR, .key = (k), .str = (s)})
#define LOG_INT(k, v) \
	((struct log_field){.kind = LOG_KIND_INT, .key = (k), .integer = (int64_t)(v)})
#define LOG_NUM(k, v)     ((struct log_field){.kind = LOG_KIND_NUM, .key = (k), .number = (v)})
#define LOG_BOOL(k, v)    ((struct log_field){.kind = LOG_KIND_BOOL, .key = (k), .integer = (v)})
#define LOG_MSEC(k, usec) LOG_NUM(k, (double)(usec) / 1000.0)
#define LOG_ERR(e)        LOG_STR("error", err_name(e))

/* One per call site, static. */
struct log_site {
	enum log_component component;
	enum log_level level;
	usec_t window;       /* start of the current second */
	uint32_t in_window;  /* lines in it */
	uint32_t suppressed; /* since the last line that passed */
};

/* "info", or "info,pg:debug,http:warn". ERR_INVAL names the part and what is allowed. */
enum err log_set_levels(const char *spec, struct err_info *info) MUST_CHECK;
/* The same check without effect. */
enum err log_check_levels(const char *spec, struct err_info *info) MUST_CHECK;
void log_set_format(enum log_format f);
void log_set_fd(int fd); /* default 2; borrowed */
/* Correlation id of the work at hand (the request id), put on every line until it is cleared with
 * STR_NONE. Borrowed. */
void log_set_correlation(struct str request_id);
bool log_enabled(enum log_component c, enum log_level level);
/* `fields` ends with a field of kind LOG_END. */
void log_write(struct log_site *site, const char *message, const struct log_field *fields);
uint64_t log_dropped(void); /* lines that the pipe or disk did not take */

#define LOG_AT(lvl, comp, msg, ...)                                                       \
	do {                                                                              \
		static struct log_site log_site_ = {.component = (comp), .level = (lvl)}; \
		if (log_enabled((comp), (lvl)))                                           \
			log_write(&log_site_, (msg),                                      \
			          (const struct log_field[]){                             \
			              __VA_ARGS__ __VA_OPT__(, ){.kind = LOG_END}});      \
	} while (0)

#define log_debug(comp, ...) LOG_AT(LOG_LEVEL_DEBUG, comp, __VA_ARGS__)
#define log_info(comp, ...)  LOG_AT(LOG_LEVEL_INFO, comp, __VA_ARGS__)
#define log_warn(comp, ...)  LOG_AT(LOG_LEVEL_WARN, comp, __VA_ARGS__)
#define log_error(comp, ...) LOG_AT(LOG_LEVEL_ERROR, comp, __VA_ARGS__)

#endif
