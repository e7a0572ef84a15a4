/* A question of a batch becomes a job: CACHE (the MGET is under way), LOOKUP, OVER. The job is
 * apart from the question, because a batch may stop waiting, by its deadline or because it is given
 * back, while Redis or the look-up still owe answers; what comes late is cached nevertheless.
 *
 * Look-ups that fail close a gate for a while, longer each time. When that is over one look-up is
 * let through to see; the others pass by until it is back. */
#include "weir/pipeline/enricher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "enrich_priv.h"
#include "weir/base/digest.h"
#include "weir/base/mem.h"
#include "weir/model/event.h"
#include "weir/model/recipient.h"
#include "weir/pipeline/recipient_lookup.h"
#include "weir/run/log.h"

#define MAX_GROUPS    10000 /* of one question; those beyond go without */
#define CACHE_TIMEOUT (200 * USEC_PER_MSEC)
#define NOT_KNOWN     (-1)

#define JOB_STATES(X)        X(CACHE, "cache") X(LOOKUP, "look-up") X(OVER, "over")
#define JOB_ENUM(code, name) JOB_##code,
enum job_state { JOB_STATES(JOB_ENUM) };
#define JOB_NAME(code, name) name,
static const char *const job_names[] = {JOB_STATES(JOB_NAME)};

/* X(code, label): how a report came by its recipient, or why not. */
#define RESULTS(X)                          \
	X(CACHED, "cached")                 \
	X(CACHED_UNKNOWN, "cached_unknown") \
	X(FOUND, "found")                   \
	X(UNKNOWN, "unknown")               \
	X(FAILED, "failed")                 \
	X(SKIPPED, "skipped")
#define RESULT_ENUM(code, label) RESULT_##code,
enum result { RESULTS(RESULT_ENUM) RESULT_COUNT };
#define RESULT_LABEL(code, label) label,
static const char *const result_labels[] = {RESULTS(RESULT_LABEL)};

struct entry {
	uint8_t hash[ENRICH_HASH_LEN];
	uint32_t group;
	struct str tool;                 /* the event's */
	struct recipient_report *report; /* borrowed from the event */
};

struct job {
	struct list_node node;     /* in enricher.jobs */
	struct enricher *enricher; /* borrowed */
	enum job_state state;
	struct enrich_question *question; /* borrowed; NULL: nobody waits any more */
	struct loop_timer timer;          /* CACHE */
	bool cache_owes;                  /* an answer */
	const char *epoch;                /* borrowed for the asking; "" when it is not known */
	bool cacheable;
	usec_t deadline, asked;
	struct entry *entries; /* owned; their events may be gone once `question` is NULL */
	size_t entry_count;
	struct enrich_group *groups; /* owned */
	size_t group_count;
	struct recipient_key *keys; /* owned; what the look-up is asked for */
	uint32_t *key_groups;       /* owned */
	size_t key_count;
	char *texts; /* owned; what the keys consist of */
};

struct enrich_question {
	struct enricher *enricher; /* borrowed */
	struct job *job;           /* NULL: none is under way */
	void (*done)(void *arg);
	void *arg;
};

struct enricher {
	struct enricher_options o;
	struct enrich_cache cache;
	struct enrich_gate gate;
	struct list jobs; /* job.node; owned */
	struct metric *results[RESULT_COUNT];
};

static void set_state(struct job *j, enum job_state to)
{
	log_debug(LOG_PIPELINE, "enrichment", LOG_STR("from", job_names[j->state]),
	          LOG_STR("to", job_names[to]), LOG_INT("recipients", j->group_count));
	j->state = to;
}

/* ---- jobs ---- */

static void job_free(struct job *j)
{
	if (list_linked(&j->node))
		list_remove(&j->enricher->jobs, &j->node);
	loop_timer_done(&j->timer);
	mem_free(j->texts);
	mem_free(j->entries);
	mem_free(j->groups);
	mem_free(j->keys);
	mem_free(j->key_groups);
	mem_free(j);
}

static size_t count_reports(struct event *const *events, size_t n)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		if (events[i]->reports)
			count += events[i]->reports->n;
	}
	return count;
}

