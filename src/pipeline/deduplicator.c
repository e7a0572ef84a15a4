/* The layers in front of the database, and whether they may be trusted.
 *
 * An epoch names what the layers remember. It is known only as long as the pool has made no further
 * connection since it was read: a connection that was made anew may lead to a server that was
 * restored or failed over to, where keys that we remember are gone. Until it has been read again,
 * questions are answered "not known", and what is committed meanwhile is not remembered. Where a
 * proxy keeps our connections while it changes servers, the reading every few seconds notices. */
#include "weir/pipeline/deduplicator.h"

#include <stdio.h>
#include <string.h>

#include "dedup_priv.h"
#include "weir/base/buf.h"
#include "weir/base/mem.h"
#include "weir/base/ttl_cache.h"
#include "weir/io/pg.h"
#include "weir/run/log.h"
#include "weir/run/metric.h"

#define MEMORY_TTL    (60 * USEC_PER_SEC)
#define READ_PERIOD   (10 * USEC_PER_SEC)
#define READ_RETRY    USEC_PER_SEC
#define READ_DEADLINE (5 * USEC_PER_SEC)

static const char *const layer_names[DEDUP_LAYERS] = {"batch", "memory", "redis", "database"};

struct deduplicator {
	struct deduplicator_options o;
	struct ttl_cache *memory;   /* owned; NULL: no such layer */
	struct dedup_sets *sets;    /* owned; NULL: no such layer */
	struct dedup_member *marks; /* owned; batch_size of them: what is being marked */
	bool stopped;

	char epoch[DEDUP_EPOCH_MAX];
	bool read;               /* `epoch` was read */
	uint64_t sessions;       /* of the pool, when it was */
	uint64_t asked_sessions; /* when the reading under way was submitted */
	bool reading;
	dedup_ticket ticket; /* counts epochs; 0: none was read yet */
	struct pg_call call;
	struct loop_timer timer;

	uint64_t asked[DEDUP_LAYERS], hits[DEDUP_LAYERS];
	struct metric *asked_total[DEDUP_LAYERS], *hits_total[DEDUP_LAYERS];
};

struct dedup_question {
	struct deduplicator *d;
	bool *known;            /* owned; by event */
	uint32_t *event;        /* owned; of the look's members */
	struct dedup_look look; /* of meaning only where there are sets */
	dedup_ticket ticket;
	void (*done)(void *arg);
	void *arg;
};

/* ---- the epoch ---- */

static const struct pg_stmt epoch_stmt = {.name = "weir_epoch", .sql = "SELECT weir.epoch()"};

static void read_epoch(struct deduplicator *d);

/* Whether what is remembered may be used now. */
static bool current(const struct deduplicator *d)
{
	return d->read && !d->stopped && pg_pool_sessions(d->o.pool) == d->sessions;
}

static void change_epoch(struct deduplicator *d, struct str epoch)
{
	if (d->ticket > 0)
		log_warn(LOG_PIPELINE, "the database is not the one of before (restored, or failed"
		                       " over): remembered keys do not count any more");
	snprintf(d->epoch, sizeof(d->epoch), "%.*s", (int)epoch.len, epoch.ptr);
	d->ticket++;
	if (d->memory)
		ttl_cache_clear(d->memory);
	if (d->sets)
		dedup_sets_set_epoch(d->sets, epoch);
}

static void on_epoch(void *arg, enum err err, const struct pg_outcome *outcome)
{
	struct deduplicator *d = arg;
	struct str epoch = STR_NONE;

	d->reading = false;
	if (d->stopped)
		return;
	if (err == ERR_OK && pg_rows(outcome->results[0]) == 1)
		epoch = pg_value(outcome->results[0], 0, 0);
	loop_timer_set(&d->timer, epoch.len > 0 ? READ_PERIOD : READ_RETRY);
	if (epoch.len == 0 || epoch.len >= sizeof(d->epoch)) {
		d->read = false;
		return;
	}
	if (!str_eq(epoch, str_of(d->epoch)))
		change_epoch(d, epoch);
	d->read = true;
	d->sessions = d->asked_sessions;
	if (!current(d))
		read_epoch(d);
}

static void read_epoch(struct deduplicator *d)
{
	if (d->reading || d->stopped || !pg_pool_up(d->o.pool))
		return;
	d->asked_sessions = pg_pool_sessions(d->o.pool);
	d->reading = pg_submit(d->o.pool, &d->call, 1, READ_DEADLINE, on_epoch, d) == ERR_OK;
	if (!d->reading)
		loop_timer_set(&d->timer, READ_RETRY);
}

