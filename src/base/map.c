/* Open addressing with linear probing. A removal moves the followers back instead of leaving a
 * tombstone, so that look-ups stay short however much comes and goes. The hash is SipHash-1-3 with
 * a key of the map's own: what senders choose (ids, types) lands here. */
#include "weir/base/map.h"

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/mem.h"
#include "weir/base/rnd.h"

#define MAP_LEAST_SLOTS 8

struct node {
	void *value; /* the caller's */
	size_t len;
	char key[];
};

struct slot {
	uint64_t hash;
	struct node *node; /* owned; NULL when the slot is free */
};

struct map {
	struct slot *slots; /* owned; `space` of them, a power of two, or NULL */
	size_t space;
	size_t count;
	uint64_t seed[2];
};

static inline uint64_t rotl(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] = rotl(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] = rotl(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
}

static uint64_t hash_of(const struct map *m, struct str key)
{
	uint64_t v[4] = {m->seed[0] ^ 0x736f6d6570736575ull, m->seed[1] ^ 0x646f72616e646f6dull,
	                 m->seed[0] ^ 0x6c7967656e657261ull, m->seed[1] ^ 0x7465646279746573ull};
	uint64_t word;
	size_t i = 0;

	for (; key.len - i >= 8; i += 8) {
		memcpy(&word, key.ptr + i, 8);
		sip_word(v, word);
	}
	word = 0;
	if (key.len > i)
		memcpy(&word, key.ptr + i, key.len - i);
	sip_word(v, word | (uint64_t)key.len << 56);
	v[2] ^= 0xff;
	for (int round = 0; round < 3; round++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The key's slot, or the free one where it belongs. There is always a free slot. */
static size_t find_slot(const struct map *m, struct str key, uint64_t hash)
{
	size_t mask = m->space - 1, i = hash & mask;
	const struct node *n;

	for (; (n = m->slots[i].node); i = (i + 1) & mask) {
		if (m->slots[i].hash == hash && str_eq(str_n(n->key, n->len), key))
			break;
	}
	return i;
}

static enum err resize(struct map *m, size_t space)
{
	struct slot *slots = mem_array(space, sizeof(*slots));
	size_t at;

	if (!slots)
		return ERR_NOMEM;
	for (size_t i = 0; i < m->space; i++) {
		if (!m->slots[i].node)
			continue;
		for (at = m->slots[i].hash & (space - 1); slots[at].node;)
			at = (at + 1) & (space - 1);
		slots[at] = m->slots[i];
	}
	mem_free(m->slots);
	m->slots = slots;
	m->space = space;
	return ERR_OK;
}

enum err map_new(struct map **ret)
{
	struct map *m = mem_zalloc(sizeof(*m));

	if (!m)
		return ERR_NOMEM;
	m->seed[0] = rnd_u64();
	m->seed[1] = rnd_u64();
	*ret = m;
	return ERR_OK;
}

void map_free(struct map *m, void (*free_value)(void *value))
{
	if (!m)
		return;
	for (size_t i = 0; i < m->space; i++) {
		if (!m->slots[i].node)
			continue;
		if (free_value)
			free_value(m->slots[i].node->value);
		mem_free(m->slots[i].node);
	}
	mem_free(m->slots);
	mem_free(m);
}

size_t map_count(const struct map *m)
{
	return m->count;
}

void *map_get(const struct map *m, struct str key)
{
	const struct node *n;

	if (!m->count)
		return NULL;
	n = m->slots[find_slot(m, key, hash_of(m, key))].node;
	return n ? n->value : NULL;
}

static struct node *node_new(struct str key, void *value)
{
	struct node *n = NULL;

	if (key.len <= SIZE_MAX - sizeof(*n))
		n = mem_alloc(sizeof(*n) + key.len);
	if (!n)
		return NULL;
	n->value = value;
	n->len = key.len;
	if (key.len)
		memcpy(n->key, key.ptr, key.len);
	return n;
}

enum err map_add(struct map *m, struct str key, void *value)
{
	uint64_t hash = hash_of(m, key);
	struct node *n;

	if (!value)
		return ERR_INVAL;
	if (m->count && m->slots[find_slot(m, key, hash)].node)
		return ERR_CONFLICT;
	if (m->count >= m->space / 4 * 3 && resize(m, m->space ? m->space * 2 : MAP_LEAST_SLOTS))
		return ERR_NOMEM;
	n = node_new(key, value);
	if (!n)
		return ERR_NOMEM;
	m->slots[find_slot(m, key, hash)] = (struct slot){hash, n};
	m->count++;
	return ERR_OK;
}

/* Moves back whatever could no longer be reached past the free slot `hole`. */
static void close_hole(struct map *m, size_t hole)
{
	size_t mask = m->space - 1, i = hole, home;

	for (;;) {
		m->slots[hole].node = NULL;
		do {
			i = (i + 1) & mask;
			if (!m->slots[i].node)
				return;
			home = m->slots[i].hash & mask;
		} while (((i - home) & mask) < ((i - hole) & mask));
		m->slots[hole] = m->slots[i];
		hole = i;
	}
}

void *map_remove(struct map *m, struct str key)
{
	struct node *n;
	size_t at;
	void *value;

	if (!m->count)
		return NULL;
	at = find_slot(m, key, hash_of(m, key));
	n = m->slots[at].node;
	if (!n)
		return NULL;
	value = n->value;
	mem_free(n);
	close_hole(m, at);
	m->count--;
	/* A failure leaves the larger table, which is as good. */
	if (m->space > MAP_LEAST_SLOTS && m->count < m->space / 8)
		(void)!resize(m, m->space / 2);
	return value;
}

void *map_next(const struct map *m, size_t *pos, struct str *ret_key)
{
	const struct node *n;

	while (*pos < m->space) {
		n = m->slots[(*pos)++].node;
		if (!n)
			continue;
		if (ret_key)
			*ret_key = str_n(n->key, n->len);
		return n->value;
	}
	return NULL;
}
