/* Literal addresses and the hosts file are answered here, the rest by evdns. The hosts file is read
 * anew for each look-up, because it changes under long-lived processes in containers; so is
 * resolv.conf when its time stamp changed: what was made from the old one retires, and goes when it
 * owes no more answers.
 *
 * evdns reports late even what was cancelled, so nothing is ever cancelled there: a query whose
 * owner left, or whose deadline passed, stays as an orphan until evdns gave its answers or the
 * resolver is freed. */
#include "weir/io/resolver.h"

#include <arpa/inet.h>
#include <event2/dns.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/stat.h>
#include <unistd.h>

#include "weir/base/buf.h"
#include "weir/base/list.h"
#include "weir/base/mem.h"
#include "weir/base/str.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"

#define MAX_ADDRS       16
#define MAX_HOSTS_BYTES ((size_t)1 << 20)
#define DEADLINE        (10 * USEC_PER_SEC)
/* How long the answer for one address family waits for the other one's. */
#define SKEW (500 * USEC_PER_MSEC)

/* The name servers of one resolv.conf. */
struct dns {
	struct list_node node;
	struct evdns_base *base; /* owned */
	struct timespec conf;    /* its time stamp; zero: there was none */
	size_t open;             /* answers that evdns owes us */
};

struct resolver {
	struct loop *loop; /* borrowed */
	const char *hosts_path;
	const char *conf_path;
	struct dns *dns;     /* owned; NULL until a name needs it */
	struct list retired; /* dns.node; owned; made from former files */
	struct list queries; /* resolver_query.node; owned */
};

struct resolver_query {
	struct list_node node;
	struct resolver *resolver;
	struct dns *dns; /* who is asked, while answers are owed */
	resolver_fn cb;  /* NULL: an orphan, or done */
	void *arg;
	uint16_t port;
	struct loop_task done;
	struct loop_timer timer;
	unsigned open; /* answers that evdns owes it */
	enum err err;  /* the worst answer, if no address comes */
	struct resolver_addr addrs[MAX_ADDRS];
	size_t count;
};

enum err resolver_new(struct loop *l, struct resolver **ret)
{
	struct resolver *r = mem_zalloc(sizeof(*r));

	if (!r)
		return ERR_NOMEM;
	r->loop = l;
	r->hosts_path = "/etc/hosts";
	r->conf_path = "/etc/resolv.conf";
	list_init(&r->queries);
	list_init(&r->retired);
	*ret = r;
	return ERR_OK;
}

void resolver_set_files(struct resolver *r, const char *hosts, const char *resolv_conf)
{
	r->hosts_path = hosts;
	r->conf_path = resolv_conf;
}

static void query_free(struct resolver_query *q)
{
	loop_cancel(q->resolver->loop, &q->done);
	loop_timer_done(&q->timer);
	list_remove(&q->resolver->queries, &q->node);
	mem_free(q);
}

static void dns_free(struct dns *d)
{
	if (!d)
		return;
	if (d->base)
		evdns_base_free(d->base, 0);
	mem_free(d);
}

/* Not from evdns's own callbacks. */
static void free_retired(struct resolver *r, bool all)
{
	for (size_t n = r->retired.count; n > 0; n--) {
		struct dns *d = container_of(list_pop_front(&r->retired), struct dns, node);

		if (all || d->open == 0)
			dns_free(d);
		else
			list_push_back(&r->retired, &d->node);
	}
}

void resolver_free(struct resolver *r)
{
	struct list_node *n;

	if (!r)
		return;
	dns_free(r->dns);
	free_retired(r, true);
	while ((n = list_front(&r->queries)))
		query_free(container_of(n, struct resolver_query, node));
	mem_free(r);
}

/* --- answers --- */

static void add_addr(struct resolver_query *q, const struct sockaddr *sa, socklen_t len)
{
	struct resolver_addr *a;

	if (q->count == MAX_ADDRS || len > sizeof(a->sa))
		return;
	a = &q->addrs[q->count++];
	memcpy(&a->sa, sa, len);
	a->len = len;
}

static void add_in(struct resolver_query *q, struct in_addr in)
{
	struct sockaddr_in sin = {
	    .sin_family = AF_INET, .sin_port = htons(q->port), .sin_addr = in};

	add_addr(q, (const struct sockaddr *)&sin, sizeof(sin));
}

