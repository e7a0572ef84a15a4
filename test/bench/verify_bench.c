/* What verification costs and what its time tells.
 *
 *	verify_bench [rounds [samples]]
 *
 * CPU time of verifying one request by HMAC-SHA256 over 1 and 10 KiB, in µs, against the same MAC
 * by one call of OpenSSL's; allocations a request, ours and OpenSSL's; and Welch's t for the times
 * of requests whose signature is right in no byte, in half of them, and in all but the last.
 * |t| below 4.5 says that the times cannot be told apart (Reparaz, Balasch, Verbauwhede: Dude, is
 * my code constant time?); a comparison that stops at the first wrong byte is measured too, to show
 * that the method sees one. The classes come in random order, and the slowest 5 % of all times,
 * which are interrupts, are left out. Prints one JSON object. */
#include <math.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "weir/base/digest.h"
#include "weir/base/mem.h"
#include "weir/base/rnd.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/receive/intake.h"
#include "weir/receive/verify.h"

#define MAX_BODY   10240
#define SLICE      4000 /* calls of one kind before the next one's turn */
#define CLASSES    3
#define MAX_ROUNDS 101
#define SECRET     "bench secret"
#define HEX_LEN    64

struct bench {
	struct tools *set;
	struct intake *intake;
	struct recipe_input input;
	struct recipe_request req;
	struct http_header headers[4];
	char body[MAX_BODY];
	char sig[sizeof("sha256=") + HEX_LEN];
	uint8_t mac[32];
};

static uint64_t openssl_allocations;
static size_t sink; /* so that nothing is optimised away */

static void die(const char *why)
{
	fprintf(stderr, "verify_bench: %s\n", why);
	exit(1);
}

/* ---- counting ---- */

static void *on_openssl_malloc(size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	openssl_allocations++;
	return malloc(n);
}

static void *on_openssl_realloc(void *p, size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	openssl_allocations++;
	return realloc(p, n);
}

static void on_openssl_free(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	free(p);
}

static double cpu_usec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double wall_nsec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- requests ---- */

static void set_signature(struct bench *b, const uint8_t *mac)
{
	memcpy(b->sig, "sha256=", 7);
	hex_encode(mac, 32, b->sig + 7);
	b->headers[1].value = str_n(b->sig, 7 + HEX_LEN);
}

static void right_mac(struct bench *b)
{
	unsigned n;

	HMAC(EVP_sha256(), SECRET, sizeof(SECRET) - 1, (const unsigned char *)b->req.body.ptr,
	     b->req.body.len, b->mac, &n);
}

static void set_body(struct bench *b, size_t len)
{
	memset(b->body, 'x', len);
	memcpy(b->body, "{\"a\":\"", 6);
	memcpy(b->body + len - 2, "\"}", 2);
	b->req.body = str_n(b->body, len);
	right_mac(b);
	set_signature(b, b->mac);
}

static void open_bench(struct bench *b)
{
	struct err_info info = {0};

	if (tools_parse(STR("{\"tools\":[{\"id\":\"t\",\"preset\":\"github\",\"secrets\":[\"" SECRET
	                    "\"]}]}"),
	                "bench", &b->set, &info) != ERR_OK)
		die(info.text);
	if (intake_new(1 << 20, &b->intake) != ERR_OK)
		die("no memory");
	recipe_input_init(&b->input);
	b->headers[0] = (struct http_header){STR("X-GitHub-Event"), STR("push")};
	b->headers[1] = (struct http_header){STR("X-Hub-Signature-256"), STR("")};
	b->headers[2] = (struct http_header){STR("X-GitHub-Delivery"),
	                                     STR("0b989ba4-242f-11e5-81e1-c7b6966d2516")};
	b->headers[3] = (struct http_header){STR("Content-Type"), STR("application/json")};
	b->req = (struct recipe_request){.method = STR("POST"),
	                                 .target = STR("/webhooks/t"),
	                                 .headers = b->headers,
	                                 .header_count = 4,
	                                 .now = clock_wall()};
}

static enum verify_verdict verify(struct bench *b)
{
	struct verify_result result;

