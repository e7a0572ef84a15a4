/* What batch.c (the way of a batch), batch_known.c (what it leaves out, and conflicts),
 * batch_enrich.c and batch_trouble.c (what becomes of failures) share. */
#ifndef WEIR_PIPELINE_BATCH_PRIV_H
#define WEIR_PIPELINE_BATCH_PRIV_H

#include "weir/io/pg.h"
#include "weir/pipeline/batch.h"
#include "weir/pipeline/conflict_writer.h"
#include "weir/pipeline/dead_writer.h"
#include "weir/pipeline/deduplicator.h"
#include "weir/pipeline/enricher.h"
#include "weir/pipeline/verdict.h"
#include "weir/run/loop.h"

#define BATCH_STATES(X)                   \
	X(IDLE, "idle")                   \
	X(DEDUPLICATING, "deduplicating") \
	X(ENRICHING, "enriching")         \
	X(SEEKING, "seeking")             \
	X(STORING, "storing")             \
	X(LOOKING_UP, "looking up")       \
	X(DISPUTING, "disputing")         \
	X(HEALING, "healing")             \
	X(PROBING, "probing")             \
	X(WAITING, "waiting")             \
	X(BURYING, "burying")             \
	X(ABANDONED, "abandoned")
#define BATCH_ENUM(code, name) BATCH_##code,
enum batch_state { BATCH_STATES(BATCH_ENUM) };

/* Events that go into one transaction together; a part of the batch's. */
struct range {
	uint32_t at, n;
	unsigned tries;   /* failures in a row */
	unsigned strikes; /* the latest of them: in a row, while the database answered */
	bool healed;      /* partitions were made for it */
	bool escape;      /* its dead letter was refused as it was */
	bool refused;     /* so it was in the form that any table takes, and is stuck */
	bool doubtful;    /* its dead letter may be written: it must not be stored any more */
	bool conflict;    /* their keys are held with other bodies: to be dead letters */
};

struct batch {
	struct batch_env *env; /* borrowed */
	enum batch_state state;
	struct event **events;  /* owned array of references */
	enum event_fate *fates; /* owned */
	size_t n;               /* events when it started */
	struct range now;       /* in work; n is 0 when nothing is */
	struct batch_plan plan; /* of it */
	struct range *todo;     /* owned; a stack, of batch_size at most */
	size_t todo_count;
	unsigned round;       /* waits so far; ranges that failed as often wait together */
	uint64_t stored_then; /* env->stored when the batch started */
	usec_t started;
	struct loop_timer timer;
	struct batch_updater *updater;      /* owned */
	struct conflict_writer *conflicts;  /* owned */
	struct dedup_question *question;    /* owned; NULL: there is no deduplicator */
	struct enrich_question *enrichment; /* owned; NULL: there is no enricher */
	dedup_ticket ticket;                /* of the transaction under way */
	enum batch_finding *findings;       /* owned; of the range in work */
	struct event **aside;               /* owned; room for sorting events */
	struct dead_writer *dead;           /* owned */
	struct graves *graves;              /* owned */
	struct event *lent; /* reference: the dead letter under way points into it */
	/* of the latest failure */
	enum verdict verdict;
	enum err why;
	char sqlstate[6];
	char message[256];
	/* the probe, or the healing */
	int32_t heal_days; /* big endian */
	struct pg_param heal_param;
	struct pg_call small;
};

/* ---- batch.c ---- */

void batch_set_state(struct batch *b, enum batch_state to);
void batch_submit(struct batch *b, enum batch_state state, const struct pg_call *calls, size_t n,
                  usec_t timeout);
void batch_run_range(struct batch *b);
void batch_end(struct batch *b); /* nothing is left of it */
void batch_next_range(struct batch *b);
/* Settles the first n of the range in work. */
void batch_settle(struct batch *b, size_t n);
void batch_fill_fates(struct batch *b, size_t from, size_t n, enum event_fate fate);
/* Gives back whatever is not settled, and is over. */
void batch_return(struct batch *b);

/* All steps before the first transaction are done. */
void batch_prepared(struct batch *b);

/* ---- batch_known.c ---- */

enum err batch_known_init(struct batch *b) MUST_CHECK;
void batch_known_done(struct batch *b);
/* First step: settles what the deduplicator knows, then goes on to batch_enrich(). */
void batch_deduplicate(struct batch *b);
/* Settles the range in work by its findings; conflicts, and what is to be tried again, become
 * ranges of their own. */
void batch_settle_found(struct batch *b);
/* Runs a range of conflicts. */
void batch_dispute(struct batch *b);
void batch_step_disputing(struct batch *b, enum err err, const struct pg_outcome *outcome);

/* ---- batch_graves.c ---- */

enum err batch_graves_init(struct batch *b) MUST_CHECK;
void batch_graves_done(struct batch *b);
void batch_graves_reset(struct batch *b); /* gives memory back that was for large batches */
/* Whether the range in work holds an event that may be a dead letter already. */
bool batch_has_returned(const struct batch *b);
/* Finds out which of them are, settles those, and runs the others. */
void batch_seek_graves(struct batch *b);
void batch_step_seeking(struct batch *b, enum err err, const struct pg_outcome *outcome);

/* ---- batch_enrich.c ---- */

enum err batch_enrich_init(struct batch *b) MUST_CHECK;
/* Second step, then batch_prepared(). */
void batch_enrich(struct batch *b);

/* ---- batch_trouble.c ---- */

/* The range in work failed. `outcome` may be NULL. */
void batch_fail(struct batch *b, enum err err, const struct pg_outcome *outcome);
/* The same where the cause is not the range, whatever the error: it is just tried again. */
void batch_fail_lightly(struct batch *b, enum err err, const struct pg_outcome *outcome);
/* Waits as is due for the range in work, then runs it. */
void batch_wait(struct batch *b);

void batch_step_healing(struct batch *b, enum err err, const struct pg_outcome *outcome);
void batch_step_probing(struct batch *b, enum err err);
void batch_step_burying(struct batch *b, enum err err);
/* Writes the dead letter of the single event in work, for the failure that was noted last. */
void batch_bury(struct batch *b);

#endif