static void on_timer(void *arg)
{
	struct deduplicator *d = arg;

	loop_timer_set(&d->timer, READ_RETRY);
	read_epoch(d);
}

void deduplicator_on_pool(struct deduplicator *d)
{
	if (!current(d))
		read_epoch(d);
}

const char *deduplicator_epoch(const struct deduplicator *d)
{
	return current(d) ? d->epoch : "";
}

/* ---- counting ---- */

void deduplicator_count(struct deduplicator *d, enum dedup_layer layer, size_t asked, size_t hits)
{
	if (asked == 0)
		return;
	d->asked[layer] += asked;
	d->hits[layer] += hits;
	metric_add(d->asked_total[layer], (double)asked);
	metric_add(d->hits_total[layer], (double)hits);
}

bool deduplicator_report(const struct deduplicator *d, struct buf *details)
{
	for (int i = 0; i < DEDUP_LAYERS; i++) {
		double rate = d->asked[i] ? (double)d->hits[i] / (double)d->asked[i] : 0;

		if ((i == DEDUP_MEMORY && !d->memory) || (i == DEDUP_REDIS && !d->sets))
			(void)buf_addf(details, "\"%s\":null,", layer_names[i]);
		else
			(void)buf_addf(details, "\"%s\":{\"hits\":%llu,\"hit_rate\":%.4f},",
			               layer_names[i], (unsigned long long)d->hits[i], rate);
	}
	(void)buf_addf(details, "\"memory_keys\":%zu", d->memory ? ttl_cache_count(d->memory) : 0);
	return !d->sets || dedup_sets_well(d->sets);
}

/* ---- questions ---- */

/* Events whose key says all: not those known by their body for a while only. */
static bool has_member(const struct event *e)
{
	return !e->windowed && !(e->flags & EVENT_MALFORMED);
}

static bool in_memory(struct deduplicator *d, const struct dedup_member *m, usec_t now)
{
	return d->memory && ttl_cache_has(d->memory, m->bytes, now);
}

static void on_looked(void *arg)
{
	struct dedup_question *q = arg;
	struct deduplicator *d = q->d;
	usec_t now = loop_now(d->o.loop);
	size_t hits = 0;

	/* Meanwhile the database may have become another one. */
	for (size_t i = 0; i < q->look.n && deduplicator_ticket(d) == q->ticket; i++) {
		if (!q->look.known[i])
			continue;
		hits++;
		q->known[q->event[i]] = true;
		if (d->memory)
			ttl_cache_add(d->memory, q->look.members[i].bytes, now);
	}
	deduplicator_count(d, DEDUP_REDIS, q->look.n, hits);
	q->done(q->arg);
}

bool dedup_ask(struct dedup_question *q, struct event *const *events, size_t n)
{
	struct deduplicator *d = q->d;
	usec_t now = loop_now(d->o.loop);
	bool may_look = d->sets && q->look.open == 0;
	size_t hits = 0, with_member = 0, left = 0;

	memset(q->known, 0, n * sizeof(*q->known));
	if (!current(d)) {
		deduplicator_on_pool(d);
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		struct dedup_member m;

		if (!has_member(events[i]))
			continue;
		with_member++;
		event_content_key(events[i], m.bytes);
		q->known[i] = in_memory(d, &m, now);
		hits += q->known[i];
		if (q->known[i] || !may_look)
			continue;
		q->event[left] = (uint32_t)i;
		q->look.members[left++] = m;
	}
	if (d->memory)
		deduplicator_count(d, DEDUP_MEMORY, with_member, hits);
	q->ticket = d->ticket;
	if (may_look)
		q->look.n = left;
	return may_look && dedup_look_start(&q->look);
}

bool dedup_known(const struct dedup_question *q, size_t i)
{
	return q->known[i];
}

enum err dedup_question_new(struct deduplicator *d, void (*done)(void *arg), void *arg,
                            struct dedup_question **ret)
{
	struct dedup_question *q = mem_zalloc(sizeof(*q));
	enum err e = ERR_NOMEM;

