/* Names and fates come from the one list in the header, so that a new code cannot lack either. */
#include "weir/base/err.h"

#include <stdarg.h>
#include <stdio.h>

struct err_row {
	const char *name;
	const char *meaning;
	enum fate fate;
};

#define ERR_ROW(code, name, meaning, fate) [code] = {name, meaning, fate},
static const struct err_row rows[ERR_COUNT] = {ERR_LIST(ERR_ROW)};
#undef ERR_ROW

static const struct err_row *row_of(enum err e)
{
	return &rows[(unsigned)e < ERR_COUNT ? e : ERR_BUG];
}

const char *err_name(enum err e)
{
	return row_of(e)->name;
}

const char *err_meaning(enum err e)
{
	return row_of(e)->meaning;
}

enum fate err_fate(enum err e)
{
	return row_of(e)->fate;
}

enum err err_sink_take(struct err_sink *sink, enum err e, struct err_info *info)
{
	if (!sink || e == ERR_OK || e == ERR_NOMEM)
		return e;
	sink->count++;
	sink->fn(sink->arg, info->text);
	*info = (struct err_info){.code = ERR_OK};
	return ERR_OK;
}

enum err err_set(struct err_info *info, enum err code, const char *fmt, ...)
{
	va_list ap;

	if (!info)
		return code;
	info->code = code;
	va_start(ap, fmt);
	if (vsnprintf(info->text, sizeof(info->text), fmt, ap) < 0)
		info->text[0] = '\0';
	va_end(ap);
	return code;
}
