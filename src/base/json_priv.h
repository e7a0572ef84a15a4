/* What the scanner and the reader of strings share. */
#ifndef WEIR_BASE_JSON_PRIV_H
#define WEIR_BASE_JSON_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/str.h"

static inline bool json_is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static inline int json_hex_value(uint8_t c)
{
	if (json_is_digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits behind \u; -1 when they are none. */
static inline int32_t json_hex4(const uint8_t *p, const uint8_t *end)
{
	int32_t v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int d = json_hex_value(p[i]);

		if (d < 0)
			return -1;
		v = v << 4 | d;
	}
	return v;
}

/* Does the raw text between a member's quotes, escapes and all, spell `name`? */
bool json_key_equals(const uint8_t *raw, size_t len, struct str name);

#endif
