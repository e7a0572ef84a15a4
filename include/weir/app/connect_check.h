/* What `weir check-config --connect` does, and serve before the start with STRICT_DURABILITY:
 * reaches the servers that this process would use once, and lets the durability audit look at them.
 */
#ifndef WEIR_APP_CONNECT_CHECK_H
#define WEIR_APP_CONNECT_CHECK_H

#include <stdbool.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"

struct conf;

/* One line of the report. `ok` false: a warning, or an error when `fatal`. Text is borrowed. */
typedef void (*connect_check_fn)(void *arg, bool ok, bool fatal, const char *text);

/* ERR_OK when all were reached; ERR_UNAVAILABLE; ERR_INVAL: Postgres knows no such password, role
 * or database. Blocks; runs a loop of its own. What is not safe, or not known, is fatal with
 * STRICT_DURABILITY; a schema from the future always is. */
enum err connect_check_run(const struct conf *c, usec_t timeout, connect_check_fn report,
                           void *arg) MUST_CHECK;

#endif
