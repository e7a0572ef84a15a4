/* The format is made of what recipes have anyway; here is what is its own: three modes, and the
 * encoding of headers. */
#include "weir/model/cloudevents.h"

#include "weir/base/digest.h"
#include "weir/model/recipe.h"

/* Other event formats (Avro, XML, Protobuf) are structured too: their attributes stand in the body,
 * where nothing here can read them. */
enum cloudevents_mode cloudevents_mode(struct str content_type)
{
	struct str type = str_trim(str_split(&content_type, ';'));
	struct str name = str_split(&type, '+');

	if (str_ieq(name, STR("application/cloudevents-batch")))
		return CLOUDEVENTS_BATCH;
	return str_ieq(name, STR("application/cloudevents")) ? CLOUDEVENTS_STRUCTURED
	                                                     : CLOUDEVENTS_BINARY;
}

/* The sources of headers stand first. */
static size_t headers_of(const struct recipe_source *list, size_t n)
{
	size_t i = 0;

	while (i < n && list[i].kind == RECIPE_SRC_HEADER)
		i++;
	return i;
}

void cloudevents_sources(const struct recipe *r, enum cloudevents_mode m,
                         struct identity_sources *ret)
{
	size_t ids = headers_of(r->ids, r->id_count), types = headers_of(r->types, r->type_count);

	if (m == CLOUDEVENTS_BINARY)
		*ret = (struct identity_sources){r->ids, r->types, ids, types};
	else
		*ret = (struct identity_sources){r->ids + ids, r->types + types, r->id_count - ids,
		                                 r->type_count - types};
}

void cloudevents_mark(struct recipe *r)
{
	r->format = RECIPE_CLOUDEVENTS;
	for (size_t i = 0; i < r->id_count; i++)
		r->ids[i].escaped = r->ids[i].kind == RECIPE_SRC_HEADER;
	for (size_t i = 0; i < r->type_count; i++)
		r->types[i].escaped = r->types[i].kind == RECIPE_SRC_HEADER;
}

/* A quoted string's inside, or all of it. */
static struct str unquoted(struct str s, bool *ret_quoted)
{
	*ret_quoted = s.len >= 2 && s.ptr[0] == '"' && s.ptr[s.len - 1] == '"';
	return *ret_quoted ? str_n(s.ptr + 1, s.len - 2) : s;
}

enum err cloudevents_attribute(struct str raw, struct buf *b, struct str *ret)
{
	bool quoted;
	struct str s = unquoted(raw, &quoted);
	size_t n;

	if (!s.len || (!memchr(s.ptr, '%', s.len) && !(quoted && memchr(s.ptr, '\\', s.len)))) {
		*ret = s;
		return ERR_OK;
	}
	buf_reset(b);
	for (size_t i = 0; i < s.len; i++) {
		uint8_t byte = (uint8_t)s.ptr[i];

		if (quoted && byte == '\\' && i + 1 < s.len)
			byte = (uint8_t)s.ptr[++i];
		else if (byte == '%' && s.len - i >= 3 &&
		         hex_decode(str_n(s.ptr + i + 1, 2), &byte, 1, &n) == ERR_OK)
			i += 2;
		if (buf_add_char(b, (char)byte) != ERR_OK)
			return ERR_NOMEM;
	}
	*ret = buf_str(b);
	return ERR_OK;
}
