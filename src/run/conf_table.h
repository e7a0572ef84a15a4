/* The table of settings and what is done with one row; shared by the conf_*.c files only. */
#ifndef WEIR_RUN_CONF_TABLE_H
#define WEIR_RUN_CONF_TABLE_H

#include "weir/base/buf.h"
#include "weir/base/err.h"
#include "weir/base/str.h"
#include "weir/run/conf.h"

enum conf_type {
	CONF_STRING, /* const char *; `max` is its most bytes */
	CONF_CHOICE, /* const char *, one of `choices` or empty */
	CONF_URL,    /* const char *; userinfo and query are masked */
	CONF_INT,    /* int64_t */
	CONF_BOOL,   /* bool */
	CONF_SIZE,   /* uint64_t, bytes */
	CONF_USEC,   /* usec_t */
	CONF_ENUM,   /* int64_t, index into `choices` */
	CONF_FLAGS,  /* int64_t, bit i is `choices[i]` */
};

enum conf_flag {
	CONF_RELOAD = 1, /* SIGHUP applies it */
	CONF_SECRET = 2, /* never shown */
};

struct conf_row {
	const char *name;
	const char *alias; /* another spelling, or NULL */
	enum conf_type type;
	size_t offset;   /* of the member in struct conf */
	const char *def; /* as a user would write it; "" for none */
	int64_t min;
	int64_t max;
	usec_t unit;                /* CONF_USEC: of a bare number */
	const char *const *choices; /* ends with NULL */
	unsigned flags;             /* enum conf_flag */
	const char *allowed;        /* in words, where type and range do not tell; else NULL */
	/* NULL, or a further check; the text says what is wrong and what is allowed. */
	enum err (*check)(const char *value, struct err_info *info);
	const char *group;
	const char *help; /* a sentence */
};

extern const struct conf_row conf_rows[];
extern const size_t conf_row_count;

const struct conf_row *conf_row_find(struct str name); /* by name or alias; NULL */
/* The name that was probably meant, or NULL. */
const char *conf_row_nearest(struct str name);

/* --- conf_value.c --- */

/* Parses `v` into the row's member. On failure the text is "NAME=value: why; allowed: ...". */
enum err conf_value_set(struct conf *c, const struct conf_row *row, struct str v,
                        struct err_info *info) MUST_CHECK;
bool conf_value_equal(const struct conf *a, const struct conf *b, const struct conf_row *row);
bool conf_value_is_text(const struct conf_row *row); /* the member is a string */
const char **conf_value_text(struct conf *c, const struct conf_row *row); /* that member */
/* As a user would write it; with `masked` as others may see it. */
void conf_value_print(const struct conf *c, const struct conf_row *row, bool masked,
                      struct buf *out);
void conf_value_print_allowed(const struct conf_row *row, struct buf *out);
/* Userinfo and query become three stars; what is no URL is masked as a whole. */
void conf_mask_url(struct str url, struct buf *out);
/* The string that `text` (owned by conf) may point to, "" included. */
void conf_text_free(const char *text);

#endif
