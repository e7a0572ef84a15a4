/* Intrusive doubly linked list with a count. An item is on at most one list per node; a node that
 * is on none has next == NULL. */
#ifndef WEIR_BASE_LIST_H
#define WEIR_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list_node {
	struct list_node *next;
	struct list_node *prev;
};

struct list {
	struct list_node head;
	size_t count;
};

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define list_for_each(l, n)             for (struct list_node *n = (l)->head.next; n != &(l)->head; n = n->next)

static inline void list_init(struct list *l)
{
	l->head.next = l->head.prev = &l->head;
	l->count = 0;
}

static inline bool list_linked(const struct list_node *n)
{
	return n->next != NULL;
}

static inline void list_push_back(struct list *l, struct list_node *n)
{
	n->prev = l->head.prev;
	n->next = &l->head;
	l->head.prev->next = n;
	l->head.prev = n;
	l->count++;
}

static inline void list_push_front(struct list *l, struct list_node *n)
{
	n->next = l->head.next;
	n->prev = &l->head;
	l->head.next->prev = n;
	l->head.next = n;
	l->count++;
}

static inline void list_remove(struct list *l, struct list_node *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	n->next = n->prev = NULL;
	l->count--;
}

static inline struct list_node *list_front(const struct list *l)
{
	return l->count ? l->head.next : NULL;
}

static inline struct list_node *list_pop_front(struct list *l)
{
	struct list_node *n = list_front(l);

	if (n)
		list_remove(l, n);
	return n;
}

#endif