	if (!q)
		return ERR_NOMEM;
	q->d = d;
	q->done = done;
	q->arg = arg;
	q->known = mem_array(d->o.batch_size, sizeof(*q->known));
	q->event = mem_array(d->o.batch_size, sizeof(*q->event));
	if (q->known && q->event)
		e = d->sets ? dedup_look_init(&q->look, d->sets, d->o.batch_size, on_looked, q)
		            : ERR_OK;
	if (e != ERR_OK) {
		dedup_question_free(q);
		return e;
	}
	*ret = q;
	return ERR_OK;
}

void dedup_question_free(struct dedup_question *q)
{
	if (!q)
		return;
	dedup_look_done(&q->look);
	mem_free(q->known);
	mem_free(q->event);
	mem_free(q);
}

/* ---- marks ---- */

dedup_ticket deduplicator_ticket(const struct deduplicator *d)
{
	return current(d) ? d->ticket : 0;
}

static void mark_some(struct deduplicator *d, struct event *const *events, size_t n)
{
	usec_t now = loop_now(d->o.loop);
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		event_prefetch_next(events, i, n);
		if (has_member(events[i]))
			event_content_key(events[i], d->marks[count++].bytes);
	}
	for (size_t i = 0; d->memory && i < count; i++)
		ttl_cache_add(d->memory, d->marks[i].bytes, now);
	if (d->sets)
		dedup_sets_add(d->sets, d->marks, count);
}

void deduplicator_mark(struct deduplicator *d, dedup_ticket t, struct event *const *events,
                       size_t n)
{
	if (t == 0 || deduplicator_ticket(d) != t || (!d->memory && !d->sets))
		return;
	for (size_t at = 0; at < n; at += d->o.batch_size)
		mark_some(d, events + at, n - at < d->o.batch_size ? n - at : d->o.batch_size);
}

/* ---- life ---- */

static const struct metric_spec asked_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_dedup_checked_total",
    .help = "Events that a layer of deduplication looked at.",
    .labels = {"layer"},
};
static const struct metric_spec hits_spec = {
    .type = METRIC_COUNTER,
    .name = "webhook_dedup_hits_total",
    .help = "Duplicates by the layer of deduplication that found them.",
    .labels = {"layer"},
};

void deduplicator_start(struct deduplicator *d)
{
	loop_timer_set(&d->timer, 0);
	if (d->sets)
		dedup_sets_start(d->sets);
}

void deduplicator_stop(struct deduplicator *d)
{
	d->stopped = true;
	loop_timer_stop(&d->timer);
	if (d->sets)
		dedup_sets_stop(d->sets);
}

static enum err init(struct deduplicator *d)
{
	const struct deduplicator_options *o = &d->o;
	struct dedup_sets_options so = {.loop = o->loop,
	                                .redis = o->redis,
	                                .metrics = o->metrics,
	                                .key_prefix = o->key_prefix,
	                                .ttl = o->ttl,
	                                .max_keys = o->max_keys,
	                                .batch_size = o->batch_size};
	enum err e = loop_timer_init(&d->timer, o->loop, on_timer, d);

	if (e == ERR_OK && o->memory_keys > 0)
		e = ttl_cache_new(o->memory_keys, MEMORY_TTL, &d->memory);
	if (e == ERR_OK && o->redis && o->ttl > 0)
		e = dedup_sets_new(&so, &d->sets);
	d->o.key_prefix = NULL;
	d->marks = mem_array(o->batch_size, sizeof(*d->marks));
	return e == ERR_OK && !d->marks ? ERR_NOMEM : e;
}

enum err deduplicator_new(const struct deduplicator_options *o, struct deduplicator **ret)
{
	struct deduplicator *d = mem_zalloc(sizeof(*d));
	enum err e;

	if (!d)
		return ERR_NOMEM;
	d->o = *o;
	d->call = (struct pg_call){&epoch_stmt, NULL};
	e = init(d);
	if (e != ERR_OK) {
		deduplicator_free(d);
		return e;
	}
	for (int i = 0; i < DEDUP_LAYERS; i++) {
		d->asked_total[i] =
		    metric_of(metric_family(o->metrics, &asked_spec), layer_names[i], NULL, NULL);
		d->hits_total[i] =
		    metric_of(metric_family(o->metrics, &hits_spec), layer_names[i], NULL, NULL);
	}
	*ret = d;
	return ERR_OK;
}

void deduplicator_free(struct deduplicator *d)
{
	if (!d)
		return;
	loop_timer_done(&d->timer);
	dedup_sets_free(d->sets);
	ttl_cache_free(d->memory);
	mem_free(d->marks);
	mem_free(d);
}
