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
 * it than before; which run it was is printed. Each scenario has a process of its own. For the
 * debugger, WEIR_TORTURE=N with N > 1 lets only the N-th allocation fail and does not fork.
 * Module-wide caches are fine: a run in peace warms them up. */
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
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* The same for tests that share a server: both kinds run between `start` and `stop`, which are
 * cmocka's functions around a group. */
#define TESTS_OR_TORTURE_BETWEEN(tests, scenarios, start, stop)                                   \
	(getenv("WEIR_TORTURE") ? torture_between(scenarios, TORTURE_LEN(scenarios), start, stop) \
	                        : cmocka_run_group_tests(tests, start, stop))

/* What a scenario's process says of itself; shared, so that it outlives a crash. */
struct torture_state {
	uint64_t failing; /* number of the allocation that fails in this run; 0 none */
	uint64_t asked;   /* allocations of the last run */
	bool leaked;
	bool finished;
};

static inline void torture_once(const struct torture *t, struct torture_state *s, uint64_t failing)
{
	size_t before = mem_used();

	s->failing = failing;
	mem_fail_nth(failing);
	t->run();
	s->asked = mem_fail_count();
	mem_fail_nth(0);
	if (mem_used() <= before)
		return;
	printf("torture: %s left %zu bytes with allocation %llu failing\n", t->name,
	       mem_used() - before, (unsigned long long)failing);
	s->leaked = true;
}

static inline void torture_scenario(const struct torture *t, struct torture_state *s)
{
	size_t n = 1;

	t->run(); /* warms up */
	torture_once(t, s, 0);
	while (n <= TORTURE_MOST) {
		torture_once(t, s, n);
		if (s->asked < n)
			break;
		n++;
	}
	s->finished = n <= TORTURE_MOST;
}

/* In a process of its own, so that a crash ends only this scenario. */
static inline bool torture_apart(const struct torture *t, struct torture_state *s)
{
	int status = 0;
	bool ok;
	pid_t pid;

	*s = (struct torture_state){0};
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		torture_scenario(t, s);
		exit(0);
	}
	ok = pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 && s->finished && !s->leaked;
	printf("torture: %s %s", ok ? "ok" : "FAILED", t->name);
	if (ok)
		printf(", %llu allocations", (unsigned long long)s->asked);
	else if (!s->finished)
		printf("; it died or did not end with allocation %llu failing",
		       (unsigned long long)s->failing);
	else if (status != 0)
		printf("; it left something, see above");
	printf("\n");
	return ok;
}

static inline int torture_all(const struct torture *t, size_t n)
{
	uint64_t only = strtoull(getenv("WEIR_TORTURE"), NULL, 10);
	struct torture_state *s =
	    mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	size_t failed = 0;

	if (s == MAP_FAILED)
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < n; i++) {
		if (only > 1)
			torture_once(&t[i], s, only);
		else
			failed += !torture_apart(&t[i], s);
	}
	printf("torture: %zu passed, %zu failed\n", n - failed, failed);
	munmap(s, sizeof(*s));
	return failed ? 1 : 0;
}

static inline int torture_between(const struct torture *t, size_t n, int (*start)(void **state),
                                  int (*stop)(void **state))
{
	int failed;

	if (start(NULL) != 0)
		return 1;
	failed = torture_all(t, n);
	stop(NULL);
	return failed;
}

#endif
