/* The compiled mapping, as its compiler and its reader know it. */
#ifndef WEIR_MODEL_RECIPIENT_PRIV_H
#define WEIR_MODEL_RECIPIENT_PRIV_H

#include "weir/base/json_scan.h"
#include "weir/model/recipe.h"
#include "weir/model/recipient.h"

#define MAP_MAX_PATHS   32 /* of json_scan */
#define MAP_MAX_SOURCES 12 /* in one list */
#define MAP_MAX_WORDS   128
#define MAP_WORD_MAX    128 /* bytes */

struct map_source {
	bool json;               /* otherwise a form's field */
	bool each;               /* json: all elements of an array */
	uint8_t index;           /* json: in map.paths */
	struct str name;         /* form: owned by the map */
	struct json_paths *rest; /* owned; each: where in an element; NULL: the element itself */
	enum recipe_unit unit;   /* of a time */
};

struct map_sources {
	struct map_source list[MAP_MAX_SOURCES];
	size_t n;
};

struct map_word {
	struct str word; /* owned by the map; with '/' and the detail behind it */
	bool none;       /* no report */
	bool soft;
	enum recipient_status status;
};

struct recipient_map {
	struct json_paths *in;    /* owned; NULL: everything is looked up in the body */
	struct json_paths *paths; /* owned; NULL: nothing is read from JSON */
	bool form;                /* something is read from a form */
	struct map_sources message_id, address, status, detail, time;
	struct str until; /* owned by the map; may be empty */
	struct map_word words[MAP_MAX_WORDS];
	size_t word_count;
	char *text; /* owned: the copies of all names and words */
};

#endif
