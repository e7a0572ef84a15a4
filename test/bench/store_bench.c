/* How fast the pipeline stores, against plain binary COPY of the same rows into weir.events on one
 * connection: interleaved rounds on one server, ratios within a round.
 *
 *	store_bench CONNINFO [events [body bytes [batch [connections [rounds]]]]]
 *
 * The database must be migrated; events and keys in it are truncated. Prints one line for each
 * measurement and the medians, CPU in µs an event: ours (making the events included) and the
 * server's. */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "weir/base/buf.h"
#include "weir/base/mem.h"
#include "weir/base/rnd.h"
#include "weir/io/pg.h"
#include "weir/model/event.h"
#include "weir/pipeline/batch_processor.h"
#include "weir/pipeline/event_buffer.h"
#include "weir/run/log.h"
#include "weir/run/loop.h"
#include "weir/run/metric.h"

#define MAX_ROUNDS 32

static const char headers[] = "[[\"x-github-event\",\"push\"],[\"user-agent\",\"GitHub-Hookshot/"
                              "abcdef\"],[\"accept\",\"*/*\"],"
                              "[\"x-hub-signature-256\",null],[\"x-github-delivery\",\"0b989ba4-"
                              "242f-11e5-81e1-c7b6966d2516\"],"
                              "[\"content-type\",\"application/json\"]]";

struct bench {
	const char *conninfo;
	size_t events, body_bytes, batch, connections, rounds;
	char *body;
	PGconn *db;
	long server; /* the postmaster's pid */
};

struct figure {
	double rate, client, server;
};

/* ---- measuring ---- */

static double cpu_of_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Fields 14 to 17 of /proc/PID/stat, in ticks; `ppid` is field 4. */
static double ticks(long pid, long *ret_ppid)
{
	char path[64], text[1024], *p;
	unsigned long long v = 0, sum = 0;
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	p = strrchr(text, ')');
	for (int field = 3; p && field <= 17; field++) {
		p = strchr(p + 1, ' ');
		v = p ? strtoull(p + 1, NULL, 10) : 0;
		if (field == 4 && ret_ppid)
			*ret_ppid = (long)v;
		if (field >= 14)
			sum += v;
	}
	return (double)sum;
}

static double cpu_of_server(const struct bench *b)
{
	double sum = ticks(b->server, NULL);

	for (long pid = 2; pid < 100000; pid++) {
		long ppid = 0;
		double t = ticks(pid, &ppid);

		if (ppid == b->server)
			sum += t;
	}
	return sum / (double)sysconf(_SC_CLK_TCK);
}

static void sql(struct bench *b, const char *text)
{
	PGresult *r = PQexec(b->db, text);

	if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK) {
		fprintf(stderr, "%s: %s", text, PQerrorMessage(b->db));
		exit(1);
	}
	PQclear(r);
}

static void start_clean(struct bench *b)
{
	sql(b, "TRUNCATE weir.events, weir.event_keys, weir.dead_letters");
	sql(b, "CHECKPOINT");
}

/* ---- the rows ---- */

static void make_view(struct bench *b, char id[64], struct event_view *v)
{
	*v = (struct event_view){
	    .tool = STR("github"),
	    .type = STR("push"),
	    .received = clock_wall(),
	    .headers = {headers, sizeof(headers) - 1},
	    .content_type = STR("application/json"),
	    .body = {b->body, b->body_bytes},
	};
	uuid_make(v->received, &v->uid);
	snprintf(id, 64, "%016llx-%016llx", (unsigned long long)rnd_u64(),
	         (unsigned long long)rnd_u64());
	v->id = str_of(id);
}

/* ---- COPY ---- */

static void add_be(struct buf *out, uint64_t v, int bytes)
{
	char be[8];

	for (int i = 0; i < bytes; i++)
		be[i] = (char)(v >> (8 * (bytes - 1 - i)));
	(void)buf_add(out, be, (size_t)bytes);
}

static void add_field(struct buf *out, const void *p, size_t len)
{
	add_be(out, len, 4);
	(void)buf_add(out, p, len);
}

