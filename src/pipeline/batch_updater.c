/* Builds the transaction of a batch (batch_sql.c has its statements) and reads what came of it.
 *
 * A key with a window stores when it ends. Windows are compared in received time, not in the
 * database's, so that a backlog changes nothing: an event is a duplicate if it was received within
 * the window before or after the one that holds the key. */
#include "weir/pipeline/batch_updater.h"

#include <endian.h>
#include <stdlib.h>

#include "batch_params_priv.h"
#include "batch_sql.h"
#include "columns.h"
#include "weir/base/buf.h"
#include "weir/base/mem.h"
#include "weir/io/pg.h"
#include "weir/model/recipient.h"
#include "weir/pipeline/recipient_writer.h"

/* ---- the updater ---- */

#define TYPICAL_EVENT 1792 /* bytes that are fetched ahead of their use */

/* A large batch is stored by several statements of about so many rows. Measured with rows of 1 KiB:
 * 500 cost Postgres a tenth less of its time for each than 1,000 at once, and than 250. */
#define STATEMENT_ROWS 500

enum {
	GROUPS = 256,      /* of keys, by their first bits */
	GROUP_AT = 56,     /* those bits' place */
	FEW = 16,          /* claims, which need no qsort() */
	CALLS_BESIDES = 3, /* those that store: a lock, keys that become free, reports */
};

enum batch_role { ROLE_FIRST, ROLE_DUPLICATE, ROLE_LATER, ROLE_COUNT };

/* What a batch's key columns need of an event, so that they can be written in the keys' order
 * without visiting the events in it. */
struct entry {
	uint64_t high, low; /* the key as a number, so that sorting is cheap */
	struct event *event;
	usec_t window; /* 0: the key is for good */
	usec_t received;
	uint64_t body_hash;
	struct uuid uid;
	struct entry *first; /* of a ROLE_DUPLICATE: its ROLE_FIRST */
	enum batch_role role;
	uint32_t at; /* in `events`, once they are laid out */
};

/* An entry's place in the order of keys; small, since sorting moves it. */
struct claim {
	uint64_t high;
	struct entry *entry;
};

struct batch_updater {
	struct batch_params *shared; /* borrowed */
	struct entry *entries;       /* owned; in the order the events came */
	struct claim *claims;        /* owned; in the order of keys; once laid out, those first */
	uint32_t *first_of;          /* owned; for each ROLE_DUPLICATE, in order: its ROLE_FIRST */
	uint32_t *claim_of;          /* owned; for each ROLE_FIRST, in order: its claim */
	size_t space;                /* of each */
	bool reported;               /* some events have delivery reports */
	struct batch_plan plan;
	struct store_params *store; /* owned; of each statement that stores */
	struct buf keys;            /* of the look-up */
	struct buf free[FREE_COUNT];
	struct pg_param keys_param;
	struct pg_param free_params[FREE_COUNT];
	struct recipient_writer *recipients; /* owned */
	struct pg_call *calls;               /* owned */
	size_t call_count;
	size_t store_call, store_calls; /* of them; what is behind those are the reports */
	struct pg_call lookup;
};

/* ---- keys ---- */

static uint64_t load_be64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

/* By what the event says itself: the same whoever stores it, or looks whether it is stored. */
static void entry_set(struct entry *t, struct event *e)
{
	usec_t window = e->view.dedup_window ? e->view.dedup_window : EVENT_DEDUP_WINDOW;
	bool kept = e->windowed && window == EVENT_DEDUP_NONE;
	const uint8_t *key = kept ? e->view.uid.bytes : e->key;

	*t = (struct entry){
	    .high = load_be64(key),
	    .low = load_be64(key + 8),
	    .event = e,
	    .window = e->windowed && !kept ? window : 0,
	    .received = e->view.received,
	    .body_hash = e->body_hash,
	    .uid = e->view.uid,
	};
}

