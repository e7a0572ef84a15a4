/* Each block has a header that names its chunk. Under AddressSanitizer what is no block is
 * poisoned, headers too, so that it sees what it would see of blocks of the allocator's. */
#include "weir/base/bump.h"

#include <sanitizer/asan_interface.h>

#include "weir/base/mem.h"

#define ALIGN        16
#define CHUNK_BYTES  ((size_t)64 * 1024)
#define LARGEST      (CHUNK_BYTES / 4) /* what is left of a chunk is less */
#define SPARE_CHUNKS 128
#define SLACK_BYTES  ((size_t)1024 * 1024)

struct chunk {
	struct chunk *next; /* of the spare ones */
	size_t used;        /* bytes from `bytes` on that were given away */
	size_t live;        /* of them, those not freed yet */
	_Alignas(ALIGN) char bytes[];
};

#define CHUNK_SPACE (CHUNK_BYTES - sizeof(struct chunk))

struct block {
	struct chunk *chunk; /* NULL: it has none */
	size_t size;         /* with this header, rounded up */
	_Alignas(ALIGN) char bytes[];
};

static struct {
	struct chunk *filling; /* owned */
	struct chunk *spare;   /* owned; empty ones */
	size_t spares;
	size_t chunks; /* of all kinds */
	size_t live;   /* bytes of all chunks' blocks */
} bump;

static void chunk_free(struct chunk *c)
{
	ASAN_UNPOISON_MEMORY_REGION(c->bytes, CHUNK_SPACE);
	bump.chunks--;
	mem_free(c);
}

static struct chunk *chunk_new(void)
{
	struct chunk *c;

	if (bump.chunks * CHUNK_BYTES > 2 * bump.live + SLACK_BYTES)
		return NULL;
	c = mem_alloc(CHUNK_BYTES);
	if (!c)
		return NULL;
	bump.chunks++;
	c->used = c->live = 0;
	ASAN_POISON_MEMORY_REGION(c->bytes, CHUNK_SPACE);
	return c;
}

/* NULL: there is none. The chunk that was being filled belongs to its blocks from then on. */
static struct chunk *chunk_with_room(size_t need)
{
	struct chunk *c = bump.filling;

	if (c && CHUNK_SPACE - c->used >= need)
		return c;
	c = bump.spare;
	if (c) {
		bump.spare = c->next;
		bump.spares--;
	} else {
		c = chunk_new();
	}
	if (c)
		bump.filling = c;
	return c;
}

static void *block_alone(size_t size)
{
	struct block *b = size < SIZE_MAX - sizeof(*b) ? mem_alloc(sizeof(*b) + size) : NULL;

	if (!b)
		return NULL;
	b->chunk = NULL;
	return b->bytes;
}

void *bump_alloc(size_t size)
{
	size_t need = sizeof(struct block) + ((size + ALIGN - 1) & ~(size_t)(ALIGN - 1));
	struct block *b;
	struct chunk *c;

	if (size > LARGEST)
		return block_alone(size);
	if (mem_must_fail())
		return NULL;
	c = chunk_with_room(need);
	if (!c)
		return block_alone(size);
	b = (struct block *)(void *)(c->bytes + c->used);
	ASAN_UNPOISON_MEMORY_REGION(b, sizeof(*b) + size);
	b->chunk = c;
	b->size = need;
	c->used += need;
	c->live += need;
	bump.live += need;
	ASAN_POISON_MEMORY_REGION(b, sizeof(*b));
	return b->bytes;
}

/* Its last block is gone. */
static void chunk_done(struct chunk *c)
{
	c->used = 0;
	if (c == bump.filling)
		return;
	if (bump.spares == SPARE_CHUNKS) {
		chunk_free(c);
		return;
	}
	c->next = bump.spare;
	bump.spare = c;
	bump.spares++;
}

static void give_all_back(void)
{
	struct chunk *c;

	while ((c = bump.spare)) {
		bump.spare = c->next;
		chunk_free(c);
	}
	bump.spares = 0;
	chunk_free(bump.filling);
	bump.filling = NULL;
}

void bump_free(void *p)
{
	struct block *b = p ? (struct block *)(void *)((char *)p - sizeof(*b)) : NULL;
	struct chunk *c;

	if (!b)
		return;
	ASAN_UNPOISON_MEMORY_REGION(b, sizeof(*b));
	c = b->chunk;
	if (!c) {
		mem_free(b);
		return;
	}
	c->live -= b->size;
	bump.live -= b->size;
	ASAN_POISON_MEMORY_REGION(b, b->size);
	if (c->live == 0)
		chunk_done(c);
	if (bump.live == 0)
		give_all_back();
}
