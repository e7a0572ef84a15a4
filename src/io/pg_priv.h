/* What the files of the Postgres adapter share: pg.c is the pool, pg_conn.c one connection,
 * pg_conninfo.c where to connect to, pg_result.c what comes back. */
#ifndef WEIR_IO_PG_PRIV_H
#define WEIR_IO_PG_PRIV_H

#include <libpq-fe.h>
#include <netinet/in.h>

#include "weir/base/list.h"
#include "weir/io/pg.h"
#include "weir/io/resolver.h"
#include "weir/run/loop.h"

#define PG_REASON_LEN 256
#define PG_MAX_HOSTS  8 /* of a connection string */
#define PG_MAX_ADDRS  4 /* of a host; further ones are not tried */
#define PG_MAX_PAIRS  64

/* --- where to connect to --- */

struct pg_host {
	char *name;   /* owned; "" is libpq's default, a path is a socket's folder */
	char *addr;   /* owned; hostaddr as given, or "" */
	char *port;   /* owned; "" is libpq's default */
	bool unknown; /* `name` must be resolved */
};

struct pg_pair {
	char *key;   /* owned */
	char *value; /* owned; may be the password */
};

struct pg_conninfo {
	struct pg_pair pairs[PG_MAX_PAIRS]; /* all but host, hostaddr and port */
	size_t pair_count;
	struct pg_host hosts[PG_MAX_HOSTS];
	size_t host_count;
};

enum err pg_conninfo_init(struct pg_conninfo *ci, const struct pg_options *o,
                          struct err_info *info) MUST_CHECK;
void pg_conninfo_done(struct pg_conninfo *ci); /* safe on a zeroed one */
/* libpq's parameters for one host; borrowed from `ci`. `addr` "" leaves the address to libpq, which
 * then needs no name server unless the host is `unknown`. */
struct pg_params {
	const char *keys[PG_MAX_PAIRS + 4];
	const char *values[PG_MAX_PAIRS + 4];
};
void pg_conninfo_params(const struct pg_conninfo *ci, const struct pg_host *h, const char *addr,
                        struct pg_params *ret);
/* Copies libpq's message without its line ends. */
void pg_reason(char out[PG_REASON_LEN], const char *message);
/* Of a connection that failed and was made with PQERRORS_VERBOSE: ERR_DENIED (the server refuses
 * this user or password), ERR_NOTFOUND (it has no such database), ERR_UNAVAILABLE; ERR_NOMEM: not
 * known. */
enum err pg_refusal(PGconn *pg, char ret_reason[PG_REASON_LEN]) MUST_CHECK;

/* --- the addresses to try (pg_targets.c) --- */

struct pg_addrs {
	char text[PG_MAX_ADDRS][INET6_ADDRSTRLEN + 16];
	size_t count;
};

struct pg_lookup {
	struct pg_targets *targets;
	struct resolver_query *query; /* NULL when not on its way */
};

struct pg_targets {
	const struct pg_conninfo *info; /* borrowed */
	struct pg_lookup lookups[PG_MAX_HOSTS];
	size_t open; /* look-ups on their way */
	struct pg_addrs addrs[PG_MAX_HOSTS];
	size_t host_at, addr_at; /* the next to try */
	void (*on_done)(void *arg);
	void *arg;
};

/* False: nothing had to be looked up, `on_done` will not be called. */
bool pg_targets_start(struct pg_targets *t, const struct pg_conninfo *ci, struct resolver *res,
                      void (*on_done)(void *arg), void *arg);
void pg_targets_stop(struct pg_targets *t); /* keeps what was found; safe on a zeroed one */
/* Strings are borrowed. False: there are no more. */
bool pg_targets_next(struct pg_targets *t, const struct pg_host **ret_host, const char **ret_addr);

/* --- a transaction on its way --- */

struct pg_result {
	PGresult *res;      /* owned by the transaction */
	bool prepared_here; /* a Parse went out before this call */
};

struct pg_txn {
	struct list_node node;       /* waiting, or done */
	const struct pg_call *calls; /* borrowed until the completion */
	size_t count;
	usec_t deadline;           /* monotonic */
	bool bulk;                 /* pg_submit_bulk() */
	void (*copied)(void *arg); /* may be NULL */
	pg_done_fn cb;
	void *arg;
	enum err err; /* once done */
	bool failed;  /* `failure` says why */
	struct pg_failure failure;
	PGresult *failed_res; /* owned; what the failure's strings point into */
	char reason[PG_REASON_LEN];
	struct pg_result *results;      /* behind the struct, like the next */
	const struct pg_result **views; /* what the callback gets */
};

/* --- one connection --- */

#define PG_CONN_STATES(X)                \
	X(CONN_DOWN, "down")             \
	X(CONN_RESOLVING, "resolving")   \
	X(CONN_CONNECTING, "connecting") \
	X(CONN_SETUP, "setup")           \
	X(CONN_IDLE, "idle")             \
	X(CONN_BUSY, "busy")             \
	X(CONN_CANCELLING, "cancelling") \
	X(CONN_BACKOFF, "backoff")

#define PG_CONN_ENUM(code, name) code,
enum pg_conn_state { PG_CONN_STATES(PG_CONN_ENUM) PG_CONN_STATE_COUNT };
#undef PG_CONN_ENUM

