/* weir bench: a load of signed events for a running weir, and what became of it: for those who want
 * to know what their installation can carry. The events are real ones to it: they are stored.
 * (What this build can do at best, against plain servers, is `make bench`.) */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "weir/base/buf.h"
#include "weir/cli/command.h"
#include "weir/io/http_load.h"
#include "weir/model/tool.h"
#include "weir/run/conf.h"

#include "bench_event.h"

#define TIMEOUT   (30 * USEC_PER_SEC)
#define MAX_OUT   (64 * 1024)
#define MAX_RATE  1e6
#define MAX_TIME  (24 * 3600 * USEC_PER_SEC)
#define MAX_EVENT (32 * 1024 * 1024)

struct bench {
	const char *tool;
	const char *file;
	const char *url; /* NULL: the configured ingest address */
	const char *event;
	int64_t connections;
	double rate; /* 0: closed loop */
	usec_t duration;
	uint64_t size;
	bool json;
	struct bench_event *events; /* owned */
	struct buf target;          /* the URL in use; owned */
};

/* ---- the load ---- */

static enum err on_next(void *arg, struct http_load_request *ret)
{
	struct bench *b = arg;

	return bench_event_next(b->events, clock_wall(), ret);
}

static uint64_t count_bad(const struct http_load_result *r)
{
	uint64_t bad = 0;

	for (int i = 0; i < 600; i++)
		if (i < 200 || i > 299)
			bad += r->statuses[i];
	for (int i = 0; i < HTTP_LOAD_FAILURE_COUNT; i++)
		bad += r->failures[i];
	return bad;
}

static void on_progress(void *arg, const struct http_load_result *r, usec_t elapsed)
{
	const struct bench *b = arg;

	fprintf(stderr, "\r%3.0f of %.0f s  %" PRIu64 " answered, %" PRIu64 " not well ",
	        (double)elapsed / USEC_PER_SEC, (double)b->duration / USEC_PER_SEC, r->answered,
	        count_bad(r));
	if (elapsed + USEC_PER_SEC > b->duration)
		fputc('\n', stderr);
}

/* ---- output ---- */

static const struct {
	const char *name;
	double share;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}};

static double rate_of(const struct http_load_result *r)
{
	return r->elapsed > 0 ? (double)r->answered * USEC_PER_SEC / (double)r->elapsed : 0;
}

static double msec(int64_t usec)
{
	return (double)usec / USEC_PER_MSEC;
}

static void print_table(const struct bench *b, const struct http_load_result *r)
{
	printf("POST %s\n", b->target.ptr);
	printf("%" PRId64 " connections, %zu byte bodies, ", b->connections,
	       bench_event_size(b->events));
	if (b->rate > 0)
		printf("%g events/s asked for\n\n", b->rate);
	else
		printf("as fast as answers come\n\n");
	printf("%-12s %12.2f s\n%-12s %12" PRIu64 "\n%-12s %12" PRIu64 "\n%-12s %12.1f events/s\n",
	       "time", (double)r->elapsed / USEC_PER_SEC, "sent", r->sent, "answered", r->answered,
	       "rate", rate_of(r));
	for (int i = 0; i < 600; i++)
		if (r->statuses[i])
			printf("status %-5d %12" PRIu64 "\n", i, r->statuses[i]);
	for (int i = 0; i < HTTP_LOAD_FAILURE_COUNT; i++)
		if (r->failures[i])
			printf("%-12s %12" PRIu64 "\n", http_load_failure_name(i), r->failures[i]);
	if (r->unsent)
		printf("%-12s %12" PRIu64 "  due, but no connection was free\n", "unsent",
		       r->unsent);
	if (r->failure_text[0])
		printf("last failure: %s\n", r->failure_text);
	printf("\nlatency\n");
	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
		printf("%-12s %12.3f ms\n", quantiles[i].name,
		       msec(histogram_quantile(&r->latency, quantiles[i].share)));
}

static void add_latency(struct buf *out, const struct http_load_result *r)
{
	buf_addf(out, "\"latency_ms\":{\"mean\":%.3f", histogram_mean(&r->latency) / USEC_PER_MSEC);
	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
		buf_addf(out, ",\"%s\":%.3f", quantiles[i].name,
		         msec(histogram_quantile(&r->latency, quantiles[i].share)));
	buf_addf(out, "}");
}

static void add_counts(struct buf *out, const struct http_load_result *r)
{
	const char *comma = "";

	buf_addf(out, "\"statuses\":{");
	for (int i = 0; i < 600; i++) {
		if (!r->statuses[i])
			continue;
		buf_addf(out, "%s\"%d\":%" PRIu64, comma, i, r->statuses[i]);
		comma = ",";
	}
	buf_addf(out, "},\"failures\":{");
	for (int i = 0; i < HTTP_LOAD_FAILURE_COUNT; i++)
		buf_addf(out, "%s\"%s\":%" PRIu64, i ? "," : "", http_load_failure_name(i),
		         r->failures[i]);
	buf_addf(out, "},\"last_failure\":");
	if (r->failure_text[0])
		buf_add_json(out, str_of(r->failure_text));
	else
		buf_add_cstr(out, "null");
}

static enum err print_json(const struct bench *b, const struct http_load_result *r)
{
	struct buf out;
	enum err e;

