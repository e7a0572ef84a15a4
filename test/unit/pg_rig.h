/* A pool on a private server, and answers to wait for: what the tests of io/pg share. */
#ifndef WEIR_TEST_PG_RIG_H
#define WEIR_TEST_PG_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pg_server.h"
#include "turn.h"
#include "weir/base/buf.h"
#include "weir/base/mem.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"

static struct pg_server server;

struct rig {
	struct loop *loop;
	struct pg_pool *pool;
	struct turn turn;
	size_t changes;
};

/* What one completion said. */
struct answer {
	struct rig *rig;
	int fired;
	enum err err;
	size_t rows, affected, count, call;
	int64_t number;
	char text[64], sqlstate[6], constraint[64], message[128];
};

static struct answer *waited_for;
static size_t waited_count;

static inline bool answered(struct rig *r)
{
	(void)r;
	for (size_t i = 0; i < waited_count; i++)
		if (!waited_for[i].fired)
			return false;
	return true;
}

static inline bool is_up(struct rig *r)
{
	return pg_pool_up(r->pool);
}

static inline bool is_down(struct rig *r)
{
	return !pg_pool_up(r->pool);
}

static inline void await(struct answer *a, size_t n, int msec)
{
	waited_for = a;
	waited_count = n;
	assert_true(turn_until(a->rig, answered, msec));
	for (size_t i = 0; i < n; i++)
		assert_int_equal(a[i].fired, 1);
}

static inline void copy(char *to, size_t space, struct str s)
{
	size_t n = s.len < space - 1 ? s.len : space - 1;

	memcpy(to, s.len ? s.ptr : "", n);
	to[n] = '\0';
}

static inline void on_answer(void *arg, enum err err, const struct pg_outcome *o)
{
	struct answer *a = arg;

	a->fired++;
	a->err = err;
	a->count = o->count;
	if (err == ERR_OK) {
		const struct pg_result *last = o->results[o->count - 1];

		a->rows = pg_rows(last);
		a->affected = pg_affected(last);
		a->number = pg_int8(last, 0, 0);
		copy(a->text, sizeof(a->text), pg_value(last, 0, 0));
		return;
	}
	a->call = o->failure.call;
	copy(a->sqlstate, sizeof(a->sqlstate), str_of(o->failure.sqlstate));
	copy(a->constraint, sizeof(a->constraint), str_of(o->failure.constraint));
	copy(a->message, sizeof(a->message), str_of(o->failure.message));
}

static inline void on_change(void *arg)
{
	((struct rig *)arg)->changes++;
}

static inline void rig_init(struct rig *r, const struct pg_options *o)
{
	memset(r, 0, sizeof(*r));
	assert_int_equal(loop_new(&r->loop), ERR_OK);
	assert_int_equal(turn_init(&r->turn, r, r->loop), ERR_OK);
	assert_int_equal(pg_pool_new(r->loop, NULL, o, &r->pool), ERR_OK);
	pg_pool_on_change(r->pool, on_change, r);
	pg_pool_start(r->pool);
}

static inline void rig_done(struct rig *r)
{
	pg_pool_free(r->pool);
	turn_done(&r->turn);
	loop_free(r->loop);
}

static inline struct rig *rig_of(void **state)
{
	return *state;
}

static inline int setup(void **state)
{
	static struct rig r;
	struct pg_options o = pg_server_options(&server);

	if (!server.pid)
		return 0;
	rig_init(&r, &o);
	*state = &r;
	return 0;
}

static inline int teardown(void **state)
{
	if (*state)
		rig_done(*state);
	*state = NULL;
	return 0;
}

#define NEED_SERVER()    \
	if (!server.pid) \
	skip()

/* Submits `n` statements without parameters. */
static inline enum err submit_sql(struct answer *a, struct pg_call *calls,
                                  const struct pg_stmt *stmts, size_t n, usec_t timeout)
{
	for (size_t i = 0; i < n; i++)
		calls[i] = (struct pg_call){&stmts[i], NULL};
	return pg_submit(a->rig->pool, calls, n, timeout, on_answer, a);
}

static inline void run_sql_for(struct rig *r, const char *sql, struct answer *a, usec_t timeout,
                               int msec)
{
	struct pg_stmt s = {.sql = sql};
	struct pg_call call;

	*a = (struct answer){.rig = r};
	assert_int_equal(submit_sql(a, &call, &s, 1, timeout), ERR_OK);
	assert_int_equal(a->fired, 0); /* never inside the submit */
	await(a, 1, msec);
}

static inline void run_sql(struct rig *r, const char *sql, struct answer *a)
{
	run_sql_for(r, sql, a, 0, 20000);
}

static inline int64_t number(struct rig *r, const char *sql)
{
	struct answer a;

	run_sql(r, sql, &a);
	assert_int_equal(a.err, ERR_OK);
	return a.number;
}

static inline int start_server(void **state)
{
	(void)state;
	(void)pg_server_start(&server); /* tests skip when there is none */
	return 0;
}

static inline int stop_server(void **state)
{
	(void)state;
	pg_server_remove(&server);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* WEIR_TEST_LOG=debug shows what the pool does. */
static inline bool quiet_log(void)
{
	const char *levels = getenv("WEIR_TEST_LOG");

	return log_set_levels(levels ? levels : "error", NULL) == ERR_OK;
}

#endif
