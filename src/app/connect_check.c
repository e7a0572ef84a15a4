/* The same adapters and the same audit that serve has, on a loop that ends as soon as both servers
 * have been asked. Postgres is tried over a blocking connection first, which tells a server that
 * refuses us from one that is away. */
#include "weir/app/connect_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "weir/app/connect.h"
#include "weir/app/durability.h"
#include "weir/app/migration.h"
#include "weir/base/buf.h"
#include "weir/io/pg_admin.h"
#include "weir/io/resolver.h"
#include "weir/run/conf.h"
#include "weir/run/loop.h"

#define LOOK_PERIOD (5 * USEC_PER_MSEC)

struct check {
	const struct conf *conf; /* borrowed */
	connect_check_fn report;
	void *arg;
	struct loop *loop; /* owned, like all below */
	struct resolver *resolver;
	struct redis *redis;
	struct pg_pool *pool; /* NULL: not reached, or this process would use none */
	struct durability *audit;
	struct loop_timer timer;
	usec_t deadline;
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

static void on_timer(void *arg)
{
	struct check *k = arg;
	struct err_info info;
	bool redis = durability_knows_redis(k->audit) ||
	             (k->redis && connect_redis_refusal(k->conf, k->redis, &info) != ERR_OK);
	bool known = redis && durability_knows_pg(k->audit);

	if (known || clock_mono() >= k->deadline)
		loop_stop(k->loop);
	else
		loop_timer_set(&k->timer, LOOK_PERIOD);
}

/* serve refuses a schema from the future whatever STRICT_DURABILITY says. */
static void say_findings(struct check *k, int from, int to)
{
	const struct durability_finding *f = durability_findings(k->audit);
	struct buf text;

	buf_init(&text, 1024);
	for (int s = from; s < to; s++) {
		bool fatal = k->conf->strict_durability ||
		             (s == DURABILITY_SCHEMA && strncmp(f[s].value, "newer", 5) == 0);

		buf_reset(&text);
		durability_print(&f[s], (enum durability_setting)s, &text);
		say(k, f[s].verdict == DURABILITY_SAFE, fatal, "%s", text.ptr ? text.ptr : "");
	}
	buf_done(&text);
}

static enum err say_redis(struct check *k)
{
	struct err_info info = {0};

	if (!k->redis)
		return ERR_OK;
	if (connect_redis_refusal(k->conf, k->redis, &info) != ERR_OK) {
		say(k, false, true, "redis: %s", info.text);
		return info.code;
	}
	if (!durability_knows_redis(k->audit)) {
		say(k, false, true, "redis: %s does not answer: %s", k->conf->redis_addr,
		    redis_last_error(k->redis));
		return ERR_UNAVAILABLE;
	}
	say(k, true, false, "redis: %s answers", k->conf->redis_addr);
	say_findings(k, 0, DURABILITY_SYNCHRONOUS_COMMIT);
	return ERR_OK;
}

static enum err say_pg(struct check *k)
{
	struct pg_pool_stats s;

	if (!k->pool)
		return ERR_OK;
	if (!durability_knows_pg(k->audit)) {
		pg_pool_stats(k->pool, &s);
		say(k, false, true, "postgres: %s", s.last_error[0] ? s.last_error : "timed out");
		return ERR_UNAVAILABLE;
	}
	say(k, true, false, "postgres: answers");
	say_findings(k, DURABILITY_SYNCHRONOUS_COMMIT, DURABILITY_COUNT);
	return ERR_OK;
}

static enum err reach_pg(struct check *k)
{
	struct pg_options o;
	struct err_info info = {0};
	struct pg_admin *pg;
	enum err e;

	if (!(k->conf->roles & ROLE_WORKER))
		return ERR_OK;
	connect_pg_options(k->conf, &o);
	e = pg_admin_open(&o, &pg, &info);
	if (e == ERR_OK) {
		pg_admin_close(pg);
		o.size = 1;
		return pg_pool_new(k->loop, k->resolver, &o, &k->pool);
	}
	say(k, false, true, "postgres: %s", info.text);
	return e == ERR_DENIED || e == ERR_NOTFOUND ? ERR_INVAL : ERR_UNAVAILABLE;
}

static enum err make(struct check *k)
{
	struct redis_options o;
	enum err e = loop_new(&k->loop);

	connect_redis_options(k->conf, "check", &o);
	if (e == ERR_OK)
		e = loop_timer_init(&k->timer, k->loop, on_timer, k);
	if (e == ERR_OK)
		e = resolver_new(k->loop, &k->resolver);
	if (e == ERR_OK && connect_wants_redis(k->conf))
		e = redis_new(k->loop, k->resolver, &o, NULL, NULL, &k->redis);
	return e;
}

static enum err ask(struct check *k, usec_t timeout)
{
	struct durability_options o = {
	    .loop = k->loop, .redis = k->redis, .pool = k->pool, .migrations = migrations};
	enum err e = durability_new(&o, &k->audit);

	if (e != ERR_OK)
		return e;
	if (k->redis)
		redis_start(k->redis);
	if (k->pool)
		pg_pool_start(k->pool);
	durability_start(k->audit);
	k->deadline = clock_mono() + timeout;
	loop_timer_set(&k->timer, LOOK_PERIOD);
	return loop_run(k->loop);
}

static void done(struct check *k)
{
	if (k->audit)
		durability_stop(k->audit);
	redis_free(k->redis);
	pg_pool_free(k->pool);
	durability_free(k->audit);
	loop_timer_done(&k->timer);
	resolver_free(k->resolver);
	loop_free(k->loop);
}

enum err connect_check_run(const struct conf *c, usec_t timeout, connect_check_fn report, void *arg)
{
	struct check k = {.conf = c, .report = report, .arg = arg};
	enum err e = make(&k), pg, redis;

	pg = e == ERR_OK ? reach_pg(&k) : e;
	if (e == ERR_OK)
		e = ask(&k, timeout);
	if (e == ERR_OK) {
		redis = say_redis(&k);
		e = say_pg(&k);
		e = redis != ERR_OK ? redis : e;
	}
	done(&k);
	/* To wait helps with a server that is away, not if the other one refuses us. */
	return e != ERR_OK && pg != ERR_INVAL ? e : pg;
}