/* By key as Postgres orders uuids, then by age. */
static int compare_claims(const void *pa, const void *pb)
{
	const struct claim *ca = pa, *cb = pb;
	const struct entry *a = ca->entry, *b = cb->entry;

	if (ca->high != cb->high)
		return ca->high < cb->high ? -1 : 1;
	if (a->low != b->low)
		return a->low < b->low ? -1 : 1;
	if (a->received != b->received)
		return a->received < b->received ? -1 : 1;
	return memcmp(a->uid.bytes, b->uid.bytes, sizeof(a->uid.bytes));
}

static enum batch_role role_after(const struct entry *first, const struct entry *t)
{
	if (!first || first->high != t->high || first->low != t->low)
		return ROLE_FIRST;
	if (t->window > 0 && t->received - first->received >= t->window)
		return ROLE_LATER;
	return ROLE_DUPLICATE;
}

static enum err make_space(struct batch_updater *u, size_t n)
{
	if (n <= u->space)
		return ERR_OK;
	mem_free(u->entries);
	mem_free(u->claims);
	mem_free(u->first_of);
	mem_free(u->claim_of);
	mem_free(u->calls);
	u->space = 0;
	u->entries = mem_array(n, sizeof(*u->entries));
	u->claims = mem_array(n, sizeof(*u->claims));
	u->first_of = mem_array(n, sizeof(*u->first_of));
	u->claim_of = mem_array(n, sizeof(*u->claim_of));
	u->calls = mem_array(CALLS_BESIDES + n / STATEMENT_ROWS + 1, sizeof(*u->calls));
	if (!u->entries || !u->claims || !u->first_of || !u->claim_of || !u->calls)
		return ERR_NOMEM;
	u->space = n;
	return ERR_OK;
}

/* Few enough for inserting one by one. */
static void sort_few(struct claim *c, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		struct claim one = c[i];
		size_t at = i;

		for (; at > 0 && compare_claims(&c[at - 1], &one) > 0; at--)
			c[at] = c[at - 1];
		c[at] = one;
	}
}

/* Puts the claims in groups by their keys' first bits; ends[g] is where group g ends. */
static void group_claims(struct batch_updater *u, size_t n, uint32_t ends[GROUPS])
{
	uint32_t at = 0;

	memset(ends, 0, GROUPS * sizeof(*ends));
	for (size_t i = 0; i < n; i++)
		ends[u->entries[i].high >> GROUP_AT]++;
	for (size_t g = 0; g < GROUPS; g++) {
		uint32_t count = ends[g];

		ends[g] = at; /* grows to its end below */
		at += count;
	}
	for (size_t i = 0; i < n; i++) {
		struct entry *t = &u->entries[i];

		u->claims[ends[t->high >> GROUP_AT]++] = (struct claim){t->high, t};
	}
}

/* Keys are hashes as a rule, so the groups are of few. */
static void sort_claims(struct batch_updater *u, size_t n)
{
	uint32_t ends[GROUPS], at = 0;

	group_claims(u, n, ends);
	for (size_t g = 0; g < GROUPS; g++) {
		size_t count = ends[g] - at;

		if (count <= FEW)
			sort_few(u->claims + at, count);
		else
			qsort(u->claims + at, count, sizeof(*u->claims), compare_claims);
		at = ends[g];
	}
}

static void give_roles(struct batch_updater *u, struct event *const *events, size_t n)
{
	struct entry *first = NULL;

	u->reported = false;
	for (size_t i = 0; i < n; i++) {
		struct entry *t = &u->entries[i];

		event_prefetch_next(events, i, n);
		entry_set(t, events[i]);
		u->reported = u->reported || events[i]->reports;
	}
	sort_claims(u, n);
	for (size_t i = 0; i < n; i++) {
		struct entry *t = u->claims[i].entry;

		t->role = role_after(first, t);
		if (t->role == ROLE_FIRST)
			first = t;
		t->first = first;
	}
}

/* Orders `events` by role, and leaves the claims of ROLE_FIRST alone. */
static struct batch_plan lay_out(struct batch_updater *u, struct event **events, size_t n)
{
	size_t count[ROLE_COUNT] = {0};
	size_t at[ROLE_COUNT] = {0};
	size_t claims = 0;

