/* Error codes: one enum for all floors. Adapters map SQLSTATE, Redis error texts and HTTP statuses
 * to it, so that nothing above `io` ever compares a foreign code. */
#ifndef WEIR_BASE_ERR_H
#define WEIR_BASE_ERR_H

#include <stddef.h>

#define MUST_CHECK        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

/* X(code, name, meaning, fate) */
#define ERR_LIST(X)                                                                              \
	X(ERR_OK, "ok", "no error", FATE_DONE)                                                   \
	X(ERR_NOMEM, "no_memory", "an allocation failed or a memory bound was reached",          \
	  FATE_RETRY)                                                                            \
	X(ERR_AGAIN, "again", "not now: wait for more input or for room", FATE_RETRY)            \
	X(ERR_FULL, "full", "a bounded queue or store is full", FATE_RETRY)                      \
	X(ERR_TIMEOUT, "timeout", "a deadline passed; the outcome is unknown", FATE_RETRY)       \
	X(ERR_CLOSED, "closed", "the connection was lost; the outcome is unknown", FATE_RETRY)   \
	X(ERR_UNAVAILABLE, "unavailable", "the other side cannot serve now; nothing was done",   \
	  FATE_RETRY)                                                                            \
	X(ERR_CANCELLED, "cancelled", "the owner stopped before it was done", FATE_DROP)         \
	X(ERR_PROTO, "protocol", "the other side broke its protocol", FATE_RETRY)                \
	X(ERR_INVAL, "invalid", "bad input or argument", FATE_DEAD)                              \
	X(ERR_DATA, "data", "the store refuses this very content", FATE_DEAD)                    \
	X(ERR_TOOBIG, "too_big", "over a size limit", FATE_DEAD)                                 \
	X(ERR_NOTFOUND, "not_found", "no such thing", FATE_DROP)                                 \
	X(ERR_CONFLICT, "conflict", "it exists already, or differs from what exists", FATE_DROP) \
	X(ERR_DENIED, "denied", "authentication or permission refused", FATE_STOP)               \
	X(ERR_NOTABLE, "missing_relation", "a table, partition or group is missing", FATE_RETRY) \
	X(ERR_TOOL, "unknown_tool", "no weir of the group knows the event's tool", FATE_DEAD)    \
	X(ERR_IO, "io", "the operating system refused", FATE_RETRY)                              \
	X(ERR_BUG, "bug", "an impossible state", FATE_STOP)

#define ERR_ENUM(code, name, meaning, fate) code,
enum err { ERR_LIST(ERR_ENUM) ERR_COUNT };
#undef ERR_ENUM

/* What becomes of work that met an error. */
enum fate {
	FATE_DONE,  /* nothing to do */
	FATE_RETRY, /* infrastructure: keep it and try again for as long as it takes */
	FATE_DEAD,  /* this very item is at fault: isolate it, dead-letter it */
	FATE_DROP,  /* nobody waits for it any more */
	FATE_STOP,  /* configuration or bug: stop and tell a human */
};

/* A human's view of an error; optional last parameter of functions whose failure a person reads.
 * Owned by the caller, always NUL-terminated. */
struct err_info {
	enum err code;
	char text[768];
};

const char *err_name(enum err e);    /* "timeout"; static, never NULL */
const char *err_meaning(enum err e); /* a sentence; static, never NULL */
/* The one judgement: adapters bring what a server said (SQLSTATE, Redis text, HTTP status) to an
 * error, and everybody who must go on from one asks here. Rooms may refine the answer (a batch:
 * pipeline/verdict.h), not contradict it. */
enum fate err_fate(enum err e);

/* Where all faults of an input go, for who wants to hear more than the first. */
struct err_sink {
	void (*fn)(void *arg, const char *text); /* a fault's text is borrowed */
	void *arg;
	size_t count; /* faults so far */
};

/* ERR_OK, so that the reader goes on: the fault was told to `sink` (NULL: nobody wants it) and
 * taken out of `info`. Want of memory is no fault of the input and ends every reader. */
enum err err_sink_take(struct err_sink *sink, enum err e, struct err_info *info) MUST_CHECK;

/* Writes code and text into `info` (may be NULL) and returns `code`. */
enum err err_set(struct err_info *info, enum err code, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
