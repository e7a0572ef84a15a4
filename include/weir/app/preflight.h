/* What the start would refuse, found without starting: serve and check-config ask the same
 * function. */
#ifndef WEIR_APP_PREFLIGHT_H
#define WEIR_APP_PREFLIGHT_H

#include "weir/base/err.h"

struct conf;

/* `info` names the setting, its value and what is allowed. */
enum err preflight(const struct conf *c, struct err_info *info) MUST_CHECK;

#endif
