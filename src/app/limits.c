/* Most distributions give a soft limit of 1024, for the sake of select(), and a far higher hard
 * one. */
#include "weir/app/limits.h"

#include <sys/resource.h>

#include "weir/base/mem.h"
#include "weir/run/conf.h"
#include "weir/run/log.h"

/* Log, loop, listeners, Redis, name servers, files that are read again; twice what was counted. */
#define OWN_FDS 48
/* The health listener has clients too, and is not to starve either. */
#define LISTENERS 2

#define TRIM_PERIOD (2 * USEC_PER_SEC)

static size_t raise_limit(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) != 0)
		return 1024;
	if (lim.rlim_cur < lim.rlim_max) {
		struct rlimit more = {lim.rlim_max, lim.rlim_max};

		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			lim = more;
	}
	return lim.rlim_cur == RLIM_INFINITY ? 1024 * 1024 : (size_t)lim.rlim_cur;
}

size_t limits_connections(const struct conf *c)
{
	size_t fds = raise_limit(), own = OWN_FDS + (size_t)c->webhook_max_workers;
	size_t wanted = (size_t)c->max_connections;
	size_t fit = fds > own + LISTENERS ? (fds - own) / LISTENERS : 1;

	if (fit >= wanted)
		return wanted;
	log_warn(LOG_APP, "fewer connections than MAX_CONNECTIONS: the limit of descriptors is low",
	         LOG_INT("max_connections", wanted), LOG_INT("in_force", fit),
	         LOG_INT("descriptors", fds));
	return fit;
}

static void on_trim_timer(void *arg)
{
	struct limits_memory *m = arg;

	mem_trim();
	loop_timer_set(&m->trim, TRIM_PERIOD);
}

enum err limits_memory_init(struct limits_memory *m, struct loop *l, size_t bytes)
{
	enum err e = loop_timer_init(&m->trim, l, on_trim_timer, m);

	if (e != ERR_OK)
		return e;
	mem_set_limit(bytes);
	loop_timer_set(&m->trim, TRIM_PERIOD);
	return ERR_OK;
}

void limits_memory_done(struct limits_memory *m)
{
	loop_timer_done(&m->trim);
}
