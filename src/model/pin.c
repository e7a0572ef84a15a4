/* Strict on purpose: what is not plainly right is refused, so that no second reader of the URL, as
 * the HTTP client is one, can see another host in it. */
#include "weir/model/pin.h"

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_label(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_lower(s.ptr[i]) && !is_digit(s.ptr[i]) && s.ptr[i] != '-')
			return false;
	return s.len > 0 && s.len <= 63;
}

static bool is_word(struct str s, bool (*fits)(char c))
{
	for (size_t i = 0; i < s.len; i++)
		if (!fits(s.ptr[i]))
			return false;
	return s.len > 0;
}

/* Two letters, words, a number, with hyphens between. */
static bool is_region(struct str s)
{
	struct str word = str_split(&s, '-');
	size_t words = 0;

	if (word.len != 2 || !is_word(word, is_lower))
		return false;
	while (s.ptr) {
		word = str_split(&s, '-');
		if (!s.ptr)
			return words > 0 && is_word(word, is_digit);
		if (!is_word(word, is_lower))
			return false;
		words++;
	}
	return false;
}

static bool is_port(struct str s)
{
	return s.len <= 5 && is_word(s, is_digit);
}

/* "HOST:PORT" to both; the port's ptr is NULL where there is none. */
static struct str split_port(struct str authority, struct str *ret_port)
{
	struct str host = str_split(&authority, ':');

	*ret_port = authority;
	return host;
}

bool pin_is_pattern(struct str s)
{
	struct str port, host = split_port(s, &port);

	if (port.ptr && !is_port(port))
		return false;
	while (host.ptr) {
		struct str label = str_split(&host, '.');

		if (!str_eq(label, STR("*")) && !str_eq(label, STR("{region}")) && !is_label(label))
			return false;
	}
	return s.len > 0;
}

static bool label_fits(struct str pattern, struct str label)
{
	if (str_eq(pattern, STR("{region}")))
		return is_region(label);
	return str_eq(pattern, STR("*")) ? is_label(label) : str_eq(pattern, label);
}

static bool host_fits(struct str pattern, struct str authority)
{
	struct str want_port, port, want = split_port(pattern, &want_port),
	                            host = split_port(authority, &port);

	if (!want_port.ptr != !port.ptr || !str_eq(want_port, port))
		return false;
	while (want.ptr && host.ptr)
		if (!label_fits(str_split(&want, '.'), str_split(&host, '.')))
			return false;
	return !want.ptr && !host.ptr;
}

static bool is_plain(struct str s, const char *marks)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if (!is_lower((char)(c | 0x20)) && !is_digit(c) && (!c || !strchr(marks, c)))
			return false;
	}
	return true;
}

static bool ends(struct str s, struct str suffix)
{
	return s.len >= suffix.len && str_eq(str_n(s.ptr + s.len - suffix.len, suffix.len), suffix);
}

static bool path_fits(const struct pin *p, struct str path)
{
	return is_plain(path, "/-._~") && !memmem(path.ptr, path.len, "..", 2) &&
	       str_starts(path, p->prefix) && ends(path, p->suffix);
}

bool pin_allows(const struct pin *p, struct str url)
{
	struct str scheme = STR("https://"), authority, path, query;
	const char *slash;

	if (url.len > PIN_MAX_URL || !str_starts(url, scheme))
		return false;
	url = str_n(url.ptr + scheme.len, url.len - scheme.len);
	slash = url.len ? memchr(url.ptr, '/', url.len) : NULL;
	if (!slash)
		return false;
	authority = str_n(url.ptr, (size_t)(slash - url.ptr));
	query = str_n(slash, url.len - authority.len);
	path = str_split(&query, '?');
	if (!path_fits(p, path) || (query.ptr && (!p->query || !is_plain(query, "/-._~=&%:+,?"))))
		return false;
	for (size_t i = 0; i < p->host_count; i++)
		if (host_fits(p->hosts[i], authority))
			return true;
	return false;
}
