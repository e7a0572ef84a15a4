/* The C library's allocator with a counter, a bound and a switch that makes one chosen call fail.
 *
 * Sizes are what malloc_usable_size says, so no header of ours stands in front of a block and
 * libraries may be given these functions as they are. One thread allocates through here, hence
 * plain counters. */
#include "weir/base/mem.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#define LARGE_BLOCK    (512 * 1024)
#define KEPT_FREE      (1024 * 1024)
#define WORTH_TRIMMING ((size_t)8 * 1024 * 1024)

/* jemalloc, where it is linked. It reads its options from this text: one arena for the one thread,
 * what is free goes back to the system after a second, and blocks of a MiB and more at once: else
 * those that were just freed would come on top of what is counted as in use. The function is NULL
 * elsewhere. */
extern const char *malloc_conf;
const char *malloc_conf =
    "narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0,oversize_threshold:1048576";
int mallctl(const char *name, void *old, size_t *old_len, void *new_value, size_t new_len)
    __attribute__((weak));
#define PURGE_ALL_ARENAS "arena.4096.purge"

static struct {
	size_t used;
	size_t peak;
	uint64_t failures;
	uint64_t asked;   /* since mem_fail_nth */
	uint64_t fail_at; /* value of `asked` that fails; 0 none */
	size_t limit;     /* 0 none */
	size_t foreign;   /* held by libraries */
	size_t high;      /* most in use since the last trim */
} stats;

bool mem_must_fail(void)
{
	return ++stats.asked == stats.fail_at;
}

/* Sizes past PTRDIFF_MAX are refused here: no object can have them, and sanitizers take the
 * question for a bug. */
static bool must_fail(size_t size)
{
	return mem_must_fail() || size > PTRDIFF_MAX;
}

static void *count_new(void *p)
{
	if (!p) {
		stats.failures++;
		return NULL;
	}
	stats.used += malloc_usable_size(p);
	if (stats.used > stats.peak)
		stats.peak = stats.used;
	if (stats.used > stats.high)
		stats.high = stats.used;
	return p;
}

void *mem_alloc(size_t size)
{
	return count_new(must_fail(size) ? NULL : malloc(size ? size : 1));
}

void *mem_alloc_twice(size_t size)
{
	void *p = mem_alloc(size);

	return p ? p : count_new(malloc(size ? size : 1));
}

void *mem_zalloc(size_t size)
{
	return count_new(must_fail(size) ? NULL : calloc(1, size ? size : 1));
}

void *mem_array(size_t n, size_t size)
{
	size_t total;

	return mem_zalloc(__builtin_mul_overflow(n, size, &total) ? SIZE_MAX : total);
}

void *mem_realloc(void *p, size_t size)
{
	size_t before = p ? malloc_usable_size(p) : 0;
	void *grown = must_fail(size) ? NULL : realloc(p, size ? size : 1);

	if (grown)
		stats.used -= before;
	return count_new(grown);
}

void *mem_dup(const void *p, size_t len)
{
	char *copy = len < SIZE_MAX ? mem_alloc(len + 1) : NULL;

	if (!copy)
		return NULL;
	if (len)
		memcpy(copy, p, len);
	copy[len] = '\0';
	return copy;
}

char *mem_strdup(const char *s)
{
	return mem_dup(s, strlen(s));
}

void mem_free(void *p)
{
	if (!p)
		return;
	stats.used -= malloc_usable_size(p);
	free(p);
}

void mem_wipe_free(void *p, size_t len)
{
	if (p)
		OPENSSL_cleanse(p, len);
	mem_free(p);
}

size_t mem_used(void)
{
	return stats.used;
}

size_t mem_peak(void)
{
	return stats.peak;
}

uint64_t mem_failures(void)
{
	return stats.failures;
}

void mem_set_limit(size_t bytes)
{
	stats.limit = bytes;
	/* Left to itself, glibc takes the first large block that is freed as a sign to keep all
	 * blocks of its size in the heap from then on, where one that stays pins the others. */
	mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
	mallopt(M_TRIM_THRESHOLD, KEPT_FREE);
}

bool mem_fits(size_t more, unsigned eighths)
{
	size_t most = stats.limit / 8 * eighths, now = stats.used + stats.foreign;

	return stats.limit == 0 || (now < most && more <= most - now);
}

void mem_note_foreign(ptrdiff_t delta)
{
	stats.foreign += (size_t)delta;
}

void mem_trim(void)
{
	bool worth = stats.high - stats.used >= WORTH_TRIMMING;

	stats.high = stats.used;
	if (!worth)
		return;
	if (mallctl)
		(void)mallctl(PURGE_ALL_ARENAS, NULL, NULL, NULL, 0);
	else
		malloc_trim(KEPT_FREE);
}

void mem_fail_nth(uint64_t n)
{
	stats.asked = 0;
	stats.fail_at = n;
}

uint64_t mem_fail_count(void)
{
	return stats.asked;
}
