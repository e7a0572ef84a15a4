/* What `weir check-config --connect` does: reaches both servers once, and looks at whether they are
 * set up so that a crash loses no answered event (DESIGN's durability audit). */
#ifndef WEIR_APP_CONNECT_CHECK_H
#define WEIR_APP_CONNECT_CHECK_H

#include <stdbool.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"

struct conf;

/* One line of the report. `ok` false: a warning, or an error when `fatal`. Text is borrowed. */
typedef void (*connect_check_fn)(void *arg, bool ok, bool fatal, const char *text);

/* ERR_OK when both were reached, ERR_UNAVAILABLE otherwise. Blocks; runs a loop of its own. */
enum err connect_check_run(const struct conf *c, usec_t timeout, connect_check_fn report,
                           void *arg) MUST_CHECK;

#endif
