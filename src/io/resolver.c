/* evdns answers some questions inside the call that asks them; every answer is therefore kept and
 * told in the next turn. A query that was cancelled lives on until evdns has let go of it. */
#include "weir/io/resolver.h"

#include <arpa/inet.h>
#include <event2/dns.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "weir/base/list.h"
#include "weir/base/mem.h"
#include "weir/run/loop.h"

#define MAX_ADDRS 16
#define DEADLINE  (10 * USEC_PER_SEC)

struct resolver {
	struct loop *loop;      /* borrowed */
	struct evdns_base *dns; /* owned; made at the first name that needs it */
	struct list queries;    /* all that live */
};

struct resolver_query {
	struct list_node node;
	struct resolver *resolver; /* borrowed */
	resolver_fn fn;            /* NULL: cancelled */
	void *arg;
	struct evdns_getaddrinfo_request *request; /* NULL: evdns has answered or was never asked */
	struct loop_task task;
	struct loop_timer deadline;
	enum err err;
	struct resolver_addr addrs[MAX_ADDRS];
	size_t n;
	bool submitting; /* evdns may answer inside the call */
};

static void query_free(struct resolver_query *q)
{
	loop_cancel(q->resolver->loop, &q->task);
	loop_timer_done(&q->deadline);
	list_remove(&q->resolver->queries, &q->node);
	mem_free(q);
}

static void on_answer_due(void *arg)
{
	struct resolver_query *q = arg;
	resolver_fn fn = q->fn;

	q->fn = NULL;
	if (fn)
		fn(q->arg, q->err, q->addrs, q->err == ERR_OK ? q->n : 0);
	if (!q->request)
		query_free(q);
}

static void finish(struct resolver_query *q, enum err e)
{
	q->err = e;
	loop_timer_stop(&q->deadline);
	loop_defer(q->resolver->loop, &q->task);
}

static void on_deadline(void *arg)
{
	finish(arg, ERR_TIMEOUT);
}

static void on_evdns_answer(int result, struct evutil_addrinfo *res, void *arg)
{
	struct resolver_query *q = arg;

	q->request = NULL;
	for (struct evutil_addrinfo *a = res; a && q->n < MAX_ADDRS && q->fn; a = a->ai_next) {
		if (a->ai_addrlen > sizeof(q->addrs[0].sa))
			continue;
		memcpy(&q->addrs[q->n].sa, a->ai_addr, a->ai_addrlen);
		q->addrs[q->n++].len = (socklen_t)a->ai_addrlen;
	}
	if (res)
		evutil_freeaddrinfo(res);
	if (!q->fn && !q->submitting && !list_linked(&q->task.node))
		query_free(q);
	else if (q->fn && !list_linked(&q->task.node))
		finish(q, result == 0 && q->n           ? ERR_OK
		          : result == EVUTIL_EAI_MEMORY ? ERR_NOMEM
		                                        : ERR_NOTFOUND);
}

/* A literal address needs no server. */
static bool literal(const char *host, uint16_t port, struct resolver_addr *ret)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&ret->sa;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&ret->sa;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		ret->len = sizeof(*v4);
		return true;
	}
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		ret->len = sizeof(*v6);
		return true;
	}
	return false;
}

static enum err ask(struct resolver_query *q, const char *host, uint16_t port)
{
	struct resolver *r = q->resolver;
	struct evutil_addrinfo hints = {
	    .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
	char service[8];

	if (!r->dns)
		r->dns = evdns_base_new(loop_base(r->loop), EVDNS_BASE_INITIALIZE_NAMESERVERS |
		                                                EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (!r->dns)
		return ERR_UNAVAILABLE;
	snprintf(service, sizeof(service), "%u", port);
	q->submitting = true;
	q->request = evdns_getaddrinfo(r->dns, host, service, &hints, on_evdns_answer, q);
	q->submitting = false;
	return ERR_OK;
}

enum err resolver_new(struct loop *l, struct resolver **ret)
{
	struct resolver *r = mem_zalloc(sizeof(*r));

	if (!r)
		return ERR_NOMEM;
	r->loop = l;
	list_init(&r->queries);
	*ret = r;
	return ERR_OK;
}

void resolver_free(struct resolver *r)
{
	struct list_node *n;

	if (!r)
		return;
	list_for_each (&r->queries, q)
		container_of(q, struct resolver_query, node)->fn = NULL;
	if (r->dns)
		evdns_base_free(r->dns, 0);
	while ((n = list_front(&r->queries)))
		query_free(container_of(n, struct resolver_query, node));
	mem_free(r);
}

enum err resolver_submit(struct resolver *r, const char *host, uint16_t port, resolver_fn cb,
                         void *arg, struct resolver_query **ret)
{
	struct resolver_query *q = mem_zalloc(sizeof(*q));
	enum err e;

	if (!q)
		return ERR_NOMEM;
	*q = (struct resolver_query){.resolver = r, .fn = cb, .arg = arg};
	loop_task_init(&q->task, on_answer_due, q);
	list_push_back(&r->queries, &q->node);
	e = loop_timer_init(&q->deadline, r->loop, on_deadline, q);
	if (e != ERR_OK) {
		query_free(q);
		return e;
	}
	if (literal(host, port, &q->addrs[0])) {
		q->n = 1;
		finish(q, ERR_OK);
	} else if ((e = ask(q, host, port)) != ERR_OK) {
		query_free(q);
		return e;
	} else if (q->request) {
		loop_timer_set(&q->deadline, DEADLINE);
	}
	*ret = q;
	return ERR_OK;
}

void resolver_cancel(struct resolver_query *q)
{
	struct evdns_getaddrinfo_request *request = q->request;

	q->fn = NULL;
	loop_timer_stop(&q->deadline);
	loop_cancel(q->resolver->loop, &q->task);
	if (request)
		evdns_getaddrinfo_cancel(request); /* its callback frees the query */
	else
		query_free(q);
}
