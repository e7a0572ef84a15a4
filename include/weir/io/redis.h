/* One asynchronous Redis connection with deadlines, reconnect and exactly-once completions.
 * hiredis serves as formatter and reply parser only; the transport is ours, because hiredis 0.14
 * has no command timeout and no TLS. Commands of one loop turn go out in one write. */
#ifndef WEIR_IO_REDIS_H
#define WEIR_IO_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"

struct loop;
struct resolver;
struct redis;

enum redis_type { REDIS_NIL, REDIS_STRING, REDIS_STATUS, REDIS_ERROR, REDIS_INTEGER, REDIS_ARRAY };

/* Valid during the callback only. */
struct redis_reply {
	enum redis_type type;
	int64_t integer;
	struct str str;                   /* strings, statuses and error texts */
	size_t count;                     /* arrays */
	const struct redis_reply **items; /* arrays */
};

struct redis_options {
	const char *name;     /* for logs: "producer", "consumer"; copied like all strings here */
	const char *addr;     /* HOST:PORT, [v6]:PORT or unix:/path */
	const char *username; /* "" or NULL: none */
	const char *password;
	int64_t db;
	bool tls;                /* verifies peer and host name */
	const char *tls_ca_file; /* "" : the system's store */
	usec_t connect_timeout;  /* 0: 5 s, from resolving to the last OK of the handshake */
	usec_t command_timeout;  /* 0: 5 s; a command can ask for its own */
	size_t max_pending;      /* 0: 65536 commands, 5 at least; past it submits say ERR_FULL */
	size_t max_output;       /* 0: 64 MiB unsent bytes; past it submits say ERR_FULL */
	size_t max_reply;        /* 0: 256 MiB in one reply; past it the connection is dropped */
	size_t gather; /* fewer bytes than these are not written while an answer is awaited: a write
	                  costs both sides more than a command; 0: all are, when a turn ends */
};

/* What goes wrong with Redis, for metrics. X(code, name) */
#define REDIS_TROUBLES(X)                                                                      \
	X(REDIS_TROUBLE_NONE, "none")                                                          \
	X(REDIS_TROUBLE_OOM, "oom")                                                            \
	X(REDIS_TROUBLE_LOADING, "loading")                                                    \
	X(REDIS_TROUBLE_MISCONF, "misconf")                                                    \
	X(REDIS_TROUBLE_READONLY, "readonly")                                                  \
	X(REDIS_TROUBLE_BUSY, "busy")                                                          \
	X(REDIS_TROUBLE_MASTERDOWN, "masterdown")                                              \
	X(REDIS_TROUBLE_CLUSTERDOWN, "clusterdown")                                            \
	X(REDIS_TROUBLE_NOREPLICAS, "noreplicas")                                              \
	X(REDIS_TROUBLE_UNBLOCKED, "unblocked")                                                \
	X(REDIS_TROUBLE_NOAUTH, "noauth")                                                      \
	X(REDIS_TROUBLE_WRONGPASS, "wrongpass")                                                \
	X(REDIS_TROUBLE_NOPERM, "noperm")                                                      \
	X(REDIS_TROUBLE_NOGROUP, "nogroup")                                                    \
	X(REDIS_TROUBLE_MAXCLIENTS, "maxclients")                                              \
	X(REDIS_TROUBLE_PROTOCOL, "protocol") /* what came was no reply, or too large a one */ \
	X(REDIS_TROUBLE_TIMEOUT, "timeout")                                                    \
	X(REDIS_TROUBLE_OTHER, "other")
#define REDIS_TROUBLE_ENUM(code, name) code,
enum redis_trouble { REDIS_TROUBLES(REDIS_TROUBLE_ENUM) REDIS_TROUBLE_COUNT };
#undef REDIS_TROUBLE_ENUM
const char *redis_trouble_name(enum redis_trouble t);