	for (size_t i = 0; i < n; i++)
		count[u->entries[i].role]++;
	at[ROLE_DUPLICATE] = count[ROLE_FIRST];
	at[ROLE_LATER] = count[ROLE_FIRST] + count[ROLE_DUPLICATE];
	for (size_t i = 0; i < n; i++) {
		struct entry *t = &u->entries[i];

		t->at = (uint32_t)at[t->role]++;
		events[t->at] = t->event;
	}
	for (size_t i = 0; i < n; i++) {
		struct entry *t = u->claims[i].entry;

		if (t->role == ROLE_DUPLICATE)
			u->first_of[t->at - count[ROLE_FIRST]] = t->first->at;
		if (t->role != ROLE_FIRST)
			continue;
		u->claim_of[t->at] = (uint32_t)claims;
		u->claims[claims++] = u->claims[i];
	}
	return (struct batch_plan){count[ROLE_FIRST], count[ROLE_DUPLICATE], count[ROLE_LATER]};
}

/* ---- parameters ---- */

struct key {
	uint64_t half[2];
};

static struct key key_of(const struct entry *t)
{
	return (struct key){{htobe64(t->high), htobe64(t->low)}};
}

static void add_key(struct buf *b, const struct entry *t)
{
	struct key key = key_of(t);

	pg_array_add(b, &key, sizeof(key));
}

/* An event has one column for it: of several reports none is the event's. */
static void add_recipient(struct buf *c, const struct recipient_reports *r)
{
	if (r && r->n == 1 && r->list[0].recipient_id > 0)
		column_add_int64(c, r->list[0].recipient_id);
	else
		pg_array_add(c, NULL, 0);
}

static void add_claim(struct buf *c, const struct entry *t)
{
	add_key(&c[STORE_KEY], t);
	pg_array_add(&c[STORE_HOLDER], t->uid.bytes, sizeof(t->uid.bytes));
	column_add_int64(&c[STORE_BODY_HASH], (int64_t)t->body_hash);
	if (t->window > 0)
		column_add_time(&c[STORE_VALID_UNTIL], t->received + t->window);
	else
		pg_array_add(&c[STORE_VALID_UNTIL], NULL, 0);
}

static void add_event(struct buf *c, const struct event *e)
{
	const struct event_view *v = &e->view;

	pg_array_add(&c[STORE_UID], v->uid.bytes, sizeof(v->uid.bytes));
	column_add_text(&c[STORE_TOOL], v->tool);
	column_add_text(&c[STORE_TYPE], v->type);
	column_add_text(&c[STORE_ID], v->id);
	column_add_time(&c[STORE_RECEIVED], v->received);
	column_add_text_or_null(&c[STORE_HEADERS], v->headers);
	column_add_text_or_null(&c[STORE_CONTENT_TYPE], v->content_type);
	column_add_text(&c[STORE_BODY], v->body);
	column_add_text_or_null(&c[STORE_ENVELOPE], v->envelope);
	column_add_text_or_null(&c[STORE_TRACEPARENT], v->traceparent);
	add_recipient(&c[STORE_RECIPIENT_ID], e->reports);
}

static void add_window(struct batch_updater *u, const struct entry *t)
{
	if (t->window == 0)
		return;
	add_key(&u->free[FREE_KEY], t);
	pg_array_add(&u->free[FREE_UID], t->uid.bytes, sizeof(t->uid.bytes));
	column_add_time(&u->free[FREE_AFTER], t->received);
	column_add_time(&u->free[FREE_BEFORE], t->received + 2 * t->window);
}

/* Bodies and headers are most of it: their space is made once instead of by doubling. */
static enum err reserve_texts(struct buf *c, struct event *const *events, size_t n)
{
	size_t bodies = 32, headers = 32;
	enum err e;

	for (size_t i = 0; i < n; i++) {
		bodies += events[i]->view.body.len + sizeof(uint32_t);
		headers += events[i]->view.headers.len + sizeof(uint32_t);
	}
	e = buf_reserve(&c[STORE_HEADERS], headers);
	return e == ERR_OK ? buf_reserve(&c[STORE_BODY], bodies) : e;
}

static enum err build_free(struct batch_updater *u, size_t *ret_count)
{
	size_t count = 0;

