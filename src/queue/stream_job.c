/* Errors are no reason for another rhythm: periods are long enough for a server in trouble, and it
 * is to be seen soon that it is back. What it refused is logged by io/redis. */
#include "weir/queue/stream_job.h"

#include "weir/base/rnd.h"
#include "weir/io/redis.h"
#include "weir/run/log.h"

static const char *const state_names[] = {"idle", "resting", "asking", "stopped"};

#define TO(state) (1u << JOB_##state)
static const unsigned may_follow[] = {
    [JOB_IDLE] = TO(RESTING) | TO(STOPPED),
    [JOB_RESTING] = TO(ASKING) | TO(STOPPED),
    [JOB_ASKING] = TO(RESTING) | TO(STOPPED),
    [JOB_STOPPED] = TO(STOPPED),
};

static void set_state(struct stream_job *j, enum stream_job_state to)
{
	if (!(may_follow[j->state] & 1u << to))
		log_error(LOG_QUEUE, "a job in an impossible state", LOG_STR("what", j->o.what),
		          LOG_STR("from", state_names[j->state]), LOG_STR("to", state_names[to]));
	j->state = to;
}

static void rest(struct stream_job *j)
{
	usec_t p = j->o.period;

	if (j->o.jitter)
		p = p / 2 + (usec_t)rnd_below((uint64_t)p);
	if (j->next_rest && j->next_rest < p)
		p = j->next_rest;
	j->next_rest = 0;
	set_state(j, JOB_RESTING);
	loop_timer_set(&j->timer, p);
}

/* One that was counted is over. */
static void over(struct stream_job *j)
{
	if (--j->under_way == 0 && j->state == JOB_ASKING)
		rest(j);
}

static void tell(struct stream_job *j, enum err err, const struct redis_reply *reply)
{
	if (err != ERR_OK)
		log_debug(LOG_QUEUE, "a question without an answer", LOG_STR("what", j->o.what),
		          LOG_ERR(err), LOG_SLICE("detail", reply ? reply->str : STR_NONE));
	j->o.answer(j->o.arg, err, reply);
}

static void on_redis_reply(void *arg, enum err err, const struct redis_reply *reply)
{
	struct stream_job *j = arg;

	if (j->state != JOB_STOPPED)
		tell(j, err, reply);
	over(j);
}

void stream_job_ask(struct stream_job *j, const struct str *argv, size_t argc)
{
	enum err e = redis_submit(j->o.redis, argv, argc, j->o.timeout, on_redis_reply, j);

	if (e == ERR_OK)
		j->under_way++;
	else
		tell(j, e, NULL);
}

static void on_timer(void *arg)
{
	struct stream_job *j = arg;

	set_state(j, JOB_ASKING);
	j->under_way++;
	j->o.run(j->o.arg);
	over(j);
}

enum err stream_job_init(struct stream_job *j, const struct stream_job_options *o)
{
	*j = (struct stream_job){.o = *o};
	return loop_timer_init(&j->timer, o->loop, on_timer, j);
}

void stream_job_done(struct stream_job *j)
{
	loop_timer_done(&j->timer);
}

void stream_job_start(struct stream_job *j, usec_t first)
{
	if (j->state != JOB_IDLE)
		return;
	set_state(j, JOB_RESTING);
	loop_timer_set(&j->timer, first);
}

void stream_job_stop(struct stream_job *j)
{
	set_state(j, JOB_STOPPED);
	loop_timer_stop(&j->timer);
}

void stream_job_soon(struct stream_job *j, usec_t delay)
{
	if (j->state == JOB_RESTING && j->timer.due > loop_now(j->o.loop) + delay)
		loop_timer_set(&j->timer, delay);
	else if (j->state == JOB_ASKING)
		j->next_rest = delay ? delay : 1;
}
