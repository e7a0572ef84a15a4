/* Counted, failable allocation. Everything weir allocates goes through here; run/loop installs it
 * into libevent and jansson as well, so `mem_used()` is the process's heap as far as we steer it.
 * Running out returns NULL: callers refuse the work at hand, they never exit. */
#ifndef WEIR_BASE_MEM_H
#define WEIR_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/err.h"

void *mem_alloc(size_t size) MUST_CHECK; /* uninitialised; size 0 gives a unique pointer */
/* For jansson, whose lexer reads past its buffer's end where that could not grow: asks a second
 * time where an allocation failed (or was made to fail), which counts as a failure all the same.
 * What was parsed while mem_failures() grew is not to be trusted. */
void *mem_alloc_twice(size_t size) MUST_CHECK;
void *mem_zalloc(size_t size) MUST_CHECK;
void *mem_array(size_t n, size_t size) MUST_CHECK;   /* zeroed; NULL on overflow */
void *mem_realloc(void *p, size_t size) MUST_CHECK;  /* on NULL the old block stays valid */
void *mem_dup(const void *p, size_t len) MUST_CHECK; /* copy with a NUL behind it */
char *mem_strdup(const char *s) MUST_CHECK;
void mem_free(void *p);                  /* NULL is fine */
void mem_wipe_free(void *p, size_t len); /* for secrets: cleanse, then free */

size_t mem_used(void); /* bytes now, as malloc_usable_size counts them */
size_t mem_peak(void); /* most ever */
uint64_t mem_failures(void);

/* The bound on all of it, in bytes; 0: none. Nothing here enforces it: whoever is about to take in
 * more work asks mem_fits() first, and refuses it. */
void mem_set_limit(size_t bytes);
/* Whether `more` bytes stay below so many eighths of the bound. */
bool mem_fits(size_t more, unsigned eighths);
/* What a library holds for us behind our back changed by so much; counts for the bound. */
void mem_note_foreign(ptrdiff_t delta);
/* Gives what is free back to the system when there was a good deal more in use since the last call.
 * Cheap when there was not. */
void mem_trim(void);

/* Tests only: the n-th allocation from now on fails (once); 0 switches off. */
void mem_fail_nth(uint64_t n);
/* For allocators on top of this one: counts an allocation; true: it is the one to fail. */
bool mem_must_fail(void);
/* How many allocations were asked for since mem_fail_nth() was called last. */
uint64_t mem_fail_count(void);

#endif