static enum err hash_of(const struct job *j, struct str tool, const struct recipient_report *r,
                        uint8_t *out)
{
	struct str parts[] = {str_of(j->epoch), STR("\0"), tool,      STR("\0"),
	                      r->message_id,    STR("\0"), r->address};
	uint8_t whole[DIGEST_MAX_LEN];
	enum err e = digest_parts(DIGEST_SHA256, parts, 7, whole);

	memcpy(out, whole, ENRICH_HASH_LEN);
	return e;
}

static enum err add_entries(struct job *j, const struct event *e)
{
	enum err err = ERR_OK;

	for (size_t i = 0; i < e->reports->n && err == ERR_OK; i++) {
		struct entry *to = &j->entries[j->entry_count];

		to->tool = e->view.tool;
		to->report = &e->reports->list[i];
		err = hash_of(j, to->tool, to->report, to->hash);
		if (to->report->recipient_id == 0)
			j->entry_count++;
	}
	return err;
}

static int compare_entries(const void *a, const void *b)
{
	return memcmp(((const struct entry *)a)->hash, ((const struct entry *)b)->hash,
	              ENRICH_HASH_LEN);
}

/* Equal hashes stand together; each run of them is a group. */
static enum err make_groups(struct job *j)
{
	qsort(j->entries, j->entry_count, sizeof(*j->entries), compare_entries);
	j->groups = mem_array(j->entry_count, sizeof(*j->groups));
	if (!j->groups)
		return ERR_NOMEM;
	for (size_t i = 0; i < j->entry_count; i++) {
		struct entry *e = &j->entries[i];

		if (i == 0 || compare_entries(e - 1, e) != 0) {
			struct enrich_group *g;

			if (j->group_count == MAX_GROUPS) {
				metric_add(j->enricher->results[RESULT_SKIPPED],
				           (double)(j->entry_count - i));
				j->entry_count = i;
				break;
			}
			g = &j->groups[j->group_count++];
			memcpy(g->hash, e->hash, ENRICH_HASH_LEN);
			g->id = NOT_KNOWN;
		}
		e->group = (uint32_t)j->group_count - 1;
	}
	return ERR_OK;
}

static void on_cache_late(void *arg);

static struct job *job_new(struct enrich_question *q, struct event *const *events, size_t n,
                           size_t reports)
{
	struct enricher *e = q->enricher;
	struct job *j = mem_zalloc(sizeof(*j));

	if (!j)
		return NULL;
	j->enricher = e;
	j->question = q;
	j->deadline = loop_now(e->o.loop) + e->o.timeout;
	j->epoch = e->o.epoch ? e->o.epoch(e->o.epoch_arg) : "";
	j->cacheable = !e->o.epoch || *j->epoch;
	j->entries = mem_array(reports, sizeof(*j->entries));
	if (!j->entries || loop_timer_init(&j->timer, e->o.loop, on_cache_late, j) != ERR_OK)
		goto fail;
	for (size_t i = 0; i < n; i++) {
		if (events[i]->reports && add_entries(j, events[i]) != ERR_OK)
			goto fail;
	}
	if (make_groups(j) != ERR_OK)
		goto fail;
	return j;
fail:
	job_free(j);
	return NULL;
}

/* Its part is done; frees it unless Redis still owes it an answer. Tells nobody. */
static void job_over(struct job *j)
{
	if (j->question)
		j->question->job = NULL;
	j->question = NULL;
	loop_timer_stop(&j->timer);
	set_state(j, JOB_OVER);
	if (!j->cache_owes)
		job_free(j);
}

/* Tells those reports whose recipient is known by now, and leaves the others as entries. */
static void settle_known(struct job *j, enum result found, enum result unknown)
{
	size_t left = 0, counts[2] = {0};

	for (size_t i = 0; i < j->entry_count; i++) {
		int64_t id = j->groups[j->entries[i].group].id;

		if (id == NOT_KNOWN) {
			j->entries[left++] = j->entries[i];
			continue;
		}
		j->entries[i].report->recipient_id = id;
		counts[id > 0]++;
	}
	j->entry_count = left;
	metric_add(j->enricher->results[found], (double)counts[1]);
	metric_add(j->enricher->results[unknown], (double)counts[0]);
}