static void add_in6(struct resolver_query *q, const struct in6_addr *in6)
{
	struct sockaddr_in6 sin6 = {
	    .sin6_family = AF_INET6, .sin6_port = htons(q->port), .sin6_addr = *in6};

	add_addr(q, (const struct sockaddr *)&sin6, sizeof(sin6));
}

/* IPv4 first: where IPv6 leads nowhere, each attempt would cost a timeout. */
static void order_addrs(struct resolver_query *q)
{
	size_t front = 0;

	for (size_t i = 0; i < q->count; i++) {
		struct resolver_addr a = q->addrs[i];

		if (a.sa.ss_family != AF_INET)
			continue;
		memmove(&q->addrs[front + 1], &q->addrs[front], (i - front) * sizeof(a));
		q->addrs[front++] = a;
	}
}

static void on_query_done(void *arg)
{
	struct resolver_query *q = arg;
	resolver_fn cb = q->cb;
	enum err err = q->count ? ERR_OK : q->err;

	q->cb = NULL;
	loop_timer_stop(&q->timer);
	if (cb)
		cb(q->arg, err, q->addrs, q->count);
	if (q->open == 0)
		query_free(q);
}

static void on_query_timeout(void *arg)
{
	struct resolver_query *q = arg;

	q->err = ERR_TIMEOUT;
	on_query_done(q);
}

void resolver_cancel(struct resolver_query *q)
{
	q->cb = NULL;
	loop_timer_stop(&q->timer);
	loop_cancel(q->resolver->loop, &q->done);
	if (q->open == 0)
		query_free(q);
}

/* --- literal addresses --- */

/* Never asks anybody. */
static bool find_literal(struct resolver_query *q, const char *host)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
	                         .ai_socktype = SOCK_STREAM};
	struct addrinfo *found;

	if (getaddrinfo(host, NULL, &hints, &found) != 0)
		return false;
	add_addr(q, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	if (q->count && q->addrs[0].sa.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&q->addrs[0].sa)->sin6_port = htons(q->port);
	else if (q->count)
		((struct sockaddr_in *)&q->addrs[0].sa)->sin_port = htons(q->port);
	return q->count > 0;
}

/* --- the hosts file --- */

static void read_file(const char *path, struct buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 0;

	if (fd < 0)
		return;
	do {
		out->len += (size_t)n;
		if (buf_reserve(out, 4096) != ERR_OK)
			break;
		n = read(fd, out->ptr + out->len, 4096);
	} while (n > 0);
	close(fd);
}

static struct str next_word(struct str *line)
{
	size_t start = 0, end;

	while (start < line->len && strchr(" \t\r", line->ptr[start]))
		start++;
	end = start;
	while (end < line->len && !strchr(" \t\r", line->ptr[end]))
		end++;
	struct str word = {line->ptr + start, end - start};
	*line = (struct str){line->ptr + end, line->len - end};
	return word;
}

static void add_text_addr(struct resolver_query *q, struct str text)
{
	char addr[INET6_ADDRSTRLEN];
	struct in_addr in;
	struct in6_addr in6;

	if (text.len >= sizeof(addr))
		return;
	memcpy(addr, text.ptr, text.len);
	addr[text.len] = '\0';
	if (inet_pton(AF_INET, addr, &in) == 1)
		add_in(q, in);
	else if (inet_pton(AF_INET6, addr, &in6) == 1)
		add_in6(q, &in6);
}

static void match_line(struct resolver_query *q, struct str line, struct str name)
{
	struct str addr, word;

	line = str_split(&(struct str){line.ptr, line.len}, '#');
	addr = next_word(&line);
	while ((word = next_word(&line)).len > 0) {
		if (str_ieq(word, name)) {
			add_text_addr(q, addr);
			return;
		}
	}
}

static bool find_in_hosts(struct resolver_query *q, const char *host)
{
	struct buf file;
	struct str rest;

	buf_init(&file, MAX_HOSTS_BYTES);
	read_file(q->resolver->hosts_path, &file);
	rest = str_n(file.ptr, file.len);
	while (rest.ptr)
		match_line(q, str_split(&rest, '\n'), str_of(host));
	buf_done(&file);
	/* RFC 6761, section 6.3: never a name server's business. */
	if (q->count == 0 && str_ieq(str_of(host), STR("localhost"))) {
		add_in(q, (struct in_addr){htonl(INADDR_LOOPBACK)});
		add_in6(q, &in6addr_loopback);
	}
	return q->count > 0;
}

/* --- name servers --- */

