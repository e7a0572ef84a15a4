/* Writes one event that was given up to weir.dead_letters. Builds the parameters of one call;
 * submitting is the processor's. */
#ifndef WEIR_PIPELINE_DEAD_WRITER_H
#define WEIR_PIPELINE_DEAD_WRITER_H

#include <stdbool.h>

#include "weir/base/err.h"

struct dead_writer;
struct event;
struct pg_call;

struct dead_reason {
	enum err err;         /* the dead letter's error_class */
	const char *sqlstate; /* "" when it is not the server's; borrowed until the completion */
	const char *message;  /* copied */
	unsigned attempts;
	/* The table refused a first try: foreign texts as plain ASCII, no headers. */
	bool escape;
};

enum err dead_writer_new(struct dead_writer **ret) MUST_CHECK;
void dead_writer_free(struct dead_writer *w);

/* `e` stays valid until the completion. Writing the same event again does nothing. ERR_NOMEM. */
enum err dead_writer_prepare(struct dead_writer *w, const struct event *e,
                             const struct dead_reason *why) MUST_CHECK;
const struct pg_call *dead_writer_call(const struct dead_writer *w);

#endif
