/* The header is read from its end, for only what our own proxies appended is to be believed. */
#include "client_priv.h"

#include "weir/io/http_server.h"

/* "192.0.2.1", "192.0.2.1:443", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:443". */
static struct str without_port(struct str s)
{
	const char *colon, *close;

	if (s.len && s.ptr[0] == '[') {
		close = memchr(s.ptr, ']', s.len);
		if (!close || (close + 1 < s.ptr + s.len && close[1] != ':'))
			return STR_NONE;
		return str_n(s.ptr + 1, (size_t)(close - s.ptr) - 1);
	}
	colon = s.len ? memchr(s.ptr, ':', s.len) : NULL;
	if (colon && colon == memrchr(s.ptr, ':', s.len))
		return str_n(s.ptr, (size_t)(colon - s.ptr));
	return s;
}

/* Cuts the last item off the list. */
static struct str split_last(struct str *list)
{
	const char *comma = list->len ? memrchr(list->ptr, ',', list->len) : NULL;
	struct str item = *list;

	if (!comma) {
		*list = STR_NONE;
		return str_trim(item);
	}
	item = str_n(comma + 1, (size_t)(list->ptr + list->len - comma) - 1);
	list->len = (size_t)(comma - list->ptr);
	return str_trim(item);
}

enum err client_find(const struct http_header *headers, size_t n, struct str peer,
                     const struct ip_net *trusted, size_t trusted_n, struct ip_addr *ret,
                     struct str *ret_text)
{
	struct ip_addr at;
	struct str text = peer;

	if (ip_parse(peer, &at) != ERR_OK)
		return ERR_INVAL;
	for (size_t i = n; i-- > 0;) {
		struct str list = headers[i].value;

		if (!str_ieq(headers[i].name, STR("x-forwarded-for")))
			continue;
		do {
			if (!ip_nets_have(trusted, trusted_n, &at))
				break;
			text = without_port(split_last(&list));
			if (ip_parse(text, &at) != ERR_OK)
				return ERR_INVAL;
		} while (list.ptr);
	}
	*ret = at;
	*ret_text = text;
	return ERR_OK;
}
