/* The one route table, with a mask per listener. */
#ifndef WEIR_APP_ROUTES_H
#define WEIR_APP_ROUTES_H

#include <stdbool.h>

#include "weir/base/err.h"
#include "weir/io/http_server.h"

struct admin;
struct health;
struct loop;
struct metric_registry;
struct receiver;
struct routes;

enum listener { LISTENER_INGEST = 1, LISTENER_HEALTH = 2, LISTENER_ADMIN = 4 };

struct routes_options {
	struct metric_registry *metrics; /* borrowed, like all here */
	struct health *health;
	struct receiver *receiver; /* NULL: this process does not take webhooks */
	struct admin *admin;       /* serves the admin listener; NULL: there is none */
	bool webhooks_only;        /* the ingest listener answers nothing else */
	bool health_serves_all;    /* the health listener has the service's pages too */
};

enum err routes_new(const struct routes_options *o, struct routes **ret) MUST_CHECK;
void routes_free(struct routes *r);

/* What a listener's http_server calls; `arg` is a struct routes_at. */
struct routes_at {
	struct routes *routes;
	enum listener listener;
};
void routes_on_head(void *arg, struct http_ticket *t);
void routes_on_request(void *arg, struct http_ticket *t);
unsigned routes_retry_after(void *arg); /* for requests that memory has no room for */
void routes_on_refusal(void *arg, const struct http_refused *r);

#endif
