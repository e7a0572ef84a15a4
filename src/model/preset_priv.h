/* The presets: recipes of known providers, and a sample of what each sends. */
#ifndef WEIR_MODEL_PRESET_PRIV_H
#define WEIR_MODEL_PRESET_PRIV_H

#include <stddef.h>

struct preset {
	const char *name;
	const char *recipe; /* JSON text of a recipe object */
};

extern const struct preset presets[];
extern const size_t preset_count;

const struct preset *preset_find(const char *name); /* NULL: none */
const char *preset_names(void);                     /* "github, gitlab, …" for error texts */

/* What a provider sends, written for tests. In `body` stand %ID%, %TYPE%, %S%, %MS% and %ISO% for
 * the event's id and type and the time in three spellings. */
struct sample {
	const char *preset;
	const char *type;
	const char *content_type;
	const char *body;
};

const struct sample *sample_find(const char *preset); /* never NULL: a plain one for others */

#endif