static void add_row(struct buf *out, const struct event_view *v)
{
	add_be(out, 8, 2);
	add_field(out, v->uid.bytes, 16);
	add_field(out, v->tool.ptr, v->tool.len);
	add_field(out, v->type.ptr, v->type.len);
	add_field(out, v->id.ptr, v->id.len);
	add_be(out, 8, 4);
	add_be(out, (uint64_t)(v->received - PG_EPOCH_USEC), 8);
	add_field(out, v->headers.ptr, v->headers.len);
	add_field(out, v->content_type.ptr, v->content_type.len);
	add_field(out, v->body.ptr, v->body.len);
}

static void copy_batch(struct bench *b, struct buf *out)
{
	static const char start[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0";
	struct event_view v;
	char id[64];
	PGresult *r;

	sql(b, "SELECT 1");
	r = PQexec(b->db, "COPY weir.events (uid, tool, event_type, event_id, received_at, headers,"
	                  " content_type, body) FROM STDIN BINARY");
	PQclear(r);
	buf_reset(out);
	(void)buf_add(out, start, 19);
	for (size_t i = 0; i < b->batch; i++) {
		make_view(b, id, &v);
		add_row(out, &v);
	}
	add_be(out, 0xffff, 2);
	if (PQputCopyData(b->db, out->ptr, (int)out->len) != 1 || PQputCopyEnd(b->db, NULL) != 1)
		exit(1);
	while ((r = PQgetResult(b->db))) {
		if (PQresultStatus(r) != PGRES_COMMAND_OK) {
			fprintf(stderr, "COPY: %s", PQerrorMessage(b->db));
			exit(1);
		}
		PQclear(r);
	}
}

static void run_copy(struct bench *b)
{
	struct buf out;

	buf_init(&out, (size_t)1 << 30);
	for (size_t done = 0; done < b->events; done += b->batch)
		copy_batch(b, &out);
	buf_done(&out);
}

/* ---- the pipeline ---- */

struct feeder {
	struct event_source source;
	struct bench *b;
	struct loop *loop;
	struct event_inlet *inlet;
	struct loop_task more;
	size_t fed, settled, stored;
};

static void feed(void *arg)
{
	struct feeder *f = arg;
	size_t room = f->inlet->room(f->inlet);

	/* As much at a time as one reply of the queue brings. */
	for (size_t i = 0; i < room && i < 500 && f->fed < f->b->events; i++) {
		struct event_view v;
		struct event *e;
		char id[64];

		make_view(f->b, id, &v);
		if (event_make(&v, &e) != ERR_OK)
			exit(1);
		e->source = &f->source;
		if (f->inlet->put(f->inlet, e) != ERR_OK)
			exit(1);
		f->fed++;
	}
	if (f->fed < f->b->events && f->inlet->room(f->inlet) > 0)
		loop_defer(f->loop, &f->more);
}

static void on_settled(struct event_source *s, struct event *const *events,
                       const enum event_fate *fates, size_t n)
{
	struct feeder *f = (struct feeder *)s;

	(void)events;
	for (size_t i = 0; i < n; i++)
		f->stored += fates[i] == EVENT_STORED;
	f->settled += n;
	if (f->settled >= f->b->events)
		loop_stop(f->loop);
}

static void must(enum err e)
{
	if (e == ERR_OK)
		return;
	fprintf(stderr, "%s\n", err_meaning(e));
	exit(1);
}

struct stack {
	struct feeder f;
	struct metric_registry *metrics;
	struct pg_pool *pool;
	struct event_buffer *buffer;
	struct batch_processor *processor;
};

static void build(struct bench *b, struct stack *s)
{
	struct pg_options po = {
	    .url = b->conninfo, .size = b->connections, .application_name = "store_bench"};
	struct event_buffer_options bo = {
	    .batch_size = b->batch, .batch_bytes = 8 << 20, .flush_interval = USEC_PER_SEC};
	struct batch_processor_options o = {
	    .max_workers = 10, .batch_size = b->batch, .quick_retries = 3};

	*s = (struct stack){.f = {.source = {on_settled}, .b = b}};
	must(loop_new(&s->f.loop));
	must(metric_registry_new(&s->metrics));
	must(pg_pool_new(s->f.loop, NULL, &po, &s->pool));
	must(event_buffer_new(s->f.loop, &bo, &s->buffer));
	o.loop = s->f.loop;
	o.pool = s->pool;
	o.buffer = s->buffer;
	o.metrics = s->metrics;
	must(batch_processor_new(&o, &s->processor));
	batch_processor_start(s->processor);
	pg_pool_start(s->pool);
	s->f.inlet = event_buffer_inlet(s->buffer);
	s->f.inlet->on_room(s->f.inlet, feed, &s->f);
	loop_task_init(&s->f.more, feed, &s->f);
}

static void run_pipeline(struct bench *b)
{
	struct stack s;

	build(b, &s);
	loop_defer(s.f.loop, &s.f.more);
	must(loop_run(s.f.loop));
	if (s.f.stored != b->events)
		fprintf(stderr, "only %zu of %zu were stored\n", s.f.stored, b->events);
	pg_pool_free(s.pool);
	batch_processor_free(s.processor);
	event_buffer_free(s.buffer);
	metric_registry_free(s.metrics);
	loop_free(s.f.loop);
}

/* ---- rounds ---- */

static struct figure measure(struct bench *b, const char *name, void (*run)(struct bench *b))
{
	double ours, server, n = (double)b->events;
	struct figure f;
	usec_t t;

	start_clean(b);
	server = cpu_of_server(b);
	ours = cpu_of_us();
	t = clock_mono();
	run(b);
	f.rate = n * 1e6 / (double)(clock_mono() - t);
	f.client = (cpu_of_us() - ours) / n * 1e6;
	/* Until the backends are gone and counted in their parent. */
	nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
	f.server = (cpu_of_server(b) - server) / n * 1e6;
	printf("%-9s %8.0f events/s  client %5.2f us  server %5.2f us\n", name, f.rate, f.client,
	       f.server);
	fflush(stdout);
	return f;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), compare);
	return v[n / 2];
}