/* The others go without. */
static void settle_rest(struct job *j, enum result why)
{
	metric_add(j->enricher->results[why], (double)j->entry_count);
	j->enricher->gate.without += j->entry_count;
	j->entry_count = 0;
}

/* The question is over; whoever asked is told last. */
static void answer(struct job *j)
{
	struct enrich_question *q = j->question;

	job_over(j);
	if (q)
		q->done(q->arg);
}

/* ---- the look-up ---- */

static void on_found(void *arg, enum err err, const char *text, const int64_t *ids)
{
	struct job *j = arg;
	struct enricher *e = j->enricher;

	enrich_gate_note(&e->gate, err, text, j->asked);
	for (size_t i = 0; err == ERR_OK && i < j->key_count; i++) {
		struct enrich_group *g = &j->groups[j->key_groups[i]];

		g->id = ids[i];
		if (j->cacheable)
			enrich_cache_set(&e->cache, g);
	}
	settle_known(j, RESULT_FOUND, RESULT_UNKNOWN);
	settle_rest(j, RESULT_FAILED);
	answer(j);
}

/* Each group's key, as copies: events may go while the look-up runs. */
static enum err make_keys(struct job *j)
{
	size_t bytes = 0;
	char *p;

	for (size_t i = 0; i < j->entry_count; i++) {
		const struct entry *e = &j->entries[i];

		bytes += e->tool.len + e->report->message_id.len + e->report->address.len;
	}
	j->keys = mem_array(j->group_count, sizeof(*j->keys));
	j->key_groups = mem_array(j->group_count, sizeof(*j->key_groups));
	j->texts = p = mem_alloc(bytes);
	if (!j->keys || !j->key_groups || !p)
		return ERR_NOMEM;
	for (size_t i = 0; i < j->entry_count; i++) {
		const struct entry *e = &j->entries[i];
		const struct str from[] = {e->tool, e->report->message_id, e->report->address};
		struct str to[3];

		if (i > 0 && e->group == e[-1].group)
			continue;
		for (size_t s = 0; s < 3; s++) {
			if (from[s].len)
				memcpy(p, from[s].ptr, from[s].len);
			to[s] = str_n(p, from[s].len);
			p += from[s].len;
		}
		j->keys[j->key_count] = (struct recipient_key){to[0], to[1], to[2]};
		j->key_groups[j->key_count++] = e->group;
	}
	return ERR_OK;
}

/* False: there is nothing to wait for. */
static bool look_up(struct job *j)
{
	struct enricher *e = j->enricher;
	usec_t now = loop_now(e->o.loop);
	enum err err = ERR_TIMEOUT;

	if (j->entry_count == 0)
		return false;
	if (!e->o.lookup || !enrich_gate_open(&e->gate)) {
		settle_rest(j, RESULT_SKIPPED);
		return false;
	}
	j->asked = now;
	if (j->deadline > now)
		err = make_keys(j);
	if (err == ERR_OK)
		err = e->o.lookup->find(e->o.lookup, j->keys, j->key_count, j->deadline - now,
		                        on_found, j);
	if (err == ERR_OK) {
		set_state(j, JOB_LOOKUP);
		return true;
	}
	enrich_gate_note(&e->gate, err, err_meaning(err), now);
	settle_rest(j, RESULT_FAILED);
	return false;
}

/* ---- the cache ---- */

static void on_cached(void *arg, enum err err, const struct redis_reply *reply)
{
	struct job *j = arg;
	struct enricher *e = j->enricher;
	bool late = j->state != JOB_CACHE;

	j->cache_owes = false;
	enrich_cache_read(&e->cache, err, reply, j->groups, late ? 0 : j->group_count);
	switch (j->state) {
	case JOB_CACHE:
		loop_timer_stop(&j->timer);
		settle_known(j, RESULT_CACHED, RESULT_CACHED_UNKNOWN);
		if (err == ERR_CANCELLED)
			settle_rest(j, RESULT_SKIPPED);
		if (!look_up(j))
			answer(j);
		return;
	case JOB_LOOKUP:
		return;
	case JOB_OVER:
		job_free(j);
		return;
	}
}

