/* From a name to a connection that took AUTH and SELECT, and back: every way in which it ends goes
 * through redis_lose, which tells all that waits, and tries the next address or waits a while. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "redis_priv.h"
#include "weir/base/backoff.h"
#include "weir/run/log.h"

static const struct backoff reconnect_backoff = {
    .initial = 100 * USEC_PER_MSEC, .max = 5 * USEC_PER_SEC, .multiplier = 2.0, .jitter = 0.5};

#define STABLE      (5 * USEC_PER_SEC) /* up for so long: the next loss starts the backoff anew */
#define KEPT_OUTPUT ((size_t)1 << 20)  /* a larger output buffer is given back when it is sent */

static void connect_next(struct redis *r);

/* ---- losing the connection ---- */

void redis_close(struct redis *r)
{
	net_free(r->net);
	r->net = NULL;
	if (r->busy && !r->retired)
		r->retired = r->reader;
	else
		redis_reader_free(r->reader);
	r->reader = NULL;
	if (r->state == REDIS_HANDSHAKE && r->out.ptr)
		explicit_bzero(r->out.ptr, r->out.space); /* the password */
	buf_done(&r->out);
	r->out_pos = r->unsent = 0;
	r->epoch++;
	r->writing = false;
	r->drop = false;
	loop_timer_stop(&r->pulse);
	loop_cancel(r->loop, &r->read_task);
	loop_cancel(r->loop, &r->broken_task);
	if (r->query)
		resolver_cancel(r->query);
	r->query = NULL;
}

/* All that waits learns of it. Those whose deadline has passed are told ERR_TIMEOUT. */
static void fail_pending(struct redis *r, enum err why)
{
	struct pending_ring all = r->pending;
	struct pending *p;
	usec_t now = loop_now(r->loop);

	pending_init(&r->pending, r->o.max_pending);
	while ((p = pending_front(&all))) {
		struct pending one = *p;

		pending_pop(&all);
		pending_tell(&one, why == ERR_TIMEOUT && one.deadline > now ? ERR_CLOSED : why);
	}
	pending_done(&all);
}

/* Once for each new reason: a server that stays away must not fill the log. */
static void report(struct redis *r, bool was_up)
{
	struct log_field meaning =
	    r->meaning ? LOG_STR("meaning", r->meaning) : (struct log_field){.kind = LOG_END};

	if (strcmp(r->reported, r->last_error) == 0)
		return;
	memcpy(r->reported, r->last_error, sizeof(r->reported));
	if (was_up)
		log_warn(LOG_REDIS, "connection lost", LOG_STR("connection", r->o.name),
		         LOG_STR("reason", r->last_error), LOG_INT("pending", r->pending.count),
		         meaning);
	else
		log_warn(LOG_REDIS, "cannot connect", LOG_STR("connection", r->o.name),
		         LOG_STR("address", r->o.addr), LOG_STR("reason", r->last_error), meaning);
}

/* That it does not let us in, time alone does not change; all else may pass, and so may an error
 * that nobody here knows (ERR_INVAL). */
static bool is_refusal(enum err e)
{
	return e == ERR_DENIED || e == ERR_NOTFOUND;
}

/* After an attempt at one address. */
static void note_attempt(struct redis *r)
{
	if (r->state != REDIS_HANDSHAKE)
		return;
	if (!is_refusal(r->greeting))
		r->round = ERR_UNAVAILABLE;
	else if (r->round == ERR_OK)
		r->round = r->greeting;
}

