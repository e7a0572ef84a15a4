/* The HTTP listeners of the process: ingest, health and, where a token is set, admin. */
#ifndef WEIR_APP_LISTENERS_H
#define WEIR_APP_LISTENERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/app/routes.h"
#include "weir/base/err.h"

struct adapter_metrics;
struct conf;
struct health;
struct listeners;
struct loop;
struct metric_registry;
struct receiver;
struct tool_store;
struct tool_table;

struct listeners_options {
	struct loop *loop; /* borrowed, like all here */
	const struct conf *conf;
	struct metric_registry *metrics;
	struct adapter_metrics *adapters;
	struct health *health;
	struct receiver *receiver; /* NULL: there is no ingest listener */
	struct tool_store *store;
	struct tool_table *table; /* NULL: no database */
	size_t max_connections;
};

/* `info` names the setting of an address that cannot be had. */
enum err listeners_new(const struct listeners_options *o, struct listeners **ret,
                       struct err_info *info) MUST_CHECK;
/* Ingest and admin take no more connections; health does until the end. */
void listeners_drain(struct listeners *l);
bool listeners_idle(const struct listeners *l); /* of those that are drained */
/* Closes all of them. Requests that wait for an answer are let go of by who holds them. */
void listeners_close(struct listeners *l); /* NULL is fine */
void listeners_free(struct listeners *l);  /* NULL is fine */

uint16_t listeners_port(const struct listeners *l, enum listener which); /* 0: there is none */
size_t listeners_active_requests(const struct listeners *l);             /* of ingest */

#endif