static enum err dns_error(int result)
{
	switch (result) {
	case DNS_ERR_NOTEXIST:
	case DNS_ERR_NODATA:
		return ERR_NOTFOUND;
	case DNS_ERR_TIMEOUT:
		return ERR_TIMEOUT;
	default:
		return ERR_UNAVAILABLE;
	}
}

static void on_evdns_answer(int result, char type, int count, int ttl, void *addresses, void *arg)
{
	struct resolver_query *q = arg;

	(void)ttl;
	q->open--;
	q->dns->open--;
	if (result != DNS_ERR_NONE && (q->err == ERR_NOTFOUND || q->err == ERR_OK))
		q->err = dns_error(result);
	for (int i = 0; result == DNS_ERR_NONE && i < count; i++) {
		if (type == DNS_IPv4_A)
			add_in(q, ((const struct in_addr *)addresses)[i]);
		else if (type == DNS_IPv6_AAAA)
			add_in6(q, &((const struct in6_addr *)addresses)[i]);
	}
	order_addrs(q);
	if (q->open == 0 && !q->cb)
		query_free(q);
	else if (q->open == 0)
		loop_defer(q->resolver->loop, &q->done);
	else if (q->cb && q->count > 0)
		loop_timer_set(&q->timer, SKEW);
}

/* What is stale answers still what it was asked, and nothing new. */
static void retire_stale_dns(struct resolver *r, struct timespec conf)
{
	if (!r->dns || (conf.tv_sec == r->dns->conf.tv_sec && conf.tv_nsec == r->dns->conf.tv_nsec))
		return;
	list_push_back(&r->retired, &r->dns->node);
	r->dns = NULL;
}

static struct dns *dns_new(struct resolver *r, struct timespec conf)
{
	struct dns *d = mem_zalloc(sizeof(*d));

	if (!d)
		return NULL;
	d->conf = conf;
	d->base = evdns_base_new(loop_base(r->loop), EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (!d->base) {
		dns_free(d);
		return NULL;
	}
	/* A missing file means the name server of this host. */
	(void)evdns_base_resolv_conf_parse(
	    d->base, DNS_OPTION_SEARCH | DNS_OPTION_NAMESERVERS | DNS_OPTION_MISC, r->conf_path);
	/* Some resolvers answer in another case than they were asked in, and would never be
	 * understood. What is connected to proves itself by TLS or a password. */
	(void)evdns_base_set_option(d->base, "randomize-case:", "0");
	return d;
}

static struct dns *need_dns(struct resolver *r)
{
	struct stat st = {0};

	(void)stat(r->conf_path, &st); /* absent: the zeroes stay */
	retire_stale_dns(r, st.st_mtim);
	free_retired(r, false);
	if (!r->dns)
		r->dns = dns_new(r, st.st_mtim);
	return r->dns;
}

static void ask_dns(struct resolver_query *q, const char *host)
{
	struct dns *d = need_dns(q->resolver);

	if (!d)
		return;
	q->dns = d;
	/* Counted before, lest an answer that comes at once ends the query. */
	q->open = 2;
	d->open += 2;
	if (!evdns_base_resolve_ipv4(d->base, host, 0, on_evdns_answer, q)) {
		q->open--;
		d->open--;
	}
	if (!evdns_base_resolve_ipv6(d->base, host, 0, on_evdns_answer, q)) {
		q->open--;
		d->open--;
	}
}

enum err resolver_submit(struct resolver *r, const char *host, uint16_t port, resolver_fn cb,
                         void *arg, struct resolver_query **ret)
{
	struct resolver_query *q = mem_zalloc(sizeof(*q));

	if (!q)
		return ERR_NOMEM;
	if (loop_timer_init(&q->timer, r->loop, on_query_timeout, q) != ERR_OK) {
		mem_free(q);
		return ERR_NOMEM;
	}
	q->resolver = r;
	q->cb = cb;
	q->arg = arg;
	q->port = port;
	loop_task_init(&q->done, on_query_done, q);
	list_push_back(&r->queries, &q->node);
	if (!find_literal(q, host) && !find_in_hosts(q, host))
		ask_dns(q, host);
	if (q->open > 0) {
		loop_timer_set(&q->timer, DEADLINE);
	} else {
		if (q->count == 0 && q->err == ERR_OK)
			q->err = ERR_UNAVAILABLE;
		loop_defer(r->loop, &q->done);
	}
	log_debug(LOG_LOOP, "resolving", LOG_STR("host", host), LOG_BOOL("dns", q->open > 0));
	*ret = q;
	return ERR_OK;
}
