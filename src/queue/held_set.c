/* Open addressing over runs of ids, with linear probing and backward shift: no tombstones, so that
 * ids that come and go by the million leave the table as quick as it was. In a flood a run is some
 * dozens of ids, and what is looked at twice for each event stays in the processor's cache. */
#include "weir/queue/held_set.h"

#include "weir/base/mem.h"

#define FIRST_SPACE 64
#define RUN_BITS    6
#define RUN_IDS     (1u << RUN_BITS)
#define STREAM_AT   (64 - RUN_BITS) /* the stream takes the place of the bits cut off */

_Static_assert(HELD_STREAMS <= RUN_IDS, "a stream fits where a run's bits were");

/* Free when it holds none. */
struct held_run {
	uint64_t ms;
	uint64_t part; /* seq / RUN_IDS, and the stream above it */
	uint64_t ids;  /* a bit each */
};

void held_set_init(struct held_set *s)
{
	*s = (struct held_set){NULL, 0, 0, 0};
}

void held_set_done(struct held_set *s)
{
	mem_free(s->slots);
	held_set_init(s);
}

static uint64_t part_of(struct stream_id id, uint8_t stream)
{
	return id.seq >> RUN_BITS | (uint64_t)stream << STREAM_AT;
}

static uint64_t bit_of(struct stream_id id)
{
	return UINT64_C(1) << (id.seq & (RUN_IDS - 1));
}

/* splitmix64's finisher over both halves: runs of one millisecond differ in their low bits only. */
static size_t home(const struct held_set *s, uint64_t ms, uint64_t part)
{
	uint64_t x = ms * UINT64_C(0x9e3779b97f4a7c15) ^ part;

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (size_t)(x ^ (x >> 31)) & (s->space - 1);
}

/* The run's place, or the free one where it would go. */
static struct held_run *find(const struct held_set *s, uint64_t ms, uint64_t part)
{
	size_t i = home(s, ms, part);

	while (s->slots[i].ids && (s->slots[i].ms != ms || s->slots[i].part != part))
		i = (i + 1) & (s->space - 1);
	return &s->slots[i];
}

static enum err grow(struct held_set *s)
{
	struct held_set wide = *s;

	wide.space = s->space ? s->space * 2 : FIRST_SPACE;
	wide.slots = mem_array(wide.space, sizeof(*wide.slots));
	if (!wide.slots)
		return ERR_NOMEM;
	for (size_t i = 0; i < s->space; i++)
		if (s->slots[i].ids)
			*find(&wide, s->slots[i].ms, s->slots[i].part) = s->slots[i];
	mem_free(s->slots);
	*s = wide;
	return ERR_OK;
}

enum err held_set_add(struct held_set *s, struct stream_id id, uint8_t stream)
{
	uint64_t part = part_of(id, stream);
	struct held_run *r;

	if ((s->runs + 1) * 4 > s->space * 3 && grow(s) != ERR_OK)
		return ERR_NOMEM;
	r = find(s, id.ms, part);
	if (r->ids & bit_of(id))
		return ERR_CONFLICT;
	s->runs += !r->ids;
	*r = (struct held_run){id.ms, part, r->ids | bit_of(id)};
	s->count++;
	return ERR_OK;
}

/* Closes the hole that a run leaves. */
static void take_out(struct held_set *s, size_t hole)
{
	size_t i;

	for (i = (hole + 1) & (s->space - 1); s->slots[i].ids; i = (i + 1) & (s->space - 1)) {
		size_t want = home(s, s->slots[i].ms, s->slots[i].part);

		/* It may move into the hole unless its home lies between the hole and itself. */
		if (((i - want) & (s->space - 1)) < ((i - hole) & (s->space - 1)))
			continue;
		s->slots[hole] = s->slots[i];
		hole = i;
	}
	s->slots[hole].ids = 0;
	s->runs--;
}

bool held_set_remove(struct held_set *s, struct stream_id id, uint8_t stream)
{
	struct held_run *r = s->space ? find(s, id.ms, part_of(id, stream)) : NULL;

	if (!r || !(r->ids & bit_of(id)))
		return false;
	r->ids &= ~bit_of(id);
	if (!r->ids)
		take_out(s, (size_t)(r - s->slots));
	s->count--;
	return true;
}

bool held_set_next(const struct held_set *s, size_t *pos, struct held *ret)
{
	for (; *pos < s->space * RUN_IDS; *pos = (*pos / RUN_IDS + 1) * RUN_IDS) {
		const struct held_run *r = &s->slots[*pos / RUN_IDS];
		uint64_t rest = r->ids >> *pos % RUN_IDS;

		if (!rest)
			continue;
		*pos += (size_t)__builtin_ctzll(rest);
		*ret = (struct held){{r->ms, r->part << RUN_BITS | *pos % RUN_IDS},
		                     (uint8_t)(r->part >> STREAM_AT)};
		++*pos;
		return true;
	}
	return false;
}
