/* A look-up of recipients that keeps its question until the test tells it what to say. */
#ifndef WEIR_TEST_FAKE_LOOKUP_H
#define WEIR_TEST_FAKE_LOOKUP_H

#include "torture.h"
#include "weir/base/list.h"
#include "weir/pipeline/recipient_lookup.h"

/* "m7" is recipient 7. */
static struct fake {
	struct recipient_lookup base;
	int asked, pending;
	enum err refuse; /* of find() itself */
	size_t n;
	const struct recipient_key *keys;
	usec_t timeout;
	recipient_lookup_fn cb;
	void *arg;
} fake;

static inline enum err fake_find(struct recipient_lookup *l, const struct recipient_key *keys,
                                 size_t n, usec_t timeout, recipient_lookup_fn cb, void *arg)
{
	struct fake *f = container_of(l, struct fake, base);

	if (f->refuse != ERR_OK)
		return f->refuse;
	f->asked++;
	f->pending++;
	f->n = n;
	f->keys = keys;
	f->timeout = timeout;
	f->cb = cb;
	f->arg = arg;
	return ERR_OK;
}

static inline int64_t id_of(const struct recipient_key *k)
{
	int64_t id = 0;

	return str_to_int(str_n(k->message_id.ptr + 1, k->message_id.len - 1), 1, 1000000, &id) ==
	               ERR_OK
	           ? id
	           : 0;
}

static inline void fake_answers(enum err err)
{
	int64_t ids[64];

	assert_int_equal(fake.pending, 1);
	fake.pending--;
	for (size_t i = 0; i < fake.n; i++)
		ids[i] = id_of(&fake.keys[i]);
	fake.cb(fake.arg, err, err == ERR_OK ? "" : "the fake says no", err == ERR_OK ? ids : NULL);
}

static inline void fake_init(void)
{
	fake = (struct fake){.base = {.name = "fake", .find = fake_find}};
}

#endif
