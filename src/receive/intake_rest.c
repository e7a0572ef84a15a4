/* What is large takes several turns of the loop, so that nobody else waits for it: a body is
 * verified in one, decoded a slice at a time, and made into events in another. */
#include "intake_priv.h"

#include "weir/base/mem.h"

bool intake_rest_step(struct intake_rest *rest, size_t slice)
{
	if (rest->coded && rest->decoded == GZIP_MORE)
		rest->decoded = decoder_step(&rest->decoder, slice);
	return !rest->coded || rest->decoded != GZIP_MORE;
}

bool intake_rest_needs_body(const struct intake_rest *rest)
{
	return !rest->coded;
}

void intake_rest_free(struct intake_rest *rest)
{
	if (!rest)
		return;
	decoder_done(&rest->decoder);
	mem_free(rest);
}
