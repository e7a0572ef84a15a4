/* The parameters of one statement that stores, as batch_params.c lends them to batch_updater.c. */
#ifndef WEIR_PIPELINE_BATCH_PARAMS_PRIV_H
#define WEIR_PIPELINE_BATCH_PARAMS_PRIV_H

#include "batch_sql.h"
#include "weir/base/buf.h"
#include "weir/base/err.h"
#include "weir/io/pg.h"
#include "weir/pipeline/batch_params.h"

struct store_params {
	struct store_params *next; /* the holder's */
	struct buf columns[STORE_COUNT];
	struct pg_param params[STORE_COUNT];
};

/* The caller owns it until it gives it back. What its columns hold is of no meaning before
 * columns_begin(). */
enum err batch_params_take(struct batch_params *p, struct store_params **ret) MUST_CHECK;
void batch_params_give(struct batch_params *p, struct store_params *s);

#endif
