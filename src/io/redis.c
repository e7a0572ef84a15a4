/* One connection as a state machine. What a turn of the loop submits is gathered in one buffer and
 * written by a hook at the turn's end; replies come back in order, so the commands that wait stand
 * in a ring. hiredis 0.14 has no command timeouts and no TLS, which is why only its parser is used.
 *
 * A command past its deadline takes the connection with it: whatever came later on it could not be
 * told from the late reply. */
#include "weir/io/redis.h"

#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "redis_priv.h"
#include "weir/base/mem.h"
#include "weir/run/log.h"

#define DEFAULT_TIMEOUT     (5 * USEC_PER_SEC)
#define DEFAULT_MAX_PENDING 65536
#define DEFAULT_MAX_OUTPUT  (64 * 1024 * 1024)
#define DEFAULT_PORT        6379

#define REDIS_NAME(s) #s,
static const char *const state_names[] = {REDIS_STATES(REDIS_NAME)};

/* Which states may follow; bits of enum redis_state. redis_stop() goes to STOPPED from anywhere. */
#define TO(state) (1u << REDIS_##state)
static const unsigned may_follow[] = {
    [REDIS_STOPPED] = TO(RESOLVING),
    [REDIS_RESOLVING] = TO(CONNECTING) | TO(BACKOFF),
    [REDIS_CONNECTING] = TO(CONNECTING) | TO(HANDSHAKE) | TO(BACKOFF),
    [REDIS_HANDSHAKE] = TO(UP) | TO(CONNECTING) | TO(BACKOFF),
    [REDIS_UP] = TO(BACKOFF),
    [REDIS_BACKOFF] = TO(RESOLVING),
};

void redis_set_state(struct redis *r, enum redis_state to)
{
	enum redis_state from = r->state;

	if (!(may_follow[from] & 1u << to))
		log_error(LOG_REDIS, "a connection in an impossible state",
		          LOG_STR("from", state_names[from]), LOG_STR("to", state_names[to]));
	log_debug(LOG_REDIS, "state", LOG_STR("connection", r->o.name),
	          LOG_STR("from", state_names[from]), LOG_STR("to", state_names[to]));
	r->state = to;
	if (to == REDIS_UP) {
		r->up_since = loop_now(r->loop);
		r->reported[0] = '\0';
		r->connected = ERR_OK;
		if (r->reconnects++)
			log_info(LOG_REDIS, "connected again", LOG_STR("connection", r->o.name));
	}
	if ((from == REDIS_UP) != (to == REDIS_UP) && r->on_state)
		r->on_state(r->arg, to == REDIS_UP);
}

void redis_enter(struct redis *r)
{
	r->busy++;
}

void redis_leave(struct redis *r)
{
	if (--r->busy > 0)
		return;
	redis_reader_free(r->retired);
	r->retired = NULL;
	if (r->free_wanted)
		redis_free(r);
}

/* What was sent already must not count against the bound. */
static void make_space(struct redis *r, const struct redis_command *cmds, size_t n)
{
	size_t size = 0;

	for (size_t i = 0; i < n; i++)
		size += redis_wire_size(cmds[i].argv, cmds[i].argc);
	if (r->out_pos && r->out.len + size > r->out.cap) {
		buf_consume(&r->out, r->out_pos);
		r->out_pos = 0;
	}
}

/* Commands of one submit, whole or not at all. */
enum err redis_enqueue(struct redis *r, const struct redis_command *cmds, size_t n,
                       const struct pending *waiting)
{
	enum err e = pending_reserve(&r->pending, n);
	size_t before;

	make_space(r, cmds, n);
	before = r->out.len;
	for (size_t i = 0; i < n && e == ERR_OK; i++)
		e = redis_wire_add(&r->out, cmds[i].argv, cmds[i].argc);
	if (e != ERR_OK) {
		r->out.len = before;
		return e == ERR_TOOBIG ? ERR_FULL : e;
	}
	for (size_t i = 0; i < n; i++)
		pending_push(&r->pending, &waiting[i]);
	r->unsent += n;
	return ERR_OK;
}

/* ---- deadlines ---- */

static void check_deadlines(struct redis *r)
{
	usec_t next = pending_next_deadline(&r->pending), now = loop_now(r->loop);

	/* After a stall of ours the answer may lie among what was not read yet. */
	if (next <= now && list_linked(&r->read_task.node))
		loop_timer_set(&r->watchdog, USEC_PER_MSEC);
	else if (next <= now)
		redis_lose(r, ERR_TIMEOUT, "a command was not answered in time");
	else if (next != USEC_NEVER)
		loop_timer_set(&r->watchdog, next - now);
}

