/* One HTTP request a query. User and password go as headers, so that they stand in no URL that
 * anybody logs. Nothing but wait_end_of_query is asked for: it is no setting of the server's, so a
 * read-only user may have it, and every version knows it. */
#include "weir/io/clickhouse.h"

#include <stdio.h>
#include <string.h>

#include "http_url.h"
#include "weir/base/mem.h"
#include "weir/io/http_client.h"
#include "weir/io/net.h"
#include "weir/run/loop.h"

#define DEFAULT_QUERIES 4
#define DEFAULT_ANSWER  ((size_t)8 << 20)
#define MAX_WAITING     256
#define TEXT_MAX        256

struct clickhouse {
	struct http_client *http; /* owned, like all here */
	char *url;
	char *user_header, *key_header; /* NULL: none */
	size_t max_answer;
};

struct clickhouse_query {
	clickhouse_fn cb;
	void *arg;
};

/* ---- errors ---- */

static enum err err_of_code(int code, int status)
{
	switch (code) {
	case 16: /* NO_SUCH_COLUMN_IN_TABLE */
	case 47: /* UNKNOWN_IDENTIFIER */
	case 60: /* UNKNOWN_TABLE */
	case 81: /* UNKNOWN_DATABASE */
		return ERR_NOTABLE;
	case 62:  /* SYNTAX_ERROR */
	case 115: /* UNKNOWN_SETTING */
		return ERR_BUG;
	case 159: /* TIMEOUT_EXCEEDED */
	case 160: /* TOO_SLOW */
	case 209: /* SOCKET_TIMEOUT */
		return ERR_TIMEOUT;
	case 164: /* READONLY */
	case 192: /* UNKNOWN_USER */
	case 193: /* WRONG_PASSWORD */
	case 194: /* REQUIRED_PASSWORD */
	case 195: /* IP_ADDRESS_NOT_ALLOWED */
	case 291: /* DATABASE_ACCESS_DENIED */
	case 497: /* ACCESS_DENIED */
	case 516: /* AUTHENTICATION_FAILED */
		return ERR_DENIED;
	case 158: /* TOO_MANY_ROWS */
	case 201: /* QUOTA_EXPIRED */
	case 202: /* TOO_MANY_SIMULTANEOUS_QUERIES */
	case 241: /* MEMORY_LIMIT_EXCEEDED */
	case 307: /* TOO_MANY_BYTES */
		return ERR_FULL;
	case 0:
		return err_of_http_status(status);
	default:
		return ERR_UNAVAILABLE;
	}
}

/* The code may stand in a header (current versions), in the body, or at the end of the rows. */
static int code_of(const struct http_response *res)
{
	struct str header = http_response_header(res, STR("X-ClickHouse-Exception-Code"));
	int64_t code;

	if (header.ptr && str_to_int(header, 1, 1000000, &code) == ERR_OK)
		return (int)code;
	return res->status == 200 ? clickhouse_late_code(res->body) : clickhouse_code(res->body);
}

static void on_http_done(void *arg, enum err err, const struct http_response *res)
{
	struct clickhouse_query *q = arg;
	struct clickhouse_answer a = {.text = res->text};
	char text[TEXT_MAX] = "";

	if (err == ERR_OK) {
		struct str rest = res->body, line = str_split(&rest, '\n');

		a.code = code_of(res);
		err = a.code || res->status != 200 ? err_of_code(a.code, res->status) : ERR_OK;
		if (err != ERR_OK)
			snprintf(text, sizeof(text), "status %d: %.*s", res->status,
			         (int)(line.len < TEXT_MAX ? line.len : TEXT_MAX), line.ptr);
		a.text = text;
	}
	if (err == ERR_OK)
		a.rows = res->body;
	q->cb(q->arg, err, &a);
	mem_free(q);
}

