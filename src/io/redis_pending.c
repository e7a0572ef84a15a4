/* The ring grows to the most that ever waited and stays there. */
#include "redis_pending.h"

#include "weir/base/mem.h"

#define FIRST_SPACE 64

void pending_init(struct pending_ring *r, size_t max)
{
	*r = (struct pending_ring){.max = max};
}

void pending_done(struct pending_ring *r)
{
	mem_free(r->slots);
	r->slots = NULL;
	r->space = r->head = r->count = 0;
}

static enum err grow(struct pending_ring *r, size_t need)
{
	size_t space = r->space ? r->space : FIRST_SPACE;
	struct pending *slots;

	while (space < need)
		space *= 2;
	slots = mem_array(space, sizeof(*slots));
	if (!slots)
		return ERR_NOMEM;
	for (size_t i = 0; i < r->count; i++)
		slots[i] = r->slots[(r->head + i) & (r->space - 1)];
	mem_free(r->slots);
	r->slots = slots;
	r->space = space;
	r->head = 0;
	return ERR_OK;
}

enum err pending_reserve(struct pending_ring *r, size_t n)
{
	if (r->count + n > r->max)
		return ERR_FULL;
	return r->count + n > r->space ? grow(r, r->count + n) : ERR_OK;
}

void pending_push(struct pending_ring *r, const struct pending *p)
{
	r->slots[(r->head + r->count++) & (r->space - 1)] = *p;
}

struct pending *pending_front(struct pending_ring *r)
{
	return r->count ? &r->slots[r->head] : NULL;
}

void pending_pop(struct pending_ring *r)
{
	r->head = (r->head + 1) & (r->space - 1);
	r->count--;
}

void pending_tell(const struct pending *p, enum err e)
{
	if (p->fn)
		p->fn(p->arg, e, NULL);
}

usec_t pending_next_deadline(const struct pending_ring *r)
{
	usec_t next = USEC_NEVER;

	for (size_t i = 0; i < r->count; i++) {
		usec_t d = r->slots[(r->head + i) & (r->space - 1)].deadline;

		next = d < next ? d : next;
	}
	return next;
}
