/* Redis is asked through the same adapter that serve uses, on a loop of its own that ends with the
 * last answer; Postgres through the blocking helper. */
#include "weir/app/connect_check.h"

#include <stdarg.h>
#include <stdio.h>

#include "weir/app/connect.h"
#include "weir/base/buf.h"
#include "weir/io/pg_admin.h"
#include "weir/io/resolver.h"
#include "weir/run/conf.h"
#include "weir/run/loop.h"

struct check {
	const struct conf *conf; /* borrowed */
	connect_check_fn report;
	void *arg;
	struct loop *loop;   /* owned */
	struct redis *redis; /* owned */
	struct loop_timer deadline;
	bool reached;
};

static void say(struct check *k, bool ok, bool fatal, const char *fmt, ...) PRINTF_LIKE(4, 5);

static void say(struct check *k, bool ok, bool fatal, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	k->report(k->arg, ok, fatal, text);
}

/* What a safe Redis says, and what is lost otherwise. */
static const struct redis_rule {
	const char *name, *want, *loss;
} redis_rules[] = {
    {"appendonly", "yes", "a crash loses every event since the last snapshot"},
    {"appendfsync", "always", "a crash of the machine loses the last second of answered events"},
    {"no-appendfsync-on-rewrite", "no",
     "a crash during a rewrite of the append-only file loses events"},
    {"maxmemory-policy", "noeviction", "a full Redis throws the queue away"},
};
#define REDIS_RULES (sizeof(redis_rules) / sizeof(*redis_rules))

static const struct str *config_value(const struct redis_reply *reply, const char *name)
{
	for (size_t i = 0; i + 1 < reply->count; i += 2)
		if (str_eq(reply->items[i]->str, str_of(name)))
			return &reply->items[i + 1]->str;
	return NULL;
}

static void judge_redis(struct check *k, const struct redis_reply *reply)
{
	for (size_t i = 0; i < REDIS_RULES; i++) {
		const struct redis_rule *r = &redis_rules[i];
		const struct str *v = config_value(reply, r->name);

		if (!v)
			say(k, false, false, "redis: %s is not told", r->name);
		else if (str_eq(*v, str_of(r->want)))
			say(k, true, false, "redis: %s is %s", r->name, r->want);
		else
			say(k, false, k->conf->strict_durability, "redis: %s is %.*s, not %s: %s",
			    r->name, (int)v->len, v->ptr, r->want, r->loss);
	}
}

static void on_redis_config(void *arg, enum err err, const struct redis_reply *reply)
{
	struct check *k = arg;

	if (err == ERR_OK && reply->type == REDIS_ARRAY)
		judge_redis(k, reply);
	else
		say(k, false, false, "redis: CONFIG GET refused (%s): durability cannot be judged",
		    err_name(err));
	loop_stop(k->loop);
}

static void on_redis_state(void *arg, bool up)
{
	static const struct str argv[] = {{"CONFIG", 6},
	                                  {"GET", 3},
	                                  {"append*", 7},
	                                  {"no-appendfsync-on-rewrite", 25},
	                                  {"maxmemory-policy", 16}};
	struct check *k = arg;

	if (!up || k->reached)
		return;
	k->reached = true;
	say(k, true, false, "redis: %s answers", k->conf->redis_addr);
	if (redis_submit(k->redis, argv, 5, 0, on_redis_config, k) != ERR_OK)
		loop_stop(k->loop);
}

static void on_deadline(void *arg)
{
	struct check *k = arg;

	loop_stop(k->loop);
}

static enum err check_redis(struct check *k, usec_t timeout)
{
	struct redis_options o;
	struct resolver *resolver = NULL;
	enum err e = loop_new(&k->loop);

	connect_redis_options(k->conf, "check", &o);
	if (e == ERR_OK)
		e = resolver_new(k->loop, &resolver);
	if (e == ERR_OK)
		e = loop_timer_init(&k->deadline, k->loop, on_deadline, k);
	if (e == ERR_OK)
		e = redis_new(k->loop, resolver, &o, on_redis_state, k, &k->redis);
	if (e == ERR_OK) {
		loop_timer_set(&k->deadline, timeout);
		redis_start(k->redis);
		e = loop_run(k->loop);
	}
	if (e == ERR_OK && !k->reached) {
		e = ERR_UNAVAILABLE;
		say(k, false, true, "redis: %s does not answer: %s", k->conf->redis_addr,
		    redis_last_error(k->redis));
	}
	redis_free(k->redis);
	loop_timer_done(&k->deadline);
	resolver_free(resolver);
	loop_free(k->loop);
	return e;
}

static const struct pg_rule {
	const char *name, *want, *loss;
} pg_rules[] = {
    {"fsync", "on", "a crash of the machine can destroy the database"},
    {"full_page_writes", "on", "a crash of the machine can destroy the database"},
    {"transaction_read_only", "off", "this server takes no writes"},
};

static void judge_pg(struct check *k, struct pg_admin *pg)
{
	for (size_t i = 0; i < sizeof(pg_rules) / sizeof(*pg_rules); i++) {
		const struct pg_rule *r = &pg_rules[i];
		struct err_info info = {0};
		struct buf v;

		buf_init(&v, 256);
		if (pg_admin_value1(pg, "SELECT current_setting($1)", r->name, &v, &info) != ERR_OK)
			say(k, false, false, "postgres: %s: %s", r->name, info.text);
		else if (str_eq(buf_str(&v), str_of(r->want)))
			say(k, true, false, "postgres: %s is %s", r->name, r->want);
		else
			say(k, false, k->conf->strict_durability,
			    "postgres: %s is %.*s, not %s: %s", r->name, (int)v.len, v.ptr, r->want,
			    r->loss);
		buf_done(&v);
	}
}

static void judge_schema(struct check *k, struct pg_admin *pg)
{
	struct err_info info = {0};
	struct buf v;

	buf_init(&v, 256);
	if (pg_admin_value(pg, "SELECT to_regclass('weir.events') IS NOT NULL", &v, &info) !=
	    ERR_OK)
		say(k, false, false, "postgres: %s", info.text);
	else if (str_eq(buf_str(&v), STR("t")))
		say(k, true, false, "postgres: the schema weir is there");
	else
		say(k, false, false, "postgres: the schema weir is missing: run `weir migrate up`");
	buf_done(&v);
}

static enum err check_pg(struct check *k)
{
	struct pg_options o;
	struct err_info info = {0};
	struct pg_admin *pg;
	enum err e;

	connect_pg_options(k->conf, &o);
	e = pg_admin_open(&o, &pg, &info);
	if (e != ERR_OK) {
		say(k, false, true, "postgres: %s", info.text);
		return e == ERR_DENIED || e == ERR_NOTFOUND ? ERR_INVAL : ERR_UNAVAILABLE;
	}
	say(k, true, false, "postgres: answers");
	judge_pg(k, pg);
	judge_schema(k, pg);
	pg_admin_close(pg);
	return ERR_OK;
}

enum err connect_check_run(const struct conf *c, usec_t timeout, connect_check_fn report, void *arg)
{
	struct check k = {.conf = c, .report = report, .arg = arg};
	enum err redis = connect_wants_redis(k.conf) ? check_redis(&k, timeout) : ERR_OK;
	enum err pg = check_pg(&k);

	return redis != ERR_OK ? redis : pg;
}
