/* What the start would refuse, found without starting: serve and check-config ask the same
 * function. */
#ifndef WEIR_APP_PREFLIGHT_H
#define WEIR_APP_PREFLIGHT_H

#include "weir/base/err.h"

struct conf;
struct tool;
struct tools;

/* `info` names the setting, its value and what is allowed. With a `sink` all faults go there. */
enum err preflight(const struct conf *c, struct err_sink *sink, struct err_info *info) MUST_CHECK;
/* Whether the tools and the settings fit. */
enum err preflight_tools(const struct conf *c, const struct tools *t, struct err_sink *sink,
                         struct err_info *info) MUST_CHECK;

/* The same for one; `label` is where it stands. */
enum err preflight_tool(const struct conf *c, const char *label, const struct tool *t,
                        struct err_info *info) MUST_CHECK;

#endif
