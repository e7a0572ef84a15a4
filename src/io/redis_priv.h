/* The connection's inside, shared by redis.c (life, submits), redis_link.c (connecting, losing) and
 * redis_answer.c (replies). */
#ifndef WEIR_IO_REDIS_PRIV_H
#define WEIR_IO_REDIS_PRIV_H

#include "redis_pending.h"
#include "redis_wire.h"
#include "weir/base/buf.h"
#include "weir/io/net.h"
#include "weir/io/redis.h"
#include "weir/io/redis_reader.h"
#include "weir/io/resolver.h"
#include "weir/run/loop.h"

#define REDIS_MAX_ADDRS 8
#define REDIS_TEXT_MAX  256
#define REDIS_PULSE     USEC_PER_SEC

#define REDIS_STATES(X) X(STOPPED) X(RESOLVING) X(CONNECTING) X(HANDSHAKE) X(UP) X(BACKOFF)
#define REDIS_ENUM(s)   REDIS_##s,
#define REDIS_NAME(s)   #s,
enum redis_state { REDIS_STATES(REDIS_ENUM) };

struct redis_trouble_log {
	uint64_t count, unlogged;
	usec_t log_again; /* monotonic */
};

struct redis {
	struct loop *loop;         /* borrowed */
	struct resolver *resolver; /* borrowed */
	struct redis_options o;    /* its strings are owned, in `strings` */
	char *strings;             /* owned; the password is among them */
	size_t strings_len;
	struct str host; /* within strings; empty: unix socket */
	uint16_t port;
	redis_state_fn on_state;
	void *arg;
	enum redis_state state;
	struct net_tls *tls;          /* owned; NULL: plain */
	struct resolver_query *query; /* while RESOLVING */
	struct resolver_addr addrs[REDIS_MAX_ADDRS];
	size_t addr_count, addr_next;
	usec_t connect_by;           /* monotonic: the end of the attempt over all addresses */
	usec_t up_since;             /* monotonic */
	struct net *net;             /* owned; from CONNECTING to UP */
	struct redis_reader *reader; /* owned; as long as net */
	struct buf out;              /* bytes not written yet, from out_pos on */
	size_t out_pos;
	size_t unsent; /* the youngest of the pending, which lie in `out` */
	bool writing;  /* waits for the socket to take more */
	struct pending_ring pending;
	enum err multi_err; /* first error among the parts of the transaction being answered */
	char multi_text[REDIS_TEXT_MAX];
	bool drop;          /* end the connection after the present reply */
	enum err greeting;  /* the first error that this address answered the greeting with */
	enum err round;     /* what the addresses tried so far came to; ERR_OK: none answered */
	enum err connected; /* see redis_connect_result() */
	struct loop_hook flush_hook;
	struct loop_timer pulse;      /* asks for the role while it is up */
	struct loop_timer watchdog;   /* connect deadline, command deadlines, backoff */
	struct loop_task read_task;   /* the socket is readable, or a read was cut short */
	struct loop_task stop_task;   /* completions of redis_stop */
	struct loop_task broken_task; /* a write failed where no completion may run */
	struct pending_ring stopped;  /* what redis_stop must still tell */
	unsigned attempts;
	uint64_t reconnects;
	char last_error[REDIS_TEXT_MAX];
	const char *meaning; /* of last_error, for humans; NULL: it speaks for itself */
	struct redis_trouble_log troubles[REDIS_TROUBLE_COUNT];
	char reported[REDIS_TEXT_MAX]; /* the last trouble that was logged; "" since it is up */

	/* Completions may stop, start and free us. */
	unsigned busy;                /* our callbacks on the stack */
	bool free_wanted;             /* when the last of them returns */
	uint64_t epoch;               /* counts connections that were closed */
	struct redis_reader *retired; /* owned: a completion may still look at its reply */
};

/* redis.c */
void redis_set_state(struct redis *r, enum redis_state to);
/* Around everything that may run completions. */
void redis_enter(struct redis *r);
void redis_leave(struct redis *r); /* may free it */
/* Commands of one submit, whole or not at all. */
enum err redis_enqueue(struct redis *r, const struct redis_command *cmds, size_t n,
                       const struct pending *waiting) MUST_CHECK;

/* redis_link.c */
void redis_resolve(struct redis *r);                              /* starts to connect */
void redis_lose(struct redis *r, enum err why, const char *text); /* and reconnects later */
void redis_close(struct redis *r);                                /* the socket and all of it */
bool redis_flush(struct redis *r);                                /* false: the stream is broken */
void redis_write(struct redis *r); /* flushes, if there is anything to */
void redis_on_turn_end(void *arg);
void redis_on_broken(void *arg);

/* redis_trouble.c */
/* An error reply: counts, logs, says what it is. May set `drop`. */
enum err redis_note_error(struct redis *r, struct str text) MUST_CHECK;
void redis_note_loss(struct redis *r, enum redis_trouble t);

/* redis_answer.c */
void redis_on_readable(void *arg);

#endif
