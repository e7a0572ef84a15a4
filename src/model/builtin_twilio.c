/* Twilio signs the URL that it was given, and behind it the fields of the form in order. How the
 * URL is spelled there depends on the product: with the port or without it; its characters as they
 * were given, or escaped, by one of two rules. Twilio's own library tries them all, and so do we.
 * All stand in one text, the views of which are set last, when nothing moves any more. */
#include "weir/model/builtin.h"

#include <stdint.h>

#include "weir/model/recipe.h"

/* The public URL in pieces; the fragment is not sent and not signed. */
struct pieces {
	struct str front; /* https://user@ */
	struct str host;
	struct str port; /* ":8443"; the scheme's own where the URL names none */
	struct str path;
	struct str query; /* ptr NULL: none */
};

enum spelling { AS_GIVEN, ESCAPED, ESCAPED_ANEW, SPELLINGS };

static struct str behind(struct str s, size_t n)
{
	return str_n(s.ptr + n, s.len - n);
}

/* Where the host's port begins: at the last colon that is not inside of an IPv6 address. */
static size_t find_port(struct str authority)
{
	for (size_t i = authority.len; i > 0; i--) {
		char c = authority.ptr[i - 1];

		if (c == ':')
			return i - 1;
		if (c == ']' || c == '@')
			break;
	}
	return authority.len;
}

static size_t find_host(struct str authority)
{
	for (size_t i = authority.len; i > 0; i--)
		if (authority.ptr[i - 1] == '@')
			return i;
	return 0;
}

/* Of a URL that the recipe's compiler has seen: it begins with http:// or https://. */
static void take_apart(struct str url, struct str own_query, struct pieces *ret)
{
	bool tls = str_starts(url, STR("https://"));
	struct str rest = url, query, authority, own = tls ? STR(":443") : STR(":80");
	size_t head = tls ? 8 : 7, end = head, host, port;

	rest = str_split(&rest, '#');
	query = rest;
	rest = str_split(&query, '?');
	while (end < rest.len && rest.ptr[end] != '/')
		end++;
	authority = str_n(rest.ptr + head, end - head);
	host = find_host(authority);
	port = find_port(authority);
	ret->front = str_n(rest.ptr, head + host);
	ret->host = str_n(authority.ptr + host, port - host);
	ret->port = port < authority.len ? behind(authority, port) : own;
	ret->path = behind(rest, end);
	ret->query = own_query.len ? own_query : query;
}

/* ---- spellings ---- */

static void add_escape(struct buf *b, char c)
{
	static const char digits[] = "0123456789ABCDEF";

	buf_add_char(b, '%');
	buf_add_char(b, digits[(unsigned char)c >> 4]);
	buf_add_char(b, digits[c & 15]);
}

/* What no URL holds is escaped, and what is in `also`, as the URL standard has it; what is escaped
 * already stays. */
static void add_escaped(struct buf *b, struct str s, const char *also)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c <= ' ' || c >= 0x7f || strchr(also, c))
			add_escape(b, s.ptr[i]);
		else
			buf_add_char(b, s.ptr[i]);
	}
}

static char decode_one(struct str s, size_t *i)
{
	uint8_t byte;
	size_t len;

	if (s.ptr[*i] == '+')
		return ' ';
	if (s.ptr[*i] != '%' || s.len - *i < 3 ||
	    hex_decode(str_n(s.ptr + *i + 1, 2), &byte, 1, &len) != ERR_OK)
		return s.ptr[*i];
	*i += 2;
	return (char)byte;
}

/* Decoded, where an escape that is none stands for itself, and escaped again but for what
 * JavaScript's encodeURIComponent() leaves. */
static void add_anew(struct buf *b, struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = decode_one(s, &i);

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    (c && strchr("-_.!~*'()", c)))
			buf_add_char(b, c);
		else
			add_escape(b, c);
	}
}

static void add_query_anew(struct buf *b, struct str query)
{
	bool first = true;

	while (query.ptr) {
		struct str value = str_split(&query, '&'), name = str_split(&value, '=');

		if (name.len == 0 && !value.ptr)
			continue;
		if (!first)
			buf_add_char(b, '&');
		first = false;
		add_anew(b, name);
		buf_add_char(b, '=');
		add_anew(b, value);
	}
}

static void add_host(struct buf *b, struct str host, enum spelling how)
{
	for (size_t i = 0; i < host.len; i++) {
		char c = host.ptr[i];

		buf_add_char(b, how != AS_GIVEN && c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c);
	}
}

static void add_url(struct buf *b, const struct pieces *p, enum spelling how, bool port)
{
	buf_add_str(b, p->front);
	add_host(b, p->host, how);
	if (port)
		buf_add_str(b, p->port);
	if (how == AS_GIVEN)
		buf_add_str(b, p->path);
	else
		add_escaped(b, p->path.len ? p->path : STR("/"), "\"#<>?`{}");
	if (p->query.ptr)
		buf_add_char(b, '?');
	if (how == AS_GIVEN)
		buf_add_str(b, p->query);
	else if (how == ESCAPED)
		add_escaped(b, p->query, "\"#<>'");
	else
		add_query_anew(b, p->query);
}

/* ---- all of them ---- */

/* Behind what stands in `b`, as an offset for now. Two spellings of most URLs are the same. */
static void add_candidate(struct buf *b, size_t at, struct twilio_content *c)
{
	struct str url = str_n(b->ptr + at, b->len - at);

	for (size_t i = 0; i < c->n; i++) {
		if (!str_eq(url, str_n(b->ptr + (uintptr_t)c->urls[i].ptr, c->urls[i].len)))
			continue;
		b->len = at;
		return;
	}
	c->urls[c->n++] = (struct str){(const char *)(uintptr_t)at, url.len};
}

enum err builtin_twilio(struct recipe_input *in, bool form, struct twilio_content *ret)
{
	struct buf *b = recipe_scratch(in);
	struct pieces p;
	size_t at;
	enum err e = ERR_OK;

	*ret = (struct twilio_content){.n = 0};
	take_apart(in->recipe->url, in->request->query, &p);
	for (unsigned i = 0; i < 2 * SPELLINGS && !b->err; i++) {
		at = b->len;
		add_url(b, &p, (enum spelling)(i / 2), i % 2);
		if (!b->err)
			add_candidate(b, at, ret);
	}
	at = b->len;
	if (form && !b->err)
		e = recipe_add_form(in, in->request->body, b);
	if (b->err)
		return ERR_NOMEM;
	for (size_t i = 0; i < ret->n; i++)
		ret->urls[i].ptr = b->ptr + (uintptr_t)ret->urls[i].ptr;
	ret->form = str_n(b->ptr + at, b->len - at);
	return e;
}
