/* Whether the time of an answer tells how much of a signature was right, or which of a tool's
 * secrets made it, scheme by scheme.
 *
 *	timing_bench [samples]
 *
 * Welch's t of the times of verification: between signatures that are right in no byte, in half of
 * them and in all but the last ("parts"), and between requests that the first, the second and the
 * last of four secrets signed ("secrets"). |t| below 4.5 says that they cannot be told apart, as in
 * verify_bench.c, which also shows that the method sees a comparison that stops early. Each sample
 * has another body or, where the secret itself is sent, one of many sets of secrets, so that bytes
 * that are right are as new to the processor as wrong ones. Prints one JSON object. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "weir/base/digest.h"
#include "weir/base/mem.h"
#include "weir/base/rnd.h"
#include "weir/model/recipe.h"
#include "weir/model/tool.h"
#include "weir/receive/verify.h"

#define CLASSES      3
#define SECRETS      4
#define POOL         4096 /* sets of secrets */
#define POOL_MACS    8    /* of schemes that never send the secret itself: in the caches */
#define SECRET_LEN   24
#define MAX_SIG      128
#define BODY         "{\"a\":\"................\"}"
#define FORM         "MessageSid=................&MessageStatus=sent"
#define RECIPE(text) "\"recipe\":{\"sig\":\"header:s\"," text "}"

enum { NO_MAC = -1 };
enum encoding { HEX, BASE64, TEXT };

static const struct scheme {
	const char *name, *members;
	const char *header; /* that has the signature */
	const char *prefix; /* before it */
	enum encoding enc;
	const char *body; /* its dots are filled anew for each sample */
	const char *user; /* before a secret */
	int algo;         /* enum digest_algo; NO_MAC: the secret itself is sent */
} schemes[] = {
    {"hmac_sha256_hex", RECIPE("\"parse\":\"plain:v=\""), "s", "v=", HEX, BODY, "", DIGEST_SHA256},
    {"hmac_sha256_base64", RECIPE("\"enc\":\"base64\""), "s", "", BASE64, BODY, "", DIGEST_SHA256},
    {"hmac_sha1", RECIPE("\"hash\":\"sha1\""), "s", "", HEX, BODY, "", DIGEST_SHA1},
    {"hmac_sha512", RECIPE("\"hash\":\"sha512\""), "s", "", HEX, BODY, "", DIGEST_SHA512},
    {"token", RECIPE("\"scheme\":\"token\",\"parse\":\"plain:Bearer \""), "s", "Bearer ", TEXT,
     BODY, "", NO_MAC},
    {"basic", "\"recipe\":{\"scheme\":\"basic\"}", "authorization", "Basic ", BASE64, BODY,
     "u:", NO_MAC},
    {"twilio", "\"preset\":\"twilio\",\"url\":\"https://h.example/t\"", "x-twilio-signature", "",
     BASE64, FORM, "", DIGEST_SHA1},
};
#define SCHEMES (sizeof(schemes) / sizeof(schemes[0]))

/* What signs has keys of its own, so that nothing of what is measured is warm from having signed.
 */
struct keyring {
	struct tools *verifier;
	struct hmac *signers[SECRETS];
	char secrets[SECRETS][SECRET_LEN + 1];
};

struct bench {
	const struct scheme *scheme;
	struct keyring rings[POOL];
	size_t ring_count;
	struct recipe_input input;
	char body[128];
};

static void die(const char *why)
{
	fprintf(stderr, "timing_bench: %s\n", why);
	exit(1);
}

static double wall_nsec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- tools ---- */

static void fill(char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (char)('a' + rnd_below(26));
}

static struct tools *open_tool(const struct scheme *s, char secrets[SECRETS][SECRET_LEN + 1])
{
	struct err_info info = {0};
	struct tools *set = NULL;
	struct buf text;

	buf_init(&text, 4096);
	buf_addf(&text, "{\"tools\":[{\"id\":\"t\",%s,\"secrets\":[", s->members);
	for (size_t i = 0; i < SECRETS; i++)
		buf_addf(&text, "%s\"%s%s\"", i ? "," : "", s->user, secrets[i]);
	buf_addf(&text, "]}]}");
	if (text.err != ERR_OK || tools_parse(buf_str(&text), s->name, &set, &info) != ERR_OK)
		die(info.text);
	buf_done(&text);
	return set;
}

