/* A stack, so that the memory that was used last is used first. */
#include "weir/pipeline/batch_params.h"

#include "batch_params_priv.h"
#include "columns.h"
#include "weir/base/mem.h"

#define KEPT 2 /* while no batch has them: what a flood's batch needs */

struct batch_params {
	struct store_params *kept; /* owned */
	size_t count;
};

static void params_free(struct store_params *s)
{
	columns_done(s->columns, STORE_COUNT);
	mem_free(s);
}

enum err batch_params_take(struct batch_params *p, struct store_params **ret)
{
	struct store_params *s = p->kept;

	if (s) {
		p->kept = s->next;
		p->count--;
	} else {
		s = mem_zalloc(sizeof(*s));
		if (!s)
			return ERR_NOMEM;
		columns_init(s->columns, STORE_COUNT);
	}
	s->next = NULL;
	*ret = s;
	return ERR_OK;
}

void batch_params_give(struct batch_params *p, struct store_params *s)
{
	if (p->count == KEPT) {
		params_free(s);
		return;
	}
	columns_trim(s->columns, STORE_COUNT);
	s->next = p->kept;
	p->kept = s;
	p->count++;
}

enum err batch_params_new(struct batch_params **ret)
{
	struct batch_params *p = mem_zalloc(sizeof(*p));

	if (!p)
		return ERR_NOMEM;
	*ret = p;
	return ERR_OK;
}

void batch_params_free(struct batch_params *p)
{
	struct store_params *s;

	if (!p)
		return;
	while ((s = p->kept)) {
		p->kept = s->next;
		params_free(s);
	}
	mem_free(p);
}
