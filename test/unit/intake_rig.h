/* Requests run through one intake: what its tests share. */
#ifndef WEIR_TEST_INTAKE_RIG_H
#define WEIR_TEST_INTAKE_RIG_H

#include "recipe_util.h"
#include "torture.h"

#include "weir/receive/intake.h"

static struct intake *intake;

static inline int setup(void **state)
{
	(void)state;
	return intake_new(1 << 20, &intake) == ERR_OK ? 0 : -1;
}

static inline int teardown(void **state)
{
	(void)state;
	intake_free(intake);
	return 0;
}

static inline void run(const struct tools *set, const struct made *m, struct intake_result *ret)
{
	intake_run(intake, tools_at(set, 0), HTTP_POST, &m->req, NOW, ret);
}

static inline void expect(struct str got, const char *want)
{
	if (!str_eq(got, str_of(want)))
		fail_msg("\"%.*s\", not \"%s\"", (int)got.len, got.ptr, want);
}

#endif