static void open_ring(const struct scheme *s, struct keyring *ring)
{
	for (size_t i = 0; i < SECRETS; i++) {
		fill(ring->secrets[i], SECRET_LEN);
		if (s->algo != NO_MAC &&
		    hmac_new((enum digest_algo)s->algo, str_of(ring->secrets[i]),
		             &ring->signers[i]) != ERR_OK)
			die("no memory");
	}
	ring->verifier = open_tool(s, ring->secrets);
}

static void open_bench(struct bench *b, const struct scheme *s)
{
	memset(b, 0, sizeof(*b));
	b->scheme = s;
	recipe_input_init(&b->input);
	b->ring_count = s->algo == NO_MAC ? POOL : POOL_MACS;
	for (size_t i = 0; i < b->ring_count; i++)
		open_ring(s, &b->rings[i]);
}

static void close_bench(struct bench *b)
{
	for (size_t i = 0; i < b->ring_count; i++) {
		tools_unref(b->rings[i].verifier);
		for (size_t k = 0; k < SECRETS; k++)
			hmac_free(b->rings[i].signers[k]);
	}
	recipe_input_done(&b->input);
}

/* ---- signatures ---- */

static void encode(const struct scheme *s, const uint8_t *sig, size_t n, struct buf *out)
{
	char hex[2 * MAX_SIG + 1];

	buf_reset(out);
	buf_add_cstr(out, s->prefix);
	if (s->enc == HEX) {
		hex_encode(sig, n, hex);
		buf_add_cstr(out, hex);
	} else if (s->enc == BASE64) {
		(void)!base64_encode(out, sig, n, false);
	} else {
		buf_add(out, sig, n);
	}
	if (out->err != ERR_OK)
		die("no memory");
}

/* Right in its first bytes; the one behind them is wrong, and what follows is anything. The same
 * work for each class; letters stay letters. */
static void spoil(const struct scheme *s, uint8_t *sig, size_t n, size_t right)
{
	char letters[MAX_SIG];

	fill(letters, n);
	for (size_t i = 0; i < n; i++) {
		uint8_t any =
		    s->enc == TEXT || *s->user ? (uint8_t)letters[i] : (uint8_t)rnd_below(256);
		uint8_t keep = (uint8_t) - (uint8_t)(i < right);
		uint8_t wrong = any == sig[i] ? (uint8_t)(any ^ 1) : any;

		sig[i] = (uint8_t)((sig[i] & keep) | ((i == right ? wrong : any) & ~keep));
	}
}

/* ---- samples ---- */

/* The signature of the body, by one of the ring's secrets: its bytes, which nobody has written in
 * digits yet. */
static size_t sign(struct bench *b, const struct keyring *ring, size_t signer, uint8_t sig[MAX_SIG])
{
	const struct scheme *s = b->scheme;
	struct str fields = str_of(b->body), sid = str_split(&fields, '&'),
	           name = str_split(&sid, '=');
	struct str form[] = {STR("https://h.example/t"), name, sid, STR("MessageStatussent")},
	           body = str_of(b->body);
	bool twilio = s->body[0] == 'M';

	if (s->algo == NO_MAC)
		return (size_t)snprintf((char *)sig, MAX_SIG, "%s%s", s->user,
		                        ring->secrets[signer]);
	/* With all of them, so that it is in no cache which one it was. */
	for (size_t i = 0; i < SECRETS; i++) {
		uint8_t mac[DIGEST_MAX_LEN];

		if (hmac_parts(ring->signers[i], twilio ? form : &body, twilio ? 4 : 1, mac) !=
		    ERR_OK)
			die("no memory");
		if (i == signer)
			memcpy(sig, mac, sizeof(mac));
	}
	return digest_len((enum digest_algo)s->algo);
}

