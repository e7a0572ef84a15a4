/* The addresses that a connection tries, in the order of the hosts. Names of all hosts are looked
 * up together, so that a dead name server costs one deadline and not one for each. */
#include <netdb.h>
#include <string.h>

#include "pg_priv.h"
#include "weir/run/log.h"

static void on_resolver_done(void *arg, enum err err, const struct resolver_addr *addrs, size_t n)
{
	struct pg_lookup *l = arg;
	struct pg_targets *t = l->targets;
	struct pg_addrs *a = &t->addrs[l - t->lookups];

	l->query = NULL;
	for (size_t i = 0; err == ERR_OK && i < n && a->count < PG_MAX_ADDRS; i++)
		if (getnameinfo((const struct sockaddr *)&addrs[i].sa, addrs[i].len,
		                a->text[a->count], sizeof(a->text[0]), NULL, 0,
		                NI_NUMERICHOST) == 0)
			a->count++;
	if (err != ERR_OK)
		log_debug(LOG_PG, "name not resolved",
		          LOG_STR("host", t->info->hosts[l - t->lookups].name), LOG_ERR(err));
	if (--t->open == 0)
		t->on_done(t->arg);
}

static void look_up(struct pg_targets *t, size_t i, struct resolver *res)
{
	const struct pg_host *h = &t->info->hosts[i];
	struct pg_addrs *a = &t->addrs[i];

	a->count = 0;
	if (!h->unknown) {
		a->count = 1;
		a->text[0][0] = '\0'; /* the host itself, or hostaddr as given */
		return;
	}
	t->lookups[i].targets = t;
	if (resolver_submit(res, h->name, 0, on_resolver_done, &t->lookups[i],
	                    &t->lookups[i].query) == ERR_OK)
		t->open++;
}

bool pg_targets_start(struct pg_targets *t, const struct pg_conninfo *ci, struct resolver *res,
                      void (*on_done)(void *arg), void *arg)
{
	t->info = ci;
	t->on_done = on_done;
	t->arg = arg;
	t->host_at = t->addr_at = 0;
	for (size_t i = 0; i < ci->host_count; i++)
		look_up(t, i, res);
	return t->open > 0;
}

void pg_targets_stop(struct pg_targets *t)
{
	for (size_t i = 0; i < PG_MAX_HOSTS; i++) {
		if (t->lookups[i].query)
			resolver_cancel(t->lookups[i].query);
		t->lookups[i].query = NULL;
	}
	t->open = 0;
}

bool pg_targets_next(struct pg_targets *t, const struct pg_host **ret_host, const char **ret_addr)
{
	while (t->host_at < t->info->host_count && t->addr_at >= t->addrs[t->host_at].count) {
		t->host_at++;
		t->addr_at = 0;
	}
	if (t->host_at == t->info->host_count)
		return false;
	*ret_host = &t->info->hosts[t->host_at];
	*ret_addr = t->addrs[t->host_at].text[t->addr_at++];
	return true;
}
