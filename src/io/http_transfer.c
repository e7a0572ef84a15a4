/* libcurl's multi_socket interface in our loop: libcurl says which sockets it waits for and when it
 * wants to be called next, and is told what happened. Its callbacks only note; a finished transfer
 * becomes a completion that the loop calls later.
 *
 * Easy handles are used again (making one costs as much as a request), each after a reset.
 *
 * libcurl's memory is malloc's and not counted by base/mem: libcurl 7.88 divides by zero after an
 * allocation that failed at the wrong place (the socket's table of transfers), so it must not meet
 * a bound of ours. It is bounded by max_active, about 40 KiB each. */
#include <event2/event.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "http_client_priv.h"
#include "weir/base/mem.h"

/* Connections are given up after so long, so that a host's new address is noticed. */
#define MAX_CONNECTION_AGE 600L /* seconds */
#define MAX_IDLE_AGE       60L

/* ---- sockets ---- */

static void collect(struct http_client *c);

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
	struct http_client *c = arg;
	int bits =
	    (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);
	int running;

	(void)curl_multi_socket_action(c->multi, fd, bits, &running);
	collect(c);
}

static void forget_socket(struct event *ev)
{
	if (ev)
		event_free(ev);
}

/* libcurl is dead for good after an error from here; so the requests that wait for this socket are
 * failed instead, as soon as it has returned. */
static void starve(struct http_client *c, CURL *easy)
{
	struct http_request *r = NULL;

	if (curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&r) == CURLE_OK && r)
		r->starved = true;
	loop_defer(c->loop, &c->starved_task);
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct http_client *c = arg;
	struct event *ev = socket_arg;
	short events = EV_PERSIST;

	forget_socket(ev);
	ev = NULL;
	if (what != CURL_POLL_REMOVE) {
		events |= what & CURL_POLL_IN ? EV_READ : 0;
		events |= what & CURL_POLL_OUT ? EV_WRITE : 0;
		ev = event_new(loop_base(c->loop), fd, events, on_socket, c);
		if (!ev || event_add(ev, NULL) != 0) {
			forget_socket(ev);
			ev = NULL;
			starve(c, easy);
		}
	}
	(void)curl_multi_assign(c->multi, fd, ev);
	return 0;
}

static int on_curl_timer(CURLM *multi, long msec, void *arg)
{
	struct http_client *c = arg;

	(void)multi;
	if (msec < 0)
		loop_timer_stop(&c->timer);
	else
		loop_timer_set(&c->timer, msec * USEC_PER_MSEC);
	return 0;
}

static void on_timer(void *arg)
{
	struct http_client *c = arg;
	int running;

	(void)curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	collect(c);
}

static curl_socket_t on_curl_open(void *arg, curlsocktype purpose, struct curl_sockaddr *sa)
{
	struct http_request *r = arg;
	const struct http_client_options *o = &r->client->o;

	(void)purpose;
	if (o->may_connect && !o->may_connect(o->arg, &sa->addr, (socklen_t)sa->addrlen)) {
		r->refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(sa->family, sa->socktype | SOCK_CLOEXEC, sa->protocol);
}

/* ---- answers ---- */

static size_t on_curl_body(char *p, size_t size, size_t n, void *arg)
{
	struct http_request *r = arg;
	size_t fits = r->answer.cap - r->answer.len;
	enum err e = buf_add(&r->answer, p, n < fits ? n : fits);

	(void)size; /* is always 1 */
	if (e != ERR_OK)
		r->starved = true;
	return e == ERR_OK && n <= fits ? n : 0;
}

/* One line at a time. A new status line begins a new head: before it were interim answers. */
static size_t on_curl_head(char *p, size_t size, size_t n, void *arg)
{
	struct http_request *r = arg;
	struct str line = str_n(p, n);

	(void)size;
	if (str_starts(line, STR("HTTP/"))) {
		buf_reset(&r->head);
		return n;
	}
	if (n <= 2 || buf_add(&r->head, p, n) == ERR_OK)
		return n;
	r->starved = r->head.err == ERR_NOMEM;
	return 0;
}

bool transfer_sent(const struct http_request *r)
{
	curl_off_t usec = 0;

	return r->easy &&
	       curl_easy_getinfo(r->easy, CURLINFO_PRETRANSFER_TIME_T, &usec) == CURLE_OK &&
	       usec > 0;
}

static enum err err_of_curl(const struct http_request *r, CURLcode code)
{
	if (r->starved)
		return ERR_NOMEM;
	if (r->refused && !transfer_sent(r))
		return ERR_DENIED;
	switch ((int)code) {
	case CURLE_OK:
		return ERR_OK;
	case CURLE_OUT_OF_MEMORY:
		return ERR_NOMEM;
	case CURLE_URL_MALFORMAT:
	case CURLE_SSL_CACERT_BADFILE:
		return ERR_INVAL;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
		return ERR_DENIED;
	case CURLE_WRITE_ERROR:
		return ERR_TOOBIG;
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9 */
	case CURLE_BAD_CONTENT_ENCODING:
		return ERR_PROTO;
	default:
		return transfer_sent(r) ? ERR_CLOSED : ERR_UNAVAILABLE;
	}
}

static void finish(struct http_request *r, CURLcode code)
{
	enum err e = err_of_curl(r, code);
	long status = 0;

	(void)curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
	r->status = (int)status;
	if (e == ERR_TOOBIG)
		request_finish(r, e, "the answer is too large");
	else if (e == ERR_DENIED && r->refused)
		request_finish(r, e, "its address may not be connected to");
	else
		request_finish(r, e, r->text[0] ? NULL : curl_easy_strerror(code));
}

static void collect(struct http_client *c)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(c->multi, &left))) {
		struct http_request *r = NULL;

		if (m->msg == CURLMSG_DONE &&
		    curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r) == CURLE_OK &&
		    r)
			finish(r, m->data.result);
	}
}