struct pg_conn {
	struct pg_pool *pool; /* borrowed */
	size_t index;         /* for the log */
	enum pg_conn_state state;
	struct loop_timer timer; /* the deadline of the state */
	PGconn *pg;              /* owned */
	struct event *ev_read;   /* owned; while connecting it waits for either direction */
	struct event *ev_write;  /* owned; armed only while output is left */
	unsigned attempt;        /* failed ones in a row; a session that was lost is none */
	size_t out_bytes;        /* what libpq's output buffer has grown to, about */
	usec_t idle_since;       /* monotonic; of meaning while idle */

	struct pg_targets targets;

	const struct pg_stmt **known; /* owned array; prepared on this connection */
	size_t known_count, known_space;

	struct pg_txn *txn;    /* owned while it runs; NULL once it was given up */
	struct pg_txn *behind; /* owned; sent already, runs when `txn` is over */
	size_t call_at;        /* whose result comes next */
	bool parse_at;         /* and it is the result of its Parse */
	bool parsed_any;       /* this pipeline prepared something */
	bool setup_failed;
	bool drained; /* cancelling: the server is done, but the cancel is still on its way */

	bool cancel_open; /* the parameters below are in use */
	unsigned char cancel_pid[4];
	struct pg_param cancel_param;
	struct pg_call cancel_call;
	char reason[PG_REASON_LEN];
	/* Of the addresses tried so far: ERR_UNAVAILABLE once one was away, else pg_refusal() */
	enum err refusal;
};

enum err pg_conn_init(struct pg_conn *c, struct pg_pool *p, size_t index) MUST_CHECK;
void pg_conn_done(struct pg_conn *c);                  /* safe on a zeroed one */
void pg_conn_open(struct pg_conn *c);                  /* of a connection that is down */
void pg_conn_close(struct pg_conn *c, enum err why);   /* `why` is what its transaction gets */
void pg_conn_run(struct pg_conn *c, struct pg_txn *t); /* of an idle connection */
bool pg_conn_may_follow(const struct pg_conn *c);
void pg_conn_follow(struct pg_conn *c, struct pg_txn *t); /* where it may */
static inline bool pg_conn_up(const struct pg_conn *c)
{
	return c->state == CONN_IDLE || c->state == CONN_BUSY || c->state == CONN_CANCELLING;
}
static inline bool pg_conn_opening(const struct pg_conn *c)
{
	return c->state == CONN_RESOLVING || c->state == CONN_CONNECTING || c->state == CONN_SETUP;
}

/* --- sending and receiving (pg_wire.c) --- */

bool pg_wire_send(struct pg_conn *c, struct pg_txn *t); /* false: `reason` is set */
bool pg_wire_send_setup(struct pg_conn *c);
void pg_wire_note_out(struct pg_conn *c, size_t bytes); /* 0: the buffer is gone */
void pg_wire_expect(struct pg_conn *c);                 /* the answers to c->txn come next */
void pg_wire_forget(struct pg_conn *c);                 /* no statement is prepared any more */
enum pg_wire {
	PG_WIRE_MORE, /* wait for input */
	PG_WIRE_SYNC, /* the transaction is over */
	PG_WIRE_LOST, /* `reason` is set */
};
enum pg_wire pg_wire_read(struct pg_conn *c);
enum err pg_wire_verdict(const struct pg_txn *t); /* of a transaction whose Sync came back */

/* --- the pool, as connections see it --- */

struct pg_pool {
	struct loop *loop;         /* borrowed */
	struct resolver *resolver; /* borrowed; NULL when no name needs it */
	struct pg_conninfo info;
	struct pg_conn *conns; /* owned */
	size_t size;
	usec_t connect_timeout, query_timeout;
	size_t max_waiting;
	bool running;

	struct list waiting; /* of struct pg_txn, first come first served */
	struct loop_timer wait_timer;
	struct loop_timer shed_timer; /* a connection with a large buffer is idle */
	struct list done;             /* completions that wait for their turn */
	struct loop_task task;
	bool *gone; /* set while completions run: where to say that it was freed */
	bool changed;
	const char *listen; /* literal; NULL: none */
	bool notified;
	uint64_t told_sessions;
	void (*on_notify)(void *arg);
	void *on_notify_arg;
	bool was_up;
	void (*on_change)(void *arg);
	void *on_change_arg;

	uint64_t sessions, reconnects;
	size_t lost; /* sessions that ended by themselves and were not made up for yet */
	uint64_t transactions, statements;
	char last_error[PG_REASON_LEN];
	enum err refusal; /* a connection's, of the last attempt */
};

void pg_pool_finish(struct pg_pool *p, struct pg_txn *t, enum err err); /* completes it later */
void pg_pool_settle(struct pg_pool *p); /* a connection changed: look again, soon */
/* Another connection than `c` is already trying to come up. */
bool pg_pool_scouted(const struct pg_pool *p, const struct pg_conn *c);
void pg_pool_begun(struct pg_pool *p); /* a connection is ready for its first transaction */
/* Ahead of all others; for cancels. */
enum err pg_pool_submit_first(struct pg_pool *p, const struct pg_call *call, usec_t timeout,
                              pg_done_fn cb, void *arg) MUST_CHECK;

#endif