	recipe_input_bind(&b->input, tools_at(b->set, 0)->recipe, &b->req);
	return verify_request(&b->input, &result);
}

/* ---- cost ---- */

static void call_verify(struct bench *b)
{
	sink += verify(b) == VERIFY_OK;
}

static void call_intake(struct bench *b)
{
	struct intake_result in;

	intake_run(b->intake, tools_at(b->set, 0), HTTP_POST, &b->req, b->req.now, &in);
	sink += in.status == 200;
}

static void call_openssl(struct bench *b)
{
	unsigned char out[EVP_MAX_MD_SIZE];
	unsigned n;

	HMAC(EVP_sha256(), SECRET, sizeof(SECRET) - 1, (unsigned char *)b->body, b->req.body.len,
	     out, &n);
	sink += out[0];
}

static EVP_MAC_CTX *keyed; /* as others keep one */

static void call_keyed(struct bench *b)
{
	unsigned char out[EVP_MAX_MD_SIZE];
	size_t n;

	if (EVP_MAC_init(keyed, NULL, 0, NULL) != 1 ||
	    EVP_MAC_update(keyed, (unsigned char *)b->body, b->req.body.len) != 1 ||
	    EVP_MAC_final(keyed, out, &n, sizeof(out)) != 1)
		die("EVP_MAC");
	sink += out[0];
}

static const struct {
	const char *name;
	void (*call)(struct bench *b);
} kinds[] = {{"verify", call_verify},
             {"intake", call_intake},
             {"openssl", call_openssl},
             {"openssl_keyed", call_keyed}};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void open_keyed(void)
{
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_utf8_string("digest", (char *)(uintptr_t) "SHA256", 0),
	    OSSL_PARAM_construct_end()};

	keyed = mac ? EVP_MAC_CTX_new(mac) : NULL;
	if (!keyed ||
	    EVP_MAC_init(keyed, (const unsigned char *)SECRET, sizeof(SECRET) - 1, params) != 1)
		die("EVP_MAC");
	EVP_MAC_free(mac);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_size);
	return v[n / 2];
}

/* Slices in turn; the medians over the rounds. */
static void measure_cost(struct bench *b, size_t body, size_t rounds)
{
	static double usec[KINDS][MAX_ROUNDS];
	uint64_t ours[KINDS], openssl[KINDS];

	set_body(b, body);
	for (size_t k = 0; k < KINDS; k++)
		kinds[k].call(b); /* what is made once is made now */
	for (size_t r = 0; r < rounds; r++) {
		for (size_t k = 0; k < KINDS; k++) {
			uint64_t before = openssl_allocations;
			double start;

			mem_fail_nth(0);
			start = cpu_usec();
			for (size_t i = 0; i < SLICE; i++)
				kinds[k].call(b);
			usec[k][r] = (cpu_usec() - start) / SLICE;
			ours[k] = mem_fail_count();
			openssl[k] = openssl_allocations - before;
		}
	}
	printf("\"cost_%zu\":{", body);
	for (size_t k = 0; k < KINDS; k++)
		printf("%s\"%s\":{\"cpu_usec\":%.4f,\"allocations\":%.4f,\"openssl_allocations\":%."
		       "4f}",
		       k ? "," : "", kinds[k].name, median(usec[k], rounds),
		       (double)ours[k] / SLICE, (double)openssl[k] / SLICE);
	printf("},");
}

/* ---- time ---- */

/* The right MAC in its first bytes; the one behind them is wrong, and what follows is anything. */
static void spoil(const uint8_t *right, size_t bytes, uint8_t out[32])
{
	rnd_bytes(out, 32);
	for (size_t i = 0; i < 32; i++) {
		uint8_t keep = (uint8_t) - (uint8_t)(i < bytes); /* the same work for each class */

		out[i] = (uint8_t)((right[i] & keep) | (out[i] & ~keep));
	}
	out[bytes] = (uint8_t)(right[bytes] ^ (1 + rnd_below(255)));
}

