/* All members live equally long, so the order of arrival is the order of expiry: members lie in a
 * ring, oldest first, and an open-addressed table finds them there. Its slots hold hashes as well,
 * so that a member itself, which is rarely in the processor's cache, is only looked at when it is
 * the right one. A removal moves the followers back instead of leaving a tombstone, because in the
 * steady state every addition removes one. */
#include "weir/base/ttl_cache.h"

#include <string.h>

#include "weir/base/mem.h"
#include "weir/base/rnd.h"

#define LEAST_SPACE 1024

struct member {
	uint64_t key[2];
	usec_t expires;
};

struct slot {
	uint32_t place; /* in the ring + 1; 0: free */
	uint32_t hash;
};

struct ttl_cache {
	struct member *ring; /* owned; `space` of them */
	struct slot *table;  /* owned; `slots` of them, a power of two */
	size_t space, slots;
	size_t oldest, count;
	size_t max;
	usec_t ttl;
	uint64_t seed[2];
};

/* Members are digests, but those who send what they are digests of can try many: hence the seed. */
static uint32_t hash_of(const struct ttl_cache *c, const uint64_t key[2])
{
	unsigned __int128 m =
	    (unsigned __int128)(key[0] ^ c->seed[0]) * ((key[1] ^ c->seed[1]) | 1);

	return (uint32_t)((uint64_t)m ^ (uint64_t)(m >> 64));
}

static bool same(const uint64_t a[2], const uint64_t b[2])
{
	return a[0] == b[0] && a[1] == b[1];
}

/* The key's slot, or the free one where it belongs. There is always a free slot. */
static size_t find_slot(const struct ttl_cache *c, const uint64_t key[2], uint32_t hash)
{
	size_t at = hash & (c->slots - 1);

	while (c->table[at].place &&
	       (c->table[at].hash != hash || !same(c->ring[c->table[at].place - 1].key, key)))
		at = (at + 1) & (c->slots - 1);
	return at;
}

/* Moves back whatever could no longer be reached past the free slot `hole`. */
static void close_hole(struct ttl_cache *c, size_t hole)
{
	size_t mask = c->slots - 1, at = hole, home;

	for (;;) {
		c->table[hole].place = 0;
		do {
			at = (at + 1) & mask;
			if (!c->table[at].place)
				return;
			home = c->table[at].hash & mask;
		} while (((at - home) & mask) < ((at - hole) & mask));
		c->table[hole] = c->table[at];
		hole = at;
	}
}

static void drop_oldest(struct ttl_cache *c)
{
	const uint64_t *key = c->ring[c->oldest].key;

	close_hole(c, find_slot(c, key, hash_of(c, key)));
	c->oldest = c->oldest + 1 == c->space ? 0 : c->oldest + 1;
	c->count--;
}

static void fill_table(struct ttl_cache *c)
{
	for (size_t i = 0; i < c->count; i++) {
		uint32_t hash = hash_of(c, c->ring[i].key);

		c->table[find_slot(c, c->ring[i].key, hash)] =
		    (struct slot){(uint32_t)(i + 1), hash};
	}
}

/* A failure leaves it as it is. */
static void grow(struct ttl_cache *c)
{
	size_t space = c->space ? c->space * 2 : LEAST_SPACE, slots = 2 * LEAST_SPACE;
	struct member *ring;
	struct slot *table;

	if (space > c->max)
		space = c->max;
	while (slots < space + space / 2)
		slots *= 2;
	ring = mem_array(space, sizeof(*ring));
	table = mem_array(slots, sizeof(*table));
	if (!ring || !table) {
		mem_free(ring);
		mem_free(table);
		return;
	}
	for (size_t i = 0; i < c->count; i++)
		ring[i] = c->ring[(c->oldest + i) % c->space];
	mem_free(c->ring);
	mem_free(c->table);
	c->ring = ring;
	c->table = table;
	c->space = space;
	c->slots = slots;
	c->oldest = 0;
	fill_table(c);
}

bool ttl_cache_has(const struct ttl_cache *c, const uint8_t key[TTL_CACHE_KEY_LEN], usec_t now)
{
	uint64_t k[2];
	size_t at;

	if (c->count == 0)
		return false;
	memcpy(k, key, sizeof(k));
	at = find_slot(c, k, hash_of(c, k));
	return c->table[at].place && now < c->ring[c->table[at].place - 1].expires;
}

void ttl_cache_add(struct ttl_cache *c, const uint8_t key[TTL_CACHE_KEY_LEN], usec_t now)
{
	uint64_t k[2];
	size_t at, slot;
	uint32_t hash;

	memcpy(k, key, sizeof(k));
	hash = hash_of(c, k);
	while (c->count > 0 && c->ring[c->oldest].expires <= now)
		drop_oldest(c);
	if (c->count == c->space && c->space < c->max)
		grow(c);
	if (c->space == 0)
		return;
	slot = find_slot(c, k, hash);
	if (c->table[slot].place)
		return;
	if (c->count == c->space) {
		drop_oldest(c);
		slot = find_slot(c, k, hash);
	}
	at = c->oldest + c->count;
	at = at >= c->space ? at - c->space : at;
	c->ring[at] = (struct member){{k[0], k[1]}, now + c->ttl};
	c->table[slot] = (struct slot){(uint32_t)(at + 1), hash};
	c->count++;
}

void ttl_cache_clear(struct ttl_cache *c)
{
	mem_free(c->ring);
	mem_free(c->table);
	c->ring = NULL;
	c->table = NULL;
	c->space = c->slots = c->oldest = c->count = 0;
}

size_t ttl_cache_count(const struct ttl_cache *c)
{
	return c->count;
}

enum err ttl_cache_new(size_t max, usec_t ttl, struct ttl_cache **ret)
{
	struct ttl_cache *c;

	if (max == 0 || max >= UINT32_MAX)
		return ERR_INVAL;
	c = mem_zalloc(sizeof(*c));
	if (!c)
		return ERR_NOMEM;
	c->max = max;
	c->ttl = ttl;
	c->seed[0] = rnd_u64();
	c->seed[1] = rnd_u64();
	*ret = c;
	return ERR_OK;
}

void ttl_cache_free(struct ttl_cache *c)
{
	if (!c)
		return;
	ttl_cache_clear(c);
	mem_free(c);
}