	for (size_t i = 0; i < u->plan.first; i++)
		count += u->claims[i].entry->window > 0;
	*ret_count = count;
	if (count == 0)
		return ERR_OK;
	columns_begin(u->free, batch_sql_free_elements, FREE_COUNT);
	for (size_t i = 0; i < u->plan.first; i++)
		add_window(u, u->claims[i].entry);
	return columns_end(u->free, u->free_params, FREE_COUNT, count);
}

static void give_params_back(struct batch_updater *u)
{
	struct store_params *s;

	while ((s = u->store)) {
		u->store = s->next;
		batch_params_give(u->shared, s);
	}
}

void batch_updater_sent(struct batch_updater *u)
{
	give_params_back(u);
}

/* One statement; which keys go with which events makes no difference but `in_race`, where all go
 * together. */
static enum err build_statement(struct batch_updater *u, const struct claim *claims,
                                struct event *const *events, size_t n, struct store_params **ret)
{
	struct store_params *s;
	enum err e = batch_params_take(u->shared, &s);

	if (e != ERR_OK)
		return e;
	s->next = u->store;
	u->store = s;
	columns_begin(s->columns, batch_sql_store_elements, STORE_COUNT);
	e = reserve_texts(s->columns, events, n);
	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < n; i++)
		add_claim(s->columns, claims[i].entry);
	for (size_t i = 0; i < n; i++) {
		if (i + EVENT_PREFETCH < n)
			event_prefetch(events[i + EVENT_PREFETCH], TYPICAL_EVENT);
		add_event(s->columns, events[i]);
	}
	e = columns_end_padded(s->columns, s->params, STORE_COUNT, n);
	if (e == ERR_OK)
		*ret = s;
	return e;
}

static enum err build_store(struct batch_updater *u, bool in_race, struct event *const *events)
{
	size_t n = u->plan.first;
	size_t parts = in_race ? 0 : (n + STATEMENT_ROWS / 2) / STATEMENT_ROWS;

	parts = parts ? parts : 1;
	give_params_back(u); /* of a try before */
	u->store_call = u->call_count;
	u->store_calls = parts;
	for (size_t i = 0; i < parts; i++) {
		size_t at = n * i / parts, end = n * (i + 1) / parts;
		struct store_params *s;
		enum err e = build_statement(u, u->claims + at, events + at, end - at, &s);

		if (e != ERR_OK)
			return e;
		u->calls[u->call_count++] = (struct pg_call){
		    in_race ? &batch_sql_store_in_race : &batch_sql_store, s->params};
	}
	return ERR_OK;
}

/* The reports of what goes into the transaction. */
static enum err build_reports(struct batch_updater *u, const struct pg_call **ret_call)
{
	recipient_writer_begin(u->recipients);
	for (size_t i = 0; u->reported && i < u->plan.first; i++) {
		const struct entry *t = u->claims[i].entry;
		struct key key = key_of(t);

		recipient_writer_add(u->recipients, (const uint8_t *)&key, t->event);
	}
	return recipient_writer_end(u->recipients, ret_call);
}

enum err batch_updater_prepare(struct batch_updater *u, bool in_race, struct event **events,
                               size_t n, struct batch_plan *ret_plan)
{
	enum err e = make_space(u, n);
	const struct pg_call *reports;
	size_t windowed;

	if (e != ERR_OK)
		return e;
	give_roles(u, events, n);
	u->plan = lay_out(u, events, n);
	e = build_free(u, &windowed);
	if (e != ERR_OK)
		return e;
	u->call_count = 0;
	u->calls[u->call_count++] =
	    (struct pg_call){windowed > 0 ? &batch_sql_lock_to_free : &batch_sql_lock, NULL};
	if (windowed > 0)
		u->calls[u->call_count++] = (struct pg_call){&batch_sql_free, u->free_params};
	e = build_store(u, in_race, events);
	if (e == ERR_OK)
		e = build_reports(u, &reports);
	if (e != ERR_OK) {
		give_params_back(u);
		return e;
	}
	if (reports)
		u->calls[u->call_count++] = *reports;
	*ret_plan = u->plan;
	return ERR_OK;
}

