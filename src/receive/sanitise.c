/* Most texts are short, printable ASCII: one look tells, and then nothing is copied. */
#include "weir/receive/sanitise.h"

#include <stdint.h>

#include "weir/base/digest.h"
#include "weir/io/http_server.h"
#include "weir/model/event.h"
#include "weir/model/recipe.h"

#define MARK     "\xe2\x80\xa6sha256:" /* an ellipsis first */
#define MARK_LEN (sizeof(MARK) - 1)
#define TAIL_LEN (MARK_LEN + 64)

#define TRACEPARENT_LEN 55

/* Eight bytes at a time: none is below a blank, DEL or past ASCII. */
static bool is_printable_ascii(struct str s)
{
	const uint64_t ones = 0x0101010101010101ull, tops = 0x8080808080808080ull;
	uint64_t w;
	size_t i = 0;

	for (; s.len - i >= sizeof(w); i += sizeof(w)) {
		memcpy(&w, s.ptr + i, sizeof(w));
		if ((w | (w - ones * 0x20) | (w + ones)) & tops)
			return false;
	}
	for (; i < s.len; i++)
		if (s.ptr[i] < 0x20 || s.ptr[i] > 0x7e)
			return false;
	return true;
}

static bool is_control(uint8_t c)
{
	return c < 0x20 || c == 0x7f;
}

static bool has_control(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (is_control((uint8_t)s.ptr[i]))
			return true;
	return false;
}

/* One character of `s` at *pos as clean text; returns its length. */
static size_t clean_char(struct str s, bool utf8, size_t *pos, char out[4])
{
	static const char hex[] = "0123456789ABCDEF";
	uint8_t c = (uint8_t)s.ptr[(*pos)++];
	size_t n = 0;

	if (is_control(c)) {
		out[0] = '%';
		out[1] = hex[c >> 4];
		out[2] = hex[c & 15];
		return 3;
	}
	if (c >= 0x80 && !utf8) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	out[n++] = (char)c;
	while (c >= 0x80 && *pos < s.len && ((uint8_t)s.ptr[*pos] & 0xc0) == 0x80)
		out[n++] = s.ptr[(*pos)++];
	return n;
}

static enum err add_mark(struct str raw, struct buf *out)
{
	uint8_t digest[DIGEST_MAX_LEN];
	char hex[2 * DIGEST_MAX_LEN + 1];
	enum err e = digest_parts(DIGEST_SHA256, &raw, 1, digest);

	if (e != ERR_OK)
		return e;
	hex_encode(digest, digest_len(DIGEST_SHA256), hex);
	buf_add(out, MARK, MARK_LEN);
	return buf_add_cstr(out, hex);
}

/* Cleans into `out`. A copy that grows too long is cut back to where the mark still fits. */
static enum err clean(struct str raw, struct buf *out)
{
	bool utf8 = str_is_utf8(raw);
	size_t start = out->len, fits = start, pos = 0;

	while (pos < raw.len) {
		char text[4];
		size_t n = clean_char(raw, utf8, &pos, text);

		if (out->len + n - start > EVENT_TEXT_MAX) {
			out->len = fits;
			return add_mark(raw, out);
		}
		if (buf_add(out, text, n) != ERR_OK)
			return out->err;
		if (out->len - start <= EVENT_TEXT_MAX - TAIL_LEN)
			fits = out->len;
	}
	return ERR_OK;
}

enum err sanitise_text(struct str raw, struct buf *out, struct str *ret)
{
	size_t start = out->len;
	enum err e;

	if (raw.len <= EVENT_TEXT_MAX &&
	    (is_printable_ascii(raw) || (!has_control(raw) && str_is_utf8(raw)))) {
		*ret = raw;
		return ERR_OK;
	}
	e = clean(raw, out);
	if (e == ERR_OK)
		*ret = str_n(out->ptr + start, out->len - start);
	return e;
}

/* ---- headers ---- */

enum header_use { HEADER_PLAIN, HEADER_SECRET, HEADER_CONTENT_TYPE, HEADER_TRACEPARENT };

static bool ends_with(struct str name, struct str end)
{
	return name.len >= end.len && str_ieq(str_n(name.ptr + name.len - end.len, end.len), end);
}

/* Those of other providers than the tool's, of gateways, and whatever else is named so. Twilio's
 * I-Twilio-Idempotency-Token is an event's id and no secret. */
static bool names_secret(struct str name)
{
	if (ends_with(name, STR("token")))
		return !ends_with(name, STR("idempotency-token"));
	return ends_with(name, STR("secret")) || ends_with(name, STR("api-key")) ||
	       ends_with(name, STR("apikey"));
}