static double verify(struct bench *b, const struct keyring *ring, const uint8_t *sig, size_t n,
                     struct verify_result *result, enum verify_verdict *verdict)
{
	struct http_header headers[] = {
	    {str_of(b->scheme->header), STR("")},
	    {STR("content-type"), STR("application/x-www-form-urlencoded")}};
	struct recipe_request req = {.method = STR("POST"),
	                             .target = STR("/t"),
	                             .body = str_of(b->body),
	                             .headers = headers,
	                             .header_count = 2};
	const struct recipe *recipe = tools_at(ring->verifier, 0)->recipe;
	struct buf text;
	double start;

	buf_init(&text, 4 * MAX_SIG);
	encode(b->scheme, sig, n, &text);
	headers[0].value = buf_str(&text);
	start = wall_nsec();
	recipe_input_bind(&b->input, recipe, &req);
	*verdict = verify_request(&b->input, result);
	start = wall_nsec() - start;
	buf_done(&text);
	return start;
}

/* By the secrets in turn, or by the first and spoilt. */
static double one_time(struct bench *b, size_t cls, bool secrets)
{
	static const size_t signer[CLASSES] = {0, 1, SECRETS - 1};
	const struct scheme *s = b->scheme;
	struct keyring *ring = &b->rings[rnd_below(b->ring_count)];
	struct verify_result result;
	enum verify_verdict v;
	uint8_t sig[MAX_SIG];
	double took;
	size_t n;

	snprintf(b->body, sizeof(b->body), "%s", s->body);
	fill(strchr(b->body, '.'), 16);
	n = sign(b, ring, secrets ? signer[cls] : 0, sig);
	if (!secrets)
		spoil(s, sig, n, cls == 0 ? strlen(s->user) : cls == 1 ? n / 2 : n - 1);
	took = verify(b, ring, sig, n, &result, &v);
	if (v != (secrets ? VERIFY_OK : VERIFY_WRONG) || (secrets && result.secret != signer[cls]))
		die("a verdict is not what was to be measured");
	return took;
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

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* In random order; the slowest 5 %, which are interrupts, and the first 1 % are left out. */
static void measure(struct bench *b, size_t samples, bool secrets)
{
	struct moments m[CLASSES] = {{0, 0, 0}};
	double *times = mem_array(samples, sizeof(*times)),
	       *sorted = mem_array(samples, sizeof(*times));
	uint8_t *cls = mem_array(samples, 1);
	double limit;

	if (!times || !sorted || !cls)
		die("no memory");
	for (size_t i = 0; i < samples; i++) {
		cls[i] = (uint8_t)rnd_below(CLASSES);
		times[i] = one_time(b, cls[i], secrets);
	}
	memcpy(sorted, times, samples * sizeof(*times));
	qsort(sorted, samples, sizeof(*sorted), by_size);
	limit = sorted[samples / 100 * 95];
	for (size_t i = samples / 100; i < samples; i++)
		if (times[i] <= limit)
			add(&m[cls[i]], times[i]);
	printf("\"%s\":{\"mean_ns\":[%.1f,%.1f,%.1f],\"t_01\":%.3f,\"t_02\":%.3f,\"t_12\":%.3f}",
	       secrets ? "secrets" : "parts", m[0].mean, m[1].mean, m[2].mean, welch(&m[0], &m[1]),
	       welch(&m[0], &m[2]), welch(&m[1], &m[2]));
	mem_free(times);
	mem_free(sorted);
	mem_free(cls);
}

int main(int argc, char **argv)
{
	static struct bench b;
	int64_t samples = 60000;

	if (argc > 1 && str_to_int(str_of(argv[1]), 1000, 100000000, &samples) != ERR_OK)
		die("usage: timing_bench [samples]");
	printf("{\"samples\":%lld", (long long)samples);
	for (size_t i = 0; i < SCHEMES; i++) {
		open_bench(&b, &schemes[i]);
		printf(",\"%s\":{", schemes[i].name);
		measure(&b, (size_t)samples, false);
		printf(",");
		measure(&b, (size_t)samples, true);
		printf("}");
		close_bench(&b);
	}
	printf("}\n");
	return 0;
}
