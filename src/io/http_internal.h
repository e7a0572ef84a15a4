/* What the files of the HTTP server share; nothing outside src/io/http_*.c includes it.
 *
 *   http_listen.c   address to listening socket
 *   http_server.c   the server: accepting, deadlines, drain
 *   http_conn.c     a connection: states, reading, the pump
 *   http_request.c  the steps that turn bytes into a request and hand it on
 *   http_reply.c    answers, ours and the handler's
 *   http_ticket.c   the request as the handlers see it */
#ifndef WEIR_SRC_IO_HTTP_INTERNAL_H
#define WEIR_SRC_IO_HTTP_INTERNAL_H

#include <netinet/in.h>

#include <evhtp/evhtp.h>
#include <event2/event_struct.h>

#include "weir/base/buf.h"
#include "weir/base/id.h"
#include "weir/base/list.h"
#include "weir/io/http_body.h"
#include "weir/io/http_gate.h"
#include "weir/io/http_server.h"
#include "weir/run/loop.h"

#define HTTP_READ_BYTES       ((size_t)64 * 1024) /* most that one read takes */
#define HTTP_READ_ROUNDS      16                  /* reads of one connection in one turn */
#define HTTP_TICKET_FIELDS    32                  /* headers that need no second allocation */
#define HTTP_TICKET_BYTES     2048                /* likewise, bytes of the head */
#define HTTP_TICKET_POOL      64                  /* tickets kept for reuse */
#define HTTP_TICKET_POOL_BODY ((size_t)16 * 1024) /* largest body buffer kept with them */
#define HTTP_LINGER_TIME      (2 * USEC_PER_SEC)
#define HTTP_LINGER_BYTES     ((uint64_t)64 << 20)
#define HTTP_DRAIN_IDLE       (500 * USEC_PER_MSEC)

#define HTTP_CONN_STATES(X)                                                                  \
	X(CONN_IDLE, "idle")     /* no byte of a request yet */                              \
	X(CONN_HEAD, "head")     /* part of a head is there */                               \
	X(CONN_BODY, "body")     /* the head is valid, the body not whole */                 \
	X(CONN_BUSY, "busy")     /* a handler has the request */                             \
	X(CONN_FLUSH, "flush")   /* the answer is partly written */                          \
	X(CONN_SENT, "sent")     /* the answer is written; passes at once */                 \
	X(CONN_LINGER, "linger") /* answered and shut; input is thrown away until the end */ \
	X(CONN_CLOSED, "closed") /* evhtp's part is freed; ours goes with the last frame */

#define CONN_ENUM(code, name) code,
enum conn_state { HTTP_CONN_STATES(CONN_ENUM) CONN_STATE_COUNT };
#undef CONN_ENUM

struct http_conn {
	struct list_node node;      /* in server->states[state] */
	struct http_server *server; /* borrowed */
	evhtp_connection_t *evc;    /* evhtp's; NULL once it was freed */
	struct http_ticket
	    *ticket; /* of the request not answered yet; a reference if holds_ticket */
	struct event read_ev;
	struct loop_task pump_task;
	struct buf in;      /* owned; input that waits: part of a head, pipelined requests */
	struct str feed;    /* input being worked on; lies in `in` or in server->scratch */
	size_t scanned;     /* bytes of the feed that were parsed and gave no verdict */
	uint64_t body_left; /* Content-Length not received yet */
	struct http_dechunk dechunk;
	usec_t deadline;
	uint64_t linger_left;
	enum conn_state state;
	unsigned entered; /* frames on the stack that use it */
	int fd;           /* evhtp's */
	bool holds_ticket;
	bool pumping;
	bool reading;    /* read_ev is added */
	bool eof;        /* the client has shut its side */
	bool keep;       /* the connection outlives the answer */
	bool http10;     /* keeping has to be said */
	bool client_end; /* the client asked to close */
	bool chunked;
	bool whole; /* the request was read to its end */
	uint8_t peer_len;
	char peer[INET6_ADDRSTRLEN];
};