/* ---- one transfer ---- */

static CURL *take_easy(struct http_client *c)
{
	return c->idle_count > 0 ? c->idle[--c->idle_count] : curl_easy_init();
}

static void give_easy(struct http_client *c, CURL *easy)
{
	curl_easy_reset(easy);
	if (c->idle_count < c->o.max_active)
		c->idle[c->idle_count++] = easy;
	else
		curl_easy_cleanup(easy);
}

#define SET(option, value) ok = ok && curl_easy_setopt(e, option, value) == CURLE_OK

static bool set_body(CURL *e, const struct http_request *r)
{
	bool ok = true;

	SET(CURLOPT_CUSTOMREQUEST, r->method);
	if (strcmp(r->method, "HEAD") == 0) {
		SET(CURLOPT_NOBODY, 1L);
	} else if (r->body.ptr || strcmp(r->method, "GET") != 0) {
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
		SET(CURLOPT_POSTFIELDS, r->body.ptr ? r->body.ptr : "");
	}
	return ok;
}

static bool set_options(CURL *e, struct http_request *r)
{
	const struct http_client *c = r->client;
	bool ok = true;

	SET(CURLOPT_PRIVATE, r);
	SET(CURLOPT_ERRORBUFFER, r->text);
	SET(CURLOPT_URL, r->url);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_USERAGENT, "weir/" WEIR_VERSION);
	SET(CURLOPT_HTTPHEADER, r->headers);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)(c->o.connect_timeout / USEC_PER_MSEC));
	SET(CURLOPT_MAXLIFETIME_CONN, MAX_CONNECTION_AGE);
	SET(CURLOPT_MAXAGE_CONN, MAX_IDLE_AGE);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_curl_open);
	SET(CURLOPT_OPENSOCKETDATA, r);
	SET(CURLOPT_WRITEFUNCTION, on_curl_body);
	SET(CURLOPT_WRITEDATA, r);
	SET(CURLOPT_HEADERFUNCTION, on_curl_head);
	SET(CURLOPT_HEADERDATA, r);
	SET(CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
	if (c->ca_file)
		SET(CURLOPT_CAINFO, c->ca_file);
	if (r->addresses)
		SET(CURLOPT_RESOLVE, r->addresses);
	return ok && set_body(e, r);
}

enum err transfer_start(struct http_request *r)
{
	struct http_client *c = r->client;
	CURL *easy = take_easy(c);

	if (!easy)
		return ERR_NOMEM;
	if (!set_options(easy, r) || curl_multi_add_handle(c->multi, easy) != CURLM_OK) {
		give_easy(c, easy);
		return ERR_NOMEM;
	}
	r->easy = easy;
	return ERR_OK;
}

void transfer_end(struct http_request *r)
{
	if (!r->easy)
		return;
	(void)curl_multi_remove_handle(r->client->multi, r->easy);
	give_easy(r->client, r->easy);
	r->easy = NULL;
}

/* ---- life ---- */

enum err transfer_init(struct http_client *c)
{
	enum err e;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return ERR_NOMEM;
	e = loop_timer_init(&c->timer, c->loop, on_timer, c);
	if (e != ERR_OK)
		return e;
	c->idle = mem_array(c->o.max_active, sizeof(*c->idle));
	c->multi = curl_multi_init();
	if (!c->idle || !c->multi)
		return ERR_NOMEM;
	(void)curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
	(void)curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
	(void)curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
	(void)curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
	(void)curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)c->o.max_active);
	(void)curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	return ERR_OK;
}

void transfer_done(struct http_client *c)
{
	while (c->idle_count > 0)
		curl_easy_cleanup(c->idle[--c->idle_count]);
	curl_multi_cleanup(c->multi);
	mem_free(c->idle);
	loop_timer_done(&c->timer);
}
