/* A tool as JSON for people: the admin API's answers, and what `weir tools` prints. */
#ifndef WEIR_APP_TOOL_JSON_H
#define WEIR_APP_TOOL_JSON_H

#include <stdbool.h>

#include "weir/base/buf.h"
#include "weir/base/clock.h"
#include "weir/base/str.h"

struct receiver;
struct tool_view;

/* A member of a list. */
void tool_json_brief(const struct tool_view *v, struct buf *out);
/* Everything: the definition, which secrets verified how often (`receiver` NULL: not known here),
 * and what the provider does on each answer. */
void tool_json_full(const struct tool_view *v, struct receiver *receiver, struct buf *out);
/* "name":"2026-01-31T10:20:30.123Z", or null for 0; begins with a comma. */
void tool_json_time(struct buf *out, const char *name, usec_t wall);

#endif