const struct pg_call *batch_updater_store(const struct batch_updater *u, size_t *ret_count)
{
	*ret_count = u->call_count;
	return u->calls;
}

bool batch_updater_lost_race(const struct batch_updater *u, const struct pg_failure *f)
{
	return u->calls[u->store_call].stmt == &batch_sql_store &&
	       str_starts(str_of(f->constraint), STR("event_keys_"));
}

bool batch_updater_all_new(const struct batch_updater *u, const struct pg_result *const *results)
{
	size_t stored = 0;

	for (size_t i = u->store_call; i < u->store_call + u->store_calls; i++)
		stored += pg_affected(results[i]);
	return stored == u->plan.first;
}

const struct pg_result *batch_updater_counters(const struct batch_updater *u,
                                               const struct pg_result *const *results)
{
	size_t at = u->store_call + u->store_calls;

	return at < u->call_count ? results[at] : NULL;
}

enum err batch_updater_lookup(struct batch_updater *u, const struct pg_call **ret)
{
	static const uint32_t element = PG_UUID;
	enum err e;

	columns_begin(&u->keys, &element, 1);
	for (size_t i = 0; i < u->plan.first; i++)
		add_key(&u->keys, u->claims[i].entry);
	e = columns_end(&u->keys, &u->keys_param, 1, u->plan.first);
	if (e == ERR_OK)
		*ret = &u->lookup;
	return e;
}

/* Whether the same key is held with the same body. */
static enum batch_finding compare_holder(struct str uid, uint64_t body_hash, const struct event *e)
{
	if (uid.len == sizeof(e->view.uid.bytes) &&
	    memcmp(uid.ptr, e->view.uid.bytes, uid.len) == 0)
		return FOUND_STORED;
	return body_hash == e->body_hash ? FOUND_DUPLICATE : FOUND_CONFLICT;
}

static enum batch_finding finding_in(const struct pg_result *r, size_t row, const struct event *e)
{
	struct str uid = row < pg_rows(r) ? pg_value(r, row, 0) : STR_NONE;

	if (uid.len == 0)
		return FOUND_NOBODY;
	return compare_holder(uid, (uint64_t)pg_int8(r, row, 1), e);
}

void batch_updater_findings(const struct batch_updater *u, const struct pg_result *const *results,
                            struct event *const *events, enum batch_finding *findings)
{
	for (size_t i = 0; i < u->plan.first; i++)
		findings[i] =
		    results ? finding_in(results[0], u->claim_of[i], events[i]) : FOUND_STORED;
	for (size_t k = 0; k < u->plan.duplicate; k++) {
		size_t i = u->plan.first + k, first = u->first_of[k];

		findings[i] = results
		                  ? finding_in(results[0], u->claim_of[first], events[i])
		                  : compare_holder(STR_NONE, events[first]->body_hash, events[i]);
	}
}

/* ---- life ---- */

enum err batch_updater_new(struct batch_params *shared, struct batch_updater **ret)
{
	struct batch_updater *u = mem_zalloc(sizeof(*u));

	if (!u)
		return ERR_NOMEM;
	u->shared = shared;
	u->lookup = (struct pg_call){&batch_sql_lookup, &u->keys_param};
	columns_init(&u->keys, 1);
	columns_init(u->free, FREE_COUNT);
	if (recipient_writer_new(&u->recipients) != ERR_OK) {
		batch_updater_free(u);
		return ERR_NOMEM;
	}
	*ret = u;
	return ERR_OK;
}

void batch_updater_reset(struct batch_updater *u)
{
	give_params_back(u);
	columns_trim(&u->keys, 1);
	recipient_writer_reset(u->recipients);
}

void batch_updater_free(struct batch_updater *u)
{
	if (!u)
		return;
	give_params_back(u);
	columns_done(&u->keys, 1);
	columns_done(u->free, FREE_COUNT);
	recipient_writer_free(u->recipients);
	mem_free(u->entries);
	mem_free(u->claims);
	mem_free(u->first_of);
	mem_free(u->claim_of);
	mem_free(u->calls);
	mem_free(u);
}