static void on_watchdog(void *arg)
{
	struct redis *r = arg;

	redis_enter(r);
	switch (r->state) {
	case REDIS_STOPPED:
		break;
	case REDIS_BACKOFF:
		redis_resolve(r);
		break;
	case REDIS_RESOLVING:
		redis_lose(r, ERR_CLOSED, "the host's name was not resolved in time");
		break;
	case REDIS_CONNECTING:
		redis_lose(r, ERR_CLOSED,
		           r->o.tls ? "no TLS connection in time; does it speak TLS on this port?"
		                    : "no connection in time");
		break;
	case REDIS_HANDSHAKE:
		redis_lose(r, ERR_CLOSED, "the greeting was not answered in time");
		break;
	case REDIS_UP:
		check_deadlines(r);
		break;
	}
	redis_leave(r);
}

/* ---- submitting ---- */

static usec_t deadline_of(struct redis *r, usec_t timeout)
{
	usec_t now = loop_now(r->loop), deadline = now + (timeout ? timeout : r->o.command_timeout);

	if (!loop_timer_armed(&r->watchdog) || r->watchdog.due > deadline)
		loop_timer_set(&r->watchdog, deadline - now);
	return deadline;
}

enum err redis_submit(struct redis *r, const struct str *argv, size_t argc, usec_t timeout,
                      redis_reply_fn cb, void *arg)
{
	struct redis_command cmd = {argv, argc};
	struct pending p = {.kind = PENDING_COMMAND, .fn = cb, .arg = arg};

	if (r->state != REDIS_UP)
		return ERR_UNAVAILABLE;
	p.deadline = deadline_of(r, timeout);
	return redis_enqueue(r, &cmd, 1, &p);
}

enum err redis_submit_multi(struct redis *r, const struct redis_command *cmds, size_t n,
                            usec_t timeout, redis_reply_fn cb, void *arg)
{
	static const struct str multi[] = {{"MULTI", 5}}, exec[] = {{"EXEC", 4}};
	size_t total = n + 2;
	struct redis_command *all;
	struct pending *waiting;
	usec_t deadline;
	enum err e = ERR_NOMEM;

	if (r->state != REDIS_UP)
		return ERR_UNAVAILABLE;
	all = mem_array(total, sizeof(*all));
	waiting = mem_array(total, sizeof(*waiting));
	if (!all || !waiting)
		goto out;
	deadline = deadline_of(r, timeout);
	for (size_t i = 0; i < total; i++) {
		all[i] =
		    i > 0 && i <= n ? cmds[i - 1] : (struct redis_command){i ? exec : multi, 1};
		waiting[i] = (struct pending){.kind = i ? PENDING_PART : PENDING_MULTI,
		                              .deadline = deadline};
	}
	waiting[total - 1].kind = PENDING_EXEC;
	waiting[total - 1].fn = cb;
	waiting[total - 1].arg = arg;
	e = redis_enqueue(r, all, total, waiting);
out:
	mem_free(all);
	mem_free(waiting);
	return e;
}

/* A connection without work would not notice that its server became a replica, or is gone. One that
 * waits for an answer learns it from that, and the question behind it would have to wait as long.
 */
static void on_pulse(void *arg)
{
	static const struct str role = {"ROLE", 4};
	struct redis *r = arg;
	struct redis_command cmd = {&role, 1};
	struct pending p = {.kind = PENDING_ROLE};

	if (r->pending.count == 0) {
		p.deadline = deadline_of(r, 0);
		if (redis_enqueue(r, &cmd, 1, &p) != ERR_OK)
			log_debug(LOG_REDIS, "the role is not asked for",
			          LOG_STR("connection", r->o.name));
	}
	loop_timer_set(&r->pulse, REDIS_PULSE);
}

/* ---- life ---- */

/* HOST:PORT, [v6]:PORT, HOST or unix:/path. The host gets a NUL behind it. */
static enum err parse_addr(struct redis *r, char *addr)
{
	char *colon = strrchr(addr, ':');
	int64_t port = DEFAULT_PORT;

	if (strncmp(addr, "unix:", 5) == 0)
		return strlen(addr + 5) < sizeof(((struct sockaddr_un *)0)->sun_path) ? ERR_OK
		                                                                      : ERR_INVAL;
	if (*addr == '[') {
		char *end = strchr(addr, ']');

		if (!end)
			return ERR_INVAL;
		colon = end[1] == ':' ? end + 1 : NULL;
		*end = '\0';
		addr++;
	}
	if (colon && str_to_int(str_of(colon + 1), 1, 65535, &port) != ERR_OK)
		return ERR_INVAL;
	if (colon)
		*colon = '\0';
	r->host = str_of(addr);
	r->port = (uint16_t)port;
	return r->host.len ? ERR_OK : ERR_INVAL;
}

/* One block for all strings; the address twice, since one copy is cut into host and port. */
static enum err copy_strings(struct redis *r, const struct redis_options *o)
{
	const char **to[] = {&r->o.addr, &r->o.username, &r->o.password, &r->o.tls_ca_file,
	                     &r->o.name};
	const char *from[] = {o->addr, o->username, o->password, o->tls_ca_file, o->name};
	size_t n = sizeof(to) / sizeof(*to), total = strlen(o->addr) + 1;
	char *p;