/* err is ERR_OK exactly when `reply` is a reply and no error reply. Otherwise:
 *   ERR_CLOSED, ERR_TIMEOUT   sent, outcome unknown (reply NULL)
 *   ERR_CANCELLED             redis_stop() or redis_free() (reply NULL)
 *   for error replies (reply holds the text):
 *   ERR_FULL (OOM), ERR_UNAVAILABLE (LOADING, MISCONF, READONLY, BUSY, MASTERDOWN, CLUSTERDOWN,
 *   NOREPLICAS, UNBLOCKED, maxclients), ERR_DENIED (NOAUTH, WRONGPASS, NOPERM), ERR_NOTABLE
 *   (NOGROUP, NOSCRIPT), ERR_NOTFOUND (no database of that number), ERR_CONFLICT (BUSYGROUP),
 *   ERR_INVAL (all others)
 * While it is up and waits for no answer the server is asked for its role once a second, so that a
 * connection without work notices the end of its server, or that a fail-over made it a replica.
 * A connection that answers READONLY, MASTERDOWN, LOADING or NOAUTH is dropped and made anew: it is
 * up again when a primary that executes commands was found, at whichever of its name's addresses.
 * Error replies are logged here, the first of each kind and then one a minute; nobody above needs
 * to.
 *
 * Within a completion or a redis_state_fn everything here may be called for the same connection,
 * redis_stop() and redis_free() too: `reply` stays readable until the function returns, and what
 * else was pending is told ERR_CANCELLED, once each, afterwards. */
typedef void (*redis_reply_fn)(void *arg, enum err err, const struct redis_reply *reply);
/* Told from the loop when the connection became usable (up) or was lost. */
typedef void (*redis_state_fn)(void *arg, bool up);

enum err redis_new(struct loop *l, struct resolver *res, const struct redis_options *opts,
                   redis_state_fn on_state, void *arg, struct redis **ret) MUST_CHECK;
void redis_start(struct redis *r); /* connects, and reconnects for ever with backoff */
/* What is pending is told ERR_CANCELLED from the loop. A second call does nothing; redis_start()
 * connects again. The state function is not called. */
void redis_stop(struct redis *r);
/* NULL is fine. Stops; what is pending is told before this returns, or, when called from a
 * completion, as soon as that has returned. No redis_start() from those. */
void redis_free(struct redis *r);
bool redis_up(const struct redis *r);
/* What the last attempt to connect came to, over all addresses of the name: ERR_OK, ERR_AGAIN (the
 * first is under way), ERR_DENIED (a server refuses user or password), ERR_NOTFOUND (it has no such
 * database), else ERR_UNAVAILABLE. Refused is who no server let in; those that are away do not
 * count, as one password opens all servers of one name. */
enum err redis_connect_result(const struct redis *r);
size_t redis_pending(const struct redis *r);
size_t redis_unsent(const struct redis *r); /* bytes gathered and not written yet */
uint64_t redis_reconnects(const struct redis *r);
uint64_t redis_troubles(const struct redis *r, enum redis_trouble t); /* so far */
const char *redis_last_error(const struct redis *r);                  /* "" when there was none */

/* Any other value than ERR_OK: nothing was queued and `cb` will not fire. ERR_UNAVAILABLE while not
 * connected. `argv` is copied. `timeout` 0 takes the connection's. A command whose deadline passes
 * takes the connection with it (Redis answers in order). */
enum err redis_submit(struct redis *r, const struct str *argv, size_t argc, usec_t timeout,
                      redis_reply_fn cb, void *arg) MUST_CHECK;

struct redis_command {
	const struct str *argv;
	size_t argc;
};
/* All commands in MULTI/EXEC. `cb` gets EXEC's array, or the first error: one that a part met when
 * it was queued means that nothing was done; one that it met when it ran, that the others were
 * done. A refused MULTI leaves its parts to run singly, so the connection is dropped (ERR_CLOSED:
 * outcome unknown). */
enum err redis_submit_multi(struct redis *r, const struct redis_command *cmds, size_t n,
                            usec_t timeout, redis_reply_fn cb, void *arg) MUST_CHECK;

#endif
