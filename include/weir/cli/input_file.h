/* Files that commands read whole. */
#ifndef WEIR_CLI_INPUT_FILE_H
#define WEIR_CLI_INPUT_FILE_H

#include "weir/base/buf.h"
#include "weir/base/err.h"

/* Appends what the file holds; "-" is standard input. The buffer's cap is the bound. `info` says
 * what was wrong. */
enum err input_file_read(const char *path, struct buf *out, struct err_info *info) MUST_CHECK;

#endif
