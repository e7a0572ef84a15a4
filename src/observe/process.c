/* What /proc/self tells is read when somebody asks for it (a scrape, a health probe), never per
 * event; the loop's lag is counted every turn, which costs two additions. */
#include "weir/observe/process.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "weir/base/mem.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define LAG_WINDOW (10 * USEC_PER_SEC)

static const double loop_buckets[] = {.0001, .0005, .001, .005, .01, .025,
                                      .05,   .1,    .25,  .5,   1,   2.5};

struct process_watch {
	struct loop *loop; /* borrowed */
	usec_t started;    /* monotonic */
	usec_t window;     /* start of the present lag window */
	usec_t worst, worst_before;
	struct metric *lag, *turn; /* borrowed from the registry, like all below */
	struct metric *allocated, *peak, *failures, *log_dropped;
	struct metric *resident, *virtual_bytes, *fds, *max_fds, *cpu, *start_time;
};

static void on_loop_turn(void *arg, usec_t turn, usec_t lag)
{
	struct process_watch *w = arg;
	usec_t now = loop_now(w->loop);

	metric_observe(w->turn, (double)turn / USEC_PER_SEC);
	if (lag < 0)
		return;
	metric_observe(w->lag, (double)lag / USEC_PER_SEC);
	if (now - w->window > LAG_WINDOW) {
		w->window = now;
		w->worst_before = w->worst;
		w->worst = 0;
	}
	if (lag > w->worst)
		w->worst = lag;
}

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	if (!d)
		return -1;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 3; /* ".", ".." and the directory itself */
}

/* Fields 1 and 2 of /proc/self/statm, in bytes. */
static void read_memory(double *ret_virtual, double *ret_resident)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long pages[2] = {0, 0};

	if (f && fscanf(f, "%lu %lu", &pages[0], &pages[1]) != 2)
		pages[0] = pages[1] = 0;
	if (f)
		fclose(f);
	*ret_virtual = (double)pages[0] * (double)sysconf(_SC_PAGESIZE);
	*ret_resident = (double)pages[1] * (double)sysconf(_SC_PAGESIZE);
}

static double set_counter(struct metric *m, double total)
{
	double more = total - metric_get(m);

	if (more > 0)
		metric_add(m, more);
	return total;
}

static void on_collect(void *arg)
{
	struct process_watch *w = arg;
	double virtual_bytes, resident;
	struct rusage u;
	struct rlimit lim;

	read_memory(&virtual_bytes, &resident);
	metric_set(w->virtual_bytes, virtual_bytes);
	metric_set(w->resident, resident);
	metric_set(w->allocated, (double)mem_used());
	metric_set(w->peak, (double)mem_peak());
	set_counter(w->failures, (double)mem_failures());
	set_counter(w->log_dropped, (double)log_dropped());
	metric_set(w->fds, count_fds());
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0)
		metric_set(w->max_fds, (double)lim.rlim_cur);
	if (getrusage(RUSAGE_SELF, &u) == 0)
		set_counter(w->cpu, (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
		                        (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
}

static struct metric *loop_histogram(struct metric_registry *r, const char *name, const char *help)
{
	return metric_single(r, &(struct metric_spec){
	                            .type = METRIC_HISTOGRAM,
	                            .name = name,
	                            .help = help,
	                            .buckets = loop_buckets,
	                            .bucket_count = sizeof(loop_buckets) / sizeof(*loop_buckets),
	                        });
}

static void register_metrics(struct process_watch *w, struct metric_registry *r)
{
	w->lag = loop_histogram(r, "webhook_loop_lag_seconds", "How late timers fire.");
	w->turn =
	    loop_histogram(r, "webhook_loop_turn_seconds", "How long a turn of the loop works.");
	w->allocated =
	    metric_plain(r, METRIC_GAUGE, "webhook_memory_allocated_bytes", "Heap in use.");
	w->peak =
	    metric_plain(r, METRIC_GAUGE, "webhook_memory_peak_bytes", "Most heap ever in use.");
	w->failures = metric_plain(r, METRIC_COUNTER, "webhook_memory_failures_total",
	                           "Allocations that failed.");
	w->log_dropped = metric_plain(r, METRIC_COUNTER, "webhook_log_dropped_total",
	                              "Log lines that the pipe or disk did not take.");
	w->resident =
	    metric_plain(r, METRIC_GAUGE, "process_resident_memory_bytes", "Resident memory size.");
	w->virtual_bytes =
	    metric_plain(r, METRIC_GAUGE, "process_virtual_memory_bytes", "Virtual memory size.");
	w->fds = metric_plain(r, METRIC_GAUGE, "process_open_fds", "Open file descriptors.");
	w->max_fds =
	    metric_plain(r, METRIC_GAUGE, "process_max_fds", "Most file descriptors allowed.");
	w->cpu = metric_plain(r, METRIC_COUNTER, "process_cpu_seconds_total",
	                      "User and system CPU time.");
	w->start_time = metric_plain(r, METRIC_GAUGE, "process_start_time_seconds",
	                             "Start of the process since the epoch.");
	metric_set(w->start_time, (double)clock_wall() / USEC_PER_SEC);
}

enum err process_watch_new(struct loop *l, struct metric_registry *r, struct process_watch **ret)
{
	struct process_watch *w = mem_zalloc(sizeof(*w));
	enum err e;

	if (!w)
		return ERR_NOMEM;
	w->loop = l;
	w->started = w->window = clock_mono();
	register_metrics(w, r);
	e = metric_on_collect(r, on_collect, w);
	if (e != ERR_OK) {
		mem_free(w);
		return e;
	}
	loop_observe(l, on_loop_turn, w);
	*ret = w;
	return ERR_OK;
}

void process_watch_free(struct process_watch *w)
{
	if (!w)
		return;
	loop_observe(w->loop, NULL, NULL);
	mem_free(w);
}

void process_watch_get(struct process_watch *w, struct process_figures *ret)
{
	double virtual_bytes, resident;
	usec_t lag = w->worst > w->worst_before ? w->worst : w->worst_before;

	read_memory(&virtual_bytes, &resident);
	ret->memory_alloc_mb = (double)mem_used() / (1024 * 1024);
	ret->resident_mb = resident / (1024 * 1024);
	ret->open_fds = count_fds();
	ret->loop_lag_ms = (double)lag / 1000.0;
	ret->uptime = clock_mono() - w->started;
}
