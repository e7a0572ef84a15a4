/* Most distributions give a soft limit of 1024, for the sake of select(), and a far higher hard
 * one. */
#include "weir/app/limits.h"

#include <sys/resource.h>

#include "weir/run/conf.h"
#include "weir/run/log.h"

/* Log, loop, listeners, Redis, name servers, files that are read again; twice what was counted. */
#define OWN_FDS 48
/* The health listener has clients too, and is not to starve either. */
#define LISTENERS 2

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
