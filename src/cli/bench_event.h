/* Requests for `weir bench`: of a tool's provider as far as weir can tell, of a wanted size, each
 * with an event id of its own. */
#ifndef WEIR_CLI_BENCH_EVENT_H
#define WEIR_CLI_BENCH_EVENT_H

#include <stddef.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"
#include "weir/io/http_load.h"

struct bench_event;
struct tool;

/* `tool` is borrowed. `type` "" takes the sample's. ERR_INVAL with a text for tools whose requests
 * cannot be made up. */
enum err bench_event_new(const struct tool *tool, size_t size, const char *type,
                         struct bench_event **ret, struct err_info *info) MUST_CHECK;
void bench_event_free(struct bench_event *b);         /* NULL is fine */
size_t bench_event_size(const struct bench_event *b); /* of the body, bytes */
/* The slices are valid until the next call. */
enum err bench_event_next(struct bench_event *b, usec_t wall,
                          struct http_load_request *ret) MUST_CHECK;

#endif
