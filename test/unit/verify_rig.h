/* Requests against a tool's verification: what its tests share. */
#ifndef WEIR_TEST_VERIFY_RIG_H
#define WEIR_TEST_VERIFY_RIG_H

#include "recipe_util.h"
#include "torture.h"

#include "weir/receive/verify.h"

static struct recipe_input input;
static struct verify_result result; /* what the last verify() said besides */

static inline enum verify_verdict verify(const struct tools *set, const struct recipe_request *req)
{
	const struct recipe *recipe = tools_at(set, 0)->recipe;
	enum verify_verdict v;

	recipe_input_init(&input);
	recipe_input_bind(&input, recipe, req);
	v = verify_request(&input, &result);
	if (v == VERIFY_OK)
		assert_true(result.secret == 0 || result.secret < recipe->secret_count);
	recipe_input_done(&input);
	return v;
}

static inline void expect(const struct tools *set, const struct made *m, enum verify_verdict want)
{
	enum verify_verdict v = verify(set, &m->req);

	if (v != want)
		fail_msg("%s, not %s", verify_reason(v), verify_reason(want));
}

#endif
