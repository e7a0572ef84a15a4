/* What a unit test includes: cmocka with what it needs, and the run in which every allocation fails
 * in turn.
 *
 * A scenario is a function without arguments that uses a module from new to free, through as many
 * of its paths as it can. Any call in it may meet ERR_NOMEM (or NULL); it must then clean up, as
 * production code would, and return. It may assert (cmocka's macros end the process here), but
 * nothing that an allocation's failure makes untrue. It starts from nothing and leaves nothing.
 *
 *	static void scenario_fill(void)
 *	{
 *		struct map *m;
 *
 *		if (map_new(&m))
 *			return;
 *		(void)!map_add(m, STR("a"), &thing);
 *		map_free(m, NULL);
 *	}
 *
 *	int main(void)
 *	{
 *		const struct CMUnitTest tests[] = {cmocka_unit_test(test_add)};
 *		const struct torture torture[] = {TORTURE(scenario_fill)};
 *
 *		return TESTS_OR_TORTURE(tests, torture);
 *	}
 *
 * Without WEIR_TORTURE in the environment the tests run. With it, each scenario is run once in
 * peace, then with its first allocation failing, its second, and so on, until a run asks for fewer
 * than that. A run fails if it crashes, if a sanitizer complains, or if mem_used() is higher after
 * it than before; which run it was is printed. WEIR_TORTURE=N with N > 1 makes only the N-th
 * allocation fail, for the debugger. Module-wide caches are fine: the first run warms them up. */
#ifndef WEIR_TEST_TORTURE_H
#define WEIR_TEST_TORTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "weir/base/mem.h"

#define TORTURE_MOST 100000 /* allocations of one scenario; more is taken for a loop */

struct torture {
	const char *name;
	void (*run)(void);
};

#define TORTURE(scenario)           \
	{                           \
#scenario, scenario \
	}
#define TORTURE_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define TESTS_OR_TORTURE(tests, scenarios)                                       \
	(getenv("WEIR_TORTURE") ? torture_all(scenarios, TORTURE_LEN(scenarios)) \
	                        : cmocka_run_group_tests(tests, NULL, NULL))

extern void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static struct {
	const char *name; /* of the scenario that runs; NULL between two */
	uint64_t failing;
} torture_now;

static inline void torture_say_where(void)
{
	if (torture_now.name)
		printf("torture: %s died with allocation %llu failing\n", torture_now.name,
		       (unsigned long long)torture_now.failing);
	fflush(stdout);
	torture_now.name = NULL;
}

/* One run, `failing` 0 for none; returns how many allocations it asked for. `*ok` turns false if
 * any stayed behind; NULL for the run that warms up. */
static inline uint64_t torture_once(const struct torture *t, uint64_t failing, bool *ok)
{
	size_t before = mem_used();
	uint64_t asked;

	torture_now.name = t->name;
	torture_now.failing = failing;
	mem_fail_nth(failing);
	t->run();
	asked = mem_fail_count();
	mem_fail_nth(0);
	torture_now.name = NULL;
	if (ok && mem_used() > before) {
		printf("torture: %s left %zu bytes with allocation %llu failing\n", t->name,
		       mem_used() - before, (unsigned long long)failing);
		*ok = false;
	}
	return asked;
}

static inline bool torture_scenario(const struct torture *t, uint64_t only)
{
	bool ok = true;
	uint64_t n;

	(void)torture_once(t, 0, NULL);
	(void)torture_once(t, 0, &ok);
	if (only > 1) {
		(void)torture_once(t, only, &ok);
		return ok;
	}
	for (n = 1; n <= TORTURE_MOST; n++) {
		if (torture_once(t, n, &ok) < n)
			break;
	}
	if (n > TORTURE_MOST)
		ok = false;
	printf("torture: %s %s, %llu allocations\n", ok ? "ok" : "FAILED", t->name,
	       (unsigned long long)n - 1);
	return ok;
}

static inline int torture_all(const struct torture *t, size_t n)
{
	uint64_t only = strtoull(getenv("WEIR_TORTURE"), NULL, 10);
	size_t failed = 0;

	atexit(torture_say_where);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(torture_say_where);
	for (size_t i = 0; i < n; i++)
		failed += !torture_scenario(&t[i], only);
	printf("torture: %zu passed, %zu failed\n", n - failed, failed);
	return failed ? 1 : 0;
}

#endif
