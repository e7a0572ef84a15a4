/* Strings of JSON as text: escapes read, for picked values and for member names that are spelled
 * with escapes. What comes here was found valid by the scanner. */
#include <string.h>

#include "weir/base/json_scan.h"

#include "json_priv.h"

static void append_utf8(char *out, size_t *len, uint32_t cp)
{
	if (cp < 0x80) {
		out[(*len)++] = (char)cp;
	} else if (cp < 0x800) {
		out[(*len)++] = (char)(0xc0 | cp >> 6);
		out[(*len)++] = (char)(0x80 | (cp & 0x3f));
	} else if (cp < 0x10000) {
		out[(*len)++] = (char)(0xe0 | cp >> 12);
		out[(*len)++] = (char)(0x80 | (cp >> 6 & 0x3f));
		out[(*len)++] = (char)(0x80 | (cp & 0x3f));
	} else {
		out[(*len)++] = (char)(0xf0 | cp >> 18);
		out[(*len)++] = (char)(0x80 | (cp >> 12 & 0x3f));
		out[(*len)++] = (char)(0x80 | (cp >> 6 & 0x3f));
		out[(*len)++] = (char)(0x80 | (cp & 0x3f));
	}
}

/* Reads one escape at *p of a string that was found valid. */
static uint32_t read_escape(const uint8_t **p, const uint8_t *end)
{
	static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
	uint8_t c = (*p)[1];
	const char *at = memchr(from, c, sizeof(from) - 1);
	int32_t high, low;

	*p += 2;
	if (c != 'u')
		return at ? (uint8_t)to[at - from] : c;
	high = json_hex4(*p, end);
	*p += 4;
	if (high < 0xd800 || high > 0xdfff)
		return (uint32_t)high;
	if (high > 0xdbff || end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u')
		return 0xfffd;
	low = json_hex4(*p + 2, end);
	if (low < 0xdc00 || low > 0xdfff)
		return 0xfffd;
	*p += 6;
	return 0x10000 + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
}

bool json_key_equals(const uint8_t *raw, size_t len, struct str name)
{
	const uint8_t *p = raw, *end = raw + len;
	size_t at = 0;

	if (len == name.len && memcmp(raw, name.ptr, len) == 0)
		return !memchr(raw, '\\', len);
	if (len < name.len || !memchr(raw, '\\', len))
		return false;
	while (p < end) {
		char text[4];
		size_t n = 0;

		if (*p == '\\')
			append_utf8(text, &n, read_escape(&p, end));
		else
			text[n++] = (char)*p++;
		if (name.len - at < n || memcmp(name.ptr + at, text, n) != 0)
			return false;
		at += n;
	}
	return at == name.len;
}

static enum err unescape(const uint8_t *p, const uint8_t *end, struct buf *out)
{
	while (p < end) {
		const uint8_t *slash = memchr(p, '\\', (size_t)(end - p));
		char text[4];
		size_t n = 0;

		if (!slash)
			slash = end;
		buf_add(out, p, (size_t)(slash - p));
		p = slash;
		if (p == end)
			break;
		append_utf8(text, &n, read_escape(&p, end));
		buf_add(out, text, n);
	}
	return out->err;
}

enum err json_text(const struct json_pick *pick, struct buf *out)
{
	const uint8_t *p = (const uint8_t *)pick->raw.ptr;

	switch (pick->kind) {
	case JSON_KIND_STRING:
		return unescape(p + 1, p + pick->raw.len - 1, out);
	case JSON_KIND_NUMBER:
	case JSON_KIND_BOOL:
		return buf_add_str(out, pick->raw);
	case JSON_KIND_ABSENT:
	case JSON_KIND_NULL:
	case JSON_KIND_ARRAY:
	case JSON_KIND_OBJECT:
		break;
	}
	return ERR_INVAL;
}
