/* libcurl's parser, so that every command reads a URL in the same way. */
#include "http_url.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "weir/base/mem.h"
#include "weir/base/str.h"

struct parts {
	char *scheme, *host, *port, *path, *query, *user; /* owned (curl_free); NULL: absent */
};

static char *part(CURLU *u, CURLUPart which, unsigned flags)
{
	char *s = NULL;

	return curl_url_get(u, which, &s, flags) == CURLUE_OK ? s : NULL;
}

static bool fits(int n, size_t space)
{
	return n >= 0 && (size_t)n < space;
}

static bool assemble(const struct parts *p, struct http_url *ret)
{
	bool v6 = p->host && p->host[0] == '[';
	size_t len = p->host ? strlen(p->host) : 0;
	int64_t port;
	int n;

	if (!p->scheme || len < (v6 ? 3u : 1u) || !p->port || !p->path)
		return false;
	ret->tls = strcmp(p->scheme, "https") == 0;
	ret->has_userinfo = p->user != NULL;
	if (!ret->tls && strcmp(p->scheme, "http") != 0)
		return false;
	if (str_to_int(str_of(p->port), 1, 65535, &port) != ERR_OK)
		return false;
	ret->port = (uint16_t)port;
	n = snprintf(ret->host, sizeof(ret->host), "%.*s", (int)len - 2 * v6, p->host + v6);
	if (!fits(n, sizeof(ret->host)))
		return false;
	n = snprintf(ret->authority, sizeof(ret->authority), "%s:%u", p->host, ret->port);
	if (!fits(n, sizeof(ret->authority)))
		return false;
	n = snprintf(ret->target, sizeof(ret->target), "%s%s%s", p->path, p->query ? "?" : "",
	             p->query ? p->query : "");
	return fits(n, sizeof(ret->target));
}

enum err http_url_parse(const char *text, struct http_url *ret, struct err_info *info)
{
	CURLU *u = curl_url();
	struct parts p = {0};
	struct http_url url;
	bool ok = false;

	if (u && curl_url_set(u, CURLUPART_URL, text, 0) == CURLUE_OK) {
		p.scheme = part(u, CURLUPART_SCHEME, 0);
		p.host = part(u, CURLUPART_HOST, 0);
		p.port = part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
		p.path = part(u, CURLUPART_PATH, 0);
		p.query = part(u, CURLUPART_QUERY, 0);
		p.user = part(u, CURLUPART_USER, 0);
		ok = assemble(&p, &url);
	}
	curl_free(p.scheme);
	curl_free(p.host);
	curl_free(p.port);
	curl_free(p.path);
	curl_free(p.query);
	curl_free(p.user);
	curl_url_cleanup(u);
	if (!ok) /* it is not quoted: a password may be in it */
		return err_set(info, ERR_INVAL, "not a URL of http or https");
	*ret = url;
	return ERR_OK;
}

/* As a string of ours; absent is empty. NULL: no memory, or it cannot be decoded (libcurl allows no
 * control characters). */
static char *copy_part(CURLU *u, CURLUPart which, unsigned flags)
{
	char *from = NULL, *s = NULL;
	CURLUcode code = curl_url_get(u, which, &from, flags);

	if (code == CURLUE_OK || code == CURLUE_NO_USER || code == CURLUE_NO_PASSWORD)
		s = mem_strdup(from ? from : "");
	if (from)
		explicit_bzero(from, strlen(from)); /* it may be a password */
	curl_free(from);
	return s;
}

enum err http_url_take_userinfo(const char *text, char **ret_url, char **ret_user,
                                char **ret_password, struct err_info *info)
{
	CURLU *u = curl_url();
	char *url = NULL, *user = NULL, *password = NULL;

	if (u && curl_url_set(u, CURLUPART_URL, text, 0) == CURLUE_OK) {
		user = copy_part(u, CURLUPART_USER, CURLU_URLDECODE);
		password = copy_part(u, CURLUPART_PASSWORD, CURLU_URLDECODE);
		if (curl_url_set(u, CURLUPART_USER, NULL, 0) == CURLUE_OK &&
		    curl_url_set(u, CURLUPART_PASSWORD, NULL, 0) == CURLUE_OK &&
		    curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0) == CURLUE_OK)
			url = copy_part(u, CURLUPART_URL, 0);
	}
	curl_url_cleanup(u);
	if (!url || !user || !password) {
		mem_free(url);
		mem_free(user);
		mem_free(password);
		return err_set(info, ERR_INVAL, "not a URL of http or https");
	}
	*ret_url = url;
	*ret_user = user;
	*ret_password = password;
	return ERR_OK;
}
