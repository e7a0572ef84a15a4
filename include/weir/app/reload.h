/* SIGHUP: settings and tools are read again, all of it is checked, then all of it takes effect, or
 * nothing does. */
#ifndef WEIR_APP_RELOAD_H
#define WEIR_APP_RELOAD_H

#include "weir/base/err.h"

struct conf;
struct metric_registry;
struct reload;
struct tools;

/* `conf` is borrowed and written by reloads; `tools` gets a reference. */
enum err reload_new(struct conf *conf, const char *config_file, struct tools *tools,
                    struct metric_registry *metrics, struct reload **ret) MUST_CHECK;
void reload_free(struct reload *r);
void reload_run(struct reload *r);
/* The set in force; borrowed until the loop's next turn. */
struct tools *reload_tools(const struct reload *r);

/* Log levels and format as the settings say; the settings were checked before. */
void reload_apply_log(const struct conf *c);

#endif
