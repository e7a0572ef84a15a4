/* What http_client.c (requests and their order) and http_transfer.c (libcurl) share. */
#ifndef WEIR_IO_HTTP_CLIENT_PRIV_H
#define WEIR_IO_HTTP_CLIENT_PRIV_H

#include <curl/curl.h>

#include "http_url.h"
#include "weir/base/buf.h"
#include "weir/base/list.h"
#include "weir/base/map.h"
#include "weir/io/http_client.h"
#include "weir/run/loop.h"

#define REQUEST_STATES(X)               \
	X(WAITING, "waiting")           \
	X(RESOLVING, "resolving")       \
	X(TRANSFERRING, "transferring") \
	X(DONE, "done")
#define REQUEST_ENUM(code, name) REQUEST_##code,
enum request_state { REQUEST_STATES(REQUEST_ENUM) };
#undef REQUEST_ENUM

struct resolver_query;

struct http_request {
	struct list_node node; /* in one of the client's lists, by state */
	struct http_client *client;
	enum request_state state;
	http_response_fn cb;
	void *arg;
	char *url, *method;           /* owned */
	struct curl_slist *headers;   /* owned */
	struct curl_slist *addresses; /* owned; for CURLOPT_RESOLVE, NULL: the host is literal */
	struct str body;
	struct http_url parts;
	struct loop_timer deadline;
	struct resolver_query *query; /* while RESOLVING */
	CURL *easy;                   /* owned while TRANSFERRING */
	struct buf answer, head;
	bool refused; /* may_connect() said no */
	bool starved; /* no memory within a callback */
	enum err err;
	int status;
	char text[CURL_ERROR_SIZE];
};

struct http_client {
	struct loop *loop; /* borrowed */
	struct http_client_options o;
	char *ca_file; /* owned; NULL: the system's */
	CURLM *multi;  /* owned */
	struct loop_timer timer;
	struct list waiting, active, done; /* http_request.node */
	struct loop_task done_task;
	struct loop_task starved_task;
	CURL **idle; /* owned array of max_active owned handles, to be used again */
	size_t idle_count;
	struct map *names; /* owned; HOST:PORT to what CURLOPT_RESOLVE takes, see http_client.c */
};

/* ---- http_client.c ---- */

void request_set_state(struct http_request *r, enum request_state to);
/* Over: takes it from libcurl and has its completion called from the loop. `text` may be NULL. */
void request_finish(struct http_request *r, enum err e, const char *text);

/* ---- http_transfer.c ---- */

enum err transfer_init(struct http_client *c) MUST_CHECK;
void transfer_done(struct http_client *c);
enum err transfer_start(struct http_request *r) MUST_CHECK;
bool transfer_sent(const struct http_request *r); /* at least partly */
void transfer_end(struct http_request *r);        /* a no-op when none is under way */

#endif
