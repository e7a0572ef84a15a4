/* From settings to the options of the adapters. The options borrow the conf's strings. */
#ifndef WEIR_APP_CONNECT_H
#define WEIR_APP_CONNECT_H

#include "weir/io/pg.h"
#include "weir/io/redis.h"

struct conf;

void connect_pg_options(const struct conf *c, struct pg_options *ret);
/* `name` says what the connection is for; a literal. */
void connect_redis_options(const struct conf *c, const char *name, struct redis_options *ret);

#endif
