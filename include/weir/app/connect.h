/* From settings to the options of the adapters. The options borrow the conf's strings. */
#ifndef WEIR_APP_CONNECT_H
#define WEIR_APP_CONNECT_H

#include <stdbool.h>

#include "weir/io/pg.h"
#include "weir/io/redis.h"

struct conf;

void connect_pg_options(const struct conf *c, struct pg_options *ret);
/* `name` says what the connection is for; a literal. */
void connect_redis_options(const struct conf *c, const char *name, struct redis_options *ret);
/* False: there is no queue and REDIS_ADDR was not set, so nothing here connects to Redis. */
bool connect_wants_redis(const struct conf *c);

/* ERR_INVAL, with the settings to look at in `info`: the server answers and does not let us in.
 * What the set-up has got wrong time does not put right, so it ends a start; ERR_OK is everything
 * else. */
enum err connect_pg_refusal(const struct pg_pool_stats *s, struct err_info *info) MUST_CHECK;
enum err connect_redis_refusal(const struct conf *c, const struct redis *r,
                               struct err_info *info) MUST_CHECK;

/* One is named, by a setting or by libpq's environment. */
bool connect_names_database(const struct conf *c);
/* Whether this process has a database: a worker always does; others if one was named. */
bool connect_has_database(const struct conf *c);

#endif
