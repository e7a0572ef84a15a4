/* What a stream needs again and again: a job runs when its time has come, asks Redis something, and
 * rests when all of that is answered. So there is never more than one run under way, and a Redis
 * that does not answer is not asked again meanwhile. */
#ifndef WEIR_QUEUE_STREAM_JOB_H
#define WEIR_QUEUE_STREAM_JOB_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/base/str.h"
#include "weir/run/loop.h"

struct redis;
struct redis_reply;

struct stream_job_options {
	struct loop *loop; /* borrowed, like all here */
	struct redis *redis;
	const char *what; /* for logs: "looking at the queue" */
	usec_t period;
	bool jitter; /* half to one and a half periods, so that processes do not go in step */
	usec_t timeout;
	/* The time has come: ask. Who asks nothing rests. */
	void (*run)(void *arg);
	/* Told once for each question, at once when it could not be sent (`reply` is NULL then),
	 * and never after a stop. May ask further. */
	void (*answer)(void *arg, enum err err, const struct redis_reply *reply);
	void *arg;
};

enum stream_job_state { JOB_IDLE, JOB_RESTING, JOB_ASKING, JOB_STOPPED };

/* Embedded in its owner. */
struct stream_job {
	struct stream_job_options o;
	enum stream_job_state state;
	struct loop_timer timer;
	size_t under_way; /* questions; and one while run() or answer() is on the stack */
	usec_t next_rest; /* 0: the period */
};

enum err stream_job_init(struct stream_job *j, const struct stream_job_options *o) MUST_CHECK;
void stream_job_done(struct stream_job *j); /* safe on a zeroed job */
void stream_job_start(struct stream_job *j, usec_t first);
/* For good: nothing is run or told any more. */
void stream_job_stop(struct stream_job *j);
/* The next run comes after `delay` at the latest; a run that is under way is finished before. */
void stream_job_soon(struct stream_job *j, usec_t delay);
/* From run() and answer(). */
void stream_job_ask(struct stream_job *j, const struct str *argv, size_t argc);

#endif