static enum header_use use_of(struct str name)
{
	switch (name.len) {
	case 6:
		if (str_ieq(name, STR("cookie")))
			return HEADER_SECRET;
		break;
	case 11:
		if (str_ieq(name, STR("traceparent")))
			return HEADER_TRACEPARENT;
		break;
	case 12:
		if (str_ieq(name, STR("content-type")))
			return HEADER_CONTENT_TYPE;
		break;
	case 13:
		if (str_ieq(name, STR("authorization")))
			return HEADER_SECRET;
		break;
	case 19:
		if (str_ieq(name, STR("proxy-authorization")))
			return HEADER_SECRET;
		break;
	}
	return names_secret(name) ? HEADER_SECRET : HEADER_PLAIN;
}

static bool is_token_header(const struct recipe *r, struct str name)
{
	for (size_t i = 0; i < r->header_count; i++)
		if (r->header_auth[i] && str_ieq(r->headers[i], name))
			return true;
	return false;
}

/* W3C trace context: version-trace-parent-flags in lower-case hex, ids not all zero. Of versions to
 * come only the part that is defined now is taken. */
static struct str valid_traceparent(struct str s)
{
	static const char shape[] = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
	bool trace = false, parent = false, later;

	if (s.len < TRACEPARENT_LEN || (s.ptr[0] == 'f' && s.ptr[1] == 'f'))
		return STR_NONE;
	for (size_t i = 0; i < TRACEPARENT_LEN; i++) {
		char c = s.ptr[i];
		bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');

		if (shape[i] == '-' ? c != '-' : !hex)
			return STR_NONE;
		trace |= i >= 3 && i < 35 && c != '0';
		parent |= i >= 36 && i < 52 && c != '0';
	}
	later = s.ptr[0] != '0' || s.ptr[1] != '0';
	if (!trace || !parent ||
	    (s.len > TRACEPARENT_LEN && (!later || s.ptr[TRACEPARENT_LEN] != '-')))
		return STR_NONE;
	return str_n(s.ptr, TRACEPARENT_LEN);
}

static enum err add_header_text(struct str raw, struct buf *json)
{
	struct buf clean_copy;
	struct str s;
	enum err e;

	if (raw.len <= EVENT_TEXT_MAX && is_printable_ascii(raw))
		return buf_add_json(json, raw);
	buf_init(&clean_copy, 2 * EVENT_TEXT_MAX);
	e = sanitise_text(raw, &clean_copy, &s);
	if (e == ERR_OK)
		e = buf_add_json(json, s);
	buf_done(&clean_copy);
	return e;
}

static char *put_quoted(char *at, struct str s)
{
	*at++ = '"';
	if (s.len)
		memcpy(at, s.ptr, s.len);
	at += s.len;
	*at++ = '"';
	return at;
}

/* What most headers are, in one go. */
static enum err add_plain_header(const struct http_header *h, bool first, struct buf *json)
{
	size_t len = h->name.len + h->value.len + (sizeof(",[\"\",\"\"]") - 1);
	char *at;

	if (buf_reserve(json, len) != ERR_OK)
		return json->err;
	at = json->ptr + json->len;
	if (!first)
		*at++ = ',';
	*at++ = '[';
	at = put_quoted(at, h->name);
	*at++ = ',';
	at = put_quoted(at, h->value);
	*at++ = ']';
	*at = '\0';
	json->len = (size_t)(at - json->ptr);
	return ERR_OK;
}

static enum err add_header(const struct http_header *h, bool secret, bool first, struct buf *json)
{
	enum err e;

	if (!secret && h->name.len <= EVENT_TEXT_MAX && h->value.len <= EVENT_TEXT_MAX &&
	    str_is_json_plain(h->name) && str_is_json_plain(h->value))
		return add_plain_header(h, first, json);
	buf_add(json, first ? "[" : ",[", first ? 1 : 2);
	e = add_header_text(h->name, json);
	if (e == ERR_OK)
		e = buf_add_char(json, ',');
	if (e == ERR_OK)
		e = secret ? buf_add(json, "null", 4) : add_header_text(h->value, json);
	return e == ERR_OK ? buf_add_char(json, ']') : e;
}

enum err sanitise_headers(const struct http_header *headers, size_t n, const struct recipe *r,
                          struct buf *json, struct buf *type, struct kept_headers *ret)
{
	struct kept_headers kept = {.content_type = STR(""), .traceparent = STR("")};
	size_t types = 0, traces = 0;
	enum err e = ERR_OK;

	buf_reset(json);
	buf_reset(type);
	buf_add_char(json, '[');
	for (size_t i = 0; i < n && e == ERR_OK; i++) {
		enum header_use use = use_of(headers[i].name);

		if (use == HEADER_CONTENT_TYPE && types++ == 0)
			e = sanitise_text(headers[i].value, type, &kept.content_type);
		if (use == HEADER_TRACEPARENT)
			kept.traceparent = traces++ ? STR("") : valid_traceparent(headers[i].value);
		if (e == ERR_OK)
			e = add_header(&headers[i],
			               use == HEADER_SECRET || is_token_header(r, headers[i].name),
			               i == 0, json);
	}
	if (e != ERR_OK)
		return e;
	e = buf_add_char(json, ']');
	kept.json = buf_str(json);
	*ret = kept;
	return e;
}