enum err clickhouse_submit(struct clickhouse *c, struct str sql, usec_t timeout, clickhouse_fn cb,
                           void *arg)
{
	const char *headers[] = {c->user_header ? c->user_header : c->key_header,
	                         c->user_header ? c->key_header : NULL, NULL};
	struct http_request_spec spec = {.method = "POST",
	                                 .url = c->url,
	                                 .headers = headers,
	                                 .body = sql,
	                                 .timeout = timeout,
	                                 .max_answer = c->max_answer};
	struct clickhouse_query *q = mem_zalloc(sizeof(*q));
	enum err e;

	if (!q)
		return ERR_NOMEM;
	q->cb = cb;
	q->arg = arg;
	e = http_client_submit(c->http, &spec, on_http_done, q, NULL);
	if (e != ERR_OK)
		mem_free(q);
	return e;
}

/* ---- life ---- */

/* NULL when there is no value, or no memory. */
static char *header_of(const char *name, const char *value)
{
	struct buf b;

	if (!*value)
		return NULL;
	buf_init(&b, 8192);
	buf_addf(&b, "%s: %s", name, value);
	return buf_take(&b, &(size_t){0});
}

static void strings_free(struct clickhouse *c)
{
	if (c->key_header)
		mem_wipe_free(c->key_header, strlen(c->key_header));
	mem_free(c->user_header);
	mem_free(c->url);
}

static enum err set_url(struct clickhouse *c, const char *text, struct err_info *info)
{
	char *url = NULL, *user = NULL, *password = NULL;
	enum err e = http_url_take_userinfo(text, &url, &user, &password, info);
	struct http_url parts;
	struct buf b;

	if (e != ERR_OK)
		return e;
	buf_init(&b, 8192);
	buf_addf(&b, "%s%cwait_end_of_query=1", url, strchr(url, '?') ? '&' : '?');
	c->url = buf_take(&b, &(size_t){0});
	c->user_header = header_of("X-ClickHouse-User", user);
	c->key_header = header_of("X-ClickHouse-Key", password);
	if (http_url_parse(url, &parts, info) != ERR_OK)
		e = ERR_INVAL;
	else if (!c->url || (*user && !c->user_header) || (*password && !c->key_header))
		e = err_set(info, ERR_NOMEM, "out of memory");
	mem_free(url);
	mem_free(user);
	mem_wipe_free(password, strlen(password));
	return e;
}

enum err clickhouse_check(const struct clickhouse_options *o, struct err_info *info)
{
	struct clickhouse probe = {0};
	struct net_tls *tls;
	enum err e = set_url(&probe, o->url, info);

	strings_free(&probe);
	if (e == ERR_OK && o->ca_file && *o->ca_file) {
		e = net_tls_new(o->ca_file, &tls, info);
		if (e == ERR_OK)
			net_tls_free(tls);
	}
	return e;
}

enum err clickhouse_new(struct loop *l, const struct clickhouse_options *o, struct clickhouse **ret,
                        struct err_info *info)
{
	struct http_client_options ho = {.resolver = o->resolver,
	                                 .max_active =
	                                     o->max_queries ? o->max_queries : DEFAULT_QUERIES,
	                                 .max_waiting = MAX_WAITING,
	                                 .ca_file = o->ca_file};
	struct clickhouse *c = mem_zalloc(sizeof(*c));
	enum err e;

	if (!c)
		return err_set(info, ERR_NOMEM, "out of memory");
	c->max_answer = o->max_answer ? o->max_answer : DEFAULT_ANSWER;
	e = set_url(c, o->url, info);
	if (e == ERR_OK) {
		e = http_client_new(l, &ho, &c->http);
		if (e != ERR_OK)
			err_set(info, e, "%s", err_meaning(e));
	}
	if (e != ERR_OK) {
		clickhouse_free(c);
		return e;
	}
	*ret = c;
	return ERR_OK;
}

void clickhouse_free(struct clickhouse *c)
{
	if (!c)
		return;
	http_client_free(c->http);
	strings_free(c);
	mem_free(c);
}
