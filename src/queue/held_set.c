/* Linear probing with backward shift: no tombstones, so that ids that come and go by the million
 * leave the table as quick as it was. */
#include "weir/queue/held_set.h"

#include "weir/base/mem.h"

#define FIRST_SPACE 256

void held_set_init(struct held_set *s)
{
	*s = (struct held_set){NULL, 0, 0};
}

void held_set_done(struct held_set *s)
{
	mem_free(s->slots);
	held_set_init(s);
}

/* splitmix64's finisher over both halves: ids of one millisecond differ in their low bits only. */
static size_t home(const struct held_set *s, struct stream_id id, uint8_t stream)
{
	uint64_t x = id.ms * UINT64_C(0x9e3779b97f4a7c15) ^ (id.seq * 2 + stream);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (size_t)(x ^ (x >> 31)) & (s->space - 1);
}

static bool same(const struct held *h, struct stream_id id, uint8_t stream)
{
	return h->id.ms == id.ms && h->id.seq == id.seq && h->stream == stream;
}

/* The id's place, or the free one where it would go. */
static struct held *find(const struct held_set *s, struct stream_id id, uint8_t stream)
{
	size_t i = home(s, id, stream);

	while (s->slots[i].used && !same(&s->slots[i], id, stream))
		i = (i + 1) & (s->space - 1);
	return &s->slots[i];
}

static enum err grow(struct held_set *s)
{
	struct held_set wide = {.space = s->space ? s->space * 2 : FIRST_SPACE, .count = s->count};

	wide.slots = mem_array(wide.space, sizeof(*wide.slots));
	if (!wide.slots)
		return ERR_NOMEM;
	for (size_t i = 0; i < s->space; i++)
		if (s->slots[i].used)
			*find(&wide, s->slots[i].id, s->slots[i].stream) = s->slots[i];
	mem_free(s->slots);
	*s = wide;
	return ERR_OK;
}

enum err held_set_add(struct held_set *s, struct stream_id id, uint8_t stream)
{
	struct held *h;

	if ((s->count + 1) * 4 > s->space * 3 && grow(s) != ERR_OK)
		return ERR_NOMEM;
	h = find(s, id, stream);
	if (h->used)
		return ERR_CONFLICT;
	*h = (struct held){id, stream, true};
	s->count++;
	return ERR_OK;
}

bool held_set_remove(struct held_set *s, struct stream_id id, uint8_t stream)
{
	struct held *h = s->space ? find(s, id, stream) : NULL;
	size_t hole, i;

	if (!h || !h->used)
		return false;
	hole = (size_t)(h - s->slots);
	for (i = (hole + 1) & (s->space - 1); s->slots[i].used; i = (i + 1) & (s->space - 1)) {
		size_t want = home(s, s->slots[i].id, s->slots[i].stream);

		/* It may move into the hole unless its home lies between the hole and itself. */
		if (((i - want) & (s->space - 1)) < ((i - hole) & (s->space - 1)))
			continue;
		s->slots[hole] = s->slots[i];
		hole = i;
	}
	s->slots[hole].used = false;
	s->count--;
	return true;
}

const struct held *held_set_next(const struct held_set *s, size_t *pos)
{
	while (*pos < s->space) {
		const struct held *h = &s->slots[(*pos)++];

		if (h->used)
			return h;
	}
	return NULL;
}
