/* The service: builds the roles that the settings ask for, turns the loop, reloads on SIGHUP and
 * drains on SIGTERM. */
#ifndef WEIR_APP_APP_H
#define WEIR_APP_APP_H

#include "weir/base/clock.h"
#include "weir/base/err.h"

struct conf;
struct tools;

struct app_options {
	struct conf *conf;       /* owned by the caller, outlives the app; reloads write into it */
	struct tools *tools;     /* the app takes a reference of its own */
	const char *config_file; /* read again on SIGHUP; may be NULL */
	usec_t wait_for;         /* how long Redis or Postgres may take to answer first */
};

/* ERR_OK after an orderly end. ERR_CONFLICT: the schema does not fit. ERR_INVAL: a setting cannot
 * be used, or Postgres or Redis refused the user, password or database before anything was served.
 * ERR_UNAVAILABLE: neither Redis nor Postgres answered within wait_for. Anything else: `info` says
 * what could not be set up. */
enum err app_run(const struct app_options *o, struct err_info *info) MUST_CHECK;

#endif
