/* A loop with a connection to a private redis-server, and answers to wait for: what the tests of
 * io/redis and of the queue share. */
#ifndef WEIR_TEST_REDIS_RIG_H
#define WEIR_TEST_REDIS_RIG_H

#include "redis_server.h"
#include "torture.h"
#include "turn.h"
#include "weir/io/redis.h"
#include "weir/io/resolver.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"

static struct redis_server server;

#define NEED_SERVER()            \
	do {                     \
		if (!server.pid) \
			skip();  \
	} while (0)

struct rig {
	struct loop *loop;
	struct resolver *resolver;
	struct redis *redis;
	struct turn turn;
	int ups, downs;
};

/* What a completion said. */
struct answer {
	struct rig *rig;
	int fired;
	enum err err;
	bool had_reply;
	enum redis_type type;
	int64_t integer;
	size_t count, len;
	char text[256];
};

static inline bool is_up(struct rig *r)
{
	return redis_up(r->redis);
}

static inline bool is_down(struct rig *r)
{
	return !redis_up(r->redis);
}

static inline void on_redis_state(void *arg, bool up)
{
	struct rig *r = arg;

	if (up)
		r->ups++;
	else
		r->downs++;
}

static inline struct redis_options rig_options(void)
{
	return (struct redis_options){.name = "test", .addr = server.addr};
}

/* The loop alone. */
static inline void rig_open(struct rig *r)
{
	*r = (struct rig){0};
	assert_int_equal(loop_new(&r->loop), ERR_OK);
	assert_int_equal(turn_init(&r->turn, r, r->loop), ERR_OK);
	assert_int_equal(resolver_new(r->loop, &r->resolver), ERR_OK);
}

static inline void rig_connect(struct rig *r, const struct redis_options *o)
{
	assert_int_equal(redis_new(r->loop, r->resolver, o, on_redis_state, r, &r->redis), ERR_OK);
	redis_start(r->redis);
}

static inline void rig_init(struct rig *r, const struct redis_options *o)
{
	rig_open(r);
	rig_connect(r, o);
	assert_true(turn_until(r, is_up, LONG_MSEC));
}

static inline void rig_done(struct rig *r)
{
	redis_free(r->redis);
	resolver_free(r->resolver);
	turn_done(&r->turn);
	loop_free(r->loop);
	*r = (struct rig){0};
}

static inline void on_answer(void *arg, enum err err, const struct redis_reply *reply)
{
	struct answer *a = arg;

	a->fired++;
	a->err = err;
	a->had_reply = reply != NULL;
	if (!reply)
		return;
	a->type = reply->type;
	a->integer = reply->integer;
	a->count = reply->count;
	a->len = reply->str.len;
	snprintf(a->text, sizeof(a->text), "%.*s", (int)reply->str.len, reply->str.ptr);
}

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

static inline bool await(struct rig *r, struct answer *a, size_t n, int msec)
{
	waited_for = a;
	waited_count = n;
	return turn_until(r, answered, msec);
}

/* Words are separated by single spaces. */
static inline size_t words(const char *line, struct str *argv, size_t most)
{
	struct str rest = str_of(line);
	size_t n = 0;

	while (rest.ptr && n < most)
		argv[n++] = str_split(&rest, ' ');
	return n;
}

static inline enum err submit(struct rig *r, const char *line, usec_t timeout, struct answer *a)
{
	struct str argv[32];
	size_t n = words(line, argv, 32);

	*a = (struct answer){.rig = r};
	return redis_submit(r->redis, argv, n, timeout, on_answer, a);
}

/* Submits and waits for the answer. */
static inline struct answer ask(struct rig *r, const char *line)
{
	struct answer a;

	assert_int_equal(submit(r, line, 0, &a), ERR_OK);
	assert_int_equal(a.fired, 0);
	assert_true(await(r, &a, 1, LONG_MSEC));
	return a;
}

static inline int start_server(void **state)
{
	(void)state;
	(void)redis_server_start(&server, NULL); /* tests skip when there is none */
	return 0;
}

static inline int stop_server(void **state)
{
	(void)state;
	redis_server_remove(&server);
	return 0;
}

/* Before a test: nothing is left of those before it. */
static inline int clean(void **state)
{
	char text[16];

	(void)state;
	if (server.pid)
		assert_true(redis_server_say(&server, "FLUSHALL\r\n", text, sizeof(text)));
	return 0;
}

static inline bool failed_to_connect(struct rig *r)
{
	return redis_last_error(r->redis)[0] != '\0';
}

#endif