static size_t arg(int argc, char **argv, int i, size_t otherwise)
{
	return argc > i ? strtoul(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
	struct bench b = {.conninfo = argc > 1 ? argv[1] : "",
	                  .events = arg(argc, argv, 2, 200000),
	                  .body_bytes = arg(argc, argv, 3, 1024),
	                  .batch = arg(argc, argv, 4, 500),
	                  .connections = arg(argc, argv, 5, 2),
	                  .rounds = arg(argc, argv, 6, 5)};
	double ratios[MAX_ROUNDS], clients[MAX_ROUNDS], servers[MAX_ROUNDS];
	static const char alphabet[] = "{}[]\":, abcdefghijklmnop0123456789";

	if (argc < 2 || b.rounds < 1 || b.rounds > MAX_ROUNDS || b.batch < 1)
		return 2;
	must(log_set_levels("warn", NULL));
	b.body = mem_alloc(b.body_bytes + 1);
	for (size_t i = 0; b.body && i < b.body_bytes; i++)
		b.body[i] = alphabet[rnd_below(sizeof(alphabet) - 1)];
	b.db = PQconnectdb(b.conninfo);
	sql(&b, "SET TimeZone = UTC");
	(void)ticks(PQbackendPID(b.db), &b.server);
	for (size_t i = 0; i < b.rounds; i++) {
		struct figure copy = measure(&b, "copy", run_copy);
		struct figure ours = measure(&b, "pipeline", run_pipeline);

		ratios[i] = ours.rate / copy.rate;
		clients[i] = ours.client;
		servers[i] = ours.server;
		printf("ratio %.2f\n", ratios[i]);
	}
	printf("median: ratio %.2f, client %.2f us, server %.2f us\n", median(ratios, b.rounds),
	       median(clients, b.rounds), median(servers, b.rounds));
	PQfinish(b.db);
	mem_free(b.body);
	return 0;
}
