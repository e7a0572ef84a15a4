/* The gate's parser. It works on whole lines that lie contiguously, so that every check is a loop
 * over a slice; the only state between calls is the bytes themselves. Each rule is decided at the
 * first line that breaks it, and what can be known only at the end (Host, both framings) at the
 * blank line: that makes the verdict independent of how the bytes arrived. */
#include "weir/io/http_gate.h"

enum { TOKEN = 1, TARGET = 2, HOST = 4, HEX = 8, DIGIT = 16, ID = 32 };

#define ALNUM_CLASS (TOKEN | TARGET | HOST | ID)
/* clang-format off */
static const uint8_t char_class[256] = {
	['0' ... '9'] = ALNUM_CLASS | HEX | DIGIT,
	['a' ... 'f'] = ALNUM_CLASS | HEX, ['g' ... 'z'] = ALNUM_CLASS,
	['A' ... 'F'] = ALNUM_CLASS | HEX, ['G' ... 'Z'] = ALNUM_CLASS,
	['!'] = TOKEN | TARGET | HOST, ['#'] = TOKEN, ['$'] = TOKEN | TARGET | HOST,
	['%'] = TOKEN | TARGET | HOST, ['&'] = TOKEN | TARGET | HOST,
	['\''] = TOKEN | TARGET | HOST, ['*'] = TOKEN | TARGET | HOST,
	['+'] = TOKEN | TARGET | HOST, ['-'] = TOKEN | TARGET | HOST | ID,
	['.'] = TOKEN | TARGET | HOST | ID, ['^'] = TOKEN | TARGET,
	['_'] = TOKEN | TARGET | HOST | ID, ['`'] = TOKEN | TARGET, ['|'] = TOKEN | TARGET,
	['~'] = TOKEN | TARGET | HOST,
	['('] = TARGET | HOST, [')'] = TARGET | HOST, [','] = TARGET, ['/'] = TARGET,
	[':'] = TARGET | HOST, [';'] = TARGET | HOST, ['='] = TARGET | HOST, ['?'] = TARGET,
	['@'] = TARGET, ['['] = TARGET | HOST, [']'] = TARGET | HOST, ['"'] = TARGET,
	['<'] = TARGET, ['>'] = TARGET, ['\\'] = TARGET, ['{'] = TARGET, ['}'] = TARGET,
	[0x80 ... 0xff] = TARGET,
};
/* clang-format on */

static bool all_of(struct str s, unsigned classes)
{
	for (size_t i = 0; i < s.len; i++)
		if (!(char_class[(uint8_t)s.ptr[i]] & classes))
			return false;
	return true;
}

bool http_gate_is_token(struct str s)
{
	return s.len > 0 && all_of(s, TOKEN);
}

/* True where none of the eight bytes is below 0x20 or equal to 0x7f; may err towards false. */
static bool word_is_plain(uint64_t w)
{
	const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
	uint64_t del = w ^ (ones * 0x7f);

	return (((w - ones * 0x20) & ~w) & highs) == 0 && (((del - ones) & ~del) & highs) == 0;
}