	for (size_t i = 0; i < n; i++)
		total += (from[i] ? strlen(from[i]) : 0) + 1;
	p = r->strings = mem_zalloc(total);
	if (!p)
		return ERR_NOMEM;
	r->strings_len = total;
	for (size_t i = 0; i < n; i++) {
		size_t len = from[i] ? strlen(from[i]) : 0;

		if (len)
			memcpy(p, from[i], len);
		*to[i] = p;
		p += len + 1;
	}
	memcpy(p, o->addr, strlen(o->addr));
	return parse_addr(r, p);
}

static void on_stop_told(void *arg)
{
	struct redis *r = arg;
	struct pending *p;

	redis_enter(r);
	while ((p = pending_front(&r->stopped))) {
		struct pending one = *p;

		pending_pop(&r->stopped);
		pending_tell(&one, ERR_CANCELLED);
	}
	redis_leave(r);
}

enum err redis_new(struct loop *l, struct resolver *res, const struct redis_options *opts,
                   redis_state_fn on_state, void *arg, struct redis **ret)
{
	struct redis *r = mem_zalloc(sizeof(*r));
	struct err_info info = {0};
	enum err e;

	if (!r)
		return ERR_NOMEM;
	r->loop = l;
	r->resolver = res;
	r->o = *opts;
	r->on_state = on_state;
	r->arg = arg;
	r->connected = ERR_AGAIN;
	r->o.connect_timeout = opts->connect_timeout ? opts->connect_timeout : DEFAULT_TIMEOUT;
	r->o.command_timeout = opts->command_timeout ? opts->command_timeout : DEFAULT_TIMEOUT;
	r->o.max_pending = opts->max_pending ? opts->max_pending : DEFAULT_MAX_PENDING;
	buf_init(&r->out, opts->max_output ? opts->max_output : DEFAULT_MAX_OUTPUT);
	pending_init(&r->pending, r->o.max_pending);
	pending_init(&r->stopped, r->o.max_pending);
	loop_task_init(&r->read_task, redis_on_readable, r);
	loop_task_init(&r->stop_task, on_stop_told, r);
	loop_task_init(&r->broken_task, redis_on_broken, r);
	loop_hook_add(l, &r->flush_hook, redis_on_turn_end, r);
	e = loop_timer_init(&r->watchdog, l, on_watchdog, r);
	if (e == ERR_OK)
		e = loop_timer_init(&r->pulse, l, on_pulse, r);
	if (e == ERR_OK)
		e = copy_strings(r, opts);
	if (e == ERR_OK && opts->tls && !r->host.len) {
		log_error(LOG_REDIS, "TLS needs a host, not a socket's path");
		e = ERR_INVAL;
	}
	if (e == ERR_OK && opts->tls) {
		e = net_tls_new(r->o.tls_ca_file, &r->tls, &info);
		if (e != ERR_OK)
			log_error(LOG_REDIS, "TLS is not usable", LOG_STR("detail", info.text));
	}
	if (e != ERR_OK) {
		redis_free(r);
		return e;
	}
	*ret = r;
	return ERR_OK;
}

void redis_start(struct redis *r)
{
	if (r->state == REDIS_STOPPED)
		redis_resolve(r);
}

void redis_stop(struct redis *r)
{
	struct pending_ring none = r->stopped;

	if (r->state == REDIS_STOPPED)
		return;
	redis_close(r);
	loop_timer_stop(&r->watchdog);
	/* Exchanged, because that needs no memory. If the last stop's are not told yet, there was
	 * no turn for more than a greeting to be said, and of that nobody needs to learn. */
	if (none.count == 0) {
		r->stopped = r->pending;
		r->pending = none;
	}
	r->pending.head = r->pending.count = 0;
	loop_defer(r->loop, &r->stop_task);
	log_debug(LOG_REDIS, "stopped", LOG_STR("connection", r->o.name));
	r->state = REDIS_STOPPED; /* whoever stops needs not be told */
}

void redis_free(struct redis *r)
{
	if (!r)
		return;
	redis_stop(r);
	if (r->busy) {
		r->free_wanted = true;
		return;
	}
	r->busy++; /* for good: the completions below must not free it again */
	on_stop_told(r);
	loop_cancel(r->loop, &r->stop_task);
	loop_hook_remove(r->loop, &r->flush_hook);
	loop_timer_done(&r->watchdog);
	loop_timer_done(&r->pulse);
	net_tls_free(r->tls);
	pending_done(&r->pending);
	pending_done(&r->stopped);
	buf_done(&r->out);
	redis_reader_free(r->retired);
	mem_wipe_free(r->strings, r->strings_len);
	mem_free(r);
}

bool redis_up(const struct redis *r)
{
	return r->state == REDIS_UP;
}

size_t redis_unsent(const struct redis *r)
{
	return r->out.len - r->out_pos;
}

size_t redis_pending(const struct redis *r)
{
	return r->pending.count;
}

enum err redis_connect_result(const struct redis *r)
{
	return r->connected;
}

uint64_t redis_reconnects(const struct redis *r)
{
	return r->reconnects ? r->reconnects - 1 : 0;
}

const char *redis_last_error(const struct redis *r)
{
	return r->last_error;
}
