/* More lenient than the server's gate where people edit text (line ends), and as strict where it
 * would guess: what it reads is judged afterwards as if it had been received. */
#include "weir/cli/request_text.h"

#include <string.h>

#include "weir/model/recipe.h"

static struct str next_line(struct str *rest)
{
	struct str line = str_split(rest, '\n');

	if (line.len && line.ptr[line.len - 1] == '\r')
		line.len--;
	return line;
}

enum err request_text_header(struct request_text *r, struct str line)
{
	struct str value = line, name = str_split(&value, ':');

	if (!value.ptr || !str_is_token(name))
		return ERR_INVAL;
	if (r->header_count == REQUEST_TEXT_HEADERS)
		return ERR_TOOBIG;
	r->headers[r->header_count++] = (struct http_header){name, str_trim(value)};
	return ERR_OK;
}

static enum err bad_line(struct err_info *info, size_t n, const char *why)
{
	return err_set(info, ERR_INVAL, "line %zu: %s", n, why);
}

/* METHOD SP TARGET [SP HTTP/x] */
static bool take_request_line(struct request_text *r, struct str line)
{
	struct str rest = line, method = str_split(&rest, ' '), target;

	if (!rest.ptr || !str_is_token(method))
		return false;
	target = str_split(&rest, ' ');
	if (target.len == 0 || (rest.ptr && !str_starts(rest, STR("HTTP/"))))
		return false;
	r->method = method;
	r->target = target;
	return true;
}

static const struct http_header *find(const struct request_text *r, struct str name)
{
	for (size_t i = 0; i < r->header_count; i++)
		if (str_ieq(r->headers[i].name, name))
			return &r->headers[i];
	return NULL;
}

static enum err take_body(struct request_text *r, struct str rest, struct err_info *info)
{
	const struct http_header *length = find(r, STR("content-length")),
	                         *coding = find(r, STR("transfer-encoding"));
	int64_t n;

	if (coding)
		return err_set(info, ERR_INVAL,
		               "the body has a transfer coding (%.*s): give it by itself, with "
		               "--body FILE",
		               (int)coding->value.len, coding->value.ptr);
	r->body = rest.ptr ? rest : STR("");
	r->has_body = true;
	if (!length)
		return ERR_OK;
	if (str_to_int(length->value, 0, INT64_MAX, &n) != ERR_OK)
		return err_set(info, ERR_INVAL, "Content-Length is no number");
	r->cut = (uint64_t)n > r->body.len;
	if (!r->cut)
		r->body.len = (size_t)n;
	return ERR_OK;
}

/* "> POST /path HTTP/1.1", "> Name: value", ">", with other lines between. */
static bool is_curl_log(struct str text)
{
	while (text.ptr) {
		struct str line = next_line(&text);

		if (str_starts(line, STR("> ")))
			return true;
		if (!str_starts(line, STR("* ")) && !str_starts(line, STR("  ")) && line.len)
			return false;
	}
	return false;
}

static enum err parse_curl_log(struct str rest, struct request_text *r, struct err_info *info)
{
	size_t n = 0;

	while (rest.ptr) {
		struct str line = next_line(&rest);

		n++;
		if (line.len == 0 || line.ptr[0] != '>')
			continue;
		line = str_trim(str_n(line.ptr + 1, line.len - 1));
		if (line.len == 0)
			break;
		if (!r->method.ptr) {
			if (!take_request_line(r, line))
				return bad_line(info, n, "no request line");
		} else if (request_text_header(r, line) != ERR_OK) {
			return bad_line(info, n, "no header line");
		}
	}
	return ERR_OK;
}

enum err request_text_parse(struct str text, struct request_text *ret, struct err_info *info)
{
	struct request_text r = {.header_count = 0};
	struct str rest = text;
	enum err e;

	if (is_curl_log(text)) {
		e = parse_curl_log(text, &r, info);
		if (e == ERR_OK)
			*ret = r;
		return e;
	}
	for (size_t n = 1; rest.ptr; n++) {
		struct str line = next_line(&rest);

		if (line.len == 0)
			break;
		if (n == 1 && take_request_line(&r, line))
			continue;
		e = request_text_header(&r, line);
		if (e != ERR_OK)
			return bad_line(info, n,
			                e == ERR_TOOBIG ? "too many headers"
			                : n == 1        ? "neither a request line nor a header line"
			                         : "no header line; an empty line ends the head");
	}
	if (r.header_count == 0 && !r.method.ptr)
		return err_set(info, ERR_INVAL, "there is no request in it");
	e = take_body(&r, rest, info);
	if (e == ERR_OK)
		*ret = r;
	return e;
}

void request_text_request(const struct request_text *r, usec_t now, struct recipe_request *ret)
{
	struct str query;

	*ret = (struct recipe_request){.method = r->method.ptr ? r->method : STR("POST"),
	                               .target = r->target.ptr ? r->target : STR("/"),
	                               .body = r->body.ptr ? r->body : STR(""),
	                               .headers = r->headers,
	                               .header_count = r->header_count,
	                               .now = now};
	query = ret->target;
	(void)str_split(&query, '?');
	ret->query = query;
}

enum http_method request_text_method(struct str name)
{
	for (enum http_method m = HTTP_GET; m < HTTP_METHOD_OTHER; m++)
		if (str_eq(name, str_of(http_method_name(m))))
			return m;
	return HTTP_METHOD_OTHER;
}