bool http_gate_is_value(struct str s)
{
	size_t i = 0;

	for (; i + 8 <= s.len; i += 8) {
		uint64_t w;

		memcpy(&w, s.ptr + i, 8);
		if (!word_is_plain(w))
			break;
	}
	for (; i < s.len; i++) {
		uint8_t c = (uint8_t)s.ptr[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

bool http_gate_request_id_ok(struct str id)
{
	return id.len > 0 && id.len <= HTTP_REQUEST_ID_MAX && all_of(id, ID);
}

enum http_method http_gate_method(struct str name)
{
	static const enum http_method known[] = {HTTP_GET,    HTTP_HEAD,    HTTP_POST, HTTP_PUT,
	                                         HTTP_DELETE, HTTP_OPTIONS, HTTP_PATCH};

	if (str_eq(name, STR("POST")))
		return HTTP_POST;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (str_eq(name, str_of(http_method_name(known[i]))))
			return known[i];
	return HTTP_METHOD_OTHER;
}

static enum http_gate_verdict refuse(struct http_gate_head *h, int status, const char *detail)
{
	h->why = status == 413 || status == 414 || status == 431 ? HTTP_REFUSED_TOO_LARGE
	                                                         : HTTP_REFUSED_MALFORMED;
	h->status = status;
	h->detail = detail;
	return HTTP_GATE_REFUSED;
}

static int hex_value(char c)
{
	return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* Escapes of a path: two hex digits each, and none that hides a NUL. */
static bool escapes_ok(struct str path, bool *ret_escaped)
{
	const char *end = path.ptr + path.len;

	*ret_escaped = false;
	for (const char *p = path.ptr; p < end; p++) {
		if (*p != '%')
			continue;
		if (end - p < 3 || !(char_class[(uint8_t)p[1]] & HEX) ||
		    !(char_class[(uint8_t)p[2]] & HEX) || (p[1] == '0' && p[2] == '0'))
			return false;
		*ret_escaped = true;
		p += 2;
	}
	return true;
}

size_t http_gate_unescape(struct str path, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < path.len; i++) {
		if (path.ptr[i] == '%' && path.len - i >= 3) {
			out[n++] =
			    (char)(hex_value(path.ptr[i + 1]) << 4 | hex_value(path.ptr[i + 2]));
			i += 2;
		} else {
			out[n++] = path.ptr[i];
		}
	}
	return n;
}

/* Cuts scheme and authority off an absolute target; false when it is none or a bad one. */
static bool cut_authority(struct str *target)
{
	struct str s = *target;
	size_t i = 0;

	if (s.len > 7 && str_ieq(str_n(s.ptr, 7), STR("http://")))
		s = str_n(s.ptr + 7, s.len - 7);
	else if (s.len > 8 && str_ieq(str_n(s.ptr, 8), STR("https://")))
		s = str_n(s.ptr + 8, s.len - 8);
	else
		return false;
	while (i < s.len && s.ptr[i] != '/' && s.ptr[i] != '?')
		i++;
	if (i == 0 || !all_of(str_n(s.ptr, i), HOST))
		return false;
	*target = str_n(s.ptr + i, s.len - i);
	return true;
}

static enum http_gate_verdict parse_target(struct http_gate_head *h)
{
	struct str rest = h->target;

	if (h->target.len == 0 || !all_of(h->target, TARGET))
		return refuse(h, 400, "the request target has a character that is not allowed");
	h->query = STR_NONE;
	if (str_eq(h->target, STR("*"))) {
		if (!str_eq(h->method, STR("OPTIONS")))
			return refuse(h, 400, "the target * is for OPTIONS only");
		h->path = h->target;
		return HTTP_GATE_WHOLE;
	}
	if (rest.ptr[0] != '/' && !cut_authority(&rest))
		return refuse(h, 400, "the request target is neither a path nor an absolute URL");
	h->path = str_split(&rest, '?');
	h->query = rest;
	if (h->path.len == 0)
		h->path = STR("/");
	if (!escapes_ok(h->path, &h->path_escaped))
		return refuse(h, 400, "the path has a bad percent escape");
	return HTTP_GATE_WHOLE;
}

static enum http_gate_verdict parse_version(struct http_gate_head *h, struct str v)
{
	h->http11 = str_eq(v, STR("HTTP/1.1"));
	h->keep_alive = h->http11;
	if (h->http11 || str_eq(v, STR("HTTP/1.0")))
		return HTTP_GATE_WHOLE;
	if (v.len == 8 && str_starts(v, STR("HTTP/")) && v.ptr[6] == '.' &&
	    (char_class[(uint8_t)v.ptr[5]] & DIGIT) && (char_class[(uint8_t)v.ptr[7]] & DIGIT))
		return refuse(h, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
	return refuse(h, 400, "the request line does not end in an HTTP version");
}

static enum http_gate_verdict parse_request_line(struct http_gate_head *h, struct str line)
{
	enum http_gate_verdict v;
	const char *target, *version;

	target = memchr(line.ptr, ' ', line.len);
	h->method = str_n(line.ptr, target ? (size_t)(target - line.ptr) : line.len);
	if (!http_gate_is_token(h->method))
		return refuse(h, 400, "the request does not begin with a method");
	version = target ? memrchr(line.ptr, ' ', line.len) : NULL;
	if (!version || version == target)
		return refuse(h, 400, "the request line needs method, target and version");
	h->target = str_n(target + 1, (size_t)(version - target) - 1);
	v = parse_version(h, str_n(version + 1, (size_t)(line.ptr + line.len - version) - 1));
	return v == HTTP_GATE_WHOLE ? parse_target(h) : v;
}

/* What the framing needs to know of the headers while they pass. */
struct framing {
	unsigned hosts, lengths, encodings;
};

static enum http_gate_verdict take_length(struct http_gate_head *h, struct str v)
{
	uint64_t n = 0;

	if (v.len == 0 || !all_of(v, DIGIT))
		return refuse(h, 400, "Content-Length is not a number");
	for (size_t i = 0; i < v.len; i++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(v.ptr[i] - '0'), &n))
			return refuse(h, 400, "Content-Length is too large for a number");
	h->has_length = true;
	h->length = n;
	return HTTP_GATE_WHOLE;
}

static void take_connection(struct http_gate_head *h, struct str list, bool *closes)
{
	while (list.ptr) {
		struct str token = str_trim(str_split(&list, ','));

		if (str_ieq(token, STR("close")))
			*closes = true;
		else if (str_ieq(token, STR("keep-alive")))
			h->keep_alive = true;
	}
	if (*closes)
		h->keep_alive = false;
}

/* The few headers that say where the request ends and what becomes of the connection. */
static enum http_gate_verdict take_framing(struct http_gate_head *h, struct framing *f,
                                           bool *closes, const struct http_header *x)
{
	switch (x->name.len) {
	case 4:
		if (!str_ieq(x->name, STR("Host")))
			break;
		if (++f->hosts > 1)
			return refuse(h, 400, "more than one Host header");
		if (!all_of(x->value, HOST))
			return refuse(h, 400, "the Host header is malformed");
		break;
	case 6:
		if (!str_ieq(x->name, STR("Expect")))
			break;
		if (!str_ieq(x->value, STR("100-continue")))
			return refuse(h, 417, "only Expect: 100-continue is understood");
		h->expect_continue = true;
		break;
	case 10:
		if (str_ieq(x->name, STR("Connection")))
			take_connection(h, x->value, closes);
		break;
	case 14:
		if (!str_ieq(x->name, STR("Content-Length")))
			break;
		if (++f->lengths > 1)
			return refuse(h, 400, "more than one Content-Length header");
		return take_length(h, x->value);
	case 17:
		if (!str_ieq(x->name, STR("Transfer-Encoding")))
			break;
		if (++f->encodings > 1)
			return refuse(h, 400, "more than one Transfer-Encoding header");
		if (!str_ieq(x->value, STR("chunked")))
			return refuse(h, 501, "the only Transfer-Encoding here is chunked");
		h->chunked = true;
		break;
	default:
		break;
	}
	return HTTP_GATE_WHOLE;
}

static enum http_gate_verdict parse_field(struct http_gate_head *h,
                                          const struct http_gate_limits *lim, struct str line)
{
	const char *colon = memchr(line.ptr, ':', line.len);
	struct http_header *x;

	if (h->field_count >= lim->max_fields)
		return refuse(h, 431, "too many headers");
	x = &h->fields[h->field_count];
	if (line.ptr[0] == ' ' || line.ptr[0] == '\t')
		return refuse(h, 400, "a header is folded over two lines");
	if (!colon)
		return refuse(h, 400, "a header has no colon");
	x->name = str_n(line.ptr, (size_t)(colon - line.ptr));
	if (!http_gate_is_token(x->name))
		return refuse(h, 400, "a header name has a character that is not allowed");
	x->value = str_trim(str_n(colon + 1, (size_t)(line.ptr + line.len - colon) - 1));
	if (!http_gate_is_value(x->value))
		return refuse(h, 400, "a header value has a control character");
	h->field_count++;
	return HTTP_GATE_WHOLE;
}

static enum http_gate_verdict check_whole(struct http_gate_head *h, const struct framing *f)
{
	if (f->lengths && f->encodings)
		return refuse(h, 400, "Content-Length together with Transfer-Encoding");
	if (f->encodings && !h->http11)
		return refuse(h, 400, "HTTP/1.0 has no Transfer-Encoding");
	if (h->http11 && f->hosts != 1)
		return refuse(h, 400, "the Host header is missing");
	return HTTP_GATE_WHOLE;
}

/* One line without its CRLF. MORE: no line feed yet. */
static enum http_gate_verdict next_line(struct http_gate_head *h, const char *p, size_t len,
                                        size_t *pos, struct str *ret)
{
	const char *start = p + *pos;
	const char *lf = memchr(start, '\n', len - *pos);
	size_t n;

	if (!lf)
		return HTTP_GATE_MORE;
	n = (size_t)(lf - start);
	if (n == 0 || start[n - 1] != '\r')
		return refuse(h, 400, "a line ends in a bare line feed");
	*ret = str_n(start, n - 1);
	*pos += n + 1;
	if (memchr(ret->ptr, '\r', ret->len))
		return refuse(h, 400, "a line has a bare carriage return");
	return HTTP_GATE_WHOLE;
}

static enum http_gate_verdict parse_start(const char *p, size_t len, size_t *pos,
                                          struct http_gate_head *h)
{
	struct str line = {p, 0};
	enum http_gate_verdict v;
	unsigned blank = 0;

	for (;;) {
		size_t from = *pos, window = len - from;

		if (window > HTTP_GATE_MAX_LINE + 2)
			window = HTTP_GATE_MAX_LINE + 2;
		if (window > 0 && p[from] != '\r' && !(char_class[(uint8_t)p[from]] & TOKEN))
			return refuse(h, 400, "the request does not begin with a method");
		v = next_line(h, p, from + window, pos, &line);
		if (v == HTTP_GATE_MORE && window == HTTP_GATE_MAX_LINE + 2)
			return refuse(h, 414, "the request line is too long");
		if (v != HTTP_GATE_WHOLE)
			return v;
		if (line.len > 0)
			return parse_request_line(h, line);
		if (++blank > HTTP_GATE_MAX_BLANK)
			return refuse(h, 400, "too many blank lines before the request");
	}
}

static enum http_gate_verdict parse_fields(const char *p, size_t len, size_t *pos,
                                           const struct http_gate_limits *lim,
                                           struct http_gate_head *h)
{
	struct framing f = {0, 0, 0};
	enum http_gate_verdict v;
	bool closes = false;
	struct str line;

	for (;;) {
		v = next_line(h, p, len, pos, &line);
		if (v != HTTP_GATE_WHOLE)
			return v;
		if (line.len == 0)
			return check_whole(h, &f);
		v = parse_field(h, lim, line);
		if (v == HTTP_GATE_WHOLE)
			v = take_framing(h, &f, &closes, &h->fields[h->field_count - 1]);
		if (v != HTTP_GATE_WHOLE)
			return v;
	}
}

enum http_gate_verdict http_gate_parse(const char *p, size_t len,
                                       const struct http_gate_limits *lim, struct http_gate_head *h)
{
	size_t usable = len < lim->max_bytes ? len : lim->max_bytes;
	enum http_gate_verdict v;
	size_t pos = 0;

	h->field_count = 0;
	h->path_escaped = h->chunked = h->expect_continue = h->has_length = false;
	h->length = 0;
	if (len == 0)
		return HTTP_GATE_MORE;
	v = parse_start(p, usable, &pos, h);
	if (v == HTTP_GATE_WHOLE)
		v = parse_fields(p, usable, &pos, lim, h);
	if (v == HTTP_GATE_MORE && usable == lim->max_bytes)
		return refuse(h, pos == 0 ? 414 : 431, "the head of the request is too large");
	h->len = pos;
	return v;
}
