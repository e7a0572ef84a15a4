/* The least that stands between a webhook and its row: one XADD that Redis confirmed and one INSERT
 * that Postgres committed, one after the other, by blocking clients that do nothing else.
 *
 * Usage: commit_baseline REDIS_PORT CONNINFO BODY_FILE ROUNDS [PER_SECOND]
 * Without PER_SECOND each round begins when the one before has ended. Prints µs as JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <hiredis/hiredis.h>
#include <libpq-fe.h>

#include "weir/base/histogram.h"

#define STREAM  "bench_baseline"
#define HEADERS "[[\"Content-Type\",\"application/json\"]]"

static char body[1024 * 1024];
static size_t body_len;
static struct histogram both, redis_part;

static void die(const char *what, const char *why)
{
	fprintf(stderr, "commit_baseline: %s: %s\n", what, why);
	exit(1);
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void read_body(const char *path)
{
	FILE *f = fopen(path, "rb");

	if (!f)
		die(path, "cannot be read");
	body_len = fread(body, 1, sizeof(body), f);
	fclose(f);
}

static void add(redisContext *r, const char *uid, const char *id)
{
	redisReply *reply =
	    redisCommand(r,
	                 "XADD " STREAM " * v 1 u %s t bench y opened r %" PRId64
	                 " k %s h %s c application/json b %b",
	                 uid, (int64_t)time(NULL) * 1000000, id, HEADERS, body, body_len);

	if (!reply || reply->type == REDIS_REPLY_ERROR)
		die("XADD", reply ? reply->str : r->errstr);
	freeReplyObject(reply);
}

static void prepare(PGconn *db)
{
	PGresult *res = PQexec(db, "SET synchronous_commit = on");

	PQclear(res);
	res = PQprepare(db, "row",
	                "INSERT INTO weir.events (uid, tool, event_type, event_id, received_at,"
	                " headers, content_type, body) VALUES ($1, 'bench', 'opened', $2,"
	                " clock_timestamp(), '" HEADERS "', 'application/json', $3::bytea)",
	                0, NULL);
	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		die("PREPARE", PQerrorMessage(db));
	PQclear(res);
}

static void insert(PGconn *db, const char *uid, const char *id)
{
	const char *const values[] = {uid, id, body};
	const int lengths[] = {0, 0, (int)body_len}, formats[] = {0, 0, 1};
	PGresult *res = PQexecPrepared(db, "row", 3, values, lengths, formats, 1);

	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		die("INSERT", PQerrorMessage(db));
	PQclear(res);
}

static void wait_until(int64_t due)
{
	int64_t left = due - now();
	struct timespec t = {left / 1000000, left % 1000000 * 1000};

	if (left > 0)
		nanosleep(&t, NULL);
}

static void print(const char *name, const struct histogram *h, const char *behind)
{
	printf("\"%s\":{\"p50\":%" PRId64 ",\"p90\":%" PRId64 ",\"p99\":%" PRId64 "}%s", name,
	       histogram_quantile(h, 0.5), histogram_quantile(h, 0.9), histogram_quantile(h, 0.99),
	       behind);
}

int main(int argc, char **argv)
{
	long rounds = argc > 4 ? strtol(argv[4], NULL, 10) : 0;
	double per_second = argc > 5 ? strtod(argv[5], NULL) : 0;
	redisContext *r;
	PGconn *db;
	int64_t start;

	if (rounds <= 0)
		die("usage", "REDIS_PORT CONNINFO BODY_FILE ROUNDS [PER_SECOND]");
	r = redisConnect("127.0.0.1", (int)strtol(argv[1], NULL, 10));
	db = PQconnectdb(argv[2]);
	if (!r || r->err)
		die("Redis", r ? r->errstr : "no memory");
	if (PQstatus(db) != CONNECTION_OK)
		die("Postgres", PQerrorMessage(db));
	read_body(argv[3]);
	prepare(db);
	start = now();
	for (long i = 0; i < rounds; i++) {
		char uid[64], id[64];
		int64_t t0, t1;

		snprintf(uid, sizeof(uid), "01890000-0000-7000-8000-%012lx", i);
		snprintf(id, sizeof(id), "baseline-%ld-%ld", (long)start, i);
		if (per_second > 0)
			wait_until(start + (int64_t)((double)i * 1e6 / per_second));
		t0 = now();
		add(r, uid, id);
		t1 = now();
		insert(db, uid, id);
		histogram_add(&redis_part, t1 - t0);
		histogram_add(&both, now() - t0);
	}
	printf("{");
	print("xadd", &redis_part, ",");
	print("both", &both, "}\n");
	freeReplyObject(redisCommand(r, "UNLINK " STREAM));
	redisFree(r);
	PQfinish(db);
	return 0;
}
