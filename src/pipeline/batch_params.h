/* The parameters of one statement that stores, in memory that batches hand on to each other: large
 * ones need it only until they are sent, which most are at once. */
#ifndef WEIR_PIPELINE_BATCH_PARAMS_H
#define WEIR_PIPELINE_BATCH_PARAMS_H

#include "batch_sql.h"
#include "weir/base/buf.h"
#include "weir/base/err.h"
#include "weir/io/pg.h"

struct batch_params;

struct store_params {
	struct store_params *next; /* the holder's */
	struct buf columns[STORE_COUNT];
	struct pg_param params[STORE_COUNT];
};

/* The columns are empty, and not begun. The caller owns it until it gives it back. */
enum err batch_params_take(struct batch_params *p, struct store_params **ret) MUST_CHECK;
void batch_params_give(struct batch_params *p, struct store_params *s);

#endif
