/* Degraded past nine tenths of the bound: then ingest is about to refuse. */
#include "weir/app/queue_health.h"

#include <math.h>

#include "weir/observe/health.h"
#include "weir/queue/stream_watch.h"

static enum health_state report(void *arg, struct buf *details)
{
	struct stream_figures f;

	stream_watch_get(arg, &f);
	if (!f.known)
		return HEALTH_UNHEALTHY;
	buf_addf(
	    details,
	    "\"queue_depth\":%llu,\"pending\":%llu,\"aside\":%llu,\"oldest_pending_seconds\":%.3f,"
	    "\"bytes\":%llu,\"max_bytes\":%llu,\"in_per_second\":%.1f,"
	    "\"out_per_second\":%.1f,\"headroom_seconds\":",
	    (unsigned long long)f.depth, (unsigned long long)f.pending, (unsigned long long)f.aside,
	    f.oldest_seconds, (unsigned long long)f.bytes, (unsigned long long)f.max_bytes,
	    f.added_per_second, f.drained_per_second);
	if (isinf(f.headroom_seconds))
		buf_add_cstr(details, "null");
	else
		buf_addf(details, "%.0f", f.headroom_seconds);
	return f.bytes > f.max_bytes / 10 * 9 ? HEALTH_DEGRADED : HEALTH_HEALTHY;
}

enum err queue_health_add(struct health *h, struct stream_watch *w)
{
	return health_add(h,
	                  &(struct health_component){.name = "queue", .report = report, .arg = w});
}