static void on_cache_late(void *arg)
{
	struct job *j = arg;

	if (!j->enricher->cache.stalled)
		log_warn(LOG_PIPELINE, "the cache of recipients does not answer in time");
	j->enricher->cache.stalled = true;
	if (!look_up(j))
		answer(j);
}

static void ask_cache(struct job *j)
{
	struct enricher *e = j->enricher;
	usec_t half = e->o.timeout / 2;

	if (!j->cacheable)
		return;
	if (enrich_cache_get(&e->cache, j->groups, j->group_count, on_cached, j) != ERR_OK)
		return;
	j->cache_owes = true;
	loop_timer_set(&j->timer, half < CACHE_TIMEOUT ? half : CACHE_TIMEOUT);
}

/* ---- questions ---- */

enum err enrich_question_new(struct enricher *e, void (*done)(void *arg), void *arg,
                             struct enrich_question **ret)
{
	struct enrich_question *q = mem_zalloc(sizeof(*q));

	if (!q)
		return ERR_NOMEM;
	*q = (struct enrich_question){.enricher = e, .done = done, .arg = arg};
	*ret = q;
	return ERR_OK;
}

void enrich_question_free(struct enrich_question *q)
{
	if (!q)
		return;
	if (q->job) {
		enricher_forget(q);
		q->job->question = NULL;
	}
	mem_free(q);
}

bool enricher_ask(struct enrich_question *q, struct event *const *events, size_t n)
{
	struct enricher *e = q->enricher;
	size_t reports = count_reports(events, n);
	struct job *j = reports > 0 ? job_new(q, events, n, reports) : NULL;

	if (!j) {
		metric_add(e->results[RESULT_FAILED], (double)reports);
		return false;
	}
	q->job = j;
	list_push_back(&e->jobs, &j->node);
	ask_cache(j);
	if (j->cache_owes || look_up(j))
		return true;
	job_over(j);
	return false;
}

void enricher_forget(struct enrich_question *q)
{
	if (q->job)
		q->job->entry_count = 0;
}

/* ---- life ---- */

static void make_metrics(struct enricher *e)
{
	struct metric_family *results = metric_family(
	    e->o.metrics,
	    &(struct metric_spec){.type = METRIC_COUNTER,
	                          .name = "webhook_enrich_reports_total",
	                          .help = "Delivery reports by how their recipient was found.",
	                          .labels = {"result"}});

	for (size_t i = 0; i < RESULT_COUNT; i++)
		e->results[i] = metric_of(results, result_labels[i], NULL, NULL);
}

enum err enricher_new(const struct enricher_options *o, struct enricher **ret)
{
	struct enricher *e = mem_zalloc(sizeof(*e));
	const char *backend = o->lookup ? o->lookup->name : "none";

	if (!e)
		return ERR_NOMEM;
	e->o = *o;
	e->o.key_prefix = NULL;
	list_init(&e->jobs);
	make_metrics(e);
	enrich_gate_init(&e->gate, o, backend);
	if (enrich_cache_init(&e->cache, o, backend) != ERR_OK) {
		enricher_free(e);
		return ERR_NOMEM;
	}
	*ret = e;
	return ERR_OK;
}

void enricher_free(struct enricher *e)
{
	if (!e)
		return;
	while (e->jobs.count > 0)
		job_free(container_of(list_front(&e->jobs), struct job, node));
	enrich_cache_done(&e->cache);
	mem_free(e);
}

bool enricher_report(const struct enricher *e, struct buf *details)
{
	const struct enrich_cache *c = &e->cache;
	bool off = !c->redis || c->found_ttl == 0;

	buf_addf(details, "\"backend\":\"%s\",\"cache\":\"%s\",",
	         e->o.lookup ? e->o.lookup->name : "none",
	         off          ? "off"
	         : c->stalled ? "stalled"
	                      : "on");
	return enrich_gate_report(&e->gate, details) && !c->stalled;
}
