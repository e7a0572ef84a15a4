/* Twilio signs the URL that it was given, and behind it the fields of the form in order. Whether
 * with the URL's port or without it depends on the product. */
#include "weir/model/builtin.h"

#include "weir/model/recipe.h"

/* The public URL in pieces; the fragment is not sent and not signed. */
struct pieces {
	struct str front; /* https://user@host */
	struct str port;  /* ":8443"; empty where there is none */
	struct str path;
	struct str query; /* ptr NULL: none */
};

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

/* Of a URL that the recipe's compiler has seen: it begins with http:// or https://. */
static void take_apart(struct str url, struct str own_query, struct pieces *ret)
{
	size_t head = str_starts(url, STR("https://")) ? 8 : 7, host = head, port;
	struct str rest = url, query;

	rest = str_split(&rest, '#');
	query = rest;
	rest = str_split(&query, '?');
	while (host < rest.len && rest.ptr[host] != '/')
		host++;
	port = head + find_port(str_n(rest.ptr + head, host - head));
	ret->front = str_n(rest.ptr, port);
	ret->port = str_n(rest.ptr + port, host - port);
	ret->path = behind(rest, host);
	ret->query = own_query.len ? own_query : query;
}

size_t builtin_twilio(const struct recipe_input *in, bool port, struct str form,
                      struct str parts[BUILTIN_TWILIO_PARTS])
{
	struct str url = in->recipe->url;
	struct pieces p;
	size_t n = 0;

	take_apart(url, in->request->query, &p);
	if (p.port.len == 0)
		p.port = str_starts(url, STR("https://")) ? STR(":443") : STR(":80");
	parts[n++] = p.front;
	parts[n++] = port ? p.port : STR("");
	parts[n++] = p.path;
	if (p.query.ptr) {
		parts[n++] = STR("?");
		parts[n++] = p.query;
	}
	parts[n++] = form;
	return n;
}