/* As one must not do it. */
static bool naive_equal(const uint8_t *a, const uint8_t *b)
{
	for (volatile size_t i = 0; i < 32; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

static double one_time(struct bench *b, size_t cls, bool naive)
{
	static const size_t right[CLASSES] = {0, 16, 31};
	uint8_t wrong[32], mac[32];
	double start;

	/* Another body each time, so that the right bytes are as new to the processor as the wrong
	 * ones: digits that come again and again are decoded faster, whatever they are. */
	for (size_t i = 0; i < 16; i++)
		b->body[8 + i] = (char)('a' + rnd_below(26));
	right_mac(b);
	spoil(b->mac, right[cls], wrong);
	set_signature(b, wrong);
	start = wall_nsec();
	if (naive) {
		unsigned n;

		HMAC(EVP_sha256(), SECRET, sizeof(SECRET) - 1, (unsigned char *)b->body,
		     b->req.body.len, mac, &n);
		sink += naive_equal(mac, wrong);
	} else {
		sink += verify(b) == VERIFY_OK;
	}
	return wall_nsec() - start;
}

struct moments {
	double n, mean, m2;
};

static void add(struct moments *m, double v)
{
	double d = v - m->mean;

	m->n++;
	m->mean += d / m->n;
	m->m2 += d * (v - m->mean);
}

static double welch(const struct moments *a, const struct moments *b)
{
	double va = a->m2 / (a->n - 1) / a->n, vb = b->m2 / (b->n - 1) / b->n;

	return va + vb > 0 ? (a->mean - b->mean) / sqrt(va + vb) : 0;
}

static void measure_time(struct bench *b, size_t samples, bool naive)
{
	struct moments m[CLASSES] = {{0, 0, 0}};
	double *times = mem_array(samples, sizeof(*times)),
	       *sorted = mem_array(samples, sizeof(*times));
	uint8_t *cls = mem_array(samples, 1);
	double limit;

	if (!times || !sorted || !cls)
		die("no memory");
	set_body(b, 256);
	for (size_t i = 0; i < samples; i++) {
		cls[i] = (uint8_t)rnd_below(CLASSES);
		times[i] = one_time(b, cls[i], naive);
	}
	memcpy(sorted, times, samples * sizeof(*times));
	qsort(sorted, samples, sizeof(*sorted), by_size);
	limit = sorted[samples / 100 * 95];
	for (size_t i = samples / 100; i < samples; i++) /* the first ones warm up */
		if (times[i] <= limit)
			add(&m[cls[i]], times[i]);
	printf("\"%s\":{\"samples\":%zu,\"mean_ns\":[%.2f,%.2f,%.2f],\"t_none_half\":%.3f,\"t_none_"
	       "most\":%.3f,"
	       "\"t_half_most\":%.3f}",
	       naive ? "time_naive" : "time", samples, m[0].mean, m[1].mean, m[2].mean,
	       welch(&m[0], &m[1]), welch(&m[0], &m[2]), welch(&m[1], &m[2]));
	mem_free(times);
	mem_free(sorted);
	mem_free(cls);
}

int main(int argc, char **argv)
{
	static struct bench b;
	int64_t rounds = 21, samples = 600000;

	if (CRYPTO_set_mem_functions(on_openssl_malloc, on_openssl_realloc, on_openssl_free) != 1)
		die("OpenSSL allocated too early");
	if ((argc > 1 && str_to_int(str_of(argv[1]), 1, MAX_ROUNDS, &rounds) != ERR_OK) ||
	    (argc > 2 && str_to_int(str_of(argv[2]), 1000, 100000000, &samples) != ERR_OK))
		die("usage: verify_bench [rounds [samples]]");
	open_bench(&b);
	open_keyed();
	set_body(&b, 1024);
	if (verify(&b) != VERIFY_OK)
		die("the request is not authentic");
	printf("{");
	measure_cost(&b, 1024, (size_t)rounds);
	measure_cost(&b, 10240, (size_t)rounds);
	measure_time(&b, (size_t)samples, false);
	printf(",");
	measure_time(&b, (size_t)samples, true);
	printf("}\n");
	recipe_input_done(&b.input);
	intake_free(b.intake);
	tools_unref(b.set);
	EVP_MAC_CTX_free(keyed);
	return sink == 0;
}
