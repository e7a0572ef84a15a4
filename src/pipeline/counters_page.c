/* Redis answers each row for itself, in whatever order a lost connection tells it, so each row has
 * a slot of its own. */
#include "recipient_counters_priv.h"

#include "weir/io/pg.h"

static void note_answer(struct counters_slot *s, enum err err, const struct redis_reply *reply)
{
	struct counters_page *p = s->page;

	recipient_counters_caught(p->counters, err, reply);
	p->rows_written[s - p->slots] = err == ERR_OK;
	p->lost |= err != ERR_OK && err_fate(err) != FATE_DEAD; /* else it is this key's fault */
	p->answered++;
}

static void on_row_written(void *arg, enum err err, const struct redis_reply *reply)
{
	struct counters_slot *s = arg;
	struct counters_page *p = s->page;

	note_answer(s, err, reply);
	if (p->answered == p->rows)
		p->done(p->arg);
}

static void write_row(struct counters_page *p, const struct pg_result *r, size_t row)
{
	struct counters_slot *s = &p->slots[row];
	enum err e;

	if (!pg_value(r, row, COUNTERS_VERSION).ptr) {
		p->rows_written[row] = true; /* it is not there, and nobody knows that it was */
		p->answered++;
		return;
	}
	e = recipient_counters_send(p->counters, r, row, on_row_written, s);
	if (e != ERR_OK)
		note_answer(s, e, NULL);
}

void counters_page_init(struct counters_page *p, struct recipient_counters *counters,
                        void (*done)(void *arg), void *arg)
{
	p->counters = counters;
	p->done = done;
	p->arg = arg;
	for (size_t i = 0; i < COUNTERS_PAGE; i++)
		p->slots[i].page = p;
}

bool counters_page_write(struct counters_page *p, const struct pg_result *r)
{
	p->rows = pg_rows(r) < COUNTERS_PAGE ? pg_rows(r) : COUNTERS_PAGE;
	p->answered = 0;
	p->lost = false;
	for (size_t i = 0; i < p->rows; i++)
		write_row(p, r, i);
	return p->answered < p->rows;
}
