/* What deduplicator.c (questions, memory, epochs) and dedup_redis.c (the sets in Redis) share. */
#ifndef WEIR_PIPELINE_DEDUP_PRIV_H
#define WEIR_PIPELINE_DEDUP_PRIV_H

#include "weir/base/str.h"
#include "weir/model/event.h"
#include "weir/pipeline/deduplicator.h"
#include "weir/run/loop.h"

struct metric;
struct metric_family;

/* An event's key mixed with its body's hash; what sets and the memory cache hold. */
struct dedup_member {
	uint8_t bytes[EVENT_KEY_LEN];
};

/* ---- one look into the sets ---- */

enum { DEDUP_SHARDS = 4 };

struct dedup_sets;

struct dedup_look {
	struct dedup_sets *sets;      /* borrowed */
	struct dedup_member *members; /* owned, `space` of them, as are these: */
	bool *known;
	uint32_t *order; /* of members by shard; shard s has from[s] … from[s + 1] - 1 */
	uint32_t from[DEDUP_SHARDS + 1];
	size_t n;
	size_t space;
	unsigned open; /* replies that are to come */
	bool waiting;  /* for them; false once the deadline passed */
	struct dedup_part {
		struct dedup_look *look;
		unsigned shard;
	} parts[DEDUP_SHARDS];
	struct loop_timer deadline;
	void (*done)(void *arg);
	void *arg;
};

enum err dedup_look_init(struct dedup_look *k, struct dedup_sets *s, size_t space,
                         void (*done)(void *arg), void *arg) MUST_CHECK;
void dedup_look_done(struct dedup_look *k); /* safe on a zeroed one */
/* Asks for members[0 … n - 1]; `known` is set for those that are found. False: nothing was asked,
 * `done` will not be called. */
bool dedup_look_start(struct dedup_look *k);

/* ---- the sets ---- */

enum { DEDUP_SLOTS = 3 }; /* live ones; [0] is the present one */

#define DEDUP_NAME_MAX  320
#define DEDUP_EPOCH_MAX 64

struct dedup_sets_options {
	struct loop *loop; /* borrowed, as are all pointers here but key_prefix */
	struct redis *redis;
	struct metric_registry *metrics;
	const char *key_prefix; /* copied */
	usec_t ttl;
	size_t max_keys;
	size_t batch_size;
};

/* What a count of one set is for. */
struct dedup_count {
	struct dedup_sets *sets;
	unsigned slot, shard;
};

struct dedup_sets {
	struct dedup_sets_options o;
	char prefix[DEDUP_NAME_MAX / 2];
	char epoch[DEDUP_EPOCH_MAX]; /* "": none */
	usec_t length;               /* of a slot */
	int64_t slot;                /* the present one; -1: none yet */
	char names[DEDUP_SLOTS][DEDUP_SHARDS][DEDUP_NAME_MAX];
	bool expires[DEDUP_SHARDS]; /* the present slot's sets got their last day not long ago */
	struct str *argv;           /* owned; batch_size + 2 */
	struct dedup_look adding;   /* only sorts what is added */
	bool stopped;
	unsigned late;      /* replies whose question waits no more */
	usec_t quiet_until; /* after an error */
	bool in_trouble;    /* was told */
	/* ---- dedup_care.c ---- */
	struct loop_timer care;
	struct dedup_count counts[DEDUP_SLOTS][DEDUP_SHARDS];
	size_t cards[DEDUP_SLOTS][DEDUP_SHARDS];
	unsigned open;      /* replies of the care under way */
	int64_t cared_slot; /* cards are those of */
	bool spoiled;       /* not all of them came */
	size_t added;       /* since the last care */
	usec_t short_until; /* Redis has no memory to spare */
	struct metric_family *errors;
	struct metric *keys, *over_limit, *for_memory;
};

enum err dedup_sets_new(const struct dedup_sets_options *o, struct dedup_sets **ret) MUST_CHECK;
void dedup_sets_free(struct dedup_sets *s);
/* From now on sets of this epoch are meant. */
void dedup_sets_set_epoch(struct dedup_sets *s, struct str epoch);
void dedup_sets_add(struct dedup_sets *s, const struct dedup_member *members, size_t n);
void dedup_sets_start(struct dedup_sets *s);
void dedup_sets_stop(struct dedup_sets *s);
bool dedup_sets_well(const struct dedup_sets *s); /* would be asked */

/* For dedup_care.c: */
void dedup_sets_turn(struct dedup_sets *s); /* is it another slot by now? */
size_t dedup_sets_name(const struct dedup_sets *s, int64_t slot, unsigned shard,
                       char out[DEDUP_NAME_MAX]); /* its length */
void dedup_sets_trouble(struct dedup_sets *s, enum err err, struct str detail);

/* ---- their bounds (dedup_care.c) ---- */

void dedup_care_init(struct dedup_sets *s);
void dedup_care_on_timer(void *arg);
void dedup_care_added(struct dedup_sets *s, size_t n);
void dedup_care_unlink_old(struct dedup_sets *s); /* of slots that are over */
void dedup_care_out_of_memory(struct dedup_sets *s);
bool dedup_care_short(const struct dedup_sets *s); /* nothing may be added */

#endif
