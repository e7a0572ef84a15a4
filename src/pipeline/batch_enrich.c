/* The last step before the transaction: recipients of delivery reports are looked up. It fills in
 * hints; whatever becomes of it, the batch goes on. */
#include "batch_priv.h"
#include "weir/pipeline/recipient_reports.h"

static void on_enriched(void *arg)
{
	struct batch *b = arg;

	if (b->state == BATCH_ABANDONED)
		batch_end(b);
	else
		batch_prepared(b);
}

void batch_enrich(struct batch *b)
{
	/* Reports that cannot be read for want of memory are read before the transaction. */
	(void)!recipient_reports_read(b->env->reports, b->events + b->now.at, b->now.n);
	if (b->enrichment && enricher_ask(b->enrichment, b->events + b->now.at, b->now.n))
		batch_set_state(b, BATCH_ENRICHING);
	else
		batch_prepared(b);
}

enum err batch_enrich_init(struct batch *b)
{
	if (!b->env->enricher)
		return ERR_OK;
	return enrich_question_new(b->env->enricher, on_enriched, b, &b->enrichment);
}
