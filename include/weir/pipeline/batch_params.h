/* Memory for the parameters of statements, which batches hand on to each other: large ones need it
 * only until they are sent, which most are at once. */
#ifndef WEIR_PIPELINE_BATCH_PARAMS_H
#define WEIR_PIPELINE_BATCH_PARAMS_H

#include "weir/base/err.h"

struct batch_params;

enum err batch_params_new(struct batch_params **ret) MUST_CHECK;
void batch_params_free(struct batch_params *p); /* nobody has some any more */

#endif