struct http_server {
	struct loop *loop; /* borrowed */
	struct http_server_options opt;
	char *name; /* owned */
	struct http_gate_limits limits;
	http_head_fn on_head;
	http_request_fn on_request;
	http_refusal_fn on_refusal;
	void *arg;
	evhtp_t *htp; /* owned */
	uint16_t port;
	struct list states[CONN_STATE_COUNT];
	usec_t timeouts[CONN_STATE_COUNT]; /* USEC_NEVER: none */
	struct loop_timer sweep;
	usec_t sweep_due;               /* monotonic: what it was armed for */
	struct loop_timer accept_timer; /* accepting again after a pause; looking after the drain */
	size_t connections;
	bool draining, accept_paused;
	unsigned drain_rounds;
	struct list tickets; /* live ones */
	struct list pool;    /* spare ones */
	uint64_t body_bytes, requests, late_replies;
	struct buf out;  /* the answer being made */
	struct buf text; /* its problem document */
	struct http_gate_head head;
	char scratch[HTTP_READ_BYTES];
};

struct http_ticket {
	struct list_node node;
	struct http_server *server; /* NULL once the server is gone */
	struct http_conn *conn;     /* NULL once answered, or the client left */
	unsigned refs;
	bool answered;
	bool client_gone;
	enum http_method method;
	struct str method_text, target, path, query, request_id;
	usec_t received;
	uint64_t max_body;
	void *user;
	struct http_share *share;    /* borrowed; NULL: none */
	struct http_header *headers; /* `fields` or in `block` */
	size_t header_count;
	char *body; /* owned */
	size_t body_len, body_space;
	char *block; /* owned; what did not fit inside, else NULL */
	uint8_t peer_len;
	char peer[INET6_ADDRSTRLEN];
	char made_id[UUID_TEXT_LEN + 1];
	struct http_header fields[HTTP_TICKET_FIELDS];
	char bytes[HTTP_TICKET_BYTES];
};

/* http_listen.c: a listening socket, not listening yet. */
enum err http_listen(const struct http_server_options *o, int *ret_fd, uint16_t *ret_port,
                     struct err_info *info) MUST_CHECK;

/* http_server.c */
void http_server_arm(struct http_server *s, usec_t deadline); /* something is due by then */
void http_server_conn_gone(struct http_server *s);
bool http_server_over_limit(const struct http_server *s);

/* http_conn.c. Whoever calls something that may close the connection while it still needs it
 * stands between enter and leave; the state tells what became of it. */
enum err http_conn_new(struct http_server *s, evhtp_connection_t *evc) MUST_CHECK;
void http_conn_enter(struct http_conn *c);
void http_conn_leave(struct http_conn *c);
void http_conn_set_state(struct http_conn *c, enum conn_state to);
void http_conn_detach_ticket(struct http_conn *c, bool gone);
void http_conn_pump(struct http_conn *c);
void http_conn_close(struct http_conn *c);
void http_conn_lost(struct http_conn *c, const char *detail); /* the client left */
void http_conn_expire(struct http_conn *c);
/* Writes at once what the socket takes, libevent the rest; ends in SENT, FLUSH or CLOSED. */
void http_conn_send(struct http_conn *c, struct str head, struct str body);
bool http_conn_write(struct http_conn *c, struct str head, struct str body, bool *ret_rest);

/* http_request.c: true when there may be more to do. */
bool http_request_step_head(struct http_conn *c);
bool http_request_step_body(struct http_conn *c);
/* Room in the body for the socket to be read into; false: there is none, the request is refused. */
bool http_request_body_room(struct http_conn *c, char **ret_p, size_t *ret_len);
void http_request_body_read(struct http_conn *c, size_t len);

/* http_reply.c */
void http_conn_tell_refusal(struct http_conn *c, enum http_refusal why, int status,
                            const char *detail, struct str request_id);
void http_conn_refuse(struct http_conn *c, enum http_refusal why, int status, const char *detail,
                      unsigned retry_after);

/* http_ticket.c: NULL when memory is short. The caller holds the reference. */
struct http_ticket *http_ticket_new(struct http_conn *c, const char *bytes,
                                    const struct http_gate_head *h) MUST_CHECK;
/* Room for `total` bytes of body; `exact`: it will not grow beyond. ERR_FULL when the bodies of all
 * requests, or all of our memory, pass their bound. */
enum err http_ticket_body_reserve(struct http_ticket *t, size_t total, bool exact) MUST_CHECK;
void http_ticket_destroy(struct http_ticket *t);

#endif
