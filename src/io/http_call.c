/* libcurl's easy interface: commands have nothing else to do while they wait. */
#include "weir/io/http_call.h"

#include <curl/curl.h>

static size_t on_curl_body(char *p, size_t size, size_t n, void *arg)
{
	/* What does not fit is cut, not an error: the status is what callers look at. */
	(void)buf_add(arg, p, size * n);
	return size * n;
}

static struct curl_slist *header_list(const struct http_call *c)
{
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");

	for (const char *const *h = c->headers; list && h && *h; h++) {
		struct curl_slist *more = curl_slist_append(list, *h);

		if (!more) {
			curl_slist_free_all(list);
			return NULL;
		}
		list = more;
	}
	return list;
}

static enum err err_of_curl(CURLcode code)
{
	if (code == CURLE_OPERATION_TIMEDOUT)
		return ERR_TIMEOUT;
	if (code == CURLE_OUT_OF_MEMORY)
		return ERR_NOMEM;
	if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL)
		return ERR_INVAL;
	return ERR_UNAVAILABLE;
}

static void set_options(CURL *curl, const struct http_call *c, struct curl_slist *headers,
                        struct buf *answer)
{
	curl_easy_setopt(curl, CURLOPT_URL, c->url);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(c->timeout / USEC_PER_MSEC));
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, c->method);
	if (c->body.ptr) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body.len);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, c->body.ptr);
	}
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_curl_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
}

enum err http_call_run(const struct http_call *c, int *ret_status, struct buf *answer,
                       struct err_info *info)
{
	CURL *curl = curl_easy_init();
	struct curl_slist *headers = header_list(c);
	CURLcode code = CURLE_OUT_OF_MEMORY;
	long status = 0;

	if (curl && headers) {
		set_options(curl, c, headers, answer);
		code = curl_easy_perform(curl);
	}
	if (code == CURLE_OK)
		code = curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_slist_free_all(headers);
	curl_easy_cleanup(curl);
	if (code != CURLE_OK)
		return err_set(info, err_of_curl(code), "%s: %s", c->url, curl_easy_strerror(code));
	*ret_status = (int)status;
	return ERR_OK;
}