	buf_init(&out, MAX_OUT);
	buf_add_cstr(&out, "{\"url\":");
	buf_add_json(&out, buf_str(&b->target));
	buf_addf(&out,
	         ",\"connections\":%" PRId64 ",\"body_bytes\":%zu,\"rate_wanted\":", b->connections,
	         bench_event_size(b->events));
	if (b->rate > 0)
		buf_addf(&out, "%g", b->rate);
	else
		buf_add_cstr(&out, "null");
	buf_addf(&out,
	         ",\"seconds\":%.3f,\"sent\":%" PRIu64 ",\"answered\":%" PRIu64
	         ",\"unsent\":%" PRIu64 ",\"rate\":%.1f,",
	         (double)r->elapsed / USEC_PER_SEC, r->sent, r->answered, r->unsent, rate_of(r));
	add_counts(&out, r);
	buf_add_char(&out, ',');
	add_latency(&out, r);
	e = buf_addf(&out, "}\n");
	if (e == ERR_OK)
		fwrite(out.ptr, 1, out.len, stdout);
	buf_done(&out);
	return e;
}

/* ---- */

static int run_load(struct bench *b)
{
	static struct http_load_result result; /* too large for the stack */
	struct http_load_options o = {.url = b->target.ptr,
	                              .method = "POST",
	                              .connections = (size_t)b->connections,
	                              .rate = b->rate,
	                              .duration = b->duration,
	                              .timeout = TIMEOUT,
	                              .next = on_next,
	                              .progress = isatty(STDERR_FILENO) ? on_progress : NULL,
	                              .arg = b};
	struct err_info info = {0};
	enum err e = http_load_run(&o, &result, &info);

	if (e != ERR_OK) {
		cli_error("%s", info.text);
		return e == ERR_UNAVAILABLE ? CLI_UNREACHABLE
		       : e == ERR_INVAL     ? CLI_USAGE
		                            : CLI_FAILED;
	}
	if (!b->json)
		print_table(b, &result);
	else if (print_json(b, &result) != ERR_OK)
		return CLI_FAILED;
	return result.answered && count_bad(&result) == 0 ? CLI_DONE : CLI_FAILED;
}

static int make_url(struct bench *b, const struct conf *c)
{
	struct err_info info = {0};

	buf_init(&b->target, CLI_URL_MAX);
	if (cli_tool_url(c, b->url, b->tool, STR(""), &b->target, &info) == ERR_OK)
		return CLI_DONE;
	cli_error("%s", info.text);
	return CLI_USAGE;
}

static int run_tool(struct bench *b, const struct tool *tool)
{
	struct err_info info = {0};
	int rc = CLI_FAILED;

	if (bench_event_new(tool, b->size, b->event, &b->events, &info) != ERR_OK)
		cli_error("%s", info.text);
	else
		rc = run_load(b);
	bench_event_free(b->events);
	return rc;
}

static int run(struct bench *b)
{
	struct cli_tool t = {.conf = NULL};
	int rc = cli_open_tool(b->file, b->tool, &t);

	if (rc == CLI_DONE)
		rc = make_url(b, t.conf);
	if (rc == CLI_DONE)
		rc = run_tool(b, t.tool);
	buf_done(&b->target);
	cli_tool_done(&t);
	return rc;
}

static bool take_connections(void *arg, const char *value)
{
	return str_to_int(str_of(value), 1, HTTP_LOAD_MAX_CONNECTIONS, arg) == ERR_OK;
}

static bool take_rate(void *arg, const char *value)
{
	double *rate = arg;

	return str_to_double(str_of(value), rate) == ERR_OK && *rate > 0 && *rate <= MAX_RATE;
}

static bool take_duration(void *arg, const char *value)
{
	usec_t *t = arg;

	return str_to_usec(str_of(value), USEC_PER_SEC, t) == ERR_OK && *t > 0 && *t <= MAX_TIME;
}

static bool take_size(void *arg, const char *value)
{
	uint64_t *size = arg;

	return str_to_size(str_of(value), size) == ERR_OK && *size <= MAX_EVENT;
}

int cmd_bench(const struct command *self, int argc, char **argv)
{
	struct bench b = {
	    .event = "", .connections = 64, .duration = 10 * USEC_PER_SEC, .size = 1024};
	const struct cli_option options[] = {
	    CLI_CONFIG_FILE(&b.file),
	    {.name = "url", .value = "URL", .text = &b.url},
	    {.name = "event", .value = "TYPE", .text = &b.event},
	    {.name = "connections",
	     .value = "N",
	     .take = take_connections,
	     .arg = &b.connections,
	     .must = "1 to 10000"},
	    {.name = "rate",
	     .value = "N",
	     .take = take_rate,
	     .arg = &b.rate,
	     .must = "above 0, up to a million"},
	    {.name = "seconds",
	     .value = "TIME",
	     .take = take_duration,
	     .arg = &b.duration,
	     .must = "seconds, or a duration like 5m, up to a day"},
	    {.name = "size",
	     .value = "SIZE",
	     .take = take_size,
	     .arg = &b.size,
	     .must = "bytes, or a size like 10KiB, up to 32MiB"},
	    CLI_OUTPUT(&b.json),
	    CLI_END};
	int rc;
	char **args =
	    cli_parse(self, argc, argv, options, (struct cli_operands){1, 1, "name one tool"}, &rc);

	if (!args)
		return rc;
	b.tool = args[0];
	return run(&b);
}
