/* What the pieces of the tools file's reader share. */
#ifndef WEIR_MODEL_TOOL_PRIV_H
#define WEIR_MODEL_TOOL_PRIV_H

#include <jansson.h>
#include <stdbool.h>

#include "weir/model/recipe.h"
#include "weir/model/tool.h"

struct tool_place {
	struct str text; /* the tool's, in the file's */
	size_t line;
};

struct loader {
	const char *label; /* the file's name */
	char id[TOOL_ID_MAX + 16];
	struct err_info *info;     /* may be NULL, but not with a sink */
	struct err_sink *sink;     /* NULL: the first fault ends the reading */
	bool no_literals;          /* secrets must be named, not written down */
	struct tool *tool;         /* the one at hand: notes the files that its secrets are in */
	size_t faults;             /* of the one at hand, told or counted */
	struct str text;           /* the file's, for lines; ptr NULL: there are none */
	size_t index;              /* of the one at hand in the file */
	struct tool_place *places; /* owned; of all tools, found when the first fault was */
	size_t place_count, place_space;
};

/* "LABEL:LINE: tool "ID": MEMBER: text"; returns ERR_INVAL. */
enum err tool_bad(struct loader *l, const char *member, const char *fmt, ...) PRINTF_LIKE(3, 4);
enum err tool_fault(struct loader *l, const char *member, const char *text);
/* The same of a "MEMBER: text" that others made; `prefix` stands before the member. */
enum err tool_fault_named(struct loader *l, const char *prefix, const char *text);
/* With a sink a fault of the tool is told to it, and ERR_OK says that the reading goes on; past a
 * bound the faults are counted only. An ERR_INVAL without a text was told before. */
enum err tool_take(struct loader *l, enum err e) MUST_CHECK;
void tool_tell(struct loader *l); /* to the sink, the fault in `info` */
/* Behind the last look at a tool: ERR_INVAL without a text when it had faults. */
enum err tool_faults_end(struct loader *l) MUST_CHECK;
/* The member's line in the file, or the tool's; 0: not known. */
size_t tool_line(struct loader *l, const char *member);
void tool_places_free(struct loader *l);

/* One tool of the file. `l->id` is the tool's id, already checked. */
enum err tool_compile(struct loader *l, const json_t *object, struct tool **ret) MUST_CHECK;
/* A tool that is a preset with one secret and nothing else. */
enum err tool_of_preset(struct loader *l, const char *preset, const char *secret,
                        struct tool **ret) MUST_CHECK;
/* Notes the definition for people and, where secrets lie in files, for tool_refresh(). */
enum err tool_keep_source(struct tool *t, const json_t *object) MUST_CHECK;
enum err tool_note_file(struct tool *t, const char *path, int fd) MUST_CHECK;
enum err tool_fingerprint(struct tool *t, size_t i, struct str secret) MUST_CHECK;
void tool_source_done(struct tool *t);

/* The members of model/tool_limits.h; `to` is all zero. Also after a failure it is to be done. */
enum err tool_limits_read(struct loader *l, const json_t *object,
                          struct tool_limits *to) MUST_CHECK;
/* Whether they go with the recipe. */
enum err tool_limits_fit(struct loader *l, const struct tool_limits *t,
                         const struct recipe *r) MUST_CHECK;
void tool_limits_done(struct tool_limits *t);

/* Whether the tool's own members go with the recipe that is in force. */
enum err tool_check_whole(struct loader *l, const json_t *object, const struct tool *t) MUST_CHECK;

struct secret_list {
	struct recipe_secret_text texts[RECIPE_MAX_SECRETS];
	char *owned[RECIPE_MAX_SECRETS]; /* wiped */
	size_t n;
};

/* Reads the values behind a tool's member `secrets`: {"env": NAME}, {"file": PATH},
 * {"value": TEXT} or a plain string, each with its own "form" where it differs from `form`. */
enum err secrets_read(struct loader *l, const json_t *list, enum recipe_key form,
                      struct secret_list *ret) MUST_CHECK;
/* One secret, "file" and so on, where no form is asked for; owned, to be wiped. */
enum err secret_read(struct loader *l, const char *member, const json_t *v, char **ret,
                     size_t *ret_len) MUST_CHECK;
void secrets_done(struct secret_list *s);

#endif
