/* A pool of random bytes, refilled by OpenSSL's generator. Bytes are wiped as they are handed out:
 * a later leak of memory tells nothing about ids and tokens of the past. */
#include "weir/base/rnd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <openssl/rand.h>

static struct {
	unsigned char bytes[4096];
	size_t left;    /* unused bytes, at the end */
	uint64_t state; /* of the test sequence; 0 means the real source */
} pool;

/* Predictable ids and tokens would be worse than no service: without any source of randomness there
 * is nothing left to do. Both sources failing has no known cause on a running system. */
static void fill_real(unsigned char *out, size_t len)
{
	ssize_t n;

	if (RAND_bytes(out, (int)len) == 1)
		return;
	while (len) {
		n = getrandom(out, len, 0);
		if (n < 0 && errno != EINTR)
			abort();
		if (n > 0) {
			out += n;
			len -= (size_t)n;
		}
	}
}

/* splitmix64 */
static uint64_t next_seeded(void)
{
	uint64_t z = pool.state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static void fill(unsigned char *out, size_t len)
{
	uint64_t word;

	if (!pool.state) {
		fill_real(out, len);
		return;
	}
	for (size_t i = 0; i < len; i += sizeof(word)) {
		word = next_seeded();
		memcpy(out + i, &word, len - i < sizeof(word) ? len - i : sizeof(word));
	}
}

void rnd_bytes(void *out, size_t len)
{
	unsigned char *to = out, *from;
	size_t n;

	while (len) {
		if (!pool.left) {
			fill(pool.bytes, sizeof(pool.bytes));
			pool.left = sizeof(pool.bytes);
		}
		n = len < pool.left ? len : pool.left;
		from = pool.bytes + sizeof(pool.bytes) - pool.left;
		memcpy(to, from, n);
		memset(from, 0, n);
		pool.left -= n;
		to += n;
		len -= n;
	}
}

uint64_t rnd_u64(void)
{
	uint64_t v;

	rnd_bytes(&v, sizeof(v));
	return v;
}

uint64_t rnd_below(uint64_t n)
{
	uint64_t v, skewed = (0 - n) % n; /* 2^64 mod n: so many values are too many */

	do {
		v = rnd_u64();
	} while (v < skewed);
	return v % n;
}

void rnd_seed(uint64_t seed)
{
	pool.state = seed;
	pool.left = 0;
}