void redis_lose(struct redis *r, enum err why, const char *text)
{
	bool was_up = r->state == REDIS_UP;
	usec_t now = loop_now(r->loop);

	note_attempt(r);

	if (text != r->last_error) { /* it may be the reply's own text, noted already */
		snprintf(r->last_error, sizeof(r->last_error), "%s", text);
		r->meaning = NULL;
	}
	if (why == ERR_TIMEOUT)
		redis_note_loss(r, REDIS_TROUBLE_TIMEOUT);
	report(r, was_up);
	redis_close(r);
	/* A server that takes us in and throws us out again is not knocked at without a pause. */
	if (was_up && now - r->up_since >= STABLE)
		r->attempts = 0;
	/* The next address of the same name at once, then a pause. */
	if (!was_up && r->addr_next < r->addr_count && now < r->connect_by) {
		fail_pending(r, why);
		connect_next(r);
		return;
	}
	r->connected = was_up || r->round == ERR_OK ? ERR_UNAVAILABLE : r->round;
	loop_timer_set(&r->watchdog, backoff_delay(&reconnect_backoff, r->attempts++));
	redis_set_state(r, REDIS_BACKOFF);
	fail_pending(r, why);
}

/* ---- writing ---- */

bool redis_flush(struct redis *r)
{
	ssize_t n;

	while (r->out_pos < r->out.len) {
		n = net_write(r->net, r->out.ptr + r->out_pos, r->out.len - r->out_pos);
		if (n < 0)
			return false;
		if (n == 0)
			break;
		r->out_pos += (size_t)n;
	}
	if (r->out_pos == r->out.len) {
		if (r->state == REDIS_HANDSHAKE && r->out.ptr)
			explicit_bzero(r->out.ptr, r->out.len); /* the password */
		if (r->out.space > KEPT_OUTPUT)
			buf_done(&r->out);
		else
			buf_reset(&r->out);
		r->out_pos = 0;
		r->unsent = 0;
	} else if (r->out_pos > r->out.len / 2) {
		buf_consume(&r->out, r->out_pos);
		r->out_pos = 0;
	}
	if (r->writing != (r->out.len != 0)) {
		r->writing = r->out.len != 0;
		net_want_write(r->net, r->writing);
	}
	return true;
}

/* What is awaited comes, or its deadline ends the connection: so nothing waits for ever. */
static bool may_gather(const struct redis *r)
{
	return r->state == REDIS_UP && redis_unsent(r) < r->o.gather &&
	       r->pending.count > r->unsent;
}

/* No completions here: what they submit elsewhere could miss the turn's last write. */
void redis_write(struct redis *r)
{
	if (r->out.len && !r->writing && r->net && !redis_flush(r))
		loop_defer(r->loop, &r->broken_task);
}

void redis_on_turn_end(void *arg)
{
	struct redis *r = arg;

	if (!may_gather(r))
		redis_write(r);
}

void redis_on_broken(void *arg)
{
	struct redis *r = arg;

	redis_enter(r);
	redis_lose(r, ERR_CLOSED, net_error(r->net));
	redis_leave(r);
}

/* ---- connecting ---- */

static enum err say(struct redis *r, enum pending_kind kind, const struct str *argv, size_t argc)
{
	struct redis_command cmd = {argv, argc};
	struct pending p = {.kind = kind, .deadline = USEC_NEVER};

	return redis_enqueue(r, &cmd, 1, &p);
}

static enum err say_auth(struct redis *r)
{
	struct str argv[3] = {STR("AUTH"), str_of(r->o.username), str_of(r->o.password)};

	if (!r->o.password[0] && !r->o.username[0])
		return ERR_OK;
	/* No growth later: no copy of the password stays behind. */
	(void)buf_reserve(&r->out, 512 + argv[1].len + argv[2].len);
	if (r->o.username[0])
		return say(r, PENDING_HANDSHAKE, argv, 3);
	argv[1] = argv[2];
	return say(r, PENDING_HANDSHAKE, argv, 2);
}

