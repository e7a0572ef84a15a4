/* The queue's names in Redis: two streams (entries over 256 KiB go to the second, which is read one
 * at a time, so that a read is bounded in bytes), a group and a consumer. */
#ifndef WEIR_QUEUE_STREAM_NAMES_H
#define WEIR_QUEUE_STREAM_NAMES_H

#include "weir/base/err.h"
#include "weir/base/str.h"

enum stream_which { STREAM_MAIN, STREAM_LARGE, STREAM_COUNT };

struct stream_names {
	struct str keys[STREAM_COUNT]; /* with the prefix; NUL-terminated */
	struct str parked; /* set of tools; behind it :TOOL is a stream; see stream_park.h */
	struct str group;
	struct str consumer;
	struct str process; /* host-pid-boot: unique, also where several share a consumer's name */
	char *text;         /* owned */
};

/* `consumer` "" makes host-pid-boot: unique, so that two processes never share one by accident. */
enum err stream_names_init(struct stream_names *n, const char *prefix, const char *stream,
                           const char *group, const char *consumer) MUST_CHECK;
void stream_names_done(struct stream_names *n);

#endif
