/* What the files of `weir tools` share. */
#ifndef WEIR_CLI_TOOLS_CMD_H
#define WEIR_CLI_TOOLS_CMD_H

#include <jansson.h>
#include <stdbool.h>

#include "weir/base/buf.h"
#include "weir/base/clock.h"

struct conf;
struct tool;

struct tools_cmd {
	const struct conf *conf;
	const char *url; /* NULL: ADMIN_ADDR */
	const char *id, *file;
	bool json;
	usec_t at; /* 0: now */
};

/* Each returns an exit code, and says what is wrong unless it is 0. */

bool tools_has_api(const struct tools_cmd *c); /* a token is set */
/* One call of the API below /api/v1/tools; with 2xx the answer is in `out`. `missing` (may be NULL)
 * takes a 404 instead of its being an error. */
int tools_call(const struct tools_cmd *c, const char *method, const char *path, struct str body,
               struct buf *out, bool *missing);
/* What there is, from the API or from the file, as the API's JSON; *ret is a new reference. */
int tools_fetch_list(const struct tools_cmd *c, json_t **ret);
int tools_fetch(const struct tools_cmd *c, json_t **ret);
int tools_test(const struct tools_cmd *c);

#endif