static void step_handshake(struct redis *r)
{
	char db[24];
	struct str select[2] = {STR("SELECT"), STR_NONE};
	struct str name[3] = {STR("CLIENT"), STR("SETNAME"), STR_NONE};
	struct str role = STR("ROLE"), ping = STR("PING");
	enum err e;

	snprintf(db, sizeof(db), "%lld", (long long)r->o.db);
	select[1] = str_of(db);
	name[2] = str_of(r->o.name);
	redis_set_state(r, REDIS_HANDSHAKE);
	r->greeting = ERR_OK;
	e = say_auth(r);
	if (e == ERR_OK && r->o.db)
		e = say(r, PENDING_HANDSHAKE, select, 2);
	if (e == ERR_OK)
		e = say(r, PENDING_NAME, name, 3);
	if (e == ERR_OK)
		e = say(r, PENDING_ROLE, &role, 1);
	/* All of the above is answered by a server that is still loading its data. */
	if (e == ERR_OK)
		e = say(r, PENDING_PING, &ping, 1);
	if (e != ERR_OK)
		redis_lose(r, ERR_CLOSED, err_meaning(e));
	else if (!redis_flush(r))
		redis_lose(r, ERR_CLOSED, net_error(r->net));
}

static void on_net_event(void *arg, enum net_event ev)
{
	struct redis *r = arg;

	redis_enter(r);
	switch (ev) {
	case NET_UP:
		step_handshake(r);
		break;
	case NET_READABLE:
		loop_defer(r->loop, &r->read_task);
		break;
	case NET_WRITABLE:
		if (!redis_flush(r))
			redis_lose(r, ERR_CLOSED, net_error(r->net));
		break;
	case NET_FAILED:
		redis_lose(r, ERR_CLOSED, net_error(r->net));
		break;
	}
	redis_leave(r);
}

static void connect_next(struct redis *r)
{
	struct err_info info = {0};
	usec_t left = r->connect_by - loop_now(r->loop);
	size_t addr = r->addr_next++; /* taken whatever comes, or a failure would try it for ever */
	enum err e = redis_reader_new(r->o.max_reply, &r->reader);

	redis_set_state(r, REDIS_CONNECTING);
	/* Its share of the time, lest an address that leads nowhere takes all of it. */
	loop_timer_set(&r->watchdog, left / (usec_t)(r->addr_count - addr));
	if (e == ERR_OK)
		e = net_connect(r->loop, &r->addrs[addr], r->tls, r->host.ptr, on_net_event, r,
		                &r->net, &info);
	if (e == ERR_NOMEM)
		r->addr_next = r->addr_count; /* another address does not help: a pause may */
	if (e != ERR_OK)
		redis_lose(r, ERR_CLOSED, info.text[0] ? info.text : err_meaning(e));
}

static void on_resolved(void *arg, enum err err, const struct resolver_addr *addrs, size_t n)
{
	struct redis *r = arg;

	redis_enter(r);
	r->query = NULL;
	r->addr_count = n < REDIS_MAX_ADDRS ? n : REDIS_MAX_ADDRS;
	r->addr_next = 0;
	if (err == ERR_OK) {
		memcpy(r->addrs, addrs, r->addr_count * sizeof(*addrs));
		connect_next(r);
	} else {
		redis_lose(r, ERR_CLOSED,
		           err == ERR_NOTFOUND ? "no such host name"
		                               : "the name server does not answer");
	}
	redis_leave(r);
}

void redis_resolve(struct redis *r)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&r->addrs[0].sa;
	enum err e;

	redis_set_state(r, REDIS_RESOLVING);
	r->addr_count = r->addr_next = 0;
	r->round = ERR_OK;
	r->connect_by = loop_now(r->loop) + r->o.connect_timeout;
	if (r->host.len == 0) {
		memset(&r->addrs[0], 0, sizeof(r->addrs[0]));
		un->sun_family = AF_UNIX;
		memcpy(un->sun_path, r->o.addr + 5,
		       strlen(r->o.addr + 5)); /* fits: see parse_addr */
		r->addrs[0].len = sizeof(*un);
		r->addr_count = 1;
		connect_next(r);
		return;
	}
	loop_timer_set(&r->watchdog, r->o.connect_timeout);
	e = resolver_submit(r->resolver, r->host.ptr, r->port, on_resolved, r, &r->query);
	if (e != ERR_OK)
		redis_lose(r, ERR_CLOSED, err_meaning(e));
}
